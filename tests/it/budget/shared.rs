//! Budgets of commands that run at the same time, or that were killed.

use serde_json::Value;

use super::{billed, rows};
use crate::support::{Home, Running, Server, until};

#[test]
fn simultaneous_commands_share_the_daily_budget() {
    let home = Home::new();
    let server = Server::start(&["--latency", "20ms"]);
    home.write("c.toml", "[budget]\nper_day = 0.0005\n");
    let names = ["a", "b", "c", "d"].map(|name| format!("{name}.jsonl"));
    for name in &names {
        // Each would spend more than half of it.
        home.write(name, rows(80, 50).replace("question", name));
    }
    let start = |name: &String| {
        let args = ["run", name, "-o", &format!("{name}.out.jsonl"), "--concurrency", "4", "--config", "c.toml"];
        home.start(home.command_at(&server.url, &args))
    };
    let mut running: Vec<_> = names.iter().map(start).collect();
    server.until_billed(20);
    // One of them dies with what it has reserved.
    running.pop().unwrap().kill();
    for run in running {
        let out = run.wait();
        assert!(out.code == 0 || (out.code == 5 && out.stderr.contains("for today")), "{} {}", out.code, out.stderr);
    }
    assert!(billed(&server) <= 0.0005, "{}", billed(&server));
    // The reservation of the killed run is released, except for requests in flight: nearly all of the budget is free.
    home.finish({
        let args = ["run", "d.jsonl", "-o", "d.out.jsonl", "--concurrency", "4", "--config", "c.toml"];
        home.command_at(&server.url, &args)
    })
    .code(5)
    .says(&["for today"]);
    let spent = billed(&server);
    assert!((0.0004..=0.0005).contains(&spent), "{spent}");
}

#[test]
fn simultaneous_submissions_share_the_daily_budget() {
    let home = Home::new();
    let server = Server::start(&["--batch-run", "60s"]);
    // One fits, two do not.
    home.write("c.toml", "[budget]\nper_day = 0.001\n");
    let names = ["a", "b", "c", "d", "e", "f"].map(|name| format!("{name}.jsonl"));
    for name in &names {
        home.write(name, rows(20, 1000).replace("question", name));
    }
    let starts =
        names.each_ref().map(|name| home.start(home.command_at(&server.url, &["submit", name, "--config", "c.toml"])));
    let ends = starts.map(Running::wait);
    let said: Vec<&str> = ends.iter().map(|out| out.stderr.as_str()).collect();
    let codes = ends.each_ref().map(|out| out.code);
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| [0, 5].contains(code)), "{codes:?} {said:#?}");
    assert_eq!(server.stats()["batches"]["jobs"].as_array().unwrap().len(), 1);
}

/// The job's database as a broken disk leaves it.
pub(super) fn damage(home: &Home, job: &str) {
    let path = home.state().join("jobs").join(format!("{job}.db"));
    std::fs::write(&path, "no database at all, and long enough to be looked at as one: ".repeat(20)).unwrap();
    for ending in ["db-wal", "db-shm"] {
        drop(std::fs::remove_file(path.with_extension(ending)));
    }
}

