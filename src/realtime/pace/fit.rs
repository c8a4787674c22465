//! The rate of a token bucket, found by replaying the requests sent against buckets of all sizes.
//!
//! One refusal says little: a small bucket that is slightly overrun and a big one that is much overrun refuse alike.
//! But only one rate explains *several* refusals with the pauses between them, whatever the size. So the requests and
//! refusals are kept by the time at which they left, and every rate is tried against them. A request without an answer yet
//! counts as accepted: refusals come quickly, and answers may take a minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::realtime::peers::Traffic;

/// Requests that leave within this time of each other form one group.
const GRAIN: Duration = Duration::from_millis(5);
/// Above this number, groups are merged in pairs.
const MOST: usize = 512;
/// Bucket sizes to try, in seconds of the rate (at least one request).
const SIZES: [f64; 6] = [0.0, 0.1, 0.25, 0.5, 1.0, 2.0];
/// Rates to try between the bounds.
const STEPS: i32 = 24;
/// Lowest rate tried, as a share of the pace that was refused.
const LOWEST: f64 = 0.04;
/// A cost that exceeds the best by no more than this still counts as a fit.
const TOLERANCE: f64 = 2.0;
/// Refusals to remember: older ones may belong to an older limit.
const REFUSALS: usize = 6;

/// Requests that left at about the same time.
#[derive(Debug, Clone, Copy)]
struct SentGroup {
    at: Instant,
    /// The departure of the last one.
    until: Instant,
    sent: u32,
    refused: u32,
    /// Requests of other processes in this time.
    others: Traffic,
}

impl SentGroup {
    fn all(&self) -> f64 {
        f64::from(self.sent) + self.others.sent
    }

    fn accepted(&self) -> f64 {
        f64::from(self.sent - self.refused) + (self.others.sent - self.others.refused).max(0.0)
    }

    fn any_refused(&self) -> bool {
        self.refused > 0 || self.others.refused > 0.0
    }
}

/// The rates that explain the refusals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FittingRates {
    /// The lowest.
    pub(super) low: f64,
    /// The highest.
    pub(super) high: f64,
    /// The misfit of the best one.
    pub(super) cost: f64,
}

/// The recent requests and refusals.
#[derive(Debug, Clone)]
pub(super) struct RateFit {
    groups: VecDeque<SentGroup>,
    /// The last refusals that the pacer acted on.
    refusals: VecDeque<Instant>,
    /// The first group met a full bucket, not one emptied by a refusal before it.
    full: bool,
}

impl RateFit {
    pub(super) const fn new() -> Self {
        Self { groups: VecDeque::new(), refusals: VecDeque::new(), full: true }
    }

    /// Records a request that leaves. `others` is a guess at the requests of other processes beside it.
    pub(super) fn sent(&mut self, now: Instant, others: f64) {
        if let Some(last) = self.groups.back_mut()
            && now.saturating_duration_since(last.at) < GRAIN
        {
            last.sent = last.sent.saturating_add(1);
            last.others.sent += others;
            last.until = now;
            return;
        }
        let others = Traffic { sent: others, refused: 0.0 };
        self.groups.push_back(SentGroup { at: now, until: now, sent: 1, refused: 0, others });
        if self.groups.len() > MOST {
            self.merge();
        }
    }

    /// Spreads the traffic of other processes between `since` and `now` over the groups of that time.
    pub(super) fn spread(&mut self, since: Instant, now: Instant, traffic: Traffic) {
        let from = self.groups.partition_point(|group| group.at < since);
        let to = self.groups.partition_point(|group| group.at < now).max(from);
        let ours: f64 = self.groups.range(from..to).map(|group| f64::from(group.sent)).sum();
        if ours > 0.0 {
            for group in self.groups.range_mut(from..to) {
                let part = f64::from(group.sent) / ours;
                group.others = Traffic { sent: traffic.sent * part, refused: traffic.refused * part };
            }
        } else if traffic.sent > 0.0 {
            self.groups.insert(to, SentGroup { at: now, until: now, sent: 0, refused: 0, others: traffic });
            if self.groups.len() > MOST {
                self.merge();
            }
        }
    }

    /// Records that a request that left at `sent_at` was refused.
    pub(super) fn refused(&mut self, sent_at: Instant) {
        let index = self.groups.partition_point(|group| group.at <= sent_at);
        if let Some(group) = self.groups.get_mut(index.saturating_sub(1)) {
            group.refused = (group.refused + 1).min(group.sent);
        }
    }

