//! `--answers URL`: tasks of one job that share nothing but a bucket.

use std::process::Command;

use crate::support::{Home, ObjectServer, Server, answered, prompts, until};

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
