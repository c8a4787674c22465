//! An object read from its start to its end, a little ahead of its reader.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::background::Pending;
use super::failure::ObjectFailure;
use super::pinned::RemoteObject;
use crate::error::Result;

/// The first piece: a look at the beginning of a file costs no more. Each piece is four times as long as the last.
const FIRST: u64 = 256 << 10;
/// The largest piece: large enough that the time to its first byte does not count.
const LARGEST: u64 = 8 << 20;
/// Pieces on their way while one is read: as much memory as that, whatever the size of the object.
const AHEAD: usize = 2;

/// Reads a [`RemoteObject`] in order. Its errors hold an [`Error`](crate::error::Error).
pub struct ObjectReader {
    object: Arc<RemoteObject>,
    current: Bytes,
    coming: VecDeque<Pending<Result<Bytes, ObjectFailure>>>,
    /// Bytes that were asked for.
    asked: u64,
    piece: u64,
}

impl ObjectReader {
    /// Begins at the start of the object. Nothing is read yet.
    pub fn new(object: Arc<RemoteObject>) -> Self {
        Self { object, current: Bytes::new(), coming: VecDeque::new(), asked: 0, piece: FIRST }
    }

    fn ask(&mut self) -> Result<()> {
        if self.asked < self.object.size() {
            self.coming.push_back(self.object.start_read(self.asked, self.piece)?);
            self.asked += self.piece;
            self.piece = (self.piece * 4).min(LARGEST);
        }
        Ok(())
    }

    /// Gets the next piece, and has those behind it read.
    fn advance(&mut self) -> Result<()> {
        // The second piece is asked for once the first one has been used up.
        let ahead = if self.asked == 0 { 1 } else { AHEAD };
        while self.coming.len() < ahead && self.asked < self.object.size() {
            self.ask()?;
        }
        if let Some(pending) = self.coming.pop_front() {
            self.current = self.object.finish(&pending)?;
        }
        Ok(())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.current.has_remaining() {
            self.advance().map_err(io::Error::other)?;
        }
        let given = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..given]);
        Ok(given)
    }
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectReader({:?}, {} asked)", self.object.url(), self.asked)
    }
}
