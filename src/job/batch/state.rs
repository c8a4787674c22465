//! Where a job is, told from its batches and its rows.

use crate::store::{BatchJob, BatchStep, JobState};

/// Rows of a job by fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All.
    pub total: u64,
    /// Answered.
    pub succeeded: u64,
    /// With an error.
    pub failed: u64,
}

/// The job's state. `busy`: a process works on it.
pub fn state_of(batches: &[BatchJob], counts: Counts, busy: bool) -> JobState {
    let waits = |batch: &BatchJob| matches!(batch.step, BatchStep::Planned | BatchStep::Uploaded | BatchStep::Creating);
    let whole = counts.total > 0 && counts.succeeded + counts.failed == counts.total;
    if (batches.is_empty() && !whole) || batches.iter().any(waits) {
        return if busy { JobState::Preparing } else { JobState::Interrupted };
    }
    if batches.iter().any(|batch| batch.is_open() && !batch.ended) {
        return JobState::Running;
    }
    if batches.iter().any(BatchJob::is_open) {
        return by_word(batches.iter().filter(|batch| batch.is_open()));
    }
    let Counts { total, succeeded, failed } = counts;
    if succeeded + failed < total {
        return if busy { JobState::Running } else { JobState::Interrupted };
    }
    let word = by_word(batches.iter());
    match (succeeded, failed) {
        (_, 0) => JobState::Completed,
        _ if batches.iter().any(|batch| batch.cancel) => JobState::Cancelled,
        (0, _) if word == JobState::Expired => JobState::Expired,
        (0, _) => JobState::Failed,
        _ => JobState::Partial,
    }
}

/// What batches that have ended say themselves, before anyone has looked at their rows.
fn by_word<'a>(batches: impl Iterator<Item = &'a BatchJob>) -> JobState {
    let mut states = batches.map(|batch| match batch.status.as_deref() {
        Some("COMPLETED") => JobState::Completed,
        Some("EXPIRED") => JobState::Expired,
        Some("CANCELLED") => JobState::Cancelled,
        _ => JobState::Failed,
    });
    let first = states.next().unwrap_or(JobState::Completed);
    if states.all(|state| state == first) { first } else { JobState::Partial }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(step: BatchStep, status: Option<&str>, ended: bool) -> BatchJob {
        let status = status.map(str::to_owned);
        BatchJob { number: 1, rows: 2, step, status, ended, ..BatchJob::default() }
    }

    #[test]
    fn the_least_advanced_batch_decides() {
        let done = |succeeded, failed| Counts { total: 2, succeeded, failed };
        let settled = |status| batch(BatchStep::Settled, Some(status), true);
        let over = |status| batch(BatchStep::Submitted, Some(status), true);
        let runs = batch(BatchStep::Submitted, Some("IN_PROGRESS"), false);
        let doubt = batch(BatchStep::Creating, None, false);
        let mut stopped = settled("CANCELLED");
        stopped.cancel = true;
        let cases = [
            (vec![], done(0, 0), true, JobState::Preparing),
            (vec![doubt.clone(), settled("COMPLETED")], done(0, 0), false, JobState::Interrupted),
            (vec![doubt], done(0, 0), true, JobState::Preparing),
            (vec![runs, over("COMPLETED")], done(0, 0), false, JobState::Running),
            (vec![over("COMPLETED"), over("COMPLETED")], done(0, 0), false, JobState::Completed),
            (vec![over("COMPLETED"), over("FAILED")], done(0, 0), false, JobState::Partial),
            (vec![over("EXPIRED"), settled("COMPLETED")], done(1, 0), false, JobState::Expired),
            (vec![batch(BatchStep::Refused, None, true)], done(0, 0), false, JobState::Failed),
            (vec![settled("COMPLETED")], done(2, 0), false, JobState::Completed),
            (vec![settled("COMPLETED")], done(1, 1), false, JobState::Partial),
            (vec![settled("COMPLETED")], done(1, 0), false, JobState::Interrupted),
            (vec![settled("EXPIRED")], done(0, 2), false, JobState::Expired),
            (vec![settled("FAILED")], done(0, 2), false, JobState::Failed),
            (vec![stopped.clone()], done(1, 1), false, JobState::Cancelled),
            (vec![stopped], done(2, 0), false, JobState::Completed),
        ];
        for (batches, counts, busy, state) in cases {
            assert_eq!(state_of(&batches, counts, busy), state, "{batches:?} {counts:?}");
        }
    }
}
