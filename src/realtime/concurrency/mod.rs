//! Searches for the best number of requests in flight by measuring throughput.
//!
//! A server of the user's own queues what it cannot work on, and refuses nothing. The search therefore doubles the number while
//! that raises the answered tokens a second. If twice as many requests bring no more tokens, their latency has doubled, and the
//! search steps back. From time to time it tries more and fewer again. A request that times out halves the number.
//!
//! The search is pure: the caller passes the time, and nothing here sleeps.

mod parallel;

use std::time::{Duration, Instant};

use super::{AUTO_CONCURRENCY, MOST_PER_URL};
use parallel::ParallelBound;

/// Requests in flight at first.
const START: usize = 4;
/// The share of `--request-timeout` that the latency may reach: it grows with the number of queued requests.
const NEAR_TIMEOUT: f64 = 0.85;
/// A smaller step up shows nothing.
const LEAST_STEP: f64 = 1.25;
/// Twice as many in flight must answer more tokens a second by this factor.
const GAIN: f64 = 1.1;
/// Fewer in flight are as good if they answer this share of the tokens a second.
const AS_GOOD: f64 = 0.97;
/// A request counts for a number if it left with this share of it in flight.
const FULL: f64 = 0.9;
/// A number is judged by half as many answers, by no fewer than this, and no sooner than this time.
const ANSWERS: usize = 6;
const SHORTEST: Duration = Duration::from_millis(50);
/// The search rests for this long once it is done, and after a timeout. A bound that refusals showed holds for as long.
const REST: Duration = Duration::from_secs(30);

/// An answer, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnsweredRequest {
    /// The departure.
    pub(super) sent_at: Instant,
    /// The arrival of its answer.
    pub(super) now: Instant,
    /// Requests in flight at its departure, itself included.
    pub(super) in_flight: usize,
    /// Tokens of the answer.
    pub(super) tokens: u64,
}

/// The reason for a change of the number in flight.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trial {
    /// It is measured for the first time, or again.
    Measure,
    /// Twice as many as the best.
    More,
    /// Fewer than the best.
    Fewer,
    /// The best one is used until then; afterwards more are tried, or fewer.
    Rest { until: Instant, then_more: bool },
}

/// Answers to requests that left since the number in flight was changed, with that many in flight.
#[derive(Debug, Clone, Copy)]
struct ThroughputSample {
    since: Instant,
    /// All answers. Those with fewer in flight do not count: the first requests after a rise, or all if the pace is slower.
    seen: usize,
    counted: usize,
    tokens: f64,
    seconds: f64,
}

impl ThroughputSample {
    const fn new(since: Instant) -> Self {
        Self { since, seen: 0, counted: 0, tokens: 0.0, seconds: 0.0 }
    }

    /// Tokens a second with so many in flight: those of one request, times their number. It varies less than a count of the
    /// answers in a span of time, because a long answer takes long and has many tokens.
    fn throughput(&self, in_flight: usize) -> f64 {
        in_flight as f64 * self.tokens / self.seconds.max(1e-6)
    }
}

/// A number in flight and the tokens a second that it brings.
#[derive(Debug, Clone, Copy)]
struct Best {
    limit: usize,
    throughput: f64,
    /// Seconds that a request took.
    latency: f64,
}

/// The number of requests that may be in flight.
#[derive(Debug)]
pub(super) struct Concurrency {
    limit: usize,
    /// Base URLs that get rows.
    urls: usize,
    /// Requests were refused, so that the rate is the limit.
    refused: bool,
    trial: Trial,
    sample: ThroughputSample,
    best: Option<Best>,
    /// The next number above the best one was tried and is no better.
    topped: bool,
    parallel: ParallelBound,
    /// The search is on: the user named no number, and the service no rate.
    searches: bool,
    /// Seconds that a request has.
    timeout: f64,
}

impl Concurrency {
    /// Leaves the number to the user.
    pub(super) fn fixed(now: Instant) -> Self {
        Self { searches: false, ..Self::search(now, 1) }
    }

    /// Begins the search for a service with so many base URLs.
    pub(super) fn search(now: Instant, urls: usize) -> Self {
        Self {
            limit: START,
            urls: urls.max(1),
            refused: false,
            trial: Trial::Measure,
            sample: ThroughputSample::new(now),
            best: None,
            topped: false,
            parallel: ParallelBound::default(),
            searches: true,
            timeout: f64::INFINITY,
        }
    }

    /// The same search where a request has so much time.
    pub(super) fn within(self, timeout: Duration) -> Self {
        Self { timeout: timeout.as_secs_f64(), ..self }
    }

    /// Learns how many base URLs get rows: each gets as many requests as before, and the number is measured again. Returns true
    /// if that is news.
    pub(super) fn set_urls(&mut self, now: Instant, urls: usize) -> bool {
        let before = std::mem::replace(&mut self.urls, urls.max(1));
        if self.urls == before || !self.searches {
            return false;
        }
        let limit = (self.limit * self.urls / before).clamp(1, self.most());
        (self.best, self.topped) = (None, false);
        self.set(now, limit, Trial::Measure);
        true
    }

