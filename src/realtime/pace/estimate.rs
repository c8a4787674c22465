//! The estimate after a refusal: the rate that explains the requests and refusals best.

use std::time::{Duration, Instant};

use super::fit::FittingRates;
use super::{CountSince, MARGIN, Pace, Phase, Refusal, SEARCH, SEARCH_LEAST, SEARCH_MOST, SEARCH_SPREAD, START};

/// A rate below this share of the refused pace is unlikely before anything is known.
const UNLIKELY: f64 = 0.25;
/// The same when the pace had only crept up to the refusal.
const UNLIKELY_AGAIN: f64 = 0.85;
/// The rate is known when the fitting rates differ by no more than this factor.
const CLOSE: f64 = 1.06;
/// The same after several refusals, when one more would cost more than it tells.
const CLOSE_AT_LAST: f64 = 1.15;
/// Weight of the lower bound when one more refusal is not affordable.
const CAUTION: f64 = 0.85;
/// Above this cost of the best fit, the limit itself has changed.
const MISFIT: f64 = 16.0;
/// A hint this long is the end of a fixed window, not a bucket's next token.
const WINDOW: Duration = Duration::from_secs(5);

/// A lower bound for the rate, as a share of the refused pace, and its weight in the estimate.
struct Bound {
    unlikely: f64,
    weight: f64,
}

impl Pace {
    /// Sets the pace after a refusal, when the requests in flight are answered.
    pub(super) fn estimate(&mut self, now: Instant) {
        let Some(refusal) = self.refusal.take() else { return };
        if refusal.hint.is_some_and(|hint| hint >= WINDOW) {
            let rate = self.window_rate(now, &refusal);
            self.set_rate(now, rate, Phase::Known);
            return;
        }
        let mut rates = self.fit.fit(refusal.rate);
        if rates.cost > MISFIT {
            self.fit.keep_two();
            rates = self.fit.fit(refusal.rate);
        }
        let FittingRates { mut low, high, .. } = rates;
        let Bound { unlikely, weight } = self.lower_bound(&rates, refusal.hint);
        low = low.max(refusal.rate * unlikely).min(high);
        let mut middle = low.powf(weight) * high.powf(1.0 - weight);
        let only_once = self.fit.refusals() == 1;
        // At a low limit a second refusal is expensive, and the first pace was not refused.
        if only_once && high > START && (middle < START || (refusal.hint.is_none() && refusal.rate < START * 2.5)) {
            middle = START;
        }
        let growth = ((middle - 1.0) * SEARCH).clamp(SEARCH_LEAST, SEARCH_MOST).min((high / low - 1.0) * SEARCH_SPREAD);
        let close = if self.fit.refusals() > 2 { CLOSE_AT_LAST } else { CLOSE };
        let phase = if high / low < close { Phase::Known } else { Phase::Search { growth } };
        self.set_rate(now, (middle * MARGIN).min(refusal.rate * MARGIN), phase);
    }

    /// The rate of a fixed window: the requests that it accepted, over its length.
    fn window_rate(&mut self, now: Instant, refusal: &Refusal) -> f64 {
        let accepted = self.sent.saturating_sub(self.refused);
        let seconds = self.window.seconds(now).max(1.0);
        let within = accepted.saturating_sub(self.window.count);
        self.window = CountSince { since: now, count: accepted };
        // At the first refusal the window may have begun long before this run, or may not have been used up before.
        (f64::from(within) / seconds / self.share).max(refusal.rate * UNLIKELY / 2.0).min(refusal.rate)
    }

    /// Chooses how far to trust the lowest fitting rate.
    ///
    /// A very big bucket may explain everything at a low rate, but is unlikely. A refusal with a hint costs a pause, so
    /// caution pays. So it does after several refusals, unless the bounds are so close that the higher one is safe.
    fn lower_bound(&self, rates: &FittingRates, hint: Option<Duration>) -> Bound {
        let (unlikely, weight) = match (self.fit.refusals(), self.fit.accepted_between()) {
            (1, _) if hint.is_none() => (UNLIKELY, 0.6),
            (1, _) => (UNLIKELY, if rates.high < rates.low * 2.5 { 0.95 } else { 0.8 }),
            (_, 0..2) => (UNLIKELY * 2.0, 0.5),
            // A few answers say little, but the pace had only crept up.
            (_, 2..12) => (UNLIKELY_AGAIN, 0.5),
            (2, _) => (UNLIKELY * 3.0, if self.may_search() { 0.5 } else { CAUTION }),
            _ if rates.high < rates.low * CLOSE_AT_LAST => (UNLIKELY * 3.0, 0.3),
            _ => (UNLIKELY * 3.0, 0.8),
        };
        Bound { unlikely, weight }
    }
}
