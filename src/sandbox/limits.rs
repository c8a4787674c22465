//! A real request rate limit: one token bucket per key.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// How a refusal says when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum HintStyle {
    /// It does not say.
    None,
    /// `Retry-After` in whole seconds, and `X-Ratelimit-Reset` with the same, as recorded live.
    #[default]
    Seconds,
    /// `Retry-After` as an HTTP date.
    Date,
    /// `retry-after-ms`.
    Millis,
    /// `X-Ratelimit-Reset` alone.
    Reset,
}

impl std::str::FromStr for HintStyle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "none" => Self::None,
            "seconds" => Self::Seconds,
            "date" => Self::Date,
            "ms" => Self::Millis,
            "reset" => Self::Reset,
            _ => return Err(format!("unknown hint style {text:?}: use none, seconds, date, ms or reset")),
        })
    }
}

impl HintStyle {
    /// Writes the hint to wait for `wait` into `headers`.
    pub fn write(self, wait: Duration, headers: &mut HeaderMap) {
        let seconds = whole_seconds(wait);
        let mut put = |name: &'static str, value: HeaderValue| {
            headers.insert(HeaderName::from_static(name), value);
        };
        match self {
            Self::None => {}
            Self::Seconds => {
                put("retry-after", seconds.into());
                put("x-ratelimit-reset", seconds.into());
            }
            Self::Date => {
                let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds));
                if let Ok(date) = HeaderValue::from_str(&date) {
                    put("retry-after", date);
                }
            }
            Self::Millis => put("retry-after-ms", u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into()),
            Self::Reset => put("x-ratelimit-reset", seconds.into()),
        }
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// What the bucket said to one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Whether the request may pass.
    pub allowed: bool,
    /// Requests that could still pass at once.
    pub remaining: f64,
    /// Until the next one may pass; zero if it may now.
    pub wait: Duration,
}

/// Token buckets by key.
#[derive(Debug)]
pub struct Limiter {
    rate: f64,
    burst: f64,
    buckets: Mutex<HashMap<Box<str>, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    level: f64,
    at: Instant,
}

impl Limiter {
    /// `rate` units a second; a bucket holds `burst` (one second's worth if none, and never less than one).
    pub fn new(rate: f64, burst: Option<f64>) -> Self {
        let burst = burst.unwrap_or(rate).max(1.0);
        Self { rate, burst, buckets: Mutex::default() }
    }

    /// Units a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes one unit for `key` at `now` if there is one. A refused request costs nothing.
    pub fn admit(&self, key: &str, now: Instant) -> Verdict {
        self.with(key, now, |level, rate| {
            // A hair below one is one: sums of small steps round down.
            let allowed = *level >= 1.0 - 1e-9;
            if allowed {
                *level -= 1.0;
            }
            Verdict { allowed, remaining: *level, wait: until(*level, 1.0, rate) }
        })
    }

    /// Whether `key` is out of debt, for units that are known only afterwards (tokens).
    pub fn solvent(&self, key: &str, now: Instant) -> Verdict {
        self.with(key, now, |level, rate| Verdict {
            allowed: *level > 0.0,
            remaining: level.max(0.0),
            wait: until(*level, 1.0, rate),
        })
    }

    /// Takes `units` even if the bucket goes into debt.
    pub fn charge(&self, key: &str, units: f64, now: Instant) {
        self.with(key, now, |level, _| *level -= units);
    }

    fn with<T>(&self, key: &str, now: Instant, act: impl FnOnce(&mut f64, f64) -> T) -> T {
        // A panic while the lock is held cannot leave a bucket half written.
        let mut buckets = self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !buckets.contains_key(key) {
            buckets.insert(key.into(), Bucket { level: self.burst, at: now });
        }
        let mut spare = Bucket { level: self.burst, at: now };
        let bucket = buckets.get_mut(key).unwrap_or(&mut spare);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.level = (bucket.level + passed * self.rate).min(self.burst);
        bucket.at = now;
        act(&mut bucket.level, self.rate)
    }
}

fn until(level: f64, want: f64, rate: f64) -> Duration {
    // A rate of zero never fills the bucket: an hour stands for ever.
    Duration::try_from_secs_f64(((want - level) / rate).clamp(0.0, 3600.0)).unwrap_or(Duration::from_hours(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_burst_and_then_the_rate() {
        for rate in [0.5, 2.0, 10.0, 1000.0] {
            let limiter = Limiter::new(rate, Some(1.0));
            let start = Instant::now();
            let step = Duration::from_secs_f64(0.1 / rate);
            // Ten times the rate is asked for, over 20 units of time.
            let passed = (0..200u32).filter(|i| limiter.admit("k", start + step * *i).allowed).count();
            assert!((20..=21).contains(&passed), "rate {rate}: {passed} passed");
        }
    }

    #[test]
    fn the_wait_is_just_long_enough() {
        let limiter = Limiter::new(4.0, Some(1.0));
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
        let limiter = Limiter::new(100.0, None);
        let now = Instant::now();
        limiter.charge("k", 300.0, now);
        assert!(!limiter.solvent("k", now + Duration::from_millis(1900)).allowed);
        assert!(limiter.solvent("k", now + Duration::from_millis(2100)).allowed);
    }

    #[test]
    fn hints_in_every_style() {
        let wait = Duration::from_millis(1200);
        let cases = [
            (HintStyle::None, vec![]),
            (HintStyle::Seconds, vec![("retry-after", "2"), ("x-ratelimit-reset", "2")]),
            (HintStyle::Millis, vec![("retry-after-ms", "1200")]),
            (HintStyle::Reset, vec![("x-ratelimit-reset", "2")]),
        ];
        for (style, expected) in cases {
            let mut headers = HeaderMap::new();
            style.write(wait, &mut headers);
            let got: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
            assert_eq!(got, expected, "{style:?}");
        }
        let mut headers = HeaderMap::new();
        HintStyle::Date.write(wait, &mut headers);
        let date = httpdate::parse_http_date(headers["retry-after"].to_str().unwrap()).unwrap();
        let ahead = date.duration_since(SystemTime::now()).unwrap();
        assert!(ahead <= Duration::from_secs(2), "{ahead:?}");
    }
}
