//! An answer before it is an HTTP response, and the body that can be made to break on the way.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;
use tokio::time::Sleep;

use super::listener::Conn;

/// How much of a file is read at a time.
const CHUNK: usize = 256 << 10;
/// What was sent before a break must leave the process first: the HTTP library drops what it still holds.
const FLUSH: Duration = Duration::from_millis(20);

/// What a reply carries.
#[derive(Debug)]
pub enum Payload {
    /// Bytes in memory.
    Bytes(Bytes),
    /// So many bytes of an open file, from where it stands.
    File(File, u64),
}

impl Payload {
    /// Bytes to send.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }

    fn take(&mut self, most: u64) -> io::Result<Bytes> {
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
        }
    }
}

/// A status, headers and a payload.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers, without `content-length`.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Payload,
}

impl Reply {
    /// A reply of one kind of content.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, payload: Payload::Bytes(body.into()) }
    }

    /// A JSON reply.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", body)
    }

    /// Adds or replaces a header; a value that no header can hold is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// The response as it should be.
    pub fn into_response(self) -> Response {
        match self.payload {
            Payload::Bytes(bytes) => respond(self.status, self.headers, Body::from(bytes)),
            Payload::File(..) => self.scripted(&Conn::default(), None, End::Complete, None),
        }
    }

    /// The response, ending after `cut` bytes (all, if none) in the way of `end`, sent in pieces by `pace`.
    /// The announced length is the whole one.
    pub fn scripted(mut self, conn: &Conn, cut: Option<u64>, end: End, pace: Option<Pace>) -> Response {
        let len = self.payload.len();
        self.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        let left = cut.map_or(len, |cut| cut.min(len));
        let body = ScriptBody { payload: self.payload, left, end, pace, sleep: None, conn: conn.clone() };
        respond(self.status, self.headers, Body::new(body))
    }
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Complete,
    /// The connection is closed.
    Break,
    /// The connection is reset.
    Reset,
    /// Nothing more comes, for ever.
    Stall,
}

/// So many bytes at a time, so long apart.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Bytes in a piece.
    pub bytes: u64,
    /// Time between two pieces.
    pub every: Duration,
}

struct ScriptBody {
    payload: Payload,
    left: u64,
    end: End,
    pace: Option<Pace>,
    sleep: Option<Pin<Box<Sleep>>>,
    conn: Conn,
}

impl http_body::Body for ScriptBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left > 0 {
            if let Some(sleep) = &mut self.sleep {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = None;
            }
            let most = self.pace.map_or(self.left, |pace| pace.bytes.min(self.left));
            let chunk = self.payload.take(most)?;
            self.left -= chunk.len() as u64;
            self.sleep = self.pace.map(|pace| Box::pin(tokio::time::sleep(pace.every)));
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match self.end {
            End::Complete => Poll::Ready(None),
            End::Stall => Poll::Pending,
            End::Break | End::Reset => {
                if self.pace.take().is_some() {
                    self.sleep = None;
                }
                let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH)));
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if self.end == End::Reset {
                    self.conn.reset();
                }
                Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.end == End::Complete
    }
}
