//! How fast to send: a pacer that learns the service's rate from its refusals, and from its headers where they are there.
//!
//! Pure: it is told the time and never sleeps. Three ideas carry it.
//!
//! 1. *Between two refusals the bucket was empty twice*, so what was accepted in between, over the time in between, **is**
//!    the service's rate, whatever the size of its bucket. One such measurement ends the search.
//! 2. Refusals are a budget: above a measured rate it probes only while the refused share stays small.
//! 3. A 429 says "above your rate": slow down. A 503 says "no capacity": wait, keep the rate.

use std::time::{Duration, Instant};

use crate::api::limits::Limits;

/// Where an unknown service is met: the slowest documented tier allows little more.
const START: f64 = 2.0;
/// Least time on one level of the doubling.
const LEVEL_TIME: Duration = Duration::from_millis(250);
/// Share of a measured rate that is used: leaves room for jitter between the two clocks.
const MARGIN: f64 = 0.98;
/// Growth a second above a measured rate.
const PROBE: f64 = 1.01;
/// How long a measured rate is held before it is probed.
const HOLD: Duration = Duration::from_secs(20);
/// Probing stops while more than this share of all requests was refused.
const REFUSED_SHARE: f64 = 0.004;
/// Answers that measure the rate right after the first refusal, and from which rate on that many refusals are affordable.
const MEASURE: u32 = 12;
const MEASURE_FROM: f64 = 12.0;
/// A request may leave this much early, so that a late timer costs nothing.
const SLACK: Duration = Duration::from_millis(20);
/// The rate is never lower than one request a minute: something must be tried.
const SLOWEST: f64 = 1.0 / 60.0;
/// Longest pause that is ours; a hint may be longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// No pacing until the first refusal: the user chose a concurrency.
    Open,
    /// Doubling.
    Start { answers: u32 },
    /// Refused for the first time: the bucket is empty now, so what is accepted of the next few tells the rate.
    Measure { from: Instant, last: Instant, accepted: u32, refused: u32 },
    /// Creeping up (growth a second) to the next refusal, which measures over a longer time.
    Search { growth: f64 },
    /// The rate was measured, or read from a header.
    Known,
}

/// The adaptive pacer of one (key, model).
#[derive(Debug, Clone)]
pub struct Pace {
    phase: Phase,
    rate: f64,
    /// Theoretical arrival time (GCRA) of the next request.
    next: Instant,
    /// Nobody sends before this.
    not_before: Instant,
    /// Requests that left before this belong to a refusal already acted on.
    epoch: Instant,
    /// When the present rate began.
    level_since: Instant,
    /// The last refusal: when it was, and what was accepted since.
    anchor: Option<Instant>,
    accepted_since_anchor: u64,
    /// Answers of the last second, to tell how fast we truly were when first refused.
    recent: Recent,
    sent: u64,
    refused: u64,
    consecutive: u32,
    header_limit: Option<f64>,
    /// Began without pacing.
    open: bool,
    /// The pacer, and not the demand, decided when the last requests left.
    binding: bool,
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
    #[must_use]
    pub fn new(now: Instant, open: bool) -> Self {
        Self {
            phase: if open { Phase::Open } else { Phase::Start { answers: 0 } },
            rate: START,
            next: now,
            not_before: now,
            epoch: now,
            level_since: now,
            anchor: None,
            accepted_since_anchor: 0,
            recent: Recent::new(now),
            sent: 0,
            refused: 0,
            consecutive: 0,
            header_limit: None,
            open,
            binding: false,
        }
    }

