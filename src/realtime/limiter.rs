//! All reasons to delay a request: the user's limits, the learned rate, the requests in flight, an outage.

use std::time::{Duration, Instant};

use super::breaker::{Breaker, Probe};
use super::concurrency::{AnsweredRequest, Concurrency};
use super::pace::{Pace, PaceWait};
use super::peers::Advice;
use super::quota::{RequestQuota, TokenCharge, TokenQuota};
use crate::api::error::Class;
use crate::api::limits::{Limits, ParallelLimit};
use crate::api::retry;

/// While as many requests are in flight as allowed, the next one asks again when one of them ends, or after this time.
const FULL_CHECK: Duration = Duration::from_secs(1);
/// Believable token limits of a header, in tokens a second. Anything else is a mistake and sets no limit.
const TOKEN_RATES: std::ops::Range<f64> = 1.0..1e12;

/// Limits that the user set; `None` is "auto".
#[derive(Debug, Clone, Copy, Default)]
pub struct RateOptions {
    /// Requests a minute.
    pub rpm: Option<f64>,
    /// Tokens a minute.
    pub tpm: Option<u64>,
    /// Start at full speed, and pace only after a refusal.
    pub open: bool,
}

/// The reason why nothing is sent at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The next slot of the pace; too short to report.
    Pace,
    /// A wait that the service asked for (429, 503).
    Cooldown,
    /// The service cannot be reached or fails too often.
    Outage,
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pace => "pacing",
            Self::Cooldown => "rate-limited",
            Self::Outage => "service unreachable or failing",
        })
    }
}

/// The time until which nothing is sent, and the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// Ask again then.
    pub until: Instant,
    /// The reason.
    pub hold: Hold,
}

impl Delay {
    const fn pace(until: Instant) -> Self {
        Self { until, hold: Hold::Pace }
    }
}

/// The leave of a request to depart. Give it [back](Limiter::leave) when the request has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TakenSlot {
    /// The charge for its tokens, if tokens are limited.
    pub charge: Option<TokenCharge>,
    /// The probe that the request is, if the service could not be reached.
    probe: Option<Probe>,
}

/// The departure of a request, and the arrival of its response.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The departure.
    pub sent_at: Instant,
    /// The arrival.
    pub now: Instant,
    /// Requests in flight at the departure, itself included.
    pub in_flight: usize,
    /// The charge for its tokens, if tokens are limited.
    pub charge: Option<TokenCharge>,
}

/// All limits of one key. (Together's are per model as well; one limiter for all models errs on the polite side.)
#[derive(Debug)]
pub struct Limiter {
    requests: Option<RequestQuota>,
    tokens: Option<TokenQuota>,
    /// The user set no limit of tokens, so that a header may.
    learn_tokens: bool,
    pace: Pace,
    concurrency: Concurrency,
    in_flight: usize,
    breaker: Breaker,
}

impl Limiter {
    /// Makes a limiter with the user's limits.
    pub fn new(now: Instant, rates: RateOptions) -> Self {
        Self {
            requests: rates.rpm.and_then(|rpm| RequestQuota::new(now, rpm)),
            tokens: rates.tpm.map(|tpm| TokenQuota::new(now, tpm as f64 / 60.0)),
            learn_tokens: rates.tpm.is_none(),
            pace: Pace::new(now, rates.open),
            concurrency: Concurrency::fixed(now),
            in_flight: 0,
            breaker: Breaker::default(),
        }
    }

    /// Goes up quickly from the first rate: few rows are to be sent.
    pub(super) fn hurry(&mut self) {
        self.pace.hurry();
    }

    /// Searches for the number of requests in flight: the user named none. `timeout` is the time that a request has.
    pub(super) fn search_concurrency(&mut self, now: Instant, urls: usize, timeout: Duration) {
        self.concurrency = Concurrency::search(now, urls).within(timeout);
    }

    /// Learns how many base URLs get rows. Returns true if that has changed the number of requests in flight.
    pub(super) fn set_urls(&mut self, now: Instant, urls: usize) -> bool {
        self.concurrency.set_urls(now, urls)
    }

