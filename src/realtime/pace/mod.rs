//! A pacer that learns the service's rate from its refusals, and from its headers if there are any.
//!
//! It is pure: it is given the time and never sleeps. The search has five rules:
//!
//! 1. On the way up every answer raises the pace, and a quick answer raises it more: the number of requests refused before
//!    the pacer knows is (pace - limit) x latency.
//! 2. A refusal ends the climb. Everyone pauses until the requests in flight are answered. Then the requests accepted between
//!    refusals bound the rate ([`RefusalLog`]), and the pace is taken from between the bounds. While they are far apart, the
//!    pace creeps up to the next refusal, which narrows them down.
//! 3. Refusals are a budget: a measured rate is held, and probed when one more refusal is affordable.
//! 4. A 429 means "above your rate": slow down. A 503 means "no capacity": wait, and keep the rate.
//! 5. A 429 that asks for a long wait ends a fixed window ([`FixedWindowPace`]): the next ones are filled evenly.

mod bounds;
mod estimate;
mod probe;
mod shared;
mod window;

use std::time::{Duration, Instant};

use bounds::{CountAt, RefusalLog};
use shared::JOIN;
use window::FixedWindowPace;

use super::peers::Traffic;
use crate::api::limits::Limits;

/// First requests a second at an unknown service: the slowest documented tier allows little more.
const START: f64 = 2.0;
/// With few rows to send, an answer lets the pace go up at once to this many requests in the time that it took, but not above
/// the other rate. About as many are then refused in vain, which a longer run would feel at a low limit.
const HURRIED: f64 = 2.0;
const HURRIED_MOST: f64 = 50.0;
/// An answer within this many seconds comes from a server nearby, which limits nobody to a few requests a second. When this
/// rate was not refused, the pace goes up to the other at once. A limit of two a second refuses before.
const NEARBY: f64 = 0.004;
const NEARBY_FROM: f64 = 5.0;
const NEARBY_RATE: f64 = 50.0;
/// The share of a measured rate that is used. The rest is room for jitter between the two clocks.
const MARGIN: f64 = 0.98;
/// Growth a second of a pace that is not measured yet: this share for each request a second above one, within these bounds.
/// At a low pace a step too far is a large share of all requests.
const SEARCH: f64 = 0.05;
const SEARCH_LEAST: f64 = 0.03;
const SEARCH_MOST: f64 = 0.2;
/// The growth is no more than this share of the unknown range.
const SEARCH_SPREAD: f64 = 0.1;
/// While searching, refusals may be this share of the requests that a minute allows.
const SEARCH_SHARE: f64 = 0.0172;
/// The rate is never lower than one request a minute: the pacer must try something.
const SLOWEST: f64 = 1.0 / 60.0;
const FASTEST: f64 = 1e6;
/// Shortest and longest pause after a refusal without a hint; a hint may be longer.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A refusal this soon after a change of the shares is caused by the change, and says nothing about the limit.
const SHIFT: Duration = Duration::from_millis(1500);
/// A day: a longer hint is a mistake.
const LONGEST_HINT: Duration = Duration::from_hours(24);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// No pacing until the first refusal: the user chose a concurrency.
    Open,
    /// Growing with every answer until the first refusal, or up to the limit in a header.
    Start,
    /// Refused, and the rate is not measured yet: creeping up by this share a second.
    Search { growth: f64 },
    /// The rate was measured, or read from a header.
    Known,
}

