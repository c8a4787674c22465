//! Names of this host, of its boot and of this process, for files that several hosts read; and the signals that this process
//! ignores.

use std::fmt;
use std::path::Path;

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
    /// A hash of the machine's id. Empty: this is a container, or the machine has none.
    pub machine: String,
}

/// The namespace of host names that a machine starts with, as `/proc` shows it. Containers have others.
const FIRST_NAMESPACE: &str = "uts:[4026531838]";

impl ProcessName {
    /// This process.
    pub fn own() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let plain = |c: &char| c.is_ascii_alphanumeric() || ".-".contains(*c);
        let host: String = host.chars().filter(plain).take(LONGEST_HOST).collect();
        let host = if host.is_empty() { "host".to_owned() } else { host };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = boot.chars().filter(char::is_ascii_alphanumeric).collect();
        Self { host, process: std::process::id(), boot, machine: machine().unwrap_or_default() }
    }

    /// The name in lines, as a file holds it.
    pub fn description(&self) -> String {
        let Self { host, process, boot, machine } = self;
        format!("host {host}\nprocess {process}\nboot {boot}\nmachine {machine}\n")
    }

    /// Reads [`Self::description`]. `None`: the text is not whole.
    pub fn parse(text: &str) -> Option<Self> {
        let line = |name: &str| {
            let mut values = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.strip_prefix(name));
            values.next().map(|value| value.trim().to_owned())
        };
        let process = line("process ")?.parse().ok()?;
        Some(Self { host: line("host ")?, process, boot: line("boot ")?, machine: line("machine ")? })
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

/// A hash of the machine's id. `None`: this process does not know the machine that it runs on.
fn machine() -> Option<String> {
    // The host name of a container is not that of a machine.
    let namespace = std::fs::read_link("/proc/self/ns/uts").ok()?;
    let id = std::fs::read_to_string("/etc/machine-id").ok().filter(|_| namespace == Path::new(FIRST_NAMESPACE))?;
    let id = id.trim();
    (!id.is_empty()).then(|| blake3::hash(id.as_bytes()).to_hex()[..16].to_owned())
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
        let named = ProcessName { boot: String::new(), process: 7, host: "a".to_owned(), machine: String::new() };
        assert_eq!(named.to_string(), "a-7-boot");
    }

    #[test]
    fn description_is_read_back() {
        let own = ProcessName::own();
        let text = own.description();
        assert_eq!(ProcessName::parse(&text), Some(own));
        for end in 0..text.len() {
            assert_eq!(ProcessName::parse(&text[..end]), None, "{end}");
        }
    }
}
