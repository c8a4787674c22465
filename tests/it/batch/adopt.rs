//! Batches that llbatch did not create.

use serde_json::{Value, json};

use super::{POLL, status};
use crate::support::{Answer, Home, MODEL, Recorder, Server, answered, codes, post, request};

const KEY: &str = "authorization: Bearer any\r\n";

/// A batch of `text`, made as any client would.
fn foreign(server: &Server, text: &str) -> String {
    foreign_at("/v1/chat/completions", server, text)
}

/// The same, of this endpoint.
fn foreign_at(endpoint: &str, server: &Server, text: &str) -> String {
    let there: Answer =
        request(&server.address(), "POST", "/v1/files?purpose=batch-api&file_name=theirs.jsonl", KEY, "");
    assert_eq!(there.status, 302, "{}", there.body);
    let place = there.header("location").unwrap().strip_prefix("http://").unwrap();
    let (host, path) = place.split_once('/').unwrap();
    assert_eq!(request(host, "PUT", &format!("/{path}"), "", text).status, 200);
    let body = json!({"endpoint": endpoint, "input_file_id": there.header("x-together-file-id").unwrap()});
    let (code, made) = post(&server.address(), "/v1/batches", Some("any"), &body.to_string());
    assert_eq!(code, 201, "{made}");
    serde_json::from_str::<Value>(&made).unwrap()["job"]["id"].as_str().unwrap().to_owned()
}

fn lines(range: std::ops::RangeInclusive<u32>) -> String {
    range.fold(String::new(), |all, n| {
        let body = json!({"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": format!("question {n}")}]});
        all + &json!({"custom_id": format!("q{n}"), "body": body}).to_string() + "\n"
    })
}

#[test]
fn foreign_batch_is_fetched_by_its_id() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let id = foreign(&server, &lines(1..=6));
    home.at(&server.url, &["status", &id]).code(0);
    let fetch = |name: &str| {
        home.at(&server.url, &[&["fetch", &id, "--wait", "-o", name, "--summary", "s.json"], &POLL[..]].concat())
    };
    fetch("out.jsonl").code(0).says(&["created elsewhere"]);
    answered(&home.read("out.jsonl"), 1..=6);
    fetch("again.jsonl").code(0);
    assert_eq!(home.read("again.jsonl"), home.read("out.jsonl"));
    assert_eq!(home.json("s.json")["cost"]["usd"], 0.000_004_68);
    let jobs = status(&home, &server, &[]);
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "it is one job from now on");
    assert_eq!(status(&home, &server, &[&id])["jobs"][0]["batches"][0]["id"], json!(id));
    assert_eq!((server.batches().len(), server.paid_again()), (1, 0));
}

#[test]
fn failed_rows_of_a_foreign_batch_are_retried() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=500,on=row,contains=question 2,times=1"]));
    let id = foreign(&server, &lines(1..=3));
    let fetch = || home.at(&server.url, &[&["fetch", &id, "--wait", "-o", "out.jsonl"], &POLL[..]].concat());
    fetch().code(3);
    assert_eq!(codes(&home.read("out.jsonl"))[1], ("q2".to_owned(), "server_error".to_owned()));
    home.at(&server.url, &["retry", &id]).code(0);
    fetch().code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.batches()[1]["rows"].as_u64(), server.paid_again()), (Some(1), 0));
}

#[test]
fn foreign_batch_is_waited_for_and_cancelled() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h"]));
    let id = foreign(&server, &lines(1..=3));
    home.at(&server.url, &["wait", &id, "--timeout", "300ms", "--poll", "50ms"]).code(75);
    home.at(&server.url, &["cancel", &id]).code(0);
    assert_eq!(server.batches()[0]["status"], "CANCELLED");
    home.at(&server.url, &["fetch", &id, "-o", "out.jsonl"]).code(3);
    assert!(codes(&home.read("out.jsonl")).iter().all(|(_, code)| code == "cancelled"));
}

#[test]
fn unknown_batch_id_is_a_usage_error() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let unknown = "00000000-0000-4000-8000-000000000000";
    for command in ["fetch", "wait", "retry", "cancel"] {
        home.at(&server.url, &[command, unknown]).code(2).says(&[unknown]);
    }
    // Its input is gone: there is nothing to put results beside.
    let id = foreign(&server, &lines(1..=3));
    let file = server.batches()[0]["input_file_id"].as_str().unwrap().to_owned();
    assert_eq!(request(&server.address(), "DELETE", &format!("/v1/files/{file}"), KEY, "").status, 200);
    home.at(&server.url, &["fetch", &id]).code(1).says(&["input"]);
    assert_eq!(status(&home, &server, &[])["jobs"], json!([]), "no half of a job is left");
}

#[test]
fn foreign_batch_of_another_endpoint_is_read_or_refused() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let line = json!({"custom_id": "a", "body": {"model": MODEL, "input": "a text"}}).to_string();
    let id = foreign_at("/v1/embeddings", &server, &line);
    home.at(&server.url, &[&["fetch", &id, "--wait", "-o", "out.jsonl"], &POLL[..]].concat()).code(0);
    let row: Value = serde_json::from_str(home.read("out.jsonl").trim()).unwrap();
    assert!(row["response"]["body"]["data"][0]["embedding"].is_array(), "{row}");
    let unread = Recorder::answering(|_| {
        let batch = json!({"id": "batch_1234567890", "status": "COMPLETED", "endpoint": "/v1/moderations"});
        ("200 OK", String::new(), batch.to_string())
    });
    let out = Home::new().at(&unread.url, &["fetch", "batch_1234567890", "-o", "out.jsonl"]).code(2);
    out.says(&["batch_1234567890 is a batch of /v1/moderations", "cannot read", "/embeddings"]);
    assert_eq!(unread.count("GET"), 1, "its files are not asked for");
}
