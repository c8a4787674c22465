//! The display of a run: its progress, and a warning when the service cannot be reached.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::tally::Tally;
use crate::price::Nanos;
use crate::realtime::limiter::Hold;
use crate::realtime::{LeftOutUrl, Paused, Shared};
use crate::ui::{Progress, RunCounts, Ui};

/// The display of a run while it works.
pub(super) struct Screen {
    progress: Progress,
    ui: Ui,
    /// Cost of earlier runs of the job.
    spent_before: Nanos,
    /// The service does not answer at the moment.
    outage: bool,
    /// Base URLs that are left out at the moment.
    left_out: Vec<LeftOutUrl>,
}

impl Screen {
    /// Builds a screen that shows this progress.
    pub const fn new(progress: Progress, ui: Ui, spent_before: Nanos) -> Self {
        Self { progress, ui, spent_before, outage: false, left_out: Vec::new() }
    }

    /// Shows the progress of a job of `total` rows.
    pub fn show(&mut self, tally: &Tally, shared: &Shared, total: u64) {
        let pace = shared.gauges.pace();
        let in_flight = shared.gauges.in_flight.load(Ordering::Relaxed);
        // Warns when an outage begins, and again only after requests have succeeded in between.
        let outage = pace.paused.as_ref().is_some_and(|paused| paused.delay.hold == Hold::Outage);
        if let Some(Paused { last_failure: last, .. }) = pace.paused.as_ref().filter(|_| outage && !self.outage) {
            self.ui.warn(&format!(
                "the service is unreachable or fails every request; llbatch tries again after 2 s, 4 s, 8 s …, \
                 then once a minute; last error: {last}"
            ));
        }
        if outage || in_flight > 1 {
            self.outage = outage;
        }
        self.say_left_out(pace.left_out);
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

    /// Says which base URLs get no rows any more, and which ones do again.
    fn say_left_out(&mut self, now: Vec<LeftOutUrl>) {
        let before = std::mem::replace(&mut self.left_out, now);
        let is_in = |urls: &[LeftOutUrl], url: &LeftOutUrl| {
            urls.iter().any(|other| (&other.url, &other.model) == (&url.url, &url.model))
        };
        let of = |model: &Option<Arc<str>>| model.as_ref().map(|model| format!(" of {model}")).unwrap_or_default();
        for LeftOutUrl { url, model, failure } in self.left_out.iter().filter(|url| !is_in(&before, url)) {
            let of = of(model);
            self.ui.warn(&format!(
                "{url} gets no rows{of} for now, and is tried again after 1, 2, 4 … s; last error: {failure}"
            ));
        }
        for LeftOutUrl { url, model, .. } in before.iter().filter(|url| !is_in(&self.left_out, url)) {
            self.ui.note(&format!("{url} gets rows{} again", of(model)));
        }
    }
}
