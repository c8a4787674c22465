//! One limit, several processes: what each says of itself, and what follows from what the others say.
//!
//! All think in requests a second of *all* processes together. Each paces itself to its share of the limit, and reads its
//! refusals against what all have sent. Who has learned something new is believed by the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pace::Pace;
use crate::store::Roster;

/// Who says nothing new for so long is asleep or stopped.
const SILENT: Duration = Duration::from_secs(2);
/// What was learned within this time of each other was learned of the same thing; the lower rate counts.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Room for who does not send as fast as it may: so much more than it does send.
const ROOM: f64 = 1.1;
/// More models than this are not told apart.
const MODELS: usize = 16;

/// The processes that share a key and a service.
#[derive(Debug, Clone)]
pub struct Peers {
    roster: Arc<Roster>,
    models: Arc<[String]>,
}

impl Peers {
    /// Those that `roster` knows; this one asks these models.
    pub fn new(roster: Roster, mut models: Vec<String>) -> Self {
        if models.len() > MODELS {
            models.clear();
        }
        Self { roster: Arc::new(roster), models: models.into() }
    }

    /// Says `report`, and hears the others'.
    pub(super) fn exchange(&self, mut report: Report) -> std::io::Result<Vec<(String, Report)>> {
        report.models = self.models.to_vec();
        let others = self.roster.exchange(&report.to_text())?;
        let known = others.into_iter().filter_map(|(name, text)| Some((name, Report::parse(&text)?)));
        Ok(known.filter(|(_, other)| report.meets(other)).collect())
    }
}

/// What a process says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Goes up with every report.
    beat: u64,
    /// What it asks; none: many.
    models: Vec<String>,
    /// What it has learned of the limit.
    learned: Option<Learned>,
    /// Sent so far, and refused of it.
    sent: (u32, u32),
    /// Requests a second that it sends.
    rate: f64,
    /// It would send more.
    wants: bool,
}

/// Requests a second of all processes together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// So many were let through, ...
    pub limit: f64,
    /// ... that was learned so many seconds ago, ...
    pub age: f64,
    /// ... and so many are tried by now.
    pub rate: f64,
    /// It is not known well: it grows by this share a second.
    pub growth: Option<f64>,
}

/// Of the text of a report; another one is not understood.
const VERSION: &str = "1";

impl Report {
    /// A line of numbers, then the models, between tabs.
    fn to_text(&self) -> String {
        let Self { beat, models, learned, sent, rate, wants } = self;
        let learned = learned.map_or_else(String::new, |Learned { limit, age, rate, growth }| {
            let growth = growth.map_or_else(String::new, |growth| format!(" {growth}"));
            format!(" {limit} {age} {rate}{growth}")
        });
        let numbers = format!("{VERSION} {beat} {} {} {rate} {wants}{learned}", sent.0, sent.1);
        [&[numbers], &models[..]].concat().join("\t")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('\t');
        let mut words = parts.next()?.split(' ').skip_while(|word| word.is_empty());
        let version = words.next()?;
        let (beat, sent, refused) =
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (rate, wants) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let numbers: Vec<f64> = words.map_while(|word| word.parse().ok()).collect();
        let learned = match numbers[..] {
            [limit, age, rate] => Some(Learned { limit, age, rate, growth: None }),
            [limit, age, rate, growth] => Some(Learned { limit, age, rate, growth: Some(growth) }),
            _ => None,
        };
        let models = parts.map(|model| model.trim_end().to_owned()).collect();
        (version == VERSION).then_some(Self { beat, models, learned, sent: (sent, refused), rate, wants })
    }

    /// Whether both may meet the same limit: limits are a model's.
    fn meets(&self, other: &Self) -> bool {
        let many = self.models.is_empty() || other.models.is_empty();
        many || self.models.iter().any(|model| other.models.contains(model))
    }
}

/// What follows from the others' reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Advice {
    /// What the others have sent since the last time, and what was refused of it; `None`: there is nobody.
    pub others: Option<(f64, f64)>,
    /// Our share of the limit.
    pub share: f64,
    /// Somebody knows better, and learned it then.
    pub adopt: Option<(Learned, Instant)>,
}

