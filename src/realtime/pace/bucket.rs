//! Which bucket explains the refusals: a token bucket's rate, found by replaying what was sent against buckets of all sizes.
//!
//! A refusal alone says little: a small bucket that is slightly overrun and a big one that is much overrun refuse alike.
//! But only one rate explains *several* refusals with the pauses between them, whatever the size. So keep what was sent and
//! refused, by the time it left, and look which rates fit. A request that is not answered yet counts as accepted: refusals come
//! quickly, answers may take a minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests that leave within this time of each other are kept as one entry.
const GRAIN: Duration = Duration::from_millis(5);
/// More entries than this are merged by twos.
const MOST: usize = 512;
/// Sizes of bucket that are tried, in seconds of the rate (at least one request).
const SIZES: [f64; 6] = [0.0, 0.1, 0.25, 0.5, 1.0, 2.0];
/// Rates that are tried between the bounds.
const STEPS: i32 = 24;
/// Lowest rate tried, as a share of the pace that was refused.
const LOWEST: f64 = 0.04;
/// How much worse than the best fit still counts as a fit.
const TOLERANCE: f64 = 2.0;
/// Refusals that are remembered: older ones may tell of an older limit.
const REFUSALS: usize = 6;

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Instant,
    /// When the last of them left.
    until: Instant,
    sent: u32,
    refused: u32,
    /// Meanwhile sent by other processes, and refused of that.
    others: (f64, f64),
}

impl Entry {
    fn all(&self) -> f64 {
        f64::from(self.sent) + self.others.0
    }

    fn accepted(&self) -> f64 {
        f64::from(self.sent - self.refused) + (self.others.0 - self.others.1).max(0.0)
    }

    fn any_refused(&self) -> bool {
        self.refused > 0 || self.others.1 > 0.0
    }
}

/// What was sent lately, and what was refused of it.
#[derive(Debug, Clone)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    /// The last refusals that were acted on.
    refusals: VecDeque<Instant>,
    /// The first entry met a full bucket, not one emptied by a refusal before it.
    full: bool,
}

impl Log {
    pub(super) const fn new() -> Self {
        Self { entries: VecDeque::new(), refusals: VecDeque::new(), full: true }
    }

    /// A request leaves. `others`: so many may leave other processes for it, until that is known better.
    pub(super) fn sent(&mut self, now: Instant, others: f64) {
        if let Some(last) = self.entries.back_mut()
            && now.saturating_duration_since(last.at) < GRAIN
        {
            last.sent = last.sent.saturating_add(1);
            last.others.0 += others;
            last.until = now;
            return;
        }
        self.entries.push_back(Entry { at: now, until: now, sent: 1, refused: 0, others: (others, 0.0) });
        if self.entries.len() > MOST {
            self.merge();
        }
    }

    /// Other processes sent so many between `since` and `now`, of which that many were refused: spread over ours.
    pub(super) fn others(&mut self, since: Instant, now: Instant, sent: f64, refused: f64) {
        let from = self.entries.partition_point(|e| e.at < since);
        let to = self.entries.partition_point(|e| e.at < now).max(from);
        let ours: f64 = self.entries.range(from..to).map(|e| f64::from(e.sent)).sum();
        if ours > 0.0 {
            for entry in self.entries.range_mut(from..to) {
                let part = f64::from(entry.sent) / ours;
                entry.others = (sent * part, refused * part);
            }
        } else if sent > 0.0 {
            self.entries.insert(to, Entry { at: now, until: now, sent: 0, refused: 0, others: (sent, refused) });
            if self.entries.len() > MOST {
                self.merge();
            }
        }
    }

    /// A request that left at `sent_at` was refused.
    pub(super) fn refused(&mut self, sent_at: Instant) {
        let index = self.entries.partition_point(|e| e.at <= sent_at);
        if let Some(entry) = self.entries.get_mut(index.saturating_sub(1)) {
            entry.refused = (entry.refused + 1).min(entry.sent);
        }
    }

    /// A request that left at `sent_at` took nothing from the bucket, for a reason of its own.
    pub(super) fn withdraw(&mut self, sent_at: Instant) {
        let index = self.entries.partition_point(|e| e.at <= sent_at);
        if let Some(entry) = self.entries.get_mut(index.saturating_sub(1)) {
            entry.sent = entry.sent.saturating_sub(1).max(entry.refused);
        }
    }

