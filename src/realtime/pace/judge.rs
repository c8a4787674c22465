//! A refusal judged: the pace that explains best what was sent and refused.

use std::time::{Duration, Instant};

use super::{MARGIN, Pace, Phase, SEARCH, SEARCH_LEAST, SEARCH_MOST, SEARCH_SPREAD, START};

/// A rate below this share of the pace that was refused is not believed at once: before anything is known; and when the pace
/// had only crept up to the refusal.
const UNLIKELY: f64 = 0.25;
const UNLIKELY_AGAIN: f64 = 0.85;
/// Rates that fit are known well enough when they differ by no more than this factor.
const CLOSE: f64 = 1.06;
/// ... and by this one after several refusals, when each more would cost more than it tells.
const CLOSE_AT_LAST: f64 = 1.15;
/// Weight of the lower bound when one more refusal cannot be afforded.
const CAUTION: f64 = 0.85;
/// A worse fit than this: the limit itself has changed.
const MISFIT: f64 = 16.0;
/// A hint of more than this is the end of a fixed window, not a bucket's next token.
const WINDOW: Duration = Duration::from_secs(5);

impl Pace {
    /// Chooses the pace after a refusal, when what was in flight is answered.
    pub(super) fn judge(&mut self, now: Instant) {
        let Some((high, hint)) = self.judge.take() else { return };
        if hint.is_some_and(|hint| hint >= WINDOW) {
            let (since, before) = self.window;
            let accepted = self.sent.saturating_sub(self.refused);
            let seconds = now.saturating_duration_since(since).as_secs_f64().max(1.0);
            self.window = (now, accepted);
            // At the first refusal the window may have begun long before us, or never been used up.
            let rate = (f64::from(accepted.saturating_sub(before)) / seconds / self.share)
                .max(high * UNLIKELY / 2.0)
                .min(high);
            self.settle(now, rate, Phase::Known);
            return;
        }
        let (mut low, mut top, cost) = self.log.fit(high);
        if cost > MISFIT {
            self.log.keep_two();
            (low, top, _) = self.log.fit(high);
        }
        // What no refusal told apart may be a very big bucket, but hardly is.
        // The share is the weight of the lower bound. A refusal with a hint costs a pause, so caution pays; so does it after
        // several refusals, unless the bounds are so close that the lower one would be given away.
        let (unlikely, share) = match (self.log.refusals(), self.log.accepted_between()) {
            (1, _) if hint.is_none() => (UNLIKELY, 0.6),
            (1, _) => (UNLIKELY, if top < low * 2.5 { 0.95 } else { 0.8 }),
            (_, 0..2) => (UNLIKELY * 2.0, 0.5),
            // Few answers tell little, but the pace had only crept up.
            (_, 2..12) => (UNLIKELY_AGAIN, 0.5),
            (2, _) => (UNLIKELY * 3.0, if self.may_search() { 0.5 } else { CAUTION }),
            _ if top < low * CLOSE_AT_LAST => (UNLIKELY * 3.0, 0.3),
            _ => (UNLIKELY * 3.0, 0.8),
        };
        low = low.max(high * unlikely).min(top);
        let mut middle = low.powf(share) * top.powf(1.0 - share);
        // At a low limit a second refusal is dear, and the pace at the start met none.
        if self.log.refusals() == 1 && top > START && (middle < START || (hint.is_none() && high < START * 2.5)) {
            middle = START;
        }
        let growth = ((middle - 1.0) * SEARCH).clamp(SEARCH_LEAST, SEARCH_MOST).min((top / low - 1.0) * SEARCH_SPREAD);
        let close = if self.log.refusals() > 2 { CLOSE_AT_LAST } else { CLOSE };
        let phase = if top / low < close { Phase::Known } else { Phase::Search { growth } };
        self.settle(now, (middle * MARGIN).min(high * MARGIN), phase);
    }
}
