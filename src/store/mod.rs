//! The state directory: `ledger.db`, the index of jobs, and one `jobs/<id>.db` per job with its rows. The answers lie in files
//! of `jobs/<id>/`: those in real time in a log, those of batches as they were downloaded. Short ones of a run of few rows lie in
//! the database.
//!
//! On a network file system the databases have rollback journals, and one host at a time works in the directory.
//!
//! Directories have mode 0700 and files 0600 under any umask. A kernel lock lets one process at a time write to a job.
//! The lock is freed when its holder dies. Readers never wait.

pub mod answer_files;
mod answer_log;
pub mod batches;
mod calibration;
mod exposure_cache;
mod file_window;
mod host_lock;
mod image;
pub mod job;
mod journal;
pub mod ledger;
mod lock;
mod modes;
mod open;
mod orphans;
mod presence;
mod remap;
mod reservations;
mod spend;
pub mod unsent;
mod volume;

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
pub use crate::outcome::Transport;
use crate::state_place::StatePlace;
pub use batches::{Asked, BatchCost, BatchStep, BodyPlace, JobBatch, RemoteBatch, RequestFile};
pub use calibration::ModelEstimates;
pub use exposure_cache::CachedExposure;
use host_lock::HostLock;
use image::image;
pub use job::{JobDb, LeaderOutcome, PlacedFile};
use journal::{Journal, Journaling};
pub use ledger::{IndexedAnswer, IndexedJob, Job, JobState, Ledger, Tags, service_identity};
pub use lock::{Lock, LockWait};
use open::{AddedColumn, Tables, broken, damaged, open_db};
pub use orphans::Orphan;
pub use presence::Presence;
pub use reservations::{ReservationState, ReservedMoney};
pub use spend::{DayLine, Payer, Spent, TagLine};

/// Prefix and suffix of the names of spool files, which hold standard input until it belongs to a job.
const SPOOL: (&str, &str) = ("input-", ".tmp");

/// A job that was just entered.
#[derive(Debug)]
pub struct NewJob {
    /// Its entry in the index.
    pub job: Job,
    /// Its database.
    pub db: JobDb,
}

/// The state directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    read_only: bool,
    journaling: Journaling,
    /// Keeps other hosts away, in a directory on a network file system.
    _host: Option<Arc<HostLock>>,
}