    /// Takes out a request that left at `sent_at`: it was refused for a reason other than the rate.
    pub(super) fn withdraw(&mut self, sent_at: Instant) {
        let index = self.groups.partition_point(|group| group.at <= sent_at);
        if let Some(group) = self.groups.get_mut(index.saturating_sub(1)) {
            group.sent = group.sent.saturating_sub(1).max(group.refused);
        }
    }

    /// Remembers a refusal that the pacer acts on. Groups from before the oldest remembered one are dropped.
    pub(super) fn mark(&mut self, sent_at: Instant) {
        self.refusals.push_back(sent_at);
        if self.refusals.len() > REFUSALS {
            self.refusals.pop_front();
            self.forget();
        }
    }

    /// Drops all but the last two refusals and the groups since the first of them.
    pub(super) fn keep_two(&mut self) {
        while self.refusals.len() > 2 {
            self.refusals.pop_front();
        }
        self.forget();
    }

    fn forget(&mut self) {
        let Some(oldest) = self.refusals.front() else { return };
        while self.groups.len() > 1 && self.groups[1].at <= *oldest {
            self.groups.pop_front();
            self.full = false;
        }
    }

    /// The number of remembered refusals.
    pub(super) fn refusals(&self) -> usize {
        self.refusals.len()
    }

    /// The number of requests accepted between the last two refusals.
    pub(super) fn accepted_between(&self) -> u32 {
        let mut latest = self.refusals.iter().rev();
        let (Some(last), Some(before)) = (latest.next(), latest.next()) else { return 0 };
        let between = self.groups.iter().filter(|group| group.at > *before && group.at <= *last);
        between.map(SentGroup::accepted).sum::<f64>() as u32
    }

    /// The rate at which the remembered requests were sent.
    pub(super) fn pace(&self) -> f64 {
        let (Some(first), Some(last)) = (self.groups.front(), self.groups.back()) else { return 1.0 };
        let sent: f64 = self.groups.iter().map(SentGroup::all).sum();
        sent / last.at.saturating_duration_since(first.at).as_secs_f64().max(0.1)
    }

    /// Merges the older half in pairs; the first of a pair keeps its place. Groups with a refusal stay as they are.
    fn merge(&mut self) {
        let recent = self.groups.split_off(MOST / 2);
        let mut merged: VecDeque<SentGroup> = VecDeque::with_capacity(MOST + 1);
        let mut single = false;
        for group in &self.groups {
            match merged.back_mut() {
                Some(last) if single && !last.any_refused() && !group.any_refused() => {
                    last.sent = last.sent.saturating_add(group.sent);
                    last.others.sent += group.others.sent;
                    last.until = group.until;
                    single = false;
                }
                _ => {
                    merged.push_back(*group);
                    single = true;
                }
            }
        }
        if merged.len() > MOST * 3 / 8 {
            // These are mostly refusals: the oldest say the least.
            merged.drain(..MOST / 8);
            self.full = false;
        }
        merged.extend(recent);
        self.groups = merged;
    }

    /// Finds the rates that explain the refusals, given that `refused` was too fast.
    pub(super) fn fit(&self, refused: f64) -> FittingRates {
        let step = (1.0 / LOWEST).powf(1.0 / f64::from(STEPS));
        let coarse = self.scan(refused * LOWEST, refused, step - 1.0);
        self.scan(coarse.low / step, (coarse.high * step).min(refused), 0.01)
    }

    fn scan(&self, from: f64, to: f64, blur: f64) -> FittingRates {
        let ratio = (to / from).powf(1.0 / f64::from(STEPS));
        let costs: Vec<(f64, f64)> = (0..=STEPS)
            .map(|i| from * ratio.powi(i))
            .map(|rate| {
                (rate, SIZES.iter().map(|size| self.cost(rate, (rate * size).max(1.0), blur)).fold(f64::MAX, f64::min))
            })
            .collect();
        let best = costs.iter().fold(f64::MAX, |best, (_, cost)| best.min(*cost));
        let fits = costs.iter().filter(|(_, cost)| *cost <= best + TOLERANCE).map(|(rate, _)| *rate);
        let (low, high) = fits.fold((f64::MAX, 0.0f64), |(low, high), rate| (low.min(rate), high.max(rate)));
        FittingRates { low, high, cost: best }
    }

