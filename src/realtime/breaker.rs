//! A circuit breaker: when too many requests fail, the run pauses, and single requests probe until one succeeds.

use std::time::{Duration, Instant};

use crate::api::error::Class;

/// First pause after the retries are used up. A fault that passes in seconds costs seconds.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Connections that failed one after the other, with no response in between, are an outage.
const UNREACHED: u32 = 3;
/// Each probe that fails doubles the pause, up to this.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// While a probe is in flight, the others ask again after this time.
const PROBE_CHECK: Duration = Duration::from_secs(1);

/// An allowance that limits the retries of a run, so that an outage leads to a pause and not to a storm of requests.
///
/// A retry takes from it, and a success pays back. When it is empty, the run pauses and probes.
#[derive(Debug, Clone)]
struct RetryAllowance {
    left: u32,
}

/// Retries of ambiguous requests before anything succeeds: some hundred rows may fail for good without a pause.
const RETRIES: u32 = 400;

impl Default for RetryAllowance {
    fn default() -> Self {
        Self { left: RETRIES }
    }
}

impl RetryAllowance {
    /// Takes one retry; `false` if none is left.
    const fn take(&mut self) -> bool {
        let enough = self.left > 0;
        self.left = self.left.saturating_sub(1);
        enough
    }

    /// Pays back after a success: ten successes pay for a retry.
    fn refund(&mut self, retried: bool, chance: f64) {
        let back = u32::from(retried || chance < 0.1);
        self.left = (self.left + back).min(RETRIES);
    }
}

/// The breaker of one run.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    retries: RetryAllowance,
    /// Failed connections since the last response.
    unreached: u32,
    outage: Option<Outage>,
    /// Probes so far.
    probes: u64,
}

#[derive(Debug)]
struct Outage {
    pause: Duration,
    until: Instant,
    /// The probe that is under way.
    probe: Option<Probe>,
}

/// A request that probes during an outage. Whatever becomes of the request, it must [end](Breaker::end) the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe(u64);

impl Breaker {
    /// Returns true if the breaker holds requests back.
    pub(super) const fn is_open(&self) -> bool {
        self.outage.is_some()
    }

    /// Returns true if the last request could not reach the service.
    pub(super) const fn is_unreached(&self) -> bool {
        self.unreached > 0
    }

    /// Lets one request probe during an outage; `None` if there is no outage. The error says when to ask again.
    pub(super) fn probe(&mut self, now: Instant) -> Result<Option<Probe>, Instant> {
        let Some(outage) = &mut self.outage else { return Ok(None) };
        if outage.probe.is_some() || now < outage.until {
            return Err(outage.until.max(now + PROBE_CHECK));
        }
        self.probes += 1;
        outage.probe = Some(Probe(self.probes));
        Ok(outage.probe)
    }

    /// Ends an outage, and pays back into the allowance.
    pub(super) fn succeeded(&mut self, retried: bool, chance: f64) {
        self.retries.refund(retried, chance);
        self.outage = None;
        self.unreached = 0;
    }

    /// Takes a retry from the allowance, and begins an outage if it is used up or nothing can be reached.
    pub(super) fn failed(&mut self, now: Instant, class: Class) {
        self.unreached = if class == Class::NotSent { self.unreached + 1 } else { 0 };
        if self.outage.is_none() && (self.unreached >= UNREACHED || !self.retries.take()) {
            self.outage = Some(Outage { pause: FIRST_PAUSE, until: now + FIRST_PAUSE, probe: None });
        }
    }

    /// Ends a probe. If it was `sent` and has not ended the outage, the pause doubles. If it was not, another one may be.
    pub(super) fn end(&mut self, now: Instant, probe: Probe, sent: bool) {
        let Some(outage) = self.outage.as_mut().filter(|outage| outage.probe == Some(probe)) else { return };
        outage.probe = None;
        if sent {
            outage.pause = (outage.pause * 2).min(LONGEST_PAUSE);
            outage.until = now + outage.pause;
        }
    }

    /// The end of the pause; `None` while a probe is in flight.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.outage.as_ref().filter(|outage| outage.probe.is_none()).map(|outage| outage.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_that_ends_makes_room_for_another_one_whatever_its_end() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        (0..UNREACHED).for_each(|_| breaker.failed(now, Class::NotSent));
        let now = breaker.paused_until().unwrap();
        let unsent = breaker.probe(now).unwrap().unwrap();
        assert_eq!(breaker.probe(now), Err(now + PROBE_CHECK), "one at a time");
        breaker.end(now, unsent, false);
        let sent = breaker.probe(now).unwrap().unwrap();
        breaker.end(now, unsent, true);
        assert_eq!(breaker.paused_until(), None, "that one has ended before");
        // A request that left before the outage says nothing of the probe.
        breaker.failed(now, Class::NotSent);
        assert_eq!(breaker.paused_until(), None);
        breaker.end(now, sent, true);
        assert_eq!(breaker.paused_until(), Some(now + 2 * FIRST_PAUSE));
    }

    #[test]
    fn an_outage_uses_the_allowance_up_and_successes_fill_it() {
        let mut allowance = RetryAllowance::default();
        assert_eq!(std::iter::repeat_with(|| allowance.take()).take_while(|ok| *ok).count(), 400);
        let mut allowance = RetryAllowance { left: 0 };
        assert!(!allowance.take());
        allowance.refund(true, 0.9);
        assert!(allowance.take());
        allowance.refund(false, 0.9);
        assert!(!allowance.take());
        for _ in 0..10_000 {
            allowance.refund(false, 0.05);
        }
        assert_eq!(allowance.left, RETRIES);
    }
}
