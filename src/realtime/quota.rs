//! Limits with a known rate, kept by governor: requests and tokens a minute.
//!
//! The caller passes the time to the buckets, so the limiter never sleeps.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// Seconds' worth of requests that may leave at once.
const BURST_SECONDS: f64 = 0.1;
/// The bucket of tokens holds this much time.
const TOKEN_BUCKET: Duration = Duration::from_secs(2);
/// Largest debt: no request waits for longer than a day.
const LARGEST_DEBT: Duration = Duration::from_hours(24);
/// Most tokens that one request is paced by. A `max_tokens` may be any number, and so may a server's usage.
const PACED_TOKENS: u64 = 10_000_000;

/// A clock that shows the time that it was last given.
#[derive(Debug, Clone)]
struct GivenClock(Rc<Cell<Instant>>);

impl Clock for GivenClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        self.0.get()
    }
}

/// A bucket that takes the time from its caller, full at first.
#[derive(Debug)]
struct Bucket {
    governor: RateLimiter<NotKeyed, InMemoryState, GivenClock>,
    clock: GivenClock,
}

impl Bucket {
    fn new(now: Instant, quota: Quota) -> Self {
        let clock = GivenClock(Rc::new(Cell::new(now)));
        Self { governor: RateLimiter::direct_with_clock(quota, clock.clone()), clock }
    }

    /// Takes `cells` at the time `at`. If too few are there, the error says when they will be.
    fn take(&self, at: Instant, cells: NonZeroU32) -> Result<(), Instant> {
        self.clock.0.set(at);
        match self.governor.check_n(cells) {
            Ok(Err(later)) => Err(later.earliest_possible()),
            // Callers take no more than the bucket holds.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}

/// The user's `--rpm`.
#[derive(Debug)]
pub(super) struct RequestQuota(Bucket);

impl RequestQuota {
    /// Allows `rpm` requests a minute; `None` if that is too many to be a limit.
    pub(super) fn new(now: Instant, rpm: f64) -> Option<Self> {
        let burst = NonZeroU32::new((rpm / 60.0 * BURST_SECONDS) as u32).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_secs_f64(60.0 / rpm))?.allow_burst(burst);
        Some(Self(Bucket::new(now, quota)))
    }

    /// Takes a request. The error says when the next one may leave.
    pub(super) fn take(&self, now: Instant) -> Result<(), Instant> {
        self.0.take(now, NonZeroU32::MIN)
    }
}

/// The charge for the tokens of one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenCharge {
    tokens: u64,
    /// The price of a token when the request left: the time in which the limit let it through.
    seconds: f64,
}

impl TokenCharge {
    /// The time for these tokens at the price of the charge.
    fn time_for(&self, tokens: u64) -> Duration {
        let seconds = tokens.min(PACED_TOKENS) as f64 * self.seconds;
        Duration::try_from_secs_f64(seconds).unwrap_or(LARGEST_DEBT).min(LARGEST_DEBT)
    }
}

/// The user's `--tpm`, or a limit of tokens that the service announced.
///
/// The cost of a request is known only afterwards, and may exceed any bucket. So requests are paid for after they left: the
/// next one leaves when all debts are paid.
///
/// The bucket holds time, one cell a nanosecond, and a request costs the time in which the limit lets its tokens through. So a
/// change of the rate needs no new bucket. Unused tokens come back by moving the clock of the bucket ahead.
#[derive(Debug)]
pub(super) struct TokenQuota {
    /// Tokens a second, of all processes together.
    rate: f64,
    /// The share of this process.
    share: f64,
    bucket: Bucket,
    /// Time by which the bucket's clock is ahead.
    refunded: Duration,
    /// The debts were paid up to here, on the bucket's clock.
    paid_at: Instant,
    owed: Duration,
}

impl TokenQuota {
    /// Allows `rate` tokens a second.
    pub(super) fn new(now: Instant, rate: f64) -> Self {
        let cells = NonZeroU32::new(TOKEN_BUCKET.as_nanos() as u32).unwrap_or(NonZeroU32::MAX);
        let quota = Quota::per_second(NonZeroU32::new(1_000_000_000).unwrap_or(NonZeroU32::MAX)).allow_burst(cells);
        Self {
            rate,
            share: 1.0,
            bucket: Bucket::new(now, quota),
            refunded: Duration::ZERO,
            paid_at: now,
            owed: Duration::ZERO,
        }
    }

    /// Changes the rate.
    pub(super) const fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    /// Changes the share of this process.
    pub(super) const fn set_share(&mut self, share: f64) {
        self.share = share;
    }

