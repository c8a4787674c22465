//! How fast to send: a pacer that learns the service's rate from its refusals, and from its headers where they are there.
//!
//! Pure: it is told the time and never sleeps. What carries the search:
//!
//! 1. On the way up every answer adds to the pace, the more the quicker it came: what is refused before we know is
//!    (pace - limit) x latency.
//! 2. A refusal ends the climb. Everyone pauses until what was in flight is answered; then `bucket` tells which rates explain all
//!    that was sent and refused. The pace is taken from their middle; while they are far apart it creeps up to the next
//!    refusal, which tells them apart.
//! 3. Refusals are a budget: a measured rate is held, and probed when one more refusal is affordable.
//! 4. A 429 says "above your rate": slow down. A 503 says "no capacity": wait, keep the rate.

mod bucket;
mod judge;
mod others;

use std::time::{Duration, Instant};

use bucket::Log;
use others::JOIN;

use crate::api::limits::Limits;

/// Requests a second at which an unknown service is met: the slowest documented tier allows little more.
const START: f64 = 2.0;
/// Share of a measured rate that is used: leaves room for jitter between the two clocks.
const MARGIN: f64 = 0.98;
/// Growth a second of a pace that is not measured yet: this share for each request a second above one, within these bounds.
/// At a low pace a step too far is a large share of all requests.
const SEARCH: f64 = 0.05;
const SEARCH_LEAST: f64 = 0.03;
const SEARCH_MOST: f64 = 0.2;
/// ... and no more than this share of what is unknown.
const SEARCH_SPREAD: f64 = 0.1;
/// Growth a second above a measured rate; doubled every ten seconds that it meets no refusal.
const PROBE: f64 = 0.01;
/// How long a measured rate is held before it is probed.
const HOLD: Duration = Duration::from_secs(50);
/// Probing waits while more than this share of all requests was refused, but no longer than `PATIENCE`.
const REFUSED_SHARE: f64 = 0.004;
const PATIENCE: Duration = Duration::from_mins(1);
/// While searching, this share of what a minute allows may be refused.
const SEARCH_SHARE: f64 = 0.0172;
/// The rate is never lower than one request a minute: something must be tried.
const SLOWEST: f64 = 1.0 / 60.0;
const FASTEST: f64 = 1e6;
/// Shortest pause after a refusal that gives no hint, and the longest that is ours; a hint may be longer.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A refusal so soon after a change among the processes tells of that change, not of the limit.
const SHIFT: Duration = Duration::from_millis(1500);
/// A day: a longer hint is a mistake.
const LONGEST_HINT: Duration = Duration::from_hours(24);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// No pacing until the first refusal: the user chose a concurrency.
    Open,
    /// Growing with every answer until the first refusal, or up to the limit that a header told.
    Start,
    /// Refused, but the rate is not measured yet: creeping up, by this share a second.
    Search { growth: f64 },
    /// The rate was measured, or read from a header.
    Known,
}

/// The adaptive pacer of one (key, model).
#[derive(Debug, Clone)]
pub struct Pace {
    phase: Phase,
    rate: f64,
    /// When the next request may leave.
    next: Instant,
    /// Nobody sends before this.
    not_before: Instant,
    /// Requests that left before this belong to a refusal already acted on.
    epoch: Instant,
    log: Log,
    /// A refusal to be judged when the pause is over: the pace that was refused, and the service's hint.
    judge: Option<(f64, Option<Duration>)>,
    /// When the rate was last settled or grown, and what left since.
    tick: Tally,
    /// When the rate was last settled, ...
    settled: Instant,
    /// ... and at what.
    found: f64,
    /// Our share of the rate: other processes have the rest.
    share: f64,
    /// When that changed by much, or a rate was taken over.
    shifted: Option<Instant>,
    /// When we last heard of the others.
    heard: Instant,
    sent: u32,
    refused: u32,
    /// The same of other processes, while we knew of them.
    others: (f64, f64),
    consecutive: u32,
    header_limit: Option<f64>,
    /// When a request last had to wait for its slot: the pacer, and not the demand, decides how fast we are.
    waited: Option<Instant>,
    /// Since when, and how many were accepted before that: what a fixed window allows is counted from its start.
    window: (Instant, u32),
}

/// A count since a moment.
#[derive(Debug, Clone, Copy)]
struct Tally {
    since: Instant,
    count: u32,
}

impl Tally {
    const fn new(since: Instant) -> Self {
        Self { since, count: 0 }
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.since).as_secs_f64()
    }
}

