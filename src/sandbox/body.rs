//! Request bodies that are read as a whole, within a bound.

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;

use super::errors::ApiError;
use super::reply::HttpReply;

/// The reason why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The client broke off: it does not read an answer, and nothing is billed.
    Gone,
    /// The body is larger than the bound.
    TooLarge,
}

impl Unread {
    pub fn reply(self) -> HttpReply {
        match self {
            Self::Gone => ApiError::invalid("The request body did not arrive").reply(StatusCode::BAD_REQUEST),
            Self::TooLarge => ApiError::invalid("The request body is too large").reply(StatusCode::PAYLOAD_TOO_LARGE),
        }
    }
}

/// The whole body, if it has at most `most` bytes.
pub async fn read(body: Body, most: usize) -> Result<Bytes, Unread> {
    let mut pieces = body.into_data_stream();
    let mut all = BytesMut::new();
    while let Some(piece) = pieces.try_next().await.map_err(|_| Unread::Gone)? {
        if all.len() + piece.len() > most {
            return Err(Unread::TooLarge);
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}
