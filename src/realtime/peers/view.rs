//! One process's view of the others, and the share of the limit that follows from it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::report::{LimitEstimate, PeerReport};
use super::{Heard, Traffic};
use crate::realtime::pace::{FoundLimit, Pace};

/// A process that reports nothing new for this long is asleep or stopped.
const SILENT: Duration = Duration::from_secs(2);
/// Estimates this close in time belong to the same limit. The lower one counts.
const AT_ONCE: Duration = Duration::from_secs(2);
/// A process that sends less than its share gets this much room above its rate.
const ROOM: f64 = 1.1;
/// Our own rate is measured over this time.
const RATE_WINDOW: Duration = Duration::from_millis(1100);

/// The effect of the others' reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::realtime) struct Advice {
    /// The requests of the others since the last time; `None` if this process is alone.
    pub others: Option<Traffic>,
    /// The share of this process in the limit.
    pub share: f64,
    /// A better estimate of another process.
    pub adopt: Option<AdoptedEstimate>,
}

/// Another process's estimate, and the time at which it was found, on this process's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::realtime) struct AdoptedEstimate {
    /// The estimate.
    pub estimate: LimitEstimate,
    /// The time.
    pub at: Instant,
}

/// The last report of a process.
#[derive(Debug)]
struct LastReport {
    beat: u64,
    at: Instant,
    sent: u32,
    refused: u32,
}

/// The number of requests sent by this process at a moment.
#[derive(Debug)]
struct SentSoFar {
    at: Instant,
    sent: u32,
}

/// The others, as this process sees them.
#[derive(Debug, Default)]
pub(in crate::realtime) struct PeerView {
    beat: u64,
    last: HashMap<String, LastReport>,
    /// Our own requests, at some moments of the last second.
    sent: Vec<SentSoFar>,
}

impl PeerView {
    /// Writes our own report.
    pub(in crate::realtime) fn report(&mut self, now: Instant, pace: &Pace) -> PeerReport {
        self.beat += 1;
        let sent = pace.sent();
        self.sent.retain(|before| now.saturating_duration_since(before.at) <= RATE_WINDOW);
        let rate = self.sent.first().map_or(0.0, |before| {
            f64::from(sent - before.sent) / now.saturating_duration_since(before.at).as_secs_f64().max(0.1)
        });
        self.sent.push(SentSoFar { at: now, sent });
        PeerReport {
            beat: self.beat,
            models: Vec::new(),
            estimate: pace.limit_estimate(now),
            sent,
            refused: pace.refused(),
            rate,
            wants: pace.wants(now),
        }
    }

    /// Derives our share of the limit. `rate` is our pace, and `found` the limit that we have found.
    pub(in crate::realtime) fn advise(
        &mut self,
        now: Instant,
        others: &[Heard],
        rate: Option<f64>,
        found: Option<FoundLimit>,
    ) -> Advice {
        let mut traffic = Traffic::default();
        self.last.retain(|name, _| others.iter().any(|other| other.name == *name));
        for other in others {
            traffic = traffic + self.note(now, other);
        }
        let awake: Vec<&PeerReport> =
            others.iter().filter(|other| self.is_awake(now, &other.name)).map(|other| &other.report).collect();
        let adopt = best_estimate(now, &awake, found);
        let share = match adopt.map(|adopted| adopted.estimate.rate).or(rate) {
            Some(limit) if !awake.is_empty() => {
                let mut demands = vec![f64::MAX];
                demands.extend(awake.iter().map(|o| if o.wants { f64::MAX } else { o.rate.max(0.0) * ROOM }));
                fair_shares(limit, &demands)[0] / limit
            }
            _ => 1.0,
        };
        Advice { others: (!others.is_empty()).then_some(traffic), share, adopt }
    }

    /// Remembers a report; returns the requests since the one before.
    fn note(&mut self, now: Instant, other: &Heard) -> Traffic {
        let PeerReport { beat, sent, refused, .. } = other.report;
        let new = || LastReport { beat, at: now, sent, refused };
        let last = self.last.entry(other.name.clone()).or_insert_with(new);
        if last.beat == beat {
            return Traffic::default();
        }
        let since = Traffic {
            sent: f64::from(sent.saturating_sub(last.sent)),
            refused: f64::from(refused.saturating_sub(last.refused)),
        };
        *last = new();
        since
    }

    fn is_awake(&self, now: Instant, name: &str) -> bool {
        self.last.get(name).is_some_and(|last| now.saturating_duration_since(last.at) < SILENT)
    }
}

/// The estimate of another process that is better than `found`, if there is one: newer, or as new and lower.
fn best_estimate(now: Instant, others: &[&PeerReport], found: Option<FoundLimit>) -> Option<AdoptedEstimate> {
    let mut best: Option<AdoptedEstimate> = None;
    for estimate in others.iter().filter_map(|other| other.estimate) {
        if ![estimate.limit, estimate.rate].into_iter().all(|rate| rate.is_finite() && rate > 0.0) {
            continue;
        }
        let age = Duration::try_from_secs_f64(estimate.age).unwrap_or(Duration::MAX);
        let Some(at) = now.checked_sub(age) else { continue };
        let known = best.map(|best| FoundLimit { limit: best.estimate.limit, at: best.at }).or(found);
        let better = known.is_none_or(|known| {
            let at_once = at.max(known.at) - at.min(known.at) <= AT_ONCE;
            // A percent apart is the same.
            if at_once { estimate.limit < known.limit * 0.99 } else { at > known.at }
        });
        if better {
            best = Some(AdoptedEstimate { estimate, at });
        }
    }
    best
}

/// Divides `limit` so that no process gets more than its demand, or less than another one with the same or a lower
/// demand.
pub(super) fn fair_shares(limit: f64, demands: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by(|a, b| demands[*a].total_cmp(&demands[*b]));
    let (mut left, mut shares) = (limit, vec![0.0; demands.len()]);
    for (served, at) in order.into_iter().enumerate() {
        shares[at] = demands[at].min(left / (demands.len() - served) as f64);
        left -= shares[at];
    }
    shares
}
