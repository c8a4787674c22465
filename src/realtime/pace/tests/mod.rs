//! The pacer against a simulated service: a token bucket behind a delay, in simulated time.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "simulated seconds are small, and rates that must not change are compared as they are"
)]

mod manners;
mod neighbours;

use super::*;

/// The rule by which the service lets requests through.
#[derive(Clone, Copy)]
enum SimLimit {
    /// A bucket of so many seconds' worth, at least one token.
    Bucket(f64),
    /// A minute's worth in every minute of the clock, as some proxies count. Refusals give the minute's end as the hint.
    Minute,
    /// A minute's worth in a minute from the first request on. Refusals give a whole minute as the hint, as `LiteLLM` does.
    FromFirst,
}

#[derive(Clone, Copy)]
struct PaceCase {
    /// Requests a second, and from `change.0` seconds on `change.1`.
    rate: f64,
    change: (f64, f64),
    limit: SimLimit,
    latency: f64,
    /// Seconds that an answer takes longer than a refusal.
    thinking: f64,
    headers: bool,
    hint: Option<f64>,
    open: Option<usize>,
    /// Requests a second to send.
    demand: f64,
    /// Seconds by which a timer may be late.
    late: f64,
    seconds: f64,
    seed: u64,
}

const CASE: PaceCase = PaceCase {
    rate: 100.0,
    change: (f64::MAX, 0.0),
    limit: SimLimit::Bucket(1.0),
    latency: 0.05,
    thinking: 0.0,
    headers: false,
    hint: None,
    open: None,
    demand: f64::MAX,
    late: 0.002,
    seconds: 60.0,
    seed: 7,
};

struct SimService {
    tokens: f64,
    at: f64,
}

impl SimService {
    fn new(case: &PaceCase) -> Self {
        let tokens = match case.limit {
            SimLimit::Bucket(seconds) => (case.rate * seconds).max(1.0),
            SimLimit::Minute | SimLimit::FromFirst => case.rate * 60.0,
        };
        Self { tokens, at: 0.0 }
    }

    fn ask(&mut self, case: &PaceCase, at: f64) -> bool {
        let rate = rate_at(case, at);
        match case.limit {
            SimLimit::Bucket(seconds) => {
                self.tokens = (self.tokens + (at - self.at) * rate).min((rate * seconds).max(1.0));
            }
            SimLimit::Minute if (at / 60.0).floor() > (self.at / 60.0).floor() => self.tokens = rate * 60.0,
            SimLimit::Minute => {}
            // Here `at` is the start of the window.
            SimLimit::FromFirst if at - self.at >= 60.0 => (self.tokens, self.at) = (rate * 60.0, at),
            SimLimit::FromFirst => {}
        }
        if !matches!(case.limit, SimLimit::FromFirst) {
            self.at = at;
        }
        let ok = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(ok));
        ok
    }
}

fn rate_at(case: &PaceCase, at: f64) -> f64 {
    if at < case.change.0 { case.rate } else { case.change.1 }
}

/// The requests sent, accepted and refused in every second, and the rate at the end.
struct PaceRun {
    seconds: Vec<(u32, u32, u32)>,
    allowed: f64,
    rate: Option<f64>,
}

impl PaceRun {
    /// The share of the limit that was used, and the share of all requests that was refused.
    fn shares(&self) -> (f64, f64) {
        let (sent, ok, refused) = self.between(0, self.seconds.len());
        (ok / self.allowed, refused / sent)
    }

    fn between(&self, from: usize, to: usize) -> (f64, f64, f64) {
        self.seconds[from..to].iter().fold((0.0, 0.0, 0.0), |(s, a, r), (sent, ok, refused)| {
            (s + f64::from(*sent), a + f64::from(*ok), r + f64::from(*refused))
        })
    }
}

