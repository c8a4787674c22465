//! A response body that can be slow, end early or break on the way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Sleep;

use super::listener::Conn;
use super::reply::Payload;

/// The pause before a break: the HTTP library drops what it still holds, so everything sent must leave the process first.
const FLUSH: Duration = Duration::from_millis(20);

/// The way in which a body is sent: by default whole and as fast as possible.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delivery {
    /// The bytes that are sent before the end; all without a value.
    pub cut: Option<u64>,
    pub end: BodyEnd,
    /// The pause between two bytes, if it is sent byte by byte.
    pub drip: Option<Duration>,
}

/// The end of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyEnd {
    #[default]
    Complete,
    Break,
    Reset,
    /// Nothing more comes, for ever.
    Stall,
}

/// A body with its delivery.
pub struct ScriptBody {
    payload: Payload,
    conn: Conn,
    left: u64,
    end: BodyEnd,
    drip: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl ScriptBody {
    pub fn new(payload: Payload, conn: Conn, delivery: Delivery) -> Self {
        let len = payload.len();
        let left = delivery.cut.map_or(len, |cut| cut.min(len));
        Self { payload, conn, left, end: delivery.end, drip: delivery.drip, sleep: None }
    }

    /// Waits until the current pause is over, if there is one.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Ready(())
    }

    fn poll_break(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH)));
        std::task::ready!(sleep.as_mut().poll(cx));
        if self.end == BodyEnd::Reset {
            self.conn.reset();
        }
        Poll::Ready(io::ErrorKind::ConnectionAborted.into())
    }
}

impl http_body::Body for ScriptBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left > 0 {
            std::task::ready!(self.poll_pause(cx));
            let most = if self.drip.is_some() { 1 } else { self.left };
            let chunk = self.payload.take(most)?;
            self.left -= chunk.len() as u64;
            self.sleep = self.drip.map(|pause| Box::pin(tokio::time::sleep(pause)));
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match self.end {
            BodyEnd::Complete => Poll::Ready(None),
            BodyEnd::Stall => Poll::Pending,
            BodyEnd::Break | BodyEnd::Reset => self.poll_break(cx).map(|error| Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.end == BodyEnd::Complete
    }
}
