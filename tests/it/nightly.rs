//! `samples/nightly.sh` through the nights that a cron job meets.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Home, KEY, Server, answered, codes, prompts, request, rows, until};

/// The script on `input`, publishing into `out`, asking often.
fn night(home: &Home, url: &str, input: &str) -> Command {
    let llbatch = home.command(&[]);
    let mut command = Command::new("bash");
    command
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("samples/nightly.sh"))
        .args([input, "out"])
        .current_dir(home.path(""))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("LLBATCH", llbatch.get_program());
    for (name, value) in llbatch.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.env("TOGETHER_BASE_URL", url).env("NIGHTLY_POLL", "200ms");
    command
}

/// A server whose batches, worked on for `run`, outlive it.
fn server(home: &Home, run: &str, more: &[&str]) -> Server {
    let keep = home.path("server");
    let times = ["--keep", keep.to_str().unwrap(), "--batch-validation", "100ms", "--batch-run", run];
    Server::start(&[&times, more].concat())
}

/// Batches that the server was asked for.
fn batches(server: &Server) -> usize {
    let key = format!("authorization: Bearer {KEY}\r\n");
    let answer = request(&server.address(), "GET", "/v1/batches", &key, "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json().as_array().map_or(0, Vec::len)
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The directories of nights that were published.
fn published(home: &Home) -> Vec<String> {
    let own = ["latest", "queue", "rejected", "suspect", "work"];
    names(&home.path("out")).into_iter().filter(|name| !own.contains(&name.as_str())).collect()
}

/// Nothing is left to do.
#[track_caller]
fn assert_at_rest(home: &Home) {
    assert_eq!(names(&home.path("out/queue")), [""; 0], "the queue");
    assert_eq!(names(&home.path("out/work")), [""; 0], "work");
}

#[test]
fn undisturbed_night_is_published_whole_and_once() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=6));
    let in_sandbox = || {
        let mut command = night(&home, "http://127.0.0.1:9/v1", "in.jsonl");
        command.env("NIGHTLY_SANDBOX", "1").env_remove("TOGETHER_API_KEY");
        command.env("LLBATCH_SANDBOX", "validation=100ms,run=300ms");
        command
    };
    home.finish(in_sandbox()).code(0).says(&["queued in.jsonl", "submitted as j-", "published", "0 failed"]);
    let dirs = published(&home);
    assert_eq!(dirs.len(), 1, "{dirs:?}");
    assert_eq!(std::fs::read_link(home.path("out/latest")).unwrap(), Path::new(&dirs[0]));
    assert_eq!(names(&home.path("out/latest/")), ["failed.jsonl", "results.jsonl", "summary.json"]);
    answered(&home.read("out/latest/results.jsonl"), 1..=6);
    assert_eq!(home.read("out/latest/failed.jsonl"), "");
    assert_eq!(home.json("out/latest/summary.json")["rows"]["succeeded"], 6);
    assert_at_rest(&home);

    let before = home.read("out/latest/results.jsonl");
    home.finish(in_sandbox()).code(0).says(&["published already"]);
    let jobs: Value = serde_json::from_str(&home.llbatch(&["status", "--json", "--offline"]).code(0).stdout).unwrap();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "the same night is not paid for again: {jobs}");
    assert_eq!((published(&home), home.read("out/latest/results.jsonl")), (dirs, before));
}

#[test]
fn two_starts_at_once_make_one_batch_and_one_result() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=5));
    let server = server(&home, "500ms", &[]);
    let starts = [(), (), ()].map(|()| home.start(night(&home, &server.url, "in.jsonl")));
    let said: Vec<String> = starts.map(|start| start.wait().code(0).stderr).into();
    assert_eq!(said.iter().filter(|said| said.contains("submitted as")).count(), 1, "{said:#?}");
    assert_eq!((batches(&server), published(&home).len()), (1, 1));
    answered(&home.read("out/latest/results.jsonl"), 1..=5);
    assert_at_rest(&home);
}