/// Why sending must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The next slot of the pace.
    Slot(Instant),
    /// A pause that the service asked for.
    Cooldown(Instant),
}

impl Pace {
    /// A pacer that starts slowly, or with `open` not at all before the first refusal.
    pub fn new(now: Instant, open: bool) -> Self {
        Self {
            phase: if open { Phase::Open } else { Phase::Start },
            rate: START * MARGIN,
            next: now,
            not_before: now,
            epoch: now,
            log: Log::new(),
            judge: None,
            tick: Tally::new(now),
            settled: now,
            found: START * MARGIN,
            share: 1.0,
            shifted: None,
            heard: now,
            sent: 0,
            refused: 0,
            others: (0.0, 0.0),
            consecutive: 0,
            header_limit: None,
            waited: None,
            window: (now, 0),
        }
    }

    /// Requests a second, unless unlimited.
    pub fn rate(&self) -> Option<f64> {
        (self.phase != Phase::Open).then_some(self.rate)
    }

    /// Until when the service asked everyone to wait.
    pub const fn cooldown(&self) -> Instant {
        self.not_before
    }

    /// How many refusals in a row there were, with nothing accepted in between.
    pub const fn consecutive(&self) -> u32 {
        self.consecutive
    }

    /// Takes the next slot, or says until when to wait. After a wait, ask again: the rate may have changed.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&mut self, now: Instant) -> Result<(), Wait> {
        if now < self.not_before {
            return Err(Wait::Cooldown(self.not_before));
        }
        if self.phase != Phase::Open {
            self.judge(now);
            self.grow(now);
            if now < self.next {
                self.waited = Some(now);
                return Err(Wait::Slot(self.next));
            }
            // A late timer is made up for; slots that nobody wanted are not saved up: that would be a burst.
            let interval = self.interval();
            let late = now.saturating_duration_since(self.next);
            let allowance = if self.rate * self.share < 20.0 { interval / 20 } else { Duration::from_millis(20) };
            let slot = if late > allowance { now.checked_sub(allowance).unwrap_or(now) } else { self.next };
            self.next = slot + interval;
        }
        self.sent = self.sent.saturating_add(1);
        self.log.sent(now, 1.0 / self.share - 1.0);
        self.tick.count = self.tick.count.saturating_add(1);
        Ok(())
    }

    /// A response that was neither 429 nor 503: within the limit, whatever else it says.
    pub fn accepted(&mut self, now: Instant, sent_at: Instant, limits: &Limits) {
        if sent_at >= self.epoch {
            self.consecutive = 0;
        }
        if let Some(limit) = limits.requests_per_second.filter(|l| *l > SLOWEST && *l < FASTEST) {
            self.read_header(limit);
        }
        if self.phase == Phase::Start && self.binding(now) {
            self.climb(now.saturating_duration_since(sent_at), now);
        }
    }

    /// A 429: above our rate. `chance` is uniform in 0..1.
    pub fn above_rate(&mut self, now: Instant, sent_at: Instant, hint: Option<Duration>, chance: f64) {
        self.refused = self.refused.saturating_add(1);
        self.log.refused(sent_at);
        if sent_at < self.epoch {
            // Sent before the last refusal was known: it tells nothing new, but its hint may be longer.
            self.pause(now, hint.unwrap_or_default());
            return;
        }
        self.consecutive = self.consecutive.saturating_add(1);
        self.epoch = now;
        // While several find their shares, too much may be sent at the right rate.
        let shifting = matches!(self.phase, Phase::Known | Phase::Search { .. })
            && self.shifted.is_some_and(|at| sent_at.saturating_duration_since(at) < SHIFT);
        if !shifting {
            self.log.mark(sent_at);
            let high = match self.phase {
                Phase::Open => self.log.pace().max(SLOWEST),
                _ => self.rate,
            };
            self.judge = Some((high, hint));
            self.header_limit = None;
            if let Phase::Open | Phase::Start = self.phase {
                self.settle(now, high * 0.5, Phase::Search { growth: SEARCH_MOST });
            }
        }
        // Unhinted: long enough for the bucket to hold a request again and for those in flight to be answered;
        // doubled while nothing gets through.
        let latency = now.saturating_duration_since(sent_at).min(Duration::from_secs(1));
        // Among others, until it is known what they sent meanwhile.
        let least = if self.share < 1.0 { JOIN } else { SHORTEST_PAUSE };
        let own = self.interval().mul_f64(1.5).max(least).max(latency);
        let own = own.saturating_mul(1 << (self.consecutive - 1).min(10)).min(LONGEST_PAUSE);
        let jitter = if (0.0..=1.0).contains(&chance) { 0.1 * chance } else { 0.0 };
        self.pause(
            now,
            hint.map_or(own, |hint| {
                let hint = hint.min(LONGEST_HINT);
                hint.max(least).max(latency) + hint.mul_f64(jitter)
            }),
        );
    }

    fn settle(&mut self, now: Instant, rate: f64, phase: Phase) {
        self.rate = if rate.is_finite() { rate.clamp(SLOWEST, FASTEST) } else { START };
        self.phase = phase;
        (self.settled, self.found) = (now, self.rate);
        self.tick = Tally::new(now);
    }

    /// A 503: the service lacks capacity; our rate is not the reason.
    pub fn no_capacity(&mut self, now: Instant, sent_at: Instant, wait: Duration) {
        if sent_at >= self.epoch {
            self.consecutive = self.consecutive.saturating_add(1);
            self.epoch = now;
        }
        self.log.withdraw(sent_at);
        self.pause(now, wait);
    }

    /// Everyone waits at least so long from now.
    pub fn pause(&mut self, now: Instant, wait: Duration) {
        self.not_before = self.not_before.max(now + wait.min(LONGEST_HINT * 2));
        self.next = self.next.max(self.not_before);
    }

    fn binding(&self, now: Instant) -> bool {
        let recent = self.interval() * 2 + Duration::from_millis(20);
        self.waited.is_some_and(|waited| now.saturating_duration_since(waited) < recent)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / (self.rate * self.share))
    }

    /// An answer without a refusal so far.
    fn climb(&mut self, latency: Duration, now: Instant) {
        let seconds = latency.as_secs_f64();
        let step = match self.header_limit {
            Some(_) => self.rate,
            // Doubles in about 0.12 s at no latency, 0.5 s at 0.2 s, 1 s at 1 s; and never by more than a third at once.
            None => (6.0 / 10.0f64.mul_add(seconds, 1.0)).max(1.6).min(self.rate / 3.0),
        };
        self.rate = (self.rate + step).min(FASTEST);
        if let Some(limit) = self.header_limit
            && self.rate >= limit * MARGIN
        {
            self.rate = limit * MARGIN;
            self.phase = Phase::Known;
        }
        self.next = self.next.min(now + self.interval());
    }

    /// Growth by time, after the first refusal.
    fn grow(&mut self, now: Instant) {
        let seconds = self.tick.seconds(now);
        if seconds < (2.0 / (self.rate * self.share)).max(0.25) {
            return;
        }
        // Only what was used can be too slow.
        let used = f64::from(self.tick.count) >= 0.8 * self.rate * self.share * seconds - 1.0;
        self.tick = Tally::new(now);
        let quiet = now.saturating_duration_since(self.settled);
        let growth = match self.phase {
            Phase::Search { growth } if self.may_search() => growth,
            Phase::Search { .. } | Phase::Known if quiet > HOLD && self.may_probe(quiet) => {
                PROBE * 2f64.powf((quiet.saturating_sub(HOLD).as_secs_f64() / 10.0).min(3.0))
            }
            _ => return,
        };
        if used {
            self.rate = (self.rate * growth.mul_add(seconds.min(1.0), 1.0)).min(FASTEST);
        }
    }

    /// Whether one more refusal would be affordable within a minute, or of all that was sent.
    fn may_search(&self) -> bool {
        let (sent, refused) = self.all_sent();
        refused + 1.0 <= (self.rate * 60.0).max(sent) * SEARCH_SHARE
    }

    /// Whether one more refusal would be affordable in the long run.
    fn may_probe(&self, quiet: Duration) -> bool {
        let (sent, refused) = self.all_sent();
        self.header_limit.is_none() && (quiet > PATIENCE || refused + 1.0 < sent * REFUSED_SHARE)
    }

    fn read_header(&mut self, limit: f64) {
        if self.header_limit == Some(limit) || self.refused > 0 {
            // After a refusal, the measurement is believed instead.
            return;
        }
        match self.phase {
            Phase::Start | Phase::Known => {
                self.header_limit = Some(limit);
                if limit * MARGIN <= self.rate {
                    // The next slot was planned at a faster pace.
                    let planned = self.interval();
                    self.rate = limit * MARGIN;
                    self.phase = Phase::Known;
                    self.next += self.interval().saturating_sub(planned);
                } else if self.phase == Phase::Known {
                    self.phase = Phase::Start;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
