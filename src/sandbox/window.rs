//! A fixed-window limit: each key may send N requests per window. A window begins with the first request after the end of the
//! last one.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::limiter::Admission;
use super::lock::lock;
use super::units::duration;

/// Requests that pass in each window, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedWindow {
    pub(super) requests: u32,
    pub(super) length: Duration,
}

impl FromStr for FixedWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(requests, length)| Some((requests.parse().ok()?, length)));
        let (requests, length) = parts.ok_or_else(|| format!("{text}: not requests and a time, such as 120/1m"))?;
        let length = duration(length)?;
        if requests == 0 || length.is_zero() {
            return Err(format!("{text}: a window of nothing"));
        }
        Ok(Self { requests, length })
    }
}

/// The current windows by API key.
#[derive(Debug)]
pub struct WindowLimiter {
    window: FixedWindow,
    keys: Mutex<HashMap<Box<str>, CurrentWindow>>,
}

#[derive(Debug, Clone, Copy)]
struct CurrentWindow {
    since: Instant,
    passed: u32,
}

impl WindowLimiter {
    pub fn new(window: FixedWindow) -> Self {
        Self { window, keys: Mutex::default() }
    }

    /// Passes a request for `key` at `now` if its window has room. A refused request costs nothing.
    pub fn admit(&self, key: &str, now: Instant) -> Admission {
        let FixedWindow { requests, length } = self.window;
        let mut keys = lock(&self.keys);
        let current = keys.get(key).copied().filter(|current| now.duration_since(current.since) < length);
        let mut current = current.unwrap_or(CurrentWindow { since: now, passed: 0 });
        let allowed = current.passed < requests;
        current.passed += u32::from(allowed);
        keys.insert(key.into(), current);
        let wait = length.saturating_sub(now.duration_since(current.since));
        Admission { allowed, remaining: f64::from(requests - current.passed), wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_passes_its_requests_and_begins_with_the_next_after_it() {
        let limiter = WindowLimiter::new("3/10s".parse().unwrap());
        let start = Instant::now();
        let at = |seconds| limiter.admit("k", start + Duration::from_secs(seconds));
        assert_eq!([0, 4, 9, 9].map(|seconds| at(seconds).allowed), [true, true, true, false]);
        assert_eq!(at(9).wait, Duration::from_secs(1));
        assert!(limiter.admit("other key", start).allowed);
        // The next one begins at 15.
        assert_eq!([15, 16, 24, 24, 25].map(|seconds| at(seconds).allowed), [true, true, true, false, true]);
    }

    #[test]
    fn a_window_is_requests_and_a_time() {
        assert_eq!("120/1m".parse(), Ok(FixedWindow { requests: 120, length: Duration::from_mins(1) }));
        for text in ["", "120", "120/", "0/1m", "5/0s", "-1/1m", "x/1m", "5/soon"] {
            assert!(text.parse::<FixedWindow>().is_err(), "{text}");
        }
    }
}
