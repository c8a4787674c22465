//! The pacer's duties to the service and the user, call by call.

use super::super::*;

/// The wait that the pacer asks for; zero if it sends.
fn waits(pace: &mut Pace, now: Instant) -> Duration {
    match pace.take(now) {
        Ok(()) => Duration::ZERO,
        Err(PaceWait::Slot(until) | PaceWait::Cooldown(until)) => until.saturating_duration_since(now),
    }
}

#[test]
fn an_unlimited_service_is_not_kept_waiting() {
    // 64 workers: every request is answered after a millisecond.
    let start = Instant::now();
    let mut pace = Pace::new(start, false);
    let mut in_flight = std::collections::VecDeque::new();
    let (mut now, mut sent) = (start, 0);
    while sent < 10_000 {
        while in_flight.front().is_some_and(|at| *at + Duration::from_millis(1) <= now) {
            let sent_at = in_flight.pop_front().unwrap();
            pace.accepted(now, sent_at, &Limits::default());
        }
        while in_flight.len() < 64 && pace.take(now).is_ok() {
            in_flight.push_back(now);
            sent += 1;
        }
        now += Duration::from_micros(250);
    }
    let took = now - start;
    assert!(took < Duration::from_millis(3200), "{took:?}");
}

/// The seconds until twenty rows are answered, each after `latency` seconds.
fn twenty_rows(mut pace: Pace, latency: f64) -> f64 {
    let start = Instant::now();
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    let (mut now, mut sent, mut in_flight) = (0.0_f64, 0, std::collections::VecDeque::new());
    while sent < 20 || !in_flight.is_empty() {
        let answer = in_flight.front().map_or(f64::MAX, |sent_at| sent_at + latency);
        let slot = if sent < 20 { now + waits(&mut pace, at(now)).as_secs_f64() } else { f64::MAX };
        if slot <= now {
            in_flight.push_back(now);
            sent += 1;
        } else {
            now = slot.min(answer) + 1e-6;
        }
        if answer <= now
            && let Some(sent_at) = in_flight.pop_front()
        {
            pace.accepted(at(now), at(sent_at), &Limits::default());
        }
    }
    now
}

#[test]
fn twenty_rows_do_not_feel_the_start() {
    for (latency, most) in [(0.001, 0.5), (0.02, 0.5), (0.05, 0.6), (0.1, 1.0)] {
        let mut pace = Pace::new(Instant::now(), false);
        pace.hurry();
        let took = twenty_rows(pace, latency);
        assert!(took < most, "{latency}: {took}");
    }
}

#[test]
fn hints_are_obeyed_and_refusals_without_one_double_the_pause() {
    let now = Instant::now();
    for (hint, chance) in [(1.0, 0.0), (90.0, 1.0), (0.0, 0.5)] {
        let hint = Duration::from_secs_f64(hint);
        let mut pace = Pace::new(now, false);
        pace.take(now).unwrap();
        pace.above_rate(now, now, Some(hint), chance);
        let wait = waits(&mut pace, now);
        assert!(wait >= hint && wait <= hint.mul_f64(1.1).max(SHORTEST_PAUSE), "{hint:?}: {wait:?}");
    }
    let mut pace = Pace::new(now, false);
    let (mut at, mut pauses) = (now, Vec::new());
    for _ in 0..14 {
        pace.take(at).unwrap();
        pace.above_rate(at, at, None, 0.5);
        let wait = waits(&mut pace, at);
        pauses.push(wait);
        at += wait;
    }
    assert!(pauses.windows(2).all(|p| p[1] >= p[0].mul_f64(1.2).min(LONGEST_PAUSE)), "{pauses:?}");
    assert_eq!(*pauses.last().unwrap(), LONGEST_PAUSE);
    assert_eq!(pace.consecutive(), 14);
    pace.take(at).unwrap();
    pace.accepted(at, at, &Limits::default());
    assert_eq!(pace.consecutive(), 0);
}

#[test]
fn refusals_of_requests_in_flight_count_once() {
    let now = Instant::now();
    let later = now + Duration::from_millis(50);
    let mut pace = Pace::new(now, true);
    for _ in 0..20 {
        pace.take(now).unwrap();
    }
    pace.above_rate(later, now, None, 0.0);
    let (rate, cooldown) = (pace.rate(), pace.cooldown());
    for _ in 0..10 {
        pace.above_rate(later, now, None, 0.0);
    }
    assert_eq!((pace.consecutive(), pace.rate(), pace.cooldown()), (1, rate, cooldown));
    // But a longer hint among them counts.
    pace.above_rate(later, now, Some(Duration::from_secs(7)), 0.0);
    assert_eq!(pace.cooldown(), later + Duration::from_secs(7));
}

#[test]
fn lacking_capacity_pauses_but_keeps_the_rate() {
    let now = Instant::now();
    let mut pace = Pace::new(now, false);
    pace.take(now).unwrap();
    let rate = pace.rate();
    pace.no_capacity(now, now, Duration::from_secs(3));
    assert_eq!(pace.take(now), Err(PaceWait::Cooldown(now + Duration::from_secs(3))));
    pace.take(now + Duration::from_secs(3)).unwrap();
    assert_eq!((pace.rate(), pace.consecutive()), (rate, 1));
}

#[test]
fn the_hint_of_an_accepted_answer_is_ignored() {
    let now = Instant::now();
    let mut pace = Pace::new(now, false);
    pace.take(now).unwrap();
    pace.accepted(now, now, &Limits { wait: Some(Duration::from_secs(10)), ..Limits::default() });
    assert!(waits(&mut pace, now) <= Duration::from_secs(1));
}

#[test]
fn a_clock_that_jumps_or_stands_still_keeps_the_rate_in_bounds() {
    let start = Instant::now();
    let mut pace = Pace::new(start, false);
    let mut now = start;
    for (i, jump) in [0.0, 0.3, 1e6, 0.0, 1e-9, 86_400.0, 5.0].into_iter().cycle().take(700).enumerate() {
        now += Duration::from_secs_f64(jump);
        let sent = pace.take(now).is_ok();
        // The answer comes before its request, or long before.
        match i % 5 {
            0 => pace.above_rate(now, now + Duration::from_secs(5), None, f64::NAN),
            1 => pace.above_rate(start, now, Some(Duration::MAX), 1.0),
            2 => pace.no_capacity(start, start, Duration::MAX),
            _ => pace.accepted(start, now, &Limits { requests_per_second: Some(f64::INFINITY), ..Limits::default() }),
        }
        assert!(!sent || pace.rate().is_some_and(|r| (SLOWEST..=FASTEST).contains(&r)));
    }
    // After a long sleep there is no burst.
    let mut pace = Pace::new(start, false);
    pace.take(start).unwrap();
    let morning = start + Duration::from_hours(8);
    pace.take(morning).unwrap();
    assert!(waits(&mut pace, morning) > Duration::from_millis(400));
}

#[test]
fn an_unused_rate_does_not_grow() {
    let mut now = Instant::now();
    let mut pace = Pace::new(now, true);
    for _ in 0..200 {
        pace.take(now).unwrap();
    }
    pace.above_rate(now, now, None, 0.0);
    now += Duration::from_secs(5);
    pace.take(now).unwrap();
    let rate = pace.rate();
    assert!(rate.is_some_and(|r| r > 10.0), "{rate:?}");
    for _ in 0..100 {
        now += Duration::from_secs(2);
        pace.take(now).unwrap();
        pace.accepted(now, now, &Limits::default());
    }
    assert_eq!(pace.rate(), rate);
}
