//! The ledger: the index of jobs, in `ledger.db`.

mod answered;
mod create;
mod entry;
mod transaction;

use std::cell::Cell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{AddedColumn, Journal, Journaling, Tables, damaged, open_db};
use crate::error::{Error, Exit, Result};
use crate::outcome::Transport;
pub use answered::{IndexedAnswer, IndexedJob};
use entry::{COLUMNS, nanos, read};
pub use entry::{Job, JobState, Tags, service_identity};

/// The open ledger.
#[derive(Debug)]
pub struct Ledger {
    db: Connection,
    path: PathBuf,
    journal: Journal,
    /// This process has created the index, and written nothing to its log.
    new: Cell<bool>,
}

/// Creates missing tables.
pub(super) const SCHEMA: &str = include_str!("ledger.sql");

/// The pages in `SQLite`'s own log (WAL) at which it is merged into the index: some ten commands. Each command reads it.
const LOG_PAGES: u32 = 128;

/// The `application_id` of an index whose jobs have copies of their entries.
const ENTRIES_COPIED: i32 = 0x6c6c_6234;

const TABLES: Tables = Tables {
    schema: SCHEMA,
    added: &[
        AddedColumn { table: "job", name: "estimate", kind: "INTEGER" },
        AddedColumn { table: "job", name: "delivered", kind: "INTEGER NOT NULL DEFAULT 0" },
        AddedColumn { table: "job", name: "untold", kind: "INTEGER NOT NULL DEFAULT 0" },
    ],
};

