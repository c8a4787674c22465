//! The arithmetic of sharing, and several pacers at one simulated service.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::view::fair_shares;
use super::*;
use crate::api::limits::Limits;
use crate::realtime::pace::{FoundLimit, Pace, PaceWait};

proptest! {
    #[test]
    fn shares_add_up_to_the_limit_at_most_and_nobody_starves(
        limit in 0.1f64..1e4,
        demands in prop::collection::vec(prop_oneof![Just(f64::MAX), 0.0f64..2e4], 1..12),
    ) {
        let shares = fair_shares(limit, &demands);
        let sum: f64 = shares.iter().sum();
        let wanted: f64 = demands.iter().map(|d| d.min(limit * 2.0)).sum();
        prop_assert!(sum <= limit * (1.0 + 1e-9), "{sum} of {limit}");
        // Nothing that a process wants is left over.
        prop_assert!(sum >= limit.min(wanted) * (1.0 - 1e-9), "{sum} of {limit}, wanted {wanted}");
        for (share, demand) in shares.iter().zip(&demands) {
            prop_assert!(share <= demand && *share >= demand.min(limit / demands.len() as f64) * (1.0 - 1e-9));
            // A process that gets less than it wants gets no less than any other.
            let most = shares.iter().fold(0.0f64, |most, other| most.max(*other));
            prop_assert!(share >= demand || *share >= most * (1.0 - 1e-9));
        }
    }
}

const fn estimate(limit: f64, age: f64) -> LimitEstimate {
    LimitEstimate { limit, age, rate: limit, growth: None }
}

fn report(beat: u64, estimate: Option<LimitEstimate>, rate: f64, wants: bool) -> PeerReport {
    PeerReport { beat, estimate, rate, wants, ..PeerReport::default() }
}

#[test]
fn the_newest_estimate_is_adopted_and_of_equally_new_ones_the_lower() {
    let since = Instant::now();
    let now = since + Duration::from_hours(1);
    let adopted = |other: Option<LimitEstimate>, ours: Option<(f64, u64)>| {
        let others = [Heard { name: "a".to_owned(), report: report(1, other, 1.0, true) }];
        let found = ours.map(|(limit, age)| FoundLimit {
            limit,
            at: since + Duration::from_hours(1).saturating_sub(Duration::from_secs(age)),
        });
        PeerView::default().advise(now, &others, Some(20.0), found).adopt.map(|adopted| adopted.estimate.limit)
    };
    let ours = Some((20.0, 30));
    assert_eq!(adopted(None, ours), None);
    assert_eq!(adopted(Some(estimate(40.0, 5.0)), ours), Some(40.0), "newer");
    assert_eq!(adopted(Some(estimate(40.0, 29.0)), ours), None, "as new, and higher");
    assert_eq!(adopted(Some(estimate(15.0, 31.0)), ours), Some(15.0), "as new, and lower");
    assert_eq!(adopted(Some(estimate(15.0, 60.0)), ours), None, "older");
    assert_eq!(adopted(Some(estimate(15.0, 3000.0)), None), Some(15.0), "nothing was found here");
    for (limit, age) in [(f64::NAN, 1.0), (-1.0, 1.0), (0.0, 1.0), (f64::INFINITY, 1.0)] {
        assert_eq!(adopted(Some(estimate(limit, age)), None), None, "{limit}");
    }
}

#[test]
fn shares_follow_demand_and_life() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs_f64(seconds);
    let mut view = PeerView::default();
    let mut share = |seconds, others: &[PeerReport]| {
        let heard = |(i, report): (usize, &PeerReport)| Heard { name: i.to_string(), report: report.clone() };
        let others: Vec<_> = others.iter().enumerate().map(heard).collect();
        view.advise(at(seconds), &others, Some(20.0), Some(FoundLimit { limit: 20.0, at: start })).share
    };
    assert!((share(0.0, &[]) - 1.0).abs() < 1e-12, "alone: all of it");
    assert!((share(0.2, &[report(1, None, 0.0, true)]) - 0.5).abs() < 1e-12);
    assert!(
        (share(0.4, &[report(2, None, 4.0, false)]) - 0.78).abs() < 1e-12,
        "all but its own rate and a little room"
    );
    assert!((share(0.6, &[report(3, None, 9.0, true), report(1, None, 9.0, true)]) - 1.0 / 3.0).abs() < 1e-12);
    // Both are stopped: they report nothing new.
    assert!((share(3.0, &[report(3, None, 9.0, true), report(1, None, 9.0, true)]) - 1.0).abs() < 1e-12);
    assert!((share(3.2, &[report(4, None, 9.0, true), report(1, None, 9.0, true)]) - 0.5).abs() < 1e-12, "one is back");
}

