//! Outages of the service.

use std::time::{Duration, Instant};

use super::{POLL, fetch, state, submit, until_said};
use crate::support::{Home, Running, Server, answered, prompts, until};

/// A server on that address whose batches outlive it; the same again after it has gone.
fn server(address: &str, dir: &std::path::Path) -> Server {
    Server::quick(&["--listen", address, "--keep", dir.to_str().unwrap(), "--batch-run", "300ms"])
}

#[test]
fn waiting_outlasts_an_outage() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let first = server(&Server::own_address(), dir.path());
    let (address, url) = (first.address(), first.url.clone());
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &first, &["in.jsonl"]);
    drop(first);
    let mut wait = home.start(home.command_at(&url, &["wait", &id, "--poll", "50ms", "-v"]));
    until_said(&wait, "again in");
    assert!(wait.is_running());
    let second = server(&address, dir.path());
    wait.wait().code(0);
    fetch(&home, &second, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=4);
}

#[test]
fn timeout_holds_during_an_outage() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let gone = server(&Server::own_address(), dir.path());
    let url = gone.url.clone();
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &gone, &["in.jsonl"]);
    drop(gone);
    let started = Instant::now();
    let run = |args: &[&str]| home.at(&url, &[args, &["--timeout", "1s"], &POLL].concat()).code(75);
    run(&["wait", &id]);
    run(&["fetch", &id, "--wait", "-o", "out.jsonl"]);
    run(&["submit", "in.jsonl", "--wait", "-o", "out.jsonl"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(state(&home, &id), "running");
}

/// `llbatch submit -v` of four rows, which waits for the service at `url` to come back.
fn waiting_submit(home: &Home, url: &str) -> Running {
    home.write("in.jsonl", prompts(1..=4));
    let run = home.start(home.command_at(url, &["submit", "in.jsonl", "-v"]));
    until_said(&run, "again in");
    run
}

#[test]
fn submit_waits_briefly_for_an_unreachable_service() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let gone = server(&Server::own_address(), dir.path());
    let (address, url) = (gone.address(), gone.url.clone());
    drop(gone);
    let run = waiting_submit(&home, &url);
    let back = server(&address, dir.path());
    run.wait().code(0);
    assert_eq!(back.batches().len(), 1);
}

#[test]
fn interrupted_submission_resumes() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let gone = server(&Server::own_address(), dir.path());
    let (address, url) = (gone.address(), gone.url.clone());
    drop(gone);
    let run = waiting_submit(&home, &url);
    run.signal("TERM");
    let id = run.wait().code(143).stdout.trim_end().to_owned();
    assert_eq!(state(&home, &id), "interrupted");
    let back = server(&address, dir.path());
    // Nothing can come of batches that were never sent; a waiting user gets a message.
    home.at(&url, &["wait", &id, "--poll", "50ms"]).code(1).says(&["stopped before it submitted", "llbatch retry"]);
    home.at(&url, &["retry", &id]).says(&["submitting"]);
    assert_eq!(back.batches().len(), 1);
    fetch(&home, &back, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=4);
}

#[test]
fn status_needs_neither_service_nor_key() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let gone = server(&Server::own_address(), dir.path());
    let url = gone.url.clone();
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &gone, &["in.jsonl"]);
    let mut keyless = home.command_at(&url, &["status"]);
    keyless.env_remove("TOGETHER_API_KEY");
    let out = home.finish(keyless).code(4).says(&["as last known"]);
    assert!(out.stdout.contains(&id), "{}", out.stdout);
    drop(gone);
    let out = home.at(&url, &["status"]).code(75).says(&["as last known"]);
    assert!(out.stdout.contains(&id), "{}", out.stdout);
    let out = home.at(&url, &["status", "--offline"]).code(0);
    assert!(out.stdout.contains(&id), "{}", out.stdout);
}

#[test]
fn job_killed_before_planning_has_no_results() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=20_000));
    // Between the job's entry and its plan lies the copy of its input.
    let mut caught = false;
    for _ in 0..20 {
        let run = home.start(home.command_at(&server.url, &["submit", "in.jsonl"]));
        let entered = |jobs: std::fs::ReadDir| jobs.flatten().any(|file| file.path().is_dir());
        until("the copy", || std::fs::read_dir(home.state().join("jobs")).is_ok_and(entered));
        assert_eq!(run.kill(), None);
        let known = super::status(&home, &server, &[]);
        caught = known["jobs"][0]["batches"] == serde_json::json!([]);
        if caught || !server.batches().is_empty() {
            break;
        }
    }
    assert!(caught, "killed too late");
    for args in
        [&["fetch", "last", "-o", "out.jsonl"][..], &["fetch", "last", "--wait", "-o", "out.jsonl"], &["wait", "last"]]
    {
        home.at(&server.url, args).code(1).says(&["before its batches were planned", "llbatch submit"]);
        assert!(!home.exists("out.jsonl"), "rows without an end are written on demand only (--partial)");
    }
    assert_eq!(server.requests(), 0);
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=20_000);
}
