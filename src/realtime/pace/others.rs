//! A pacer among those of other processes: what it tells them, and what it makes of what they say.

use std::time::{Duration, Instant};

use super::{Pace, Phase, SEARCH_MOST};
use crate::realtime::company::{Advice, Learned};

/// How long processes take to hear of each other, and so long the first request of one that joins waits.
pub(super) const JOIN: Duration = Duration::from_millis(400);
/// What is heard of others is so old on the whole.
const LAG: Duration = Duration::from_millis(100);
/// However many they are.
const LEAST_SHARE: f64 = 1e-4;

impl Pace {
    /// What has been learned of the limit, for other processes.
    pub fn learned(&self, now: Instant) -> Option<Learned> {
        let growth = match self.phase {
            Phase::Open | Phase::Start => return None,
            Phase::Search { growth } => Some(growth),
            Phase::Known => None,
        };
        let age = now.saturating_duration_since(self.settled).as_secs_f64();
        // What is still to be judged is not known.
        self.judge.is_none().then_some(Learned { limit: self.found, age, rate: self.rate, growth })
    }

    /// What was found, and when, if anything was.
    pub fn found(&self) -> Option<(f64, Instant)> {
        (!matches!(self.phase, Phase::Open | Phase::Start)).then_some((self.found, self.settled))
    }

    /// Sent so far, and refused of it.
    pub const fn sent(&self) -> (u32, u32) {
        (self.sent, self.refused)
    }

    /// The same with what others sent.
    pub(super) fn all_sent(&self) -> (f64, f64) {
        (f64::from(self.sent) + self.others.0, f64::from(self.refused) + self.others.1)
    }

    /// Whether the pacer, and not the demand, has decided lately how fast we are.
    pub fn wants(&self, now: Instant) -> bool {
        let lately = self.interval() * 2 + Duration::from_secs(1);
        self.waited.is_some_and(|waited| now.saturating_duration_since(waited) < lately)
    }

    /// There are other processes: what follows from what they say.
    pub(in crate::realtime) fn heed(&mut self, now: Instant, advice: &Advice) {
        let Some((sent, refused)) = advice.others else {
            self.share = 1.0;
            self.heard = now;
            return;
        };
        let then = now.checked_sub(LAG).unwrap_or(now);
        self.log.others(self.heard, then, sent, refused);
        self.others = (self.others.0 + sent, self.others.1 + refused);
        self.heard = then;
        if let Some((learned, at)) = advice.adopt {
            let growth = learned.growth.map(|growth| growth.clamp(0.0, SEARCH_MOST));
            self.settle(now, learned.rate, growth.map_or(Phase::Known, |growth| Phase::Search { growth }));
            (self.settled, self.found) = (at, learned.limit);
            self.shifted = Some(now);
            if self.sent == 0 {
                // Until the others have seen us.
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