fn run(case: &PaceCase) -> PaceRun {
    let start = Instant::now();
    let at = |t: f64| start + Duration::from_secs_f64(t);
    let mut service = SimService::new(case);
    let mut pace = Pace::new(start, case.open.is_some());
    // (arrival of the answer, departure of the request, accepted, hint)
    let mut in_flight: std::collections::VecDeque<(f64, f64, bool, Option<f64>)> = std::collections::VecDeque::new();
    let mut seconds = vec![(0, 0, 0); case.seconds as usize];
    let mut rng = fastrand::Rng::with_seed(case.seed);
    let (mut now, mut sent) = (0.0, 0.0);
    while now < case.seconds {
        while let Some(&(back, sent_at, ok, hint)) = in_flight.front() {
            if back > now {
                break;
            }
            in_flight.pop_front();
            if ok {
                let limits =
                    Limits { requests_per_second: case.headers.then(|| rate_at(case, sent_at)), ..Limits::default() };
                pace.accepted(at(back), at(sent_at), &limits);
            } else {
                pace.above_rate(at(back), at(sent_at), hint.map(Duration::from_secs_f64), rng.f64());
            }
        }
        let room = case.open.is_none_or(|c| in_flight.len() < c);
        let wanted = sent / case.demand;
        let wake = match (room, wanted <= now) {
            (true, true) => pace.take(at(now)),
            (true, false) => Err(PaceWait::Slot(at(wanted))),
            _ => Err(PaceWait::Slot(at(now + 1.0))),
        };
        match wake {
            Ok(()) => {
                let ok = service.ask(case, now + case.latency / 2.0);
                let hint = match case.limit {
                    SimLimit::Minute => Some((60.0 - now % 60.0).ceil()),
                    SimLimit::FromFirst => Some(60.0),
                    SimLimit::Bucket(_) => case.hint,
                };
                let second = &mut seconds[now as usize];
                second.0 += 1;
                second.1 += u32::from(ok);
                second.2 += u32::from(!ok);
                sent += 1.0;
                let back = now + case.latency + if ok { case.thinking } else { 0.0 };
                in_flight.insert(in_flight.partition_point(|f| f.0 <= back), (back, now, ok, hint));
            }
            Err(PaceWait::Slot(until) | PaceWait::Cooldown(until)) => {
                let next_answer = in_flight.front().map_or(f64::MAX, |f| f.0);
                let until = until.saturating_duration_since(start).as_secs_f64();
                now = if next_answer < until {
                    next_answer.max(now)
                } else {
                    until.max(now) + case.late * (0.1 + 0.9 * rng.f64())
                };
            }
        }
    }
    let first = case.change.0.min(case.seconds);
    PaceRun { seconds, allowed: case.rate * first + case.change.1 * (case.seconds - first), rate: pace.rate() }
}

/// Bounds of a run: the least share of the limit that is used, and the largest share of requests that are refused.
#[derive(Clone, Copy)]
struct Bounds {
    used: f64,
    refused: f64,
}

