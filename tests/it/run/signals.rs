//! SIGINT, SIGTERM, SIGHUP: once, and twice.

use std::time::{Duration, Instant};

use crate::support::{Home, Server, answered, codes, prompts, until};

#[test]
fn one_signal_finishes_requests_in_flight_and_is_resumable() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let home = Home::new();
        let server = Server::start(&["--latency", "100ms"]);
        home.write("in.jsonl", prompts(1..=60));
        home.write("out.jsonl", "yesterday's results\n");
        let whole = ["in.jsonl", "-o", "out.jsonl", "--errors", "err.jsonl", "--summary", "s.json", "--concurrency"];
        let run = home.spawn(&server, &[&whole[..], &["4"]].concat());
        server.until_billed(6);
        run.signal(signal);
        run.wait().code(code).says(&["out.jsonl stays as it was and out.jsonl.partial holds what there is"]);
        let paid = server.bill();
        assert!(paid < 40, "SIG{signal}: it stopped starting: {paid}");
        assert_eq!(home.read("out.jsonl"), "yesterday's results\n", "SIG{signal}: a half result replaces nothing");
        assert!(!home.exists("err.jsonl"));
        let seen = codes(&[home.read("out.jsonl.partial"), home.read("err.jsonl.partial")].concat());
        assert_eq!(seen.len(), 60, "every row is in the results");
        let good = seen.iter().filter(|(_, code)| code == "ok").count() as u64;
        assert_eq!(good, paid, "SIG{signal}: nothing that was paid for was dropped");
        assert!(seen.iter().all(|(_, code)| code == "ok" || code == "interrupted"), "{seen:?}");
        let summary = home.json("s.json");
        assert_eq!(summary["exit"]["code"], code);
        assert_eq!(summary["state"], "interrupted");
        assert_eq!(summary["rows"]["succeeded"], paid);
        assert_eq!(summary["rows"]["pending"], 60 - paid);

        home.run(&server, &[&whole[..], &["20"]].concat()).code(0);
        answered(&home.read("out.jsonl"), 1..=60);
        assert!(!home.exists("out.jsonl.partial") && !home.exists("err.jsonl.partial"), "SIG{signal}: stale");
        assert_eq!((server.bill(), server.paid_again()), (60, 0), "SIG{signal}");
        assert_eq!(home.json("s.json")["http"]["sent"], 60 - paid);
    }
}

#[test]
fn next_command_of_the_summary_resumes() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    home.write("in.jsonl", prompts(1..=30));
    let run = home.spawn(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "2"]);
    server.until_billed(3);
    run.signal("INT");
    run.wait().code(130);
    let next = home.json("s.json")["exit"]["next"].as_str().unwrap().to_owned();
    let words: Vec<&str> = next.split(' ').collect();
    assert_eq!(words[0], "llbatch");
    home.llbatch(&words[1..]).code(0);
    answered(&home.read("out.jsonl"), 1..=30);
    assert_eq!(server.paid_again(), 0);
}

#[test]
fn second_signal_ends_the_run_at_once() {
    let home = Home::new();
    // Row 4 hangs, the first time.
    let server = Server::start(&["--fault", "hang,contains=question 4,times=1"]);
    home.write("in.jsonl", prompts(1..=4));
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "4"];
    let mut run = home.spawn(&server, &args);
    server.until_billed(3);
    until("row 4 in flight", || server.stats()["faults"] == 1);
    run.signal("INT");
    std::thread::sleep(Duration::from_millis(400));
    assert!(run.is_running(), "once: what is in flight may finish");
    let second = Instant::now();
    run.signal("INT");
    run.wait().code(130);
    assert!(second.elapsed() < Duration::from_secs(5), "{:?}", second.elapsed());
    let at_risk = home.json("s.json")["cost"]["at_risk_usd"].as_f64().unwrap();
    assert!(at_risk > 0.0, "the request in flight may have been billed");
    let out = home.run(&server, &args).code(0);
    answered(&home.read("out.jsonl"), 1..=4);
    assert_eq!((server.bill(), server.paid_again()), (4, 0));
    assert!(!out.stderr.contains("row-5"), "there is no such row:\n{}", out.stderr);
}

