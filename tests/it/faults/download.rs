//! Downloads of results with every fault applied. A file that lacks a row is never written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{before, broken_answers, home, quick_faults};
use crate::support::{Asked, Fault, FaultServer, Server, answered, side_by_side, until};

const BOMB: Fault = Fault::Bomb(256);

fn downloaded(asked: &Asked<'_>) -> bool {
    asked.line.ends_with("/content")
}

#[test]
fn broken_download_is_repaired() {
    let quick: Vec<Fault> = quick_faults().into_iter().chain([BOMB]).collect();
    side_by_side(&quick, |fault| {
        let (home, server) = (home(60), Server::quick(&[]));
        let proxy = before(&server, fault, |asked| downloaded(asked) && asked.time <= 2);
        let args = ["submit", "in.jsonl", "--wait", "--timeout", "30s", "--poll", "50ms", "-o", "out.jsonl"];
        home.at(&proxy.url, &args).code(0);
        answered(&home.read("out.jsonl"), 1..=60);
        assert!(proxy.counts().faults[&fault.to_string()] > 0, "{fault}");
        assert_eq!((server.batches().len(), server.paid_again()), (1, 0), "{fault}");
    });
}

#[test]
fn download_of_unknown_length_loses_no_row() {
    let (home, server, ill) = (home(60), Server::quick(&[]), Arc::new(AtomicBool::new(false)));
    let sick = Arc::clone(&ill);
    let proxy = FaultServer::before(&server.address(), move |asked| match asked.line {
        _ if !sick.load(Ordering::Relaxed) => Fault::None,
        line if line.ends_with("/content") => Fault::CutLines,
        line if line.starts_with("GET /v1/files/") => Fault::Reset,
        _ => Fault::None,
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
fn slow_but_steady_download_outlasts_the_timeout() {
    let (home, server) = (home(4), Server::quick(&[]));
    let proxy = before(&server, &Fault::Drip(Duration::from_millis(1)), downloaded);
    home.at(&proxy.url, &["submit", "in.jsonl"]).code(0);
    until("the batch's end", || server.batches()[0]["status"] == "COMPLETED");
    let began = Instant::now();
    home.at(&proxy.url, &["fetch", "last", "--wait", "--timeout", "100ms", "-o", "out.jsonl"]).code(0);
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}: it came too soon to say anything", began.elapsed());
    answered(&home.read("out.jsonl"), 1..=4);
}

#[test]
fn download_that_stays_broken_writes_nothing() {
    let faults: Vec<Fault> = broken_answers().into_iter().map(|(fault, _)| fault).chain([BOMB]).collect();
    side_by_side(&faults, |fault| {
        let (home, server) = (home(60), Server::quick(&["--no-ranges"]));
        let proxy = before(&server, fault, downloaded);
        home.at(&proxy.url, &["submit", "in.jsonl"]).code(0);
        until("the batch's end", || server.batches()[0]["status"] == "COMPLETED");
        let began = Instant::now();
        let args = ["fetch", "last", "--wait", "--timeout", "1s", "--poll", "50ms", "-o", "out.jsonl"];
        let out = home.at(&proxy.url, &args);
        assert!(matches!(out.code, 75 | 76), "{fault}: {} {}", out.code, out.stderr);
        assert!(!home.exists("out.jsonl"), "{fault}");
        // A drop at a time is bytes that move; nothing else outlasts the time by more than a moment.
        let moment = Duration::from_secs(if matches!(fault, Fault::Drip(_)) { 60 } else { 20 });
        assert!(began.elapsed() < moment, "{fault}: {:?}", began.elapsed());
        assert!(proxy.counts().faults.contains_key(&fault.to_string()), "{fault}");
    });
}
