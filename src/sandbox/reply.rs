//! An answer before it is an HTTP response.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value;

use super::SandboxConfig;
use super::event_stream::EventStream;
use super::listener::Conn;
use super::script_body::{BodyDelivery, script_body};

/// The most that is read of a file at a time.
const CHUNK: usize = 256 << 10;
/// The smallest body that is worth packing.
const PACK_FROM: usize = 256;

/// The body of a reply.
#[derive(Debug)]
pub enum Payload {
    Bytes(Bytes),
    /// This many bytes of an open file, from its position on.
    File(File, u64),
    Events(EventStream),
}

impl Payload {
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
            Self::Events(stream) => stream.len(),
        }
    }

    /// Takes at most `most` bytes from the front.
    pub fn take(&mut self, most: u64) -> io::Result<Bytes> {
        match self {
            Self::Bytes(bytes) => {
                let n = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.split_to(n))
            }
            Self::File(file, _) => {
                // A sandbox's files are small and warm: reading here costs less than a thread's round trip.
                let n = usize::try_from(most).unwrap_or(CHUNK).min(CHUNK);
                let mut chunk = vec![0; n];
                let read = file.read(&mut chunk)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                chunk.truncate(read);
                Ok(chunk.into())
            }
            Self::Events(stream) => Ok(stream.take(most)),
        }
    }
}

/// A status, headers and a payload.
#[derive(Debug)]
pub struct HttpReply {
    pub status: StatusCode,
    /// Headers, without `content-length`.
    pub headers: HeaderMap,
    pub payload: Payload,
}

impl HttpReply {
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, payload: Payload::Bytes(body.into()) }
    }

    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", body)
    }

    /// A JSON reply over several lines.
    pub fn pretty(status: StatusCode, value: &Value) -> Self {
        Self::json(status, serde_json::to_string_pretty(value).unwrap_or_default())
    }

    /// Adds or replaces a header; a value that no header can hold is left out.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// A stream of events.
    pub fn events(stream: EventStream) -> Self {
        let reply = Self::new(StatusCode::OK, "text/event-stream;charset=utf-8", "");
        Self { payload: Payload::Events(stream), ..reply.header("cache-control", "no-cache") }
    }

    /// Compresses the body if the sandbox is set to and the client accepts it.
    pub fn packed(mut self, config: &SandboxConfig, request: &HeaderMap) -> Self {
        if let Payload::Bytes(bytes) = &self.payload
            && config.gzip
            && bytes.len() >= PACK_FROM
            && accepts_gzip(request)
        {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            if packer.write_all(bytes).is_ok()
                && let Ok(packed) = packer.finish()
            {
                self.payload = Payload::Bytes(packed.into());
                self.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        self
    }

    pub fn into_response(self) -> Response {
        match self.payload {
            Payload::Bytes(bytes) => respond(self.status, self.headers, Body::from(bytes)),
            Payload::File(..) | Payload::Events(_) => self.delivered(&Conn::default(), BodyDelivery::default()),
        }
    }

    /// The response, delivered as scripted. The announced length is the whole one; a stream has none.
    pub fn delivered(mut self, conn: &Conn, delivery: BodyDelivery) -> Response {
        if !matches!(self.payload, Payload::Events(_)) {
            let len = HeaderValue::from(self.payload.len());
            self.headers.insert(header::CONTENT_LENGTH, len);
        }
        respond(self.status, self.headers, script_body(self.payload, conn.clone(), delivery))
    }
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|list| list.split(',').any(|item| item.trim().starts_with("gzip")))
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The reason why a request got no answer of its own.
#[derive(Debug)]
pub enum Refused {
    Reply(Box<HttpReply>),
    /// The sandbox's disk failed.
    Disk(io::Error),
}

impl From<HttpReply> for Refused {
    fn from(reply: HttpReply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}
