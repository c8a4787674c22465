//! The service's limit of parallel requests, as its refusals show it.
//!
//! A limit that the service names stays. A limit that llbatch found holds for a while only, because other users of the key may
//! have used the rest of it. Then llbatch tries a few more requests, and goes on while they are answered.

use std::time::{Duration, Instant};

use super::{AnsweredRequest, REST};

/// `CROWDED` refusals in a row, over at least `CROWDED_TIME`, each with the same number of others in flight: that number is the
/// limit. A limit of requests a second lets one through meanwhile.
const CROWDED: u32 = 3;
const CROWDED_TIME: Duration = Duration::from_secs(1);

/// The bound of requests in parallel, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct ParallelBound {
    /// The number that the service named.
    named: Option<usize>,
    found: Option<FoundBound>,
    crowd: Option<Crowd>,
}

/// A number that was found, and may be too low by now.
#[derive(Debug, Clone, Copy)]
struct FoundBound {
    limit: usize,
    /// A larger number that is tried.
    trial: Option<usize>,
    /// Time of the last change. Requests that left before say nothing about it.
    since: Instant,
}

/// A refusal while others were in flight.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    others: usize,
    refusals: u32,
    since: Instant,
}

impl ParallelBound {
    /// The number of requests that may be in flight.
    pub(super) fn allowed(&self) -> usize {
        let found = self.found.map(|found| found.trial.unwrap_or(found.limit));
        [self.named, found].into_iter().flatten().min().unwrap_or(usize::MAX)
    }

    /// Learns that the service allows so many.
    pub(super) fn named(&mut self, parallel: usize) {
        self.named = Some(parallel.max(1));
    }

    /// Learns that the service had no place for one more than these `others`.
    pub(super) fn crowded(&mut self, now: Instant, others: usize) {
        let limit = self.found.map_or(others, |found| found.limit.min(others));
        self.found = Some(FoundBound { limit: limit.max(1), trial: None, since: now });
    }

    /// Learns of a 429 that names no reason, while `others` were in flight. Returns true if their number is the reason: requests
    /// were refused again and again while they were, and none was answered in between. More than the number that was found
    /// last are refused for the same reason.
    pub(super) fn refused(&mut self, sent_at: Instant, now: Instant, others: usize) -> bool {
        if self.found.is_some_and(|found| others >= found.limit) {
            self.crowded(now, others);
            return true;
        }
        // It was refused with fewer in flight, so that their number was not the reason.
        self.found = None;
        let crowd = match self.crowd {
            Some(crowd) if crowd.others == others => Crowd { refusals: crowd.refusals + 1, ..crowd },
            _ => Crowd { others, refusals: 1, since: sent_at },
        };
        self.crowd = Some(crowd).filter(|_| others > 0);
        let long = sent_at.saturating_duration_since(crowd.since) >= CROWDED_TIME;
        let crowded = others > 0 && crowd.refusals >= CROWDED && long;
        if crowded {
            self.crowded(now, others);
        }
        crowded
    }

    /// Learns from an answer.
    pub(super) fn answered(&mut self, answer: &AnsweredRequest) {
        self.crowd = None;
        if let Some(found) = self.found.as_mut().filter(|found| answer.sent_at >= found.since) {
            found.answered(answer);
        }
    }
}

impl FoundBound {
    /// Tries more once the number has held for a while, and goes on after each answer to a request that made them more.
    fn answered(&mut self, answer: &AnsweredRequest) {
        let has_held = answer.now.saturating_duration_since(self.since) >= REST;
        if answer.in_flight > self.limit || (answer.in_flight == self.limit && has_held) {
            self.limit = answer.in_flight;
            self.trial = Some(self.limit + self.limit / 4 + 1);
            self.since = answer.now;
        }
    }
}
