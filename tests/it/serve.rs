//! `llbatch serve`, and the same server behind `--sandbox`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Home, MODEL, Server, get, paid_hash, post, prompts, request, rows, try_request, until};

fn chat(prompt: &str) -> String {
    serde_json::json!({"model": MODEL, "messages": [{"role": "user", "content": prompt}]}).to_string()
}

#[test]
fn answers_have_the_shape_of_together() {
    let server = Server::start(&[]);
    let (status, body) = post(&server.address(), "/v1/chat/completions", Some("any"), &chat("hello"));
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().contains(&paid_hash("hello")));
    assert_eq!(
        answer["usage"]["total_tokens"].as_u64().unwrap(),
        answer["usage"]["prompt_tokens"].as_u64().unwrap() + answer["usage"]["completion_tokens"].as_u64().unwrap()
    );
    let (_, again) = post(&server.address(), "/v1/chat/completions", Some("other"), &chat("hello"));
    assert_eq!(again, body, "the same prompt, the same answer");
    let (status, body) = post(&server.address(), "/v1/chat/completions", None, &chat("hello"));
    assert_eq!(status, 401);
    assert!(serde_json::from_str::<Value>(&body).unwrap()["error"]["message"].is_string(), "{body}");
    assert_eq!(get(&server.address(), "/v1/models").0, 401, "models want a key too");
    assert_eq!(post(&server.address(), "/v1/chat/completions", Some("any"), "{}").0, 400);
    assert_eq!(server.bill(), 2);
}

#[test]
fn named_key_is_the_only_one_accepted() {
    let server = Server::start(&["--key", "right"]);
    for (key, status) in [("right", 200), ("wrong", 401)] {
        assert_eq!(post(&server.address(), "/v1/chat/completions", Some(key), &chat("x")).0, status, "{key}");
    }
}

#[test]
fn rate_limit_refuses_surplus_requests() {
    let server = Server::start(&["--rps", "1", "--burst", "2"]);
    let ask = || post(&server.address(), "/v1/chat/completions", Some("k"), &chat("x")).0;
    let statuses = [ask(), ask(), ask(), ask()];
    assert_eq!(statuses[..2], [200, 200]);
    assert!(statuses[2..].contains(&429), "{statuses:?}");
}

#[test]
fn signal_stops_the_server_with_its_code() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let home = Home::new();
        let run = home.start(home.command(&["serve"]));
        until("its address", || run.stdout().ends_with("/v1\n"));
        run.signal(signal);
        run.wait().code(code);
    }
}

#[test]
fn invalid_options_are_refused() {
    let home = Home::new();
    home.llbatch(&["serve", "--fault", "explode"]).code(2).says(&["explode"]);
    home.llbatch(&["serve", "--batch-run", "soon"]).code(2).says(&["--batch-run", "soon"]);
    home.llbatch(&["serve", "--expires-at", "2"]).code(2).says(&["--expires-at", "from 0 to 1"]);
    home.llbatch(&["serve", "--unset", "maybe"]).code(2).says(&["omit"]);
    home.llbatch(&["serve", "--listen", "nowhere"]).code(2).says(&["nowhere"]);
    let out = home.llbatch(&["serve", "--listen", "0.0.0.0:0"]);
    assert_ne!(out.code, 0);
    drop(out.says(&["127.0.0.1"]));
    let server = Server::start(&[]);
    let out = home.llbatch(&["serve", "--listen", &server.address()]);
    assert_ne!(out.code, 0);
    drop(out.says(&[&server.address()]));
}

const KEY: &str = "authorization: Bearer any\r\n";

/// Short phases; the time to run is for the test to say.
const QUICK: [&str; 4] = ["--batch-validation", "0s", "--batch-cancel", "0s"];

fn ask(server: &Server, method: &str, path: &str, body: &str) -> Answer {
    request(&server.address(), method, path, KEY, body)
}

