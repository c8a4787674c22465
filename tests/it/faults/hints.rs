//! Retry hints in every style of a service, and responses without one.

use std::time::{Duration, Instant, SystemTime};

use super::home;
use crate::support::{Canned, Fault, FaultServer, answered, side_by_side};

/// One refusal, of the third request; how long the run took.
fn took(code: u16, headers: &[(&str, &str)]) -> Duration {
    let canned = Canned::with(code, headers);
    let refuse = move |asked: &crate::support::Asked<'_>| match asked.number {
        3 => Fault::Instead(canned.clone()),
        _ => Fault::None,
    };
    let (home, server) = (home(4), FaultServer::start(refuse));
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "1", "--retries", "0"];
    let began = Instant::now();
    home.finish(home.run_command(&server.url, &args)).code(0);
    let took = began.elapsed();
    answered(&home.read("out.jsonl"), 1..=4);
    let counts = server.counts();
    assert!(counts.requests == 5 && counts.paid.values().all(|times| *times == 1), "{headers:?}: {counts:?}");
    assert_eq!(home.json("s.json")["cost"]["at_risk_usd"], 0, "{headers:?}: refused is unpaid");
    took
}

#[test]
fn retry_after_hint_is_respected() {
    // A server whose clock is a year behind.
    let then = SystemTime::now() - Duration::from_hours(365 * 24);
    let date = |seconds| httpdate::fmt_http_date(then + Duration::from_secs(seconds));
    let (date, later) = (date(0), date(2));
    let all: [(&[(&str, &str)], u64); 7] = [
        (&[("retry-after", "1")], 1000),
        (&[("retry-after", "1.2")], 1200),
        (&[("retry-after-ms", "900")], 900),
        (&[("Retry-After-Ms", "900"), ("retry-after", "77")], 900),
        (&[("x-ratelimit-reset", "1")], 1000),
        (&[("retry-after", "soon"), ("x-ratelimit-reset", "1")], 1000),
        (&[("date", &date), ("retry-after", &later)], 2000),
    ];
    let all: Vec<_> =
        [429, 503].into_iter().flat_map(|code| all.map(|(headers, wait)| (code, headers, wait))).collect();
    side_by_side(&all, |(code, headers, wait)| {
        let took = took(*code, headers);
        let span = Duration::from_millis(*wait)..Duration::from_millis(wait * 3 + 9000);
        assert!(span.contains(&took), "{code} {headers:?}: {took:?}");
    });
}

#[test]
fn invalid_retry_after_hint_is_ignored() {
    let all: [&[(&str, &str)]; 10] = [
        &[],
        &[("retry-after", "-5")],
        &[("retry-after", "NaN")],
        &[("retry-after", "inf")],
        &[("retry-after", "1e300")],
        &[("retry-after", "90000")],
        &[("retry-after-ms", "-1"), ("x-ratelimit-reset", "nan")],
        &[("retry-after-ms", "99999999999999999999")],
        &[("x-ratelimit-reset", "86401")],
        // No Date: ours counts, and the year 9999 is not soon.
        &[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")],
    ];
    side_by_side(&all, |headers| {
        for code in [429, 503] {
            let took = took(code, headers);
            assert!(took < Duration::from_secs(10), "{code} {headers:?}: {took:?}");
        }
    });
}
