//! `--answers URL`: tasks of one job that share nothing but a bucket.

use std::process::Command;

use crate::support::{Home, ObjectServer, PutConditions, Server, answered, prompts, until};

/// Answers of a part that are sealed together.
const PART: u64 = 1_000;

/// A task on a machine that has nothing of its own.
fn task(home: &Home, server: &Server, store: &ObjectServer, machine: &str) -> Command {
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "8", "--answers", "s3://bucket/shared/"];
    store.s3(home.run_command(&server.url, &[&args[..], &["--state-dir", machine]].concat()))
}

fn parts(store: &ObjectServer) -> Vec<String> {
    store.state().objects.keys().filter(|path| path.ends_with(".part.jsonl")).cloned().collect()
}

#[test]
fn task_that_is_killed_goes_on_elsewhere_from_the_parts_in_the_bucket() {
    const ROWS: u32 = 2_400;
    let (home, server, store) = (Home::new(), Server::start(&[]), ObjectServer::start());
    home.write("in.jsonl", prompts(1..=ROWS));
    let first = home.start(task(&home, &server, &store, "machine-1"));
    until("a part", || !parts(&store).is_empty());
    assert_eq!(first.kill(), None, "it was done before the kill");
    std::fs::remove_dir_all(home.path("machine-1")).unwrap();
    let (before, sealed) = (server.bill(), parts(&store).len() as u64 * PART);
    let out = home.finish(task(&home, &server, &store, "machine-2")).code(0);
    out.says(&["rows answered by other tasks of this job, taken from s3://bucket/shared"]);
    answered(&home.read("out.jsonl"), 1..=ROWS);
    assert!(server.paid_again() <= before - sealed, "{} paid again, {sealed} of {before} sealed", server.paid_again());
    let keys = parts(&store);
    assert!(keys.iter().all(|key| key.starts_with("/bucket/shared/whole-")), "{keys:?}");
    // A third machine sends nothing.
    let paid = server.bill();
    home.finish(task(&home, &server, &store, "machine-3")).code(0).says(&["0 to go"]);
    assert_eq!(server.bill(), paid);
    answered(&home.read("out.jsonl"), 1..=ROWS);
}

#[test]
fn damaged_part_is_named_and_its_rows_are_sent() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    home.write("in.jsonl", prompts(1..=20));
    home.finish(task(&home, &server, &store, "machine-1")).code(0);
    let key = parts(&store).pop().unwrap();
    let text = store.text(&key).unwrap();
    store.put(&key, text.replacen("question", "Question", 1).replacen("q7", "q8", 1));
    home.finish(task(&home, &server, &store, "machine-2")).code(0).says(&[&key[1..], "not taken"]);
    answered(&home.read("out.jsonl"), 1..=20);
    assert_eq!(server.paid_again(), 20);
}

#[test]
fn place_that_cannot_be_written_stops_the_run_and_is_named() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    home.write("in.jsonl", prompts(1..=3));
    let args = |url| ["in.jsonl", "--answers", url];
    home.run(&server, &args("https://example.com/answers")).code(2).says(&["does not write there"]);
    home.run(&server, &args("hf://datasets/own/set/answers")).code(2).says(&["does not write there"]);
    assert_eq!(server.requests(), 0);
    store.state().status = Some(403);
    home.finish(task(&home, &server, &store, "machine-1")).code(66).says(&["s3://bucket/shared"]);
    assert_eq!(server.requests(), 0, "nothing is paid that could not be shared");
    store.state().status = None;
    home.finish(task(&home, &server, &store, "machine-1")).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
}

/// The copy of a task on a machine of its own. A claim is lost after 2.4 seconds without renewal.
fn copy(home: &Home, server: &Server, store: &ObjectServer, machine: &str) -> Command {
    let out = format!("{machine}.jsonl");
    let args =
        ["in.jsonl", "-o", &out, "--concurrency", "4", "--answers", "s3://bucket/shared", "--state-dir", machine];
    let mut command = store.s3(home.run_command(&server.url, &args));
    command.env("LLBATCH_CLAIM_PERIOD", "400");
    command
}

fn owners(store: &ObjectServer) -> Vec<String> {
    store.state().objects.keys().filter(|path| path.contains("/owner-")).cloned().collect()
}

#[test]
fn copies_of_a_task_pay_once_whatever_the_store_makes_of_conditions() {
    for conditions in [PutConditions::Held, PutConditions::Ignored, PutConditions::Refused] {
        let (home, server, store) = (Home::new(), Server::start(&["--latency", "100ms"]), ObjectServer::start());
        store.state().conditions = conditions;
        home.write("in.jsonl", prompts(1..=60));
        let tasks = ["a", "b", "c"].map(|machine| {
            let mut task = copy(&home, &server, &store, machine);
            // Longer than the owner waits for others in a store without conditions.
            task.env("LLBATCH_CLAIM_PERIOD", "2000");
            home.start(task)
        });
        let outs = tasks.map(|task| task.wait().code(0));
        assert_eq!((server.bill(), server.paid_again()), (60, 0), "{conditions:?}");
        let waited = outs.iter().filter(|out| out.stderr.contains("works on this task too")).count();
        assert_eq!(waited, 2, "{conditions:?}: {}{}{}", outs[0].stderr, outs[1].stderr, outs[2].stderr);
        for machine in ["a", "b", "c"] {
            answered(&home.read(&format!("{machine}.jsonl")), 1..=60);
        }
        assert_eq!(owners(&store).len(), 1);
        assert!(store.text(&owners(&store)[0]).unwrap().contains("\"ended\":true"));
    }
}

#[test]
fn task_that_was_frozen_stops_when_it_finds_its_claim_in_the_store_taken() {
    const ROWS: u32 = 1_500;
    for conditions in [PutConditions::Held, PutConditions::Ignored] {
        let (home, server, store) = (Home::new(), Server::start(&["--latency", "20ms"]), ObjectServer::start());
        store.state().conditions = conditions;
        home.write("in.jsonl", prompts(1..=ROWS));
        let frozen = home.start(copy(&home, &server, &store, "a"));
        until("some answers", || server.bill() >= 8);
        frozen.signal("STOP");
        let before = server.bill();
        let second = home.start(copy(&home, &server, &store, "b"));
        until("the copy works", || server.bill() >= before + 50);
        frozen.signal("CONT");
        frozen.wait().code(75).says(&["exit      75: host", "has taken over this task in"]);
        second.wait().code(0).says(&["works on this task too"]);
        answered(&home.read("b.jsonl"), 1..=ROWS);
        assert!(server.paid_again() <= before + 100, "{} paid again, {before} before", server.paid_again());
    }
}

#[test]
fn store_that_is_away_costs_the_owner_its_claim() {
    let (home, server, store) = (Home::new(), Server::start(&["--latency", "50ms"]), ObjectServer::start());
    home.write("in.jsonl", prompts(1..=2_000));
    let task = home.start(copy(&home, &server, &store, "a"));
    until("some answers", || server.bill() >= 8);
    store.state().status = Some(403);
    let out = task.wait().code(74);
    assert!(server.bill() < 2_000, "it went on without its claim\n{}", out.stderr);
    store.state().status = None;
    home.finish(copy(&home, &server, &store, "a")).code(0);
    assert_eq!((server.bill(), server.paid_again()), (2_000, 0));
}
