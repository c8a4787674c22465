//! The create request, which costs money, with every fault applied to its reply. There is one batch every time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::{before, home, once, quick_faults};
use crate::support::{Asked, Canned, Fault, FaultServer, Home, Server, side_by_side, until};

const CREATE: &str = "POST /v1/batches";
const LIST: &str = "GET /v1/batches";

fn created(asked: &Asked<'_>) -> bool {
    asked.line == CREATE
}

/// Runs the command until it has settled everything: one batch.
#[track_caller]
fn to_the_end(home: &Home, server: &Server, proxy: &FaultServer, fault: &Fault) {
    let args = ["submit", "in.jsonl", "--wait", "--timeout", "30s", "--poll", "50ms", "-o", "out.jsonl"];
    let out = home.at(&proxy.url, &args);
    assert_eq!(out.code, 0, "{fault}: {}", out.stderr);
    once(home, server, fault);
}

/// With a time after which a list that lacks a batch is believed.
fn patient_home() -> Home {
    let home = home(6);
    std::fs::create_dir_all(home.path("home/config/llbatch")).unwrap();
    home.write("home/config/llbatch/config.toml", "[submit]\nsettle_after = \"400ms\"\n");
    home
}

/// The faults that end by themselves: what hangs is waited for a minute.
fn quick() -> Vec<Fault> {
    let more = [Fault::Drip(Duration::from_millis(1)), Fault::After(Canned::status(503)), Fault::Surplus];
    quick_faults().into_iter().chain(more).collect()
}

#[test]
fn create_with_a_broken_reply_makes_one_batch() {
    side_by_side(&quick(), |fault| {
        let (home, server) = (patient_home(), Server::quick(&[]));
        let proxy = before(&server, fault, created);
        to_the_end(&home, &server, &proxy, fault);
        assert_eq!(proxy.counts().faults[&fault.to_string()], 1, "{fault}: sent once");
    });
}

#[test]
fn create_that_never_arrived_is_repeated_once() {
    let faults = [Fault::ResetEarly, Fault::Instead(Canned::status(500)), Fault::Instead(Canned::page())];
    side_by_side(&faults, |fault| {
        let (home, server) = (patient_home(), Server::quick(&[]));
        let proxy = before(&server, fault, |asked| created(asked) && asked.time == 1);
        to_the_end(&home, &server, &proxy, fault);
    });
}

#[test]
fn broken_batch_list_settles_nothing_too_soon() {
    side_by_side(&quick(), |fault| {
        let (home, server, done) = (patient_home(), Server::quick(&[]), fault.clone());
        let proxy = FaultServer::before(&server.address(), move |asked| match (asked.line, asked.time) {
            (CREATE, _) => Fault::Reset,
            (LIST, 1..=2) => done.clone(),
            _ => Fault::None,
        });
        to_the_end(&home, &server, &proxy, fault);
    });
}

#[test]
fn create_killed_while_it_hangs_makes_one_batch() {
    let faults = [Fault::Hang, Fault::HangInHead, Fault::HangInBody, Fault::Drip(Duration::from_millis(500))];
    side_by_side(&faults, |fault| {
        let (home, server) = (patient_home(), Server::quick(&[]));
        let proxy = before(&server, fault, created);
        let run = home.start(home.command_at(&proxy.url, &["submit", "in.jsonl"]));
        until("a batch", || server.batches().len() == 1);
        assert_eq!(run.kill(), None, "{fault}");
        to_the_end(&home, &server, &proxy, fault);
    });
}

/// The creation's reply is lost under a service's clock that is `before` seconds off, and looked up under one that is `after`.
#[track_caller]
fn looked_up(settle_after: &str, before: i64, after: i64) -> (i32, usize) {
    let (home, server) = (home(6), Server::quick(&["--list-lag", "1h", "--fault", "reset,on=create,after,times=1"]));
    std::fs::create_dir_all(home.path("home/config/llbatch")).unwrap();
    home.write("home/config/llbatch/config.toml", format!("[submit]\nsettle_after = \"{settle_after}\"\n"));
    let now = Arc::new(AtomicI64::new(before));
    let off = Arc::clone(&now);
    let proxy = FaultServer::before(&server.address(), move |_| Fault::Clock(off.load(Ordering::Relaxed)));
    let submit = home.start(home.command_at(&proxy.url, &["submit", "in.jsonl"]));
    until("a doubt", || submit.stderr().contains("does not know whether it was created"));
    submit.kill();
    now.store(after, Ordering::Relaxed);
    let out = home.at(&proxy.url, &["wait", "last", "--timeout", "2s", "--poll", "50ms"]);
    (out.code, server.batches().len())
}

#[test]
fn clock_jump_creates_no_second_batch() {
    // Here a second passes, there none: the list, which lags, is not to be believed yet.
    assert_eq!(looked_up("1s", 3600, 0), (75, 1));
    // Here none, there an hour.
    assert_eq!(looked_up("10m", -3600, 0), (0, 2));
}
