//! What survives: `ledger.db`, the index of jobs, and one `jobs/<id>.db` per job, the truth about its rows.
//!
//! Directories are 0700 and files 0600 under any umask. One process writes a job at a time, held to that by a kernel lock
//! that dies with its holder; readers never wait.

pub mod batches;
mod calibration;
mod held;
pub mod job;
pub mod kept;
pub mod ledger;
mod lock;
mod open;
mod presence;
mod remap;
mod reserve;
mod spend;
pub mod unsent;
mod volume;

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
pub use batches::{BatchJob, Place, Step};
pub use calibration::ModelEstimates;
pub use held::Held;
pub use job::JobDb;
pub use ledger::{Job, Ledger, State, Transport};
pub use lock::{Lock, Turn};
use open::{damaged, open_db};
pub use presence::Presence;
pub use reserve::{Reserve, Standing};
pub use spend::{DayLine, Spent};

/// How files with standard input are called until they have a job.
const SPOOL: (&str, &str) = ("input-", ".tmp");

/// `status` holds a lock for an instant to see whether it is held; a writer outwaits that.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause between tries where the lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// The state directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the state directory; makes it if it is not there.
    pub fn open(dir: &Path) -> Result<Self> {
        let make =
            |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| unusable(path, e));
        make(dir)?;
        volume::must_be_local(dir)?;
        for sub in ["jobs", "locks"] {
            make(&dir.join(sub))?;
            // An umask cannot widen, only narrow; an old directory may be wider than we would make it.
            let path = dir.join(sub);
            let wide = std::fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o777 != 0o700);
            if wide {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
                    .map_err(|e| unusable(&path, e))?;
            }
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The state directory's path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where processes that share a rate limit find each other: those of one account (a hash) with one service.
    pub fn limits_dir(&self, account: &str, service: &str) -> PathBuf {
        let hash = blake3::hash(format!("{account}\n{service}").as_bytes()).to_hex();
        self.dir.join("limits").join(&hash[..16])
    }

    /// The index of jobs.
    pub fn ledger(&self) -> Result<Ledger> {
        Ledger::open(&self.dir.join("ledger.db"))
    }

    /// Where the rows of job `id` are.
    pub fn job_path(&self, id: &str) -> PathBuf {
        self.dir.join("jobs").join(format!("{id}.db"))
    }

    /// Opens the rows of job `id`; makes their file if it is missing.
    pub fn open_job(&self, id: &str) -> Result<JobDb> {
        JobDb::open(&self.job_path(id))
    }

    /// Where the files of job `id` are: the input as it was submitted, shards, results as the service wrote them.
    pub fn job_dir(&self, id: &str) -> PathBuf {
        self.dir.join("jobs").join(id)
    }

    /// Makes that directory.
    pub fn make_job_dir(&self, id: &str) -> Result<PathBuf> {
        let path = self.job_dir(id);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|e| unusable(&path, e))?;
        Ok(path)
    }

    /// Removes everything that is kept of job `id` but its entry in the index.
    pub fn remove_job(&self, id: &str) -> Result<()> {
        let gone = |result: std::io::Result<()>, path: &Path| match result {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("{}: cannot be removed", path.display()), e))
            }
            _ => Ok(()),
        };
        let dir = self.job_dir(id);
        gone(std::fs::remove_dir_all(&dir), &dir)?;
        let db = self.job_path(id);
        for ending in ["db-wal", "db-shm", "db"] {
            let path = db.with_extension(ending);
            gone(std::fs::remove_file(&path), &path)?;
        }
        let spool = self.spool_path(id);
        gone(std::fs::remove_file(&spool), &spool)
    }

    /// Where the standard input of job `id` is kept.
    pub fn spool_path(&self, id: &str) -> PathBuf {
        self.dir.join("jobs").join(format!("{id}.input"))
    }

    /// A new, empty file that only the user can read, for input that comes through a pipe.
    pub fn spool(&self) -> Result<tempfile::NamedTempFile> {
        let jobs = self.dir.join("jobs");
        self.remove_stale_spools();
        let make = || {
            let file = tempfile::Builder::new().prefix(SPOOL.0).suffix(SPOOL.1).tempfile_in(&jobs)?;
            // Says that a live process is filling it; see `remove_stale_spools`.
            file.as_file().try_lock().map_err(std::io::Error::other)?;
            Ok(file)
        };
        make().map_err(|e| unusable(&self.dir, e))
    }

    /// What killed processes left of their standard input is of no use, and may be long and private.
    fn remove_stale_spools(&self) {
        let Ok(entries) = std::fs::read_dir(self.dir.join("jobs")) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let stale = || std::fs::File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
            if name.starts_with(SPOOL.0) && name.ends_with(SPOOL.1) && stale() {
                // If it cannot be removed now, the next run tries again.
                drop(std::fs::remove_file(&path));
            }
        }
    }

    /// Takes the lock called `name`, or says that another process has it.
    pub fn lock(&self, name: &str) -> Result<Option<Lock>> {
        self.lock_in_turn(name, Turn::Now, &|_| ())
    }

    /// The same, waiting for it as `turn` says. `say` is told once who has it, if that takes longer.
    pub fn lock_in_turn(&self, name: &str, turn: Turn, say: &dyn Fn(&str)) -> Result<Option<Lock>> {
        let mut pause = LOCK_PAUSE;
        for tried in 0.. {
            if let Some(lock) = self.try_lock(name, tried > 0)? {
                return Ok(Some(lock));
            }
            match turn {
                Turn::Now if tried >= LOCK_TRIES => break,
                Turn::Wait(Some(until)) if Instant::now() >= until => break,
                Turn::Wait(_) if tried >= LOCK_TRIES => {
                    if tried == LOCK_TRIES {
                        say(&self.holder(name));
                    }
                    pause = (pause * 2).min(LOCK_PATIENCE);
                }
                _ => {}
            }
            std::thread::sleep(pause);
        }
        Ok(None)
    }

    fn try_lock(&self, name: &str, waited: bool) -> Result<Option<Lock>> {
        Lock::take(&self.lock_path(name), waited)
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.dir.join("locks").join(format!("{name}.lock"))
    }

    /// Who has the lock called `name`, in words: `another llbatch (process 123, job j-…)`.
    pub fn holder(&self, name: &str) -> String {
        lock::describe(&lock::told(&self.lock_path(name)), name)
    }

    /// Whether a live process works on job `id`.
    pub fn in_use(&self, id: &str) -> bool {
        matches!(self.try_lock(id, false), Ok(None))
    }
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("state directory {}: cannot be used", path.display()), error)
        .hint("choose another one with --state-dir or LLBATCH_STATE_DIR")
}
