//! Polls of batches that get no answer, or a broken one.

use std::time::{Duration, Instant};

use super::{before, home, once, quick_faults};
use crate::support::{Fault, Server, side_by_side};

const POLL: [&str; 2] = ["--poll", "50ms"];

#[test]
fn timeout_ends_the_wait_for_a_silent_service() {
    let all = [
        &["wait", "last"][..],
        &["fetch", "last", "--wait", "-o", "out.jsonl"],
        &["submit", "in.jsonl", "--wait", "-o", "out.jsonl"],
    ];
    side_by_side(&all, |args| {
        let (home, server) = (home(3), Server::quick(&["--batch-run", "1h"]));
        let deaf = before(&server, &Fault::Hang, |asked| asked.line.starts_with("GET /v1/batches/"));
        home.at(&deaf.url, &["submit", "in.jsonl"]).code(0);
        let began = Instant::now();
        home.at(&deaf.url, &[*args, &["--timeout", "1s"], &POLL[..]].concat()).code(75);
        let took = began.elapsed();
        // The batch takes an hour. A machine that was paused for 28 s failed a bound of 20.
        assert!((Duration::from_secs(1)..Duration::from_mins(5)).contains(&took), "{args:?}: {took:?}");
        assert!(!home.exists("out.jsonl"));
    });
}

#[test]
fn polls_with_broken_answers_are_repeated() {
    side_by_side(&quick_faults(), |fault| {
        let (home, server) = (home(6), Server::quick(&[]));
        // The first of each question, of any kind, but for the create and the bytes of files, which have tests of their own.
        let proxy = before(&server, fault, |asked| {
            asked.time == 1 && asked.line != "POST /v1/batches" && !asked.line.ends_with("/content")
        });
        let args = ["submit", "in.jsonl", "--wait", "--timeout", "40s", "-o", "out.jsonl"];
        home.at(&proxy.url, &[&args[..], &POLL].concat()).code(0);
        once(&home, &server, fault);
    });
}

#[test]
fn decompression_bomb_in_a_poll_is_not_unpacked_to_its_end() {
    let server = Server::quick(&[]);
    let proxy = before(&server, &Fault::Bomb(1024), |asked| asked.line.starts_with("GET /v1/batches/"));
    let home = home(3);
    let args = ["submit", "in.jsonl", "--wait", "--timeout", "20s", "-v"];
    let run = home.start(home.command_at(&proxy.url, &[&args[..], &POLL].concat()));
    crate::support::until("the answer to be given up", || run.stderr().contains("MiB"));
    let peak = run.peak_memory();
    assert!((1..200 << 10).contains(&peak), "{peak} KiB");
}