    /// A refusal was acted on: entries from before the oldest remembered one are dropped.
    pub(super) fn mark(&mut self, sent_at: Instant) {
        self.refusals.push_back(sent_at);
        if self.refusals.len() > REFUSALS {
            self.refusals.pop_front();
            self.forget();
        }
    }

    /// Forgets all but the last two refusals and what came after the first of them.
    pub(super) fn keep_two(&mut self) {
        while self.refusals.len() > 2 {
            self.refusals.pop_front();
        }
        self.forget();
    }

    fn forget(&mut self) {
        let Some(oldest) = self.refusals.front() else { return };
        while self.entries.len() > 1 && self.entries[1].at <= *oldest {
            self.entries.pop_front();
            self.full = false;
        }
    }

    /// How many refusals it remembers.
    pub(super) fn refusals(&self) -> usize {
        self.refusals.len()
    }

    /// How many were accepted between the last two refusals.
    pub(super) fn accepted_between(&self) -> u32 {
        let mut latest = self.refusals.iter().rev();
        let (Some(last), Some(before)) = (latest.next(), latest.next()) else { return 0 };
        let between = self.entries.iter().filter(|e| e.at > *before && e.at <= *last);
        between.map(Entry::accepted).sum::<f64>() as u32
    }

    /// Sent over the time it took.
    pub(super) fn pace(&self) -> f64 {
        let (Some(first), Some(last)) = (self.entries.front(), self.entries.back()) else { return 1.0 };
        let sent: f64 = self.entries.iter().map(Entry::all).sum();
        sent / last.at.saturating_duration_since(first.at).as_secs_f64().max(0.1)
    }

    /// Merges the older half by twos, the first of two keeping its place; entries with a refusal stay as they are.
    fn merge(&mut self) {
        let recent = self.entries.split_off(MOST / 2);
        let mut merged: VecDeque<Entry> = VecDeque::with_capacity(MOST + 1);
        let mut single = false;
        for entry in &self.entries {
            match merged.back_mut() {
                Some(last) if single && !last.any_refused() && !entry.any_refused() => {
                    last.sent = last.sent.saturating_add(entry.sent);
                    last.others.0 += entry.others.0;
                    last.until = entry.until;
                    single = false;
                }
                _ => {
                    merged.push_back(*entry);
                    single = true;
                }
            }
        }
        if merged.len() > MOST * 3 / 8 {
            // Mostly refusals: the oldest tell the least.
            merged.drain(..MOST / 8);
            self.full = false;
        }
        merged.extend(recent);
        self.entries = merged;
    }

    /// The lowest and the highest rate that explain the refusals, given that `high` was too fast; and how badly they do at best.
    pub(super) fn fit(&self, high: f64) -> (f64, f64, f64) {
        let step = (1.0 / LOWEST).powf(1.0 / f64::from(STEPS));
        let (low, top, _) = self.scan(high * LOWEST, high, step - 1.0);
        self.scan(low / step, (top * step).min(high), 0.01)
    }

    fn scan(&self, from: f64, to: f64, blur: f64) -> (f64, f64, f64) {
        let ratio = (to / from).powf(1.0 / f64::from(STEPS));
        let costs: Vec<(f64, f64)> = (0..=STEPS)
            .map(|i| from * ratio.powi(i))
            .map(|rate| {
                (rate, SIZES.iter().map(|size| self.cost(rate, (rate * size).max(1.0), blur)).fold(f64::MAX, f64::min))
            })
            .collect();
        let best = costs.iter().fold(f64::MAX, |best, (_, cost)| best.min(*cost));
        let fits = costs.iter().filter(|(_, cost)| *cost <= best + TOLERANCE).map(|(rate, _)| *rate);
        let (low, top) = fits.fold((f64::MAX, 0.0f64), |(low, top), rate| (low.min(rate), top.max(rate)));
        (low, top, best)
    }

