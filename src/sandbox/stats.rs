//! What the server saw: requests by path and status, and the bill.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::models;

/// Tokens and requests that were paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// Requests whose body arrived in full and whose answer was generated, delivered or not.
    pub requests: u64,
    /// Their prompt tokens.
    pub prompt_tokens: u64,
    /// Their completion tokens.
    pub completion_tokens: u64,
    /// What they cost by the sandbox's own price list, in billionths of a US dollar: exact, every price is a whole number
    /// of them a token.
    #[serde(default)]
    pub nano_usd: u64,
    /// Of the requests, those of models without a price in that list; they are not in `nano_usd`.
    #[serde(default)]
    pub unpriced: u64,
}

impl Bill {
    /// The bill of one answer, in a `batch` or at realtime.
    pub fn of(model: &str, batch: bool, prompt_tokens: u64, completion_tokens: u64) -> Self {
        let price = models::price(model, batch);
        let nano_usd = price.map_or(0, |(input, output)| prompt_tokens * input + completion_tokens * output);
        Self { requests: 1, prompt_tokens, completion_tokens, nano_usd, unpriced: u64::from(price.is_none()) }
    }

    /// Adds what is on another bill.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.nano_usd += other.nano_usd;
        self.unpriced += other.unpriced;
    }
}

/// Everything counted so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// HTTP requests.
    pub requests: u64,
    /// By path and status; status 0 is a request that got none (reset, closed, given up).
    pub by_path: BTreeMap<String, BTreeMap<u16, u64>>,
    /// Refused by the rate limit (not by a scripted fault).
    pub refused: u64,
    /// Scripted faults that struck.
    pub faults: u64,
    /// Inference requests being worked on now.
    pub in_flight: u64,
    /// The most at once.
    pub peak_in_flight: u64,
    /// What all answers cost, over realtime and in batches. A batch is billed when somebody first asks after its end.
    pub bill: Bill,
    /// How often each prompt was paid for, over realtime and in batches, by the 16 hex digits that its answer carries; only if tracked.
    pub paid: BTreeMap<String, u32>,
    /// How many prompts were paid for more than once; only if tracked.
    pub paid_again: u64,
}