#[test]
fn tonights_input_survives_a_batch_of_last_night() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=4));
    let server = server(&home, "4s", &[]);
    let mut last = home.start(night(&home, &server.url, "in.jsonl"));
    until("last night's batch", || last.stderr().contains("submitted as"));
    // As a program that makes the input does: another file takes its name.
    home.write("in.new", prompts(1..=7));
    std::fs::rename(home.path("in.new"), home.path("in.jsonl")).unwrap();
    let tonight = home.start(night(&home, &server.url, "in.jsonl"));
    until("tonight's batch", || tonight.stderr().contains("submitted as"));
    assert!(last.is_running(), "tonight's batch did not wait for last night's");
    last.wait().code(0).says(&["published"]);
    tonight.wait().code(0).says(&["another start works on it", "published"]);
    assert_eq!(batches(&server), 2);
    let mut results: Vec<String> =
        published(&home).iter().map(|dir| home.read(&format!("out/{dir}/results.jsonl"))).collect();
    results.sort_by_key(String::len);
    assert_eq!(results.len(), 2);
    answered(&results[0], 1..=4);
    answered(&results[1], 1..=7);
    assert_at_rest(&home);
}

#[test]
fn night_that_loses_the_server_resumes_when_started_again() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=5));
    let first = server(&home, "1s", &["--listen", &Server::own_address()]);
    let (url, address) = (first.url.clone(), first.address());
    let mut command = night(&home, &url, "in.jsonl");
    command.env("NIGHTLY_TIMEOUT", "3s");
    let start = home.start(command);
    until("the batch", || start.stderr().contains("submitted as"));
    drop(first);
    start.wait().code(75).says(&["has not ended (exit 75)"]);
    assert_eq!(published(&home), [""; 0]);
    assert_eq!(names(&home.path("out/queue")).len(), 1);

    let again = server(&home, "500ms", &["--listen", &address]);
    assert_eq!(again.url, url);
    // The input is gone by now; it was taken at once.
    std::fs::remove_file(home.path("in.jsonl")).unwrap();
    home.finish(night(&home, &url, "in.jsonl")).code(66).says(&["in.jsonl cannot be read", "published"]);
    assert_eq!((batches(&again), published(&home).len()), (1, 1), "the batch of the first start was used");
    answered(&home.read("out/latest/results.jsonl"), 1..=5);
    assert_at_rest(&home);
}

#[test]
fn refused_key_stops_the_night_and_loses_nothing() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let server = server(&home, "500ms", &["--key", KEY]);
    let mut command = night(&home, &server.url, "in.jsonl");
    command.env("TOGETHER_API_KEY", "another-key");
    home.finish(command).code(4).says(&["not submitted (exit 4)"]);
    assert_eq!(published(&home), [""; 0]);
    home.finish(night(&home, &server.url, "in.jsonl")).code(0).says(&["in the queue already", "published"]);
    assert_eq!((batches(&server), published(&home).len()), (1, 1));
}

#[test]
fn failed_rows_are_sent_once_more_in_real_time() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=6));
    let server = server(
        &home,
        "500ms",
        &["--fault", "status=500,on=row,contains=question 2", "--fault", "status=500,on=row,contains=question 5"],
    );
    home.finish(night(&home, &server.url, "in.jsonl")).code(0).says(&["4 of 6 rows answered", "again in real time"]);
    answered(&home.read("out/latest/results.jsonl"), 1..=6);
    assert_eq!((batches(&server), server.paid_again()), (1, 0));
    assert_eq!(home.read("out/latest/failed.jsonl"), "");
    assert_at_rest(&home);
}

#[test]
fn full_queue_is_waited_for_and_keeps_the_discount() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    home.write("other.jsonl", prompts(9..=9));
    let server = server(&home, "5s", &["--batch-queue", "1"]);
    home.at(&server.url, &["submit", "other.jsonl"]).code(0);
    home.finish(night(&home, &server.url, "in.jsonl"))
        .code(0)
        .says(&["did not begin it (token_limit_exceeded", "published"]);
    answered(&home.read("out/latest/results.jsonl"), 1..=3);
    assert_eq!(server.count("/v1/chat/completions", 200), 0);
    assert_at_rest(&home);
}

