//! The estimate after a refusal: a rate within the bounds that follow from the refusals.

use std::time::{Duration, Instant};

use super::bounds::{CountAt, RateBounds};
use super::window::{FixedWindowPace, LONG_HINT, WindowRefusal};
use super::{LONGEST_HINT, MARGIN, Pace, Phase, Refusal, SEARCH, SEARCH_LEAST, SEARCH_MOST, SEARCH_SPREAD, START};

/// The rate is known when its bounds differ by no more than this factor.
const CLOSE: f64 = 1.06;
/// The same after several refusals, when one more would cost more than it tells.
const CLOSE_AT_LAST: f64 = 1.15;
/// Weight of the lower bound: at the first refusal, and then.
const WEIGHT_FIRST: f64 = 0.6;
const WEIGHT: f64 = 0.7;
/// A pace that is refused again within this share of itself is just above the rate, whatever was accepted meanwhile: a small
/// bucket was full before the end of the pause. The rate is no lower than this share of it.
const SAME: f64 = 0.03;
const JUST_BELOW: f64 = 0.92;

impl Pace {
    /// Sets the pace after a refusal, when the requests in flight are answered.
    pub(super) fn estimate(&mut self, now: Instant) {
        let Some(refusal) = self.refusal.take() else { return };
        if let Some(hint) = refusal.hint.filter(|hint| *hint >= LONG_HINT) {
            return self.learn_window(now, refusal, hint);
        }
        let RateBounds { low, high } = self.log.bounds(refusal.rate);
        let low = low.max(refusal.rate * self.unlikely(refusal.rate)).min(high);
        self.refused_rate = refusal.rate;
        let weight = if self.log.refusals() == 1 { WEIGHT_FIRST } else { WEIGHT };
        let mut middle = low.powf(weight) * high.powf(1.0 - weight);
        // At a low limit a second refusal is expensive, and the first pace was not refused.
        let only_once = self.log.refusals() == 1;
        if only_once && high > START && (middle < START || (refusal.hint.is_none() && refusal.rate < START * 2.5)) {
            middle = START;
        }
        let growth = ((middle - 1.0) * SEARCH).clamp(SEARCH_LEAST, SEARCH_MOST).min((high / low - 1.0) * SEARCH_SPREAD);
        let close = if self.log.refusals() > 2 { CLOSE_AT_LAST } else { CLOSE };
        let phase = if high / low < close { Phase::Known } else { Phase::Search { growth } };
        self.set_rate(now, (middle * MARGIN).min(refusal.rate * MARGIN), phase);
    }

    /// A rate below this share of the refused pace is unlikely: the pace had only crept up to the refusal. Few answers since
    /// the last refusal say little more.
    fn unlikely(&self, refused: f64) -> f64 {
        match self.log.accepted_between() {
            _ if self.log.refusals() == 1 => 0.0,
            12.0.. if (refused / self.refused_rate - 1.0).abs() < SAME => JUST_BELOW,
            ..2.0 => 0.5,
            2.0..12.0 => 0.88,
            _ => 0.75,
        }
    }

    /// Takes the refusal for the end of a fixed window.
    fn learn_window(&mut self, now: Instant, refusal: Refusal, hint: Duration) {
        let first = CountAt { at: self.log.first().unwrap_or(now), count: 0.0 };
        let now_at = CountAt { at: now, count: self.log.accepted() };
        let start = self.window.as_ref().map_or(first, |window| window.refused_in(now_at.count));
        let refusal = WindowRefusal { at: refusal.at, hint: hint.min(LONGEST_HINT), pace: refusal.rate };
        let window = FixedWindowPace::learn(start, refusal, now_at);
        self.set_rate(now, window.pace(), Phase::Known);
        self.window = Some(window);
    }
}