    /// Takes a slot for a request of about `tokens` tokens.
    ///
    /// # Errors
    /// The delay. Ask again after it: the limits may have changed.
    pub fn take(&mut self, now: Instant, tokens: u64) -> Result<TakenSlot, Delay> {
        if self.breaker.is_open() {
            let probe = self.breaker.probe(now).map_err(|until| Delay { until, hold: Hold::Outage })?;
            self.in_flight += 1;
            return Ok(TakenSlot { charge: None, probe });
        }
        if self.in_flight >= self.concurrency.limit() {
            return Err(Delay::pace(now + FULL_CHECK));
        }
        if let Some(quota) = &mut self.tokens {
            quota.check(now).map_err(Delay::pace)?;
        }
        self.pace.check(now).map_err(|wait| match wait {
            PaceWait::Slot(until) => Delay::pace(until),
            PaceWait::Cooldown(until) => Delay { until, hold: Hold::Cooldown },
        })?;
        if let Some(quota) = &self.requests {
            quota.take(now).map_err(Delay::pace)?;
        }
        // Only now: a request that the user's own limit holds back was not sent.
        self.pace.spend(now);
        let charge = self.tokens.as_mut().map(|quota| quota.spend(tokens));
        self.in_flight += 1;
        Ok(TakenSlot { charge, probe: None })
    }

    /// Takes a slot if there is one, and lets the request depart in any case.
    pub(super) fn force(&mut self, now: Instant, tokens: u64) -> TakenSlot {
        self.take(now, tokens).unwrap_or_else(|_| {
            self.in_flight += 1;
            TakenSlot::default()
        })
    }

    /// Takes the slot of a request back. What the request has shown must be learned before. One that was not `sent` has used
    /// nothing up.
    pub(super) fn leave(&mut self, now: Instant, slot: TakenSlot, sent: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if !sent {
            self.give_back(slot.charge);
        }
        if let Some(probe) = slot.probe {
            self.breaker.end(now, probe, sent);
        }
    }

    /// The number of requests in flight.
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Learns from an answer within the limits, good or bad. `used` are its tokens, if the service reported them.
    pub fn accepted(&mut self, timing: Timing, limits: &Limits, used: Option<u64>) {
        let Timing { sent_at, now, charge, .. } = timing;
        if limits.requests_per_second.is_some() {
            self.concurrency.announced();
        }
        if self.learn_tokens
            && let Some(rate) = limits.tokens_per_second.filter(|rate| TOKEN_RATES.contains(rate))
        {
            self.tokens.get_or_insert_with(|| TokenQuota::new(now, rate)).set_rate(rate);
        }
        if let (Some(quota), Some(charge), Some(used)) = (&mut self.tokens, charge, used) {
            quota.correct(charge, used);
        }
        self.pace.accepted(now, sent_at, limits);
    }

    /// Takes back the charge of a request that used no tokens.
    pub(super) fn give_back(&mut self, charge: Option<TokenCharge>) {
        if let (Some(quota), Some(charge)) = (&mut self.tokens, charge) {
            quota.correct(charge, 0);
        }
    }

    /// Learns from the tokens of an answer how many requests in flight are best.
    pub(super) fn answered(&mut self, timing: Timing, tokens: u64) {
        let Timing { sent_at, now, in_flight, .. } = timing;
        self.concurrency.answered(AnsweredRequest { sent_at, now, in_flight, tokens });
    }

    /// Learns that a request timed out: too many are in flight.
    pub(super) fn timed_out(&mut self, timing: Timing) {
        self.concurrency.timed_out(timing.now, timing.sent_at);
    }

    /// Learns that a request succeeded.
    pub fn succeeded(&mut self, retried: bool, chance: f64) {
        self.breaker.succeeded(retried, chance);
    }

