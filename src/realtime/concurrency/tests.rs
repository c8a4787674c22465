//! The search against simulated servers that queue, in simulated time.

use std::collections::VecDeque;

use super::*;

/// A server that works on so many requests at once, each for `seconds` on average, and queues the others.
struct SlotServer {
    slots: usize,
    seconds: f64,
    /// Answers vary by this share in length, and the time that they take with it.
    spread: f64,
}

/// A request, its departure in seconds, and the number in flight with it.
#[derive(Clone, Copy)]
struct SentRequest {
    at: f64,
    tokens: f64,
    in_flight: usize,
}

/// The result of a simulated run.
struct SearchRun {
    /// Tokens answered in each second.
    tokens: Vec<f64>,
    peak: usize,
    limit: usize,
}

/// Keeps as many requests in flight as the search allows.
fn run(server: &SlotServer, seconds: f64, seed: u64) -> SearchRun {
    let start = Instant::now();
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut search = Concurrency::search(start, 1);
    let mut queue: VecDeque<SentRequest> = VecDeque::new();
    let mut active: Vec<(f64, SentRequest)> = Vec::new();
    let (mut now, mut peak, mut tokens) = (0.0, 0, vec![0.0; seconds as usize + 1]);
    while now < seconds {
        while queue.len() + active.len() < search.limit() {
            let in_flight = queue.len() + active.len() + 1;
            peak = peak.max(in_flight);
            let length = 20.0 * server.spread.mul_add(2.0 * rng.f64() - 1.0, 1.0);
            queue.push_back(SentRequest { at: now, tokens: length, in_flight });
        }
        while active.len() < server.slots
            && let Some(next) = queue.pop_front()
        {
            active.push((now + server.seconds * next.tokens / 20.0, next));
        }
        active.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (end, done) = active.remove(0);
        now = end;
        if let Some(second) = tokens.get_mut(now as usize) {
            *second += done.tokens;
        }
        search.answered(AnsweredRequest {
            sent_at: at(done.at),
            now: at(now),
            in_flight: done.in_flight,
            tokens: done.tokens as u64,
        });
    }
    SearchRun { tokens, peak, limit: search.limit() }
}

#[test]
fn each_url_keeps_its_share_when_one_is_left_out() {
    let now = Instant::now();
    let mut search = Concurrency::search(now, 4);
    search.set(now, 4 * MOST_PER_URL, Trial::Measure);
    assert!(search.set_urls(now, 3) && !search.set_urls(now, 3));
    assert_eq!(search.limit(), 3 * MOST_PER_URL);
    assert!(search.set_urls(now, 1));
    assert_eq!((search.limit(), search.most()), (MOST_PER_URL, MOST_PER_URL));
    assert!(search.set_urls(now, 2));
    assert_eq!((search.limit(), search.most()), (2 * MOST_PER_URL, 2 * MOST_PER_URL));
    let mut fixed = Concurrency::fixed(now);
    assert!(!fixed.set_urls(now, 3));
    assert_eq!(fixed.limit(), usize::MAX);
}

#[test]
fn a_server_that_queues_is_filled_and_not_swamped() {
    for slots in [1, 4, 16, 64] {
        for (seconds, spread) in [(0.1, 0.0), (0.5, 0.3), (1.0, 0.9), (2.0, 0.5)] {
            for seed in 0..3 {
                let server = SlotServer { slots, seconds, spread };
                let SearchRun { tokens, peak, .. } = run(&server, 160.0, seed);
                let best = slots as f64 / seconds * 20.0;
                let share = tokens[60..160].iter().sum::<f64>() / 100.0 / best;
                let case = format!("{slots} slots, {seconds} s, spread {spread}, seed {seed}");
                assert!(share >= 0.9, "{case}: {share}");
                let most = if slots <= 16 { 64 } else { 256 };
                assert!(peak <= most, "{case}: {peak} in flight");
            }
        }
    }
}

#[test]
fn many_slots_are_found_within_a_minute() {
    let SearchRun { tokens, limit, .. } = run(&SlotServer { slots: 64, seconds: 3.0, spread: 0.5 }, 60.0, 1);
    let share = tokens[45..60].iter().sum::<f64>() / 15.0 / (64.0 / 3.0 * 20.0);
    assert!(share >= 0.9 && limit >= 64, "{share} with {limit}");
}

#[test]
fn a_few_slots_get_no_queue() {
    let SearchRun { limit, .. } = run(&SlotServer { slots: 1, seconds: 0.5, spread: 0.0 }, 25.0, 1);
    assert_eq!(limit, 1);
    let SearchRun { limit, .. } = run(&SlotServer { slots: 4, seconds: 0.5, spread: 0.0 }, 25.0, 1);
    assert_eq!(limit, 4);
}