/// The adaptive pacer of one (key, model).
#[derive(Debug, Clone)]
pub(super) struct Pace {
    phase: Phase,
    rate: f64,
    /// The departure of the next request.
    next: Instant,
    /// Nobody sends before this.
    not_before: Instant,
    /// Requests that left before this belong to a refusal that the pacer has acted on.
    epoch: Instant,
    log: RefusalLog,
    /// The refusal from which to estimate the rate when the pause is over.
    refusal: Option<Refusal>,
    /// The pace at the last refusal.
    refused_rate: f64,
    /// Requests since the rate last changed.
    tick: CountSince,
    /// The rate as it was last set, before any growth.
    found: FoundLimit,
    /// The share of this process in the rate; other processes have the rest.
    share: f64,
    /// The last great change of the share, or adoption of another process's rate.
    shifted: Option<Instant>,
    sent: u32,
    refused: u32,
    /// Requests of the other processes while they were known.
    others: Traffic,
    consecutive: u32,
    /// The pause after the last refusal.
    last_pause: Duration,
    header_limit: Option<f64>,
    /// Few rows are to be sent.
    hurried: bool,
    /// The last wait of a request for its slot: then the pacer, and not the demand, decides the speed.
    waited: Option<Instant>,
    /// The service counts by fixed windows.
    window: Option<FixedWindowPace>,
}

/// A requests-a-second limit, and the time at which it was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FoundLimit {
    /// Requests a second.
    pub limit: f64,
    /// The time.
    pub at: Instant,
}

/// A refusal to learn from.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    /// The departure of the refused request.
    at: Instant,
    /// The rate that was too fast.
    rate: f64,
    /// The wait that the service asked for.
    hint: Option<Duration>,
}

/// A count of requests since a moment.
#[derive(Debug, Clone, Copy)]
struct CountSince {
    since: Instant,
    count: u32,
}

impl CountSince {
    const fn new(since: Instant) -> Self {
        Self { since, count: 0 }
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.since).as_secs_f64()
    }
}

/// A wait before the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaceWait {
    /// The next slot of the pace.
    Slot(Instant),
    /// A pause that the service asked for.
    Cooldown(Instant),
}

impl Pace {
    /// Makes a pacer that starts slowly, or with `open` paces only after the first refusal.
    pub fn new(now: Instant, open: bool) -> Self {
        Self {
            phase: if open { Phase::Open } else { Phase::Start },
            rate: START * MARGIN,
            next: now,
            not_before: now,
            epoch: now,
            log: RefusalLog::default(),
            refusal: None,
            refused_rate: FASTEST,
            tick: CountSince::new(now),
            found: FoundLimit { limit: START * MARGIN, at: now },
            share: 1.0,
            shifted: None,
            sent: 0,
            refused: 0,
            others: Traffic::default(),
            consecutive: 0,
            last_pause: Duration::ZERO,
            header_limit: None,
            hurried: false,
            waited: None,
            window: None,
        }
    }

    /// Has the pace go up quickly: so few rows are to be sent that the start would take most of the time.
    pub(super) const fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Requests a second; `None` before any limit is known.
    pub fn rate(&self) -> Option<f64> {
        (self.phase != Phase::Open).then_some(self.rate)
    }

    /// Returns true if the service has shown its rate, by a refusal or a header.
    pub(super) fn is_learned(&self) -> bool {
        !matches!(self.phase, Phase::Open | Phase::Start)
    }

    /// The end of the pause that the service asked for.
    pub(super) const fn cooldown(&self) -> Instant {
        self.not_before
    }

    /// The number of refusals in a row, with nothing accepted in between.
    pub(super) const fn consecutive(&self) -> u32 {
        self.consecutive
    }

    /// Takes the next slot.
    ///
    /// # Errors
    /// The wait. Ask again after it: the rate may have changed.
    #[cfg(test)]
    pub fn take(&mut self, now: Instant) -> Result<(), PaceWait> {
        self.check(now)?;
        self.spend(now);
        Ok(())
    }

    /// Looks for a slot. The error says when to look again.
    pub fn check(&mut self, now: Instant) -> Result<(), PaceWait> {
        if now < self.not_before {
            return Err(PaceWait::Cooldown(self.not_before));
        }
        if self.phase != Phase::Open {
            self.estimate(now);
            self.grow(now);
            self.enter_window(now)?;
            if now < self.next {
                self.waited = Some(now);
                return Err(PaceWait::Slot(self.next));
            }
        }
        Ok(())
    }

