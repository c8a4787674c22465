//! Fixed windows: some services count requests by the minute, and announce nothing before they refuse one.
//!
//! The first refusal shows how many requests a window takes, and the wait that it names shows how long the window is. From then on
//! llbatch spreads the requests over most of each window, and keeps the rest for the next one.

use std::time::{Duration, Instant};

use super::bounds::CountAt;

/// A wait this long is the end of a window, not the next token of a bucket.
pub(super) const LONG_HINT: Duration = Duration::from_secs(5);
/// The usual lengths, in seconds.
const USUAL: [f64; 9] = [10.0, 30.0, 60.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 86_400.0];
/// A length this close to a usual one is that one: waits are whole seconds.
const NEAR: f64 = 1.5;
/// The part of a window over which its requests are spread. The rest makes up for delays.
const SPREAD: f64 = 0.75;
/// Time after the end of a window until the next begins: this much, and this share of its length.
const GUARD: Duration = Duration::from_millis(300);
const GUARD_SHARE: f64 = 0.01;
/// After as many full windows without a refusal, the next one may take more requests by this factor.
const QUIET: u32 = 10;
/// A window is full with this share of its requests.
const FULL: f64 = 0.9;
const MORE: f64 = 1.1;

/// A refusal with a long wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowRefusal {
    /// The departure of the refused request.
    pub(super) at: Instant,
    /// The wait that the service asked for.
    pub(super) hint: Duration,
    /// The pace that was refused.
    pub(super) pace: f64,
}

/// The current window, as the pacer sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct FixedWindowPace {
    length: Duration,
    /// Requests that it takes, of all processes.
    room: f64,
    /// Its start, and the requests accepted before it.
    start: CountAt,
    /// The same of the window before.
    before: CountAt,
    quiet: u32,
}

impl FixedWindowPace {
    /// Learns from a refusal that came after `start`, and begins the next window now. `now.count` are the requests accepted.
    pub(super) fn learn(start: CountAt, refusal: WindowRefusal, now: CountAt) -> Self {
        let passed = refusal.at.saturating_duration_since(start.at).as_secs_f64();
        let length = length(passed, refusal.hint.as_secs_f64());
        // A window that began long ago holds only a part of the requests since. Then the pace is the best guess, and if it is
        // too high, the next refusal tells.
        let room = if passed <= length { now.count - start.count } else { refusal.pace * length };
        Self { length: Duration::from_secs_f64(length), room: room.max(1.0), start: now, before: start, quiet: 0 }
    }

    /// The pace within the window.
    pub(super) fn pace(&self) -> f64 {
        self.rate() / SPREAD
    }

    /// Requests a second, over whole windows.
    pub(super) fn rate(&self) -> f64 {
        self.room / self.length.as_secs_f64()
    }

    /// The start of the service's window in which it refused, with `accepted` requests so far. A window that refused before it
    /// was half used is still the one before.
    pub(super) fn refused_in(&self, accepted: f64) -> CountAt {
        if accepted - self.start.count < self.room / 2.0 { self.before } else { self.start }
    }

    /// Lets a request into the window, or into the next one. If it is full, the error says when the next one begins.
    pub(super) fn enter(&mut self, now: CountAt) -> Result<(), Instant> {
        let end = self.start.at + self.length.mul_f64(1.0 + GUARD_SHARE) + GUARD;
        if now.at >= end {
            self.quiet += u32::from(now.count - self.start.count >= FULL * self.room);
            if self.quiet >= QUIET {
                self.room *= MORE;
                self.quiet = 0;
            }
            (self.before, self.start) = (self.start, now);
        }
        if now.count - self.start.count + 1.0 <= self.room + 1e-6 { Ok(()) } else { Err(end) }
    }
}

/// The length of a window that refused after `passed` seconds, and named `hint` seconds as the wait. Some services name the
/// rest of the window, and others always its length.
fn length(passed: f64, hint: f64) -> f64 {
    let usual = |seconds: f64| USUAL.into_iter().find(|usual| (seconds - usual).abs() <= NEAR);
    usual(passed + hint)
        .or_else(|| USUAL.into_iter().find(|usual| (hint - usual).abs() < 0.01))
        .unwrap_or(passed + hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_the_rest_of_a_window_or_its_length() {
        let cases = [
            // The rest of a minute, in whole seconds.
            (5.2, 55.0, 60.0),
            (30.0, 30.0, 60.0),
            (0.4, 60.0, 60.0),
            // Always a minute, always ten seconds.
            (8.0, 60.0, 60.0),
            (4.0, 10.0, 10.0),
            // No usual length.
            (4.0, 13.0, 17.0),
        ];
        for (passed, hint, expected) in cases {
            assert!((length(passed, hint) - expected).abs() < 1e-9, "{passed} {hint}: {}", length(passed, hint));
        }
    }

    #[test]
    fn a_window_takes_its_room_and_the_rest_waits_for_the_next() {
        let start = Instant::now();
        let at = |seconds: f64, count: f64| CountAt { at: start + Duration::from_secs_f64(seconds), count };
        let refusal = WindowRefusal { at: at(6.0, 0.0).at, hint: Duration::from_secs(54), pace: 40.0 };
        let mut window = FixedWindowPace::learn(at(0.0, 0.0), refusal, at(60.0, 120.0));
        assert!((window.rate() - 2.0).abs() < 1e-9 && window.pace() > 2.0);
        assert!(window.enter(at(61.0, 120.0)).is_ok() && window.enter(at(110.0, 239.0)).is_ok());
        let next = window.enter(at(111.0, 240.0)).unwrap_err();
        assert!(next > at(120.0, 0.0).at && next < at(121.5, 0.0).at);
        assert!(window.enter(CountAt { at: next, count: 240.0 }).is_ok());
    }

    #[test]
    fn a_window_without_refusals_for_long_is_tried_with_more() {
        let start = CountAt { at: Instant::now(), count: 0.0 };
        let refusal = WindowRefusal { at: start.at, hint: Duration::from_mins(1), pace: 10.0 };
        let mut window = FixedWindowPace::learn(start, refusal, CountAt { count: 100.0, ..start });
        let mut window_of = |i: u32, count: u32| {
            let now = CountAt { at: start.at + Duration::from_secs(62) * i, count: 100.0 + f64::from(count) };
            assert!(window.enter(now).is_ok());
            window.room
        };
        assert!((1..=2 * QUIET).all(|i| (window_of(i, 89 * i) - 100.0).abs() < 1e-9), "they were never full");
        let before = 89 * 2 * QUIET;
        assert!((1..QUIET).all(|i| (window_of(2 * QUIET + i, before + 90 * i) - 100.0).abs() < 1e-9));
        assert!((window_of(3 * QUIET, before + 90 * QUIET) - 110.0).abs() < 1e-9);
    }
}