#[test]
fn a_report_survives_its_text() {
    let models = || vec!["org/a".to_owned(), "org/b c".to_owned()];
    for (limit, models) in [
        (None, Vec::new()),
        (Some(estimate(19.6, 2.5)), models()),
        (Some(LimitEstimate { growth: Some(0.05), ..estimate(1.0 / 3.0, 0.0) }), models()),
    ] {
        let report = PeerReport { beat: 7, models, estimate: limit, sent: 12, refused: 3, rate: 4.25, wants: true };
        assert_eq!(PeerReport::parse(&format!("{}   ", report.to_text())), Some(report));
    }
    for text in ["", "   ", "2 7 12 3 4.25 true", "1 7 12", "1 x 12 3 4.25 true", "{\"beat\":1}"] {
        assert_eq!(PeerReport::parse(text), None, "{text:?}");
    }
}

#[test]
fn only_processes_that_ask_the_same_model_meet() {
    let of = |models: &[&str]| PeerReport {
        models: models.iter().map(|m| (*m).to_owned()).collect(),
        ..PeerReport::default()
    };
    assert!(of(&["a", "b"]).meets(&of(&["b", "c"])) && of(&[]).meets(&of(&["x"])));
    assert!(!of(&["a"]).meets(&of(&["b"])));
}

/// Several pacers, each with its start, at one token bucket of `rate` that holds `size` seconds.
struct Trial {
    rate: f64,
    size: f64,
    latency: f64,
    starts: Vec<f64>,
    /// The end of the first one.
    ends: f64,
    seconds: usize,
    seed: u64,
}

/// The service's limit, a bucket that holds `size` seconds of requests.
struct TokenBucket {
    rate: f64,
    size: f64,
    tokens: f64,
    filled: f64,
}

impl TokenBucket {
    fn take(&mut self, now: f64) -> bool {
        self.tokens = (self.tokens + (now - self.filled) * self.rate).min((self.rate * self.size).max(1.0));
        self.filled = now;
        let ok = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(ok));
        ok
    }
}

/// Per pacer and second: sent, refused.
fn run(trial: &Trial) -> Vec<Vec<(u32, u32)>> {
    let start = Instant::now();
    let at = |t: f64| start + Duration::from_secs_f64(t);
    let mut rng = fastrand::Rng::with_seed(trial.seed);
    let mut paces: Vec<Pace> = trial.starts.iter().map(|s| Pace::new(at(*s), false)).collect();
    let mut views: Vec<PeerView> = trial.starts.iter().map(|_| PeerView::default()).collect();
    let mut reports: BTreeMap<usize, PeerReport> = BTreeMap::new();
    let mut consult: Vec<f64> = trial.starts.clone();
    let mut wake: Vec<f64> = trial.starts.clone();
    let mut in_flight: Vec<(f64, usize, f64, bool)> = Vec::new();
    let mut seconds = vec![vec![(0, 0); trial.seconds]; paces.len()];
    let mut bucket = TokenBucket { rate: trial.rate, tokens: trial.rate * trial.size, size: trial.size, filled: 0.0 };
    let mut now = 0.0;
    while now < trial.seconds as f64 {
        in_flight.sort_by(|a, b| a.0.total_cmp(&b.0));
        while in_flight.first().is_some_and(|f| f.0 <= now) {
            let (back, who, sent_at, ok) = in_flight.remove(0);
            if ok {
                paces[who].accepted(at(back), at(sent_at), &Limits::default());
            } else {
                paces[who].above_rate(at(back), at(sent_at), None, rng.f64());
            }
            wake[who] = now;
        }
        for who in 0..paces.len() {
            if who == 0 && now >= trial.ends {
                reports.remove(&0);
                (wake[0], consult[0]) = (f64::MAX, f64::MAX);
                continue;
            }
            if consult[who] <= now {
                consult[who] = now + 0.2 + 0.02 * rng.f64();
                let pace = &mut paces[who];
                let report = views[who].report(at(now), pace);
                reports.insert(who, report);
                let others = reports.iter().filter(|(other, _)| **other != who);
                let heard =
                    |(name, report): (&usize, &PeerReport)| Heard { name: name.to_string(), report: report.clone() };
                let others: Vec<_> = others.map(heard).collect();
                let advice = views[who].advise(at(now), &others, pace.rate(), pace.found());
                pace.apply(at(now), &advice);
                wake[who] = now;
            }
            while wake[who] <= now {
                match paces[who].take(at(now)) {
                    Ok(()) => {
                        let ok = bucket.take(now);
                        let second = &mut seconds[who][now as usize];
                        *second = (second.0 + 1, second.1 + u32::from(!ok));
                        in_flight.push((now + trial.latency, who, now, ok));
                    }
                    Err(PaceWait::Slot(until) | PaceWait::Cooldown(until)) => {
                        wake[who] = until.saturating_duration_since(start).as_secs_f64().max(now) + 0.001 * rng.f64();
                    }
                }
            }
        }
        let next = in_flight.iter().map(|f| f.0).chain(wake.iter().copied()).chain(consult.iter().copied());
        now = next.fold(f64::MAX, f64::min).max(now + 1e-6);
    }
    seconds
}

