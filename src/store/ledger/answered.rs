//! The index of answers: in which row of which job an answer to a request lies. Bodies stay with their jobs.

use rusqlite::params;

use super::Ledger;
use crate::error::Result;
use crate::store::damaged;

/// Answers that are written in one transaction: others wait for the index meanwhile.
const GROUP: usize = 20_000;

/// Rows of one job with the same request that the index has: of several answers, the first may be one that cannot be taken.
const ROWS_OF_A_REQUEST: u32 = 8;

/// An answer in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedAnswer {
    /// A hash of its request.
    pub hash: [u8; 16],
    /// Its row.
    pub row: u64,
    /// The beginning of the row's fingerprint. The row may have another request by the time that it is read.
    pub check: i64,
}

/// A job in the index of answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedJob {
    /// The number by which the index names it.
    pub number: i64,
    /// Its id; or the path of a part that tasks have sealed, whose answers have offsets for rows.
    pub job: String,
    /// The version of the job that was read.
    pub version: String,
}

impl Ledger {
    /// The jobs in the index of answers.
    pub fn indexed_jobs(&self) -> Result<Vec<IndexedJob>> {
        self.tables()?;
        self.run(|db| {
            let mut statement = db.prepare("SELECT number, job, version FROM answer_source")?;
            let rows = statement
                .query_map([], |row| Ok(IndexedJob { number: row.get(0)?, job: row.get(1)?, version: row.get(2)? }))?;
            rows.collect()
        })
    }

    /// Makes a place for the answers of a job, in place of those that the index has of it, and returns its number. They count
    /// once [`Self::end_answers`] names their version.
    pub fn begin_answers(&self, job: &str) -> Result<i64> {
        self.unsynced(|| {
            self.run(|db| {
                db.execute("DELETE FROM answer_source WHERE job = ?1", [job])?;
                db.execute("INSERT INTO answer_source (job, version) VALUES (?1, '')", [job])?;
                Ok(db.last_insert_rowid())
            })
        })
    }

    /// Removes the answers of jobs that were read anew or that `clean` has removed. That reads the whole index, and locks it only
    /// if there are some.
    pub fn purge_answers(&self) -> Result<()> {
        const GONE: &str = "FROM answer_place WHERE job NOT IN (SELECT number FROM answer_source)";
        let some: bool =
            self.run(|db| db.query_row(&format!("SELECT EXISTS (SELECT 1 {GONE})"), [], |row| row.get(0)))?;
        if !some {
            return Ok(());
        }
        self.unsynced(|| self.run(|db| db.execute(&format!("DELETE {GONE}"), []).map(drop)))
    }

    /// Adds answers of the job with this number. Of many rows with one request, the first ones stay.
    pub fn add_answers(&self, number: i64, answers: &[IndexedAnswer]) -> Result<()> {
        for group in answers.chunks(GROUP) {
            self.unsynced(|| {
                self.run(|db| {
                    const ADD: &str = "INSERT OR IGNORE INTO answer_place SELECT ?1, ?2, ?3, ?4
                        WHERE (SELECT COUNT(*) FROM answer_place WHERE hash = ?1 AND job = ?2) < ?5";
                    let mut insert = db.prepare_cached(ADD)?;
                    group.iter().try_for_each(|answer| {
                        let row = answer.row.cast_signed();
                        let place = params![&answer.hash[..], number, row, answer.check, ROWS_OF_A_REQUEST];
                        insert.execute(place).map(drop)
                    })
                })
            })?;
        }
        Ok(())
    }

    /// Ends the answers of a job: the index has all of this version.
    pub fn end_answers(&self, number: i64, version: &str) -> Result<()> {
        self.unsynced(|| {
            self.run(|db| {
                db.execute("UPDATE answer_source SET version = ?2 WHERE number = ?1", params![number, version])
                    .map(drop)
            })
        })
    }

    /// The answers to requests with this hash, also of jobs that the index has no more, with the numbers of their jobs, the latest job first,
    /// and its rows in their order.
    pub fn find_answers(&self, hash: [u8; 16]) -> Result<Vec<(i64, IndexedAnswer)>> {
        self.run(|db| {
            let found = "SELECT job, row, \"check\" FROM answer_place WHERE hash = ?1 ORDER BY job DESC, row";
            let mut statement = db.prepare_cached(found)?;
            let rows = statement.query_map([&hash[..]], |row| {
                let answer = IndexedAnswer { hash, row: row.get::<_, i64>(1)?.cast_unsigned(), check: row.get(2)? };
                Ok((row.get(0)?, answer))
            })?;
            rows.collect()
        })
    }

    /// Drops a part that is gone out of the index of answers.
    pub fn forget_answers(&self, part: &str) -> Result<()> {
        self.unsynced(|| self.drop_answers(part))
    }

    /// Drops a job out of the index of answers. It is a part of the open transaction.
    pub(super) fn drop_answers(&self, job: &str) -> Result<()> {
        self.run(|db| db.execute("DELETE FROM answer_source WHERE job = ?1", [job]).map(drop))
    }

    /// Makes the tables, which a ledger of the same format may lack.
    fn tables(&self) -> Result<()> {
        self.unsynced(|| Ok(()))
    }

    fn run<T>(&self, act: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>) -> Result<T> {
        act(&self.db).map_err(|e| damaged(&self.path, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Transport;
    use crate::store::{Job, Store};

    #[test]
    fn answers_of_a_removed_job_drop_out_and_its_number_is_not_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let ledger = store.ledger().unwrap();
        let enter = || {
            let new = Job::new(Transport::Realtime, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
            store.enter(&ledger, new).unwrap().job
        };
        let (first, second) = (enter(), enter());
        let answer = |row| IndexedAnswer { hash: [7; 16], row, check: -1 };
        let add = |job: &Job, row| {
            let number = ledger.begin_answers(&job.id).unwrap();
            ledger.add_answers(number, &[answer(row), answer(row + 1)]).unwrap();
            ledger.end_answers(number, "1").unwrap();
            number
        };
        let (one, two) = (add(&first, 3), add(&second, 5));
        assert_eq!(
            ledger.find_answers([7; 16]).unwrap(),
            [(two, answer(5)), (two, answer(6)), (one, answer(3)), (one, answer(4))]
        );
        assert!(ledger.find_answers([8; 16]).unwrap().is_empty());
        store.remove(&ledger, &second).unwrap();
        let jobs = |ledger: &Ledger| ledger.indexed_jobs().unwrap().into_iter().map(|job| job.job).collect::<Vec<_>>();
        assert_eq!(jobs(&ledger), std::slice::from_ref(&first.id));
        // What is read anew takes the place of what was there.
        let again = add(&first, 9);
        assert!(again > two);
        assert_eq!(ledger.find_answers([7; 16]).unwrap().len(), 6);
        ledger.purge_answers().unwrap();
        assert_eq!(ledger.find_answers([7; 16]).unwrap(), [(again, answer(9)), (again, answer(10))]);
    }
}
