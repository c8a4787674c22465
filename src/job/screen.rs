//! What the user sees of a run while it works: the progress, and a warning when the service is out of reach.

use std::sync::atomic::Ordering;

use super::tally::Tally;
use crate::realtime::Shared;
use crate::realtime::limiter::Hold;
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
        let (held, rate) = shared.gauges.held();
        let in_flight = shared.gauges.in_flight.load(Ordering::Relaxed);
        // Warned of when it begins, and again only after requests went through in between.
        let outage = held.as_ref().is_some_and(|(_, hold, _)| *hold == Hold::Outage);
        if let Some((_, _, last)) = held.as_ref().filter(|_| outage && !self.outage) {
            self.ui.warn(&format!(
                "the service cannot be reached or fails every request; trying again after seconds, then once a minute. Last: {last}"
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
            waiting: held.map(|(until, hold, _)| (hold.to_string(), until)),
            rate_limit: rate,
        });
    }
}