/// Shared counters.
#[derive(Debug, Default)]
pub struct Stats {
    track: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    routes: HashMap<(&'static str, u16), u64>,
    refused: u64,
    faults: u64,
    in_flight: u64,
    peak: u64,
    bill: Bill,
    paid: HashMap<u64, u32>,
}

impl Stats {
    /// Empty counters; with `track` a count is kept per prompt.
    pub fn new(track: bool) -> Self {
        Self { track, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Counters stay usable whatever happened to another holder.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request on `path` when the guard is dropped.
    pub fn request(&self, path: &'static str) -> Counted<'_> {
        Counted { stats: self, path, status: 0 }
    }

    /// The rate limit refused a request.
    pub fn refused(&self) {
        self.inner().refused += 1;
    }

    /// A scripted fault struck.
    pub fn fault(&self) {
        self.inner().faults += 1;
    }

    /// The answer to the prompt with this hash was generated.
    pub fn paid(&self, hash: u64, bill: Bill) {
        let mut inner = self.inner();
        inner.bill.add(bill);
        if self.track {
            *inner.paid.entry(hash).or_default() += 1;
        }
    }

    /// The rows of a batch with these prompts were answered.
    pub fn paid_rows(&self, bill: Bill, hashes: &[u64]) {
        let mut inner = self.inner();
        inner.bill.add(bill);
        if self.track {
            for hash in hashes {
                *inner.paid.entry(*hash).or_default() += 1;
            }
        }
    }

    /// Counts a request as in flight until the guard is dropped, unless `most` are already.
    pub fn enter(&self, most: Option<u64>) -> Option<InFlight<'_>> {
        let mut inner = self.inner();
        if most.is_some_and(|most| inner.in_flight >= most) {
            return None;
        }
        inner.in_flight += 1;
        inner.peak = inner.peak.max(inner.in_flight);
        Some(InFlight(self))
    }

    /// Everything counted so far.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_with(Bill::default(), &[])
    }

    /// The same, and what another sandbox on the same state billed.
    pub fn snapshot_with(&self, bill: Bill, hashes: &[u64]) -> Snapshot {
        let inner = self.inner();
        let mut paid = inner.paid.clone();
        for hash in hashes {
            *paid.entry(*hash).or_default() += 1;
        }
        let mut all = inner.bill;
        all.add(bill);
        let mut by_path: BTreeMap<String, BTreeMap<u16, u64>> = BTreeMap::new();
        for ((path, status), count) in &inner.routes {
            by_path.entry((*path).to_owned()).or_default().insert(*status, *count);
        }
        Snapshot {
            requests: inner.routes.values().sum(),
            by_path,
            refused: inner.refused,
            faults: inner.faults,
            in_flight: inner.in_flight,
            peak_in_flight: inner.peak,
            bill: all,
            paid: paid.iter().map(|(hash, n)| (format!("{hash:016x}"), *n)).collect(),
            paid_again: paid.values().filter(|n| **n > 1).count() as u64,
        }
    }
}

/// A request that is counted at its end, also when nobody waits for it any more.
#[derive(Debug)]
pub struct Counted<'a> {
    stats: &'a Stats,
    path: &'static str,
    status: u16,
}

impl Counted<'_> {
    /// It was answered with this status.
    pub fn answered(mut self, status: u16) {
        self.status = status;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        *self.stats.inner().routes.entry((self.path, self.status)).or_default() += 1;
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct InFlight<'a>(&'a Stats);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.inner().in_flight -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn double_payment_shows() {
        let stats = Stats::new(true);
        let turbo = |prompt, completion| Bill::of("meta-llama/Llama-3.2-3B-Instruct-Turbo", false, prompt, completion);
        stats.paid(0xab, turbo(10, 2));
        stats.paid(0xab, turbo(10, 2));
        stats.paid(0xcd, Bill::of("nobody/knows-this", false, 1, 1));
        let seen = stats.snapshot();
        // $0.06 a million: 60 a token.
        let bill = Bill { requests: 3, prompt_tokens: 21, completion_tokens: 5, nano_usd: 24 * 60, unpriced: 1 };
        assert_eq!(seen.bill, bill);
        assert_eq!(seen.paid["00000000000000ab"], 2);
        assert_eq!(seen.paid_again, 1);
    }

    #[test]
    fn batches_and_realtime_are_one_account() {
        let stats = Stats::new(true);
        let bill = |requests| Bill { requests, prompt_tokens: 10, completion_tokens: 1, nano_usd: 7, unpriced: 0 };
        stats.paid(1, bill(1));
        stats.paid_rows(bill(2), &[1, 2]);
        let seen = stats.snapshot_with(bill(1), &[2]);
        let all = Bill { requests: 4, prompt_tokens: 30, completion_tokens: 3, nano_usd: 21, unpriced: 0 };
        assert_eq!(seen.bill, all);
        assert_eq!((seen.paid.values().sum::<u32>(), seen.paid_again), (4, 2));
        assert_eq!((stats.snapshot().bill.requests, stats.snapshot().paid_again), (3, 1));
        let untracked = Stats::new(false);
        untracked.paid_rows(bill(2), &[1, 1]);
        assert_eq!((untracked.snapshot().bill.requests, untracked.snapshot().paid_again), (2, 0));
    }

    #[test]
    fn in_flight_is_bounded_and_given_back() {
        let stats = Stats::new(false);
        let first = stats.enter(Some(1));
        assert!(first.is_some());
        assert!(stats.enter(Some(1)).is_none());
        drop(first);
        assert!(stats.enter(Some(1)).is_some());
        assert_eq!((stats.snapshot().in_flight, stats.snapshot().peak_in_flight), (0, 1));
    }
}