/// Requests a second that these pacers had accepted in from..to, and the share of their requests that was refused.
fn shares(seconds: &[Vec<(u32, u32)>], who: &[usize], from: usize, to: usize) -> (f64, f64) {
    let (sent, refused) = who
        .iter()
        .flat_map(|who| &seconds[*who][from..to])
        .fold((0, 0), |(sent, refused), second| (sent + second.0, refused + second.1));
    (f64::from(sent - refused) / (to - from) as f64, f64::from(refused) / f64::from(sent.max(1)))
}

#[test]
fn several_pacers_keep_within_one_limit_and_use_it() {
    let mut failures = Vec::new();
    for rate in [10.0, 100.0] {
        for size in [0.25, 1.0] {
            for latency in [0.01, 0.2] {
                for starts in [vec![0.0, 0.0], vec![0.0, 20.0], vec![0.0, 0.1, 20.0, 20.0]] {
                    let count = starts.len();
                    let trial =
                        Trial { rate, size, latency, starts, ends: 1e9, seconds: 80, seed: rate as u64 + count as u64 };
                    let seconds = run(&trial);
                    let all: Vec<usize> = (0..count).collect();
                    let (used, refused) = shares(&seconds, &all, 30, 80);
                    let each: Vec<f64> = all.iter().map(|who| shares(&seconds, &[*who], 30, 80).0).collect();
                    let least = each.iter().copied().fold(f64::MAX, f64::min) * count as f64 / rate;
                    let (_, whole) = shares(&seconds, &all, 0, 80);
                    // Pacers that search at the same time find the limit less well.
                    let wanted = if trial.starts[1] < 1.0 { 0.6 } else { 0.85 };
                    if used < wanted * rate || refused > 0.02 || whole > 0.04 || least < 0.6 {
                        failures.push(format!(
                            "R {rate} bucket {size} latency {latency} starts {:?}: used {:.3} refused {refused:.4} (in all {whole:.4}), each {each:.1?}",
                            trial.starts,
                            used / rate
                        ));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_new_process_starts_at_the_known_limit_and_a_leaving_one_frees_its_share() {
    let trial =
        Trial { rate: 50.0, size: 1.0, latency: 0.05, starts: vec![0.0, 20.0], ends: 40.0, seconds: 60, seed: 3 };
    let seconds = run(&trial);
    let (first, _) = shares(&seconds, &[1], 21, 24);
    assert!(first > 0.35 * 50.0, "the second sends {first} a second at once");
    let (_, refused) = shares(&seconds, &[0, 1], 20, 24);
    assert!(refused <= 0.02, "{refused} refused when it joined");
    let (alone, _) = shares(&seconds, &[1], 42, 60);
    assert!(alone > 0.85 * 50.0, "{alone} a second once it is alone");
}
