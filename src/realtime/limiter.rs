//! Everything that says "not yet": the user's own limits, the learned pace, an outage.
//!
//! A user's `--rpm` is governor's (a fixed quota with a small burst). What is learned changes all the time, and governor
//! forgets its state when its quota is swapped, so that part is [`Pace`].

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock, MonotonicClock};
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::company::Advice;
use super::pace::{Pace, Wait};
use crate::api::error::Class;
use crate::api::limits::Limits;
use crate::api::retry;

/// An empty retry budget pauses the run for this long, then one request tries. What passes in seconds costs seconds.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Each request that fails then doubles the pause, up to this.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Seconds' worth of the user's rate that may leave at once.
const BURST_SECONDS: f64 = 0.1;

type Fixed = RateLimiter<NotKeyed, InMemoryState, MonotonicClock>;

/// What the user asked for; `None` is "auto".
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Requests a minute.
    pub rpm: Option<f64>,
    /// Tokens a minute.
    pub tpm: Option<u64>,
    /// Do not start slowly: pace only after a refusal.
    pub open: bool,
}

/// Why nothing is sent at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Pacing; too short to speak of.
    Pace,
    /// The service said 429 or 503.
    Told,
    /// The service cannot be reached or fails too often.
    Outage,
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pace => "pacing",
            Self::Told => "told to wait",
            Self::Outage => "service unreachable or failing",
        })
    }
}

/// All limits of one key. (Together's are per model as well; one limiter for all models errs on the polite side.)
#[derive(Debug)]
pub struct Limiter {
    fixed: Option<Fixed>,
    tokens: Option<Tokens>,
    learn_tokens: bool,
    pace: Pace,
    budget: retry::Budget,
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    pause: Duration,
    until: Instant,
    probing: bool,
}

impl Limiter {
    /// Limits as the user asked.
    pub fn new(now: Instant, rates: Rates) -> Self {
        let fixed = rates.rpm.and_then(|rpm| {
            let burst = NonZeroU32::new((rpm / 60.0 * BURST_SECONDS) as u32).unwrap_or(NonZeroU32::MIN);
            let quota = Quota::with_period(Duration::from_secs_f64(60.0 / rpm))?.allow_burst(burst);
            Some(RateLimiter::direct_with_clock(quota, MonotonicClock))
        });
        Self {
            fixed,
            tokens: rates.tpm.map(|tpm| Tokens::new(now, tpm as f64 / 60.0)),
            learn_tokens: rates.tpm.is_none(),
            pace: Pace::new(now, rates.open),
            budget: retry::Budget::default(),
            outage: None,
        }
    }

