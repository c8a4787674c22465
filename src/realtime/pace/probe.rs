//! The search for more than a measured rate: it may have risen, or another process that shares it may have ended.
//!
//! At a low pace a refusal is a large share of all requests, so the pacer waits long before it risks one. At a high pace it
//! risks one every few seconds. Processes that share a limit and do not know of each other come to equal parts that way: each
//! adds about as many requests a second, and a faster one is refused more often.

use std::time::Duration;

use super::{Pace, SHORTEST_PAUSE};

/// From this pace on, refusals are cheap.
const FAST: f64 = 12.0;

/// A measured rate is held for as many times the pause that the last refusal cost.
const PAUSES: u32 = 45;

/// The manners of the search, slow or fast.
struct ProbeManners {
    /// A measured rate is held for as many requests, within these bounds.
    hold: (f64, Duration, Duration),
    /// After as many requests without a refusal, within these bounds, one more is always affordable.
    patience: (f64, Duration, Duration),
    /// Before, one more is affordable if no more than this share of all requests was refused, and beside it
    share: f64,
    /// as many: a short climb at the start may cost a few.
    beside: f64,
    /// The growth a second: this share of the pace,
    growth: f64,
    /// and as many requests a second.
    step: f64,
    /// The growth doubles after this time without a refusal, up to eight times.
    doubles: f64,
}

const MINUTE: Duration = Duration::from_mins(1);
const AT_LOW_PACE: ProbeManners = ProbeManners {
    hold: (0.0, Duration::from_secs(50), Duration::from_secs(50)),
    patience: (0.0, MINUTE, MINUTE),
    share: 0.004,
    beside: 0.0,
    growth: 0.01,
    step: 0.0,
    doubles: 10.0,
};
const AT_HIGH_PACE: ProbeManners = ProbeManners {
    hold: (80.0, Duration::from_millis(1500), Duration::from_secs(50)),
    patience: (100.0, Duration::from_secs(4), MINUTE),
    share: 0.008,
    beside: 10.0,
    growth: 0.002,
    step: 1.0,
    doubles: 3.0,
};

impl Pace {
    /// The growth a second above a measured rate that was not refused for this time. `None`: the rate is held.
    pub(super) fn probe_growth(&self, quiet: Duration) -> Option<f64> {
        let own = self.rate * self.share;
        let manners = if own < FAST { AT_LOW_PACE } else { AT_HIGH_PACE };
        let time_of = |(requests, least, most): (f64, Duration, Duration)| {
            Duration::try_from_secs_f64(requests / own).unwrap_or(most).clamp(least, most)
        };
        let hold = time_of(manners.hold).max((self.last_pause.saturating_sub(SHORTEST_PAUSE) * PAUSES).min(MINUTE));
        if self.header_limit.is_some() || quiet <= hold {
            return None;
        }
        let all = self.all_sent();
        let affordable = all.refused + 1.0 < all.sent.mul_add(manners.share, manners.beside);
        if !affordable && quiet <= time_of(manners.patience) {
            return None;
        }
        let doubled = 2f64.powf((quiet.saturating_sub(hold).as_secs_f64() / manners.doubles).min(3.0));
        Some((manners.growth + manners.step / own) * doubled)
    }
}
