//! The display of a run: its progress, and a warning when the service cannot be reached.

use std::sync::atomic::Ordering;

use super::tally::Tally;
use crate::price::Nanos;
use crate::realtime::limiter::Hold;
use crate::realtime::{Paused, Shared};
use crate::ui::{Progress, RunCounts, Ui};

/// The display of a run while it works.
pub(super) struct Screen {
    progress: Progress,
    ui: Ui,
    /// Cost of earlier runs of the job.
    spent_before: Nanos,
    /// The service does not answer at the moment.
    outage: bool,
}

impl Screen {
    /// Builds a screen that shows this progress.
    pub const fn new(progress: Progress, ui: Ui, spent_before: Nanos) -> Self {
        Self { progress, ui, spent_before, outage: false }
    }

    /// Shows the progress of a job of `total` rows.
    pub fn show(&mut self, tally: &Tally, shared: &Shared, total: u64) {
        let pace = shared.gauges.pace();
        let in_flight = shared.gauges.in_flight.load(Ordering::Relaxed);
        // Warns when an outage begins, and again only after requests have succeeded in between.
        let outage = pace.paused.as_ref().is_some_and(|paused| paused.delay.hold == Hold::Outage);
        if let Some(Paused { last_failure: last, .. }) = pace.paused.as_ref().filter(|_| outage && !self.outage) {
            self.ui.warn(&format!(
                "the service is unreachable or fails every request; llbatch retries after seconds, then once a \
                 minute; last error: {last}"
            ));
        }
        if outage || in_flight > 1 {
            self.outage = outage;
        }
        if !self.progress.is_shown() {
            return;
        }
        let new = tally.new;
        self.progress.update(RunCounts {
            total,
            done: tally.reused.count() + new.succeeded + new.failed,
            failed: tally.failed_before + new.failed,
            reused: tally.answered_before,
            in_flight: in_flight as u64,
            tokens: new.tokens,
            cost: (!new.unpriced).then_some(self.spent_before + new.cost),
            new_cost: new.cost,
            waiting: pace.paused.map(|paused| (paused.delay.hold.to_string(), paused.delay.until)),
            rate_limit: pace.rate,
        });
    }
}
