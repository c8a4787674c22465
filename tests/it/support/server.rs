//! `llbatch serve` as a child process, and a small HTTP client for its counters.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};

use serde_json::Value;

use super::fault::own_address;
use super::{Home, signal, until};

/// A server; it ends when dropped.
pub struct Server {
    child: Child,
    /// The base URL that it printed.
    pub url: String,
    _home: Home,
}

impl Server {
    /// `llbatch serve --track ARGS`.
    pub fn start(args: &[&str]) -> Self {
        let home = Home::new();
        let mut all = vec!["serve", "--track"];
        all.extend(args);
        let mut child =
            home.command(&all).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim_end().to_owned();
        assert!(url.starts_with("http://127.") && url.ends_with("/v1"), "base URL: {url:?}");
        Self { child, url, _home: home }
    }

    /// A server whose batches run for 100 ms, unless `args` set their times.
    pub fn quick(args: &[&str]) -> Self {
        let mut all = args.to_vec();
        for (flag, value) in [("--batch-validation", "0s"), ("--batch-run", "100ms"), ("--batch-cancel", "20ms")] {
            if !args.contains(&flag) {
                all.extend([flag, value]);
            }
        }
        Self::start(&all)
    }

    /// An address that no other server gets, so that a server can restart on it.
    pub fn own_address() -> String {
        own_address()
    }

    /// The same, with a port: for a test that names the address before a server is there.
    pub fn free_address() -> String {
        TcpListener::bind(Self::own_address()).unwrap().local_addr().unwrap().to_string()
    }

    /// All batches, oldest first: `id`, `input_file_id`, `rows`, `status`.
    pub fn batches(&self) -> Vec<Value> {
        self.stats()["batches"]["jobs"].as_array().unwrap().clone()
    }

    /// Requests on `path` (`/v1/batches (POST)`) that were answered with `status`, or with no answer for 0.
    pub fn count(&self, path: &str, status: u16) -> u64 {
        self.stats()["by_path"][path][status.to_string()].as_u64().unwrap_or(0)
    }

    /// A GET with a key, as JSON.
    pub fn ask(&self, path: &str) -> Value {
        request(&self.address(), "GET", path, "authorization: Bearer any\r\n", "").json()
    }

    /// The text of a file at the service.
    pub fn file(&self, id: &Value) -> String {
        let path = format!("/v1/files/{}/content", id.as_str().unwrap());
        let answer = request(&self.address(), "GET", &path, "authorization: Bearer any\r\n", "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// `GET /sandbox/stats`.
    pub fn stats(&self) -> Value {
        let (status, body) = get(&self.address(), "/sandbox/stats");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Answers that were generated, delivered or not.
    pub fn bill(&self) -> u64 {
        self.stats()["bill"]["requests"].as_u64().unwrap()
    }

    /// HTTP requests of any kind that have ended.
    pub fn requests(&self) -> u64 {
        self.stats()["requests"].as_u64().unwrap()
    }

    /// Payments of each prompt, by the hash that its answer carries.
    pub fn paid(&self) -> BTreeMap<String, u64> {
        let stats = self.stats();
        let paid = stats["paid"].as_object().unwrap();
        paid.iter().map(|(hash, count)| (hash.clone(), count.as_u64().unwrap())).collect()
    }

    /// Payments beyond the first, over all prompts.
    pub fn paid_again(&self) -> u64 {
        self.paid().values().map(|count| count - 1).sum()
    }

    /// Stops the process until [`Self::thaw`]; the kernel keeps what clients send meanwhile.
    pub fn freeze(&self) {
        signal(self.child.id(), "STOP");
    }

    /// Continues the process after [`Self::freeze`].
    pub fn thaw(&self) {
        signal(self.child.id(), "CONT");
    }

    /// Waits until the server has generated `count` answers.
    pub fn until_billed(&self, count: u64) {
        until(&format!("{count} answers"), || self.bill() >= count);
    }

    /// `HOST:PORT`
    pub fn address(&self) -> String {
        self.url.trim_start_matches("http://").trim_end_matches("/v1").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of a GET.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let answer = request(address, "GET", path, "", "");
    (answer.status, answer.body)
}

/// Status and body of a POST of JSON, with a key or without.
pub fn post(address: &str, path: &str, key: Option<&str>, body: &str) -> (u16, String) {
    let key = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    let answer = request(address, "POST", path, &format!("{key}content-type: application/json\r\n"), body);
    (answer.status, answer.body)
}

/// An HTTP response.
pub struct Answer {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.body))
    }
}

/// Sends one request on a connection of its own; each line of `headers` ends with `\r\n`. Follows no redirect.
pub fn request(address: &str, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    try_request(address, method, path, headers, body).unwrap()
}

/// Sends one request to a server that may end meanwhile.
pub fn try_request(address: &str, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}");
    stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes())?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "the little client reads no chunks: {head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
