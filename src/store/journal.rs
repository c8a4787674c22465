//! The files that `SQLite` keeps beside a database: a log (WAL) that llbatch syncs, or a rollback journal.
//!
//! A commit in the mode NORMAL survives a kill. Once the log is synced, it survives a power cut too. `SQLite` can sync it by
//! itself (FULL), but then every connection syncs the directory as well: a run of one row paid for that three times.

use std::cell::{Cell, OnceCell};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The log's header in bytes.
const HEADER: u64 = 32;

/// The way in which databases are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Journaling {
    /// Into a log (WAL), with memory that all processes of this machine share. llbatch decides when to sync.
    #[default]
    Log,
    /// In place, after the old pages went into a rollback journal. No memory is shared, and `SQLite` syncs each commit. For
    /// directories on network file systems.
    Rollback,
}

/// The log of an open database. It must not outlive the connection: the last connection to a database removes its log.
#[derive(Debug)]
pub(super) struct Journal {
    journaling: Journaling,
    path: PathBuf,
    file: OnceCell<File>,
    /// The directory has the log's name on the disk.
    named: Cell<bool>,
}

impl Journal {
    /// The log of the database at `db`, which a connection has open.
    pub(super) fn of(db: &Path, journaling: Journaling) -> Self {
        let mut path = OsString::from(db);
        path.push("-wal");
        let journal = Self { journaling, path: path.into(), file: OnceCell::new(), named: Cell::new(false) };
        if journaling == Journaling::Log
            && let Ok(file) = File::open(&journal.path)
        {
            // SQLite syncs the directory and the header before it writes anything else.
            journal.named.set(file.metadata().is_ok_and(|meta| meta.len() > HEADER));
            journal.file.get_or_init(|| file);
        }
        journal
    }

    /// Returns whether llbatch decides when a commit is synced.
    pub(super) fn is_log(&self) -> bool {
        self.journaling == Journaling::Log
    }

    /// Returns whether nothing was ever written to the log.
    pub(super) fn is_empty(&self) -> bool {
        self.file.get().is_none_or(|file| file.metadata().is_ok_and(|meta| meta.len() == 0))
    }

    /// Makes every commit so far survive a power cut.
    pub(super) fn sync(&self) -> Result<()> {
        // Each commit has synced its own pages.
        if !self.is_log() {
            return Ok(());
        }
        let sync = || {
            if self.file.get().is_none() {
                let opened = File::open(&self.path)?;
                self.file.get_or_init(|| opened);
            }
            let Some(file) = self.file.get() else { return Ok(()) };
            file.sync_data()?;
            if self.named.get() { Ok(()) } else { self.sync_name() }
        };
        sync().map_err(|e| Error::io(format!("{}: cannot be synced", self.path.display()), e))
    }

    /// Makes the names in the directory survive a power cut: those of the database and of its log.
    pub(super) fn sync_name(&self) -> std::io::Result<()> {
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()?;
        self.named.set(true);
        Ok(())
    }
}
