//! The server over TCP, seen by a client that knows no more of HTTP than it must.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;

mod batches;
mod dialect;
mod files;
mod inference;
mod openai;
mod state;
mod streams;

/// An answer, with the error that ended the connection.
struct RawResponse {
    status: u16,
    /// Status line and headers.
    head: String,
    body: Vec<u8>,
    end: Option<ErrorKind>,
}

impl RawResponse {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn address(server: &Sandbox) -> String {
    server.url.trim_start_matches("http://").trim_end_matches("/v1").to_owned()
}

/// Sends one request on a connection of its own and reads until the server closes it.
fn send(server: &Sandbox, method: &str, path: &str, headers: &str, body: &[u8]) -> RawResponse {
    send_to(&address(server), method, path, headers, body)
}

fn send_to(address: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> RawResponse {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: sandbox\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut all = Vec::new();
    let mut buf = [0; 4096];
    let end = loop {
        match stream.read(&mut buf) {
            Ok(0) => break None,
            Ok(n) => all.extend_from_slice(&buf[..n]),
            Err(e) => break Some(e.kind()),
        }
    };
    let split = all.windows(4).position(|w| w == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
    let head = String::from_utf8_lossy(&all[..split]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    RawResponse { status, head, body: all[split..].to_vec(), end }
}

const KEY: &str = "authorization: Bearer test-key\r\n";

fn chat_body(prompt: &str) -> String {
    json!({"model": "Qwen/Qwen2.5-7B-Instruct-Turbo", "messages": [{"role": "user", "content": prompt}]}).to_string()
}

fn chat(server: &Sandbox, prompt: &str) -> RawResponse {
    post(server, "/v1/chat/completions", &chat_body(prompt))
}

fn content(seen: &RawResponse) -> String {
    seen.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn hash_of(prompt: &str) -> u64 {
    request::hash(prompt)
}

fn digest(prompt: &str) -> String {
    blake3::hash(prompt.as_bytes()).to_hex()[..16].to_owned()
}

fn get(server: &Sandbox, path: &str) -> RawResponse {
    send(server, "GET", path, KEY, b"")
}

fn post(server: &Sandbox, path: &str, body: &str) -> RawResponse {
    send(server, "POST", path, KEY, body.as_bytes())
}

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";

fn quick() -> SandboxConfig {
    let batch = BatchConfig {
        validation: Duration::from_millis(100),
        run: Duration::from_millis(300),
        cancel: Duration::from_millis(100),
        ..BatchConfig::default()
    };
    SandboxConfig { batch, track: true, ..SandboxConfig::default() }
}

fn kept(dir: &Path) -> SandboxConfig {
    SandboxConfig { state_dir: Some(dir.to_owned()), ..quick() }
}

fn input(rows: usize) -> String {
    let row = |i| {
        let body = json!({"model": "a/b", "messages": [{"role": "user", "content": format!("prompt {i}")}]});
        json!({"custom_id": format!("row-{i}"), "body": body}).to_string() + "\n"
    };
    (1..=rows).map(row).collect()
}

fn sha256(bytes: &[u8]) -> String {
    storage::hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

fn register(server: &Sandbox, name: &str, checksum: &str) -> RawResponse {
    let body = format!("purpose=batch-api&file_name={name}&file_type=jsonl&checksum={checksum}");
    send(server, "POST", "/v1/files", &format!("{KEY}{FORM}"), body.as_bytes())
}

/// Host and path of a URL.
fn split(url: &str) -> (String, String) {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    (host.to_owned(), format!("/{path}"))
}

fn put(seen: &RawResponse, headers: &str, bytes: &[u8]) -> RawResponse {
    let (host, path) = split(seen.header("location").unwrap());
    send_to(&host, "PUT", &path, headers, bytes)
}

/// All steps of an upload; the file's id.
fn upload(server: &Sandbox, bytes: &[u8]) -> String {
    let seen = register(server, "in.jsonl", &sha256(bytes));
    assert_eq!(seen.status, 302, "{}", seen.text());
    assert_eq!(put(&seen, "", bytes).status, 200);
    let id = seen.header("x-together-file-id").unwrap().to_owned();
    let done = post(server, &format!("/v1/files/{id}/preprocess"), "");
    assert_eq!((done.status, &done.json()["Processed"]), (200, &json!(true)));
    id
}

fn create(server: &Sandbox, file: &str) -> RawResponse {
    let body = json!({"endpoint": "/v1/chat/completions", "input_file_id": file}).to_string();
    post(server, "/v1/batches", &body)
}

fn submit(server: &Sandbox, bytes: &[u8]) -> String {
    let seen = create(server, &upload(server, bytes));
    assert_eq!(seen.status, 201, "{}", seen.text());
    seen.json()["job"]["id"].as_str().unwrap().to_owned()
}

fn job(server: &Sandbox, id: &str) -> Value {
    get(server, &format!("/v1/batches/{id}")).json()
}

/// Asks until the job has ended.
fn ended(server: &Sandbox, id: &str) -> Value {
    let begun = Instant::now();
    loop {
        let job = job(server, id);
        if !["VALIDATING", "IN_PROGRESS", "CANCELING"].contains(&job["status"].as_str().unwrap()) {
            return job;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{job}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn content_of(server: &Sandbox, file: &Value) -> Vec<u8> {
    let seen = send(server, "GET", &format!("/v1/files/{}/content", file.as_str().unwrap()), KEY, b"");
    assert_eq!(seen.status, 200);
    seen.body
}

fn lines(server: &Sandbox, file: &Value) -> Vec<Value> {
    let text = String::from_utf8(content_of(server, file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or(Value::Null)).collect()
}

fn stats(server: &Sandbox) -> Value {
    send(server, "GET", "/sandbox/stats", "", b"").json()
}

fn list(server: &Sandbox) -> Vec<Value> {
    let seen = get(server, "/v1/batches").json();
    seen.as_array().cloned().unwrap_or_default()
}

fn scripted(faults: &[&str]) -> Sandbox {
    start(SandboxConfig { faults: faults.iter().map(|spec| spec.parse().unwrap()).collect(), ..quick() }).unwrap()
}