    /// Takes the slot that [`check`](Self::check) has found.
    pub fn spend(&mut self, now: Instant) {
        if self.phase != Phase::Open {
            // A late timer is made up for. Unused slots are not saved up: that would make a burst.
            let interval = self.interval();
            let late = now.saturating_duration_since(self.next);
            let allowance = if self.rate * self.share < 20.0 { interval / 20 } else { Duration::from_millis(20) };
            let slot = if late > allowance { now.checked_sub(allowance).unwrap_or(now) } else { self.next };
            self.next = slot + interval;
        }
        self.sent = self.sent.saturating_add(1);
        self.log.sent(now, 1.0 / self.share - 1.0);
        self.tick.count = self.tick.count.saturating_add(1);
    }

    /// Waits for the next window if this one is full.
    fn enter_window(&mut self, now: Instant) -> Result<(), PaceWait> {
        let Some(window) = &mut self.window else { return Ok(()) };
        let entered = window.enter(CountAt { at: now, count: self.log.accepted() });
        self.rate = window.pace().clamp(SLOWEST, FASTEST);
        entered.map_err(|until| {
            self.pause(now, until.saturating_duration_since(now));
            PaceWait::Cooldown(until)
        })
    }

    /// Learns of a response other than 429 and 503: the request was within the limit.
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

    /// Learns of a 429: the rate was too high. `chance` is uniform in 0..1.
    pub(super) fn above_rate(&mut self, now: Instant, sent_at: Instant, hint: Option<Duration>, chance: f64) {
        self.refused = self.refused.saturating_add(1);
        if sent_at < self.epoch {
            // This request left before the last refusal was known. It says nothing new, but its hint may be longer.
            self.log.refused();
            self.pause(now, hint.unwrap_or_default());
            return;
        }
        self.consecutive = self.consecutive.saturating_add(1);
        self.epoch = now;
        // While several processes find their shares, they may send too much at the right rate.
        let shifting = matches!(self.phase, Phase::Known | Phase::Search { .. })
            && self.shifted.is_some_and(|at| sent_at.saturating_duration_since(at) < SHIFT);
        if !shifting {
            self.learn_from_refusal(now, sent_at, hint);
        }
        self.log.refused();
        self.pause_after_refusal(now, sent_at, hint, chance);
    }

    /// Remembers a refusal for the estimate, and slows down until then.
    fn learn_from_refusal(&mut self, now: Instant, sent_at: Instant, hint: Option<Duration>) {
        self.log.mark(sent_at);
        let rate = match self.phase {
            Phase::Open => self.log.pace().max(SLOWEST),
            _ => self.rate,
        };
        self.refusal = Some(Refusal { at: sent_at, rate, hint });
        self.header_limit = None;
        if let Phase::Open | Phase::Start = self.phase {
            self.set_rate(now, rate * 0.5, Phase::Search { growth: SEARCH_MOST });
        }
    }

    fn pause_after_refusal(&mut self, now: Instant, sent_at: Instant, hint: Option<Duration>, chance: f64) {
        // Without a hint the pause is long enough for the bucket to hold a request again, and for those in flight to be
        // answered. It doubles while nothing gets through.
        let latency = now.saturating_duration_since(sent_at).min(Duration::from_secs(1));
        // With other processes, the pause lasts until their requests are known.
        let least = if self.share < 1.0 { JOIN } else { SHORTEST_PAUSE };
        let own = self.interval().mul_f64(1.5).max(least).max(latency);
        let own = own.saturating_mul(1 << (self.consecutive - 1).min(10)).min(LONGEST_PAUSE);
        let jitter = if (0.0..=1.0).contains(&chance) { 0.1 * chance } else { 0.0 };
        let pause = hint.map_or(own, |hint| {
            let hint = hint.min(LONGEST_HINT);
            hint.max(least).max(latency) + hint.mul_f64(jitter)
        });
        self.last_pause = pause;
        self.pause(now, pause);
    }

