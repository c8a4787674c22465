//! Orphans: jobs whose own database is there, while the index does not know them. The index was lost, or is older.

use std::path::Path;
use std::time::UNIX_EPOCH;

use super::{Job, Ledger, Store};
use crate::error::{Error, Result};

/// A job that the index did not know.
#[derive(Debug)]
pub enum Orphan {
    /// It is in the index again.
    Entered(Box<Job>),
    /// An earlier llbatch wrote its file, which has no copy of its entry. Its id, and the ids of its batches.
    Unknown { id: String, batches: Vec<String> },
    /// Its file cannot be read.
    Unreadable(Error),
}

impl Store {
    /// Enters the jobs that the index does not know but that have a database, oldest first.
    pub fn enter_orphans(&self, ledger: &Ledger) -> Result<Vec<Orphan>> {
        if self.orphans(ledger)?.is_empty() {
            return Ok(Vec::new());
        }
        // A process that enters a new job holds this transaction until the job is in both places.
        ledger.decide(|| {
            let (mut orphans, mut found) = (Vec::new(), Vec::new());
            for id in self.orphans(ledger)? {
                // A command that removed it, or that was writing a new one, was killed or met a full disk.
                if ledger.removed(&id)?.is_some() || !self.has_job(&id) {
                    self.remove_job(&id)?;
                    continue;
                }
                match self.orphan(&id) {
                    Ok(Some(Orphan::Entered(job))) => found.push(job),
                    // Its creator was killed before the index knew it. Nothing was sent.
                    Ok(None) => self.remove_job(&id)?,
                    Ok(Some(orphan)) => orphans.push(orphan),
                    Err(error) => orphans.push(Orphan::Unreadable(error)),
                }
            }
            found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
            for job in found {
                ledger.restore(&job)?;
                orphans.push(Orphan::Entered(job));
            }
            Ok(orphans)
        })
    }

    /// Copies the entries of jobs into their own files, once for an index that an earlier llbatch began: its files have
    /// none.
    pub fn copy_entries(&self, ledger: &Ledger) -> Result<()> {
        if ledger.entries_are_copied()? {
            return Ok(());
        }
        for job in ledger.recent(u32::MAX)? {
            let Some(_lock) = self.lock(&job.id)? else { continue };
            // A file that cannot be read is named by the commands that need it.
            if let Ok(mut db) = self.open_job(&job.id)
                && db.entry()?.is_none()
            {
                db.put_entry(&job)?;
            }
        }
        ledger.record_entries_copied()
    }

