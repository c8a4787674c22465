//! For tests: a server that sends scripted answers, one for each connection, and records the requests.
//!
//! It knows nothing about the service, so that it cannot share our mistakes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;

use super::{Client, ClientOptions};

/// The key of [`client`].
const KEY: &str = "test-key-0123456789";

/// A recorded request.
#[derive(Debug, Clone)]
pub(super) struct SeenRequest {
    /// The request line.
    pub line: String,
    /// Headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl SeenRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// The server; its thread ends after the last answer.
pub struct Scripted {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    seen: Arc<Mutex<Vec<SeenRequest>>>,
}

impl Scripted {
    /// Starts the server. The n-th connection gets the n-th answer, byte for byte, and is closed. An empty answer hangs, and
    /// one that ends in `<hang>` hangs after the rest. One that begins with `<late>` comes after half a second. `answers` receives the base URL, for redirects.
    pub fn start(answers: impl FnOnce(&str) -> Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let answers = answers(&base).into_iter().map(String::into_bytes).collect();
        Self::on(listener, base, answers)
    }

    /// Starts a server whose answers are no text. See [`Self::start`].
    pub(super) fn of_bytes(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        Self::on(listener, base, answers)
    }

    fn on(listener: TcpListener, base: String, answers: Vec<Vec<u8>>) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut hanging = Vec::new();
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let Some(request) = request(&stream) else { continue };
                kept.lock().unwrap().push(request);
                let late = answer.strip_prefix(b"<late>");
                if late.is_some() {
                    std::thread::sleep(Duration::from_millis(500));
                }
                let answer = late.unwrap_or(&answer);
                let (bytes, hangs) = match answer.strip_suffix(b"<hang>") {
                    Some(bytes) => (bytes, true),
                    None => (answer, answer.is_empty()),
                };
                let _ = stream.write_all(bytes);
                if hangs {
                    hanging.push(stream);
                }
            }
            // Hanging connections stay open until the clients close them.
            for mut stream in hanging {
                let _ = stream.read(&mut [0]);
            }
        });
        Self { base, seen }
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.seen.lock().unwrap().clone()
    }
}

fn request(stream: &TcpStream) -> Option<SeenRequest> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" if lines.is_empty() => return None,
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: Vec<_> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(SeenRequest { line: lines.swap_remove(0), headers, body })
}

/// Makes a client of the server at `base`, with a key.
pub fn client(base: &str) -> Client {
    let key = Some(SecretString::from(KEY.to_owned()));
    let options = ClientOptions { base_url: base.to_owned(), key, headers: Vec::new(), user_agent: "test".to_owned() };
    Client::new(&options).unwrap()
}

/// Makes a whole answer with these extra headers (`name: value\r\n` each).
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}
