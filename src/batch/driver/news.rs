//! What the service reports of a batch, recorded.

use std::time::SystemTime;

use crate::api::batches::Batch;
use crate::store::BatchJob;

/// Milliseconds after which a batch that the service does not know is given up.
const VANISHED: i64 = 3_600_000;
/// Questions that must have been answered so by then: a clock that jumps is no hour.
const OFTEN: u32 = 5;

/// Records the reply to a question about one batch.
pub(super) fn learn_all(batch: &mut BatchJob, known: Batch) {
    batch.ended = known.status.is_final();
    learn(batch, known);
}

/// Records a batch as a list or the reply to a creation or a cancellation shows it. An end is not believed there, because the
/// files with the results may not be named yet.
pub(super) fn learn(batch: &mut BatchJob, known: Batch) {
    batch.id = Some(known.id);
    batch.status = Some(known.status.as_str().to_owned());
    batch.unknown_since = None;
    batch.unknown_times = 0;
    let keep = |new: Option<String>, old: &mut Option<String>| {
        if new.is_some() {
            *old = new;
        }
    };
    keep(known.output_file_id, &mut batch.output_file_id);
    keep(known.error_file_id, &mut batch.error_file_id);
    keep(known.error, &mut batch.error);
    keep(known.job_deadline, &mut batch.deadline);
    keep(known.created_at, &mut batch.created_at);
    keep(known.completed_at, &mut batch.completed_at);
    batch.progress = known.progress.or(batch.progress);
}

/// Records that the service does not know the batch. Only after an hour llbatch believes it.
pub(super) fn vanish(batch: &mut BatchJob, now: i64) {
    let since = *batch.unknown_since.get_or_insert(now);
    batch.status = Some("NOT FOUND".to_owned());
    batch.unknown_times += 1;
    if now - since >= VANISHED && batch.unknown_times >= OFTEN {
        batch.ended = true;
        batch.error = Some("the service has reported this batch as unknown for an hour".to_owned());
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
