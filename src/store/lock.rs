//! A kernel lock on a file. One process holds it, and its death frees it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Store;
use crate::deadline::Deadline;
use crate::error::{Error, Result};

/// The pause between tries to take a lock.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest pause, after a long wait.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// The number of quick tries. `status` holds a lock for an instant to see whether it is free, and a try must outlast that.
const QUICK_TRIES: u32 = 10;

/// The time to wait for a lock that another process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockWait {
    /// The time of a few quick tries.
    #[default]
    Now,
    /// Until this time.
    Until(Deadline),
    /// Until the lock is free.
    Forever,
}

impl LockWait {
    /// Waits until `deadline`, or forever if there is none.
    pub fn until(deadline: Option<Deadline>) -> Self {
        deadline.map_or(Self::Forever, Self::Until)
    }

    /// Waits a few seconds. A process that only waits for a job holds the job's lock for an instant at each look.
    pub fn briefly() -> Self {
        Self::until(Deadline::after(Duration::from_secs(3)))
    }

    /// The pause after the try number `tried`, counted from 0. `None`: give up.
    fn pause_after(self, tried: u32) -> Option<Duration> {
        let expired = match self {
            Self::Now => tried >= QUICK_TRIES,
            Self::Until(deadline) => deadline.has_passed(),
            Self::Forever => false,
        };
        let slower = (tried + 1).saturating_sub(QUICK_TRIES).min(4);
        (!expired).then(|| (PAUSE * 2_u32.pow(slower)).min(LONGEST_PAUSE))
    }

    /// Returns whether the user should hear of the wait after the try number `tried`: once, when it lasts longer.
    fn is_worth_telling(self, tried: u32) -> bool {
        self != Self::Now && tried == QUICK_TRIES
    }
}

/// The last holder of a lock, as the lock file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holder<'a> {
    /// Its process id.
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

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    /// `None`: the state directory cannot be written, so nobody works on the job.
    file: Option<File>,
    path: Box<Path>,
    before: Option<String>,
}

impl Lock {
    /// Takes the lock. `None`: another process holds it. `waited`: an earlier try found it in use.
    fn take(path: &Path, waited: bool) -> Result<Option<Self>> {
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
        let mut lock = Self { file: Some(file), path: path.into(), before: None };
        // A process that waits for this one waits for that job too.
        lock.work_on(before.as_deref().unwrap_or_default())?;
        lock.before = before;
        Ok(Some(lock))
    }

    /// The job of the process that held the lock while this one waited for it.
    pub fn waited_for(&self) -> Option<&str> {
        self.before.as_deref()
    }

    /// Names the holder's job to processes that wait for the lock. The lock itself does not depend on it.
    pub fn work_on(&mut self, job: &str) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let text = format!("{}\n{job}\n", std::process::id());
        // Written first and cut then, so that a concurrent reader finds a whole first line.
        file.write_all_at(text.as_bytes(), 0)
            .and_then(|()| file.set_len(text.len() as u64))
            .map_err(|e| failed(&self.path, e))
    }
}

impl Store {
    /// Takes the lock `name`. `None`: another process holds it.
    pub fn lock(&self, name: &str) -> Result<Option<Lock>> {
        self.wait_for_lock(name, LockWait::Now, &|_| ())
    }

    /// Takes the lock `name`, and waits for it if another process holds it. If the wait lasts, `tell` gets the holder once.
    pub fn wait_for_lock(&self, name: &str, wait: LockWait, tell: &dyn Fn(&str)) -> Result<Option<Lock>> {
        for tried in 0.. {
            if let Some(lock) = self.try_lock(name, tried > 0)? {
                return Ok(Some(lock));
            }
            let Some(pause) = wait.pause_after(tried) else { break };
            if wait.is_worth_telling(tried) {
                tell(&self.holder(name));
            }
            std::thread::sleep(pause);
        }
        Ok(None)
    }

    fn try_lock(&self, name: &str, waited: bool) -> Result<Option<Lock>> {
        let path = self.lock_path(name);
        if self.is_read_only() {
            // The owner of a directory that only this user cannot write may be working on the job.
            let free = File::open(&path).map_or(true, |file| file.try_lock().is_ok());
            return Ok(free.then(|| Lock { file: None, path: path.into(), before: None }));
        }
        Lock::take(&path, waited)
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.dir.join("locks").join(format!("{name}.lock"))
    }

    /// The holder of the lock `name` in words: `another llbatch (process 123, job j-…)`.
    pub fn holder(&self, name: &str) -> String {
        describe(&holder_text(&self.lock_path(name)), name)
    }

    /// Returns whether a live process works on job `id`.
    pub fn in_use(&self, id: &str) -> bool {
        matches!(self.try_lock(id, false), Ok(None))
    }
}

/// The text of the lock file at `path`, which names its last holder.
fn holder_text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Names the holder in words: `another llbatch`, with its process and job if they are known and the job is not `of`.
fn describe(text: &str, of: &str) -> String {
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
    fn pause_grows_after_quick_tries_and_ends_at_the_deadline() {
        let pauses = |wait: LockWait| [0, 9, 10, 11, 50].map(|tried| wait.pause_after(tried).map(|p| p.as_millis()));
        assert_eq!(pauses(LockWait::Now), [Some(20), Some(20), None, None, None]);
        assert_eq!(pauses(LockWait::Forever), [20, 20, 40, 80, 200].map(Some));
        assert_eq!(pauses(LockWait::Until(Deadline::Span(std::time::Instant::now()))), [None; 5]);
    }

    #[test]
    fn waiting_process_learns_the_job_and_a_later_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let take = |waited| Lock::take(&path, waited).unwrap();
        let mut first = take(false).unwrap();
        assert!(take(true).is_none());
        assert_eq!(describe(&holder_text(&path), "j-1"), format!("another llbatch (process {})", std::process::id()));
        first.work_on("j-1").unwrap();
        assert!(describe(&holder_text(&path), "").ends_with(", job j-1)"));
        drop(first);
        let second = take(true).unwrap();
        assert_eq!(second.waited_for(), Some("j-1"));
        drop(second);
        // A process that waited for the waiting process learns it too.
        assert_eq!(take(true).unwrap().waited_for(), Some("j-1"));
        assert_eq!(take(false).unwrap().waited_for(), None);
        assert_eq!(take(true).unwrap().waited_for(), None);
    }
}
