//! A response body that can be slow, end early or break on the way.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::time::sleep;

use super::listener::Conn;
use super::reply::Payload;

/// The pause before a break: the HTTP library drops what it still holds, so everything sent must leave the process first.
const FLUSH: Duration = Duration::from_millis(20);

/// The way in which a body is sent: by default whole and as fast as possible.
#[derive(Debug, Clone, Copy, Default)]
pub struct BodyDelivery {
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
    /// The connection is closed.
    Break,
    /// The connection is reset.
    Reset,
    /// Nothing more comes, for ever, but the comments of a stream.
    Stall,
}

/// A body on its way.
struct Sending {
    payload: Payload,
    conn: Conn,
    delivery: BodyDelivery,
    sent: u64,
    left: u64,
}

/// The body of `payload`, sent on `conn` as scripted.
pub fn script_body(payload: Payload, conn: Conn, delivery: BodyDelivery) -> Body {
    let len = payload.len();
    let left = delivery.cut.map_or(len, |cut| cut.min(len));
    let sending = Sending { payload, conn, delivery, sent: 0, left };
    Body::from_stream(stream::unfold(sending, async |mut sending| {
        let piece = if sending.left > 0 { Some(sending.piece().await) } else { sending.end().await };
        piece.map(|piece| (piece, sending))
    }))
}

impl Sending {
    async fn piece(&mut self) -> io::Result<Bytes> {
        if let Some(pause) = self.delivery.drip.filter(|_| self.sent > 0) {
            sleep(pause).await;
        }
        if let Payload::Events(stream) = &mut self.payload {
            let wait = stream.wait();
            if !wait.is_zero() {
                sleep(wait).await;
            }
        }
        let most = if self.delivery.drip.is_some() { 1 } else { self.left };
        let piece = self.payload.take(most)?;
        self.sent += piece.len() as u64;
        self.left -= piece.len() as u64;
        Ok(piece)
    }

    /// Waits for the end of the body. Returns the error of a broken one.
    async fn end(&self) -> Option<io::Result<Bytes>> {
        match self.delivery.end {
            BodyEnd::Complete => None,
            BodyEnd::Stall => match &self.payload {
                Payload::Events(stream) if let Some((every, comment)) = stream.comment() => {
                    sleep(every).await;
                    Some(Ok(comment))
                }
                _ => std::future::pending().await,
            },
            BodyEnd::Break | BodyEnd::Reset => {
                sleep(FLUSH).await;
                if self.delivery.end == BodyEnd::Reset {
                    self.conn.reset();
                }
                Some(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }
}
