//! The events of a stream, put together to one answer.

use bytes::Bytes;

use crate::api::MAX_BODY;
use crate::api::error::{Failure, Fault};
use crate::api::event_stream::{EventReader, StreamEvent, TooLong};
use crate::api::response::too_long;
use crate::completion::{Assembly, Chunk};

/// The last event of a stream.
const DONE: &[u8] = b"[DONE]";
/// Bytes of all events. A chunk has a hundred times the size of the token in it.
const MOST_BYTES: usize = 4 * MAX_BODY;

/// The answer in the bytes of a stream so far.
pub(super) struct StreamedAnswer {
    bytes: usize,
    reader: EventReader,
    events: AnswerEvents,
}

/// The answer in the events so far.
struct AnswerEvents {
    status: u16,
    assembly: Assembly,
    /// A piece of the answer has come.
    has_begun: bool,
    /// An error came in place of a chunk.
    error: Option<Bytes>,
    /// The last event has come.
    is_done: bool,
}

impl StreamedAnswer {
    /// Begins a stream that came with this status.
    pub(super) fn new(status: u16) -> Self {
        let events =
            AnswerEvents { status, assembly: Assembly::default(), has_begun: false, error: None, is_done: false };
        Self { bytes: 0, reader: EventReader::default(), events }
    }

    /// Returns true if a piece of the answer has come.
    pub(super) const fn has_begun(&self) -> bool {
        self.events.has_begun
    }

    /// Returns true if the last event has come.
    pub(super) const fn is_done(&self) -> bool {
        self.events.is_done
    }

    /// Returns true if an error has come in place of the answer.
    pub(super) const fn has_failed(&self) -> bool {
        self.events.error.is_some()
    }

    /// Takes bytes of the body.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.bytes += bytes.len();
        if self.bytes > MOST_BYTES {
            return Err(bad(self.events.status, "with a stream that does not end"));
        }
        self.reader.push(bytes);
        while !self.is_done() && !self.has_failed() {
            match self.reader.next() {
                Ok(Some(StreamEvent::Data { data, is_error })) => self.events.take(data, is_error)?,
                Ok(Some(StreamEvent::Comment)) => {}
                Ok(None) => break,
                Err(TooLong) => return Err(bad(self.events.status, "with an event that is longer than any answer")),
            }
        }
        Ok(())
    }

    /// The body of the answer, or of the error that came in its place. `choices` is the number that was asked for.
    pub(super) fn end(mut self, choices: impl FnOnce() -> usize) -> Result<Bytes, Failure> {
        // The last event may lack the empty line behind it. One that was cut off adds nothing.
        _ = self.take(b"\n\n");
        let AnswerEvents { assembly, error: None, is_done, .. } = &self.events else {
            return Ok(self.events.error.unwrap_or_default());
        };
        if !assembly.has_ended(if *is_done { 1 } else { choices() }) {
            return Err(bad(self.events.status, "with a stream that ends before its answer does"));
        }
        let (status, body) = (self.events.status, self.events.assembly.into_body().unwrap_or_default());
        if body.len() > MAX_BODY { Err(too_long(status)) } else { Ok(body.into()) }
    }
}

impl AnswerEvents {
    /// Takes the data of an event.
    fn take(&mut self, data: &[u8], is_error: bool) -> Result<(), Failure> {
        if data == DONE {
            self.is_done = true;
            return Ok(());
        }
        if data.is_empty() {
            return Ok(());
        }
        let chunk = match std::str::from_utf8(data) {
            Ok(_) if is_error => Chunk::Error,
            Ok(text) => self.assembly.push(text),
            Err(_) => Chunk::Invalid,
        };
        match chunk {
            Chunk::Piece => self.has_begun = true,
            Chunk::Other => {}
            Chunk::Error => self.error = Some(Bytes::copy_from_slice(data)),
            Chunk::Invalid => return Err(bad(self.status, "with an event that is no chunk of an answer")),
        }
        Ok(())
    }
}

fn bad(status: u16, what: &str) -> Failure {
    Failure { status: Some(status), ..Failure::new(Fault::BadResponse, format!("HTTP {status} {what}")) }
}