impl Ledger {
    #[cfg(test)]
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Journaling::Log)
    }

    pub(super) fn open_with(path: &Path, journaling: Journaling) -> Result<Self> {
        let new = create::create(path, journaling);
        let db = open_db(path, TABLES, journaling)?;
        let set = || {
            // Commits are few and precious: each must be on the disk before llbatch acts on it.
            db.pragma_update(None, "synchronous", "FULL")?;
            // The log stays for the next command. To merge and remove it would take four syncs a command.
            db.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        };
        set().map_err(|e| damaged(path, &e))?;
        Ok(Self { db, path: path.to_owned(), journal: Journal::of(path, journaling), new: new.into() })
    }

    /// Writes a new job, and gives it its id and its creation time. [`Store::enter`](super::Store::enter) also makes its
    /// database.
    pub(super) fn create(&self, mut job: Job) -> Result<Job> {
        job.created_at = now_ms();
        job.updated_at = job.created_at;
        for _ in 0..20 {
            job.id = new_id();
            let inserted = self
                .db
                .execute(
                    "INSERT INTO job (id, name, key, transport, state, created_at, updated_at, input, spec, total)
                     VALUES (:id, :name, :key, :transport, :state, :at, :at, :input, :spec, :total) ON CONFLICT (id) DO NOTHING",
                    named_params! {
                        ":id": job.id, ":name": job.name, ":key": job.key, ":transport": job.transport.as_str(),
                        ":state": job.state.as_str(), ":at": job.created_at, ":input": job.input, ":spec": job.spec,
                        ":total": job.total.cast_signed(),
                    },
                )
                .map_err(|e| damaged(&self.path, &e))?;
            if inserted == 1 {
                return Ok(job);
            }
        }
        Err(Error::new(Exit::Failure, "no free job id was found in 20 tries"))
    }

    /// Writes the changes of a job.
    pub fn update(&self, job: &Job) -> Result<()> {
        self.db
            .execute(
                "UPDATE job SET state = :state, updated_at = :at, spec = :spec, total = :total, succeeded = :succeeded,
                 failed = :failed, nanos = :nanos, active_ms = :active, exit = :exit, estimate = :estimate,
                 delivered = :delivered WHERE id = :id",
                named_params! {
                    ":id": job.id, ":state": job.state.as_str(), ":at": now_ms(), ":spec": job.spec,
                    ":total": job.total.cast_signed(), ":succeeded": job.succeeded.cast_signed(),
                    ":failed": job.failed.cast_signed(),
                    ":nanos": job.cost.map(nanos), ":estimate": job.estimate.map(nanos), ":delivered": job.delivered,
                    ":active": job.active_ms.cast_signed(), ":exit": job.exit,
                },
            )
            .map_err(|e| damaged(&self.path, &e))?;
        Ok(())
    }

    /// Records that a job has ended and that the caller of its command does not know it yet.
    pub fn mark_untold(&self, id: &str) -> Result<()> {
        self.set_untold(id, true)
    }

    /// Records that the command that delivered a job has ended too. A power cut may take that.
    pub fn mark_told(&self, id: &str) -> Result<()> {
        // A merge of the log would sync, and a kill could come between it and the end of the process.
        self.db.pragma_update(None, "wal_autocheckpoint", 0).map_err(|e| damaged(&self.path, &e))?;
        self.unsynced(|| self.set_untold(id, false))
    }

    fn set_untold(&self, id: &str, untold: bool) -> Result<()> {
        let set = self.db.execute("UPDATE job SET untold = ?2 WHERE id = ?1", params![id, untold]);
        set.map(drop).map_err(|e| damaged(&self.path, &e))
    }

    /// The newest job with this key.
    pub fn last_of(&self, key: &str) -> Result<Option<Job>> {
        self.one(&format!("SELECT {COLUMNS} FROM job WHERE key = ?1 ORDER BY seq DESC LIMIT 1"), key)
    }

    /// All jobs with this key, newest first.
    pub fn all_of(&self, key: &str) -> Result<Vec<Job>> {
        self.many(&format!("SELECT {COLUMNS} FROM job WHERE key = ?1 ORDER BY seq DESC"), key)
    }

    /// All jobs of this content, newest first: batch jobs, which have it as their key, and realtime jobs, which name it in
    /// their specification.
    pub fn of_content(&self, content: &str) -> Result<Vec<Job>> {
        self.many(
            &format!("SELECT {COLUMNS} FROM job WHERE key = ?1 OR instr(spec, ?1) > 0 ORDER BY seq DESC"),
            content,
        )
    }

    /// The newest jobs, newest first.
    pub fn recent(&self, limit: u32) -> Result<Vec<Job>> {
        self.many(&format!("SELECT {COLUMNS} FROM job ORDER BY seq DESC LIMIT ?1"), limit)
    }

    /// The jobs whose batches may still cost money, newest first.
    pub fn unsettled(&self) -> Result<Vec<Job>> {
        // A batch job is settled when its results were delivered. A realtime job may have been retried in batches.
        let ended: Vec<String> = JobState::ALL
            .into_iter()
            .filter(|state| state.ended())
            .map(|state| format!("'{}'", state.as_str()))
            .collect();
        let sql = format!(
            "SELECT {COLUMNS} FROM job WHERE state NOT IN ({}) OR (transport = ?1 AND NOT delivered) ORDER BY seq DESC",
            ended.join(", ")
        );
        self.many(&sql, Transport::Batch.as_str())
    }

    /// Names a job.
    pub fn rename(&self, id: &str, name: &str) -> Result<()> {
        let renamed = self.db.execute("UPDATE job SET name = ?2 WHERE id = ?1", [id, name]);
        renamed.map(drop).map_err(|e| damaged(&self.path, &e))
    }

    /// Writes a job as its own database has it. Call it within [`Ledger::decide`].
    pub(super) fn restore(&self, job: &Job) -> Result<()> {
        let insert = "INSERT INTO job (id, name, key, transport, state, created_at, updated_at, input, spec)
             VALUES (:id, :name, :key, :transport, :state, :at, :at, :input, :spec)";
        let inserted = self.db.execute(
            insert,
            named_params! {
                ":id": job.id, ":name": job.name, ":key": job.key, ":transport": job.transport.as_str(),
                ":state": job.state.as_str(), ":at": job.created_at, ":input": job.input, ":spec": job.spec,
            },
        );
        inserted.map_err(|e| damaged(&self.path, &e))?;
        self.update(job)?;
        // Its cost counts for the day of its last change, as before.
        let dated = self.db.execute("UPDATE job SET updated_at = ?2 WHERE id = ?1", params![job.id, job.updated_at]);
        dated.map(drop).map_err(|e| damaged(&self.path, &e))
    }

    /// Returns whether every job has a copy of its entry.
    pub(super) fn entries_are_copied(&self) -> Result<bool> {
        let mark: i32 = self
            .db
            .pragma_query_value(None, "application_id", |row| row.get(0))
            .map_err(|e| damaged(&self.path, &e))?;
        Ok(mark == ENTRIES_COPIED)
    }

    /// Records that every job has a copy of its entry.
    pub(super) fn record_entries_copied(&self) -> Result<()> {
        self.db.pragma_update(None, "application_id", ENTRIES_COPIED).map_err(|e| damaged(&self.path, &e))
    }

    /// The ids of all jobs.
    pub(super) fn ids(&self) -> Result<HashSet<String>> {
        let read = || -> rusqlite::Result<_> {
            self.db.prepare("SELECT id FROM job")?.query_map([], |row| row.get(0))?.collect()
        };
        read().map_err(|e| damaged(&self.path, &e))
    }

    /// Records that the user has removed a job, and removes it from the index.
    pub(super) fn remove(&self, job: &Job) -> Result<()> {
        let record = "INSERT OR REPLACE INTO removed (id, name) VALUES (?1, ?2)";
        self.decide(|| {
            self.db.execute(record, params![job.id, job.name]).map_err(|e| damaged(&self.path, &e))?;
            self.drop_answers(&job.id)?;
            self.forget(&job.id)
        })
    }

    /// The id of a removed job, by its id or its name.
    pub fn removed(&self, name: &str) -> Result<Option<String>> {
        let found = "SELECT id FROM removed WHERE id = ?1 OR name = ?1 LIMIT 1";
        self.db.query_row(found, [name], |row| row.get(0)).optional().map_err(|e| damaged(&self.path, &e))
    }

    /// Removes a job from the index.
    pub(super) fn forget(&self, id: &str) -> Result<()> {
        self.db.execute("DELETE FROM job WHERE id = ?1", [id]).map_err(|e| damaged(&self.path, &e))?;
        Ok(())
    }

    /// Finds the job that a user names by its id, a unique prefix of its id, its name, or `last`.
    ///
    /// # Errors
    /// 2 if there is none or more than one.
    pub fn find(&self, name: &str) -> Result<Job> {
        self.find_any(name)?.ok_or_else(|| match name {
            "last" => Error::usage("there is no job yet").hint("`llbatch run FILE` starts one"),
            _ => Error::usage(format!("no job `{name}`")).hint("`llbatch status` lists the jobs"),
        })
    }

    /// The same, where the job need not exist.
    ///
    /// # Errors
    /// 2 if there is more than one.
    pub fn find_any(&self, name: &str) -> Result<Option<Job>> {
        if name == "last" {
            return Ok(self.recent(1)?.pop());
        }
        if let Some(job) = self.get(name)? {
            return Ok(Some(job));
        }
        if let Some(job) =
            self.one(&format!("SELECT {COLUMNS} FROM job WHERE name = ?1 ORDER BY seq DESC LIMIT 1"), name)?
        {
            return Ok(Some(job));
        }
        let prefix = if name.starts_with("j-") { name.to_owned() } else { format!("j-{name}") };
        let mut found = self.many(
            &format!("SELECT {COLUMNS} FROM job WHERE substr(id, 1, length(?1)) = ?1 ORDER BY seq DESC LIMIT 5"),
            prefix,
        )?;
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => {
                let ids: Vec<&str> = found.iter().map(|j| j.id.as_str()).collect();
                Err(Error::usage(format!("`{name}` matches several jobs: {}", ids.join(", "))))
            }
        }
    }

    /// The job with this id.
    pub fn get(&self, id: &str) -> Result<Option<Job>> {
        self.one(&format!("SELECT {COLUMNS} FROM job WHERE id = ?1"), id)
    }

    pub(super) fn db(&self) -> &Connection {
        &self.db
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn one(&self, sql: &str, param: &str) -> Result<Option<Job>> {
        self.db.query_row(sql, [param], read).optional().map_err(|e| damaged(&self.path, &e))
    }

    fn many(&self, sql: &str, param: impl rusqlite::ToSql) -> Result<Vec<Job>> {
        let query =
            || -> rusqlite::Result<Vec<Job>> { self.db.prepare_cached(sql)?.query_map([param], read)?.collect() };
        query().map_err(|e| damaged(&self.path, &e))
    }
}

