//! Sharing: its arithmetic, and several pacers before one simulated service.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::api::limits::Limits;
use crate::realtime::pace::{Pace, Wait};

proptest! {
    #[test]
    fn shares_add_up_to_no_more_than_the_limit_and_nobody_starves(
        limit in 0.1f64..1e4,
        demands in prop::collection::vec(prop_oneof![Just(f64::MAX), 0.0f64..2e4], 1..12),
    ) {
        let shares = fair(limit, &demands);
        let sum: f64 = shares.iter().sum();
        let wanted: f64 = demands.iter().map(|d| d.min(limit * 2.0)).sum();
        prop_assert!(sum <= limit * (1.0 + 1e-9), "{sum} of {limit}");
        // Nothing is left over that somebody wants.
        prop_assert!(sum >= limit.min(wanted) * (1.0 - 1e-9), "{sum} of {limit}, wanted {wanted}");
        for (share, demand) in shares.iter().zip(&demands) {
            prop_assert!(share <= demand && *share >= demand.min(limit / demands.len() as f64) * (1.0 - 1e-9));
            // Who gets less than it wants gets no less than anybody.
            let most = shares.iter().fold(0.0f64, |most, other| most.max(*other));
            prop_assert!(share >= demand || *share >= most * (1.0 - 1e-9));
        }
    }
}

const fn learned(limit: f64, age: f64) -> Learned {
    Learned { limit, age, rate: limit, growth: None }
}

fn report(beat: u64, learned: Option<Learned>, rate: f64, wants: bool) -> Report {
    Report { beat, learned, rate, wants, ..Report::default() }
}

#[test]
fn what_is_newer_is_believed_and_of_what_is_as_new_the_lower() {
    let since = Instant::now();
    let now = since + Duration::from_hours(1);
    let adopted = |other: Option<Learned>, ours: Option<(f64, u64)>| {
        let others = [("a".to_owned(), report(1, other, 1.0, true))];
        let ours =
            ours.map(|(limit, age)| (limit, since + Duration::from_hours(1).saturating_sub(Duration::from_secs(age))));
        Company::default().advise(now, &others, Some(20.0), ours).adopt.map(|(learned, _)| learned.limit)
    };
    let ours = Some((20.0, 30));
    assert_eq!(adopted(None, ours), None);
    assert_eq!(adopted(Some(learned(40.0, 5.0)), ours), Some(40.0), "newer");
    assert_eq!(adopted(Some(learned(40.0, 29.0)), ours), None, "as new, and higher");
    assert_eq!(adopted(Some(learned(15.0, 31.0)), ours), Some(15.0), "as new, and lower");
    assert_eq!(adopted(Some(learned(15.0, 60.0)), ours), None, "older");
    assert_eq!(adopted(Some(learned(15.0, 3000.0)), None), Some(15.0), "we know nothing");
    for (limit, age) in [(f64::NAN, 1.0), (-1.0, 1.0), (0.0, 1.0), (f64::INFINITY, 1.0)] {
        assert_eq!(adopted(Some(learned(limit, age)), None), None, "{limit}");
    }
}

#[test]
fn shares_follow_demand_and_life() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs_f64(seconds);
    let mut company = Company::default();
    let mut share = |seconds, others: &[Report]| {
        let others: Vec<_> = others.iter().enumerate().map(|(i, r)| (i.to_string(), r.clone())).collect();
        company.advise(at(seconds), &others, Some(20.0), Some((20.0, start))).share
    };
    assert!((share(0.0, &[]) - 1.0).abs() < 1e-12, "alone: all of it");
    assert!((share(0.2, &[report(1, None, 0.0, true)]) - 0.5).abs() < 1e-12);
    assert!(
        (share(0.4, &[report(2, None, 4.0, false)]) - 0.78).abs() < 1e-12,
        "what it does not send, and a little room"
    );
    assert!((share(0.6, &[report(3, None, 9.0, true), report(1, None, 9.0, true)]) - 1.0 / 3.0).abs() < 1e-12);
    // Both are stopped: nothing new comes from them.
    assert!((share(3.0, &[report(3, None, 9.0, true), report(1, None, 9.0, true)]) - 1.0).abs() < 1e-12);
    assert!((share(3.2, &[report(4, None, 9.0, true), report(1, None, 9.0, true)]) - 0.5).abs() < 1e-12, "one is back");
}

