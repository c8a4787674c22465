//! Results on their way here, with every harm done to their bytes: never a file that lacks a row.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{broken_answers, harming, home, quick_harms};
use crate::support::{Asked, FaultServer, Harm, Server, answered, side_by_side, until};

const BOMB: Harm = Harm::Bomb(256);

fn downloaded(asked: &Asked<'_>) -> bool {
    asked.line.ends_with("/content")
}

#[test]
fn a_harmed_download_is_repaired() {
    let quick: Vec<Harm> = quick_harms().into_iter().chain([BOMB]).collect();
    side_by_side(&quick, |harm| {
        let (home, server) = (home(60), Server::quick(&[]));
        let proxy = harming(&server, harm, |asked| downloaded(asked) && asked.time <= 2);
        let args = ["submit", "in.jsonl", "--wait", "--timeout", "30s", "--poll", "50ms", "-o", "out.jsonl"];
        home.at(&proxy.url, &args).code(0);
        answered(&home.read("out.jsonl"), 1..=60);
        assert!(proxy.counts().harmed[&harm.to_string()] > 0, "{harm}");
        assert_eq!((server.batches().len(), server.paid_again()), (1, 0), "{harm}");
    });
}

#[test]
fn rows_are_not_missing_because_nobody_can_say_how_long_the_file_is() {
    let (home, server, ill) = (home(60), Server::quick(&[]), Arc::new(AtomicBool::new(false)));
    let sick = Arc::clone(&ill);
    let proxy = FaultServer::before(&server.address(), move |asked| match asked.line {
        _ if !sick.load(Ordering::Relaxed) => Harm::None,
        line if line.ends_with("/content") => Harm::CutLines,
        line if line.starts_with("GET /v1/files/") => Harm::Reset,
        _ => Harm::None,
    });
    home.at(&proxy.url, &["submit", "in.jsonl"]).code(0);
    until("the batch's end", || server.batches()[0]["status"] == "COMPLETED");
    let fetch = || home.at(&proxy.url, &["fetch", "last", "--wait", "--timeout", "2s", "-o", "out.jsonl"]);
    ill.store(true, Ordering::Relaxed);
    fetch().code(75);
    assert!(!home.exists("out.jsonl"));
    ill.store(false, Ordering::Relaxed);
    fetch().code(0);
    answered(&home.read("out.jsonl"), 1..=60);
}

#[test]
fn a_download_whose_bytes_come_in_outlasts_the_time() {
    let (home, server) = (home(4), Server::quick(&[]));
    let proxy = harming(&server, &Harm::Drip(Duration::from_millis(1)), downloaded);
    home.at(&proxy.url, &["submit", "in.jsonl"]).code(0);
    until("the batch's end", || server.batches()[0]["status"] == "COMPLETED");
    let began = Instant::now();
    home.at(&proxy.url, &["fetch", "last", "--wait", "--timeout", "100ms", "-o", "out.jsonl"]).code(0);
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}: it came too soon to say anything", began.elapsed());
    answered(&home.read("out.jsonl"), 1..=4);
}

#[test]
fn a_download_that_stays_harmed_writes_nothing() {
    let harms: Vec<Harm> = broken_answers().into_iter().map(|(harm, _)| harm).chain([BOMB]).collect();
    side_by_side(&harms, |harm| {
        let (home, server) = (home(60), Server::quick(&["--no-ranges"]));
        let proxy = harming(&server, harm, downloaded);
        home.at(&proxy.url, &["submit", "in.jsonl"]).code(0);
        until("the batch's end", || server.batches()[0]["status"] == "COMPLETED");
        let began = Instant::now();
        let args = ["fetch", "last", "--wait", "--timeout", "1s", "--poll", "50ms", "-o", "out.jsonl"];
        let out = home.at(&proxy.url, &args);
        assert!(matches!(out.code, 75 | 76), "{harm}: {} {}", out.code, out.stderr);
        assert!(!home.exists("out.jsonl"), "{harm}");
        // A drop at a time is bytes that move; nothing else outlasts the time by more than a moment.
        let moment = Duration::from_secs(if matches!(harm, Harm::Drip(_)) { 60 } else { 20 });
        assert!(began.elapsed() < moment, "{harm}: {:?}", began.elapsed());
        assert!(proxy.counts().harmed.contains_key(&harm.to_string()), "{harm}");
    });
}
