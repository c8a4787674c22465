//! A stream of events as bytes on their way, each piece with the wait before it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::dice::Dice;
use super::stats::RequestGuard;
use super::stream_shape::StreamShape;

/// The largest piece of a stream that is split.
const LARGEST: u64 = 48;

/// The bytes of a stream.
#[derive(Debug)]
pub struct EventStream {
    pieces: VecDeque<StreamPiece>,
    len: u64,
    comment: Bytes,
    /// The time between two comments of a wait.
    comments: Option<Duration>,
    _places: StreamPlaces,
}

/// The places that a request holds until its stream has ended or the client is gone.
#[derive(Debug)]
pub struct StreamPlaces {
    _in_flight: Option<RequestGuard>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl StreamPlaces {
    pub const fn new(in_flight: Option<RequestGuard>, slot: Option<OwnedSemaphorePermit>) -> Self {
        Self { _in_flight: in_flight, _slot: slot }
    }
}

/// Some bytes, and the wait before them.
#[derive(Debug)]
struct StreamPiece {
    wait: Duration,
    bytes: Bytes,
}

impl EventStream {
    /// The stream of events with these data. The `seed` decides where it is split.
    pub fn new(events: &[String], shape: StreamShape, seed: u64, places: StreamPlaces) -> Self {
        let end = shape.line_end.text();
        let comment = Bytes::from(format!(": keep-alive{end}{end}"));
        let comments = shape.comments;
        let mut stream = Self { pieces: VecDeque::new(), len: 0, comment, comments, _places: places };
        for (i, data) in events.iter().enumerate() {
            let usual = if i == 0 { shape.first_token } else { shape.chunk_delay };
            let pause = if i == events.len() / 2 { shape.pause } else { Duration::ZERO };
            stream.push(usual + pause, Bytes::from(format!("data: {data}{end}{end}")));
        }
        if shape.split {
            stream.split(Dice(seed));
        }
        stream.len = stream.pieces.iter().map(|piece| piece.bytes.len() as u64).sum();
        stream
    }

    /// Adds an event after a wait, with its comments.
    fn push(&mut self, mut wait: Duration, bytes: Bytes) {
        if let Some(every) = self.comments {
            while wait > every {
                wait -= every;
                self.pieces.push_back(StreamPiece { wait: every, bytes: self.comment.clone() });
            }
            self.pieces.push_back(StreamPiece { wait, bytes: self.comment.clone() });
            wait = Duration::ZERO;
        }
        self.pieces.push_back(StreamPiece { wait, bytes });
    }

    /// Cuts the bytes between two waits anew, anywhere.
    fn split(&mut self, mut dice: Dice) {
        let mut pieces = std::mem::take(&mut self.pieces).into_iter().peekable();
        while let Some(first) = pieces.next() {
            let (mut wait, mut run) = (first.wait, BytesMut::from(first.bytes));
            while let Some(next) = pieces.next_if(|piece| piece.wait.is_zero()) {
                run.extend_from_slice(&next.bytes);
            }
            while !run.is_empty() {
                let most = usize::try_from(1 + dice.roll() % LARGEST).unwrap_or(1).min(run.len());
                self.pieces.push_back(StreamPiece { wait, bytes: run.split_to(most).freeze() });
                wait = Duration::ZERO;
            }
        }
    }

    /// The bytes that are still to come.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Leaves out what comes after so many bytes.
    pub fn truncate(&mut self, len: u64) {
        self.len = self.len.min(len);
    }

    /// The wait before the next bytes. It is over when this returns.
    pub fn wait(&mut self) -> Duration {
        self.pieces.front_mut().map_or(Duration::ZERO, |piece| std::mem::take(&mut piece.wait))
    }

    /// Takes at most `most` bytes of the next piece.
    pub fn take(&mut self, most: u64) -> Bytes {
        let most = usize::try_from(most.min(self.len)).unwrap_or(usize::MAX);
        let Some(piece) = self.pieces.front_mut() else { return Bytes::new() };
        let bytes = piece.bytes.split_to(most.min(piece.bytes.len()));
        if piece.bytes.is_empty() {
            self.pieces.pop_front();
        }
        self.len -= bytes.len() as u64;
        bytes
    }

    /// A comment of an endless wait, and the time before it.
    pub fn comment(&self) -> Option<(Duration, Bytes)> {
        Some((self.comments?, self.comment.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("{{\"n\": {i}}}")).collect()
    }

    /// The waits in milliseconds and the texts of all pieces.
    fn pieces(shape: StreamShape, count: usize) -> Vec<(u128, String)> {
        let mut stream = EventStream::new(&data(count), shape, 1, StreamPlaces::new(None, None));
        let mut pieces = Vec::new();
        while stream.len() > 0 {
            let wait = stream.wait().as_millis();
            pieces.push((wait, String::from_utf8(stream.take(u64::MAX).to_vec()).unwrap()));
        }
        pieces
    }

    #[test]
    fn waits_stand_before_the_first_the_middle_and_each_event() {
        let shape = StreamShape {
            first_token: Duration::from_millis(5),
            chunk_delay: Duration::from_millis(2),
            pause: Duration::from_millis(30),
            ..StreamShape::default()
        };
        let waits: Vec<_> = pieces(shape, 4).into_iter().map(|(wait, _)| wait).collect();
        assert_eq!(waits, [5, 2, 32, 2]);
    }

    #[test]
    fn comments_stand_before_events_and_in_waits() {
        let shape = StreamShape {
            comments: Some(Duration::from_millis(10)),
            first_token: Duration::from_millis(25),
            ..StreamShape::default()
        };
        let comment = ": keep-alive\n\n".to_owned();
        let event = |i: usize| format!("data: {{\"n\": {i}}}\n\n");
        let expected = [(10, &comment), (10, &comment), (5, &comment), (0, &event(0)), (0, &comment), (0, &event(1))];
        assert_eq!(pieces(shape, 2), expected.map(|(wait, text)| (wait, text.clone())));
    }

    #[test]
    fn a_split_stream_has_the_same_bytes_in_other_pieces() {
        for line_end in [super::super::stream_shape::LineEnd::CrLf, super::super::stream_shape::LineEnd::Cr] {
            let plain = StreamShape { line_end, ..StreamShape::default() };
            let whole: String = pieces(plain, 40).into_iter().map(|(_, text)| text).collect();
            let split = pieces(StreamShape { split: true, ..plain }, 40);
            assert_eq!(split.iter().map(|(_, text)| text.as_str()).collect::<String>(), whole);
            let starts = split.iter().filter(|(_, text)| text.starts_with("data: ")).count();
            assert!(split.len() > 20 && starts < split.len() / 2, "{split:?}");
        }
    }

    #[test]
    fn a_truncated_stream_ends_at_the_byte() {
        let mut stream = EventStream::new(&data(3), StreamShape::default(), 0, StreamPlaces::new(None, None));
        stream.truncate(20);
        let mut all = BytesMut::new();
        while stream.len() > 0 {
            all.extend_from_slice(&stream.take(3));
        }
        assert_eq!(all, "data: {\"n\": 0}\n\ndata");
    }
}
