//! The entry of a running job in the index, updated every few seconds.

use std::time::Instant;

use super::tally::Tally;
use crate::error::Result;
use crate::price::Nanos;
use crate::store::{Job, Ledger};

/// The entry of a running job in the index.
pub(super) struct JobEntry<'a> {
    /// The index.
    pub ledger: Ledger,
    /// The job's entry.
    pub job: &'a mut Job,
    /// Cost of earlier runs.
    pub spent_before: Nanos,
    /// Start of this run.
    pub started: Instant,
}

impl<'a> JobEntry<'a> {
    /// Builds the entry of a run that began at `started`.
    pub fn new(ledger: Ledger, job: &'a mut Job, started: Instant) -> Self {
        let spent_before = job.cost.unwrap_or_default();
        Self { ledger, job, spent_before, started }
    }

    /// Writes the counts and the cost so far. Returns `false` if another process has finished the job, which stays
    /// unchanged.
    pub fn record(&mut self, tally: &Tally) -> Result<bool> {
        if self.job.state.ended() {
            return Ok(false);
        }
        self.job.succeeded = tally.answered_before + tally.new.succeeded;
        self.job.failed = tally.failed_before + tally.new.failed;
        // Records the known part of an unknown sum, because budgets count it.
        let spent = self.spent_before + tally.new.cost;
        self.job.cost = (!tally.new.unpriced || spent > Nanos::ZERO).then_some(spent);
        let mut job = self.job.clone();
        job.active_ms += u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ledger.note_progress(&job)?;
        Ok(true)
    }
}