/// A random id of eight characters that are hard to mix up when read aloud.
fn new_id() -> String {
    const LETTERS: &[u8] = b"abcdefghjkmnpqrstvwxyz0123456789";
    let tail: String = (0..8).map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())])).collect();
    format!("j-{tail}")
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::Nanos;

    fn job(name: Option<&str>, key: &str) -> Job {
        Job {
            name: name.map(str::to_owned),
            state: JobState::Running,
            total: 3,
            ..Job::new(Transport::Realtime, key.to_owned(), "in.jsonl".to_owned(), "{}".to_owned())
        }
    }

    #[test]
    fn job_is_found_by_every_name_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
        assert_eq!(ledger.find("last").unwrap_err().exit, Exit::Usage);
        let first = ledger.create(job(Some("nightly"), "k")).unwrap();
        let second = ledger.create(job(None, "k")).unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(ledger.find("last").unwrap().id, second.id);
        assert_eq!(ledger.find("nightly").unwrap().id, first.id);
        assert_eq!(ledger.find(&first.id).unwrap().id, first.id);
        assert_eq!(ledger.find(&first.id[..8]).unwrap().id, first.id);
        assert_eq!(ledger.find(&first.id[2..9]).unwrap().id, first.id);
        assert!(ledger.find("j-").unwrap_err().message.contains(&second.id));
        assert!(ledger.find("%").is_err());
        let all: Vec<String> = ledger.all_of("k").unwrap().into_iter().map(|j| j.id).collect();
        assert_eq!(all, [second.id.clone(), first.id.clone()]);
        assert_eq!(ledger.last_of("k").unwrap().map(|j| j.id), Some(second.id));
    }

    #[test]
    fn many_processes_may_upgrade_an_old_index_at_once() {
        for _ in 0..6 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ledger.db");
            let kept = Ledger::open(&path).unwrap().create(job(None, "k")).unwrap().id;
            // An earlier llbatch left the index without these columns.
            let old = rusqlite::Connection::open(&path).unwrap();
            for AddedColumn { table, name, .. } in TABLES.added {
                old.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN {name}")).unwrap();
            }
            old.pragma_update(None, "user_version", 1).unwrap();
            drop(old);
            std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| Ledger::open(&path).unwrap().find(&kept).unwrap());
                }
            });
        }
    }

    #[test]
    fn many_processes_may_open_a_new_index_at_once() {
        for _ in 0..10 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("ledger.db");
            std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| Ledger::open(&path).unwrap().create(job(None, "k")).unwrap());
                }
            });
            assert_eq!(Ledger::open(&path).unwrap().all_of("k").unwrap().len(), 16);
        }
    }

    #[test]
    fn what_is_noted_and_what_is_decided_reach_every_other_connection() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let ledger = Ledger::open(&path).unwrap();
        assert!(ledger.entries_are_copied().unwrap(), "a new index has no job without a copy");
        let other = Ledger::open(&path).unwrap();
        let mut job = ledger.decide(|| ledger.create(job(None, "k"))).unwrap();
        job.succeeded = 1;
        ledger.note_progress(&job).unwrap();
        assert_eq!(other.get(&job.id).unwrap().map(|job| job.succeeded), Some(1));
        let failed = other.decide(|| {
            other.decide(|| other.rename(&job.id, "inner"))?;
            Err::<(), _>(Error::usage("no"))
        });
        assert!(failed.is_err() && ledger.get(&job.id).unwrap().unwrap().name.is_none(), "an inner one is a part");
        let mode: i64 = other.db.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!(mode, 2, "FULL");
        // The log stays for the next command.
        drop((ledger, other));
        assert!(std::fs::metadata(path.with_extension("db-wal")).unwrap().len() > 0);
        assert_eq!(Ledger::open(&path).unwrap().all_of("k").unwrap().len(), 1);
    }

    #[test]
    fn updated_job_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
        let mut job = ledger.create(job(None, "k")).unwrap();
        job.state = JobState::Partial;
        job.cost = Some(Nanos(1_234_567_890_123));
        job.succeeded = 2;
        job.failed = 1;
        job.exit = Some(3);
        job.estimate = Some(Nanos(7));
        job.delivered = true;
        ledger.mark_untold(&job.id).unwrap();
        ledger.update(&job).unwrap();
        let mut read = ledger.find(&job.id).unwrap();
        assert!(read.untold, "an update leaves the mark as it is");
        ledger.mark_told(&job.id).unwrap();
        assert!(!ledger.find(&job.id).unwrap().untold);
        (read.updated_at, read.untold) = (job.updated_at, false);
        assert_eq!(read, job);
    }
}