/// Batch lines with the prompts `NAME 1`, `NAME 2`, …
fn batch(name: &str, count: usize) -> String {
    let line = |i| {
        let body = json!({"model": MODEL, "messages": [{"role": "user", "content": format!("{name} {i}")}]});
        format!("{}\n", json!({"custom_id": format!("r{i}"), "body": body}))
    };
    (1..=count).map(line).collect()
}

/// Host and path of a presigned URL.
fn split(url: &str) -> (&str, String) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    (host, format!("/{path}"))
}

fn upload(server: &Server, text: &str) -> String {
    let there = ask(server, "POST", "/v1/files?purpose=batch-api&file_name=in.jsonl", "");
    assert_eq!(there.status, 302, "{}", there.body);
    let (host, path) = split(there.header("location").unwrap());
    assert_eq!(request(host, "PUT", &path, "", text).status, 200);
    there.header("x-together-file-id").unwrap().to_owned()
}

fn create(server: &Server, file: &str) -> Answer {
    let body = json!({"endpoint": "/v1/chat/completions", "input_file_id": file});
    ask(server, "POST", "/v1/batches", &body.to_string())
}

fn submit(server: &Server, text: &str) -> String {
    create(server, &upload(server, text)).json()["job"]["id"].as_str().unwrap().to_owned()
}

fn job(server: &Server, id: &str) -> Value {
    ask(server, "GET", &format!("/v1/batches/{id}"), "").json()
}

fn ended(server: &Server, id: &str) -> Value {
    let state = |job: &Value| job["status"].as_str().unwrap().to_owned();
    until("the end of the job", || !["VALIDATING", "IN_PROGRESS"].contains(&state(&job(server, id)).as_str()));
    job(server, id)
}

