//! The record of a batch as the job's database stores it: one flat JSON object. Other versions of llbatch read and write it,
//! so its names, their order and their defaults stay.

use serde::{Deserialize, Serialize};

use super::{BatchCost, BatchCreation, BatchStep, CollectedFiles, JobBatch, RemoteBatch, RequestFile};
use crate::batch_status::BatchStatus;
use crate::price::Nanos;

/// [`JobBatch`] on the disk.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredBatch {
    number: u32,
    model: String,
    endpoint: String,
    rows: u64,
    bytes: u64,
    sha256: String,
    name: String,
    step: BatchStep,
    file_id: Option<String>,
    #[serde(default)]
    others: Vec<String>,
    begun_at: Option<i64>,
    begun_there: Option<i64>,
    #[serde(default)]
    tries: u32,
    account: Option<String>,
    id: Option<String>,
    status: Option<BatchStatus>,
    progress: Option<f64>,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    error: Option<String>,
    deadline: Option<String>,
    created_at: Option<String>,
    completed_at: Option<String>,
    #[serde(rename = "most")]
    upper_bound: Option<Nanos>,
    #[serde(default)]
    admitted: bool,
    #[serde(default)]
    cancel: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancelling_since: Option<i64>,
    #[serde(default)]
    ended: bool,
    unknown_since: Option<i64>,
    #[serde(default)]
    unknown_times: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    late_since: Option<i64>,
    broken: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answers_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failures_hash: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    refusals: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused_at: Option<i64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    prices: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl From<StoredBatch> for JobBatch {
    fn from(record: StoredBatch) -> Self {
        Self {
            number: record.number,
            model: record.model,
            endpoint: record.endpoint,
            rows: record.rows,
            step: record.step,
            ended: record.ended,
            cancel: record.cancel,
            cancelling_since: record.cancelling_since,
            file: RequestFile { name: record.name, bytes: record.bytes, sha256: record.sha256, id: record.file_id },
            creation: BatchCreation {
                others: record.others,
                begun_at: record.begun_at,
                begun_there: record.begun_there,
                tries: record.tries,
                account: record.account,
                refusals: record.refusals,
                refused_at: record.refused_at,
            },
            remote: RemoteBatch {
                id: record.id,
                status: record.status,
                progress: record.progress,
                output_file_id: record.output_file_id,
                error_file_id: record.error_file_id,
                error: record.error,
                deadline: record.deadline,
                created_at: record.created_at,
                completed_at: record.completed_at,
                unknown_since: record.unknown_since,
                unknown_times: record.unknown_times,
                late_since: record.late_since,
            },
            collected: CollectedFiles {
                broken: record.broken,
                answers_hash: record.answers_hash,
                failures_hash: record.failures_hash,
            },
            cost: BatchCost { upper_bound: record.upper_bound, admitted: record.admitted, prices: record.prices },
        }
    }
}

impl From<JobBatch> for StoredBatch {
    fn from(batch: JobBatch) -> Self {
        let JobBatch { file, creation, remote, collected, cost, .. } = batch;
        Self {
            number: batch.number,
            model: batch.model,
            endpoint: batch.endpoint,
            rows: batch.rows,
            bytes: file.bytes,
            sha256: file.sha256,
            name: file.name,
            step: batch.step,
            file_id: file.id,
            others: creation.others,
            begun_at: creation.begun_at,
            begun_there: creation.begun_there,
            tries: creation.tries,
            account: creation.account,
            id: remote.id,
            status: remote.status,
            progress: remote.progress,
            output_file_id: remote.output_file_id,
            error_file_id: remote.error_file_id,
            error: remote.error,
            deadline: remote.deadline,
            created_at: remote.created_at,
            completed_at: remote.completed_at,
            upper_bound: cost.upper_bound,
            admitted: cost.admitted,
            cancel: batch.cancel,
            cancelling_since: batch.cancelling_since,
            ended: batch.ended,
            unknown_since: remote.unknown_since,
            unknown_times: remote.unknown_times,
            late_since: remote.late_since,
            broken: collected.broken,
            answers_hash: collected.answers_hash,
            failures_hash: collected.failures_hash,
            refusals: creation.refusals,
            refused_at: creation.refused_at,
            prices: cost.prices,
        }
    }
}
