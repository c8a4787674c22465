//! The pacer against a simulated service: a token bucket behind a delay, in simulated time.

use super::*;

struct Service {
    rate: f64,
    bucket: f64,
    tokens: f64,
    at: f64,
}

impl Service {
    fn ask(&mut self, at: f64) -> bool {
        self.tokens = (self.tokens + (at - self.at) * self.rate).min(self.bucket);
        self.at = at;
        let ok = self.tokens >= 1.0;
        if ok {
            self.tokens -= 1.0;
        }
        ok
    }
}

struct Run {
    used: f64,
    refused: f64,
}

struct Case {
    rate: f64,
    bucket_seconds: f64,
    latency: f64,
    headers: bool,
    hint: Option<f64>,
    open: Option<usize>,
}

/// 60 seconds against the service, with timers that are up to 2 ms late.
fn run(case: &Case) -> Run {
    let start = Instant::now();
    let at = |t: f64| start + Duration::from_secs_f64(t);
    let bucket = (case.rate * case.bucket_seconds).max(1.0);
    let mut service = Service { rate: case.rate, bucket, tokens: bucket, at: 0.0 };
    let mut pace = Pace::new(start, case.open.is_some());
    // (when the answer is in, when it was sent, accepted)
    let mut flying: std::collections::VecDeque<(f64, f64, bool)> = std::collections::VecDeque::new();
    let (mut sent, mut refused, mut accepted) = (0u32, 0u32, 0u32);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut now = 0.0;
    while now < 60.0 {
        while let Some(&(back, sent_at, ok)) = flying.front() {
            if back > now {
                break;
            }
            flying.pop_front();
            if ok {
                let limits = Limits { requests_per_second: case.headers.then_some(case.rate), ..Limits::default() };
                pace.accepted(at(back), at(sent_at), &limits);
            } else {
                pace.above_rate(at(back), at(sent_at), case.hint.map(Duration::from_secs_f64), rng.f64());
            }
        }
        let room = case.open.is_none_or(|c| flying.len() < c);
        let wake = if room { pace.take(at(now)) } else { Err(Wait::Slot(at(now + 1.0))) };
        match wake {
            Ok(()) => {
                let ok = service.ask(now + case.latency / 2.0);
                sent += 1;
                refused += u32::from(!ok);
                accepted += u32::from(ok);
                flying.push_back((now + case.latency, now, ok));
            }
            Err(Wait::Slot(until) | Wait::Cooldown(until)) => {
                let next_answer = flying.front().map_or(f64::MAX, |f| f.0);
                let until = until.duration_since(start).as_secs_f64();
                now = if next_answer < until {
                    next_answer.max(now)
                } else {
                    until.max(now) + 0.0002 + 0.0018 * rng.f64()
                };
            }
        }
    }
    Run { used: f64::from(accepted) / (case.rate * 60.0), refused: f64::from(refused) / f64::from(sent) }
}

#[test]
fn an_unknown_limit_is_found_by_its_refusals() {
    for rate in [2.0, 10.0, 100.0, 1000.0] {
        for bucket_seconds in [0.1, 1.0, 2.0] {
            for latency in [0.005, 0.2] {
                for hint in [None, Some(1.0)] {
                    let case = Case { rate, bucket_seconds, latency, headers: false, hint, open: None };
                    let run = run(&case);
                    eprintln!(
                        "R {rate} bucket {bucket_seconds} s latency {latency} hint {hint:?}: used {:.3} refused {:.4}",
                        run.used, run.refused
                    );
                }
            }
        }
    }
    panic!();
}
