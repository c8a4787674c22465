//! The Together batches of a job: their plan, their state at the service, their rows.
//!
//! llbatch records each step of a batch on disk before it takes the step. A process that resumes the job after a kill
//! therefore knows what may have happened.

mod asked;

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{JobDb, damaged};
use crate::error::{Error, Exit, Result};
use crate::price::Nanos;
pub use asked::Asked;

/// The steps of a batch, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchStep {
    /// Its file is on the local disk. llbatch may upload it any number of times.
    #[default]
    Planned,
    /// The service has its file.
    Uploaded,
    /// The request that creates it may have been sent. Only the service's list tells whether the service received it.
    Creating,
    /// The service has given it an id.
    Submitted,
    /// The service has rejected it.
    Refused,
    /// It has ended, and its results are among the job's outcomes.
    Settled,
}

/// One Together batch of a job, stored as JSON. The default is a planned batch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BatchJob {
    /// Number of the batch, 1-based over all submissions of the job.
    pub number: u32,
    /// The model of all its rows.
    pub model: String,
    /// The endpoint as the service spells it: `/v1/chat/completions`.
    pub endpoint: String,
    /// Number of its rows.
    pub rows: u64,
    /// Size of its file.
    pub bytes: u64,
    /// Hash of its file, in lower-case hex.
    pub sha256: String,
    /// Name of its file, unique to this batch.
    pub name: String,
    /// The step that it has reached.
    pub step: BatchStep,
    /// The service's id of its file.
    pub file_id: Option<String>,
    /// Batches of other programs: the service listed them with this file before llbatch created its own.
    #[serde(default)]
    pub others: Vec<String>,
    /// Time of the last request that creates it, in milliseconds since 1970.
    pub begun_at: Option<i64>,
    /// The same time by the service's clock, if known.
    pub begun_there: Option<i64>,
    /// Number of requests that create it.
    #[serde(default)]
    pub tries: u32,
    /// A hash of the key, which tells accounts apart.
    pub account: Option<String>,
    /// The service's id.
    pub id: Option<String>,
    /// The service's last status, in capitals.
    pub status: Option<String>,
    /// Progress in percent.
    pub progress: Option<f64>,
    /// The service's id of the file of answers.
    pub output_file_id: Option<String>,
    /// The service's id of the file of failures.
    pub error_file_id: Option<String>,
    /// The reason of its failure or rejection.
    pub error: Option<String>,
    /// Deadline in RFC 3339.
    pub deadline: Option<String>,
    /// Creation time in RFC 3339.
    pub created_at: Option<String>,
    /// Completion time in RFC 3339.
    pub completed_at: Option<String>,
    /// The most that it can cost; `None`: unknown.
    pub most: Option<Nanos>,
    /// The budgets admit it.
    #[serde(default)]
    pub admitted: bool,
    /// The user has cancelled it.
    #[serde(default)]
    pub cancel: bool,
    /// It has a final status, or the service will never begin it.
    #[serde(default)]
    pub ended: bool,
    /// Time since which the service does not know its id, in milliseconds since 1970.
    pub unknown_since: Option<i64>,
    /// Number of answers in a row by which the service did not know its id.
    #[serde(default)]
    pub unknown_times: u32,
    /// The breach of contract that the service committed in its results.
    pub broken: Option<String>,
}

impl BatchJob {
    /// Returns whether its rows still wait for an outcome.
    pub fn is_open(&self) -> bool {
        self.step != BatchStep::Settled
    }

    /// Returns whether llbatch has not asked the service to create it yet.
    pub const fn is_unsent(&self) -> bool {
        matches!(self.step, BatchStep::Planned | BatchStep::Uploaded)
    }
}

/// The place of a body in the downloaded files of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyPlace {
    /// It is in the file of failures, not in the file of answers.
    pub errors: bool,
    /// Offset of its first byte.
    pub at: u64,
    /// Length in bytes.
    pub len: u32,
}

impl JobDb {
    /// All batches of the job, by number.
    pub fn batches(&self) -> Result<Vec<BatchJob>> {
        let texts: Vec<String> = self.run(|db| {
            let mut statement = db.prepare_cached("SELECT data FROM batch ORDER BY number")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })?;
        texts
            .iter()
            .map(|text| {
                serde_json::from_str(text)
                    .map_err(|e| damaged(self.path(), &rusqlite::Error::ToSqlConversionFailure(Box::new(e))))
            })
            .collect()
    }

    /// Writes a new or changed batch, and commits it with the open group. See [`Self::save_batch`].
    pub fn put_batch(&mut self, batch: &BatchJob) -> Result<()> {
        let data = serde_json::to_string(batch)
            .map_err(|e| Error::new(Exit::Failure, "a batch cannot be described").because(e))?;
        self.begin()?;
        self.run(|db| {
            db.prepare_cached("INSERT OR REPLACE INTO batch (number, data) VALUES (?1, ?2)")?
                .execute(params![batch.number, data])
        })?;
        Ok(())
    }

    /// Writes a batch to the disk at once.
    pub fn save_batch(&mut self, batch: &BatchJob) -> Result<()> {
        self.put_batch(batch)?;
        self.commit(true)
    }

    /// The body at a place in a batch's files.
    pub fn body(&self, batch: u32, place: BodyPlace) -> Result<Box<str>> {
        self.answers.body(batch, place)
    }
}

#[cfg(test)]
mod tests;
