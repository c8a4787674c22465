//! Several pacers that share a limit and do not know of each other.

use super::*;

/// A request on its way: the process that sent it, and the times of its departure, its arrival and its answer.
struct SimRequest {
    process: usize,
    sent: f64,
    arrives: f64,
    answered: f64,
    ok: Option<bool>,
}

/// The end of each process, the share of the limit that all used, and the share of refused requests.
struct SharedLimit {
    ends: Vec<f64>,
    used: f64,
    refused: f64,
}

/// Sends so many rows by each of several processes against one limit of 100 a second.
fn share(rows: &[usize], seed: u64) -> SharedLimit {
    const STEP: f64 = 0.001;
    const LATENCY: f64 = 0.05;
    let (case, processes) = (CASE, rows.len());
    let (start, mut rng) = (Instant::now(), fastrand::Rng::with_seed(seed));
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    let mut service = SimService::new(&case);
    let mut paces: Vec<Pace> = (0..processes).map(|_| Pace::new(start, false)).collect();
    let (mut left, mut open) = (rows.to_vec(), vec![0; processes]);
    let (mut wakes, mut ends) = (vec![0.0; processes], vec![0.0; processes]);
    let mut flights: Vec<SimRequest> = Vec::new();
    let (mut ok, mut refused, mut now) = (0.0, 0.0, 0.0);
    while ends.contains(&0.0) && now < 300.0 {
        for request in flights.iter_mut().filter(|request| request.ok.is_none() && request.arrives <= now) {
            request.ok = Some(service.ask(&case, now));
        }
        for request in flights.extract_if(.., |request| request.answered <= now) {
            let process = request.process;
            open[process] -= 1;
            if request.ok == Some(true) {
                ok += 1.0;
                paces[process].accepted(at(now), at(request.sent), &Limits::default());
            } else {
                refused += 1.0;
                left[process] += 1;
                paces[process].above_rate(at(now), at(request.sent), None, rng.f64());
            }
            if left[process] + open[process] == 0 {
                ends[process] = now;
            }
        }
        for process in 0..processes {
            while wakes[process] <= now && left[process] > 0 && open[process] < 256 {
                match paces[process].take(at(now)) {
                    Ok(()) => {
                        let latency = LATENCY * 0.6f64.mul_add(rng.f64(), 0.7);
                        let (arrives, answered) = (latency.mul_add(0.3, now), now + latency);
                        flights.push(SimRequest { process, sent: now, arrives, answered, ok: None });
                        (left[process], open[process]) = (left[process] - 1, open[process] + 1);
                    }
                    Err(PaceWait::Slot(until) | PaceWait::Cooldown(until)) => {
                        let wait = until.saturating_duration_since(at(now)).as_secs_f64().min(0.2);
                        wakes[process] = 0.004f64.mul_add(rng.f64(), now + wait);
                    }
                }
            }
        }
        now += STEP;
    }
    SharedLimit { ends, used: ok / (now * case.rate), refused: refused / (ok + refused) }
}

#[test]
fn processes_that_do_not_know_of_each_other_share_a_limit() {
    const SEEDS: u64 = 6;
    let (mut used, mut refused, mut unfair) = (0.0, 0.0, 0.0);
    for seed in 1..=SEEDS {
        let shared = share(&[1750; 4], seed);
        let (slowest, fastest) =
            shared.ends.iter().fold((0.0f64, f64::MAX), |(most, least), end| (most.max(*end), least.min(*end)));
        used += shared.used;
        refused += shared.refused;
        unfair += slowest / fastest;
        assert!(shared.used >= 0.85 && shared.refused <= 0.025, "seed {seed}: {} {}", shared.used, shared.refused);
    }
    let mean = [used, refused, unfair].map(|sum: f64| sum / SEEDS as f64);
    assert!(mean[0] >= 0.9 && mean[1] <= 0.02 && mean[2] <= 1.3, "used, refused, slowest / fastest: {mean:?}");
}

#[test]
fn part_of_a_process_that_ends_is_taken_over() {
    for seed in 1..=6 {
        let shared = share(&[500, 3000], seed);
        let alone = shared.ends[1] - shared.ends[0];
        // Some 2,500 rows are left. Within 20 seconds the other half of the limit is found, half of the way on average.
        assert!(alone < 35.0, "seed {seed}: {alone} s");
    }
}
