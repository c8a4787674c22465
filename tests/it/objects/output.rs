//! Results at URLs: objects appear when they are complete, and nothing else is left in the store.

use std::process::Command;

use crate::support::{Home, MODEL, ObjectServer, Out, Server, answered, prompts, until};

fn command(home: &Home, server: &Server, store: &ObjectServer, args: &[&str]) -> Command {
    store.s3(home.run_command(&server.url, args))
}

fn run(home: &Home, server: &Server, store: &ObjectServer, args: &[&str]) -> Out {
    home.finish(command(home, server, store, args))
}

#[test]
fn results_errors_and_summary_are_objects_that_appear_whole() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    home.write("in.jsonl", prompts(1..=5) + "{\"id\":\"bad\"}\n");
    let outputs =
        ["-o", "s3://bucket/out/r.jsonl", "--errors", "s3://bucket/out/e.jsonl", "--summary", "s3://bucket/s.json"];
    let args = [&["in.jsonl", "--skip-invalid"], &outputs[..]].concat();
    store.put("/bucket/out/r.jsonl.partial", "of a run before");
    run(&home, &server, &store, &args).code(3).says(&["s3://bucket/out/r.jsonl"]);
    answered(&store.text("/bucket/out/r.jsonl").unwrap(), 1..=5);
    assert!(store.text("/bucket/out/e.jsonl").unwrap().contains("invalid_request"));
    assert!(store.text("/bucket/s.json").unwrap().contains("\"output\": \"s3://bucket/out/r.jsonl\""));
    assert_eq!(store.text("/bucket/out/r.jsonl.partial"), None);
    assert!(store.state().uploads.is_empty());
    // What was written is read back where it lies.
    let read = |args: &[&str]| home.finish(store.s3(home.command(args)));
    assert!(read(&["report", "s3://bucket/out/r.jsonl"]).code(0).stdout.contains('5'));
    read(&["merge", "in.jsonl", "s3://bucket/out/r.jsonl", "s3://bucket/out/e.jsonl", "-o", "all.jsonl"]).code(3);
    assert_eq!(home.read("all.jsonl").lines().count(), 6);
    read(&["prepare", "in.jsonl", "--skip-invalid", "-o", "s3://bucket/batches/"]).code(3);
    let state = store.state();
    assert!(
        state.objects.keys().any(|path| path.starts_with("/bucket/batches/meta-llama")),
        "{:?}",
        state.objects.keys()
    );
}

#[test]
fn stopped_run_leaves_the_object_as_it_was_and_writes_the_partial_one() {
    let (home, store) = (Home::new(), ObjectServer::start());
    let server = Server::start(&["--latency", "100ms"]);
    home.write("in.jsonl", prompts(1..=50));
    store.put("/bucket/r.jsonl", "old");
    let args = ["in.jsonl", "-o", "s3://bucket/r.jsonl", "--concurrency", "2"];
    let running = home.start(command(&home, &server, &store, &args));
    until("some answers", || server.requests() > 8);
    running.signal("INT");
    running.wait().code(130).says(&["s3://bucket/r.jsonl.partial"]);
    assert_eq!(store.text("/bucket/r.jsonl").as_deref(), Some("old"));
    assert_eq!(store.text("/bucket/r.jsonl.partial").unwrap().lines().count(), 50);
    run(&home, &server, &store, &args).code(0);
    answered(&store.text("/bucket/r.jsonl").unwrap(), 1..=50);
    assert_eq!(store.text("/bucket/r.jsonl.partial"), None);
}

/// An input whose results take several parts of an upload: the answers are long.
fn large(home: &Home) -> Server {
    let row =
        |n: u32| format!("{{\"id\":\"q{n}\",\"prompt\":\"question {n}\",\"note\":\"{}\"}}\n", "x".repeat(600_000));
    home.write("in.jsonl", (1..=30).map(row).collect::<String>());
    Server::quick(&[])
}

#[test]
fn kill_in_the_middle_of_an_upload_leaves_nothing_visible_and_the_next_run_aborts_it() {
    let (home, store) = (Home::new(), ObjectServer::start());
    let server = large(&home);
    let args = ["in.jsonl", "--flat", "-m", MODEL, "--prompt", "{{ prompt }}", "-o", "s3://bucket/r.jsonl"];
    store.state().never_completes = true;
    let running = home.start(command(&home, &server, &store, &args));
    until("an upload", || store.state().uploads.values().any(|parts| parts.len() == 3));
    assert_eq!(running.kill(), None);
    assert_eq!(store.text("/bucket/r.jsonl"), None);
    assert_eq!(store.state().uploads.len(), 1);
    store.state().never_completes = false;
    let before = server.requests();
    run(&home, &server, &store, &args).code(0);
    assert_eq!(server.requests(), before, "nothing is paid twice");
    assert_eq!(store.text("/bucket/r.jsonl").unwrap().lines().count(), 30);
    assert!(store.state().uploads.is_empty(), "the abandoned upload was aborted");
}

#[test]
fn store_that_refuses_is_said_before_money_is_spent_and_one_that_fails_later_loses_nothing() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    home.write("in.jsonl", prompts(1..=3));
    let args = ["in.jsonl", "-o", "s3://bucket/r.jsonl"];
    for (status, exit, words) in [(403, 74, "refuses to let llbatch write"), (503, 75, "cannot be reached")] {
        store.state().status = Some(status);
        run(&home, &server, &store, &args).code(exit).says(&["s3://bucket/r.jsonl: ", words]);
    }
    assert_eq!(server.requests(), 0);
    store.state().status = None;
    let slow = Server::start(&["--latency", "400ms"]);
    let running = home.start(command(&home, &slow, &store, &args));
    until("a request", || slow.requests() > 0);
    store.state().status = Some(403);
    running.wait().code(74).says(&["refuses to let llbatch write"]);
    store.state().status = None;
    let before = slow.requests();
    run(&home, &slow, &store, &args).code(0);
    assert_eq!(slow.requests(), before, "nothing is paid twice");
    answered(&store.text("/bucket/r.jsonl").unwrap(), 1..=3);
}

#[test]
fn object_of_the_input_is_not_written_over() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    store.put("/bucket/in/a.jsonl", prompts(1..=2));
    for (input, output) in [
        ("s3://bucket/in/a.jsonl", "s3://bucket/in/a.jsonl"),
        ("s3://bucket/in/", "s3://bucket/in/out.jsonl"),
        ("s3://bucket/in/*.jsonl", "s3://bucket/in/out.jsonl"),
    ] {
        run(&home, &server, &store, &[input, "-o", output]).code(2).says(&["this is an input file"]);
    }
    run(&home, &server, &store, &["s3://bucket/in/", "-o", "s3://bucket/out/r.jsonl"]).code(0);
}