    /// Sets the rate and the phase.
    fn set_rate(&mut self, now: Instant, rate: f64, phase: Phase) {
        self.rate = if rate.is_finite() { rate.clamp(SLOWEST, FASTEST) } else { START };
        self.phase = phase;
        self.found = FoundLimit { limit: self.rate, at: now };
        self.tick = CountSince::new(now);
    }

    /// Learns of a 503: the service lacks capacity, and the rate is not the reason.
    pub(super) fn no_capacity(&mut self, now: Instant, sent_at: Instant, wait: Duration) {
        if sent_at >= self.epoch {
            self.consecutive = self.consecutive.saturating_add(1);
            self.epoch = now;
        }
        self.log.withdraw();
        self.pause(now, wait);
    }

    /// Forgets the refusals: the rate was not their reason.
    pub(super) fn forgive(&mut self, now: Instant) {
        (self.refusal, self.log, self.window) = (None, RefusalLog::default(), None);
        (self.consecutive, self.epoch, self.not_before, self.next) = (0, now, now, now);
        if self.phase != Phase::Open {
            self.set_rate(now, self.rate, Phase::Start);
        }
    }

    /// Makes everyone wait at least this long from now.
    pub fn pause(&mut self, now: Instant, wait: Duration) {
        self.not_before = self.not_before.max(now + wait.min(LONGEST_HINT * 2));
        self.next = self.next.max(self.not_before);
    }

    /// Returns true if the pace, not the demand, limits the speed.
    fn binding(&self, now: Instant) -> bool {
        let recent = self.interval() * 2 + Duration::from_millis(20);
        self.waited.is_some_and(|waited| now.saturating_duration_since(waited) < recent)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / (self.rate * self.share))
    }

    /// Raises the pace after an answer, before the first refusal.
    fn climb(&mut self, latency: Duration, now: Instant) {
        let seconds = latency.as_secs_f64();
        let step = match self.header_limit {
            Some(_) => self.rate,
            None if self.rate < self.quick_rate(seconds) => self.quick_rate(seconds) - self.rate,
            // The pace doubles in about 0.12 s at no latency, 0.5 s at 0.2 s, 1 s at 1 s. It never grows by more than a third.
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

    /// The rate to which the pace goes up at once after an answer that took so long.
    fn quick_rate(&self, seconds: f64) -> f64 {
        if self.hurried {
            (HURRIED / seconds).min(HURRIED_MOST)
        } else if seconds < NEARBY && self.rate >= NEARBY_FROM {
            NEARBY_RATE
        } else {
            0.0
        }
    }

    /// Raises the pace with time, after the first refusal.
    fn grow(&mut self, now: Instant) {
        let seconds = self.tick.seconds(now);
        if seconds < (2.0 / (self.rate * self.share)).max(0.25) {
            return;
        }
        // A pace that was not used cannot be too slow.
        let used = f64::from(self.tick.count) >= 0.8 * self.rate * self.share * seconds - 1.0;
        self.tick = CountSince::new(now);
        let quiet = now.saturating_duration_since(self.found.at);
        let growth = match self.phase {
            Phase::Search { growth } if self.may_search() => Some(growth),
            Phase::Search { .. } | Phase::Known if self.window.is_none() => self.probe_growth(quiet),
            _ => None,
        };
        let Some(growth) = growth else { return };
        if used {
            self.rate = (self.rate * growth.mul_add(seconds.min(1.0), 1.0)).min(FASTEST);
        }
    }

    /// Returns true if one more refusal is affordable within a minute, or among all requests.
    fn may_search(&self) -> bool {
        let all = self.all_sent();
        all.refused + 1.0 <= (self.rate * 60.0).max(all.sent) * SEARCH_SHARE
    }

    /// Takes over a limit from a header.
    fn read_header(&mut self, limit: f64) {
        if self.header_limit == Some(limit) || self.refused > 0 {
            // After a refusal the pacer believes its own measurement.
            return;
        }
        match self.phase {
            Phase::Start | Phase::Known => {
                self.header_limit = Some(limit);
                if limit * MARGIN <= self.rate {
                    // The next slot was planned at the faster pace.
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