    /// Takes a slot for a request of about `tokens` tokens, or says until when to wait and why; then ask again.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&mut self, now: Instant, tokens: u64) -> Result<(), (Instant, Hold)> {
        if let Some(outage) = &mut self.outage {
            if outage.probing || now < outage.until {
                return Err((outage.until.max(now + Duration::from_secs(1)), Hold::Outage));
            }
            outage.probing = true;
            return Ok(());
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.ready(now).map_err(|until| (until, Hold::Pace))?;
        }
        self.pace.take(now).map_err(|wait| match wait {
            Wait::Slot(until) => (until, Hold::Pace),
            Wait::Cooldown(until) => (until, Hold::Told),
        })?;
        if let Some(fixed) = &self.fixed
            && let Err(not_until) = fixed.check()
        {
            let clock = MonotonicClock;
            return Err((now + not_until.wait_time_from(clock.now()), Hold::Pace));
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.spend(tokens);
        }
        Ok(())
    }

    /// A request was answered, well or badly, within the limits. `used` are its tokens if the server told.
    pub fn accepted(&mut self, now: Instant, sent_at: Instant, limits: &Limits, reserved: u64, used: Option<u64>) {
        if self.learn_tokens
            && let Some(rate) = limits.tokens_per_second.filter(|rate| TOKEN_RATES.contains(rate))
        {
            match &mut self.tokens {
                Some(bucket) => bucket.rate = rate,
                None => self.tokens = Some(Tokens::new(now, rate)),
            }
        }
        if let (Some(bucket), Some(used)) = (&mut self.tokens, used) {
            bucket.settle(reserved, used);
        }
        self.pace.accepted(now, sent_at, limits);
    }

    /// A request for which so many tokens were set aside used none.
    pub fn give_back(&mut self, reserved: u64) {
        if let Some(bucket) = &mut self.tokens {
            bucket.settle(reserved, 0);
        }
    }

    /// A request was answered well.
    pub fn succeeded(&mut self, retried: bool, chance: f64) {
        self.budget.refund(retried, chance);
        self.outage = None;
    }

    /// A 429 or 503. Nobody sends before the wait is over.
    pub fn told_to_wait(&mut self, now: Instant, sent_at: Instant, class: Class, hint: Option<Duration>, chance: f64) {
        if class == Class::AboveRate {
            self.pace.above_rate(now, sent_at, hint, chance);
        } else {
            let wait = retry::delay(class, self.pace.consecutive() + 1, hint, 0.5 + chance / 2.0);
            self.pace.no_capacity(now, sent_at, wait);
        }
        self.probe_over(now);
    }

    /// A request failed in a way that is worth a retry. Says whether the whole run is in trouble now.
    pub fn failed(&mut self, now: Instant, class: Class) -> bool {
        self.probe_over(now);
        if self.outage.is_none() && !self.budget.take(class) {
            self.outage = Some(Outage { pause: FIRST_PAUSE, until: now + FIRST_PAUSE, probing: false });
        }
        self.outage.is_some()
    }

    fn probe_over(&mut self, now: Instant) {
        if let Some(outage) = &mut self.outage
            && outage.probing
        {
            let pause = (outage.pause * 2).min(LONGEST_PAUSE);
            *outage = Outage { pause, until: now + pause, probing: false };
        }
    }

    /// Other processes are there: see [`Pace::heed`]. A limit of tokens that was learned is shared likewise.
    pub(super) fn heed(&mut self, now: Instant, advice: &Advice) {
        self.pace.heed(now, advice);
        if let Some(bucket) = self.tokens.as_mut().filter(|_| self.learn_tokens) {
            bucket.share = advice.share;
        }
    }

    /// The pace itself, to tell others of it.
    pub(super) const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Requests a second of the learned pace, of all processes that share it.
    pub fn rate(&self) -> Option<f64> {
        self.pace.rate()
    }

    /// Until when nothing is sent, and why, if that is for longer than pacing takes.
    pub fn held(&self, now: Instant) -> Option<(Instant, Hold)> {
        match &self.outage {
            Some(outage) if !outage.probing => Some((outage.until, Hold::Outage)),
            Some(_) => None,
            None => Some((self.pace.cooldown(), Hold::Told)).filter(|(until, _)| *until > now),
        }
    }
}

/// A bucket of tokens that may be overdrawn: a request's length is known only afterwards, so it is settled then.
#[derive(Debug)]
struct Tokens {
    /// Tokens a second.
    rate: f64,
    /// Of these, ours.
    share: f64,
    level: f64,
    at: Instant,
}

/// Seconds' worth of tokens that the bucket holds.
const TOKEN_SECONDS: f64 = 2.0;
/// Seconds' worth of tokens that it is overdrawn by at most: nobody waits for longer than a day.
const MOST_DEBT: f64 = 86_400.0;
/// Tokens of one request that its pace goes by. A `max_tokens` may say anything, and so may a server.
const PACED_TOKENS: u64 = 10_000_000;
/// Rates, in tokens a second, that a header may tell: what is outside is no limit but nonsense.
const TOKEN_RATES: std::ops::Range<f64> = 1.0..1e12;

impl Tokens {
    fn new(now: Instant, rate: f64) -> Self {
        Self { rate, share: 1.0, level: rate * TOKEN_SECONDS, at: now }
    }

