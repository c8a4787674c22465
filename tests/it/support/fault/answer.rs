//! The source of right answers: made here, or fetched from the server behind.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::wire::{Answer, Request};

/// The source of right answers.
pub enum Source {
    /// Chat completions, made here.
    Oracle,
    /// The server at this `HOST:PORT`.
    Upstream(String),
}

/// The hash that an answer to `prompt` carries, and under which its payments are counted; the sandbox does the same.
pub fn paid_hash(prompt: &str) -> String {
    blake3::hash(prompt.as_bytes()).to_hex()[..16].to_owned()
}

/// The last message of a chat completion, if it is one.
pub(super) fn prompt(request: &Request) -> String {
    if !request.line.ends_with("/chat/completions") {
        return String::new();
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    last.and_then(|message| message["content"].as_str()).unwrap_or_default().to_owned()
}

impl Source {
    pub(super) fn answer(&self, request: &Request) -> io::Result<Answer> {
        match self {
            Self::Oracle => Ok(oracle(request)),
            Self::Upstream(address) => ask(address, request),
        }
    }
}

fn oracle(request: &Request) -> Answer {
    match &prompt(request)[..] {
        "" => Answer::json("404 Not Found", r#"{"error":{"message":"chat completions are served here"}}"#),
        prompt => completion(prompt),
    }
}

/// Over many lines, as the service writes it: there is a line to cut behind.
pub(super) fn completion(prompt: &str) -> Answer {
    let hash = paid_hash(prompt);
    let body = json!({
        "id": hash, "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": format!("[{hash}] {prompt}")}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 16, "total_tokens": 26},
    });
    Answer::json("200 OK", &serde_json::to_string_pretty(&body).unwrap())
}

/// The same request on a connection of its own.
fn ask(address: &str, request: &Request) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    let mut head = format!("{} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n", request.line);
    for (name, value) in &request.headers {
        // Packed bodies could not be cut between lines.
        if !["host", "connection", "accept-encoding"].contains(&name.as_str()) {
            head.extend([name, ": ", value, "\r\n"]);
        }
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(&request.body)?;
    let mut whole = Vec::new();
    stream.read_to_end(&mut whole)?;
    let end = memchr::memmem::find(&whole, b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&whole[..end]).into_owned();
    let (status, lines) = head.split_once("\r\n").unwrap_or((&head, ""));
    let status = status.split_once(' ').map_or("", |(_, status)| status).to_owned();
    let mut headers = String::new();
    for line in lines.lines() {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        assert_ne!(name, "transfer-encoding", "chunks are not read here");
        if !["content-length", "connection"].contains(&name.as_str()) {
            headers.extend([line, "\r\n"]);
        }
    }
    Ok(Answer { status, headers, body: whole[end + 4..].to_vec() })
}
