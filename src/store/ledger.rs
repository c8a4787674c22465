//! The index of jobs.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{damaged, open_db};
use crate::error::{Error, Exit, Result};
use crate::price::Nanos;

/// How a job is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Requests in flight now.
    Realtime,
    /// Together batch jobs.
    Batch,
}

impl Transport {
    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Batch => "batch",
        }
    }
}

/// Where a job is (contract, `status --json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Being set up.
    Preparing,
    /// Being answered.
    Running,
    /// Ended; every row was answered.
    Completed,
    /// Ended; some rows failed.
    Partial,
    /// Ended; every row failed.
    Failed,
    /// Cancelled by the user.
    Cancelled,
    /// The service gave up on it.
    Expired,
    /// Stopped before its end; the same command goes on.
    Interrupted,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Preparing,
        Self::Running,
        Self::Completed,
        Self::Partial,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Interrupted,
    ];

    /// As it stands in JSON and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the job has come to its end.
    #[must_use]
    pub const fn ended(self) -> bool {
        !matches!(self, Self::Preparing | Self::Running | Self::Interrupted)
    }
}

/// A job as the index knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// `j-` and 8 characters.
    pub id: String,
    /// Given by `--name`.
    pub name: Option<String>,
    /// Same for the same command.
    pub key: String,
    /// How it is answered.
    pub transport: Transport,
    /// Where it is. A `Running` job whose lock is free was killed.
    pub state: State,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970.
    pub updated_at: i64,
    /// The inputs as typed.
    pub input: String,
    /// JSON: what is needed to go on.
    pub spec: String,
    /// Rows of the input.
    pub total: u64,
    /// Rows answered.
    pub succeeded: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Spent so far; `None`: unknown price.
    pub cost: Option<Nanos>,
    /// Time that some process worked on it.
    pub active_ms: u64,
    /// How its last command ended.
    pub exit: Option<u8>,
    /// What it may cost; `None`: not known.
    pub estimate: Option<Nanos>,
    /// Whether its results were written somewhere.
    pub delivered: bool,
}

impl Job {
    /// A job that is about to be made: without an id, with nothing done yet. `spec` is its JSON.
    #[must_use]
    pub fn new(transport: Transport, key: String, input: String, spec: String) -> Self {
        Self {
            id: String::new(),
            name: None,
            key,
            transport,
            state: State::Preparing,
            created_at: 0,
            updated_at: 0,
            input,
            spec,
            total: 0,
            succeeded: 0,
            failed: 0,
            cost: None,
            active_ms: 0,
            exit: None,
            estimate: None,
            delivered: false,
        }
    }
}

/// The open index.
#[derive(Debug)]
pub struct Ledger {
    db: Connection,
    path: PathBuf,
}

const COLUMNS: &str = "id, name, key, transport, state, created_at, updated_at, input, spec, total, succeeded, failed, nanos, active_ms, exit, estimate, delivered";

/// What format 1 lacked.
const UPGRADE: &str = "ALTER TABLE job ADD COLUMN estimate INTEGER;
    ALTER TABLE job ADD COLUMN delivered INTEGER NOT NULL DEFAULT 0;";

impl Ledger {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let db = open_db(path, include_str!("ledger.sql"), UPGRADE)?;
        // Few and precious commits: each one is on the disk before anything follows from it.
        db.pragma_update(None, "synchronous", "FULL").map_err(|e| damaged(path, &e))?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// Writes a new job. Its `id` is chosen here; `created_at` and `updated_at` are now.
    ///
    /// # Errors
    /// 74 if it cannot be written.
    pub fn create(&self, mut job: Job) -> Result<Job> {
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

    /// Writes what changed of a job.
    ///
    /// # Errors
    /// 74 if it cannot be written.
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

    /// The last job of the command with this key.
    ///
    /// # Errors
    /// 74 if the index cannot be read.
    pub fn last_of(&self, key: &str) -> Result<Option<Job>> {
        self.one(&format!("SELECT {COLUMNS} FROM job WHERE key = ?1 ORDER BY seq DESC LIMIT 1"), key)
    }

    /// All jobs with this key, newest first.
    ///
    /// # Errors
    /// 74 if the index cannot be read.
    pub fn all_of(&self, key: &str) -> Result<Vec<Job>> {
        self.many(&format!("SELECT {COLUMNS} FROM job WHERE key = ?1 ORDER BY seq DESC"), key)
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// 74 if the index cannot be read.
    pub fn recent(&self, limit: u32) -> Result<Vec<Job>> {
        self.many(&format!("SELECT {COLUMNS} FROM job ORDER BY seq DESC LIMIT ?1"), limit)
    }

    /// Gives a job a name.
    ///
    /// # Errors
    /// 74 if it cannot be written.
    pub fn rename(&self, id: &str, name: &str) -> Result<()> {
        let renamed = self.db.execute("UPDATE job SET name = ?2 WHERE id = ?1", [id, name]);
        renamed.map(drop).map_err(|e| damaged(&self.path, &e))
    }

    /// Takes a job out of the index.
    ///
    /// # Errors
    /// 74 if it cannot be written.
    pub fn forget(&self, id: &str) -> Result<()> {
        self.db.execute("DELETE FROM job WHERE id = ?1", [id]).map_err(|e| damaged(&self.path, &e))?;
        Ok(())
    }

    /// The job that a user names: by id, a unique prefix of it, its name, or `last`.
    ///
    /// # Errors
    /// 2 if there is none or more than one.
    pub fn find(&self, name: &str) -> Result<Job> {
        if name == "last" {
            return self
                .recent(1)?
                .pop()
                .ok_or_else(|| Error::usage("there is no job yet").hint("`llbatch run FILE` makes one"));
        }
        if let Some(job) = self.get(name)? {
            return Ok(job);
        }
        if let Some(job) =
            self.one(&format!("SELECT {COLUMNS} FROM job WHERE name = ?1 ORDER BY seq DESC LIMIT 1"), name)?
        {
            return Ok(job);
        }
        let prefix = if name.starts_with("j-") { name.to_owned() } else { format!("j-{name}") };
        let mut found = self.many(
            &format!("SELECT {COLUMNS} FROM job WHERE substr(id, 1, length(?1)) = ?1 ORDER BY seq DESC LIMIT 5"),
            prefix,
        )?;
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Error::usage(format!("no job `{name}`")).hint("`llbatch status` lists the jobs")),
            _ => {
                let ids: Vec<&str> = found.iter().map(|j| j.id.as_str()).collect();
                Err(Error::usage(format!("`{name}` is the beginning of several jobs: {}", ids.join(", "))))
            }
        }
    }

