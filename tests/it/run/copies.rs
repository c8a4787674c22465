//! `--answers`: two copies of one task at once, as an engine with speculation starts them. One pays, the other waits.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Home, Out, Running, Server, answered, prompts, until};

/// The copy of the task on a machine of its own, which writes MACHINE.jsonl.
fn copy(home: &Home, server: &Server, machine: &str, more: &[&str]) -> Command {
    let out = format!("{machine}.jsonl");
    let flags = ["in.jsonl", "-o", &out, "--answers", "shared", "--state-dir", machine, "--concurrency", "4"];
    home.run_command(&server.url, &[&flags[..], more].concat())
}

/// The same in a hurry: a claim is lost after 1.8 seconds without renewal.
fn quick_copy(home: &Home, server: &Server, machine: &str, more: &[&str]) -> Command {
    let mut command = copy(home, server, machine, more);
    command.env("LLBATCH_CLAIM_PERIOD", "300");
    command
}

/// Waits until a copy says that it waits.
fn until_waiting(task: &Running) {
    until("a copy that waits", || task.stderr().contains("works on this task too"));
}

/// The words of the copy that waited.
#[track_caller]
fn waited(out: &Out) {
    assert_eq!(out.stderr.matches("works on this task too").count(), 1, "{}", out.stderr);
}

#[test]
fn two_copies_at_once_pay_once() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "20ms"]));
    home.write("in.jsonl", prompts(1..=120));
    let tasks = ["a", "b"].map(|machine| home.start(copy(&home, &server, machine, &[])));
    let outs = tasks.map(|task| task.wait().code(0));
    assert_eq!((server.bill(), server.paid_again()), (120, 0));
    let waiters = outs.iter().filter(|out| out.stderr.contains("works on this task too")).count();
    assert_eq!(waiters, 1, "{}\n{}", outs[0].stderr, outs[1].stderr);
    let said = outs.iter().any(|out| out.stderr.contains("120 rows answered by other tasks of this job"));
    assert!(said, "{}\n{}", outs[0].stderr, outs[1].stderr);
    assert_eq!(home.read("a.jsonl"), home.read("b.jsonl"));
    // A third one has nothing to wait for.
    let out = home.finish(copy(&home, &server, "c", &[])).code(0).says(&["120 rows answered by other tasks"]);
    assert!(!out.stderr.contains("works on this task too"), "{}", out.stderr);
    assert_eq!(server.bill(), 120);
    for machine in ["a", "b", "c"] {
        answered(&home.read(&format!("{machine}.jsonl")), 1..=120);
    }
}

#[test]
fn copy_of_a_killed_task_takes_over_at_once_on_the_same_host() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "50ms"]));
    home.write("in.jsonl", prompts(1..=100));
    let first = home.start(copy(&home, &server, "a", &[]));
    until("some answers", || server.bill() >= 8);
    let second = home.start(copy(&home, &server, "b", &[]));
    until_waiting(&second);
    assert_eq!(first.kill(), None);
    let (killed, before) = (Instant::now(), server.bill());
    until("the copy sends", || server.bill() > before);
    assert!(killed.elapsed() < Duration::from_secs(20), "{:?}", killed.elapsed());
    waited(&second.wait().code(0));
    answered(&home.read("b.jsonl"), 1..=100);
    // All that the killed task had answered was not sealed yet.
    assert!(server.paid_again() <= before + 4, "{} of {before}", server.paid_again());
}

#[test]
fn task_that_ends_by_a_signal_leaves_its_turn_to_the_copy() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "50ms"]));
    home.write("in.jsonl", prompts(1..=100));
    let first = home.start(copy(&home, &server, "a", &[]));
    until("some answers", || server.bill() >= 8);
    let second = home.start(copy(&home, &server, "b", &[]));
    until_waiting(&second);
    first.signal("TERM");
    first.wait().code(143);
    let out = second.wait().code(0).says(&["answered by other tasks of this job, taken from"]);
    waited(&out);
    assert_eq!((server.bill(), server.paid_again()), (100, 0));
    answered(&home.read("b.jsonl"), 1..=100);
}

