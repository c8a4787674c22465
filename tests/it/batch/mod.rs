//! Batch jobs: `submit`, `status`, `wait`, `fetch`, `retry`, `cancel`, `clean`.

mod adopt;
mod again;
mod cancel;
mod clean;
mod dedupe;
mod doubt;
mod ends;
mod fetch;
mod given_up;
mod images;
mod input;
mod key;
mod late;
mod lines;
mod odd;
mod odd_answers;
mod openai;
mod outage;
mod postponed;
mod rescue;
mod retry;
mod reuse;
mod review;
mod status;
mod submit;
mod taken_over;

use serde_json::Value;

use crate::support::{Home, Out, Server, codes, side_by_side};

/// Asks often enough for a test.
const POLL: [&str; 2] = ["--poll", "50ms"];

/// `llbatch submit ARGS`, which must succeed; the job's id.
#[track_caller]
fn submit(home: &Home, server: &Server, args: &[&str]) -> String {
    let out = home.at(&server.url, &[&["submit"], args].concat()).code(0);
    let id = out.stdout.trim_end().to_owned();
    assert!(id.len() == 10 && id.starts_with("j-") && out.stdout == format!("{id}\n"), "{:?}", out.stdout);
    id
}

/// `llbatch fetch JOB --wait -o out.jsonl --summary s.json ARGS`.
fn fetch(home: &Home, server: &Server, job: &str, args: &[&str]) -> Out {
    let all = [&["fetch", job, "--wait", "-o", "out.jsonl", "--summary", "s.json"], &POLL[..], args].concat();
    home.at(&server.url, &all)
}

/// `llbatch status --json ARGS`, which must succeed.
#[track_caller]
fn status(home: &Home, server: &Server, args: &[&str]) -> Value {
    let out = home.at(&server.url, &[&["status", "--json"], args].concat()).code(0);
    serde_json::from_str(&out.stdout).unwrap()
}

/// The state that `status` shows without asking the service.
#[track_caller]
fn state(home: &Home, job: &str) -> String {
    let out = home.llbatch(&["status", job, "--json", "--offline"]).code(0);
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    document["jobs"][0]["state"].as_str().unwrap().to_owned()
}

/// The error codes of the results, in order.
#[track_caller]
fn ends(home: &Home) -> Vec<String> {
    codes(&home.results("out.jsonl")).into_iter().map(|(_, code)| code).collect()
}

/// Waits until the command has said `text`.
#[track_caller]
fn until_said(run: &crate::support::Running, text: &str) {
    crate::support::until(text, || run.stderr().contains(text));
}