    /// Checks that all debts are paid. The error says when they will be.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Instant> {
        let at = now + self.refunded;
        // A debt may exceed the bucket. It is paid in parts, each at the moment at which it fell due.
        while !self.owed.is_zero() {
            let part = self.owed.min(TOKEN_BUCKET);
            let cells = NonZeroU32::new(part.as_nanos() as u32).unwrap_or(NonZeroU32::MIN);
            match self.bucket.take(self.paid_at, cells) {
                Ok(()) => self.owed -= part,
                Err(due) if due <= at => self.paid_at = due,
                Err(due) => return Err(now + (due - at) + self.owed.saturating_sub(part)),
            }
        }
        self.paid_at = self.paid_at.max(at);
        Ok(())
    }

    /// Charges for a request of about `tokens` tokens.
    pub(super) fn spend(&mut self, tokens: u64) -> TokenCharge {
        let charge = TokenCharge { tokens, seconds: 1.0 / (self.rate * self.share) };
        self.owed = (self.owed + charge.time_for(tokens)).min(LARGEST_DEBT);
        charge
    }

    /// Corrects the charge for a request once it is known that it used so many tokens. They cost what they did when it left:
    /// the rate and the share may have changed since.
    pub(super) fn correct(&mut self, charge: TokenCharge, used: u64) {
        let (charged, due) = (charge.time_for(charge.tokens), charge.time_for(used));
        self.owed = (self.owed + due.saturating_sub(charged)).min(LARGEST_DEBT);
        self.refunded += charged.saturating_sub(due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_tokens_come_back_and_used_ones_do_not() {
        let start = Instant::now();
        let mut quota = TokenQuota::new(start, 100.0);
        let charge = quota.spend(1000);
        quota.correct(charge, 150);
        assert!(quota.check(start).is_ok());
        let none = quota.spend(0);
        quota.correct(none, 100);
        assert!(quota.check(start).is_err());
    }

    #[test]
    fn change_of_the_share_changes_no_price_of_a_request_in_flight() {
        let start = Instant::now();
        for share in [0.1, 1.0, 10.0] {
            let mut quota = TokenQuota::new(start, 100.0);
            // Two seconds are in the bucket.
            let charges = [quota.spend(1000), quota.spend(1000), quota.spend(1000)];
            quota.set_share(share);
            assert_eq!(quota.check(start), Err(start + Duration::from_secs(28)), "{share}");
            quota.correct(charges[0], 0);
            assert_eq!(quota.check(start), Err(start + Duration::from_secs(18)), "{share}");
            quota.correct(charges[1], 500);
            assert_eq!(quota.check(start), Err(start + Duration::from_secs(13)), "{share}");
            quota.correct(charges[2], 1500);
            assert_eq!(quota.check(start), Err(start + Duration::from_secs(18)), "{share}");
        }
    }

    #[test]
    fn a_debt_of_many_buckets_is_paid_in_one_wait() {
        let start = Instant::now();
        let mut quota = TokenQuota::new(start, 100.0);
        quota.spend(10_000);
        let paid = quota.check(start).unwrap_err();
        assert_eq!(paid, start + Duration::from_secs(98), "the bucket held two seconds' worth");
        assert_eq!(quota.check(start + Duration::from_secs(97)), Err(paid));
        assert!(quota.check(paid).is_ok());
    }

    #[test]
    fn refunds_save_up_no_more_than_the_bucket_holds() {
        let start = Instant::now();
        let mut quota = TokenQuota::new(start, 100.0);
        for charge in [0; 10].map(|_| quota.spend(1000)) {
            quota.correct(charge, 0);
        }
        assert!(quota.check(start).is_ok());
        quota.spend(300);
        assert_eq!(quota.check(start), Err(start + Duration::from_secs(1)));
    }

    #[test]
    fn a_share_of_the_limit_slows_down_and_a_higher_rate_speeds_up() {
        let start = Instant::now();
        let mut quota = TokenQuota::new(start, 100.0);
        quota.set_share(0.5);
        quota.spend(200);
        assert_eq!(quota.check(start), Err(start + Duration::from_secs(2)));
        quota.set_rate(1000.0);
        quota.spend(500);
        assert_eq!(quota.check(start), Err(start + Duration::from_secs(3)));
    }

    #[test]
    fn requests_a_minute_are_spread() {
        let start = Instant::now();
        let quota = RequestQuota::new(start, 60.0).unwrap();
        assert!(quota.take(start).is_ok());
        assert_eq!(quota.take(start), Err(start + Duration::from_secs(1)));
        assert!(quota.take(start + Duration::from_secs(1)).is_ok());
        assert!(RequestQuota::new(start, 1e300).is_none());
    }
}
