//! A cache of the amounts that open batches may still cost, per job. With it a budget is summed up without opening every
//! job's file, and a damaged file does not hide what its job may cost.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{OptionalExtension, params};

use super::reservations::nanos;
use super::{Ledger, Store, damaged};
use crate::error::Result;
use crate::price::Nanos;

/// The age from which a file's times can be relied on. A younger file may be written again without a change of its times.
const SETTLED: Duration = Duration::from_secs(1);

/// The amounts that the open batches of one job may still cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CachedExposure {
    /// Version of the job's file when it was read. Empty: the file may have changed since.
    pub version: String,
    /// The most that batches can cost which may have been created.
    pub sent: Nanos,
    /// The most that batches can cost which the budgets admit, and which are not sent yet.
    pub admitted: Nanos,
}

impl Store {
    /// The version of a job's database, which changes with every write. `None`: there is no file. Empty: the file was
    /// written at or just before `began`, and has no reliable version yet.
    pub fn job_version(&self, id: &str, began: SystemTime) -> Option<String> {
        let db = self.job_path(id);
        let mut version = String::new();
        for path in [&db, &db.with_extension("db-wal")] {
            match std::fs::metadata(path) {
                Ok(meta) => {
                    let at = meta.modified().unwrap_or(began);
                    if at + SETTLED > began {
                        return Some(String::new());
                    }
                    let at = at.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
                    let _ = write!(version, "{}@{at} ", meta.len());
                }
                Err(_) if *path == db => return None,
                // The last process to close a database removes its log.
                Err(_) => {}
            }
        }
        Some(version)
    }
}

impl Ledger {
    /// The cached exposure of a job. Call it within [`Ledger::decide`].
    pub fn cached_exposure(&self, job: &str) -> Result<Option<CachedExposure>> {
        let read = || {
            self.db()
                .prepare_cached("SELECT stamp, sent, admitted FROM held WHERE job = ?1")?
                .query_row([job], |row| {
                    let amount = |i| row.get::<_, i64>(i).map(|n| Nanos(n.into()));
                    Ok(CachedExposure { version: row.get(0)?, sent: amount(1)?, admitted: amount(2)? })
                })
                .optional()
        };
        read().map_err(|e| damaged(self.path(), &e))
    }

    /// Caches the exposure of a job. Call it within [`Ledger::decide`].
    pub fn cache_exposure(&self, job: &str, exposure: &CachedExposure) -> Result<()> {
        let write = || {
            self.db().execute("DELETE FROM held WHERE job NOT IN (SELECT id FROM job)", [])?;
            self.db().execute(
                "INSERT OR REPLACE INTO held (job, stamp, sent, admitted) VALUES (?1, ?2, ?3, ?4)",
                params![job, exposure.version, nanos(exposure.sent), nanos(exposure.admitted)],
            )
        };
        write().map(drop).map_err(|e| damaged(self.path(), &e))
    }

    /// Admits batches of a job that may cost up to `upper_bound`. The amount counts even if the job's file
    /// becomes unreadable.
    pub fn admit_batches(&self, job: &str, upper_bound: Nanos) -> Result<()> {
        let write = self.db().execute(
            "INSERT INTO held (job, stamp, sent, admitted) VALUES (?1, '', 0, ?2)
             ON CONFLICT (job) DO UPDATE SET stamp = '', admitted = max(admitted, excluded.admitted)",
            params![job, nanos(upper_bound)],
        );
        write.map(drop).map_err(|e| damaged(self.path(), &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Job, Transport};

    #[test]
    fn exposure_is_cached_until_the_file_changes_and_removed_with_its_job() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let ledger = store.ledger().unwrap();
        let job = || Job::new(Transport::Batch, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
        let (first, second) = (ledger.create(job()).unwrap(), ledger.create(job()).unwrap());
        let exposure = CachedExposure { version: "s".to_owned(), sent: Nanos(5), admitted: Nanos(7) };
        ledger.cache_exposure(&first.id, &exposure).unwrap();
        ledger.admit_batches(&first.id, Nanos(6)).unwrap();
        ledger.admit_batches(&second.id, Nanos(9)).unwrap();
        let cached = |id: &str| ledger.cached_exposure(id).unwrap();
        assert_eq!(cached(&first.id), Some(CachedExposure { version: String::new(), ..exposure.clone() }));
        assert_eq!(cached(&second.id), Some(CachedExposure { admitted: Nanos(9), ..CachedExposure::default() }));
        ledger.forget(&second.id).unwrap();
        ledger.cache_exposure(&first.id, &exposure).unwrap();
        assert_eq!(cached(&second.id), None);

        let (now, later) = (SystemTime::now(), SystemTime::now() + Duration::from_mins(1));
        assert_eq!(store.job_version(&first.id, now), None);
        std::fs::write(store.job_path(&first.id), "db").unwrap();
        assert_eq!(store.job_version(&first.id, now).as_deref(), Some(""), "it was written just now");
        let version = store.job_version(&first.id, later).unwrap();
        assert_eq!(store.job_version(&first.id, later), Some(version.clone()));
        std::fs::write(store.job_path(&first.id).with_extension("db-wal"), "log").unwrap();
        assert_ne!(store.job_version(&first.id, later), Some(version));
    }
}
