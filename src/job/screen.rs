//! What the user sees of a run while it works: the progress, and a warning when the service is out of reach.

use std::sync::atomic::Ordering;

use super::tally::Tally;
use crate::realtime::limiter::Hold;
use crate::realtime::{Paused, Shared};
use crate::ui::{Progress, RunCounts, Ui};

/// What the user sees of a run while it works.
pub struct Screen {
    progress: Progress,
    ui: Ui,
    /// The service is known not to answer.
    outage: bool,
}

impl Screen {
    /// A screen that shows this progress.
    pub const fn new(progress: Progress, ui: Ui) -> Self {
        Self { progress, ui, outage: false }
    }

    /// Shows how a job of `total` rows stands.
    pub fn show(&mut self, tally: &Tally, shared: &Shared, total: u64) {
        let pace = shared.gauges.pace();
        let in_flight = shared.gauges.in_flight.load(Ordering::Relaxed);
        // Warned of when it begins, and again only after requests went through in between.
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
            cost: (!new.unpriced).then_some(new.cost),
            waiting: pace.paused.map(|paused| (paused.delay.hold.to_string(), paused.delay.until)),
            rate_limit: pace.rate,
        });
    }
}
