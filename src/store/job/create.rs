//! The database of a new job. It is made in memory and written at once, and closed with one sync: a run of one row spends
//! most of its time in syncs.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{PUT_ENTRY, TABLES, described};
use crate::error::{Error, Result};
use crate::store::{Job, JobDb, Journaling, damaged, image};

/// Rows of a job whose short answers lie in the database. A log would cost three syncs more, for itself and its directory.
const FEW: u64 = 8;

/// The longest answer of such a job that lies in the database.
const SHORT: usize = 64 << 10;

/// A database that this process created.
#[derive(Debug)]
pub(super) struct NewDb {
    /// The database's file. To close any handle of a database ends the locks that this process has on it, so this one
    /// stays open until the process ends.
    file: ManuallyDrop<File>,
    /// Nothing was committed yet.
    untouched: bool,
    /// The job has few rows.
    few: bool,
}

impl NewDb {
    /// Returns whether a body of this length lies in the database rather than in the log.
    pub(super) const fn holds(&self, body: &str) -> bool {
        self.few && body.len() <= SHORT
    }
}

impl JobDb {
    /// The same, as on a local disk.
    #[cfg(test)]
    pub fn create(path: &Path, job: &Job) -> Result<Self> {
        Self::create_with(path, job, Journaling::Log)
    }

    /// Creates the database of a job that is being entered, with the job's entry. It is on the disk when this returns.
    pub(in crate::store) fn create_with(path: &Path, job: &Job, journaling: Journaling) -> Result<Self> {
        let data = described(job)?;
        let image =
            image(TABLES, journaling, |db| db.execute(PUT_ENTRY, [data]).map(drop)).map_err(|e| damaged(path, &e))?;
        let new = path.with_extension("db.new");
        let write = || {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(&image)?;
            file.sync_data()?;
            std::fs::rename(&new, path)?;
            Ok(ManuallyDrop::new(file))
        };
        let unwritable = |e| Error::io(format!("{}: cannot be written", path.display()), e);
        let file = write().map_err(unwritable)?;
        let mut db = Self::with(path, journaling)?;
        // SQLite syncs the first page of a log, lest it take older content for a part of it. This log has no older content,
        // and what its first commit holds survives a kill without it.
        if db.journal.is_log() {
            db.run(|db| db.pragma_update(None, "synchronous", "OFF"))?;
        }
        // The connection has created its log, so both names are there.
        db.journal.sync_name().map_err(unwritable)?;
        db.unsynced = false;
        db.new = Some(NewDb { file, untouched: true, few: (1..=FEW).contains(&job.total) });
        Ok(db)
    }

    /// Turns SQLite's own syncs on, once something was committed.
    pub(super) fn has_committed(&mut self) -> Result<()> {
        let first = self.new.as_mut().is_some_and(|new| std::mem::take(&mut new.untouched));
        if first && self.journal.is_log() {
            self.run(|db| db.pragma_update(None, "synchronous", "NORMAL"))?;
        }
        Ok(())
    }

    /// Commits and closes the database at the end of a command. All that was written survives a power cut.
    pub fn close(mut self) -> Result<()> {
        self.commit(true)?;
        if let Some(NewDb { file, .. }) = self.new.take().filter(|_| self.journal.is_log()) {
            // SQLite would sync the log, its directory and the database. The log is on the disk already. It has to stay
            // until the database is.
            let keep_log = |db: &Connection, keep| db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep);
            self.run(|db| {
                keep_log(db, true)?;
                db.pragma_update(None, "synchronous", "OFF")?;
                db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            })?;
            file.sync_data().map_err(|e| Error::io(format!("{}: cannot be synced", self.path.display()), e))?;
            self.run(|db| {
                db.pragma_update(None, "synchronous", "NORMAL")?;
                keep_log(db, false).map(drop)
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use crate::store::job::tests::outcome;
    use crate::store::{Job, JobDb, Transport};

    fn job(rows: u64) -> Job {
        let job = Job::new(Transport::Realtime, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
        Job { total: rows, ..job }
    }

    #[test]
    fn closed_database_holds_everything_without_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        let mut db = JobDb::create(&path, &job(2)).unwrap();
        db.claim(2).unwrap();
        db.commit(false).unwrap();
        // It is killed here: the log survives, and only the first page of a new log is written without a sync.
        let seen = JobDb::open(&path).unwrap();
        assert_eq!(seen.claimed().unwrap(), 2);
        drop(seen);
        let mode: i64 = db.run(|db| db.pragma_query_value(None, "synchronous", |row| row.get(0))).unwrap();
        assert_eq!(mode, 1, "NORMAL");
        for row in [1, 2] {
            db.put(&outcome(row, 1, true)).unwrap();
        }
        db.close().unwrap();
        let names = || std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names().collect::<Vec<_>>(), ["j.db"]);
        let db = JobDb::open(&path).unwrap();
        assert_eq!((db.outcomes(1, 9).unwrap().len(), db.entry().unwrap()), (2, Some(job(2))));
    }

    #[test]
    fn reader_keeps_the_log_of_a_closed_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        let mut db = JobDb::create(&path, &job(2)).unwrap();
        db.put(&outcome(1, 1, true)).unwrap();
        db.commit(false).unwrap();
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let count = |db: &Connection| db.query_row("SELECT count(*) FROM outcome", [], |row| row.get::<_, i64>(0));
        assert_eq!(count(&reader), Ok(1));
        db.put(&outcome(2, 1, true)).unwrap();
        db.close().unwrap();
        assert_eq!(count(&reader), Ok(1), "a reader sees what it saw");
        drop(reader);
        assert_eq!(JobDb::open(&path).unwrap().outcomes(1, 9).unwrap().len(), 2);
    }

    #[test]
    fn short_answers_of_a_small_job_lie_in_its_database() {
        for (rows, length, logged) in [(8, 10, false), (9, 10, true), (8, 70_000, true)] {
            let dir = tempfile::tempdir().unwrap();
            let mut db = JobDb::create(&dir.path().join("j.db"), &job(rows)).unwrap();
            let mut row = outcome(1, 1, true);
            row.body = Some("x".repeat(length).into());
            db.put(&row).unwrap();
            db.commit(false).unwrap();
            assert_eq!(dir.path().join("j/answers.jsonl").exists(), logged, "{rows} rows, {length} bytes");
            assert_eq!(db.outcomes(1, 9).unwrap(), [row]);
            assert!(db.drop_damaged(false).unwrap().is_empty());
        }
    }
}
