//! Records the service's reports of a batch.

use std::time::SystemTime;

use crate::api::batches::{Batch, BatchStatus};
use crate::store::JobBatch;

/// Milliseconds after which llbatch gives up a batch that the service does not know.
const VANISHED: i64 = 3_600_000;
/// Number of polls that this also takes, because a clock may jump.
const OFTEN: u32 = 5;

/// Records the reply to a poll of one batch.
pub(super) fn learn_all(batch: &mut JobBatch, known: Batch) {
    batch.ended = known.status.is_final();
    learn(batch, known);
}

/// Records a batch as a list shows it, or the reply to a create or a cancel. It ignores a final status there, because
/// such a report may lack the result files.
pub(super) fn learn(batch: &mut JobBatch, known: Batch) {
    batch.remote.id = Some(known.id);
    if known.status == BatchStatus::Canceling {
        batch.cancelling_since.get_or_insert_with(|| millis(SystemTime::now()));
    }
    batch.remote.status = Some(known.status);
    batch.remote.unknown_since = None;
    batch.remote.unknown_times = 0;
    let keep = |new: Option<String>, old: &mut Option<String>| {
        if new.is_some() {
            *old = new;
        }
    };
    keep(known.output_file_id, &mut batch.remote.output_file_id);
    keep(known.error_file_id, &mut batch.remote.error_file_id);
    keep(known.error, &mut batch.remote.error);
    keep(known.job_deadline, &mut batch.remote.deadline);
    keep(known.created_at, &mut batch.remote.created_at);
    keep(known.completed_at, &mut batch.remote.completed_at);
    batch.remote.progress = known.progress.or(batch.remote.progress);
}

/// Records that the service does not know the batch. For an hour that may be a temporary error.
pub(super) fn vanish(batch: &mut JobBatch, now: i64) {
    let since = *batch.remote.unknown_since.get_or_insert(now);
    batch.remote.status = Some(BatchStatus::NotFound);
    batch.remote.unknown_times += 1;
    if now - since >= VANISHED && batch.remote.unknown_times >= OFTEN {
        batch.ended = true;
        batch.remote.error = Some("the service has reported this batch as unknown for an hour".to_owned());
    }
}

/// Converts a time to milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
