//! `llbatch status` of batch jobs.

use serde_json::{Value, json};

use super::{fetch, status, submit};
use crate::support::{Home, MODEL, Server, post, prompts};

#[test]
fn document_of_a_batch_job_has_the_members_of_the_contract() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,on=row,contains=question 2"]));
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl", "--name", "night"]);
    fetch(&home, &server, &id, &[]).code(3);
    let document = status(&home, &server, &["night"]);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&document), ["version", "jobs"]);
    let job = &document["jobs"][0];
    assert_eq!(
        keys(job),
        ["job", "name", "transport", "state", "created_at", "input", "tags", "rows", "cost", "batches"]
    );
    assert_eq!((&job["job"], &job["name"]), (&json!(id), &json!("night")));
    assert_eq!(
        (&job["transport"], &job["state"], &job["input"]),
        (&json!("batch"), &json!("partial"), &json!("in.jsonl"))
    );
    assert_eq!(job["rows"], json!({"total": 4, "succeeded": 3, "failed": 1, "pending": 0}));
    assert_eq!(keys(&job["cost"]), ["estimated_usd", "usd"]);
    assert!(job["cost"]["estimated_usd"].as_f64().unwrap() > 0.0, "{job}");
    assert_eq!(job["cost"]["usd"], 0.000_002_34);
    let batch = &job["batches"][0];
    let members = [
        "id",
        "model",
        "status",
        "progress",
        "rows",
        "input_file_id",
        "output_file_id",
        "error_file_id",
        "deadline",
        "error",
    ];
    assert_eq!(keys(batch), members);
    let there = server.ask(&format!("/v1/batches/{}", batch["id"].as_str().unwrap()));
    for (ours, theirs) in [
        ("status", "status"),
        ("input_file_id", "input_file_id"),
        ("output_file_id", "output_file_id"),
        ("error_file_id", "error_file_id"),
        ("deadline", "job_deadline"),
    ] {
        assert_eq!(batch[ours], there[theirs], "{ours}");
    }
    assert_eq!((&batch["model"], &batch["rows"], &batch["progress"]), (&json!(MODEL), &json!(4), &json!(100.0)));
    assert_eq!(batch["error"], json!(null));
}

#[test]
fn status_asks_the_service_unless_offline() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h"]));
    home.write("in.jsonl", prompts(1..=4));
    submit(&home, &server, &["in.jsonl"]);
    let asked = || server.count("/v1/batches/{id}", 200);
    let before = asked();
    home.at(&server.url, &["status", "--offline"]).code(0);
    assert_eq!(asked(), before);
    let job = &status(&home, &server, &[])["jobs"][0];
    assert_eq!((&job["state"], asked()), (&json!("running"), before + 1));
    assert_eq!(job["batches"][0]["status"], "IN_PROGRESS");
    // Another service's jobs are shown as they were left.
    let other = Server::quick(&[]);
    assert_eq!(status(&home, &other, &[])["jobs"][0]["batches"][0]["status"], "IN_PROGRESS");
    assert_eq!(other.requests(), 0);
}

#[test]
fn foreign_batches_are_listed_on_demand() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h"]));
    let out = home.at(&server.url, &["status", "--remote"]).code(0);
    assert!(out.stderr.contains("lists no batches"), "{}", out.stderr);
    home.write("in.jsonl", prompts(1..=2));
    let id = submit(&home, &server, &["in.jsonl"]);
    let own = server.batches()[0]["id"].clone();
    let body = json!({"endpoint": "/v1/chat/completions", "input_file_id": server.batches()[0]["input_file_id"]});
    let (code, made) = post(&server.address(), "/v1/batches", Some("any"), &body.to_string());
    assert_eq!(code, 201, "{made}");
    let foreign = serde_json::from_str::<Value>(&made).unwrap()["job"]["id"].clone();
    let document = status(&home, &server, &["--remote"]);
    let remote = document["remote"].as_array().unwrap();
    let job = |batch: &Value| remote.iter().find(|line| line["id"] == *batch).unwrap()["job"].clone();
    assert_eq!((remote.len(), job(&own), job(&foreign)), (2, json!(id), json!(null)));
    assert_eq!(document["jobs"].as_array().unwrap().len(), 1);
    // By its id, of either.
    let by_id = status(&home, &server, &[own.as_str().unwrap()]);
    assert_eq!(by_id["jobs"][0]["job"], json!(id));
    let by_id = status(&home, &server, &[foreign.as_str().unwrap()]);
    assert_eq!((by_id["jobs"].as_array().unwrap().len(), &by_id["remote"][0]["id"]), (0, &foreign));
    home.at(&server.url, &["status", "00000000-0000-4000-8000-000000000000"]).code(2);
}

#[test]
fn watch_ends_with_the_jobs() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "800ms"]));
    home.write("in.jsonl", prompts(1..=2));
    let id = submit(&home, &server, &["in.jsonl"]);
    let out = home.at(&server.url, &["status", "--watch", "--poll", "200ms"]).code(0);
    assert!(out.stdout.matches(&id).count() > 1, "{}", out.stdout);
    let last = out.stdout.rfind(&id).unwrap();
    assert!(out.stdout[last..].contains("completed"), "{}", out.stdout);
    home.at(&server.url, &["status", "--watch", "--offline"]).code(2);
}

#[test]
fn batch_table_fits_eighty_columns() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl"]);
    home.at(&server.url, &["wait", &id, "--poll", "50ms"]).code(0);
    let out = home.at(&server.url, &["status", &id]).code(0).says(&["llbatch fetch"]);
    assert!(out.stdout.contains("completed") && out.stdout.contains("COMPLETED"), "{}", out.stdout);
    let widest = out.stdout.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 80, "{widest} columns:\n{}", out.stdout);
}