    /// Requests a second, unless unlimited.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        (!self.unpaced()).then_some(self.rate)
    }

    /// Until when the service asked everyone to wait.
    #[must_use]
    pub const fn cooldown(&self) -> Instant {
        self.not_before
    }

    /// Takes the next slot, or says until when to wait. After a wait, ask again: the rate may have changed.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&mut self, now: Instant) -> Result<(), Wait> {
        if now < self.not_before {
            return Err(Wait::Cooldown(self.not_before));
        }
        if self.unpaced() {
            self.sent += 1;
            return Ok(());
        }
        self.grow(now);
        if self.next > now + SLACK.min(self.interval()) {
            self.binding = true;
            return Err(Wait::Slot(self.next - SLACK.min(self.interval()) / 2));
        }
        // Unused slots are not saved up: that would be a burst.
        if self.next + SLACK < now {
            self.binding = self.next + self.interval().mul_f64(0.5) + SLACK > now;
            self.next = now;
        }
        self.next += self.interval();
        self.sent += 1;
        Ok(())
    }

    /// A response that was neither 429 nor 503: within the limit, whatever else it says.
    pub fn accepted(&mut self, now: Instant, sent_at: Instant, limits: &Limits) {
        self.recent.add(now);
        if sent_at >= self.epoch {
            self.accepted_since_anchor += 1;
            self.consecutive = 0;
        }
        if let Some(limit) = limits.requests_per_second.filter(|l| *l > SLOWEST && *l < 1e6) {
            self.read_header(now, limit);
        }
        match &mut self.phase {
            Phase::Start { answers } => *answers += u32::from(sent_at >= self.level_since),
            Phase::Measure { from, last, accepted, .. } if sent_at >= *from => {
                *accepted += 1;
                *last = sent_at.max(*last);
                self.conclude(now, false);
            }
            _ => {}
        }
        self.climb(now);
    }

    /// A 429: above our rate.
    pub fn above_rate(&mut self, now: Instant, sent_at: Instant, hint: Option<Duration>, chance: f64) {
        self.refused += 1;
        if sent_at < self.epoch {
            // Sent before the last refusal was known: it tells nothing new, but its hint may be longer.
            self.pause(now, hint.unwrap_or_default());
            return;
        }
        self.header_limit = None;
        match self.phase {
            Phase::Open | Phase::Start { .. } => {
                self.phase = Phase::Measure { from: sent_at, last: sent_at, accepted: 0, refused: 0 };
                let affordable = self.rate >= MEASURE_FROM;
                if hint.is_some() || !affordable {
                    self.conclude(now, true);
                }
            }
            Phase::Measure { from, last, accepted, refused } => {
                self.phase = Phase::Measure { from, last: last.max(sent_at), accepted, refused: refused + 1 };
                self.conclude(now, hint.is_some());
            }
            Phase::Search { .. } | Phase::Known => self.narrow(now),
        }
        if matches!(self.phase, Phase::Measure { .. }) {
            return;
        }
        self.consecutive += 1;
        // Unhinted: one and a half slots, so that the empty bucket holds a request again; doubled while nothing gets through.
        let own = self
            .interval()
            .mul_f64(1.5)
            .max(Duration::from_millis(100))
            .saturating_mul(1 << (self.consecutive - 1).min(9));
        let jitter = hint.unwrap_or_default().mul_f64(0.1 * chance);
        self.pause(now, hint.unwrap_or_default().max(own.min(LONGEST_PAUSE)) + jitter);
    }

    /// Ends the measurement that the first refusal began, when enough is known or `cut` says that no more will be.
    fn conclude(&mut self, now: Instant, cut: bool) {
        let Phase::Measure { from, last, accepted, refused } = self.phase else { return };
        if !cut && accepted + refused < MEASURE {
            return;
        }
        let seconds = last.duration_since(from).as_secs_f64();
        if accepted >= 4 && seconds > 0.0 {
            self.settle(now, (f64::from(accepted) + 0.5) / seconds * 0.95, Phase::Search { growth: 1.03 });
            return;
        }
        // Too few to tell. A bucket of a second or so was drained on the way up; about half of what the last second took is the rate.
        let drained = self.recent.rate(now) * 0.45;
        let guess = if self.open { drained } else { drained.clamp(self.rate * 0.25, self.rate * 0.49) };
        let guess = if self.rate <= 4.0 * START { guess.max(START * MARGIN) } else { guess };
        let growth = 1.0 + (0.03 * guess).clamp(0.03, 0.15);
        self.settle(now, guess, Phase::Search { growth });
    }

    /// Refused again: what was accepted since the last refusal bounds the rate from below, the present rate from above.
    fn narrow(&mut self, now: Instant) {
        let seconds = self.anchor.map_or(f64::MAX, |anchor| now.duration_since(anchor).as_secs_f64()).max(0.05);
        let accepted = self.accepted_since_anchor as f64;
        // Half a request off: the bucket may have held up to one at either end.
        let low = ((accepted - 0.5) / seconds).min(self.rate);
        if accepted < 4.0 {
            // Too few to measure by, and far too fast.
            self.settle(now, self.rate * 0.6, Phase::Search { growth: 1.03 });
        } else if self.phase == Phase::Known {
            self.settle(now, low.max(self.rate * 0.93) * MARGIN, Phase::Known);
        } else if low < self.rate * 0.75 {
            // The bucket ran over on the way: the truth is nearer to where it was refused.
            self.settle(now, low.max(self.rate * 0.8), Phase::Search { growth: 1.03 });
        } else {
            self.settle(now, low * MARGIN, Phase::Known);
        }
    }

    fn settle(&mut self, now: Instant, rate: f64, phase: Phase) {
        self.rate = rate.clamp(SLOWEST, 1e6);
        self.phase = phase;
        self.anchor = Some(now);
        self.accepted_since_anchor = 0;
        self.level_since = now;
        self.epoch = now;
    }

    /// A 503: the service lacks capacity; our rate is not the reason.
    pub fn no_capacity(&mut self, now: Instant, sent_at: Instant, wait: Duration) {
        if sent_at >= self.epoch {
            self.consecutive += 1;
            self.epoch = now;
        }
        self.pause(now, wait);
    }

    /// How many refusals in a row there were, with nothing accepted in between.
    #[must_use]
    pub const fn consecutive(&self) -> u32 {
        self.consecutive
    }

    /// Everyone waits at least so long from now.
    pub fn pause(&mut self, now: Instant, wait: Duration) {
        self.not_before = self.not_before.max(now + wait);
        self.next = self.next.max(self.not_before);
    }

    /// Not refused yet, or measuring the first refusal, of a run that began without pacing.
    const fn unpaced(&self) -> bool {
        matches!(self.phase, Phase::Open) || (self.open && matches!(self.phase, Phase::Measure { .. }))
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.rate)
    }

    fn climb(&mut self, now: Instant) {
        let Phase::Start { answers } = self.phase else { return };
        let (needed, time, factor) = match self.header_limit {
            // The limit is known: walk up to it briskly, but still step by step.
            Some(_) => (1, Duration::from_millis(50), 4.0),
            // Low levels want more answers: there a refusal is a large share of all requests.
            None if self.rate < 6.0 => ((self.rate * 1.5) as u32, LEVEL_TIME, 2.0),
            None => (4, LEVEL_TIME, 2.0),
        };
        if answers < needed || now - self.level_since < time || !self.binding {
            return;
        }
        self.rate *= factor;
        self.phase = Phase::Start { answers: 0 };
        self.level_since = now;
        if let Some(limit) = self.header_limit
            && self.rate >= limit * MARGIN
        {
            self.rate = limit * MARGIN;
            self.phase = Phase::Known;
        }
        self.next = self.next.min(now + self.interval());
    }

    fn grow(&mut self, now: Instant) {
        let seconds = now.duration_since(self.level_since).as_secs_f64();
        let factor = match self.phase {
            Phase::Search { growth } => growth,
            Phase::Known if now.duration_since(self.anchor.unwrap_or(self.level_since)) > HOLD && self.may_probe() => {
                PROBE
            }
            _ => return,
        };
        if seconds < 0.25 {
            return;
        }
        // Only what was used can be too slow.
        if self.binding && self.accepted_since_anchor > 0 {
            self.rate *= factor.powf(seconds.min(1.0));
        }
        self.level_since = now;
    }

    /// Whether one more refusal would be affordable.
    fn may_probe(&self) -> bool {
        self.header_limit.is_none() && (self.refused as f64 + 2.0) < self.sent as f64 * REFUSED_SHARE
    }

    fn read_header(&mut self, now: Instant, limit: f64) {
        if self.header_limit == Some(limit) {
            return;
        }
        match self.phase {
            // A first or a changed limit; after a refusal, the measurement is believed instead.
            Phase::Start { .. } | Phase::Known if self.anchor.is_none() => {
                self.header_limit = Some(limit);
                if limit * MARGIN <= self.rate {
                    self.rate = limit * MARGIN;
                    self.phase = Phase::Known;
                } else if self.phase == Phase::Known {
                    self.phase = Phase::Start { answers: 0 };
                }
                self.level_since = now;
            }
            _ => {}
        }
    }
}

/// Counts events in tenths of a second over the last second.
#[derive(Debug, Clone)]
struct Recent {
    slots: [u32; 10],
    since: Instant,
    at: u64,
}

impl Recent {
    fn new(now: Instant) -> Self {
        Self { slots: [0; 10], since: now, at: 0 }
    }

    fn turn(&mut self, now: Instant) {
        let tick = u64::try_from(now.duration_since(self.since).as_millis() / 100).unwrap_or(u64::MAX);
        for gone in (self.at + 1)..=tick.min(self.at + 10) {
            self.slots[(gone % 10) as usize] = 0;
        }
        self.at = tick;
    }

    fn add(&mut self, now: Instant) {
        self.turn(now);
        self.slots[(self.at % 10) as usize] += 1;
    }

    /// Events a second; over less than a second if less has passed.
    fn rate(&mut self, now: Instant) -> f64 {
        self.turn(now);
        let seconds = now.duration_since(self.since).as_secs_f64().clamp(0.1, 1.0);
        f64::from(self.slots.iter().sum::<u32>()) / seconds
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
