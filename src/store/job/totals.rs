//! The totals of a job that has ended. They are kept so that a report need not read a million rows.

use rusqlite::OptionalExtension;

use super::{PUT_ENTRY, described};
use crate::error::Result;
use crate::store::{Job, JobDb};

/// A database of the same format may be older than this table.
const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS totals (only INTEGER PRIMARY KEY CHECK (only = 1), data BLOB NOT NULL) STRICT";

impl JobDb {
    /// Keeps the entry of a job that has ended, and its totals. Both are on the disk when this returns.
    pub fn put_end(&mut self, job: &Job, totals: Option<&[u8]>) -> Result<()> {
        let data = described(job)?;
        self.begin()?;
        self.run(|db| {
            db.execute(PUT_ENTRY, [data])?;
            totals.map_or(Ok(0), |totals| db.execute("INSERT INTO totals (only, data) VALUES (1, ?1)", [totals]))
        })?;
        self.commit(true)
    }

    /// The totals, if nothing was written since they were kept.
    pub fn totals(&self) -> Result<Option<Vec<u8>>> {
        self.run(|db| {
            if !self.has_totals_table && !db.table_exists(None, "totals")? {
                return Ok(None);
            }
            db.query_row("SELECT data FROM totals", [], |row| row.get(0)).optional()
        })
    }

    /// Removes the totals, within the group that was just begun.
    pub(super) fn forget_totals(&mut self) -> Result<()> {
        if !self.has_totals_table {
            self.run(|db| db.execute_batch(TABLE))?;
            self.has_totals_table = true;
        }
        self.run(|db| db.prepare_cached("DELETE FROM totals")?.execute([])).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::job::tests::{db, outcome};
    use crate::store::{Job, JobDb, Transport};

    #[test]
    fn totals_are_kept_until_something_is_written() {
        let (dir, mut db) = db();
        let job = Job::new(Transport::Realtime, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
        assert_eq!(db.totals().unwrap(), None);
        db.put_end(&job, Some(b"sum")).unwrap();
        let mut other = JobDb::open(&dir.path().join("j.db")).unwrap();
        assert_eq!((db.totals().unwrap(), other.totals().unwrap()), (Some(b"sum".to_vec()), Some(b"sum".to_vec())));
        other.put(&outcome(1, 1, true)).unwrap();
        other.undo().unwrap();
        other.settle_aside().unwrap();
        assert!(db.totals().unwrap().is_some(), "nothing was written");
        let writes: [fn(&mut JobDb); 4] = [
            |db| db.put(&outcome(1, 1, true)).unwrap(),
            |db| assert_eq!(db.set_aside(|_| true).unwrap(), 0),
            |db| db.claim(9).unwrap(),
            |db| db.put_entry(&Job::new(Transport::Batch, String::new(), String::new(), String::new())).unwrap(),
        ];
        for write in writes {
            db.put_end(&job, Some(b"sum")).unwrap();
            write(&mut other);
            other.commit(false).unwrap();
            assert_eq!((db.totals().unwrap(), other.totals().unwrap()), (None, None));
        }
        // A database that has no such table yet.
        db.run(|db| db.execute_batch("DROP TABLE totals")).unwrap();
        let mut old = JobDb::open(&dir.path().join("j.db")).unwrap();
        assert_eq!(old.totals().unwrap(), None);
        old.put_end(&job, Some(b"sum")).unwrap();
        assert!(old.totals().unwrap().is_some());
    }
}
