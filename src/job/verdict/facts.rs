//! The facts that a verdict is made of, from a job's entry, its outcomes and its batches.

use super::{BatchFacts, RowFacts};
use crate::batch_status::BatchStatus;
use crate::store::{BatchStep, Job, JobBatch, JobState};
use crate::summary::Totals;
use crate::text;

impl RowFacts {
    /// Builds the facts from the counts in the job's entry, which do not tell whether a retry may help.
    pub const fn counted(job: &Job) -> Self {
        Self { total: job.total, succeeded: job.succeeded, failed: job.failed, cancelled: 0, retryable: false }
    }

    /// Builds the facts from the fold of all outcomes.
    pub fn of(total: u64, totals: &Totals) -> Self {
        let retryable = totals.failures().any(|code| !code.is_permanent());
        let (succeeded, failed, cancelled) = (totals.succeeded(), totals.failed(), totals.cancelled());
        Self { total, succeeded, failed, cancelled, retryable }
    }

    /// Describes the rows that have an error.
    pub(super) fn without_answer(self) -> String {
        let failed = self.failed.saturating_sub(self.cancelled);
        let rows = |n| text::plural(n, "row");
        match (failed, self.cancelled) {
            (failed, 0) => format!("{} failed", rows(failed)),
            (0, cancelled) => format!("{} cancelled", rows(cancelled)),
            (failed, cancelled) => format!("{} failed, {} cancelled", rows(failed), text::count(cancelled)),
        }
    }

    pub(super) const fn left(self) -> u64 {
        self.total.saturating_sub(self.succeeded + self.failed)
    }

    pub(super) const fn all_ended(self) -> bool {
        self.total > 0 && self.left() == 0
    }
}

impl BatchFacts {
    /// Builds the facts from the job's batches.
    pub fn of(batches: &[JobBatch]) -> Self {
        let waits =
            |batch: &&JobBatch| matches!(batch.step, BatchStep::Planned | BatchStep::Uploaded | BatchStep::Creating);
        let ended = |batch: &&JobBatch| batch.is_open() && batch.ended && !waits(batch);
        let uncollected = batches.iter().filter(ended).count();
        let word = if uncollected > 0 { word_of(batches.iter().filter(ended)) } else { word_of(batches.iter()) };
        Self {
            total: batches.len(),
            waiting: batches.iter().filter(waits).count(),
            postponed: batches.iter().filter(|batch| batch.is_postponed()).count(),
            why_postponed: batches
                .iter()
                .find(|batch| batch.is_postponed())
                .and_then(|batch| batch.remote.error.clone()),
            never_asked: batches.iter().filter(|batch| batch.is_unsent() && !batch.is_postponed()).count(),
            refused: batches.iter().filter(|batch| batch.step == BatchStep::Refused).count(),
            live: batches.iter().filter(|batch| batch.is_open() && !batch.ended && !waits(batch)).count(),
            uncollected,
            word,
            cancelled: batches.iter().any(|batch| batch.cancel),
            cancelling: cancelling_since(batches).is_some(),
            broken: batches.iter().find_map(|batch| batch.collected.broken.clone()),
        }
    }

    /// Counts the batches whose results are still to come.
    pub const fn open(&self) -> usize {
        self.waiting + self.live + self.uncollected
    }
}

/// Returns the time since which the service is cancelling all batches that have not ended, in milliseconds since 1970.
pub fn cancelling_since(batches: &[JobBatch]) -> Option<i64> {
    let mut open = batches.iter().filter(|batch| batch.is_open() && !batch.ended).peekable();
    open.peek()?;
    open.map(|batch| batch.cancelling_since).collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// Returns the end that the service reports of these batches, before llbatch has read their rows.
fn word_of<'a>(batches: impl Iterator<Item = &'a JobBatch>) -> Option<JobState> {
    let mut states = batches.map(|batch| match &batch.remote.status {
        Some(BatchStatus::Completed) => JobState::Completed,
        Some(BatchStatus::Expired) => JobState::Expired,
        Some(BatchStatus::Cancelled) => JobState::Cancelled,
        _ => JobState::Failed,
    });
    let first = states.next()?;
    Some(if states.all(|state| state == first) { first } else { JobState::Partial })
}
