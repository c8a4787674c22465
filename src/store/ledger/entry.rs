//! The entry of a job in the index.

use std::collections::BTreeMap;

use rusqlite::Row;
use serde::{Deserialize, Serialize};

use crate::outcome::Transport;
use crate::price::Nanos;

/// The state of a job (contract, `status --json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// llbatch is setting the job up.
    Preparing,
    /// Rows are being answered.
    Running,
    /// The job has ended, and every row is answered.
    Completed,
    /// The job has ended, and some rows failed.
    Partial,
    /// The job has ended, and every row failed.
    Failed,
    /// The user cancelled the job.
    Cancelled,
    /// The service's batches expired before their end.
    Expired,
    /// The command stopped before the job's end. The same command resumes the job.
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

    /// The name in JSON documents, in tables and in the ledger.
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

    /// Returns whether the job has ended.
    pub const fn ended(self) -> bool {
        !matches!(self, Self::Preparing | Self::Running | Self::Interrupted)
    }
}

/// Tags of a job: names and values.
pub type Tags = BTreeMap<String, String>;

/// The entry of a job in the index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// `j-` and 8 characters.
    pub id: String,
    /// Name from `--name`.
    pub name: Option<String>,
    /// A hash that is equal for equal commands.
    pub key: String,
    /// Transport of its requests.
    pub transport: Transport,
    /// State of the job. A `Running` job without a lock holder was killed.
    pub state: JobState,
    /// Creation time, in milliseconds since 1970.
    pub created_at: i64,
    /// Time of the last change, in milliseconds since 1970.
    pub updated_at: i64,
    /// The inputs as the user typed them.
    pub input: String,
    /// The job's specification as JSON, from which llbatch resumes it.
    pub spec: String,
    /// Number of rows of the input.
    pub total: u64,
    /// Number of answered rows.
    pub succeeded: u64,
    /// Number of failed rows.
    pub failed: u64,
    /// Cost so far; `None`: the price is unknown.
    pub cost: Option<Nanos>,
    /// Milliseconds that processes worked on it.
    pub active_ms: u64,
    /// Exit code of its last command.
    pub exit: Option<u8>,
    /// Estimated cost; `None`: unknown.
    pub estimate: Option<Nanos>,
    /// Its results were written to an output.
    pub delivered: bool,
    /// It has ended, but the command that delivered it was killed before its own end. Only the index has this.
    #[serde(skip)]
    pub untold: bool,
}

/// The service and the tags in a job's specification.
#[derive(Deserialize)]
struct PartOfSpec {
    service: String,
    #[serde(default)]
    service_name: Option<String>,
    #[serde(default)]
    tags: Tags,
}

/// The identity of a service: the name in the config file, or the base URL of one without a name. A name stays the same
/// service wherever it moves. Two names for one URL are two services, with a key each.
pub fn service_identity(name: Option<&str>, base_url: &str) -> String {
    // No base URL ends so.
    name.map_or_else(|| base_url.to_owned(), |name| format!("{name}="))
}

impl Job {
    /// The base URL of the service in its specification, or `sandbox`; `None` if that cannot be read.
    pub fn service(&self) -> Option<String> {
        self.part_of_spec().map(|spec| spec.service)
    }

    /// The name of its service in the config file, if it had one there.
    pub fn service_name(&self) -> Option<String> {
        self.part_of_spec()?.service_name
    }

    /// The identity of its service: see [`service_identity`].
    pub fn service_identity(&self) -> Option<String> {
        let PartOfSpec { service, service_name, .. } = self.part_of_spec()?;
        Some(service_identity(service_name.as_deref(), &service))
    }

    /// The tags in its specification.
    pub fn tags(&self) -> Tags {
        self.part_of_spec().map(|spec| spec.tags).unwrap_or_default()
    }

    fn part_of_spec(&self) -> Option<PartOfSpec> {
        serde_json::from_str(&self.spec).ok()
    }

    /// Returns whether its service is the sandbox, where nothing is charged.
    pub fn is_of_sandbox(&self) -> bool {
        self.service().is_some_and(|service| service == "sandbox")
    }

    /// A new job, without an id and without progress. `spec` is its specification as JSON.
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
            untold: false,
        }
    }
}

pub(super) const COLUMNS: &str = "id, name, key, transport, state, created_at, updated_at, input, spec, total, succeeded, failed, nanos, active_ms, exit, estimate, delivered, untold";

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
        untold: row.get(17)?,
    })
}
