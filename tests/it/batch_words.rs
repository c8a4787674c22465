//! Messages of the batch commands: the existing job, the next command, ids that can be copied.

use std::process::Command;

use serde_json::Value;

use crate::support::{Home, prompts};

/// `llbatch ARGS` against the built-in server, scripted.
fn sandbox(home: &Home, script: &str, args: &[&str]) -> Command {
    let mut command = home.command(args);
    command.arg("--sandbox").env("LLBATCH_SANDBOX", script);
    command
}

#[test]
fn resubmitted_content_names_the_existing_job() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let first = home.finish(sandbox(&home, "run=10m", &["submit", "in.jsonl"])).code(0);
    let id = first.stdout.trim();
    let first = first.stderr;
    assert!(first.contains(&format!("job {id}: 3 rows in 1 batch, about $")), "{first}");
    let again = home.finish(sandbox(&home, "run=10m", &["submit", "in.jsonl"])).code(0);
    assert_eq!(again.stdout.trim(), id);
    again.says(&[&format!(
        "job {id} (running) already has this content, so nothing is sent again; --again starts a second"
    )]);
}

#[test]
fn running_job_shows_its_whole_batch_id_and_deadline() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    home.finish(sandbox(&home, "run=10m", &["submit", "in.jsonl"])).code(0);
    let shown = home.finish(sandbox(&home, "", &["status", "last"])).code(0).stdout;
    let document: Value =
        serde_json::from_str(&home.finish(sandbox(&home, "", &["status", "last", "--json"])).code(0).stdout).unwrap();
    let id = document["jobs"][0]["batches"][0]["id"].as_str().unwrap();
    assert!(shown.contains(id), "{shown}");
    assert!(shown.contains("the last batch ends or expires by "), "{shown}");
    // The sandbox is asked by itself, and that is said.
    home.llbatch(&["status"]).code(0).says(&["sandbox: answers are made up on this machine"]);
    let report = home.llbatch(&["report", "last"]).stdout;
    assert!(report.contains("running") && report.contains(" --wait -o FILE"), "{report}");
}

#[test]
fn service_errors_are_shown_in_full() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2));
    let why = "line 2 of the input file names a model that batches do not serve at all, nor ever did";
    home.finish(sandbox(
        &home,
        &format!("validation=50ms;fails={why}"),
        &["submit", "in.jsonl", "--wait", "-o", "out.jsonl"],
    ))
    .code(3);
    let shown = home.finish(sandbox(&home, "", &["status", "last"])).code(0).stdout;
    assert!(shown.contains(why), "{shown}");
}

#[test]
fn retry_respects_its_budget() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=4));
    let script = "validation=50ms,run=200ms;fault=status=500,on=row,contains=question 2";
    home.finish(sandbox(&home, script, &["submit", "in.jsonl", "--wait", "-o", "out.jsonl"])).code(3);
    let retry = ["retry", "last", "--via", "realtime", "--max-cost"];
    let out = home.finish(sandbox(&home, "", &[&retry[..], &["0.0000001"]].concat())).code(5);
    assert!(out.stderr.contains("--max-cost") && !out.stderr.contains("panicked"), "{}", out.stderr);
    // In batches it is refused before anything is sent; the row keeps the error that it had.
    let batch = ["retry", "last", "--max-cost", "0.0000001"];
    home.finish(sandbox(&home, "", &batch)).code(5).says(&["may cost up to", "nothing was sent"]);
    home.finish(sandbox(&home, "", &["fetch", "last", "-o", "same.jsonl"])).code(3);
    assert_eq!(home.read("same.jsonl"), home.read("out.jsonl"));
    home.finish(sandbox(&home, "", &[&retry[..], &["1"]].concat()))
        .code(0)
        .says(&["4 answered", "-o FILE` writes the results"]);
}