    /// The ids of databases that the index does not know, in their order.
    fn orphans(&self, ledger: &Ledger) -> Result<Vec<String>> {
        let Ok(entries) = std::fs::read_dir(self.dir.join("jobs")) else { return Ok(Vec::new()) };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let id = |name: &str| name.strip_suffix(".db.new").or(name.strip_suffix(".db")).map(str::to_owned);
        let mut ids: Vec<String> = names.filter_map(|name| id(&name)).collect();
        if ids.is_empty() {
            return Ok(ids);
        }
        let known = ledger.ids()?;
        let unfinished = |id: &str| self.job_path(id).with_extension("db.new").exists();
        ids.retain(|id| id.starts_with("j-") && !known.contains(id) && (self.has_job(id) || unfinished(id)));
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// The time of the last change of a job's database, in milliseconds since 1970.
    fn changed_at(&self, id: &str) -> Option<i64> {
        let db = self.job_path(id);
        let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let last = [&db, &db.with_extension("db-wal")].into_iter().filter_map(|path| changed(path)).max()?;
        i64::try_from(last.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    }

    /// Reads an orphan. `None`: nothing of it was ever sent.
    fn orphan(&self, id: &str) -> Result<Option<Orphan>> {
        let db = self.open_job(id)?;
        let (counts, batches) = (db.counts()?, db.batches()?);
        if counts == (0, 0) && batches.is_empty() && !db.has_claim()? && db.retired()?.is_empty() {
            return Ok(None);
        }
        let Some(mut job) = db.entry()? else {
            let batches = batches.into_iter().filter_map(|batch| batch.remote.id).collect();
            return Ok(Some(Orphan::Unknown { id: id.to_owned(), batches }));
        };
        id.clone_into(&mut job.id);
        job.updated_at = self.changed_at(id).unwrap_or(job.updated_at);
        (job.succeeded, job.failed) = counts;
        Ok(Some(Orphan::Entered(Box::new(job))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{JobBatch, JobState, RemoteBatch, Transport};

    fn job(name: &str) -> Job {
        let new = Job::new(Transport::Batch, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
        Job { name: Some(name.to_owned()), total: 3, ..new }
    }

    #[test]
    fn half_written_database_of_a_new_job_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let ledger = store.ledger().unwrap();
        let kept = store.enter(&ledger, job("kept")).unwrap().job;
        std::fs::write(dir.path().join("jobs/j-12345678.db.new"), "SQLite").unwrap();
        assert!(store.enter_orphans(&ledger).unwrap().is_empty());
        let names = std::fs::read_dir(dir.path().join("jobs")).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), [format!("{}.db", kept.id).as_str()]);
    }

    #[test]
    fn lost_index_is_made_anew_from_the_files_of_its_jobs() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let ledger = store.ledger().unwrap();
        let first = store.enter(&ledger, job("first")).unwrap().job;
        let mut second = store.enter(&ledger, job("second")).unwrap().job;
        let unsent = store.enter(&ledger, job("unsent")).unwrap().job;
        let batch = JobBatch {
            number: 1,
            remote: RemoteBatch { id: Some("b-1".into()), ..RemoteBatch::default() },
            ..JobBatch::default()
        };
        for id in [&first.id, &second.id] {
            store.open_job(id).unwrap().save_batch(&batch).unwrap();
        }
        second.state = JobState::Partial;
        second.created_at = first.created_at + 1;
        store.open_job(&second.id).unwrap().put_entry(&second).unwrap();
        assert!(store.enter_orphans(&ledger).unwrap().is_empty());
        drop(ledger);
        for ending in ["", "-wal", "-shm"] {
            drop(std::fs::remove_file(dir.path().join(format!("ledger.db{ending}"))));
        }
        let ledger = store.ledger().unwrap();
        assert_eq!(store.enter_orphans(&ledger).unwrap().len(), 2);
        let mut found = ledger.recent(9).unwrap();
        for job in &mut found {
            assert!(job.updated_at >= first.created_at, "{job:?}");
            job.updated_at = job.created_at;
        }
        second.updated_at = second.created_at;
        assert_eq!(found, [second, first]);
        assert!(!store.job_path(&unsent.id).exists());
        assert!(store.enter_orphans(&ledger).unwrap().is_empty());
    }

    #[test]
    fn index_of_an_earlier_llbatch_is_copied_into_its_jobs() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let ledger = store.ledger().unwrap();
        let job = store.enter(&ledger, job("old")).unwrap().job;
        let forget = || store.open_job(&job.id).unwrap().run(|db| db.execute_batch("DELETE FROM entry")).unwrap();
        let copy = || {
            store.copy_entries(&ledger).unwrap();
            store.open_job(&job.id).unwrap().entry().unwrap().map(|copy| copy.id)
        };
        forget();
        ledger.db().pragma_update(None, "application_id", 0).unwrap();
        assert_eq!(copy(), Some(job.id.clone()));
        forget();
        assert_eq!(copy(), None, "once is enough");
    }

    #[test]
    fn half_removed_job_is_removed_and_not_entered_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let ledger = store.ledger().unwrap();
        let job = store.enter(&ledger, job("old")).unwrap().job;
        store.open_job(&job.id).unwrap().save_batch(&JobBatch { number: 1, ..JobBatch::default() }).unwrap();
        // The process is killed here.
        ledger.remove(&job).unwrap();
        assert!(store.enter_orphans(&ledger).unwrap().is_empty());
        assert!(!store.job_path(&job.id).exists() && ledger.get(&job.id).unwrap().is_none());
        assert_eq!(ledger.removed("old").unwrap(), Some(job.id));
    }

    #[test]
    fn file_without_an_entry_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let ledger = store.ledger().unwrap();
        let id = store.enter(&ledger, job("old")).unwrap().job.id;
        let mut db = store.open_job(&id).unwrap();
        let batch = JobBatch {
            number: 1,
            remote: RemoteBatch { id: Some("b-1".into()), ..RemoteBatch::default() },
            ..JobBatch::default()
        };
        db.save_batch(&batch).unwrap();
        db.run(|db| db.execute_batch("DELETE FROM entry")).unwrap();
        std::fs::write(store.job_path("j-damaged1"), "no database").unwrap();
        ledger.forget(&id).unwrap();
        let mut orphans = store.enter_orphans(&ledger).unwrap();
        orphans.sort_by_key(|orphan| matches!(orphan, Orphan::Unreadable(_)));
        let [Orphan::Unknown { id: named, batches }, Orphan::Unreadable(_)] = &orphans[..] else {
            panic!("{orphans:?}")
        };
        assert_eq!((named, &batches[..]), (&id, &["b-1".to_owned()][..]));
        assert!(ledger.get(&id).unwrap().is_none());
    }
}
