//! The lock by which one host at a time works in a state directory on a network file system.
//!
//! Kernel locks hold between processes of one host. Between hosts they depend on how the directory is mounted, so a file
//! says which host works here. It appears whole and by a link, which only one host can make. All processes of that host
//! share it, and the last one removes it. After a kill it stays: its host goes on, and other hosts are refused.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Result as IoResult, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Exit, Result};
use crate::machine::{ProcessName, Relation};

/// The name of the file that names the host.
const NAME: &str = "host.lock";
/// Prefix and suffix of the names of files that become it.
const NEW: (&str, &str) = ("host-", ".tmp");
/// The file in `locks` whose kernel lock all processes of the host share.
const USERS: &str = "host-users.lock";
/// Tries to take the lock, while other processes of this host end or another host makes the file.
const TRIES: u32 = 100;
/// The pause between them.
const PAUSE: Duration = Duration::from_millis(20);

/// The host that works in a state directory. Dropped, it makes room for others unless processes of this host still work there.
#[derive(Debug)]
pub(super) struct HostLock {
    path: PathBuf,
    users: File,
}

impl HostLock {
    /// Takes the lock of the state directory `dir` for this host.
    ///
    /// # Errors
    /// 75 if another host holds it, 74 if it cannot be written.
    pub(super) fn take(dir: &Path) -> Result<Self> {
        let (path, own) = (dir.join(NAME), ProcessName::own());
        let unusable = |e| Error::io(format!("{}: cannot be locked", path.display()), e);
        let users = dir.join("locks").join(USERS);
        let mut file = OpenOptions::new();
        let users =
            file.create(true).truncate(false).read(true).write(true).mode(0o600).open(users).map_err(unusable)?;
        let mut held = None;
        for tried in 0..TRIES {
            if tried > 0 {
                std::thread::sleep(PAUSE);
            }
            // A process of this host that ends holds it alone for an instant.
            if users.try_lock_shared().is_err() {
                continue;
            }
            match holder(&path).map_err(unusable)? {
                HostHolder::Nobody if create(&path, &own).map_err(unusable)? => return Ok(Self { path, users }),
                HostHolder::Nobody | HostHolder::Unnamed => {}
                HostHolder::Process(other) => match other.relation(&own) {
                    // Kernel locks arbitrate.
                    Relation::SameBoot => return Ok(Self { path, users }),
                    Relation::EarlierBoot => {
                        replace(&path, &own).map_err(unusable)?;
                        return Ok(Self { path, users });
                    }
                    Relation::OtherHost => {
                        held = Some(other);
                        break;
                    }
                },
            }
            users.unlock().map_err(unusable)?;
        }
        Err(refused(dir, &path, held.as_ref()))
    }
}

impl Drop for HostLock {
    fn drop(&mut self) {
        // Alone, so that no process of this host takes the file for its own while it goes.
        if self.users.unlock().is_ok() && self.users.try_lock().is_ok() {
            remove_stale(&self.path);
            // If it stays, this host has it, and its next process removes it.
            if let Ok(HostHolder::Process(holder)) = holder(&self.path)
                && holder.relation(&ProcessName::own()) == Relation::SameBoot
            {
                drop(std::fs::remove_file(&self.path));
            }
        }
    }
}

/// The process that the file names.
#[derive(Debug, PartialEq, Eq)]
enum HostHolder {
    /// There is no file.
    Nobody,
    /// The file is still being written.
    Unnamed,
    Process(ProcessName),
}

fn holder(path: &Path) -> IoResult<HostHolder> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(ProcessName::parse(&text).map_or(HostHolder::Unnamed, HostHolder::Process)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(HostHolder::Nobody),
        Err(e) => Err(e),
    }
}

/// Removes the files that killed processes did not get to rename.
fn remove_stale(path: &Path) {
    for entry in path.parent().and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(NEW.0) && name.ends_with(NEW.1)) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

/// Makes the file, if no other process does. Returns whether this one did.
fn create(path: &Path, own: &ProcessName) -> IoResult<bool> {
    let new = written(path, own)?;
    let linked = std::fs::hard_link(&new, path);
    drop(std::fs::remove_file(&new));
    match linked {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        // Some file systems have no links. Or another process has taken the new file for one of a killed process.
        Err(_) => match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                file.write_all(own.description().as_bytes())?;
                file.sync_all().map(|()| true)
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        },
    }
}

/// Replaces the file of an earlier boot of this host. Two processes that do so write the same.
fn replace(path: &Path, own: &ProcessName) -> IoResult<()> {
    std::fs::rename(written(path, own)?, path)
}

/// Writes a file beside the lock that names this process, and returns its path.
fn written(path: &Path, own: &ProcessName) -> IoResult<PathBuf> {
    let new = path.with_file_name(format!("{}{own}{}", NEW.0, NEW.1));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(own.description().as_bytes())?;
    file.sync_all()?;
    Ok(new)
}

fn refused(dir: &Path, path: &Path, held: Option<&ProcessName>) -> Error {
    let at = dir.display();
    let Some(ProcessName { host, process, .. }) = held else {
        return Error::new(Exit::TempFail, format!("state directory {at}: {} cannot be taken", path.display()))
            .hint("try again; if no llbatch works there on any host, remove that file");
    };
    Error::new(Exit::TempFail, format!("state directory {at}: host {host} works in it (process {process})")).hint(format!(
        "one host at a time can use a state directory on a network file system: run the command on {host}, wait until \
         llbatch has ended there, or choose another --state-dir. If no llbatch works on {host} any more, remove {}. \
         `llbatch help scale` says how tasks share answers without sharing their state",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str, boot: &str, machine: &str) -> ProcessName {
        ProcessName { host: host.to_owned(), process: 7, boot: boot.to_owned(), machine: machine.to_owned() }
    }

    fn dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("locks")).unwrap();
        dir
    }

    #[test]
    fn last_process_of_a_host_makes_room_for_others() {
        let dir = dir();
        let path = dir.path().join(NAME);
        let first = HostLock::take(dir.path()).unwrap();
        assert_eq!(holder(&path).unwrap(), HostHolder::Process(ProcessName::own()));
        std::fs::write(dir.path().join("host-killed-7-b1.tmp"), "host").unwrap();
        let second = HostLock::take(dir.path()).unwrap();
        drop(first);
        assert!(path.exists(), "a process of this host still works there");
        drop(second);
        assert!(!path.exists());
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["locks"]);
    }

    #[test]
    fn file_of_a_killed_process_is_taken_over_by_its_host_alone() {
        let dir = dir();
        let path = dir.path().join(NAME);
        std::fs::write(&path, ProcessName { process: 1, ..ProcessName::own() }.description()).unwrap();
        drop(HostLock::take(dir.path()).unwrap());
        assert!(!path.exists());
        std::fs::write(&path, name("node8", "b1", "m1").description()).unwrap();
        let error = HostLock::take(dir.path()).unwrap_err();
        assert_eq!(error.exit, Exit::TempFail);
        assert!(error.message.ends_with("host node8 works in it (process 7)"), "{error}");
        assert!(error.hint.unwrap().contains(&format!("remove {}", path.display())));
        assert!(path.exists());
    }
}