/// The others, as this process sees them.
#[derive(Debug, Default)]
pub(super) struct Company {
    beat: u64,
    /// Of each the last beat, when it was new, and what it had sent.
    heard: HashMap<String, (u64, Instant, (u32, u32))>,
    /// What we had sent, at some moments of the last second.
    sent: Vec<(Instant, u32)>,
}

impl Company {
    /// Our own report.
    pub(super) fn report(&mut self, now: Instant, pace: &Pace) -> Report {
        self.beat += 1;
        let sent = pace.sent();
        self.sent.retain(|(at, _)| now.saturating_duration_since(*at) <= Duration::from_millis(1100));
        let rate = self.sent.first().map_or(0.0, |(at, before)| {
            f64::from(sent.0 - before) / now.saturating_duration_since(*at).as_secs_f64().max(0.1)
        });
        self.sent.push((now, sent.0));
        let (learned, wants) = (pace.learned(now), pace.wants(now));
        Report { beat: self.beat, models: Vec::new(), learned, sent, rate, wants }
    }

    /// What to do, given the `rate` that we hold for the limit, and what was `learned` of it and when.
    pub(super) fn advise(
        &mut self,
        now: Instant,
        others: &[(String, Report)],
        rate: Option<f64>,
        learned: Option<(f64, Instant)>,
    ) -> Advice {
        self.heard.retain(|name, _| others.iter().any(|(other, _)| other == name));
        let (mut awake, mut meanwhile) = (Vec::new(), (0.0, 0.0));
        for (name, other) in others {
            let heard = self.heard.entry(name.clone()).or_insert((other.beat, now, other.sent));
            if heard.0 != other.beat {
                meanwhile.0 += f64::from(other.sent.0.saturating_sub(heard.2.0));
                meanwhile.1 += f64::from(other.sent.1.saturating_sub(heard.2.1));
                *heard = (other.beat, now, other.sent);
            }
            if now.saturating_duration_since(heard.1) < SILENT {
                awake.push(other);
            }
        }
        let mut adopt: Option<(Learned, Instant)> = None;
        let sane = |l: &Learned| [l.limit, l.rate].into_iter().all(|rate| rate.is_finite() && rate > 0.0);
        for theirs in awake.iter().filter_map(|other| other.learned).filter(sane) {
            let age = Duration::try_from_secs_f64(theirs.age).unwrap_or(Duration::MAX);
            let Some(at) = now.checked_sub(age) else { continue };
            let ours = adopt.map(|(best, at)| (best.limit, at)).or(learned);
            let better = ours.is_none_or(|(limit, ours)| {
                let at_once = at.max(ours) - at.min(ours) <= AT_ONCE;
                // A percent apart is the same.
                if at_once { theirs.limit < limit * 0.99 } else { at > ours }
            });
            if better {
                adopt = Some((theirs, at));
            }
        }
        let limit = adopt.map(|(theirs, _)| theirs.rate).or(rate);
        let share = match limit {
            Some(limit) if !awake.is_empty() => {
                let mut demands = vec![f64::MAX];
                demands.extend(awake.iter().map(|o| if o.wants { f64::MAX } else { o.rate.max(0.0) * ROOM }));
                fair(limit, &demands)[0] / limit
            }
            _ => 1.0,
        };
        Advice { others: (!others.is_empty()).then_some(meanwhile), share, adopt }
    }
}

/// Divides `limit` so that nobody gets more than it demands, and nobody less than another that demands no less.
fn fair(limit: f64, demands: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by(|a, b| demands[*a].total_cmp(&demands[*b]));
    let (mut left, mut shares) = (limit, vec![0.0; demands.len()]);
    for (served, at) in order.into_iter().enumerate() {
        shares[at] = demands[at].min(left / (demands.len() - served) as f64);
        left -= shares[at];
    }
    shares
}

#[cfg(test)]
mod tests;