#[test]
fn fall_back_to_real_time_says_why_the_discount_is_gone() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let server = server(&home, "500ms", &["--batch-fails", "the model is not served in batches today"]);
    let out = home.finish(night(&home, &server.url, "in.jsonl")).code(0);
    out.says(&["rows that failed: 3 server_error", "not served in batches today", "without the batch discount"]);
    answered(&home.read("out/latest/results.jsonl"), 1..=3);
    assert_at_rest(&home);
}

#[test]
fn rows_that_still_fail_are_published_as_a_list() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=6));
    // At realtime they fail as well.
    let refused = ["--fault", "status=500,on=row,contains=question 2", "--fault", "status=400,on=chat"];
    let server = server(&home, "500ms", &refused);
    home.finish(night(&home, &server.url, "in.jsonl")).code(3).says(&["(exit 3, 1 failed)"]);
    let results = codes(&home.read("out/latest/results.jsonl"));
    assert!(results.len() == 5 && results.iter().all(|(_, code)| code == "ok"), "{results:?}");
    assert_eq!(codes(&home.read("out/latest/failed.jsonl"))[..], [("q2".to_owned(), "invalid_request".to_owned())]);
    assert_at_rest(&home);
    let sent = server.requests();
    home.finish(night(&home, &server.url, "in.jsonl")).code(0).says(&["published already"]);
    assert_eq!(server.requests(), sent, "retried once, not every night");
}

#[test]
fn budget_for_failed_rows_is_respected() {
    for (budget, code) in [("0", 3), ("0.0000001", 5)] {
        let home = Home::new();
        home.write("in.jsonl", prompts(1..=6));
        let server = server(
            &home,
            "500ms",
            &["--fault", "status=500,on=row,contains=question 2", "--fault", "status=500,on=row,contains=question 3"],
        );
        let mut command = night(&home, &server.url, "in.jsonl");
        command.env("NIGHTLY_BUDGET", budget);
        let out = home.finish(command).code(code);
        assert!(!out.stderr.contains("panicked"), "{}", out.stderr);
        let ids = |name: &str| rows(&home.read(name)).into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids("out/latest/results.jsonl"), ["q1", "q4", "q5", "q6"], "budget {budget}");
        assert_eq!(ids("out/latest/failed.jsonl"), ["q2", "q3"], "budget {budget}");
        assert_eq!(server.bill(), 4, "nothing was answered at realtime");
        assert_at_rest(&home);
    }
}

#[test]
fn contract_violation_publishes_nothing() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=4));
    let server = server(&home, "500ms", &["--fault", "foreign,on=row,contains=question 2"]);
    home.finish(night(&home, &server.url, "in.jsonl")).code(76).says(&["broke its contract"]);
    assert_eq!(published(&home), [""; 0]);
    assert_eq!(names(&home.path("out/suspect")).len(), 1);
    assert_at_rest(&home);
}

#[test]
fn missing_or_invalid_input_publishes_nothing() {
    let home = Home::new();
    let server = server(&home, "500ms", &[]);
    home.finish(night(&home, &server.url, "in.jsonl")).code(66).says(&["in.jsonl cannot be read"]);
    home.write("in.jsonl", "{\"id\":\"a\",\"model\":\"m\",\"prompt\":\"p\"}\n{broken\n");
    home.finish(night(&home, &server.url, "in.jsonl")).code(65).says(&[":2:", "the input is wrong"]);
    assert_eq!((batches(&server), published(&home)), (0, Vec::new()));
    assert!(!home.exists("out/latest"));
    let rejected = names(&home.path("out/rejected"));
    assert_eq!(rejected.len(), 2, "the input and what is wrong with it: {rejected:?}");
    assert_at_rest(&home);
    // It does not stand in the way of a good one.
    home.write("in.jsonl", prompts(1..=2));
    home.finish(night(&home, &server.url, "in.jsonl")).code(0);
    answered(&home.read("out/latest/results.jsonl"), 1..=2);
}