#[test]
fn damaged_job_counts_its_reservation_and_blocks_no_other() {
    let home = Home::new();
    let server = Server::start(&["--batch-run", "60s", "--latency", "50ms"]);
    home.write("c.toml", "[budget]\nper_day = 0.001\n");
    home.write("small.jsonl", rows(2, 50));
    home.write("large.jsonl", rows(20, 1400));
    let command = |args: &[&str]| home.at(&server.url, &[args, &["--config", "c.toml"]].concat());
    let held = command(&["submit", "large.jsonl"]).code(0).stdout.trim().to_owned();
    damage(&home, &held);
    let name = format!("jobs/{held}.db");
    command(&["run", "small.jsonl", "-o", "small.out.jsonl"]).code(0).says(&[&name, "with $0.0008"]);
    command(&["submit", "large.jsonl", "--again"]).code(5).says(&[&name, "up to $0.0008"]);
    // Nothing is known of one that no budget was asked about.
    home.write("other.jsonl", rows(20, 50).replace("question", "other"));
    let running = home.start(home.command_at(&server.url, &["run", "other.jsonl", "--concurrency", "1"]));
    server.until_billed(4);
    running.kill();
    let unknown = home.llbatch(&["status", "last", "--json"]).code(0).stdout;
    let unknown: Value = serde_json::from_str(&unknown).unwrap();
    let unknown = unknown["jobs"][0]["job"].as_str().unwrap().to_owned();
    damage(&home, &unknown);
    let name = format!("jobs/{unknown}.db");
    let before = server.requests();
    command(&["run", "small.jsonl", "--fresh", "-o", "small.out.jsonl"]).code(74).says(&[
        &name,
        "llbatch cannot tell what",
        "move that file away",
    ]);
    assert_eq!(server.requests(), before);
    std::fs::remove_file(home.state().join(name)).unwrap();
    command(&["run", "small.jsonl", "--fresh", "-o", "small.out.jsonl"]).code(0);
}

#[test]
fn last_spending_of_a_killed_run_counts_once() {
    let home = Home::new();
    let server = Server::start(&["--latency", "25ms"]);
    home.write("c.toml", "[budget]\nper_day = 0.01\n");
    home.write("in.jsonl", rows(40, 50));
    home.write("large.jsonl", rows(200, 5000));
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "1", "--config", "c.toml"];
    let running = home.spawn(&server, &args);
    // Sooner than the index of jobs knows.
    server.until_billed(37);
    running.kill();
    let refused = || {
        let out = home.at(&server.url, &["submit", "large.jsonl", "--config", "c.toml"]).code(5);
        let amount = |end: &str| {
            let text = out.stderr.split(end).next().unwrap();
            text.rsplit('$').next().unwrap().trim().parse::<f64>().unwrap()
        };
        (amount(" spent,"), amount(" reserved for"))
    };
    let (spent, in_flight) = refused();
    assert!(spent + in_flight >= billed(&server) * 0.999, "{spent} {in_flight} {}", billed(&server));
    home.run(&server, &args).code(0);
    let (spent, in_flight) = refused();
    assert!((spent - billed(&server)).abs() < billed(&server) * 0.15, "{spent} {}", billed(&server));
    // A few rows were in flight when it died; what it had been answered is not.
    assert!(in_flight < billed(&server) / 2.0, "{in_flight} {}", billed(&server));
}

/// Two runs whose budget is enough for one request at its worst, and for all as they are: the second one waits.
fn second_waits_for_first(home: &Home, server: &Server) -> [Running; 2] {
    home.write("c.toml", "[budget]\nper_day = 0.00014\n");
    home.write("a.jsonl", rows(3, 1400));
    home.write("b.jsonl", rows(3, 1400).replace("question", "other"));
    let start = |name: &str| {
        let (input, out) = (format!("{name}.jsonl"), format!("{name}.out.jsonl"));
        let args = ["run", &input, "-o", &out, "--concurrency", "1", "--config", "c.toml"];
        home.start(home.command_at(&server.url, &args))
    };
    let first = start("a");
    server.until_billed(1);
    let second = start("b");
    until("it to say that it waits", || second.stderr().contains("waiting for them to release it"));
    [first, second]
}

#[test]
fn run_waits_for_a_reservation_that_may_be_released() {
    let home = Home::new();
    let server = Server::start(&["--latency", "400ms"]);
    let [first, second] = second_waits_for_first(&home, &server);
    first.wait().code(0);
    let out = second.wait().code(0);
    assert_eq!(out.stderr.matches("waiting for them").count(), 1, "{}", out.stderr);
    assert!(billed(&server) <= 0.00014, "{}", billed(&server));
}

#[test]
fn signal_ends_the_wait_for_a_reservation() {
    let home = Home::new();
    let server = Server::start(&["--latency", "1s"]);
    let [first, second] = second_waits_for_first(&home, &server);
    second.signal("INT");
    assert_eq!(second.wait().code, 130);
    first.kill();
}