    /// The most that the search tries.
    fn most(&self) -> usize {
        let most = MOST_PER_URL * self.urls;
        if self.refused { most.max(AUTO_CONCURRENCY) } else { most }
    }

    /// The number of requests that may be in flight now.
    pub(super) fn limit(&self) -> usize {
        let allowed = self.parallel.allowed();
        if self.searches { self.limit.min(allowed) } else { allowed }
    }

    /// The service names its rate in headers.
    pub(super) const fn announced(&mut self) {
        self.searches = false;
    }

    /// Learns from an answer.
    pub(super) fn answered(&mut self, answer: AnsweredRequest) {
        self.parallel.answered(&answer);
        if !self.searches || answer.sent_at < self.sample.since {
            return;
        }
        let sample = &mut self.sample;
        sample.seen += 1;
        if answer.in_flight as f64 >= FULL * self.limit as f64 {
            sample.counted += 1;
            sample.tokens += answer.tokens.max(1) as f64;
            sample.seconds += answer.now.saturating_duration_since(answer.sent_at).as_secs_f64();
        }
        let enough = (self.limit / 2).max(ANSWERS);
        let resting = matches!(self.trial, Trial::Rest { until, .. } if answer.now < until);
        if resting || answer.now.saturating_duration_since(sample.since) < SHORTEST {
            return;
        }
        if sample.counted >= enough {
            self.judge(answer.now);
        } else if sample.seen > 2 * self.limit + 2 * ANSWERS {
            // The pace or the demand keeps the number lower, so that nothing is learned about it.
            self.sample = ThroughputSample::new(answer.now);
        }
    }

    /// Judges the present number by the answers to its requests, and chooses the next.
    fn judge(&mut self, now: Instant) {
        let latency = self.sample.seconds / self.sample.counted.max(1) as f64;
        let measured = Best { limit: self.limit, throughput: self.sample.throughput(self.limit), latency };
        let best = self.best.unwrap_or(measured);
        match self.trial {
            Trial::Measure => {
                self.best = Some(measured);
                self.try_more(now);
            }
            Trial::More if measured.throughput >= best.throughput * GAIN => {
                self.best = Some(measured);
                self.topped = false;
                self.try_more(now);
            }
            Trial::More => {
                let first = !self.topped && best.limit <= START;
                self.topped = true;
                if first { self.try_fewer(now, best) } else { self.rest(now, best, false) }
            }
            Trial::Fewer if measured.throughput >= best.throughput * AS_GOOD => {
                self.best = Some(Best { throughput: best.throughput.max(measured.throughput), ..measured });
                self.try_fewer(now, measured);
            }
            Trial::Fewer => self.rest(now, best, true),
            Trial::Rest { then_more, .. } => {
                self.best = Some(measured);
                if then_more { self.try_more(now) } else { self.try_fewer(now, measured) }
            }
        }
    }

    fn try_more(&mut self, now: Instant) {
        let best = self.best.unwrap_or(Best { limit: self.limit, throughput: 0.0, latency: 0.0 });
        // A step that the queue turns into timeouts would be paid for twice.
        let step = (NEAR_TIMEOUT * self.timeout / best.latency.max(1e-6)).min(2.0);
        let step = if step < LEAST_STEP { 1.0 } else { step };
        let more = ((best.limit as f64 * step) as usize).min(self.most()).min(self.parallel.allowed());
        if more > best.limit { self.set(now, more, Trial::More) } else { self.rest(now, best, false) }
    }

    /// Tries half of a few, and a quarter less of many.
    fn try_fewer(&mut self, now: Instant, best: Best) {
        let fewer = if best.limit <= START { best.limit / 2 } else { best.limit - best.limit / 4 };
        if fewer > 0 { self.set(now, fewer, Trial::Fewer) } else { self.rest(now, best, true) }
    }

    fn rest(&mut self, now: Instant, best: Best, then_more: bool) {
        self.set(now, best.limit, Trial::Rest { until: now + REST, then_more });
    }

    fn set(&mut self, now: Instant, limit: usize, trial: Trial) {
        self.limit = limit;
        self.trial = trial;
        self.sample = ThroughputSample::new(now);
    }

    /// Learns of a request that timed out: too many are in flight.
    pub(super) fn timed_out(&mut self, now: Instant, sent_at: Instant) {
        // Requests that left before the last change were too many then.
        if !self.searches || sent_at < self.sample.since {
            return;
        }
        let half = self.limit.div_ceil(2);
        self.best = None;
        self.topped = true;
        self.rest(now, Best { limit: half, throughput: 0.0, latency: 0.0 }, false);
    }

    /// Learns that the service allows so many requests in parallel.
    pub(super) fn named(&mut self, parallel: usize) {
        self.parallel.named(parallel);
    }

    /// Learns that the service had no place for one more than these `others`.
    pub(super) fn crowded(&mut self, now: Instant, others: usize) {
        self.parallel.crowded(now, others);
    }

    /// Learns of a 429 that names no reason, while `others` were in flight. Returns true if their number is the reason.
    pub(super) fn refused(&mut self, sent_at: Instant, now: Instant, others: usize) -> bool {
        self.refused = true;
        self.parallel.refused(sent_at, now, others)
    }
}

#[cfg(test)]
mod tests;
