//! Every fault, applied to rows of `run`.

use std::time::{Duration, Instant};

use super::{broken_answers, ends, home, number};
use crate::support::{Asked, Fault, FaultServer, answered, ids, rows};

const ARGS: [&str; 5] = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json"];

fn run(home: &crate::support::Home, server: &FaultServer, args: &[&str]) -> crate::support::Out {
    home.finish(home.run_command(&server.url, &[&ARGS[..], args].concat()))
}

/// Row n meets fault n, and those behind none: so many times, at first.
fn each(times: u64) -> impl Fn(&Asked<'_>) -> Fault + Send + Sync {
    let faults = broken_answers();
    move |asked: &Asked<'_>| match number(asked.prompt).checked_sub(1).and_then(|n| faults.get(n)) {
        Some((fault, _)) if asked.time <= times => fault.clone(),
        _ => Fault::None,
    }
}

#[test]
fn permanent_fault_fails_only_its_row_with_its_code() {
    let faults = broken_answers();
    let count = faults.len() as u32;
    let (home, server) = (home(count + 10), FaultServer::start(each(u64::MAX)));
    let began = Instant::now();
    run(&home, &server, &["--retries", "0", "--request-timeout", "1s", "--concurrency", "40"]).code(3);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let found = ends(&home);
    let seen: Vec<String> = rows(&home.read("out.jsonl")).into_iter().map(|row| row.id).collect();
    assert_eq!(seen, ids(1..=count + 10));
    for ((fault, code), found) in faults.iter().zip(&found) {
        // A connection that broke in the middle of an answer may be called either.
        let either = matches!(fault, Fault::ResetAfterHead | Fault::ResetInBody | Fault::ResetInHead);
        assert!(found == code || (either && found == "network"), "{fault}: {found}, not {code}");
    }
    assert!(found[faults.len()..].iter().all(|code| code == "ok"), "{found:?}");
    let counts = server.counts();
    assert!(counts.paid.values().all(|times| *times == 1), "without retries nothing is sent twice: {counts:?}");
    assert_eq!(counts.requests, u64::from(count) + 10);
    let summary = home.json("s.json");
    assert_eq!(summary["http"]["sent"], counts.requests);
    // 16 tokens of an answer and some of the question, for each that may have been paid for without an answer.
    assert!(summary["cost"]["at_risk_usd"].as_f64().unwrap() >= f64::from(count) * 16.0 * 0.06e-6, "{summary}");
}

#[test]
fn transient_fault_costs_one_extra_request() {
    let count = broken_answers().len() as u32;
    let (home, server) = (home(count + 10), FaultServer::start(each(1)));
    run(&home, &server, &["--request-timeout", "1s", "--concurrency", "40"]).code(0);
    answered(&home.read("out.jsonl"), 1..=count + 10);
    let counts = server.counts();
    for n in 1..=count + 10 {
        let paid = server.paid(&format!("question {n}"));
        assert_eq!(paid, if n <= count { 2 } else { 1 }, "question {n}");
    }
    let summary = home.json("s.json");
    assert_eq!((&summary["http"]["sent"], &summary["http"]["retried"]), (&counts.requests.into(), &count.into()));
    assert!(summary["cost"]["at_risk_usd"].as_f64().unwrap() > 0.0, "{summary}");
}

#[test]
fn ambiguous_request_is_sent_at_most_four_times() {
    let faults = [Fault::Reset, Fault::Hang, Fault::CutLines, Fault::LostChunk, Fault::GzipLie, Fault::ResetAfterHead];
    let count = faults.len() as u32;
    let server = FaultServer::start(move |asked| faults[number(asked.prompt) - 1].clone());
    let home = home(count);
    run(&home, &server, &["--retries", "9", "--request-timeout", "2s"]).code(3);
    assert!(ends(&home).iter().all(|code| code != "ok"));
    for n in 1..=count {
        assert_eq!(server.paid(&format!("question {n}")), 4, "question {n}");
    }
}

#[test]
fn short_outage_costs_no_second_payment() {
    let gone = |asked: &Asked<'_>| match asked.number {
        4 | 9 => Fault::Away(Duration::from_millis(300)),
        _ => Fault::None,
    };
    let (home, server) = (home(12), FaultServer::start(gone));
    run(&home, &server, &["--concurrency", "1"]).code(0);
    answered(&home.read("out.jsonl"), 1..=12);
    let counts = server.counts();
    assert!(counts.paid.len() == 12 && counts.paid.values().all(|times| *times == 1), "{counts:?}");
    assert_eq!(counts.faults["away=300"], 2);
}

#[test]
fn unsolicited_answer_belongs_to_no_row() {
    // One connection, used again and again: what is left over in it must not be taken for the next row's answer.
    let surplus = |asked: &Asked<'_>| if asked.number.is_multiple_of(2) { Fault::Surplus } else { Fault::None };
    let (home, server) = (home(20), FaultServer::start(surplus));
    run(&home, &server, &["--concurrency", "1"]).code(0);
    answered(&home.read("out.jsonl"), 1..=20);
}

#[test]
fn silent_service_is_given_up() {
    let home = home(8);
    let began = Instant::now();
    let url = FaultServer::deaf();
    let deaf = |args: &[&str]| home.finish(home.run_command(&url, &[&ARGS[..], args].concat()));
    deaf(&["--retries", "0", "--request-timeout", "500ms", "--concurrency", "8"]).code(3);
    assert_eq!(ends(&home), ["timeout"; 8]);
    std::fs::remove_file(home.path("out.jsonl")).unwrap();
    deaf(&["--fresh", "--retries", "90", "--request-timeout", "300ms", "--give-up-after", "1s"]).code(75);
    assert!(!home.exists("out.jsonl"));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn decompression_bomb_fails_only_its_row() {
    let bombs = |asked: &Asked<'_>| match number(asked.prompt) {
        // At once, a gigabyte each.
        1..=4 => Fault::ZstdBomb(1024),
        // Something that outlasts them: the memory of a process that has ended cannot be read.
        5 => Fault::Hang,
        _ => Fault::None,
    };
    let (home, server) = (home(12), FaultServer::start(bombs));
    let args = ["--retries", "0", "--request-timeout", "15s", "--concurrency", "12", "-v"];
    let run = home.start(home.run_command(&server.url, &[&ARGS[..], &args].concat()));
    crate::support::until("four rows given up", || run.stderr().matches("given up after").count() >= 4);
    let peak = run.peak_memory();
    run.kill();
    // One stays below 200 MiB; of the one before, the allocator may not have returned all when the next one begins.
    assert!((1..256 << 10).contains(&peak), "{peak} KiB");
}