    /// The job with this id.
    ///
    /// # Errors
    /// 74 if the index cannot be read.
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

fn nanos(amount: Nanos) -> i64 {
    i64::try_from(amount.0).unwrap_or(i64::MAX)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    let transport: String = row.get(3)?;
    let state: String = row.get(4)?;
    Ok(Job {
        id: row.get(0)?,
        name: row.get(1)?,
        key: row.get(2)?,
        transport: if transport == "batch" { Transport::Batch } else { Transport::Realtime },
        state: State::ALL.into_iter().find(|s| s.as_str() == state).unwrap_or(State::Interrupted),
        created_at: row.get(5)?,
        updated_at: row.get(6)?,
        input: row.get(7)?,
        spec: row.get(8)?,
        total: row.get::<_, i64>(9)?.cast_unsigned(),
        succeeded: row.get::<_, i64>(10)?.cast_unsigned(),
        failed: row.get::<_, i64>(11)?.cast_unsigned(),
        cost: row.get::<_, Option<i64>>(12)?.map(|n| Nanos(n.into())),
        active_ms: row.get::<_, i64>(13)?.cast_unsigned(),
        exit: row.get(14)?,
        estimate: row.get::<_, Option<i64>>(15)?.map(|n| Nanos(n.into())),
        delivered: row.get(16)?,
    })
}

/// Eight characters that nobody mistakes for others when reading them aloud.
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

    fn job(name: Option<&str>, key: &str) -> Job {
        Job {
            name: name.map(str::to_owned),
            state: State::Running,
            total: 3,
            ..Job::new(Transport::Realtime, key.to_owned(), "in.jsonl".to_owned(), "{}".to_owned())
        }
    }

    #[test]
    fn a_job_is_found_by_every_name_it_has() {
        let dir = tempfile::tempdir().expect("a directory");
        let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a ledger");
        assert_eq!(ledger.find("last").expect_err("none yet").exit, Exit::Usage);
        let first = ledger.create(job(Some("nightly"), "k")).expect("a job");
        let second = ledger.create(job(None, "k")).expect("a job");
        assert_ne!(first.id, second.id);
        assert_eq!(ledger.find("last").expect("last").id, second.id);
        assert_eq!(ledger.find("nightly").expect("by name").id, first.id);
        assert_eq!(ledger.find(&first.id).expect("by id").id, first.id);
        assert_eq!(ledger.find(&first.id[..8]).expect("by prefix").id, first.id);
        assert_eq!(ledger.find(&first.id[2..9]).expect("by prefix without j-").id, first.id);
        assert!(ledger.find("j-").expect_err("ambiguous").message.contains(&second.id));
        assert!(ledger.find("%").is_err());
        let all: Vec<String> = ledger.all_of("k").expect("a query").into_iter().map(|j| j.id).collect();
        assert_eq!(all, [second.id.clone(), first.id.clone()]);
        assert_eq!(ledger.last_of("k").expect("a query").map(|j| j.id), Some(second.id));
    }

    #[test]
    fn many_may_bring_up_an_old_index_at_once() {
        for _ in 0..6 {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("ledger.db");
            let kept = Ledger::open(&path).expect("a ledger").create(job(None, "k")).expect("a job").id;
            // As an earlier llbatch left it.
            let old = rusqlite::Connection::open(&path).expect("a database");
            for added in UPGRADE.split(';').filter(|text| !text.trim().is_empty()) {
                let words: Vec<&str> = added.split_whitespace().collect();
                old.execute_batch(&format!("ALTER TABLE {} DROP COLUMN {}", words[2], words[5])).expect("a column");
            }
            old.pragma_update(None, "user_version", 1).expect("a format");
            drop(old);
            std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| Ledger::open(&path).expect("a ledger").find(&kept).expect("the job"));
                }
            });
        }
    }

    #[test]
    fn many_may_open_a_new_index_at_once() {
        for _ in 0..10 {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("ledger.db");
            std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| Ledger::open(&path).expect("a ledger").create(job(None, "k")).expect("a job"));
                }
            });
            assert_eq!(Ledger::open(&path).expect("a ledger").all_of("k").expect("jobs").len(), 16);
        }
    }

    #[test]
    fn what_is_updated_is_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a ledger");
        let mut job = ledger.create(job(None, "k")).expect("a job");
        job.state = State::Partial;
        job.cost = Some(Nanos(1_234_567_890_123));
        job.succeeded = 2;
        job.failed = 1;
        job.exit = Some(3);
        job.estimate = Some(Nanos(7));
        job.delivered = true;
        ledger.update(&job).expect("an update");
        let mut read = ledger.find(&job.id).expect("the job");
        read.updated_at = job.updated_at;
        assert_eq!(read, job);
    }
}