    /// Rates a bucket by its misfit with the refusals; 0 is perfect. The rate is known to within the share `blur`.
    fn cost(&self, rate: f64, size: f64, blur: f64) -> f64 {
        let Some(mut before) = self.groups.front().map(|group| group.at) else { return 0.0 };
        let mut tokens = if self.full { size } else { 0.0 };
        let (mut cost, mut flow) = (0.0, 0.0);
        for group in &self.groups {
            let idle = rate * group.at.saturating_duration_since(before).as_secs_f64();
            let busy = rate * group.until.saturating_duration_since(group.at).as_secs_f64();
            before = group.until;
            // Within a group, inflow and outflow are one stream: only the rest can overflow.
            let full = tokens + idle >= size;
            tokens = (tokens + idle).min(size) + busy - group.accepted();
            flow = if full { 0.0 } else { flow + idle + busy };
            // Clocks differ a little, and the order within a group is unknown.
            let unsure = 0.3 + 0.004 * rate + 0.1 * (group.all() - 1.0).max(0.0) + blur * flow;
            let wrong = if group.any_refused() && tokens > 1.0 { tokens - 1.0 } else { (-tokens).max(0.0) };
            cost += (wrong / unsure).powi(2).min(9.0);
            tokens = tokens.clamp(0.0, if group.any_refused() { size.min(1.0) } else { size });
            if group.any_refused() || wrong > 0.0 {
                flow = 0.0;
            }
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends at `pace` against a real bucket until it has refused `refusals` times. After each refusal it pauses for `pause`
    /// seconds and slows down a little. Returns the last pace as well.
    fn overrun(rate: f64, size: f64, mut pace: f64, pause: f64, refusals: u32) -> (RateFit, f64) {
        let start = Instant::now();
        let (mut fit, mut tokens, mut at, mut refused) = (RateFit::new(), size, 0.0, 0);
        while refused < refusals {
            let step = 1.0 / pace;
            let now = start + Duration::from_secs_f64(at);
            fit.sent(now, 0.0);
            let mut passed = step;
            if tokens >= 1.0 {
                tokens -= 1.0;
            } else {
                fit.refused(now);
                fit.mark(now);
                refused += 1;
                passed = pause;
                if refused < refusals {
                    pace *= 0.9;
                }
            }
            at += passed;
            tokens = (tokens + rate * passed).min(size);
        }
        (fit, pace)
    }

    #[test]
    fn several_refusals_reveal_the_rate_whatever_the_bucket_size() {
        for (rate, size, pace, pause) in [
            (10.0, 20.0, 34.0, 1.0),
            (100.0, 100.0, 250.0, 0.3),
            (100.0, 10.0, 150.0, 1.0),
            (1000.0, 2000.0, 3000.0, 1.0),
        ] {
            let (fit, high) = overrun(rate, size, pace, pause, 4);
            let FittingRates { low, high: top, cost } = fit.fit(high);
            assert!(low <= rate * 1.03 && top >= rate * 0.97, "{rate} of {size}: {low} to {top}");
            assert!(top / low < 1.25 && cost < 5.0, "{rate} of {size}: {low} to {top}, cost {cost}");
        }
    }

    #[test]
    fn one_refusal_leaves_the_rate_open() {
        let (fit, high) = overrun(10.0, 10.0, 40.0, 1.0, 1);
        let FittingRates { low, high: top, .. } = fit.fit(high);
        assert!(low < 10.0 && top > 30.0, "{low} to {top}");
    }

    #[test]
    fn a_withdrawn_request_changes_no_fit() {
        let start = Instant::now();
        let mut fit = RateFit::new();
        let at = |i: u32| start + Duration::from_millis(100) * i;
        for i in 0..40 {
            fit.sent(at(i), 0.0);
        }
        fit.refused(at(30));
        fit.refused(at(39));
        let whole = fit.fit(20.0);
        fit.sent(at(45), 0.0);
        fit.withdraw(at(45));
        assert_eq!(fit.groups.back().map(|group| group.sent), Some(0));
        assert_eq!(fit.fit(20.0), whole);
    }

    #[test]
    fn memory_is_bounded_and_merging_loses_no_request() {
        let start = Instant::now();
        let mut fit = RateFit::new();
        for i in 0..100_000 {
            fit.sent(start + Duration::from_millis(10) * i, 0.0);
        }
        assert!(fit.groups.len() <= MOST);
        assert_eq!(fit.groups.iter().map(|group| group.sent).sum::<u32>(), 100_000);
        for i in 0..100_000 {
            let at = start + Duration::from_secs(2000) + Duration::from_millis(10) * i;
            fit.sent(at, 0.0);
            fit.refused(at);
        }
        assert!(fit.groups.len() <= MOST);
    }
}
