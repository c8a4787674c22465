//! Bounds of the service's rate, computed from its refusals.
//!
//! The service's token bucket is empty at a refusal. Tokens of requests that it accepts before the next refusal flowed in
//! between the two. The rate is therefore at least the accepted requests divided by that time, and equal to it unless the bucket
//! was full in between. The refused pace lies above the rate. A request without an answer yet counts as accepted, because
//! refusals come quickly and answers may take a minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::realtime::peers::Traffic;

/// Departures are counted in steps of this.
const GRAIN: Duration = Duration::from_millis(5);
/// Steps that are kept: a refusal seldom takes longer to arrive.
const STEPS: usize = 256;
/// Refusals to remember: older ones may belong to an older limit.
const REFUSALS: usize = 6;
/// The largest bucket that is likely, in seconds of the rate. It is full at the first request.
const BUCKET: f64 = 2.0;
/// A limit below this share of an earlier one is another limit.
const CHANGED: f64 = 0.75;
/// Age in seconds of the reports of other processes: this much of their traffic may be missing from a count.
const UNSURE: f64 = 0.2;
/// The lowest rate that is believed, as a share of the pace that was refused.
const LOWEST: f64 = 0.04;

/// A running count of requests at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountAt {
    pub(super) at: Instant,
    pub(super) count: f64,
}

/// The lowest and the highest rate that explain the refusals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RateBounds {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// The requests and refusals of all processes.
#[derive(Debug, Clone, Default)]
pub(super) struct RefusalLog {
    /// The first departure.
    first: Option<Instant>,
    /// The number of requests sent up to the last moments.
    steps: VecDeque<CountAt>,
    sent: f64,
    refused: f64,
    /// The part of `sent` that is a guess at the requests of other processes since their last reports.
    guessed: f64,
    /// The part of `sent` that other processes reported.
    reported: f64,
    /// The last refusals that the pacer acted on, and the requests accepted before each.
    empty: VecDeque<CountAt>,
}

impl RefusalLog {
    /// Records a request that leaves. `others` is a guess at the requests of other processes beside it.
    pub(super) fn sent(&mut self, now: Instant, others: f64) {
        self.first.get_or_insert(now);
        self.sent += 1.0 + others;
        self.guessed += others;
        if let Some(last) = self.steps.back_mut().filter(|last| now.saturating_duration_since(last.at) < GRAIN) {
            last.count = self.sent;
            return;
        }
        self.steps.push_back(CountAt { at: now, count: self.sent });
        if self.steps.len() > STEPS {
            self.steps.pop_front();
        }
    }

    /// Replaces the guess at the requests of other processes with their reports.
    pub(super) fn others(&mut self, traffic: Traffic) {
        self.sent += traffic.sent - self.guessed;
        self.reported += traffic.sent;
        self.refused += traffic.refused;
        self.guessed = 0.0;
    }

    /// Records a refusal.
    pub(super) fn refused(&mut self) {
        self.refused += 1.0;
    }

    /// Takes out a request that was refused for a reason other than the rate.
    pub(super) fn withdraw(&mut self) {
        self.sent -= 1.0;
    }

    /// Remembers a refusal that the pacer acts on: the bucket was empty when this request left.
    pub(super) fn mark(&mut self, sent_at: Instant) {
        let after = self.steps.partition_point(|step| step.at <= sent_at);
        let sent = self.steps.get(after.saturating_sub(1)).map_or(self.sent, |step| step.count);
        self.empty.push_back(CountAt { at: sent_at, count: sent - self.refused });
        if self.empty.len() > REFUSALS {
            self.empty.pop_front();
        }
        if self.has_changed() {
            self.empty.drain(..self.empty.len() - 2);
        }
    }

    /// Returns true if fewer requests passed since the last refusal than the refusals before it explain: the limit is lower now.
    fn has_changed(&self) -> bool {
        let mut latest = self.empty.iter().rev();
        let (Some(last), Some(before), Some(_)) = (latest.next(), latest.next(), latest.next()) else { return false };
        (last.count - before.count + 2.0) / seconds(before.at, last.at) < CHANGED * self.least_of_pairs(0.0)
    }

    /// The number of remembered refusals.
    pub(super) fn refusals(&self) -> usize {
        self.empty.len()
    }

    /// The number of requests accepted between the last two refusals.
    pub(super) fn accepted_between(&self) -> f64 {
        let mut latest = self.empty.iter().rev();
        let (Some(last), Some(before)) = (latest.next(), latest.next()) else { return 0.0 };
        (last.count - before.count).max(0.0)
    }

