//! The health of one base URL: after failures of its own it is left out, and single requests try it again.

use std::time::{Duration, Instant};

/// Failed connections and errors of the server (5xx) one after the other, after which a URL is left out.
const FAILURES: u32 = 3;
/// First time for which a URL is left out. Each request that tries it in vain doubles the time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The health of one base URL.
#[derive(Debug, Default)]
pub(super) struct UrlHealth {
    /// Failures since the last answer or refusal.
    failures: u32,
    left_out: Option<LeftOut>,
}

#[derive(Debug)]
struct LeftOut {
    pause: Duration,
    until: Instant,
    /// A request tries the URL at the moment.
    probing: bool,
}

impl UrlHealth {
    /// Returns true if the URL gets rows.
    pub(super) const fn is_well(&self) -> bool {
        self.left_out.is_none()
    }

    /// Returns true if a request is to try the URL again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.left_out.as_ref().is_some_and(|out| !out.probing && now >= out.until)
    }

    /// The time at which a request is to try the URL again. `None`: it gets rows.
    pub(super) fn due(&self) -> Option<Instant> {
        self.left_out.as_ref().map(|out| out.until)
    }

    /// A request tries the URL. Returns false if that is nothing special.
    pub(super) fn begin_probe(&mut self) -> bool {
        self.left_out.as_mut().is_some_and(|out| !std::mem::replace(&mut out.probing, true))
    }

    /// The request that tried the URL has ended without a verdict.
    pub(super) fn end_probe(&mut self) {
        if let Some(out) = &mut self.left_out {
            out.probing = false;
        }
    }

    /// The URL has answered, or refused a row.
    pub(super) fn reached(&mut self) {
        *self = Self::default();
    }

    /// The URL has failed. `probe`: at the request that tried it again.
    pub(super) fn failed(&mut self, now: Instant, probe: bool) {
        self.failures += 1;
        match &self.left_out {
            // Requests that left before say nothing new.
            Some(_) if !probe => {}
            None if self.failures < FAILURES => {}
            _ => self.leave_out(now, Duration::ZERO),
        }
    }

    /// Leaves the URL out for its first pause, unless it is left out already.
    pub(super) fn leave_out_if_well(&mut self, now: Instant) {
        if self.is_well() {
            self.leave_out(now, Duration::ZERO);
        }
    }

    /// Leaves the URL out for its next pause, and for no less than `least`.
    pub(super) fn leave_out(&mut self, now: Instant, least: Duration) {
        let pause = self.left_out.as_ref().map_or(FIRST_PAUSE, |out| (out.pause * 2).min(LONGEST_PAUSE));
        self.left_out = Some(LeftOut { pause, until: now + pause.max(least), probing: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_leave_a_url_out() {
        let now = Instant::now();
        let mut health = UrlHealth::default();
        for _ in 0..2 {
            health.failed(now, false);
            health.failed(now, false);
            assert!(health.is_well());
            health.reached();
        }
        (0..3).for_each(|_| health.failed(now, false));
        assert_eq!((health.is_well(), health.due()), (false, Some(now + FIRST_PAUSE)));
    }

    #[test]
    fn pauses_double_with_each_probe_and_with_nothing_else() {
        let start = Instant::now();
        let mut health = UrlHealth::default();
        (0..64).for_each(|_| health.failed(start, false));
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(health.due(), Some(now + Duration::from_secs(seconds)));
            assert!(!health.is_due(now), "{seconds}");
            now += Duration::from_secs(seconds);
            assert!(health.is_due(now) && health.begin_probe(), "{seconds}");
            assert!(!health.is_due(now) && !health.begin_probe(), "a second probe");
            health.failed(now, false);
            health.failed(now, true);
        }
        health.reached();
        assert!(health.is_well());
        (0..3).for_each(|_| health.failed(now, false));
        assert_eq!(health.due(), Some(now + FIRST_PAUSE), "a new one begins anew");
    }

    #[test]
    fn wait_that_a_server_asks_for_is_kept() {
        let now = Instant::now();
        let mut health = UrlHealth::default();
        health.leave_out(now, Duration::from_secs(5));
        assert_eq!(health.due(), Some(now + Duration::from_secs(5)));
        health.leave_out(now, Duration::ZERO);
        assert_eq!(health.due(), Some(now + Duration::from_secs(2)));
    }
}