/// Answers to requests that all left with `in_flight` others, each after `latency` seconds.
fn answers(search: &mut Concurrency, now: Instant, latency: f64, in_flight: usize) {
    for _ in 0..1000 {
        let later = now + Duration::from_secs_f64(latency);
        search.answered(AnsweredRequest { sent_at: now, now: later, in_flight, tokens: 10 });
    }
}

#[test]
fn a_number_that_is_not_reached_does_not_grow() {
    let now = Instant::now();
    let mut search = Concurrency::search(now, 1);
    answers(&mut search, now, 1.0, 1);
    assert_eq!(search.limit(), START);
    answers(&mut search, now + Duration::from_secs(2), 1.0, START);
    assert!(search.limit() > START);
}

#[test]
fn timeouts_halve_the_number_once_for_the_requests_in_flight() {
    let now = Instant::now();
    let mut search = Concurrency::search(now, 1);
    let at = |seconds| now + Duration::from_secs(seconds);
    for (expected, sent_at, timed_out_at) in [(2, 0, 30), (2, 5, 31), (1, 31, 61), (1, 62, 92)] {
        search.timed_out(at(timed_out_at), at(sent_at));
        assert_eq!(search.limit(), expected, "sent at {sent_at}");
    }
}

#[test]
fn a_named_limit_of_requests_in_parallel_is_kept() {
    let now = Instant::now();
    for mut concurrency in [Concurrency::search(now, 1), Concurrency::fixed(now)] {
        concurrency.named(2);
        answers(&mut concurrency, now, 0.1, 2);
        assert_eq!(concurrency.limit(), 2);
        concurrency.named(0);
        assert_eq!(concurrency.limit(), 1);
    }
}

#[test]
fn refusals_while_the_same_others_are_in_flight_mean_too_many_in_parallel() {
    let now = Instant::now();
    let at = |ms| now + Duration::from_millis(ms);
    let refused = |search: &mut Concurrency, sent_at, others| search.refused(sent_at, sent_at, others);
    let mut search = Concurrency::search(now, 1);
    assert!(!refused(&mut search, at(0), 2) && !refused(&mut search, at(700), 2));
    assert!(refused(&mut search, at(2100), 2), "a third time");
    assert_eq!(search.limit(), 2);
    // A refusal with fewer in flight shows that their number was not the reason.
    assert!(!refused(&mut search, at(5000), 1));
    assert_eq!(search.limit(), START);
    // An answer in between, too little time, or nobody in flight: a rate.
    refused(&mut search, at(6000), 1);
    answers(&mut search, at(6000), 0.5, 1);
    assert!(
        !refused(&mut search, at(8000), 1) && !refused(&mut search, at(8100), 1) && !refused(&mut search, at(8200), 1)
    );
    assert!((0..9).all(|i| !refused(&mut search, at(9000 + 1000 * i), 0)));
}

#[test]
fn a_number_that_was_found_rises_again() {
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    for mut concurrency in [Concurrency::fixed(now), Concurrency::search(now, 1)] {
        concurrency.crowded(now, 2);
        answers(&mut concurrency, at(29), 0.1, 1);
        concurrency.crowded(at(29), 1);
        assert_eq!(concurrency.limit(), 1);
        answers(&mut concurrency, at(58), 0.1, 1);
        assert_eq!(concurrency.limit(), 1, "it holds for a while");
        answers(&mut concurrency, at(59), 0.1, 1);
        assert_eq!(concurrency.limit(), 2, "one more is tried");
        assert!(concurrency.refused(at(60), at(60), 1), "it is refused, and the rate is not the reason");
        assert_eq!(concurrency.limit(), 1);
    }
    let mut fixed = Concurrency::fixed(now);
    fixed.crowded(now, 1);
    for seconds in 30..60 {
        let in_flight = fixed.limit();
        answers(&mut fixed, at(seconds), 0.1, in_flight);
    }
    assert!(fixed.limit() > 256, "{} after half a minute without a refusal", fixed.limit());
    fixed.named(7);
    assert_eq!(fixed.limit(), 7);
}

#[test]
fn the_users_number_and_an_announced_rate_end_the_search() {
    let now = Instant::now();
    assert_eq!(Concurrency::fixed(now).limit(), usize::MAX);
    let mut search = Concurrency::search(now, 1);
    search.announced();
    assert_eq!(search.limit(), usize::MAX);
}

#[test]
fn a_step_up_leaves_time_for_the_answers() {
    for (latency, next) in [(0.2, 8), (0.4, 8), (0.6, 5), (0.7, START), (0.9, START)] {
        let now = Instant::now();
        let mut search = Concurrency::search(now, 1).within(Duration::from_secs(1));
        answers(&mut search, now, latency, START);
        assert_eq!(search.limit(), next, "{latency}");
    }
}
