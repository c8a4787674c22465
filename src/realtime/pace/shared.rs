//! A pacer beside those of other processes: its report to them, and the effect of theirs.

use std::time::{Duration, Instant};

use super::{FixedWindowPace, FoundLimit, Pace, Phase, SEARCH_MOST};
use crate::realtime::peers::{Advice, LimitEstimate, Traffic};

/// The time until processes have heard of each other. The first request of one that joins waits this long.
pub(super) const JOIN: Duration = Duration::from_millis(400);
/// Smallest share, however many processes there are.
const LEAST_SHARE: f64 = 1e-4;

impl Pace {
    /// The estimate of the limit, for other processes.
    pub fn limit_estimate(&self, now: Instant) -> Option<LimitEstimate> {
        let growth = match self.phase {
            Phase::Open | Phase::Start => return None,
            Phase::Search { growth } => Some(growth),
            Phase::Known => None,
        };
        let age = now.saturating_duration_since(self.found.at).as_secs_f64();
        // While a refusal waits for its estimate, nothing is known.
        let limit = self.found.limit;
        let rate = self.window.as_ref().map_or(self.rate, FixedWindowPace::rate);
        self.refusal.is_none().then_some(LimitEstimate { limit, age, rate, growth })
    }

    /// The last limit that was found, if any.
    pub fn found(&self) -> Option<FoundLimit> {
        (!matches!(self.phase, Phase::Open | Phase::Start)).then_some(self.found)
    }

    /// Requests sent by this process so far.
    pub const fn sent(&self) -> u32 {
        self.sent
    }

    /// Requests of this process that were refused.
    pub const fn refused(&self) -> u32 {
        self.refused
    }

    /// The requests of all processes.
    pub(super) fn all_sent(&self) -> Traffic {
        Traffic { sent: f64::from(self.sent), refused: f64::from(self.refused) } + self.others
    }

    /// Returns true if the pacer, not the demand, limited the speed lately.
    pub fn wants(&self, now: Instant) -> bool {
        let lately = self.interval() * 2 + Duration::from_secs(1);
        self.waited.is_some_and(|waited| now.saturating_duration_since(waited) < lately)
    }

    /// Applies the advice that follows from the reports of the other processes.
    pub(in crate::realtime) fn apply(&mut self, now: Instant, advice: &Advice) {
        let Some(traffic) = advice.others else {
            self.share = 1.0;
            return;
        };
        self.log.others(traffic);
        self.others = self.others + traffic;
        if let Some(adopted) = advice.adopt {
            let growth = adopted.estimate.growth.map(|growth| growth.clamp(0.0, SEARCH_MOST));
            let phase = growth.map_or(Phase::Known, |growth| Phase::Search { growth });
            self.set_rate(now, adopted.estimate.rate, phase);
            self.found = FoundLimit { limit: adopted.estimate.limit, at: adopted.at };
            self.window = None;
            self.shifted = Some(now);
            if self.sent == 0 {
                // The others do not know this process yet.
                self.next = self.next.max(now + JOIN);
            }
        }
        let share = if advice.share.is_finite() { advice.share.clamp(LEAST_SHARE, 1.0) } else { 1.0 };
        if (share - self.share).abs() > 0.2 * self.share {
            self.shifted = Some(now);
        }
        let more = share > self.share;
        self.share = share;
        if more && self.sent > 0 {
            self.next = self.next.min(now + self.interval()).max(self.not_before);
        }
    }
}
