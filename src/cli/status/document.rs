//! The document of `status --json`.

use serde::Serialize;

use crate::api::batches::Batch;
use crate::error::Result;
use crate::input::Shard;
use crate::job::batch::status::{self, JobStatus};
use crate::price::Nanos;
use crate::store::{BatchStep, JobBatch, Ledger, Store, Tags};

#[derive(Serialize)]
pub(in crate::cli) struct StatusDocument {
    pub(super) version: u8,
    pub(super) jobs: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remote: Option<Vec<RemoteLine>>,
}

#[derive(Serialize)]
pub(super) struct Entry {
    job: String,
    name: Option<String>,
    transport: &'static str,
    state: &'static str,
    created_at: String,
    input: String,
    /// The part of the input that it works on, such as `2/8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<Shard>,
    tags: Tags,
    rows: Rows,
    cost: Cost,
    /// The built-in server answers the job, so it costs nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sandbox: bool,
    batches: Vec<BatchLine>,
}

#[derive(Serialize)]
struct Rows {
    total: u64,
    succeeded: u64,
    failed: u64,
    pending: u64,
}

#[derive(Serialize)]
struct Cost {
    estimated_usd: Option<Nanos>,
    usd: Option<Nanos>,
}

#[derive(Serialize)]
struct BatchLine {
    id: Option<String>,
    model: String,
    status: String,
    progress: Option<f64>,
    rows: u64,
    input_file_id: Option<String>,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    deadline: Option<String>,
    error: Option<String>,
    /// The time since which llbatch has seen the service cancel it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelling_since: Option<String>,
}

/// A batch as the service lists it, and the job here that it belongs to.
#[derive(Serialize)]
pub(super) struct RemoteLine {
    pub(super) id: String,
    pub(super) job: Option<String>,
    pub(super) model: Option<String>,
    pub(super) status: String,
    pub(super) progress: Option<f64>,
    pub(super) created_at: Option<String>,
    pub(super) input_file_id: Option<String>,
    pub(super) output_file_id: Option<String>,
    pub(super) error_file_id: Option<String>,
    pub(super) deadline: Option<String>,
    pub(super) error: Option<String>,
}

pub(super) fn remote_lines(listed: Vec<Batch>, store: &Store, ledger: &Ledger) -> Result<Vec<RemoteLine>> {
    let mut owners = std::collections::HashMap::new();
    for seen in status::inspect(ledger.recent(u32::MAX)?, store)? {
        for id in seen.batches.into_iter().filter_map(|batch| batch.remote.id) {
            owners.insert(id, seen.job.id.clone());
        }
    }
    let line = |batch: Batch| RemoteLine {
        job: owners.get(&batch.id).cloned(),
        id: batch.id,
        model: batch.model_id,
        status: batch.status.as_str().to_owned(),
        progress: batch.progress,
        created_at: batch.created_at,
        input_file_id: batch.input_file_id,
        output_file_id: batch.output_file_id,
        error_file_id: batch.error_file_id,
        deadline: batch.job_deadline,
        error: batch.error,
    };
    Ok(listed.into_iter().map(line).collect())
}

pub(super) fn entry(JobStatus { job, batches, shard, tags, .. }: &JobStatus) -> Entry {
    Entry {
        job: job.id.clone(),
        name: job.name.clone(),
        transport: job.transport.as_str(),
        state: job.state.as_str(),
        created_at: rfc3339(job.created_at),
        input: job.input.clone(),
        shard: *shard,
        tags: tags.clone(),
        rows: Rows {
            total: job.total,
            succeeded: job.succeeded,
            failed: job.failed,
            pending: job.total.saturating_sub(job.succeeded + job.failed),
        },
        cost: Cost { estimated_usd: job.estimate, usd: job.cost },
        sandbox: job.is_of_sandbox(),
        batches: batches
            .iter()
            .map(|batch| BatchLine {
                id: batch.remote.id.clone(),
                model: batch.model.clone(),
                status: word(batch),
                progress: batch.remote.progress,
                rows: batch.rows,
                input_file_id: batch.file.id.clone(),
                output_file_id: batch.remote.output_file_id.clone(),
                error_file_id: batch.remote.error_file_id.clone(),
                deadline: batch.remote.deadline.clone(),
                error: batch.remote.error.clone(),
                cancelling_since: batch.cancelling_since.filter(|_| batch.is_open() && !batch.ended).map(rfc3339),
            })
            .collect(),
    }
}

/// Writes a time in milliseconds since 1970.
fn rfc3339(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).unwrap_or_default().to_string()
}

/// The status that the service reports, or how far llbatch is with the batch.
pub(super) fn word(batch: &JobBatch) -> String {
    let own = match batch.step {
        _ if batch.is_postponed() => "POSTPONED",
        BatchStep::Planned => "PLANNED",
        BatchStep::Uploaded => "UPLOADED",
        BatchStep::Creating => "IN DOUBT",
        BatchStep::Refused => "REFUSED",
        BatchStep::Submitted | BatchStep::Settled => "CREATED",
    };
    let refused = batch.remote.error.is_some() && own == "CREATED";
    batch.remote.status.clone().map_or_else(|| if refused { "REFUSED" } else { own }.to_owned(), String::from)
}
