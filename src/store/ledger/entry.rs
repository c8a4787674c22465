//! A job as the index knows it.

use rusqlite::Row;

use crate::outcome::Transport;
use crate::price::Nanos;

/// Where a job is (contract, `status --json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
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

impl JobState {
    pub(super) const ALL: [Self; 8] = [
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
    pub state: JobState,
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
    /// The service that it is with, as its record names it; `None` if the record cannot be read.
    pub fn service(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Spec {
            service: String,
        }
        serde_json::from_str(&self.spec).ok().map(|spec: Spec| spec.service)
    }

    /// Whether it ran against the built-in server, so that nothing was paid.
    pub fn is_rehearsal(&self) -> bool {
        self.service().is_some_and(|service| service == "sandbox")
    }

    /// A job that is about to be made: without an id, with nothing done yet. `spec` is its JSON.
    pub fn new(transport: Transport, key: String, input: String, spec: String) -> Self {
        Self {
            id: String::new(),
            name: None,
            key,
            transport,
            state: JobState::Preparing,
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

pub(super) const COLUMNS: &str = "id, name, key, transport, state, created_at, updated_at, input, spec, total, succeeded, failed, nanos, active_ms, exit, estimate, delivered";

pub(super) fn nanos(amount: Nanos) -> i64 {
    i64::try_from(amount.0).unwrap_or(i64::MAX)
}

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    let transport: String = row.get(3)?;
    let state: String = row.get(4)?;
    Ok(Job {
        id: row.get(0)?,
        name: row.get(1)?,
        key: row.get(2)?,
        transport: if transport == "batch" { Transport::Batch } else { Transport::Realtime },
        state: JobState::ALL.into_iter().find(|s| s.as_str() == state).unwrap_or(JobState::Interrupted),
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
