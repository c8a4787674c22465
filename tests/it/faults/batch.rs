//! Questions about batches that get no answer, or a harmed one.

use std::time::{Duration, Instant};

use super::{broken_answers, home};
use crate::support::{FaultServer, Harm, Server, answered, side_by_side};

const POLL: [&str; 2] = ["--poll", "50ms"];

#[test]
fn a_timeout_holds_though_the_service_takes_connections_and_says_nothing() {
    let all = [
        &["wait", "last"][..],
        &["fetch", "last", "--wait", "-o", "out.jsonl"],
        &["submit", "in.jsonl", "--wait", "-o", "out.jsonl"],
    ];
    side_by_side(&all, |args| {
        let (home, server) = (home(3), Server::quick(&["--batch-run", "1h"]));
        let deaf = FaultServer::before(&server.address(), |asked| match asked.line {
            line if line.starts_with("GET /v1/batches/") => Harm::Hang,
            _ => Harm::None,
        });
        home.at(&deaf.url, &["submit", "in.jsonl"]).code(0);
        let began = Instant::now();
        home.at(&deaf.url, &[*args, &["--timeout", "1s"], &POLL[..]].concat()).code(75);
        let took = began.elapsed();
        assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&took), "{args:?}: {took:?}");
        assert!(!home.exists("out.jsonl"));
    });
}

#[test]
fn questions_with_harmed_answers_are_asked_again() {
    let hangs = |harm: &Harm| matches!(harm, Harm::Hang | Harm::HangInHead | Harm::HangInBody | Harm::Drip(_));
    let quick: Vec<Harm> = broken_answers().into_iter().map(|(harm, _)| harm).filter(|harm| !hangs(harm)).collect();
    side_by_side(&quick, |harm| {
        let (home, server, done) = (home(6), Server::quick(&[]), harm.clone());
        // The first of each question, of any kind, but for the create and the bytes of files, which have tests of their own.
        let proxy = FaultServer::before(&server.address(), move |asked| match asked.line {
            "POST /v1/batches" => Harm::None,
            line if line.ends_with("/content") => Harm::None,
            _ if asked.time == 1 => done.clone(),
            _ => Harm::None,
        });
        let args = ["submit", "in.jsonl", "--wait", "--timeout", "40s", "-o", "out.jsonl"];
        home.at(&proxy.url, &[&args[..], &POLL].concat()).code(0);
        answered(&home.read("out.jsonl"), 1..=6);
        assert_eq!((server.batches().len(), server.bill(), server.paid_again()), (1, 6, 0), "{harm}");
    });
}

#[test]
fn a_bomb_in_an_answer_about_a_batch_is_not_unpacked_to_its_end() {
    let server = Server::quick(&[]);
    let proxy = FaultServer::before(&server.address(), |asked| {
        if asked.line.starts_with("GET /v1/batches/") { Harm::Bomb(1024) } else { Harm::None }
    });
    let home = home(3);
    let args = ["submit", "in.jsonl", "--wait", "--timeout", "20s", "-v"];
    let run = home.start(home.command_at(&proxy.url, &[&args[..], &POLL].concat()));
    crate::support::until("the answer to be given up", || run.stderr().contains("MiB"));
    let peak = run.peak_memory();
    assert!((1..200 << 10).contains(&peak), "{peak} KiB");
}