    /// Learns of a 429 or 503: no request leaves before the wait is over.
    pub fn throttled(&mut self, timing: Timing, class: Class, headers: &Limits, chance: f64) {
        let Timing { sent_at, now, in_flight, .. } = timing;
        let wait = |hint| retry::delay(class, self.pace.consecutive() + 1, hint, 0.5 + chance / 2.0);
        let others = in_flight.saturating_sub(1);
        if let Some(most) = headers.parallel {
            // Of a burst, any may be the one that is refused.
            let others = others.max(self.in_flight.saturating_sub(1));
            match most {
                ParallelLimit::Of(most) if most.get() as usize <= others => self.concurrency.named(most.get() as usize),
                // Other processes, or other users of the key, hold the rest.
                _ => self.concurrency.crowded(now, others),
            }
            // The end of another one makes room. With none in flight, only a wait does.
            let wait = if others > 0 { Duration::ZERO } else { wait(None) };
            self.pace.no_capacity(now, sent_at, wait);
        } else if class == Class::NoCapacity {
            self.pace.no_capacity(now, sent_at, wait(headers.wait));
        } else if self.concurrency.refused(sent_at, now, if headers.wait.is_some() { 0 } else { others }) {
            // A service that asks for a wait means its rate.
            self.pace.forgive(now);
        } else {
            self.pace.above_rate(now, sent_at, headers.wait, chance);
        }
    }

    /// Learns of a failure that is worth a retry.
    pub fn failed(&mut self, now: Instant, class: Class) {
        self.breaker.failed(now, class);
    }

    /// Returns true if the service fails every request, or the last one could not reach it.
    pub(super) const fn is_outage(&self) -> bool {
        self.breaker.is_open() || self.breaker.is_unreached()
    }

    /// Applies what other processes report: see [`Pace::apply`]. A learned limit of tokens is shared likewise.
    pub(super) fn apply(&mut self, now: Instant, advice: &Advice) {
        self.pace.apply(now, advice);
        if let Some(quota) = self.tokens.as_mut().filter(|_| self.learn_tokens) {
            quota.set_share(advice.share);
        }
    }

    /// The pace itself, for the report to other processes.
    pub(super) const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Requests a second of the learned pace, of all processes that share it.
    pub fn rate(&self) -> Option<f64> {
        self.pace.rate()
    }

    /// The same for the user, once the service has shown it by a refusal or a header, and while the service can be reached.
    pub(super) fn learned_rate(&self) -> Option<f64> {
        self.pace.rate().filter(|_| self.pace.is_learned() && !self.is_outage())
    }