/// Puts a record of a process on another host in place of the last one. Its period is 400 ms.
fn forge(home: &Home) {
    let jobs = std::fs::read_dir(home.path("shared")).unwrap().flatten();
    let seats = jobs.flat_map(|job| std::fs::read_dir(job.path()).unwrap().flatten()).map(|entry| entry.path());
    let seat = seats.filter(|path| path.is_dir()).max().unwrap();
    let number = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap()[..12].parse::<u64>().unwrap();
    let records = std::fs::read_dir(&seat).unwrap().map(|entry| entry.unwrap().path());
    let last =
        records.filter(|path| path.extension().is_some_and(|ending| ending == "owner")).map(|path| number(&path)).max();
    let record = r#"{"llbatch_owner":1,"host":"far","process":7,"boot":"b1","machine":"","space":1,"started":1,"claim":"c","renewed":3,"every_ms":400,"ended":false}"#;
    let next = seat.join(format!("{:012}.owner", last.unwrap() + 1));
    std::fs::write(seat.join(".new"), record).unwrap();
    std::fs::rename(seat.join(".new"), next).unwrap();
}

/// Begins the task on the machine `a` and ends it by a signal.
fn begin(home: &Home, server: &Server) {
    let first = home.start(copy(home, server, "a", &[]));
    until("some answers", || server.bill() >= 4);
    first.signal("TERM");
    first.wait().code(143);
}

#[test]
fn claim_of_another_host_holds_until_it_shows_no_life() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "50ms"]));
    home.write("in.jsonl", prompts(1..=60));
    begin(&home, &server);
    forge(&home);
    let started = Instant::now();
    let out = home.finish(copy(&home, &server, "b", &[])).code(0);
    assert!(started.elapsed() >= Duration::from_millis(2_400), "{:?}", started.elapsed());
    let out =
        out.says(&["host far (process 7) works on this task too", "shared, until it ends or shows no life for 2s"]);
    waited(&out);
    assert_eq!((server.bill(), server.paid_again()), (60, 0));
    answered(&home.read("b.jsonl"), 1..=60);
}

#[test]
fn task_that_was_frozen_stops_when_it_finds_its_claim_taken() {
    const ROWS: u32 = 1_500;
    let (home, server) = (Home::new(), Server::start(&["--latency", "20ms"]));
    home.write("in.jsonl", prompts(1..=ROWS));
    let frozen = home.start(quick_copy(&home, &server, "a", &[]));
    until("some answers", || server.bill() >= 8);
    frozen.signal("STOP");
    let before = server.bill();
    let second = home.start(quick_copy(&home, &server, "b", &[]));
    until("the copy works", || server.bill() >= before + 50);
    frozen.signal("CONT");
    let out = frozen.wait().code(75).says(&["has taken over this task in", "next      llbatch run"]);
    assert!(out.stderr.contains("still to do"), "{}", out.stderr);
    waited(&second.wait().code(0));
    answered(&home.read("b.jsonl"), 1..=ROWS);
    // What the frozen task had not sealed, what it had in flight, and what it sent in a third of a second.
    assert!(server.paid_again() <= before + 100, "{} paid again, {before} before", server.paid_again());
    // Started again, it takes all the rest.
    let paid = server.bill();
    home.finish(copy(&home, &server, "a", &[])).code(0);
    assert_eq!(server.bill(), paid);
    answered(&home.read("a.jsonl"), 1..=ROWS);
}

#[test]
fn wait_ends_by_a_signal_and_by_the_deadline() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "1s"]));
    home.write("in.jsonl", prompts(1..=400));
    let first = home.start(copy(&home, &server, "a", &[]));
    until("a request", || server.requests() > 0);
    let out = home.finish(copy(&home, &server, "b", &["--deadline", "1500ms"])).code(5);
    waited(&out.says(&["the deadline was reached"]));
    let second = home.start(copy(&home, &server, "c", &[]));
    until_waiting(&second);
    let asked = Instant::now();
    second.signal("TERM");
    let out = second.wait().code(143).says(&["no request is in flight", "terminated (SIGTERM)"]);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    waited(&out);
    assert_eq!(first.kill(), None);
    assert_eq!(server.paid_again(), 0);
}

#[test]
fn tasks_with_other_rows_do_not_wait_for_each_other() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "100ms"]));
    home.write("in.jsonl", prompts(1..=24));
    let tasks = [("a", ["--shard", "1/2"]), ("b", ["--shard", "2/2"]), ("c", ["--limit", "3"])]
        .map(|(machine, more)| home.start(copy(&home, &server, machine, &more)));
    for task in tasks {
        let out = task.wait().code(0);
        assert!(!out.stderr.contains("works on this task too"), "{}", out.stderr);
    }
}
