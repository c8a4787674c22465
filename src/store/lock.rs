//! A kernel lock on a file: held by one process, freed by its death.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How long to wait for what another process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Turn {
    /// Hardly at all.
    #[default]
    Now,
    /// As long as it takes, or until then.
    Wait(Option<Instant>),
}

impl Turn {
    /// For a moment: who only waits for a job has it for an instant each time that it asks.
    pub fn soon() -> Self {
        Self::Wait(Instant::now().checked_add(Duration::from_secs(3)))
    }
}

/// Who has a lock, or had it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The process.
    pub process: u32,
    /// The job that it works on, once it knows.
    pub job: Option<&'a str>,
}

impl<'a> Holder<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut lines = text.lines();
        let process = lines.next()?.trim().parse().ok()?;
        Some(Self { process, job: lines.next().map(str::trim).filter(|job| !job.is_empty()) })
    }
}

/// The lock, until dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: Box<Path>,
    before: Option<String>,
}

impl Lock {
    /// Takes the lock, or `None` if another process has it. `waited`: it was seen in use before.
    pub(super) fn take(path: &Path, waited: bool) -> Result<Option<Self>> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| failed(path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(failed(path, e)),
        }
        let mut text = String::new();
        if waited {
            file.read_to_string(&mut text).map_err(|e| failed(path, e))?;
        }
        let before = Holder::parse(&text).and_then(|holder| holder.job).map(str::to_owned);
        let mut lock = Self { file, path: path.into(), before: None };
        // Who waits for this process waits for that job too.
        lock.work_on(before.as_deref().unwrap_or_default())?;
        lock.before = before;
        Ok(Some(lock))
    }

    /// The job of the process that had the lock while this one waited for it.
    pub fn waited_for(&self) -> Option<&str> {
        self.before.as_deref()
    }

    /// Tells those who ask or wait on which job its holder works. The lock itself does not depend on it.
    pub fn work_on(&mut self, job: &str) -> Result<()> {
        let text = format!("{}\n{job}\n", std::process::id());
        // In this order: who reads meanwhile finds a whole first line.
        self.file
            .write_all_at(text.as_bytes(), 0)
            .and_then(|()| self.file.set_len(text.len() as u64))
            .map_err(|e| failed(&self.path, e))
    }
}

/// What the holder of the lock at `path` says of itself, or its last holder said.
pub(super) fn told(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// `another llbatch`, with what is known of it.
pub(super) fn describe(text: &str, of: &str) -> String {
    match Holder::parse(text) {
        Some(Holder { process, job: Some(job) }) if job != of => {
            format!("another llbatch (process {process}, job {job})")
        }
        Some(Holder { process, .. }) => format!("another llbatch (process {process})"),
        None => "another llbatch".to_owned(),
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("{}: cannot be locked", path.display()), error)
        .hint("the state directory must be on a local, writable file system; choose another one with --state-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waited_learns_the_job_and_who_came_later_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let take = |waited| Lock::take(&path, waited).unwrap();
        let mut first = take(false).unwrap();
        assert!(take(true).is_none());
        assert_eq!(describe(&told(&path), "j-1"), format!("another llbatch (process {})", std::process::id()));
        first.work_on("j-1").unwrap();
        assert!(describe(&told(&path), "").ends_with(", job j-1)"));
        drop(first);
        let second = take(true).unwrap();
        assert_eq!(second.waited_for(), Some("j-1"));
        drop(second);
        // Who waits for the one who waited.
        assert_eq!(take(true).unwrap().waited_for(), Some("j-1"));
        assert_eq!(take(false).unwrap().waited_for(), None);
        assert_eq!(take(true).unwrap().waited_for(), None);
    }
}