    /// How badly a bucket of this rate and size explains what happened; the rate is known to within the share `blur`.
    fn cost(&self, rate: f64, size: f64, blur: f64) -> f64 {
        let Some(mut before) = self.entries.front().map(|e| e.at) else { return 0.0 };
        let mut tokens = if self.full { size } else { 0.0 };
        let (mut cost, mut flow) = (0.0, 0.0);
        for entry in &self.entries {
            let idle = rate * entry.at.saturating_duration_since(before).as_secs_f64();
            let busy = rate * entry.until.saturating_duration_since(entry.at).as_secs_f64();
            before = entry.until;
            // Within an entry, what flows in and out is one stream: only what is left can run over.
            let full = tokens + idle >= size;
            tokens = (tokens + idle).min(size) + busy - entry.accepted();
            flow = if full { 0.0 } else { flow + idle + busy };
            // Clocks differ a little, and the order within an entry is unknown.
            let unsure = 0.3 + 0.004 * rate + 0.1 * (entry.all() - 1.0).max(0.0) + blur * flow;
            let wrong = if entry.any_refused() && tokens > 1.0 { tokens - 1.0 } else { (-tokens).max(0.0) };
            cost += (wrong / unsure).powi(2).min(9.0);
            tokens = tokens.clamp(0.0, if entry.any_refused() { size.min(1.0) } else { size });
            if entry.any_refused() || wrong > 0.0 {
                flow = 0.0;
            }
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends at `pace` against a real bucket until it has refused `refusals` times, pausing for `pause` seconds and slowing
    /// down a little after each. Returns the last pace as well.
    fn overrun(rate: f64, size: f64, mut pace: f64, pause: f64, refusals: u32) -> (Log, f64) {
        let start = Instant::now();
        let (mut log, mut tokens, mut at, mut refused) = (Log::new(), size, 0.0, 0);
        while refused < refusals {
            let step = 1.0 / pace;
            let now = start + Duration::from_secs_f64(at);
            log.sent(now, 0.0);
            let mut passed = step;
            if tokens >= 1.0 {
                tokens -= 1.0;
            } else {
                log.refused(now);
                log.mark(now);
                refused += 1;
                passed = pause;
                if refused < refusals {
                    pace *= 0.9;
                }
            }
            at += passed;
            tokens = (tokens + rate * passed).min(size);
        }
        (log, pace)
    }

    #[test]
    fn several_refusals_tell_the_rate_whatever_the_size() {
        for (rate, size, pace, pause) in [
            (10.0, 20.0, 34.0, 1.0),
            (100.0, 100.0, 250.0, 0.3),
            (100.0, 10.0, 150.0, 1.0),
            (1000.0, 2000.0, 3000.0, 1.0),
        ] {
            let (log, high) = overrun(rate, size, pace, pause, 4);
            let (low, top, cost) = log.fit(high);
            assert!(low <= rate * 1.03 && top >= rate * 0.97, "{rate} of {size}: {low} to {top}");
            assert!(top / low < 1.25 && cost < 5.0, "{rate} of {size}: {low} to {top}, cost {cost}");
        }
    }

    #[test]
    fn one_refusal_leaves_the_rate_open() {
        let (log, high) = overrun(10.0, 10.0, 40.0, 1.0, 1);
        let (low, top, _) = log.fit(high);
        assert!(low < 10.0 && top > 30.0, "{low} to {top}");
    }

    #[test]
    fn an_entry_without_requests_explains_nothing() {
        let start = Instant::now();
        let mut log = Log::new();
        let at = |i: u32| start + Duration::from_millis(100) * i;
        for i in 0..40 {
            log.sent(at(i), 0.0);
        }
        log.refused(at(30));
        log.refused(at(39));
        let whole = log.fit(20.0);
        log.sent(at(45), 0.0);
        log.withdraw(at(45));
        assert_eq!(log.entries.back().map(|entry| entry.sent), Some(0));
        assert_eq!(log.fit(20.0), whole);
    }

    #[test]
    fn memory_is_bounded_and_merging_loses_no_request() {
        let start = Instant::now();
        let mut log = Log::new();
        for i in 0..100_000 {
            log.sent(start + Duration::from_millis(10) * i, 0.0);
        }
        assert!(log.entries.len() <= MOST);
        assert_eq!(log.entries.iter().map(|e| e.sent).sum::<u32>(), 100_000);
        for i in 0..100_000 {
            let at = start + Duration::from_secs(2000) + Duration::from_millis(10) * i;
            log.sent(at, 0.0);
            log.refused(at);
        }
        assert!(log.entries.len() <= MOST);
    }
}
