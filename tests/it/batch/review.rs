//! Regressions: each of these once lost a row or paid for one twice.

use serde_json::Value;

use super::{POLL, fetch, status, submit};
use crate::support::{Home, Recorder, Server, answered, prompts};

#[test]
fn clean_keeps_a_file_that_another_job_uses() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1500ms"]));
    home.write("in.jsonl", prompts(1..=3));
    let first = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &first, &[]).code(0);
    // The same bytes: the service says 409, and both are made from one file.
    let second = submit(&home, &server, &["in.jsonl"]);
    assert_ne!(first, second);
    home.at(&server.url, &["clean", &first, "--remote"]).code(0);
    fetch(&home, &server, &second, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
}

#[test]
fn rescue_runs_although_nothing_could_be_submitted() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=500,on=register,times=always"]));
    home.write("in.jsonl", prompts(1..=5));
    let args = ["submit", "in.jsonl", "--deadline", "2s", "--rescue", "-o", "out.jsonl"];
    home.at(&server.url, &[&args[..], &POLL].concat()).code(0).says(&["uploading batch 1", "in real time"]);
    answered(&home.read("out.jsonl"), 1..=5);
    assert_eq!((server.batches().len(), server.bill()), (0, 5));
}

#[test]
fn resumed_submission_respects_its_budget() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=5));
    // Planned, and refused at the door.
    let server = Server::quick(&["--fault", "status=403,on=register,times=1"]);
    home.at(&server.url, &["submit", "in.jsonl"]).code(4);
    let args = ["submit", "in.jsonl", "--max-cost", "0.0000001"];
    home.at(&server.url, &args).code(5).says(&["may cost up to", "nothing was sent"]);
    home.at(&server.url, &["retry", "last", "--max-cost", "0.0000001"]).code(5);
    assert_eq!(server.batches().len(), 0);
    let id = submit(&home, &server, &["in.jsonl", "--max-cost", "1"]);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=5);
}

#[test]
fn waits_in_opposite_order_both_end() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "600ms"]));
    home.write("a.jsonl", prompts(1..=2));
    home.write("b.jsonl", prompts(3..=4));
    let (a, b) = (submit(&home, &server, &["a.jsonl"]), submit(&home, &server, &["b.jsonl"]));
    let wait = |first: &str, second: &str| {
        let args = ["wait", first, second, "--timeout", "30s", "--poll", "50ms"];
        home.start(home.command_at(&server.url, &args))
    };
    let (one, other) = (wait(&a, &b), wait(&b, &a));
    one.wait().code(0);
    other.wait().code(0);
}

#[test]
fn result_files_named_late_are_waited_for() {
    let (home, server) = (Home::new(), names_its_files_after(2));
    home.write("in.jsonl", prompts(1..=2));
    let args = ["submit", "in.jsonl", "--wait", "-o", "out.jsonl", "--summary", "s.json"];
    home.at(&server.url, &[&args[..], &POLL].concat()).code(0);
    assert_eq!(home.json("s.json")["rows"]["succeeded"], Value::from(2));
    let known = status_offline(&home);
    assert_eq!(known["jobs"][0]["batches"][0]["output_file_id"], "file-out");
}

#[test]
fn result_files_not_named_in_time_are_left_for_later() {
    let (home, server) = (Home::new(), names_its_files_after(u32::MAX));
    home.write("in.jsonl", prompts(1..=2));
    let args = ["submit", "in.jsonl", "--wait", "--timeout", "5s", "-o", "out.jsonl"];
    home.at(&server.url, &[&args[..], &POLL].concat())
        .code(75)
        .says(&["does not name its results", "--timeout has passed"]);
    assert!(!home.exists("out.jsonl"));
    assert_eq!(server.count("POST /v1/batches"), 1);
}

/// A service that says COMPLETED at once, and names the answers when it has been asked so often.
fn names_its_files_after(questions: u32) -> Recorder {
    let body = |id: &str| {
        format!(r#"{{"custom_id":"{id}","response":{{"status_code":200,"body":{}}}}}"#, Recorder::chat("\"ok\""))
    };
    let answers = format!("{}\n{}\n", body("q1"), body("q2"));
    let asked = std::sync::atomic::AtomicU32::new(0);
    Recorder::answering(move |request| {
        let line = request.head.lines().next().unwrap_or_default().to_owned();
        let ok = |text: String| ("200 OK", String::new(), text);
        let batch = |more: &str| {
            format!(r#"{{"id":"batch-0001","status":"COMPLETED","input_file_id":"file-in","progress":100{more}}}"#)
        };
        if line.contains("POST /v1/files ") {
            let host =
                request.head.lines().find_map(|l| l.strip_prefix("host: ")).unwrap_or_default().trim().to_owned();
            let headers = format!("location: http://{host}/put\r\nx-together-file-id: file-in\r\n");
            return ("302 Found", headers, String::new());
        }
        if line.contains("/content") {
            return ok(answers.clone());
        }
        if line.contains("/v1/files/file-in") {
            return ok(r#"{"id":"file-in","filename":"x","processed":true}"#.to_owned());
        }
        if line.contains("/v1/files/file-out") {
            return ok(r#"{"id":"file-out","filename":"y"}"#.to_owned());
        }
        if line.contains("POST /v1/batches") {
            return ("201 Created", String::new(), format!(r#"{{"job":{}}}"#, batch("")));
        }
        if line.contains("GET /v1/batches/") {
            let named = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= questions;
            return ok(batch(if named { r#","output_file_id":"file-out""# } else { "" }));
        }
        ok(String::new())
    })
}

fn status_offline(home: &Home) -> Value {
    let out = home.llbatch(&["status", "--json", "--offline"]).code(0);
    serde_json::from_str(&out.stdout).unwrap()
}

#[test]
fn missing_results_file_does_not_block_the_others() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let other = prompts(3..=4).replace("3.2-3B-Instruct", "3.3-70B-Instruct");
    home.write("in.jsonl", prompts(1..=2) + &other);
    let id = submit(&home, &server, &["in.jsonl"]);
    crate::support::until("the end", || {
        let seen = status(&home, &server, &[&id]);
        seen["jobs"][0]["batches"]
            .as_array()
            .unwrap()
            .iter()
            .all(|b| b["status"] == "COMPLETED" && !b["output_file_id"].is_null())
    });
    let seen = status(&home, &server, &[&id]);
    let file = seen["jobs"][0]["batches"][0]["output_file_id"].as_str().unwrap().to_owned();
    let url = format!("/v1/files/{file}");
    let gone = crate::support::request(&server.address(), "DELETE", &url, "authorization: Bearer x\r\n", "");
    assert_eq!(gone.status, 200);
    fetch(&home, &server, &id, &["--timeout", "2s"]).code(75).says(&["batch 1 has ended, but"]);
    let rows = status(&home, &server, &[&id])["jobs"][0]["rows"].clone();
    assert_eq!(rows, serde_json::json!({"total": 4, "succeeded": 2, "failed": 0, "pending": 2}));
}