fn content(server: &Server, file: &Value) -> Vec<Value> {
    let answer = ask(server, "GET", &format!("/v1/files/{}/content", file.as_str().unwrap()), "");
    assert_eq!(answer.status, 200);
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn kept_batch_is_seen_by_the_next_server() {
    let home = Home::new();
    let dir = home.path("service");
    let dir = dir.to_str().unwrap();
    let first = Server::start(&[&QUICK[..], &["--keep", dir, "--batch-run", "200ms"]].concat());
    let id = submit(&first, &batch("kept", 4));
    drop(first);
    // The end of a job was settled when it was made: the flags of this server apply to its own jobs only.
    let second = Server::start(&["--keep", dir, "--batch-run", "1h", "--batch-fails", "not this one"]);
    let last = ended(&second, &id);
    assert_eq!(last["status"], "COMPLETED");
    let mut ids: Vec<_> =
        content(&second, &last["output_file_id"]).iter().map(|line| line["custom_id"].to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["\"r1\"", "\"r2\"", "\"r3\"", "\"r4\""]);
    assert_eq!(second.paid().len(), 4);
    assert_eq!(std::fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn kill_at_any_instant_loses_no_batch() {
    const ROWS: usize = 200;
    let home = Home::new();
    let dir = home.path("service");
    let args = [&QUICK[..], &["--batch-run", "0s", "--keep", dir.to_str().unwrap()]].concat();
    let mut acknowledged = Vec::new();
    for round in 0..8 {
        let server = Server::start(&args);
        let file = upload(&server, &batch(&format!("round {round}"), ROWS));
        let address = server.address();
        let creates = std::thread::spawn(move || {
            let body = json!({"endpoint": "/v1/chat/completions", "input_file_id": file}).to_string();
            let made = try_request(&address, "POST", "/v1/batches", KEY, &body).ok()?;
            let id = made.json()["job"]["id"].as_str().unwrap().to_owned();
            // The results are written now, if it is not killed before.
            drop(try_request(&address, "GET", &format!("/v1/batches/{id}"), KEY, ""));
            Some(id)
        });
        std::thread::sleep(Duration::from_millis(round * 8));
        drop(server);
        acknowledged.extend(creates.join().unwrap());
    }
    let server = Server::start(&args);
    let stats = server.stats();
    let jobs = stats["batches"]["jobs"].as_array().unwrap();
    for id in &acknowledged {
        assert!(jobs.iter().any(|job| job["id"] == id.as_str()), "{id} is lost");
        let last = job(&server, id);
        assert_eq!(last["status"], "COMPLETED");
        assert_eq!(content(&server, &last["output_file_id"]).len(), ROWS);
    }
    assert_eq!(stats["bill"]["requests"], ROWS * jobs.len());
    assert_eq!(stats["paid_again"], 0);
    let left: Vec<_> = names(&dir.join("files")).into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn batches_expire_as_scripted() {
    let server = Server::start(&[&QUICK[..], &["--batch-run", "0s", "--expires-at", "0.5", "--list-undone"]].concat());
    let last = ended(&server, &submit(&server, &batch("late", 10)));
    assert_eq!(last["status"], "EXPIRED");
    let (output, errors) = (content(&server, &last["output_file_id"]), content(&server, &last["error_file_id"]));
    assert_eq!((output.len(), errors.len(), &errors[0]["error"]["code"]), (5, 5, &json!("expired")));
}

#[test]
fn batches_fail_as_scripted() {
    let server = Server::start(&[&QUICK[..], &["--batch-fails", "no room today", "--unset", "null"]].concat());
    let last = ended(&server, &submit(&server, &batch("failing", 1)));
    assert_eq!((&last["status"], &last["error"]), (&json!("FAILED"), &json!("no room today")));
    assert!(last.get("output_file_id").is_some_and(Value::is_null), "{last}");
    assert_eq!(server.bill(), 0);
}

#[test]
fn batch_list_lags_as_scripted() {
    let server = Server::start(&["--list-lag", "1h", "--fault", "status=500,on=create,after"]);
    let file = upload(&server, &batch("unseen", 1));
    assert_eq!(create(&server, &file).status, 500);
    assert_eq!(ask(&server, "GET", "/v1/batches", "").body, "null");
    let jobs = server.stats()["batches"]["jobs"].clone();
    assert_eq!((jobs.as_array().unwrap().len(), &jobs[0]["input_file_id"]), (1, &json!(file)));
    assert_eq!((&jobs[0]["rows"], &jobs[0]["status"]), (&json!(1), &json!("VALIDATING")));
}

#[test]
fn cancelling_takes_the_scripted_time() {
    let server = Server::start(&["--batch-validation", "0s", "--batch-run", "1h", "--batch-cancel", "1h"]);
    let id = submit(&server, &batch("cancelled", 1));
    assert_eq!(job(&server, &id)["status"], "IN_PROGRESS");
    assert_eq!(ask(&server, "POST", &format!("/v1/batches/{id}/cancel"), "").json()["status"], "CANCELING");
    assert_eq!(job(&server, &id)["status"], "CANCELING");
}

#[test]
fn downloads_redirect_and_ignore_ranges_as_scripted() {
    let server = Server::start(&["--content-redirect", "--no-ranges"]);
    let text = batch("download", 2);
    let path = format!("/v1/files/{}/content", upload(&server, &text));
    let there = ask(&server, "GET", &path, "");
    assert_eq!(there.status, 302);
    let (host, path) = split(there.header("location").unwrap());
    assert_eq!(request(host, "GET", &path, KEY, "").status, 400, "the key has no business there");
    let answer = request(host, "GET", &path, "range: bytes=5-\r\n", "");
    assert_eq!((answer.status, answer.body == text), (200, true));
}

#[test]
fn environment_scripts_the_sandbox() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let run = |script: &str| {
        let mut command = home.command(&["run", "in.jsonl", "--sandbox", "--fresh"]);
        command.env("LLBATCH_SANDBOX", script);
        home.finish(command)
    };
    run("").code(0);
    let out = run("run=1s,unset=null,fault=status=400,contains=question 2").code(3);
    let failed: Vec<_> = rows(&out.stdout).into_iter().filter(|row| row.code.is_some()).map(|row| row.id).collect();
    assert_eq!(failed, ["q2"]);
    run("run=soon").code(2).says(&["LLBATCH_SANDBOX", "run=soon", "serve --help"]);
    run("fault=explode").code(2).says(&["LLBATCH_SANDBOX", "explode"]);
}
