//! Results that come late, or never.

use super::odd::{ID, batch, night, service};
use super::{POLL, ends, fetch, state, status, submit};
use crate::support::{Home, Server, prompts};

fn home() -> Home {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    home
}

#[test]
fn named_file_that_is_not_there_yet_is_asked_for_again() {
    let (home, server) = (home(), Server::quick(&["--fault", "status=404,on=content,times=2"]));
    let args = [&["submit", "in.jsonl", "--wait", "-o", "out.jsonl"], &POLL[..]].concat();
    home.at(&server.url, &args).code(0);
    assert_eq!(ends(&home), ["ok"; 3]);
    assert_eq!((server.batches().len(), server.paid_again()), (1, 0));
}

#[test]
fn late_file_settles_nothing_and_a_later_fetch_takes_it() {
    let (home, server) = (home(), Server::quick(&["--fault", "status=404,on=content,times=3"]));
    let job = submit(&home, &server, &["in.jsonl"]);
    let out = fetch(&home, &server, &job, &["--timeout", "2s"]).code(75);
    out.says(&["batch 1 has ended, but the service does not have its results yet: HTTP 404"]);
    assert!(!home.exists("out.jsonl"));
    let rows = status(&home, &server, &[&job])["jobs"][0]["rows"].clone();
    assert_eq!(rows, serde_json::json!({"total": 3, "succeeded": 0, "failed": 0, "pending": 3}));
    // Nothing is sent again while the results may still come.
    home.at(&server.url, &["retry", &job, "--via", "realtime", "--max-cost", "0.0000001"]);
    fetch(&home, &server, &job, &[]).code(0);
    assert_eq!(ends(&home), ["ok"; 3]);
    assert_eq!((server.batches().len(), server.paid_again()), (1, 0));
}

#[test]
fn deleted_results_end_the_job_at_risk() {
    for gone in [410, 451] {
        let fault = format!("status={gone},on=content,times=always");
        let (home, server) = (home(), Server::quick(&["--fault", &fault]));
        let job = submit(&home, &server, &["in.jsonl"]);
        let out = fetch(&home, &server, &job, &[]).code(3);
        out.says(&["the service no longer has"]);
        assert_eq!(ends(&home), ["missing"; 3], "{gone}");
        let text = home.read("out.jsonl");
        assert!(text.contains(&format!("no longer has the results of this batch: HTTP {gone}")), "{text}");
        let summary = home.json("s.json");
        assert!(summary["cost"]["at_risk_usd"].as_f64().unwrap() > 0.0, "{summary}");
        assert_eq!(state(&home, &job), "failed");
        let listed = home.at(&server.url, &["status", &job]).code(0).stdout;
        assert!(listed.contains("$0.00, up to $0.0000") && listed.contains(" more "), "{listed}");
        // Other commands can end it too.
        home.at(&server.url, &["retry", &job, "--dry-run"]).code(0).says(&["3 rows"]);
        home.at(&server.url, &["clean", &job]).code(0);
    }
}

#[test]
fn file_that_never_appeared_counts_as_deleted_after_an_hour() {
    let home = Home::new();
    let service = service(|line, _| {
        let mut job = batch("COMPLETED");
        job["output_file_id"] = "file-out".into();
        job["completed_at"] = "2020-01-01T00:00:00Z".into();
        let missing = serde_json::json!({"error": {"message": "no such file"}});
        match line {
            "GET /v1/files/file-out/content" => Some(("404 Not Found", missing)),
            _ => (line == format!("GET /v1/batches/{ID}")).then_some(("200 OK", job)),
        }
    });
    // It may never have been there.
    night(&home, &service).code(3).says(&["the service does not have file-out"]);
    assert_eq!(ends(&home), ["missing"; 3]);
}

#[test]
fn batch_whose_results_are_refused_for_ever_can_be_given_up_and_that_is_named() {
    for (status, code) in [("403", 4), ("400", 1), ("418", 1)] {
        let fault = format!("status={status},on=content,times=always");
        let (home, server) = (home(), Server::quick(&["--fault", &fault]));
        let job = submit(&home, &server, &["in.jsonl"]);
        let abandon = "--abandon` gives its batches up";
        fetch(&home, &server, &job, &[]).code(code).says(&[abandon]);
        home.at(&server.url, &["cancel", &job]).code(code).says(&[abandon]);
        home.at(&server.url, &["clean", &job, "--force"]).code(75).says(&[&format!("`llbatch cancel {job}`")]);
        home.at(&server.url, &["cancel", &job, "--abandon"]).code(0);
        home.at(&server.url, &["fetch", &job, "-o", "out.jsonl"]).code(3);
        assert_eq!(ends(&home), ["missing"; 3], "{status}");
    }
}

#[test]
fn batch_that_has_ended_is_not_said_to_work() {
    let (home, server) = (home(), Server::quick(&["--fault", "status=500,on=content,times=always"]));
    let args = [&["submit", "in.jsonl", "--wait", "--timeout", "2s", "-o", "out.jsonl"], &POLL[..]].concat();
    let late = home.at(&server.url, &args).code(75);
    let late = late.says(&["--timeout has passed; the results of 1 batch of j-"]);
    assert!(!late.stderr.contains("keeps working"), "{}", late.stderr);
}
