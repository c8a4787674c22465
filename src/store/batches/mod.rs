//! The Together batches of a job: what is intended, what is known of each, which rows it was asked, what it answered.
//!
//! A batch is written down before each act on it, and on the disk before the act: whoever comes after a killed process
//! finds what may have happened.

mod asked;

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{JobDb, damaged};
use crate::error::{Error, Exit, Result};
use crate::price::Nanos;

/// How far a batch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Its file is on our disk; it may be uploaded any number of times.
    Planned,
    /// Its file is with the service.
    Uploaded,
    /// The request that creates it may have been sent. Whether it was received, the service's list must tell.
    Creating,
    /// It has an id.
    Submitted,
    /// The service said that it will not have it.
    Refused,
    /// It ended, and its results are among the job's outcomes.
    Settled,
}

/// One Together batch of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchJob {
    /// 1-based over all submissions of the job.
    pub number: u32,
    /// The model of all its rows.
    pub model: String,
    /// As the service is told: `/v1/chat/completions`.
    pub endpoint: String,
    /// Its rows.
    pub rows: u64,
    /// Size of its file.
    pub bytes: u64,
    /// Of its file, lower-case hex.
    pub sha256: String,
    /// Its file's name, unique to this batch.
    pub name: String,
    /// How far it has come.
    pub step: Step,
    /// The service's id of its file.
    #[serde(default)]
    pub file_id: Option<String>,
    /// Batches that the service listed with this file before ours was created: they are not ours.
    #[serde(default)]
    pub others: Vec<String>,
    /// When its creation was last begun, in milliseconds since 1970.
    #[serde(default)]
    pub begun_at: Option<i64>,
    /// The same by the service's clock, if it had told the time.
    #[serde(default)]
    pub begun_there: Option<i64>,
    /// How often its creation was begun.
    #[serde(default)]
    pub tries: u32,
    /// Tells accounts apart: a hash of the key that was used.
    #[serde(default)]
    pub account: Option<String>,
    /// The service's id.
    #[serde(default)]
    pub id: Option<String>,
    /// The service's last word on where it is, in capitals.
    #[serde(default)]
    pub status: Option<String>,
    /// Percent.
    #[serde(default)]
    pub progress: Option<f64>,
    /// Answers.
    #[serde(default)]
    pub output_file_id: Option<String>,
    /// Failures.
    #[serde(default)]
    pub error_file_id: Option<String>,
    /// Why it failed or was refused.
    #[serde(default)]
    pub error: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub deadline: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub created_at: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub completed_at: Option<String>,
    /// The most that it can cost; `None`: not known.
    #[serde(default)]
    pub most: Option<Nanos>,
    /// The budgets let it be submitted.
    #[serde(default)]
    pub admitted: bool,
    /// The user wants it to end.
    #[serde(default)]
    pub cancel: bool,
    /// The service has ended it (its status is final), or will never begin it.
    #[serde(default)]
    pub ended: bool,
    /// Since when the service does not know its id, in milliseconds since 1970.
    #[serde(default)]
    pub unknown_since: Option<i64>,
    /// How often it said so, one after the other.
    #[serde(default)]
    pub unknown_times: u32,
    /// The service broke its contract in the results.
    #[serde(default)]
    pub broken: Option<String>,
}

impl BatchJob {
    /// Returns whether its rows still wait for an outcome.
    pub fn is_open(&self) -> bool {
        self.step != Step::Settled
    }

    /// Returns whether llbatch has not asked the service to create it yet.
    pub const fn is_unsent(&self) -> bool {
        matches!(self.step, Step::Planned | Step::Uploaded)
    }
}

/// Where in a batch's files a body stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyPlace {
    /// In the file of failures, not in that of answers.
    pub errors: bool,
    /// From this byte on.
    pub at: u64,
    /// Bytes.
    pub len: u32,
}

impl JobDb {
    /// The job's batches, in their order.
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

    /// Writes a batch, new or changed; with the open group. [`Self::save_batch`] for what must be on the disk at once.
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

    /// Writes a batch; it is on the disk when this returns.
    pub fn save_batch(&mut self, batch: &BatchJob) -> Result<()> {
        self.put_batch(batch)?;
        self.commit(true)
    }

    /// The body at a place of a batch's files.
    pub fn body(&self, batch: u32, place: BodyPlace) -> Result<Box<str>> {
        self.answers.body(batch, place)
    }
}

#[cfg(test)]
mod tests;
