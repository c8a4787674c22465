//! The events of a stream, put together to one answer.

use std::cell::OnceCell;

use bytes::Bytes;

use crate::api::MAX_BODY;
use crate::api::error::{Failure, Fault};
use crate::api::event_stream::{EventReader, StreamEvent, TooLong};
use crate::api::response::too_long;
use crate::completion::{Assembly, Chunk};
use crate::json;

/// The last event of a stream.
const DONE: &[u8] = b"[DONE]";
/// Bytes of all events. A chunk has a hundred times the size of the token in it.
const MOST_BYTES: usize = 4 * MAX_BODY;

/// The part of a stream that is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A part of the answer.
    Answer,
    /// The count of its tokens: every choice has ended.
    Usage,
    /// The end of the body.
    End,
}

/// The answer in the bytes of a stream so far.
pub(super) struct StreamedAnswer<'a> {
    /// Bytes that came.
    came: usize,
    reader: EventReader,
    events: AnswerEvents<'a>,
}

/// The answer in the events so far.
struct AnswerEvents<'a> {
    status: u16,
    /// The body of the request.
    request: &'a [u8],
    /// The choices that it asks for, once that matters.
    choices: OnceCell<usize>,
    assembly: Assembly,
    /// Pieces of the answer that have come.
    pieces: u64,
    /// An error came in place of a chunk.
    error: Option<Bytes>,
    /// The last event has come.
    is_done: bool,
    awaited: Awaited,
}

impl<'a> StreamedAnswer<'a> {
    /// Begins the answer to a request. It came with this status.
    pub(super) fn new(status: u16, request: &'a [u8]) -> Self {
        let events = AnswerEvents {
            status,
            request,
            choices: OnceCell::new(),
            assembly: Assembly::default(),
            pieces: 0,
            error: None,
            is_done: false,
            awaited: Awaited::Answer,
        };
        Self { came: 0, reader: EventReader::default(), events }
    }

    /// Returns true if a piece of the answer has come.
    pub(super) const fn has_begun(&self) -> bool {
        self.events.pieces > 0
    }

    /// Returns the number of pieces of the answer that have come.
    pub(super) const fn pieces(&self) -> u64 {
        self.events.pieces
    }

    /// Returns the bytes that it holds.
    pub(super) const fn bytes(&self) -> usize {
        self.events.assembly.bytes() + self.reader.bytes()
    }

    /// Returns true if the last event has come.
    pub(super) const fn is_done(&self) -> bool {
        self.events.is_done
    }

    /// Returns what is still to come.
    pub(super) const fn awaited(&self) -> Awaited {
        self.events.awaited
    }

    /// Returns true if an error has come in place of the answer.
    pub(super) const fn has_failed(&self) -> bool {
        self.events.error.is_some()
    }

    /// Takes bytes of the body.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.is_done() {
            return Ok(());
        }
        self.came += bytes.len();
        if self.came > MOST_BYTES {
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

    /// The body of the answer, or of the error that came in its place.
    pub(super) fn end(mut self) -> Result<Bytes, Failure> {
        // The last event may lack the empty line behind it. One that was cut off adds nothing.
        _ = self.take(b"\n\n");
        let AnswerEvents { assembly, error: None, is_done, .. } = &self.events else {
            return Ok(self.events.error.unwrap_or_default());
        };
        if !(self.events.is_final() || (*is_done && assembly.has_ended(1))) {
            return Err(bad(self.events.status, "with a stream that ends before its answer does"));
        }
        let (status, body) = (self.events.status, self.events.assembly.into_body().unwrap_or_default());
        if body.len() > MAX_BODY { Err(too_long(status)) } else { Ok(body.into()) }
    }
}

impl AnswerEvents<'_> {
    /// Returns true if every choice that was asked for has ended: nothing that comes later makes it another answer.
    fn is_final(&self) -> bool {
        self.assembly.has_ended(1) && self.assembly.has_ended(*self.choices.get_or_init(|| choices_of(self.request)))
    }

    /// Takes the data of an event.
    fn take(&mut self, data: &[u8], is_error: bool) -> Result<(), Failure> {
        if data.trim_ascii() == DONE {
            self.is_done = true;
            self.awaited = Awaited::End;
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
            // A mere piece ends nothing.
            Chunk::More => {
                self.pieces += 1;
                return Ok(());
            }
            Chunk::Piece => self.pieces += 1,
            Chunk::Other => {}
            // The answer was paid for, and is whole. An error that ended it is said in its own words.
            Chunk::Error | Chunk::Invalid if self.is_final() && !self.assembly.has_failed() => self.is_done = true,
            Chunk::Error => self.error = Some(Bytes::copy_from_slice(data)),
            Chunk::Invalid => return Err(bad(self.status, "with an event that is no chunk of an answer")),
        }
        self.awaited = match () {
            () if self.is_done => Awaited::End,
            () if !self.is_final() => Awaited::Answer,
            () if self.assembly.has_usage() => Awaited::End,
            () => Awaited::Usage,
        };
        Ok(())
    }
}

/// The number of choices that a request asks for, which is JSON.
fn choices_of(request: &[u8]) -> usize {
    let number = |text| json::whole(json::find(&json::trusted_members(text), "n")?.value);
    let number = std::str::from_utf8(request).ok().and_then(number);
    number.and_then(|number| usize::try_from(number).ok()).unwrap_or(1)
}

fn bad(status: u16, what: &str) -> Failure {
    Failure { status: Some(status), ..Failure::new(Fault::BadResponse, format!("HTTP {status} {what}")) }
}