#[test]
fn a_report_comes_back_as_it_was_said() {
    let models = || vec!["org/a".to_owned(), "org/b c".to_owned()];
    for (learned, models) in [
        (None, Vec::new()),
        (Some(learned(19.6, 2.5)), models()),
        (Some(Learned { growth: Some(0.05), ..learned(1.0 / 3.0, 0.0) }), models()),
    ] {
        let report = Report { beat: 7, models, learned, sent: (12, 3), rate: 4.25, wants: true };
        assert_eq!(Report::parse(&format!("{}   ", report.to_text())), Some(report));
    }
    for text in ["", "   ", "2 7 12 3 4.25 true", "1 7 12", "1 x 12 3 4.25 true", "{\"beat\":1}"] {
        assert_eq!(Report::parse(text), None, "{text:?}");
    }
}

#[test]
fn only_who_asks_the_same_model_is_met() {
    let of = |models: &[&str]| Report { models: models.iter().map(|m| (*m).to_owned()).collect(), ..Report::default() };
    assert!(of(&["a", "b"]).meets(&of(&["b", "c"])) && of(&[]).meets(&of(&["x"])));
    assert!(!of(&["a"]).meets(&of(&["b"])));
}

/// Several pacers, each with a start, before one token bucket of `rate`, `size` seconds large.
struct Trial {
    rate: f64,
    size: f64,
    latency: f64,
    starts: Vec<f64>,
    /// The first ends then.
    ends: f64,
    seconds: usize,
    seed: u64,
}

/// Per pacer and second: sent, refused.
fn run(trial: &Trial) -> Vec<Vec<(u32, u32)>> {
    let start = Instant::now();
    let at = |t: f64| start + Duration::from_secs_f64(t);
    let mut rng = fastrand::Rng::with_seed(trial.seed);
    let mut paces: Vec<Pace> = trial.starts.iter().map(|s| Pace::new(at(*s), false)).collect();
    let mut companies: Vec<Company> = trial.starts.iter().map(|_| Company::default()).collect();
    let mut said: BTreeMap<usize, Report> = BTreeMap::new();
    let mut consult: Vec<f64> = trial.starts.clone();
    let mut wake: Vec<f64> = trial.starts.clone();
    let mut flying: Vec<(f64, usize, f64, bool)> = Vec::new();
    let mut seconds = vec![vec![(0, 0); trial.seconds]; paces.len()];
    let (mut tokens, mut filled) = (trial.rate * trial.size, 0.0);
    let mut now = 0.0;
    while now < trial.seconds as f64 {
        flying.sort_by(|a, b| a.0.total_cmp(&b.0));
        while flying.first().is_some_and(|f| f.0 <= now) {
            let (back, who, sent_at, ok) = flying.remove(0);
            if ok {
                paces[who].accepted(at(back), at(sent_at), &Limits::default());
            } else {
                paces[who].above_rate(at(back), at(sent_at), None, rng.f64());
            }
            wake[who] = now;
        }
        for who in 0..paces.len() {
            if who == 0 && now >= trial.ends {
                said.remove(&0);
                (wake[0], consult[0]) = (f64::MAX, f64::MAX);
                continue;
            }
            if consult[who] <= now {
                consult[who] = now + 0.2 + 0.02 * rng.f64();
                let pace = &mut paces[who];
                let report = companies[who].report(at(now), pace);
                said.insert(who, report);
                let others = said.iter().filter(|(other, _)| **other != who);
                let others: Vec<_> = others.map(|(name, report)| (name.to_string(), report.clone())).collect();
                let advice = companies[who].advise(at(now), &others, pace.rate(), pace.found());
                pace.heed(at(now), &advice);
                wake[who] = now;
            }
            while wake[who] <= now {
                match paces[who].take(at(now)) {
                    Ok(()) => {
                        tokens = (tokens + (now - filled) * trial.rate).min((trial.rate * trial.size).max(1.0));
                        filled = now;
                        let ok = tokens >= 1.0;
                        tokens -= f64::from(u8::from(ok));
                        let second = &mut seconds[who][now as usize];
                        *second = (second.0 + 1, second.1 + u32::from(!ok));
                        flying.push((now + trial.latency, who, now, ok));
                    }
                    Err(Wait::Slot(until) | Wait::Cooldown(until)) => {
                        wake[who] = until.saturating_duration_since(start).as_secs_f64().max(now) + 0.001 * rng.f64();
                    }
                }
            }
        }
        let next = flying.iter().map(|f| f.0).chain(wake.iter().copied()).chain(consult.iter().copied());
        now = next.fold(f64::MAX, f64::min).max(now + 1e-6);
    }
    seconds
}

/// Accepted a second, and refused of what was sent, by these pacers from..to.
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
                    // Where all feel for it at the same time, it is found less well.
                    let wanted = if trial.starts[1] < 1.0 { 0.65 } else { 0.85 };
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
fn who_joins_starts_from_what_is_known_and_who_leaves_leaves_all() {
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