#[test]
fn signalled_run_leaves_nothing_in_doubt() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    home.write("in.jsonl", prompts(1..=60));
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "4"];
    let run = home.spawn(&server, &args);
    server.until_billed(6);
    run.signal("INT");
    run.wait().code(130);
    assert_eq!(home.json("s.json")["cost"]["at_risk_usd"], 0, "all that was in flight has come back");
    let out = home.run(&server, &args).code(0);
    for word in ["killed", "billed twice"] {
        assert!(!out.stderr.contains(word), "nothing was lost, yet it says {word:?}:\n{}", out.stderr);
    }
    assert_eq!(home.json("s.json")["cost"]["at_risk_usd"], 0);
}

#[test]
fn stdout_gets_every_row_after_a_signal() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    home.write("in.jsonl", prompts(1..=40));
    let run = home.spawn(&server, &["in.jsonl", "--concurrency", "2"]);
    server.until_billed(4);
    run.signal("INT");
    let out = run.wait().code(130);
    let seen = codes(&out.stdout);
    assert_eq!(seen.len(), 40);
    assert_eq!(seen.iter().filter(|(_, code)| code == "ok").count() as u64, server.bill());
}

#[test]
fn inherited_ignore_of_a_signal_is_respected() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    home.write("in.jsonl", prompts(1..=30));
    // This is what nohup does.
    let run = home.run_command(&server.url, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "4"]);
    let mut nohup = std::process::Command::new("/bin/sh");
    nohup.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(run.get_program()).args(run.get_args());
    nohup.current_dir(run.get_current_dir().unwrap()).env_clear();
    nohup.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let run = home.start(nohup);
    server.until_billed(3);
    run.signal("HUP");
    run.wait().code(0);
    answered(&home.read("out.jsonl"), 1..=30);
}

#[test]
fn stalled_reader_cannot_hold_the_run() {
    let home = Home::new();
    let server = Server::start(&[]);
    // More than a pipe holds: some 25 of these rows do so.
    home.write("in.jsonl", prompts(1..=2000).replace("\"max_tokens\":16", "\"max_tokens\":400"));
    let mut command = home.run_command(&server.url, &["in.jsonl", "--concurrency", "8"]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    // Answers that nobody takes hold back further requests.
    server.until_billed(30);
    let signal = || {
        let kill = format!("kill -INT {}", child.id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    };
    signal();
    std::thread::sleep(Duration::from_millis(300));
    signal();
    let mut ended = None;
    until("it has gone", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(130));
}

#[test]
fn closed_pipe_leaves_nothing_in_doubt() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=500));
    let mut command = home.run_command(&server.url, &["in.jsonl"]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    server.until_billed(2);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(141));
    let paid = server.bill();
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "20"]).code(0);
    assert!(!out.stderr.contains("billed twice"), "{}", out.stderr);
    answered(&home.read("out.jsonl"), 1..=500);
    assert_eq!((server.bill(), server.paid_again()), (500, 0), "{paid} were paid before the pipe was closed");
}

#[test]
fn first_signal_says_what_is_in_flight_and_grace_bounds_it() {
    for (signal, code, again) in [("INT", 130, "Ctrl-C again stops at once"), ("TERM", 143, "a second signal stops")] {
        let home = Home::new();
        // The first row is answered.
        let server = Server::start(&["--fault", "hang,contains=question 2", "--fault", "hang,contains=question 3"]);
        home.write("in.jsonl", prompts(1..=4));
        let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "2", "--grace", "1s"];
        let run = home.spawn(&server, &args);
        until("two in flight", || server.stats()["faults"] == 2);
        let signalled = Instant::now();
        run.signal(signal);
        until("the notice", || run.stderr().contains("2 requests in flight are finishing (1s at most)"));
        assert!(run.stderr().contains(again), "{}", run.stderr());
        run.wait().code(code).says(&["out.jsonl.partial"]);
        assert_eq!(home.read("out.jsonl.partial").lines().count(), 4);
        assert!(!home.exists("out.jsonl"));
        assert!(signalled.elapsed() < Duration::from_secs(15), "{:?}", signalled.elapsed());
    }
}

#[test]
fn first_signal_during_a_wait_for_batches_says_so() {
    let home = Home::new();
    let server = Server::start(&["--batch-validation", "1h"]);
    home.write("in.jsonl", prompts(1..=2));
    let wait = ["submit", "in.jsonl", "--wait", "-o", "out.jsonl", "--poll", "50ms"];
    let run = home.start(home.command_at(&server.url, &wait));
    until("a batch", || !server.batches().is_empty());
    run.signal("TERM");
    run.wait().code(143).says(&["stopping after the request in progress; a second signal stops at once"]);
}
