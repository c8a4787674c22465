//! The rows of one job and what became of them.

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

/// Pages written before `SQLite` moves the log into the database: 64 MiB, so that a fast run is not stopped every few thousand rows.
const CHECKPOINT_PAGES: u32 = 8192;

/// The open database of one job.
#[derive(Debug)]
pub struct JobDb {
    db: Connection,
    path: PathBuf,
    writing: bool,
    pub(super) answers: AnswerFiles,
}

/// What format 1 lacked; whole tables are made by the schema.
const UPGRADE: &str = "ALTER TABLE outcome ADD COLUMN batch INTEGER; ALTER TABLE outcome ADD COLUMN side INTEGER;
    ALTER TABLE outcome ADD COLUMN at INTEGER;
    ALTER TABLE outcome ADD COLUMN len INTEGER; ALTER TABLE retired ADD COLUMN batch INTEGER;";

impl JobDb {
    /// Opens or makes the database at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let db = open_db(path, include_str!("job.sql"), UPGRADE)?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(|e| damaged(path, &e))?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(Self { db, answers: AnswerFiles::new(path), path: path.to_owned(), writing: false })
    }

    /// Moves the log into the database as far as nobody is in the way. The last to close the database does so at the latest.
    pub fn checkpoint(&self) -> Result<()> {
        self.run(|db| db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))
    }

    /// Changes whenever another connection has written.
    pub fn version(&self) -> Result<i64> {
        self.run(|db| db.pragma_query_value(None, "data_version", |row| row.get(0)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn run<T>(&self, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        act(&self.db).map_err(|e| damaged(&self.path, &e))
    }

    /// Begins a group of writes, if none is open.
    pub fn begin(&mut self) -> Result<()> {
        if !self.writing {
            self.run(|db| db.prepare_cached("BEGIN IMMEDIATE")?.execute([]))?;
            self.writing = true;
        }
        Ok(())
    }

    /// Commits the group: it survives the death of this process; with `sync` also that of the machine.
    ///
    /// # Errors
    /// 74 if the disk refuses; the group is not written then.
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

    /// Takes back an open group, also one whose commit failed.
    pub fn undo(&mut self) -> Result<()> {
        self.writing = false;
        // After some errors SQLite has done so itself.
        if self.db.is_autocommit() { Ok(()) } else { self.run(|db| db.execute_batch("ROLLBACK")) }
    }
}

#[cfg(test)]
pub(super) mod tests;
