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
pub(super) mod tests {
    use crate::outcome::{ErrorCode, Fingerprint, Outcome, Usage};
    use crate::store::JobDb;

    pub(in crate::store) fn outcome(row: u64, fp: u8, ok: bool) -> Outcome {
        let mut outcome = Outcome::unsent(row, format!("id-{row}").into(), "m".into(), ErrorCode::Timeout, "late");
        outcome.fingerprint = Fingerprint([fp; 16]);
        outcome.attempts = 2;
        outcome.wasted = Usage { prompt: 1, completion: 0 };
        if ok {
            outcome.error = None;
            outcome.status = Some(200);
            outcome.body = Some(format!("{{\"row\":{row}}}").into());
            outcome.usage = Some(Usage { prompt: 10, completion: row });
        }
        outcome
    }

    pub(in crate::store) fn db() -> (tempfile::TempDir, JobDb) {
        let dir = tempfile::tempdir().unwrap();
        let db = JobDb::open(&dir.path().join("j.db")).unwrap();
        (dir, db)
    }

    #[test]
    fn outcomes_come_back_as_they_went_in() {
        let (dir, mut db) = db();
        let rows = [outcome(1, 1, true), outcome(2, 2, false), outcome(7, 3, true)];
        for row in &rows {
            db.put(row).unwrap();
        }
        db.claim(9).unwrap();
        db.commit(true).unwrap();
        let other = JobDb::open(&dir.path().join("j.db")).unwrap();
        assert_eq!(other.outcomes(1, 10).unwrap(), rows);
        assert_eq!(other.outcomes(3, 10).unwrap().len(), 1);
        assert_eq!(other.unanswered(10).unwrap(), [3, 4, 5, 6, 8, 9]);
        assert_eq!(other.unanswered(3).unwrap(), [3, 4, 5]);
    }

    #[test]
    fn uncommitted_outcome_is_not_there() {
        let (dir, mut db) = db();
        db.put(&outcome(1, 1, true)).unwrap();
        db.commit(false).unwrap();
        db.put(&outcome(2, 1, true)).unwrap();
        drop(db);
        let db = JobDb::open(&dir.path().join("j.db")).unwrap();
        assert_eq!(db.outcomes(1, 10).unwrap().len(), 1);
    }

    #[test]
    fn failed_group_can_be_rolled_back_and_written_again() {
        let (dir, mut db) = db();
        db.put(&outcome(1, 1, true)).unwrap();
        db.commit(false).unwrap();
        db.put(&outcome(2, 2, true)).unwrap();
        // SQLite does so by itself after some errors of the disk.
        db.run(|db| db.execute_batch("ROLLBACK")).unwrap();
        db.commit(false).unwrap_err();
        for _ in 0..2 {
            db.undo().unwrap();
            db.put(&outcome(2, 2, true)).unwrap();
        }
        db.commit(true).unwrap();
        drop(db);
        let db = JobDb::open(&dir.path().join("j.db")).unwrap();
        assert_eq!(db.outcomes(1, 10).unwrap().len(), 2);
    }

    #[test]
    fn failed_row_is_set_aside_and_its_cost_is_kept() {
        let (_dir, mut db) = db();
        db.put(&outcome(1, 1, true)).unwrap();
        db.put(&outcome(2, 2, false)).unwrap();
        assert_eq!(db.set_aside(|_| true).unwrap(), 1);
        assert_eq!(db.outcomes(1, 10).unwrap().len(), 1);
        let retired = db.retired().unwrap();
        assert_eq!((retired[0].attempts, retired[0].wasted), (2, Usage { prompt: 1, completion: 0 }));
    }

    #[test]
    fn attempts_count_until_there_is_an_outcome() {
        let (_dir, mut db) = db();
        let reserve = Usage { prompt: 7, completion: 5 };
        let mut so_far = Outcome { at_risk: 1, reserve, ..outcome(3, 3, false) };
        db.claim(9).unwrap();
        db.put_tried(&so_far).unwrap();
        so_far.at_risk = 2;
        db.put_tried(&so_far).unwrap();
        db.put_tried(&outcome(4, 4, false)).unwrap();
        db.put(&outcome(4, 4, true)).unwrap();
        db.commit(false).unwrap();
        let risk = |db: &JobDb| {
            let all = db.retired().unwrap();
            all.iter().map(|r| (r.at_risk, r.wasted.prompt * u64::from(r.count), r.reserve)).collect::<Vec<_>>()
        };
        assert_eq!(risk(&db), [(2, 1, reserve)]);
        // The process dies while row 3 is in flight once more, and row 5 for the first time.
        db.retire_lost(&[("m".into(), reserve), ("m".into(), Usage { prompt: 9, completion: 0 })]).unwrap();
        assert_eq!((db.claimed().unwrap(), db.unanswered(9).unwrap().len()), (0, 0));
        let seen = risk(&db);
        assert_eq!(seen.iter().map(|(risk, ..)| risk).sum::<u32>(), 4, "{seen:?}");
        assert_eq!(seen.iter().map(|(_, wasted, _)| wasted).sum::<u64>(), 1, "{seen:?}");
    }
}
