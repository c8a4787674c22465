//! What is in the store needs neither key nor network, and what costs nothing to look at comes before the key.

use crate::support::{Home, Out, Server, answered, prompts};

/// `llbatch ARGS` at Together without a key. Nothing is sent.
fn keyless(home: &Home, args: &[&str]) -> Out {
    let mut command = home.command(args);
    command.env_remove("TOGETHER_API_KEY").env_remove("TOGETHER_BASE_URL");
    home.finish(command)
}

#[test]
fn job_of_the_sandbox_uses_the_sandbox_by_itself() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=4));
    let slow = ["submit", "in.jsonl", "--sandbox"];
    let id = keyless(&home, &slow).code(0).stdout.trim_end().to_owned();
    keyless(&home, &["status"]).code(0).says(&["sandbox:"]);
    keyless(&home, &["status", &id]).code(0).says(&["sandbox:"]);
    keyless(&home, &["wait", &id]).code(0).says(&["sandbox:", &format!("{id} completed: 4 of 4 rows answered")]);
    keyless(&home, &["fetch", "last", "-o", "out.jsonl"]).code(0);
    answered(&home.read("out.jsonl"), 1..=4);
    keyless(&home, &["retry", &id, "--dry-run"]).code(0);
    keyless(&home, &["retry", &id]).code(0);
    keyless(&home, &["cancel", &id]).code(0).says(&["it has ended"]);
    keyless(&home, &["report", &id]).code(0);
    // A service that the user names is not the job's.
    let other = keyless(&home, &["fetch", &id, "--base-url", "http://127.0.0.1:9/v1", "-o", "other.jsonl"]);
    other.code(0);
    keyless(&home, &["clean", &id, "--remote"]).code(0).says(&["sandbox:", "removed"]);
}

/// One row fails, in a batch and in real time.
const FAULTS: [&str; 4] =
    ["--fault", "status=400,on=row,contains=question 2", "--fault", "status=400,contains=question 2"];

#[test]
fn stored_results_need_neither_key_nor_network() {
    let (home, server) = (Home::new(), Server::quick(&FAULTS));
    home.write("in.jsonl", prompts(1..=4));
    let batch = home.at(&server.url, &["submit", "in.jsonl"]).code(0).stdout.trim_end().to_owned();
    keyless(&home, &["fetch", &batch, "-o", "early.jsonl"]).code(2).says(&["belongs to"]);
    let mut command = home.command_at(&server.url, &["fetch", &batch, "-o", "early.jsonl"]);
    command.env_remove("TOGETHER_API_KEY");
    home.finish(command).code(4).says(&["401", "no key was sent"]);
    home.at(&server.url, &["fetch", &batch, "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(3);
    home.run(&server, &["in.jsonl", "-o", "run.jsonl"]).code(3);
    let run = {
        let out = home.llbatch(&["status", "last", "--json"]).code(0);
        serde_json::from_str::<serde_json::Value>(&out.stdout).unwrap()["jobs"][0]["job"].as_str().unwrap().to_owned()
    };
    drop(server);
    for (job, results) in [(&batch, "out.jsonl"), (&run, "run.jsonl")] {
        keyless(&home, &["fetch", job, "-o", "again.jsonl"]).code(3);
        assert_eq!(home.read("again.jsonl"), home.read(results));
        keyless(&home, &["wait", job]).code(3);
        keyless(&home, &["retry", job, "--all", "--dry-run"]).code(0).says(&["1 row"]);
        keyless(&home, &["cancel", job]).code(0).says(&["it has ended"]);
        keyless(&home, &["report", job]).code(0);
        keyless(&home, &["status", job]).code(0);
        keyless(&home, &["retry", job, "--all"]).code(2).says(&["belongs to"]);
        keyless(&home, &["clean", job]).code(0);
    }
}

#[test]
fn key_is_asked_for_last() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2));
    home.write("bad.jsonl", "{\"prompt\":\n");
    home.write("file", "");
    for command in ["run", "submit"] {
        let wait = if command == "submit" { &["--wait"][..] } else { &[] };
        let with = |args: &[&str]| keyless(&home, &[&[command], args, wait].concat());
        with(&["nothere.jsonl"]).code(66).says(&["nothere.jsonl"]);
        with(&["bad.jsonl"]).code(65);
        with(&["in.jsonl", "-o", "file/out.jsonl"]).code(74).says(&["file/out.jsonl"]);
        with(&["in.jsonl", "-o", "in.jsonl"]).code(2);
        with(&["in.jsonl", "--prompt", "{{ broken"]).code(2);
        with(&["in.jsonl", "-o", "out.jsonl"]).code(4).says(&["no API key"]);
        assert!(!home.exists("out.jsonl"));
    }
    assert_eq!(
        home.llbatch(&["status", "--json"]).code(0).stdout.matches("\"job\"").count(),
        0,
        "no job is left behind"
    );
    for command in ["fetch", "wait", "retry", "cancel"] {
        keyless(&home, &[command, "j-zzzzzzzz"]).code(2).says(&["no job `j-zzzzzzzz`"]);
    }
}