/// Runs every combination, and names those beyond the bounds.
fn expect(cases: &[PaceCase], rates: &[f64], sizes: &[f64], latencies: &[f64], bounds: Bounds) {
    let Bounds { used, refused } = bounds;
    let mut failures = Vec::new();
    for case in cases {
        for (i, &rate) in rates.iter().enumerate() {
            for &size in sizes {
                for &latency in latencies {
                    let case = PaceCase { rate, latency, limit: SimLimit::Bucket(size), seed: i as u64, ..*case };
                    let (u, r) = run(&case).shares();
                    if u < used || r > refused {
                        let hint = case.hint;
                        failures.push(format!(
                            "R {rate} bucket {size} s latency {latency} s hint {hint:?}: used {u:.3} refused {r:.4}"
                        ));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "wanted {used} and {refused}, but\n{}", failures.join("\n"));
}

const HINTED: PaceCase = PaceCase { hint: Some(1.0), ..CASE };

#[test]
fn an_unknown_limit_is_found_by_its_refusals() {
    let sizes = &[0.1, 0.25, 1.0, 2.0];
    expect(&[CASE], &[10.0], &[0.25, 1.0, 2.0], &[0.005, 0.05], Bounds { used: 0.9, refused: 0.02 });
    expect(&[CASE], &[37.0, 100.0, 1000.0], sizes, &[0.005, 0.05], Bounds { used: 0.9, refused: 0.02 });
    expect(&[CASE], &[250.0, 700.0], sizes, &[0.05], Bounds { used: 0.92, refused: 0.015 });
    // Each refusal costs a pause of a second here.
    expect(&[HINTED], &[37.0, 100.0, 700.0], &[1.0, 2.0], &[0.005, 0.05], Bounds { used: 0.89, refused: 0.02 });
    expect(&[HINTED], &[37.0, 100.0, 700.0], &[0.1, 0.25], &[0.005, 0.05], Bounds { used: 0.82, refused: 0.01 });
    expect(&[HINTED], &[10.0], &[0.25, 1.0, 2.0], &[0.005, 0.05], Bounds { used: 0.86, refused: 0.02 });
    expect(&[HINTED], &[10.0], &[0.1], &[0.005, 0.05], Bounds { used: 0.81, refused: 0.01 });
    // A bucket of one token.
    expect(&[CASE], &[10.0], &[0.1], &[0.005, 0.05], Bounds { used: 0.85, refused: 0.01 });
}

#[test]
fn at_a_low_limit_few_refusals_are_spent() {
    expect(&[CASE, HINTED], &[2.0], &[0.1, 0.25], &[0.005, 0.05, 0.2], Bounds { used: 0.89, refused: 0.02 });
    // Two to five refusals of 120: the first requests find a full bucket, which misleads.
    expect(&[CASE, HINTED], &[2.0], &[1.0, 2.0], &[0.005, 0.05, 0.2], Bounds { used: 0.9, refused: 0.065 });
    expect(&[CASE, HINTED], &[3.0, 7.0], &[0.1, 1.0, 2.0], &[0.005, 0.2], Bounds { used: 0.74, refused: 0.055 });
    expect(&[CASE, HINTED], &[0.5], &[1.0], &[0.05, 0.2], Bounds { used: 0.8, refused: 0.2 });
}

#[test]
fn late_answers_cost_more_refusals() {
    expect(&[CASE], &[10.0, 100.0, 1000.0], &[0.1, 1.0, 2.0], &[0.2], Bounds { used: 0.83, refused: 0.033 });
    expect(&[HINTED], &[10.0, 100.0, 1000.0], &[0.1, 1.0, 2.0], &[0.2], Bounds { used: 0.73, refused: 0.033 });
    expect(&[CASE, HINTED], &[100.0, 700.0], &[1.0, 2.0], &[1.0], Bounds { used: 0.78, refused: 0.09 });
    // The bucket is full again long before the refusals have arrived, so that less seems to flow in than does.
    expect(&[CASE, HINTED], &[100.0, 700.0], &[0.1], &[1.0], Bounds { used: 0.45, refused: 0.04 });
}

#[test]
fn answers_slower_than_refusals_do_not_mislead_the_estimate() {
    let case = PaceCase { thinking: 3.0, ..CASE };
    expect(
        &[case, PaceCase { hint: Some(1.0), ..case }],
        &[10.0, 37.0, 100.0],
        &[0.1, 1.0],
        &[0.05],
        Bounds { used: 0.6, refused: 0.02 },
    );
    // Later nothing is lost.
    for rate in [10.0, 100.0] {
        let (used, refused) = shares(&run(&PaceCase { rate, ..case }), 30, 60, rate);
        assert!(used >= 0.9 && refused <= 0.02, "{rate}: used {used} refused {refused}");
    }
}

#[test]
fn a_limit_in_the_headers_is_kept_from_the_start() {
    let case = PaceCase { headers: true, ..CASE };
    expect(
        &[case],
        &[2.0, 3.0, 7.0, 10.0, 37.0, 100.0, 1000.0],
        &[0.1, 1.0],
        &[0.005, 0.05, 0.2],
        Bounds { used: 0.95, refused: 0.0 },
    );
    expect(&[case], &[2.0, 10.0, 100.0], &[0.1, 1.0], &[1.0], Bounds { used: 0.93, refused: 0.0 });
    // The slot after the first was planned before the header was seen.
    expect(&[case], &[0.5], &[0.1, 1.0], &[0.05, 0.2], Bounds { used: 0.93, refused: 0.0 });
}

/// The share of `rate` that was used in the seconds from..to, and the share of the requests that was refused.
fn shares(run: &PaceRun, from: usize, to: usize, rate: f64) -> (f64, f64) {
    let (sent, ok, refused) = run.between(from, to);
    (ok / (rate * (to - from) as f64), refused / sent.max(1.0))
}

#[test]
fn an_unpaced_start_ends_at_the_limit() {
    for (rate, hint) in [(2.0, None), (10.0, None), (100.0, None), (100.0, Some(1.0)), (250.0, Some(1.0))] {
        let case = PaceCase { rate, hint, open: Some(64), ..CASE };
        let (used, refused) = shares(&run(&case), 20, 60, rate);
        assert!(used >= 0.9 && refused <= 0.02, "R {rate} hint {hint:?}: used {used} refused {refused}");
    }
}

#[test]
fn a_limit_that_changes_is_followed() {
    for rate in [10.0, 100.0] {
        for latency in [0.005, 0.2] {
            for hint in [None, Some(1.0)] {
                let case = PaceCase { rate, latency, hint, seconds: 160.0, ..CASE };
                let half = run(&PaceCase { change: (60.0, rate / 2.0), ..case });
                let (_, refused) = shares(&half, 60, 70, rate / 2.0);
                assert!(refused <= 0.2, "R {rate} latency {latency} hint {hint:?}: refused {refused} right after");
                let (used, refused) = shares(&half, 70, 100, rate / 2.0);
                assert!(used >= 0.92 && refused <= 0.02, "halved {rate} {latency} {hint:?}: {used} {refused}");
                let double = run(&PaceCase { change: (60.0, rate * 2.0), ..case });
                let (used, refused) = shares(&double, 130, 160, rate * 2.0);
                assert!(used >= 0.9 && refused <= 0.02, "doubled {rate} {latency} {hint:?}: {used} {refused}");
            }
        }
    }
}

#[test]
fn a_fixed_window_is_filled_evenly_from_its_first_refusal_on() {
    for limit in [SimLimit::Minute, SimLimit::FromFirst] {
        for rate in [2.0, 10.0] {
            let run = run(&PaceCase { rate, limit, latency: 0.005, seconds: 180.0, ..CASE });
            let (used, refused) = shares(&run, 0, 180, rate);
            assert!(used >= 0.95 && refused <= 0.012, "{rate}: used {used} refused {refused}");
            let (sent, ok, _) = run.between(62, 72);
            assert!(ok > 0.0 && sent <= 15.0 * rate, "{rate}: {sent} in the first ten seconds of the second window");
            let (_, _, later) = run.between(62, 180);
            assert!(later == 0.0, "{rate}: {later} refused after the first window");
        }
    }
}

#[test]
fn demand_below_the_rate_does_not_inflate_it() {
    let rate = |demand, seconds| run(&PaceCase { rate: 1e6, demand, seconds, ..CASE }).rate.unwrap();
    assert_eq!(rate(1.5, 60.0), START * MARGIN);
    // The pace grows while it works off the backlog. From then on it does not grow.
    assert_eq!(rate(50.0, 10.0), rate(50.0, 200.0));
}