    /// The delay of everyone at the moment, if it is longer than pacing takes.
    pub fn delay(&self, now: Instant) -> Option<Delay> {
        if self.breaker.is_open() {
            return self.breaker.paused_until().map(|until| Delay { until, hold: Hold::Outage });
        }
        let until = self.pace.cooldown();
        (until > now).then_some(Delay { until, hold: Hold::Cooldown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::breaker::FIRST_PAUSE;

    fn count(limiter: &mut Limiter, start: Instant, seconds: f64, tokens: u64) -> u32 {
        let mut now = start;
        let mut taken = 0;
        while now < start + Duration::from_secs_f64(seconds) {
            match limiter.take(now, tokens) {
                Ok(_) => taken += 1,
                Err(Delay { until, .. }) => now = until.max(now + Duration::from_micros(100)),
            }
        }
        taken
    }

    #[test]
    fn tokens_a_minute_are_kept_even_by_requests_larger_than_the_bucket() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start, RateOptions { rpm: None, tpm: Some(6_000), open: true });
        // 100 tokens a second, 500 a request: one every five seconds, after a full bucket.
        let taken = count(&mut limiter, start, 100.0, 500);
        assert!((20..=22).contains(&taken), "{taken}");
    }

    #[test]
    fn absurd_token_counts_set_no_limit_and_no_endless_debt() {
        let start = Instant::now();
        let few = 100;
        for (rate, reserved, used) in [
            (1e-300, few, Some(few)),
            (1e300, few, Some(few)),
            (0.5, few, Some(u64::MAX)),
            (100.0, few, Some(u64::MAX)),
            (100.0, u64::MAX, None),
        ] {
            let mut limiter = Limiter::new(start, RateOptions { open: true, ..RateOptions::default() });
            let header = Limits { tokens_per_second: Some(rate), ..Limits::default() };
            let mut now = start;
            for _ in 0..3 {
                let charge = loop {
                    match limiter.take(now, reserved) {
                        Ok(slot) => break slot.charge,
                        Err(Delay { until, .. }) => {
                            let bounded = until > now && until <= start + Duration::from_hours(72);
                            assert!(bounded, "{rate} {reserved} {used:?}");
                            now = until;
                        }
                    }
                };
                limiter.accepted(Timing { sent_at: now, now, in_flight: 1, charge }, &header, used);
            }
        }
    }

    #[test]
    fn a_place_that_others_hold_is_not_asked_for_again_and_again() {
        let start = Instant::now();
        let named = |most| Limits { parallel: Some(most), ..Limits::default() };
        for most in [ParallelLimit::Unnamed, ParallelLimit::Of(10.try_into().unwrap())] {
            let mut limiter = Limiter::new(start, RateOptions { open: true, ..RateOptions::default() });
            for _ in 0..3 {
                limiter.take(start, 1).unwrap();
            }
            let refused = Timing { sent_at: start, now: start, in_flight: 3, charge: None };
            // The refused one left first.
            for in_flight in [1, 3] {
                limiter.throttled(Timing { in_flight, ..refused }, Class::AboveRate, &named(most), 0.5);
                assert_eq!(limiter.concurrency.limit(), 2);
            }
            limiter.leave(start, TakenSlot::default(), true);
            assert_eq!(limiter.take(start, 1), Err(Delay::pace(start + FULL_CHECK)), "two are in flight");
            limiter.leave(start, TakenSlot::default(), true);
            assert_eq!(limiter.take(start, 1), Ok(TakenSlot::default()), "the end of one makes room");
        }
    }

    #[test]
    fn rate_is_shown_once_it_is_learned_and_while_the_service_can_be_reached() {
        let now = Instant::now();
        let timing = Timing { sent_at: now, now, in_flight: 1, charge: None };
        let mut limiter = Limiter::new(now, RateOptions::default());
        assert_eq!(limiter.learned_rate(), None, "the first pace is a guess");
        limiter.throttled(timing, Class::AboveRate, &Limits::default(), 0.5);
        let learned = limiter.learned_rate();
        assert!(learned.is_some());
        limiter.failed(now, Class::NotSent);
        assert_eq!(limiter.learned_rate(), None, "it cannot be reached");
        limiter.succeeded(true, 0.5);
        assert_eq!(limiter.learned_rate(), learned);
    }

    #[test]
    fn an_outage_lets_one_request_probe_and_ends_with_its_success() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start, RateOptions { rpm: None, tpm: None, open: true });
        let failures = |limiter: &mut Limiter, now, class| {
            (1..1000).find(|_| {
                limiter.failed(now, class);
                limiter.breaker.is_open()
            })
        };
        assert_eq!(failures(&mut limiter, start, Class::NotSent), Some(3));
        let outage = |until| Delay { until, hold: Hold::Outage };
        let delay = limiter.take(start, 1).unwrap_err();
        assert_eq!(delay, outage(start + FIRST_PAUSE));
        let mut now = delay.until;
        for pause in [4, 8, 16, 32, 60, 60] {
            let probe = limiter.take(now, 1).unwrap();
            assert!(limiter.take(now, 1).is_err(), "a second probe");
            limiter.leave(now, probe, true);
            let until = limiter.take(now, 1).unwrap_err().until;
            assert_eq!(until, now + Duration::from_secs(pause));
            now = until;
        }
        assert!(limiter.take(now, 1).is_ok());
        limiter.succeeded(true, 0.5);
        assert!(limiter.take(now, 1).is_ok());
        assert!(limiter.take(now, 1).is_ok());
        assert_eq!(failures(&mut limiter, now, Class::NotSent), Some(3));
        assert_eq!(limiter.take(now, 1), Err(outage(now + FIRST_PAUSE)), "a new one begins anew");
    }
}