impl Store {
    /// Opens the state directory, and creates it if it is missing. One that cannot be written can still be read.
    ///
    /// # Errors
    /// 75 if another host works in it, 74 if it cannot be used.
    pub fn open<'a>(place: impl Into<StatePlace<'a>>) -> Result<Self> {
        let place = place.into();
        let dir = place.dir;
        let make =
            |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| unusable(path, e));
        make(dir)?;
        let journaling = volume::journaling(place)?;
        if dir.join("ledger.db").exists() && [dir, &dir.join("jobs")].into_iter().any(modes::is_read_only) {
            return Ok(Self { dir: dir.to_owned(), read_only: true, journaling, _host: None });
        }
        modes::close_to_others(dir);
        for sub in ["jobs", "locks"] {
            make(&dir.join(sub))?;
            // A umask only narrows the mode of a new directory, but an old directory may have a wider one.
            let path = dir.join(sub);
            let wide = std::fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o777 != 0o700);
            if wide {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
                    .map_err(|e| unusable(&path, e))?;
            }
        }
        let host = match journaling {
            Journaling::Log => None,
            Journaling::Rollback => Some(Arc::new(HostLock::take(dir)?)),
        };
        Ok(Self { dir: dir.to_owned(), read_only: false, journaling, _host: host })
    }

    /// Returns whether the directory cannot be written: a snapshot, or a file system that is mounted read-only.
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Returns whether every commit of a database waits for the disk.
    pub fn syncs_commits(&self) -> bool {
        self.journaling == Journaling::Rollback
    }

    /// Refuses a directory that can only be read.
    ///
    /// # Errors
    /// 74 if it cannot be written.
    pub fn must_be_writable(&self) -> Result<()> {
        if self.read_only {
            let error = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
            return Err(unusable(&self.dir, error));
        }
        Ok(())
    }

    /// Names the reasons why others than the user may change or read the directory.
    pub fn exposures(&self) -> Vec<String> {
        modes::exposures(&self.dir)
    }

    /// The state directory's path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory where processes find each other that share a rate limit: those with one account (a hash) and service.
    pub fn limits_dir(&self, account: &str, service: &str) -> PathBuf {
        let hash = blake3::hash(format!("{account}\n{service}").as_bytes()).to_hex();
        self.dir.join("limits").join(&hash[..16])
    }

    /// Opens the index of jobs.
    pub fn ledger(&self) -> Result<Ledger> {
        Ledger::open_with(&self.dir.join("ledger.db"), self.journaling)
    }

    /// The path of the database of job `id`.
    pub fn job_path(&self, id: &str) -> PathBuf {
        self.dir.join("jobs").join(format!("{id}.db"))
    }

    /// Opens the database of job `id`.
    ///
    /// # Errors
    /// 74 if it is missing, empty or damaged.
    pub fn open_job(&self, id: &str) -> Result<JobDb> {
        JobDb::open_with(&self.job_path(id), self.journaling)
    }

    /// Returns whether the database of job `id` is there. Every entered job has one until it is removed.
    pub fn has_job(&self, id: &str) -> bool {
        std::fs::metadata(self.job_path(id)).is_ok_and(|meta| meta.len() > 0)
    }

    /// Enters a new job: into the index, and into a database of its own. Gives it its id and its creation time. The
    /// database is on the disk when this returns. A power cut may take the entry in the index of a run, which is made anew
    /// from the database.
    pub fn enter(&self, ledger: &Ledger, job: Job) -> Result<NewJob> {
        self.must_be_writable()?;
        let sync = job.transport == Transport::Batch;
        let enter = || {
            let job = ledger.create(job)?;
            // After a kill or a failure here, the file holds an orphan that has sent nothing.
            let db = JobDb::create_with(&self.job_path(&job.id), &job, self.journaling)
                .inspect_err(|_| drop(self.remove_job(&job.id)))?;
            Ok(NewJob { job, db })
        };
        if sync { ledger.decide(enter) } else { ledger.unsynced(enter) }
    }

    /// The directory of job `id`: its input, its batch files, and the results as the service wrote them.
    pub fn job_dir(&self, id: &str) -> PathBuf {
        self.dir.join("jobs").join(id)
    }

    /// Creates the directory of job `id`.
    pub fn make_job_dir(&self, id: &str) -> Result<PathBuf> {
        let path = self.job_dir(id);
        if self.read_only {
            return Ok(path);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|e| unusable(&path, e))?;
        Ok(path)
    }

    /// Removes a job: first its entry in the index, then its files. What a kill or a full disk leaves of the files is removed
    /// with [`Store::enter_orphans`].
    pub fn remove(&self, ledger: &Ledger, job: &Job) -> Result<()> {
        ledger.remove(job)?;
        self.remove_job(&job.id)
    }

    /// Removes all files of job `id`. Its entry in the index stays.
    fn remove_job(&self, id: &str) -> Result<()> {
        let gone = |result: std::io::Result<()>, path: &Path| match result {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("{}: cannot be removed", path.display()), e))
            }
            _ => Ok(()),
        };
        let dir = self.job_dir(id);
        gone(std::fs::remove_dir_all(&dir), &dir)?;
        let spool = self.spool_path(id);
        gone(std::fs::remove_file(&spool), &spool)?;
        // The database comes last: as long as it is there, the rest is found again.
        let db = self.job_path(id);
        for ending in ["db.new", "db-wal", "db-shm", "db-journal", "db"] {
            let path = db.with_extension(ending);
            gone(std::fs::remove_file(&path), &path)?;
        }
        Ok(())
    }

    /// The path of the standard input of job `id`.
    pub fn spool_path(&self, id: &str) -> PathBuf {
        self.dir.join("jobs").join(format!("{id}.input"))
    }

    /// Creates an empty spool file, which only the user can read, for input from a pipe.
    pub fn spool(&self) -> Result<tempfile::NamedTempFile> {
        let jobs = self.dir.join("jobs");
        self.remove_stale_spools();
        let make = || {
            let file = tempfile::Builder::new().prefix(SPOOL.0).suffix(SPOOL.1).tempfile_in(&jobs)?;
            // The lock keeps `remove_stale_spools` of other processes away.
            file.as_file().try_lock().map_err(std::io::Error::other)?;
            Ok(file)
        };
        make().map_err(|e| unusable(&self.dir, e))
    }

    /// Removes spool files of killed processes. They have no use any more, and may be long and private.
    fn remove_stale_spools(&self) {
        let Ok(entries) = std::fs::read_dir(self.dir.join("jobs")) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let stale = || std::fs::File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
            if name.starts_with(SPOOL.0) && name.ends_with(SPOOL.1) && stale() {
                // After a failure, the next run tries again.
                drop(std::fs::remove_file(&path));
            }
        }
    }
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("state directory {}: cannot be used", path.display()), error)
        .hint("choose another one with --state-dir or LLBATCH_STATE_DIR")
}