    fn ready(&mut self, now: Instant) -> Result<(), Instant> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let rate = self.rate * self.share;
        let level = self.level.max(-rate * MOST_DEBT) + passed * rate;
        self.level = level.min(rate * TOKEN_SECONDS);
        self.at = now;
        if self.level > 0.0 {
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - self.level) / rate))
    }

    fn spend(&mut self, tokens: u64) {
        self.level -= tokens.min(PACED_TOKENS) as f64;
    }

    fn settle(&mut self, reserved: u64, used: u64) {
        self.level += reserved.min(PACED_TOKENS) as f64 - used.min(PACED_TOKENS) as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(limiter: &mut Limiter, start: Instant, seconds: f64, tokens: u64) -> u32 {
        let mut now = start;
        let mut taken = 0;
        while now < start + Duration::from_secs_f64(seconds) {
            match limiter.take(now, tokens) {
                Ok(()) => taken += 1,
                Err((until, _)) => now = until.max(now + Duration::from_micros(100)),
            }
        }
        taken
    }

    #[test]
    fn tokens_a_minute_are_kept_even_by_requests_larger_than_the_bucket() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start, Rates { rpm: None, tpm: Some(6_000), open: true });
        // 100 tokens a second, 500 a request: one every five seconds, after a full bucket.
        let taken = count(&mut limiter, start, 100.0, 500);
        assert!((20..=22).contains(&taken), "{taken}");
    }

    #[test]
    fn what_was_reserved_and_not_used_comes_back() {
        let start = Instant::now();
        let mut bucket = Tokens::new(start, 100.0);
        bucket.spend(1000);
        bucket.settle(1000, 150);
        assert!(bucket.ready(start).is_ok());
        bucket.settle(0, 100);
        assert!(bucket.ready(start).is_err());
    }

    #[test]
    fn nonsense_about_tokens_is_no_limit_and_no_debt_for_ever() {
        let start = Instant::now();
        let few = 100;
        for (rate, reserved, used) in [
            (1e-300, few, Some(few)),
            (1e300, few, Some(few)),
            (0.5, few, Some(u64::MAX)),
            (100.0, few, Some(u64::MAX)),
            (100.0, u64::MAX, None),
        ] {
            let mut limiter = Limiter::new(start, Rates { open: true, ..Rates::default() });
            let told = Limits { tokens_per_second: Some(rate), ..Limits::default() };
            let mut now = start;
            for _ in 0..3 {
                while let Err((until, _)) = limiter.take(now, reserved) {
                    assert!(until > now && until <= start + Duration::from_hours(72), "{rate} {reserved} {used:?}");
                    now = until;
                }
                limiter.accepted(now, now, &told, reserved, used);
            }
        }
    }

    #[test]
    fn an_outage_lets_one_request_try_and_ends_with_its_success() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start, Rates { rpm: None, tpm: None, open: true });
        let failures = (1..1000).find(|_| limiter.failed(start, Class::NotSent)).unwrap();
        assert_eq!(failures, 41);
        let (until, hold) = limiter.take(start, 1).unwrap_err();
        assert_eq!((until, hold), (start + FIRST_PAUSE, Hold::Outage));
        let mut now = until;
        for pause in [4, 8, 16, 32, 60, 60] {
            assert!(limiter.take(now, 1).is_ok());
            assert!(limiter.take(now, 1).is_err(), "a second probe");
            assert!(limiter.failed(now, Class::NotSent));
            let (until, _) = limiter.take(now, 1).unwrap_err();
            assert_eq!(until, now + Duration::from_secs(pause));
            now = until;
        }
        assert!(limiter.take(now, 1).is_ok());
        limiter.succeeded(true, 0.5);
        assert!(limiter.take(now, 1).is_ok());
        assert!(limiter.take(now, 1).is_ok());
        let again = (1..1000).find(|_| limiter.failed(now, Class::NotSent)).unwrap();
        assert!(again < 41, "what was spent comes back slowly");
        assert_eq!(limiter.take(now, 1), Err((now + FIRST_PAUSE, Hold::Outage)), "a new one begins anew");
    }
}
