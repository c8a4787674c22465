//! What the batches of jobs that have not ended may still cost, kept in the index: who adds up a budget need not open the
//! file of every job, and knows it of a job whose file is damaged.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{OptionalExtension, params};

use super::reserve::nanos;
use super::{Ledger, Store, damaged};
use crate::error::Result;
use crate::price::Nanos;

/// A file that was written to so shortly before it was read may be written to again without a change of its times.
const SETTLED: Duration = Duration::from_secs(1);

/// What the batches of a job may still cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Its file when it said so; empty: it may say something else by now.
    pub stamp: String,
    /// Those that may have been created.
    pub sent: Nanos,
    /// Those that the budgets let be submitted, and that were not sent.
    pub admitted: Nanos,
}

impl Store {
    /// Changes with every write to the job's database; `None`: there is none. Empty if it was written to at or just before
    /// `began`.
    pub fn stamp(&self, id: &str, began: SystemTime) -> Option<String> {
        let db = self.job_path(id);
        let mut stamp = String::new();
        for path in [&db, &db.with_extension("db-wal")] {
            match std::fs::metadata(path) {
                Ok(meta) => {
                    let at = meta.modified().unwrap_or(began);
                    if at + SETTLED > began {
                        return Some(String::new());
                    }
                    let at = at.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
                    let _ = write!(stamp, "{}@{at} ", meta.len());
                }
                Err(_) if *path == db => return None,
                // Who closes a database last takes its log away.
                Err(_) => {}
            }
        }
        Some(stamp)
    }
}

impl Ledger {
    /// What was last known of a job. Ask within [`Ledger::decide`].
    pub fn held(&self, job: &str) -> Result<Option<Held>> {
        let read = || {
            self.db()
                .prepare_cached("SELECT stamp, sent, admitted FROM held WHERE job = ?1")?
                .query_row([job], |row| {
                    let amount = |i| row.get::<_, i64>(i).map(|n| Nanos(n.into()));
                    Ok(Held { stamp: row.get(0)?, sent: amount(1)?, admitted: amount(2)? })
                })
                .optional()
        };
        read().map_err(|e| damaged(self.path(), &e))
    }

    /// Writes it down. Within [`Ledger::decide`].
    pub fn set_held(&self, job: &str, held: &Held) -> Result<()> {
        let write = || {
            self.db().execute("DELETE FROM held WHERE job NOT IN (SELECT id FROM job)", [])?;
            self.db().execute(
                "INSERT OR REPLACE INTO held (job, stamp, sent, admitted) VALUES (?1, ?2, ?3, ?4)",
                params![job, held.stamp, nanos(held.sent), nanos(held.admitted)],
            )
        };
        write().map(drop).map_err(|e| damaged(self.path(), &e))
    }

    /// From now on a job may send batches for so much; it counts even if the job's file cannot be read any more.
    pub fn admitted(&self, job: &str, most: Nanos) -> Result<()> {
        let write = self.db().execute(
            "INSERT INTO held (job, stamp, sent, admitted) VALUES (?1, '', 0, ?2)
             ON CONFLICT (job) DO UPDATE SET stamp = '', admitted = max(admitted, excluded.admitted)",
            params![job, nanos(most)],
        );
        write.map(drop).map_err(|e| damaged(self.path(), &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Job, Transport};

    #[test]
    fn what_is_held_is_known_until_the_file_changes_and_goes_with_its_job() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let ledger = store.ledger().unwrap();
        let job = || Job::new(Transport::Batch, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
        let (first, second) = (ledger.create(job()).unwrap(), ledger.create(job()).unwrap());
        let held = Held { stamp: "s".to_owned(), sent: Nanos(5), admitted: Nanos(7) };
        ledger.set_held(&first.id, &held).unwrap();
        ledger.admitted(&first.id, Nanos(6)).unwrap();
        ledger.admitted(&second.id, Nanos(9)).unwrap();
        let known = |id: &str| ledger.held(id).unwrap();
        assert_eq!(known(&first.id), Some(Held { stamp: String::new(), ..held.clone() }));
        assert_eq!(known(&second.id), Some(Held { admitted: Nanos(9), ..Held::default() }));
        ledger.forget(&second.id).unwrap();
        ledger.set_held(&first.id, &held).unwrap();
        assert_eq!(known(&second.id), None);

        let (now, later) = (SystemTime::now(), SystemTime::now() + Duration::from_mins(1));
        assert_eq!(store.stamp(&first.id, now), None);
        std::fs::write(store.job_path(&first.id), "db").unwrap();
        assert_eq!(store.stamp(&first.id, now).as_deref(), Some(""), "it was written to just now");
        let stamp = store.stamp(&first.id, later).unwrap();
        assert_eq!(store.stamp(&first.id, later), Some(stamp.clone()));
        std::fs::write(store.job_path(&first.id).with_extension("db-wal"), "log").unwrap();
        assert_ne!(store.stamp(&first.id, later), Some(stamp));
    }
}
