//! Names of this host, of its boot and of this process, as other hosts read them in files that they share; the signals that
//! this process ignores.

use std::fmt;

/// Bytes of a host's name in a file name. The rest is cut off.
const LONGEST_HOST: usize = 48;
/// Characters of a boot's id in a file name.
const BOOT: usize = 8;

/// A process on a host, since a boot of that host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessName {
    /// The name of the host, as far as it may stand in a file name.
    pub host: String,
    /// The process id.
    pub process: u32,
    /// The id of the boot, which no other boot has. Empty: this system names none.
    pub boot: String,
}

impl ProcessName {
    /// This process.
    pub fn own() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let plain = |c: &char| c.is_ascii_alphanumeric() || ".-".contains(*c);
        let host: String = host.chars().filter(plain).take(LONGEST_HOST).collect();
        let host = if host.is_empty() { "host".to_owned() } else { host };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = boot.chars().filter(char::is_ascii_alphanumeric).collect();
        Self { host, process: std::process::id(), boot }
    }
}

impl fmt::Display for ProcessName {
    /// The form in file names: `HOST-PROCESS-BOOT`, with the beginning of the boot's id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let boot = self.boot.get(..BOOT).unwrap_or("boot");
        write!(f, "{}-{}-{boot}", self.host, self.process)
    }
}

/// Returns the signals that were ignored when this process started, one bit each. Without /proc it returns 0.
pub fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_this_process_may_stand_in_a_file_name() {
        let own = ProcessName::own();
        assert_eq!(own, ProcessName::own());
        let name = own.to_string();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)), "{name}");
        assert!(name.contains(&format!("-{}-", std::process::id())), "{name}");
        assert_eq!(ProcessName { boot: String::new(), process: 7, host: "a".to_owned() }.to_string(), "a-7-boot");
    }
}