    /// The number of requests that were accepted, or have no answer yet.
    pub(super) fn accepted(&self) -> f64 {
        self.sent - self.refused
    }

    /// The first departure.
    pub(super) const fn first(&self) -> Option<Instant> {
        self.first
    }

    /// The rate at which requests were sent so far.
    pub(super) fn pace(&self) -> f64 {
        let (Some(first), Some(last)) = (self.first, self.steps.back()) else { return 1.0 };
        self.sent / last.at.saturating_duration_since(first).as_secs_f64().max(0.1)
    }

    /// The bounds of the rate, given that the pace `refused` was too fast.
    pub(super) fn bounds(&self, refused: f64) -> RateBounds {
        let from_full = match (self.first, self.empty.front()) {
            (Some(first), Some(only)) if self.empty.len() == 1 => {
                (only.count - 1.0) / (seconds(first, only.at) + BUCKET)
            }
            _ => 0.0,
        };
        let low = self.least_of_pairs(refused).max(from_full).max(refused * LOWEST);
        RateBounds { low: low.min(refused), high: refused }
    }

    /// The lowest rate that explains what passed from an earlier refusal to the last one.
    fn least_of_pairs(&self, refused: f64) -> f64 {
        let Some(last) = self.empty.back() else { return 0.0 };
        let earlier = self.empty.iter().rev().skip(1);
        let slack = UNSURE * refused * self.reported / self.sent.max(1.0);
        // One more or less may have passed: the bucket held less than one at either end.
        earlier.map(|mark| (last.count - mark.count - 1.0 - slack) / seconds(mark.at, last.at)).fold(0.0, f64::max)
    }
}

fn seconds(since: Instant, until: Instant) -> f64 {
    until.saturating_duration_since(since).as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends at `pace` against a bucket of `rate` that holds `size` until it has refused `refusals` times, with a pause after
    /// each.
    fn overrun(rate: f64, size: f64, pace: f64, refusals: usize) -> RateBounds {
        let start = Instant::now();
        let (mut log, mut tokens, mut now) = (RefusalLog::default(), size, 0.0);
        while log.refusals() < refusals {
            let at = start + Duration::from_secs_f64(now);
            log.sent(at, 0.0);
            let mut step = 1.0 / pace;
            if tokens >= 1.0 {
                tokens -= 1.0;
            } else {
                log.mark(at);
                log.refused();
                step = 0.4;
            }
            now += step;
            tokens = rate.mul_add(step, tokens).min(size);
        }
        log.bounds(pace)
    }

    #[test]
    fn requests_accepted_between_refusals_reveal_the_rate_whatever_the_bucket() {
        for (rate, size, pace) in [(10.0, 20.0, 34.0), (100.0, 100.0, 250.0), (100.0, 60.0, 150.0), (1e3, 2e3, 3e3)] {
            let RateBounds { low, high } = overrun(rate, size, pace, 4);
            assert!(
                low <= rate && low > rate * 0.9 - 1.0 && (high - pace).abs() < 1e-9,
                "{rate} of {size}: {low} to {high}"
            );
        }
    }

    #[test]
    fn one_refusal_leaves_the_rate_open() {
        let RateBounds { low, high } = overrun(10.0, 10.0, 40.0, 1);
        assert!(low < 10.0 && high > 30.0, "{low} to {high}");
    }

    #[test]
    fn a_request_taken_out_changes_no_bound() {
        let start = Instant::now();
        let mut log = RefusalLog::default();
        for i in 0..40 {
            let at = start + Duration::from_millis(100) * i;
            log.sent(at, 0.0);
            if i % 19 == 18 {
                log.mark(at);
                log.refused();
            }
            if i == 30 {
                log.sent(at, 0.0);
                log.withdraw();
            }
        }
        let RateBounds { low, .. } = log.bounds(20.0);
        assert!((low - 17.0 / 1.9).abs() < 1e-9, "{low}");
    }

    #[test]
    fn memory_is_bounded() {
        let start = Instant::now();
        let mut log = RefusalLog::default();
        for i in 0..100_000 {
            let at = start + Duration::from_millis(10) * i;
            log.sent(at, 0.0);
            log.mark(at);
            log.refused();
        }
        assert!(log.steps.len() <= STEPS && log.refusals() <= REFUSALS && log.accepted().abs() < 1e-9);
    }
}
