//! Counters: requests by path and status, and the bill.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize, Serializer};

use super::answers::AnswerTokens;
use super::lock::lock;
use super::models;

/// Tokens and requests that were paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// Requests whose body arrived in full and whose answer was generated, delivered or not.
    pub requests: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// The part of `prompt_tokens` that was cached.
    #[serde(default)]
    pub cached_tokens: u64,
    /// The cost by the sandbox's own price list, in billionths of a US dollar. It is exact: the price of every token is
    /// a whole number of them.
    #[serde(default)]
    pub nano_usd: u64,
    /// Requests to models without a price in that list; their cost is not in `nano_usd`.
    #[serde(default)]
    pub unpriced: u64,
}

impl Bill {
    /// The bill of one answer, in a `batch` or in real time.
    pub fn of(model: &str, batch: bool, tokens: AnswerTokens) -> Self {
        let AnswerTokens { prompt, cached, completion, .. } = tokens;
        let price = models::price(model, batch);
        let nano_usd = price.map_or(0, |price| {
            (prompt - cached) * price.input + cached * price.cached_input + completion * price.output
        });
        Self {
            requests: 1,
            prompt_tokens: prompt,
            completion_tokens: completion,
            cached_tokens: cached,
            nano_usd,
            unpriced: u64::from(price.is_none()),
        }
    }

    /// The bill at so many times the price.
    pub fn times(self, price: u64) -> Self {
        Self { nano_usd: self.nano_usd * price, ..self }
    }

    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.cached_tokens += other.cached_tokens;
        self.nano_usd += other.nano_usd;
        self.unpriced += other.unpriced;
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StatsSnapshot {
    /// HTTP requests.
    pub requests: u64,
    /// Requests by path and status; status 0 is a request without an answer (reset, closed, given up).
    pub by_path: BTreeMap<&'static str, BTreeMap<u16, u64>>,
    /// Requests that the rate limit refused (not a scripted fault).
    pub refused: u64,
    /// Scripted faults that struck.
    pub faults: u64,
    /// Inference requests in progress.
    pub in_flight: u64,
    /// The most inference requests that were in progress at once.
    pub peak_in_flight: u64,
    /// The cost of all answers, in real time and in batches. A batch is billed when a client first asks after its end.
    pub bill: Bill,
    /// Payments of each prompt, in real time and in batches, by the 16 hex digits that its answer carries; only if
    /// tracked.
    #[serde(serialize_with = "by_hex")]
    pub paid: BTreeMap<u64, u32>,
    /// Prompts that were paid for more than once; only if tracked.
    pub paid_again: u64,
}

fn by_hex<S: Serializer>(paid: &BTreeMap<u64, u32>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(paid.iter().map(|(hash, count)| (format!("{hash:016x}"), count)))
}

impl StatsSnapshot {
    /// Adds a bill, and a payment for each of these prompts.
    fn pay(&mut self, bill: Bill, hashes: &[u64]) {
        self.bill.add(bill);
        for hash in hashes {
            let count = self.paid.entry(*hash).or_default();
            *count += 1;
            self.paid_again += u64::from(*count == 2);
        }
    }
}

/// Shared counters.
#[derive(Debug, Default)]
pub struct Stats {
    track: bool,
    counters: Mutex<StatsSnapshot>,
}

impl Stats {
    /// Empty counters; with `track` a count is kept per prompt.
    pub fn new(track: bool) -> Self {
        Self { track, counters: Mutex::default() }
    }

