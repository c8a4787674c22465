//! Names of this host, of its boot and of this process, for files that several hosts read; and the signals that this process
//! ignores.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Bytes of a host's name in a file name. The rest is cut off.
const LONGEST_HOST: usize = 48;
/// Characters of a boot's id in a file name.
const BOOT: usize = 8;

/// A process on a host, since a boot of that host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// The relation of another process to this one, as far as their names prove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Same boot of the same kernel: it runs, or ran.
    SameBoot,
    /// An earlier boot of this machine: the process is gone.
    EarlierBoot,
    /// Another host: the process may be alive.
    OtherHost,
}

/// A process as others can look for it: its name, and the marks that no later process under the same kernel has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMark {
    /// Its name.
    #[serde(flatten)]
    pub name: ProcessName,
    /// The namespace of process ids, in which it has its id. 0: unknown.
    space: u64,
    /// The time of its start, in ticks since the boot. 0: unknown.
    started: u64,
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

    /// Compares the name with that of this process, `own`.
    pub fn relation(&self, own: &Self) -> Relation {
        let same_host = self.host == own.host;
        if self.boot == own.boot && (same_host || !own.boot.is_empty()) {
            return Relation::SameBoot;
        }
        // Containers on several machines may have one name, but they know no machine.
        let same_machine = same_host && !own.machine.is_empty() && self.machine == own.machine;
        if same_machine && !self.boot.is_empty() && !own.boot.is_empty() {
            Relation::EarlierBoot
        } else {
            Relation::OtherHost
        }
    }
}

impl ProcessMark {
    /// This process.
    pub fn own() -> Self {
        let name = ProcessName::own();
        let started = process_state(name.process).map_or(0, |(_, started)| started);
        Self { name, space: process_space(), started }
    }

    /// Returns true if the process has provably ended. `false` proves nothing: it may be on another host.
    pub fn is_gone(&self) -> bool {
        self.is_gone_for(&ProcessName::own())
    }

    fn is_gone_for(&self, own: &ProcessName) -> bool {
        match self.name.relation(own) {
            Relation::EarlierBoot => true,
            Relation::OtherHost => false,
            // A sandbox may hide the boot and give every machine one name. In another container the id may be that of another
            // process.
            Relation::SameBoot => {
                let known = !self.name.boot.is_empty() && self.space != 0;
                known && self.space == process_space() && !self.is_alive()
            }
        }
    }

    /// Looks for the process in the namespace that both share.
    fn is_alive(&self) -> bool {
        let id = i32::try_from(self.name.process).ok().and_then(rustix::process::Pid::from_raw);
        let Some(id) = id else { return true };
        if rustix::process::test_kill_process(id) == Err(rustix::io::Errno::SRCH) {
            return false;
        }
        // A mount of /proc may hide other users' processes.
        process_state(self.name.process).is_none_or(|(state, started)| {
            let other = self.started != 0 && started != self.started;
            !other && !matches!(state, 'Z' | 'X')
        })
    }
}

/// The state of a process, and the time of its start in ticks since the boot.
fn process_state(process: u32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The namespace of process ids that this process lives in. 0: unknown.
fn process_space() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |space| space.ino())
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

    fn name(host: &str, boot: &str, machine: &str) -> ProcessName {
        ProcessName { host: host.to_owned(), process: 7, boot: boot.to_owned(), machine: machine.to_owned() }
    }

    #[test]
    fn only_an_earlier_boot_of_the_same_machine_is_provably_gone() {
        use Relation::{EarlierBoot, OtherHost, SameBoot};
        let own = name("node7", "b2", "m1");
        let cases = [
            (name("node7", "b2", "m1"), SameBoot),
            // A container of this machine has another name, and the same kernel.
            (name("pod", "b2", ""), SameBoot),
            (name("node7", "b1", "m1"), EarlierBoot),
            (name("node7", "b1", ""), OtherHost),
            (name("node7", "b1", "m2"), OtherHost),
            (name("node8", "b1", "m1"), OtherHost),
            (name("node7", "", "m1"), OtherHost),
        ];
        for (holder, expected) in cases {
            assert_eq!(holder.relation(&own), expected, "{holder:?}");
        }
        // In containers the name alone proves nothing.
        assert_eq!(name("pod", "b1", "").relation(&name("pod", "b2", "")), OtherHost);
        // A system without ids of boots.
        assert_eq!(name("mac", "", "").relation(&name("mac", "", "")), SameBoot);
        assert_eq!(name("mac", "", "").relation(&name("pro", "", "")), OtherHost);
    }

    #[test]
    fn process_is_gone_when_it_has_ended_and_its_id_means_another_one() {
        let own = ProcessMark::own();
        assert!(own.started > 0 && own.space > 0 && !own.is_gone(), "{own:?}");
        assert!(ProcessMark { started: own.started + 1, ..own.clone() }.is_gone(), "a later process has its id");
        // Linux gives no process an id beyond four millions.
        let name = ProcessName { process: 5_000_000, ..own.name.clone() };
        let ended = ProcessMark { name, started: 0, ..own.clone() };
        assert!(ended.is_gone());
        // Ids of another container, and those of another host, prove nothing.
        assert!(!ProcessMark { space: own.space + 1, ..ended.clone() }.is_gone());
        let nameless = ProcessName { boot: String::new(), ..ended.name.clone() };
        let unknown_boot = ProcessMark { name: nameless.clone(), ..ended.clone() };
        assert!(!unknown_boot.is_gone_for(&nameless), "two machines may hide their boots and share a name");
        let name = ProcessName { boot: "b1".to_owned(), machine: String::new(), ..ended.name };
        assert!(!ProcessMark { name, ..own }.is_gone());
    }
}
