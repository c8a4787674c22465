//! The database of one job: its rows, their outcomes, its batches.

mod claims;
mod outcomes;
mod retired;

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::answer_files::AnswerFiles;
use super::{damaged, open_db};
use crate::error::Result;
pub(super) use retired::RETIRED;
pub use retired::Retired;

/// The pages in the log at which `SQLite` merges it into the database. 64 MiB keep a fast run from stalling every few
/// thousand rows.
const CHECKPOINT_PAGES: u32 = 8192;

/// The open database of one job.
#[derive(Debug)]
pub struct JobDb {
    db: Connection,
    path: PathBuf,
    writing: bool,
    pub(super) answers: AnswerFiles,
}

/// The columns that format 1 lacks. The schema creates missing tables.
const UPGRADE: &str = "ALTER TABLE outcome ADD COLUMN batch INTEGER; ALTER TABLE outcome ADD COLUMN side INTEGER;
    ALTER TABLE outcome ADD COLUMN at INTEGER;
    ALTER TABLE outcome ADD COLUMN len INTEGER; ALTER TABLE retired ADD COLUMN batch INTEGER;";

impl JobDb {
    /// Opens the database at `path`, and creates it if it is missing.
    pub fn open(path: &Path) -> Result<Self> {
        let db = open_db(path, include_str!("job.sql"), UPGRADE)?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(|e| damaged(path, &e))?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(Self { db, answers: AnswerFiles::new(path), path: path.to_owned(), writing: false })
    }

    /// Merges the log into the database as far as other connections allow. The last one to close merges the rest.
    pub fn checkpoint(&self) -> Result<()> {
        self.run(|db| db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))
    }

    /// A number that changes when another connection writes.
    pub fn version(&self) -> Result<i64> {
        self.run(|db| db.pragma_query_value(None, "data_version", |row| row.get(0)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn run<T>(&self, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        act(&self.db).map_err(|e| damaged(&self.path, &e))
    }

    /// Begins a group of writes, unless one is open.
    pub fn begin(&mut self) -> Result<()> {
        if !self.writing {
            self.run(|db| db.prepare_cached("BEGIN IMMEDIATE")?.execute([]))?;
            self.writing = true;
        }
        Ok(())
    }

    /// Commits the group, which then survives the death of this process. With `sync`, it also survives a power loss. After
    /// an error the group is not written.
    pub fn commit(&mut self, sync: bool) -> Result<()> {
        if self.writing {
            self.run(|db| db.prepare_cached("COMMIT")?.execute([]))?;
            self.writing = false;
        }
        if sync {
            // In WAL mode a commit syncs the whole log if `synchronous` is FULL, and never if it is NORMAL.
            self.run(|db| {
                db.pragma_update(None, "synchronous", "FULL")?;
                db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('synced', 1)", [])?;
                db.pragma_update(None, "synchronous", "NORMAL")
            })?;
        }
        Ok(())
    }

    /// Rolls back an open group, or one whose commit failed.
    pub fn undo(&mut self) -> Result<()> {
        self.writing = false;
        // After some errors SQLite has rolled back by itself.
        if self.db.is_autocommit() { Ok(()) } else { self.run(|db| db.execute_batch("ROLLBACK")) }
    }
}

#[cfg(test)]
pub(super) mod tests;
