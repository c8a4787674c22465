//! Files and batches over TCP.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";

pub(super) fn quick() -> Config {
    let batch = BatchConfig {
        validation: Duration::from_millis(100),
        run: Duration::from_millis(300),
        cancel: Duration::from_millis(100),
        ..BatchConfig::default()
    };
    Config { batch, track: true, ..Config::default() }
}

pub(super) fn kept(dir: &Path) -> Config {
    Config { state_dir: Some(dir.to_owned()), ..quick() }
}

pub(super) fn input(rows: usize) -> String {
    let row = |i| {
        let body = json!({"model": "a/b", "messages": [{"role": "user", "content": format!("prompt {i}")}]});
        json!({"custom_id": format!("row-{i}"), "body": body}).to_string() + "\n"
    };
    (1..=rows).map(row).collect()
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    storage::hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

pub(super) fn register(handle: &Sandbox, name: &str, checksum: &str) -> Seen {
    let body = format!("purpose=batch-api&file_name={name}&file_type=jsonl&checksum={checksum}");
    send(handle, "POST", "/v1/files", &format!("{KEY}{FORM}"), body.as_bytes())
}

/// Host and path of a URL.
pub(super) fn split(url: &str) -> (String, String) {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    (host.to_owned(), format!("/{path}"))
}

pub(super) fn put(seen: &Seen, headers: &str, bytes: &[u8]) -> Seen {
    let (host, path) = split(seen.header("location").unwrap());
    send_to(&host, "PUT", &path, headers, bytes)
}

/// All steps of an upload; the file's id.
pub(super) fn upload(handle: &Sandbox, bytes: &[u8]) -> String {
    let seen = register(handle, "in.jsonl", &sha256(bytes));
    assert_eq!(seen.status, 302, "{}", seen.text());
    assert_eq!(put(&seen, "", bytes).status, 200);
    let id = seen.header("x-together-file-id").unwrap().to_owned();
    let done = send(handle, "POST", &format!("/v1/files/{id}/preprocess"), KEY, b"");
    assert_eq!((done.status, &done.json()["Processed"]), (200, &json!(true)));
    id
}

pub(super) fn create(handle: &Sandbox, file: &str) -> Seen {
    let body = json!({"endpoint": "/v1/chat/completions", "input_file_id": file}).to_string();
    send(handle, "POST", "/v1/batches", KEY, body.as_bytes())
}

pub(super) fn submit(handle: &Sandbox, bytes: &[u8]) -> String {
    let seen = create(handle, &upload(handle, bytes));
    assert_eq!(seen.status, 201, "{}", seen.text());
    seen.json()["job"]["id"].as_str().unwrap().to_owned()
}

pub(super) fn job(handle: &Sandbox, id: &str) -> Value {
    send(handle, "GET", &format!("/v1/batches/{id}"), KEY, b"").json()
}

/// Asks until the job has ended.
pub(super) fn ended(handle: &Sandbox, id: &str) -> Value {
    let begun = Instant::now();
    loop {
        let job = job(handle, id);
        if !["VALIDATING", "IN_PROGRESS", "CANCELING"].contains(&job["status"].as_str().unwrap()) {
            return job;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{job}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(super) fn content_of(handle: &Sandbox, file: &Value) -> Vec<u8> {
    let seen = send(handle, "GET", &format!("/v1/files/{}/content", file.as_str().unwrap()), KEY, b"");
    assert_eq!(seen.status, 200);
    seen.body
}

pub(super) fn lines(handle: &Sandbox, file: &Value) -> Vec<Value> {
    let text = String::from_utf8(content_of(handle, file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or(Value::Null)).collect()
}

#[test]
fn an_upload_as_the_service_wants_it() {
    let handle = start(quick()).unwrap();
    let text = input(2);
    let sum = sha256(text.as_bytes());
    let first = register(&handle, "my%20rows.jsonl", &sum);
    let id = first.header("x-together-file-id").unwrap().to_owned();
    let (host, path) = split(first.header("location").unwrap());
    assert_ne!(host, address(&handle), "storage is another origin");

    assert_eq!(put(&first, KEY, text.as_bytes()).status, 400, "two kinds of authorization");
    assert_eq!(put(&first, "", b"other bytes").status, 400, "the checksum differs");
    assert_eq!(send_to(&host, "PUT", path.split('?').next().unwrap(), "", text.as_bytes()).status, 403);
    let mut stream = TcpStream::connect(&host).unwrap();
    let head =
        format!("PUT {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 411"), "{answer}");
    assert_eq!(create(&handle, &id).status, 400, "no bytes yet");
    assert_eq!(send(&handle, "GET", &format!("/v1/files/{id}/content"), KEY, b"").status, 404);

    assert_eq!(put(&first, "", text.as_bytes()).status, 200);
    let file = send(&handle, "GET", &format!("/v1/files/{id}"), KEY, b"").json();
    assert_eq!((&file["filename"], &file["bytes"]), (&json!("my rows.jsonl"), &json!(text.len())));
    assert_eq!((&file["object"], &file["LineCount"]), (&json!("file"), &json!(2)));

    let again = register(&handle, "other.jsonl", &sum);
    assert_eq!((again.status, &again.json()["file_id"]), (409, &json!(id)));
    let listed = send(&handle, "GET", "/v1/files", KEY, b"").json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    let gone = send(&handle, "DELETE", &format!("/v1/files/{id}"), KEY, b"").json();
    assert_eq!(gone["deleted"], true);
    assert_eq!(send(&handle, "GET", &format!("/v1/files/{id}"), KEY, b"").status, 404);
    assert_eq!(register(&handle, "other.jsonl", &sum).status, 302);
}

#[test]
fn other_forms_of_upload() {
    let handle = start(quick()).unwrap();
    let multipart = "content-type: multipart/form-data; boundary=XX\r\n";
    let part =
        |name: &str, value: &str| format!("--XX\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let text = input(1);
    let fields = part("purpose", "batch-api") + &part("file_name", "x.jsonl");
    let file = format!("--XX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"y\"\r\n\r\n{text}\r\n");
    let headers = format!("{KEY}{multipart}");
    let seen = send(&handle, "POST", "/v1/files/upload", &headers, (fields.clone() + &file + "--XX--").as_bytes());
    assert_eq!((seen.status, &seen.json()["filename"]), (200, &json!("x.jsonl")));
    assert_eq!(content_of(&handle, &seen.json()["id"]), text.as_bytes());
    let seen = send(&handle, "POST", "/v1/files", &headers, (fields + "--XX--").as_bytes());
    assert_eq!(seen.status, 302);
    let query = "/v1/files?purpose=batch-api&file_name=x";
    assert_eq!(send(&handle, "POST", query, KEY, b"").status, 302);
    assert_eq!(send(&handle, "POST", "/v1/files?purpose=batch-api", KEY, b"").status, 400);
}

#[test]
fn a_job_answers_every_row_out_of_order() {
    let handle = start(quick()).unwrap();
    assert_eq!(send(&handle, "GET", "/v1/batches", KEY, b"").text(), "null");
    let id = submit(&handle, input(20).as_bytes());
    let first = job(&handle, &id);
    assert_eq!(first["status"], "VALIDATING");
    assert!(first.get("output_file_id").is_none());
    let last = ended(&handle, &id);
    assert_eq!((&last["status"], &last["progress"]), (&json!("COMPLETED"), &json!(100.0)));
    assert_eq!(last["model_id"], "a/b");
    assert!(last.get("error_file_id").is_none());
    let lines = lines(&handle, &last["output_file_id"]);
    let order: Vec<_> = lines.iter().map(|line| line["custom_id"].as_str().unwrap().to_owned()).collect();
    let answers: BTreeMap<_, _> = lines.iter().map(|line| (line["custom_id"].as_str().unwrap(), line)).collect();
    assert_eq!((order.len(), answers.len()), (20, 20));
    assert_ne!(order, (1..=20).map(|i| format!("row-{i}")).collect::<Vec<_>>());
    for i in 1..=20 {
        let response = &answers[format!("row-{i}").as_str()]["response"];
        assert_eq!(response["status_code"], 200);
        let text = response["body"]["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(text.contains(&digest(&format!("prompt {i}"))));
    }
    let jobs = send(&handle, "GET", "/v1/batches", KEY, b"").json();
    assert_eq!(jobs[0], last);
    let stats = send(&handle, "GET", "/sandbox/stats", "", b"").json();
    assert_eq!((&stats["batches"]["created"], &stats["batches"]["bill"]["requests"]), (&json!(1), &json!(20)));
    assert_eq!(handle.stats().paid.len(), 20);
}

#[test]
fn jobs_outlive_their_server() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { faults: vec!["status=500,on=row,contains=prompt 2".parse().unwrap()], ..kept(dir.path()) };
    let first = start(config).unwrap();
    let id = submit(&first, input(3).as_bytes());
    first.stop();
    std::thread::sleep(Duration::from_millis(450));
    // Two at a time, without the first one's script: what happens was settled when the job was made.
    let (second, third) = (start(kept(dir.path())).unwrap(), start(kept(dir.path())).unwrap());
    let (a, b) = std::thread::scope(|scope| {
        let a = scope.spawn(|| job(&second, &id));
        let b = scope.spawn(|| job(&third, &id));
        (a.join().unwrap(), b.join().unwrap())
    });
    assert_eq!(a, b);
    assert_eq!(lines(&second, &a["output_file_id"]).len(), 2);
    let errors = lines(&third, &a["error_file_id"]);
    assert_eq!((errors.len(), &errors[0]["custom_id"]), (1, &json!("row-2")));
    assert_eq!(errors[0]["error"]["code"], "server_error");
    assert_eq!(std::fs::read_dir(dir.path().join("files")).unwrap().count(), 6, "nothing is left over");
}

#[test]
fn a_cancelled_job_keeps_what_was_answered() {
    let mut config = quick();
    config.batch.run = Duration::from_secs(2);
    let handle = start(config).unwrap();
    let id = submit(&handle, input(50).as_bytes());
    std::thread::sleep(Duration::from_millis(900));
    let asked = send(&handle, "POST", &format!("/v1/batches/{id}/cancel"), KEY, b"");
    assert_eq!((asked.status, &asked.json()["status"]), (200, &json!("CANCELING")));
    let last = ended(&handle, &id);
    assert_eq!(last["status"], "CANCELLED");
    let count = lines(&handle, &last["output_file_id"]).len();
    assert!((10..40).contains(&count), "{count}");
    let again = send(&handle, "POST", &format!("/v1/batches/{id}/cancel"), KEY, b"");
    assert_eq!(again.json()["status"], "CANCELLED");
    assert_eq!(send(&handle, "POST", "/v1/batches/nobody/cancel", KEY, b"").status, 404);
}

#[test]
fn expiry_with_and_without_lines_for_the_rest() {
    for list_undone in [false, true] {
        let mut config = quick();
        config.batch.expires_at = Some(0.5);
        config.batch.list_undone = list_undone;
        let handle = start(config).unwrap();
        let last = ended(&handle, &submit(&handle, input(10).as_bytes()));
        assert_eq!(last["status"], "EXPIRED");
        assert_eq!(lines(&handle, &last["output_file_id"]).len(), 5);
        assert_eq!(last.get("error_file_id").is_some(), list_undone);
        if list_undone {
            let rest = lines(&handle, &last["error_file_id"]);
            assert_eq!((rest.len(), &rest[0]["error"]["code"]), (5, &json!("expired")));
        }
    }
}

#[test]
fn refused_inputs_fail_the_job_and_others_their_row() {
    let handle = start(quick()).unwrap();
    let twice = input(1) + &input(1);
    let last = ended(&handle, &submit(&handle, twice.as_bytes()));
    assert_eq!(last["status"], "FAILED");
    assert!(last["error"].as_str().unwrap().contains("used twice"), "{last}");
    assert!(last.get("output_file_id").is_none());
    let unknown = input(2).replacen("a/b", "a/no-such", 2);
    let last = ended(&handle, &submit(&handle, unknown.as_bytes()));
    assert_eq!(last["status"], "COMPLETED");
    assert!(last.get("output_file_id").is_none(), "every row failed");
    assert_eq!(lines(&handle, &last["error_file_id"])[0]["error"]["code"], "invalid_model");
}

#[test]
fn creates_that_are_refused_or_lie() {
    let config = Config { faults: vec!["status=500,on=create,after,nth=1".parse().unwrap()], ..quick() };
    let handle = start(config).unwrap();
    let file = upload(&handle, input(1).as_bytes());
    assert_eq!(create(&handle, &file).status, 500);
    let list = send(&handle, "GET", "/v1/batches", KEY, b"").json();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["input_file_id"]), (1, &json!(file)));
    assert_eq!(create(&handle, "file-none").status, 400);
    let refused = send(&handle, "POST", "/v1/batches", "", b"{}");
    assert_eq!((refused.status, refused.json()["error"].is_string()), (401, true));
    let body = json!({"endpoint": "/v1/images", "input_file_id": file}).to_string();
    assert_eq!(send(&handle, "POST", "/v1/batches", KEY, body.as_bytes()).status, 400);

    let handle = with(&["null-job"]);
    let seen = create(&handle, &upload(&handle, input(1).as_bytes()));
    assert_eq!((seen.status, &seen.json()["job"]), (201, &Value::Null));
    assert_eq!(send(&handle, "GET", "/v1/batches", KEY, b"").text(), "null");
}

#[test]
fn audio_rows_are_transcribed() {
    let handle = start(quick()).unwrap();
    let line = json!({"custom_id": "a", "body": {"model": "openai/whisper-large-v3", "file": "https://x.test/a.mp3"}});
    let file = upload(&handle, line.to_string().as_bytes());
    let body = json!({"endpoint": "/v1/audio/transcriptions", "input_file_id": file}).to_string();
    let made = send(&handle, "POST", "/v1/batches", KEY, body.as_bytes()).json();
    let last = ended(&handle, made["job"]["id"].as_str().unwrap());
    let text = lines(&handle, &last["output_file_id"])[0]["response"]["body"]["text"].clone();
    assert!(text.as_str().unwrap().contains(&digest("https://x.test/a.mp3")));
}

#[test]
fn rows_go_wrong_as_scripted() {
    let script =
        ["missing", "duplicate", "conflict", "foreign", "garble", "status=500,shape=string", "status=504,shape=object"];
    let faults = script.iter().enumerate();
    let faults = faults.map(|(i, what)| format!("{what},on=row,contains=prompt {}", i + 1).parse().unwrap()).collect();
    let handle = start(Config { faults, ..quick() }).unwrap();
    let last = ended(&handle, &submit(&handle, input(8).as_bytes()));
    let output = lines(&handle, &last["output_file_id"]);
    let count = |id: &str| output.iter().filter(|line| line["custom_id"] == id).count();
    let counts: Vec<_> = (1..=8).map(|i| count(&format!("row-{i}"))).collect();
    assert_eq!(counts, [0, 2, 2, 1, 0, 1, 0, 1]);
    assert_eq!(count("nobody-sent-this"), 1);
    assert_eq!(output.iter().filter(|line| line.is_null()).count(), 1);
    let of = |id: &str| output.iter().filter(|line| line["custom_id"] == id).collect::<Vec<_>>();
    assert_eq!(of("row-2")[0], of("row-2")[1]);
    assert_ne!(of("row-3")[0], of("row-3")[1]);
    assert_eq!(of("row-6")[0]["response"]["status_code"], 500);
    let errors = lines(&handle, &last["error_file_id"]);
    assert_eq!((errors.len(), &errors[0]["response"]["status_code"]), (1, &json!(504)));
}

#[test]
fn downloads_redirect_and_resume() {
    let config = Config {
        downloads: Downloads { redirect: true, ..Downloads::default() },
        faults: vec!["truncate,on=content,times=1".parse().unwrap()],
        ..quick()
    };
    let handle = start(config).unwrap();
    let text = input(30);
    let file = upload(&handle, text.as_bytes());
    let path = format!("/v1/files/{file}/content");
    let seen = send(&handle, "GET", &path, KEY, b"");
    assert_eq!(seen.status, 302);
    let (host, path) = split(seen.header("location").unwrap());
    assert_eq!(send_to(&host, "GET", &path, KEY, b"").status, 400, "the key must stay with the API");
    assert_eq!(send_to(&host, "GET", &path, "", b"").body, text.as_bytes());
    let rest = send_to(&host, "GET", &path, "range: bytes=100-\r\n", b"");
    assert_eq!((rest.status, rest.body.as_slice()), (206, &text.as_bytes()[100..]));
    let length = text.len();
    assert_eq!(rest.header("content-range"), Some(format!("bytes 100-{}/{length}", length - 1).as_str()));
    let beyond = send_to(&host, "GET", &path, &format!("range: bytes={length}-\r\n"), b"");
    assert_eq!(beyond.status, 416);

    let handle =
        start(Config { downloads: Downloads { ignore_ranges: true, ..Downloads::default() }, ..quick() }).unwrap();
    let file = upload(&handle, text.as_bytes());
    let headers = format!("{KEY}range: bytes=100-\r\n");
    let seen = send(&handle, "GET", &format!("/v1/files/{file}/content"), &headers, b"");
    assert_eq!((seen.status, seen.body.len()), (200, text.len()));
}

#[test]
fn a_truncated_download_passes_the_second_time() {
    let config = Config { faults: vec!["truncate,on=content,times=1".parse().unwrap()], ..quick() };
    let handle = start(config).unwrap();
    let text = input(30);
    let path = format!("/v1/files/{}/content", upload(&handle, text.as_bytes()));
    let first = send(&handle, "GET", &path, KEY, b"");
    assert_eq!(first.header("content-length"), Some(text.len().to_string().as_str()));
    assert_eq!(first.body, text.as_bytes()[..text.len() / 2]);
    assert_eq!(send(&handle, "GET", &path, KEY, b"").body, text.as_bytes());
}

#[test]
fn the_list_may_lag() {
    let mut config = quick();
    config.batch.list_lag = Duration::from_millis(400);
    config.batch.unset = Unset::Null;
    let handle = start(config).unwrap();
    let id = submit(&handle, input(1).as_bytes());
    assert_eq!(send(&handle, "GET", "/v1/batches", KEY, b"").text(), "null");
    assert!(job(&handle, &id).get("error").is_some_and(Value::is_null));
    std::thread::sleep(Duration::from_millis(450));
    assert_eq!(send(&handle, "GET", "/v1/batches", KEY, b"").json().as_array().unwrap().len(), 1);
}
