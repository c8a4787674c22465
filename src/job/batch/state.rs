//! Where a job is, told from its batches and its rows.

use crate::store::{BatchJob, State, Step};

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
pub fn state_of(batches: &[BatchJob], counts: Counts, busy: bool) -> State {
    let waits = |batch: &BatchJob| matches!(batch.step, Step::Planned | Step::Uploaded | Step::Creating);
    let whole = counts.total > 0 && counts.succeeded + counts.failed == counts.total;
    if (batches.is_empty() && !whole) || batches.iter().any(waits) {
        return if busy { State::Preparing } else { State::Interrupted };
    }
    if batches.iter().any(|batch| batch.is_open() && !batch.ended) {
        return State::Running;
    }
    if batches.iter().any(BatchJob::is_open) {
        return by_word(batches.iter().filter(|batch| batch.is_open()));
    }
    let Counts { total, succeeded, failed } = counts;
    if succeeded + failed < total {
        return if busy { State::Running } else { State::Interrupted };
    }
    let word = by_word(batches.iter());
    match (succeeded, failed) {
        (_, 0) => State::Completed,
        _ if batches.iter().any(|batch| batch.cancel) => State::Cancelled,
        (0, _) if word == State::Expired => State::Expired,
        (0, _) => State::Failed,
        _ => State::Partial,
    }
}

/// What batches that have ended say themselves, before anyone has looked at their rows.
fn by_word<'a>(batches: impl Iterator<Item = &'a BatchJob>) -> State {
    let mut states = batches.map(|batch| match batch.status.as_deref() {
        Some("COMPLETED") => State::Completed,
        Some("EXPIRED") => State::Expired,
        Some("CANCELLED") => State::Cancelled,
        _ => State::Failed,
    });
    let first = states.next().unwrap_or(State::Completed);
    if states.all(|state| state == first) { first } else { State::Partial }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(step: Step, status: Option<&str>, ended: bool) -> BatchJob {
        let status = status.map(str::to_owned);
        BatchJob { number: 1, rows: 2, step, status, ended, ..BatchJob::default() }
    }

    #[test]
    fn the_least_advanced_batch_decides() {
        let done = |succeeded, failed| Counts { total: 2, succeeded, failed };
        let settled = |status| batch(Step::Settled, Some(status), true);
        let over = |status| batch(Step::Submitted, Some(status), true);
        let runs = batch(Step::Submitted, Some("IN_PROGRESS"), false);
        let doubt = batch(Step::Creating, None, false);
        let mut stopped = settled("CANCELLED");
        stopped.cancel = true;
        let cases = [
            (vec![], done(0, 0), true, State::Preparing),
            (vec![doubt.clone(), settled("COMPLETED")], done(0, 0), false, State::Interrupted),
            (vec![doubt], done(0, 0), true, State::Preparing),
            (vec![runs, over("COMPLETED")], done(0, 0), false, State::Running),
            (vec![over("COMPLETED"), over("COMPLETED")], done(0, 0), false, State::Completed),
            (vec![over("COMPLETED"), over("FAILED")], done(0, 0), false, State::Partial),
            (vec![over("EXPIRED"), settled("COMPLETED")], done(1, 0), false, State::Expired),
            (vec![batch(Step::Refused, None, true)], done(0, 0), false, State::Failed),
            (vec![settled("COMPLETED")], done(2, 0), false, State::Completed),
            (vec![settled("COMPLETED")], done(1, 1), false, State::Partial),
            (vec![settled("COMPLETED")], done(1, 0), false, State::Interrupted),
            (vec![settled("EXPIRED")], done(0, 2), false, State::Expired),
            (vec![settled("FAILED")], done(0, 2), false, State::Failed),
            (vec![stopped.clone()], done(1, 1), false, State::Cancelled),
            (vec![stopped], done(2, 0), false, State::Completed),
        ];
        for (batches, counts, busy, state) in cases {
            assert_eq!(state_of(&batches, counts, busy), state, "{batches:?} {counts:?}");
        }
    }
}
