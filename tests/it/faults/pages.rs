//! HTML pages in place of the API.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use super::{ends, home, number};
use crate::support::{Canned, Fault, FaultServer, answered};

const ARGS: [&str; 5] = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json"];

#[test]
fn html_pages_for_every_row_stop_the_run_resumably() {
    for concurrency in ["1", "40"] {
        let portal = Arc::new(AtomicBool::new(true));
        let shut = Arc::clone(&portal);
        let server = FaultServer::start(move |asked| match asked.number {
            11.. if shut.load(Ordering::Relaxed) => Fault::Instead(Canned::page()),
            _ => Fault::None,
        });
        let home = home(200);
        let run = || home.finish(home.run_command(&server.url, &[&ARGS[..], &["--concurrency", concurrency]].concat()));
        run().code(76);
        let (asked, summary) = (server.counts().requests, home.json("s.json"));
        let reason = summary["exit"]["reason"].as_str().unwrap();
        assert!(reason.contains("\"Sign in to the network\"") && reason.contains("base URL"), "{reason}");
        assert!(asked < 140, "{asked} requests against a wall");
        assert_eq!((&summary["state"], &summary["exit"]["code"]), (&"interrupted".into(), &76.into()));
        assert_eq!(summary["rows"]["succeeded"], 10);
        assert_eq!(ends(&home).iter().filter(|code| *code == "ok").count(), 10);
        portal.store(false, Ordering::Relaxed);
        run().code(0);
        answered(&home.read("out.jsonl"), 1..=200);
        assert!(server.counts().paid.values().all(|times| *times == 1));
    }
}

#[test]
fn html_pages_for_some_rows_fail_only_those() {
    // A filter that does not like two prompts, and one moment that many requests in flight meet.
    let in_flight = Barrier::new(13);
    let server = FaultServer::start(move |asked| match (number(asked.prompt), asked.time) {
        (3 | 4 | 10..=20, 1) => {
            in_flight.wait();
            Fault::Instead(Canned::page())
        }
        (3 | 4, _) => Fault::Instead(Canned::page()),
        _ => Fault::None,
    });
    let home = home(60);
    home.finish(home.run_command(&server.url, &[&ARGS[..], &["--concurrency", "20"]].concat())).code(3);
    let found = ends(&home);
    assert_eq!(found.len(), 60);
    for (n, code) in (1..).zip(&found) {
        assert_eq!(code, if matches!(n, 3 | 4) { "bad_response" } else { "ok" }, "question {n}");
    }
}