    /// Counts a request on `path` when the guard is dropped.
    pub fn request(&self, path: &'static str) -> Counted<'_> {
        Counted { stats: self, path, status: 0 }
    }

    pub fn refused(&self) {
        lock(&self.counters).refused += 1;
    }

    pub fn fault(&self) {
        lock(&self.counters).faults += 1;
    }

    /// Counts answers that were generated, with their bill and the hashes of their prompts.
    pub fn paid(&self, bill: Bill, hashes: &[u64]) {
        lock(&self.counters).pay(bill, if self.track { hashes } else { &[] });
    }

    /// Counts a request as in flight until the guard is dropped, unless `most` are already.
    pub fn enter(self: &Arc<Self>, most: Option<u64>) -> Option<RequestGuard> {
        let mut counters = lock(&self.counters);
        if most.is_some_and(|most| counters.in_flight >= most) {
            return None;
        }
        counters.in_flight += 1;
        counters.peak_in_flight = counters.peak_in_flight.max(counters.in_flight);
        Some(RequestGuard(Arc::clone(self)))
    }

    pub fn snapshot(&self) -> StatsSnapshot {
        lock(&self.counters).clone()
    }

    /// The counters now, with the bill and the hashes of another sandbox on the same state.
    pub fn snapshot_with(&self, bill: Bill, hashes: &[u64]) -> StatsSnapshot {
        let mut counters = self.snapshot();
        counters.pay(bill, hashes);
        counters
    }
}

/// A request that is counted at its end, even if the client is gone.
#[derive(Debug)]
pub struct Counted<'a> {
    stats: &'a Stats,
    path: &'static str,
    status: u16,
}

impl Counted<'_> {
    pub fn answered(mut self, status: u16) {
        self.status = status;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut counters = lock(&self.stats.counters);
        counters.requests += 1;
        *counters.by_path.entry(self.path).or_default().entry(self.status).or_default() += 1;
    }
}

#[derive(Debug)]
pub struct RequestGuard(Arc<Stats>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        lock(&self.0.counters).in_flight -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_payment_is_counted() {
        let stats = Stats::new(true);
        let tokens = |prompt, cached, completion| AnswerTokens { prompt, cached, completion, reasoning: 0 };
        let turbo = |tokens| Bill::of("meta-llama/Llama-3.2-3B-Instruct-Turbo", false, tokens);
        stats.paid(turbo(tokens(10, 0, 2)), &[0xab]);
        stats.paid(turbo(tokens(10, 5, 2)), &[0xab]);
        stats.paid(Bill::of("nobody/knows-this", false, tokens(1, 0, 1)), &[0xcd]);
        let seen = stats.snapshot();
        // $0.06 a million: 60 a token, and 6 for a cached one.
        let nano_usd = 19 * 60 + 5 * 6;
        let bill =
            Bill { requests: 3, prompt_tokens: 21, completion_tokens: 5, cached_tokens: 5, nano_usd, unpriced: 1 };
        assert_eq!(seen.bill, bill);
        assert_eq!(seen.paid[&0xab], 2);
        assert_eq!(seen.paid_again, 1);
    }

    #[test]
    fn batches_and_realtime_are_one_account() {
        let stats = Stats::new(true);
        let bill =
            |requests| Bill { requests, prompt_tokens: 10, completion_tokens: 1, nano_usd: 7, ..Bill::default() };
        stats.paid(bill(1), &[1]);
        stats.paid(bill(2), &[1, 2]);
        let seen = stats.snapshot_with(bill(1), &[2]);
        let all = Bill { requests: 4, prompt_tokens: 30, completion_tokens: 3, nano_usd: 21, ..Bill::default() };
        assert_eq!(seen.bill, all);
        assert_eq!((seen.paid.values().sum::<u32>(), seen.paid_again), (4, 2));
        assert_eq!((stats.snapshot().bill.requests, stats.snapshot().paid_again), (3, 1));
        let untracked = Stats::new(false);
        untracked.paid(bill(2), &[1, 1]);
        assert_eq!((untracked.snapshot().bill.requests, untracked.snapshot().paid_again), (2, 0));
    }

    #[test]
    fn requests_in_progress_are_bounded_and_released() {
        let stats = Arc::new(Stats::new(false));
        let first = stats.enter(Some(1));
        assert!(first.is_some());
        assert!(stats.enter(Some(1)).is_none());
        drop(first);
        assert!(stats.enter(Some(1)).is_some());
        assert_eq!((stats.snapshot().in_flight, stats.snapshot().peak_in_flight), (0, 1));
    }
}
