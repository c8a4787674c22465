//! `llbatch status`.

use serde_json::Value;

use crate::support::{Home, Recorder, Server, prompts, until};

fn status(home: &Home, args: &[&str]) -> Value {
    let out = home.llbatch(&[&["status", "--json"], args].concat()).code(0);
    serde_json::from_str(&out.stdout).unwrap()
}

#[test]
fn document_has_the_members_of_the_contract() {
    let home = Home::new();
    assert_eq!(status(&home, &[]), serde_json::json!({"version": 1, "jobs": []}));
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=4).replace("question 2", "[[sandbox:status=400]]"));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--name", "nightly", "--summary", "s.json"]).code(3);
    let document = status(&home, &[]);
    let job = &document["jobs"][0];
    let keys: Vec<&String> = job.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["job", "name", "transport", "state", "created_at", "input", "tags", "rows", "cost", "batches"]);
    assert_eq!((&job["name"], &job["transport"]), (&"nightly".into(), &"realtime".into()));
    assert_eq!((&job["state"], &job["input"]), (&"partial".into(), &"in.jsonl".into()));
    assert_eq!(job["rows"], serde_json::json!({"total": 4, "succeeded": 3, "failed": 1, "pending": 0}));
    assert_eq!(job["cost"].as_object().unwrap().keys().collect::<Vec<_>>(), ["estimated_usd", "usd"]);
    assert_eq!(job["cost"]["usd"], home.json("s.json")["cost"]["usd"]);
    assert_eq!(job["batches"], serde_json::json!([]));
    let created = job["created_at"].as_str().unwrap();
    assert!(created.ends_with('Z') && created.as_bytes()[10] == b'T', "RFC 3339: {created}");
    // Every way to name it.
    let id = job["job"].as_str().unwrap();
    for name in [id, &id[..7], "nightly", "last"] {
        assert_eq!(status(&home, &[name]), document, "{name}");
    }
    home.llbatch(&["status", "j-zzzzzzzz"]).code(2).says(&["j-zzzzzzzz"]);
}

#[test]
fn sandbox_costs_are_marked() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    let table = home.llbatch(&["status"]).code(0);
    assert!(!table.stdout.contains("($") && !table.stderr.contains("in parentheses"), "{}", table.stdout);
    home.llbatch(&["run", "in.jsonl", "--sandbox", "-o", "out.jsonl"]).code(0);
    let table = home.llbatch(&["status"]).code(0).says(&["in parentheses", "nothing was charged"]);
    assert_eq!(table.stdout.matches("($0.").count(), 1, "{}", table.stdout);
    let marks: Vec<Value> =
        status(&home, &[])["jobs"].as_array().unwrap().iter().map(|job| job["sandbox"].clone()).collect();
    assert_eq!(marks, [Value::Bool(true), Value::Null]);
}

#[test]
fn state_follows_the_job() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    home.write("in.jsonl", prompts(1..=40));
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "4"];
    let state = |home: &Home| status(home, &["last"])["jobs"][0]["state"].as_str().unwrap().to_owned();
    let run = home.spawn(&server, &args);
    server.until_billed(8);
    assert_eq!(state(&home), "running");
    assert_eq!(run.kill(), None);
    until("the lock of the dead to go", || state(&home) == "interrupted");
    // So short a run wrote nothing to the index; the job's own file knows what was answered.
    let known = status(&home, &["last"])["jobs"][0]["rows"]["succeeded"].as_u64().unwrap();
    assert!((1..=server.bill()).contains(&known), "{known} of {}", server.bill());
    let out = home.llbatch(&["status"]).code(0);
    assert!(out.stderr.contains("--resume=j-"), "what to do: {}", out.stderr);
    home.run(&server, &args).code(0);
    assert_eq!(state(&home), "completed");
    home.write("bad.jsonl", prompts(1..=2).replace("question", "[[sandbox:status=400]]"));
    home.run(&server, &["bad.jsonl"]).code(3);
    assert_eq!(state(&home), "failed");
    assert_eq!(status(&home, &[])["jobs"].as_array().unwrap().len(), 2, "newest first, one line a job");
    assert_eq!(status(&home, &["-n", "1"])["jobs"].as_array().unwrap().len(), 1);
}

#[test]
fn status_does_not_disturb_a_starting_run() {
    let home = Home::new();
    let server = Server::start(&["--latency", "20ms"]);
    home.write("in.jsonl", prompts(1..=200));
    let run = home.spawn(&server, &["in.jsonl", "--concurrency", "4"]);
    server.until_billed(3);
    assert_eq!(run.kill(), None);
    // `status` wants to know whether somebody holds the job: asking must not keep anybody from taking it.
    let lookers: Vec<_> = (0..6).map(|_| home.start(home.command(&["status"]))).collect();
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "16"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    for looker in lookers {
        looker.wait().code(0);
    }
}

#[test]
fn table_fits_eighty_columns() {
    let home = Home::new();
    let server = Server::start(&[]);
    let name = format!("{}.jsonl", "a-long-name-".repeat(10));
    home.write(&name, prompts(1..=3));
    home.run(&server, &[&name, "-o", "out.jsonl"]).code(0);
    let out = home.llbatch(&["status"]).code(0);
    assert!(out.stdout.starts_with("JOB "), "{}", out.stdout);
    assert!(out.stdout.contains("completed"), "{}", out.stdout);
    for line in out.stdout.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn status_without_jobs_says_how_to_make_one() {
    let home = Home::new();
    let out = home.llbatch(&["status"]).code(0).says(&["no jobs", "llbatch run"]);
    assert_eq!(out.stdout, "");
}

#[test]
fn an_incomplete_list_of_the_service_is_not_shown_as_the_list() {
    let list = r#"[{"id":"batch_1234567890","status":"COMPLETED"},{"id":null}]"#;
    let recorder = Recorder::answering(|_| ("200 OK", String::new(), list.to_owned()));
    let out = Home::new().at(&recorder.url, &["status", "--remote"]).code(0);
    let out = out.says(&["the service's list is not complete: 1 batch could be read"]);
    assert!(out.stdout.contains("batch_1234567890"), "{}", out.stdout);
}
