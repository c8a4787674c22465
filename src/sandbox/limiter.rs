//! A real rate limit: one token bucket per API key.
//!
//! Tokens are known only after the answer, so a bucket can be charged into debt. That is why this is not `governor`,
//! which refuses what exceeds the burst.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock::lock;

/// The limiter's answer to one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Admission {
    pub allowed: bool,
    /// Units that could still pass at once.
    pub remaining: f64,
    /// The time until the next request may pass.
    pub wait: Duration,
}

/// Token buckets by API key.
#[derive(Debug)]
pub struct KeyLimiter {
    rate: f64,
    burst: f64,
    buckets: Mutex<HashMap<Box<str>, LimitBucket>>,
}

#[derive(Debug, Clone, Copy)]
struct LimitBucket {
    level: f64,
    at: Instant,
}

impl KeyLimiter {
    /// `rate` units a second; a bucket holds `burst` (by default one second's worth), and never less than one.
    pub fn new(rate: f64, burst: Option<f64>) -> Self {
        Self { rate, burst: burst.unwrap_or(rate).max(1.0), buckets: Mutex::default() }
    }

    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes one unit for `key` at `now` if there is one. A refused request costs nothing.
    pub fn admit(&self, key: &str, now: Instant) -> Admission {
        // A hair below one is one: sums of small steps round down.
        let has_one = |level| level >= 1.0 - 1e-9;
        let before = self.change(key, now, |level| if has_one(level) { level - 1.0 } else { level });
        let allowed = has_one(before);
        let level = if allowed { before - 1.0 } else { before };
        Admission { allowed, remaining: level, wait: self.until_one(level) }
    }

    /// Passes a request for `key` unless the key is in debt.
    pub fn solvent(&self, key: &str, now: Instant) -> Admission {
        let level = self.change(key, now, |level| level);
        Admission { allowed: level > 0.0, remaining: level.max(0.0), wait: self.until_one(level) }
    }

    /// Takes `units` even if the bucket goes into debt.
    pub fn charge(&self, key: &str, units: f64, now: Instant) {
        self.change(key, now, |level| level - units);
    }

    /// Refills the bucket of `key`, then changes its level. Returns the level before the change.
    fn change(&self, key: &str, now: Instant, to: impl FnOnce(f64) -> f64) -> f64 {
        let mut buckets = lock(&self.buckets);
        let bucket = buckets.get(key).copied().unwrap_or(LimitBucket { level: self.burst, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        let level = (bucket.level + passed * self.rate).min(self.burst);
        buckets.insert(key.into(), LimitBucket { level: to(level), at: now });
        level
    }

    /// The time until a bucket with so many units left is full.
    pub fn until_full(&self, remaining: f64) -> Duration {
        let seconds = ((self.burst - remaining) / self.rate).clamp(0.0, 3600.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_hours(1))
    }

    fn until_one(&self, level: f64) -> Duration {
        // A rate of zero never fills the bucket: an hour stands for forever.
        let seconds = ((1.0 - level) / self.rate).clamp(0.0, 3600.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_hours(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_pass_in_a_burst_and_then_at_the_rate() {
        for rate in [0.5, 2.0, 10.0, 1000.0] {
            let limiter = KeyLimiter::new(rate, Some(1.0));
            let start = Instant::now();
            let step = Duration::from_secs_f64(0.1 / rate);
            // Ten times the rate is asked for, over 20 units of time.
            let passed = (0..200u32).filter(|i| limiter.admit("k", start + step * *i).allowed).count();
            assert!((20..=21).contains(&passed), "rate {rate}: {passed} passed");
        }
    }

    #[test]
    fn the_wait_is_just_long_enough() {
        let limiter = KeyLimiter::new(4.0, Some(1.0));
        let now = Instant::now();
        assert!(limiter.admit("k", now).allowed);
        let refused = limiter.admit("k", now);
        assert!(!refused.allowed);
        assert_eq!(refused.wait, Duration::from_millis(250));
        assert!(!limiter.admit("k", now + Duration::from_millis(249)).allowed);
        assert!(limiter.admit("k", now + refused.wait).allowed);
        assert!(limiter.admit("other key", now).allowed);
    }

    #[test]
    fn debt_is_paid_off_by_time() {
        let limiter = KeyLimiter::new(100.0, None);
        let now = Instant::now();
        limiter.charge("k", 300.0, now);
        assert!(!limiter.solvent("k", now + Duration::from_millis(1900)).allowed);
        assert!(limiter.solvent("k", now + Duration::from_millis(2100)).allowed);
    }
}
