//! Server-sent events over bytes, however they are cut into pieces.

use std::ops::Range;

/// Bytes of one line. A longer one ends the stream: no chunk of an answer comes near.
const LONGEST_LINE: usize = 16 << 20;
/// Bytes of the data of one event, for the same reason.
const LONGEST_DATA: usize = 32 << 20;

/// A reader of an event stream. It takes bytes as they arrive, and gives the data of whole events.
#[derive(Debug, Default)]
pub struct EventReader {
    /// Bytes that came, from the first that was not read.
    bytes: Vec<u8>,
    /// Offset of the line that is next.
    at: usize,
    /// Bytes behind `at` that hold no line end.
    searched: usize,
    /// The last line ended with a carriage return, so a line feed now belongs to it.
    after_return: bool,
    /// The first line was read: a byte order mark before it is no part of it.
    begun: bool,
    /// The data of several lines. An event of one line needs no copy.
    data: Option<EventData>,
    /// The event that is being read calls itself an error.
    is_error: bool,
}

/// The data lines of an event so far.
#[derive(Debug)]
enum EventData {
    /// One line, in `bytes`.
    Line(Range<usize>),
    /// Several lines, put together.
    Joined(Vec<u8>),
}

/// A whole event.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamEvent<'a> {
    /// Its data.
    Data {
        /// The lines of data, put together by line feeds.
        data: &'a [u8],
        /// The event is of the type `error`.
        is_error: bool,
    },
    /// A comment: the server is alive.
    Comment,
}

/// A line or an event that is longer than any answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl EventReader {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.make_room();
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the bytes that wait for more.
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what was read. A line of data that waits for more stays.
    fn make_room(&mut self) {
        let keep = match &self.data {
            Some(EventData::Line(line)) => line.start,
            _ => self.at,
        };
        if keep == 0 {
            return;
        }
        self.bytes.drain(..keep);
        self.at -= keep;
        if let Some(EventData::Line(line)) = &mut self.data {
            *line = line.start - keep..line.end - keep;
        }
    }

    /// The next whole event. `None`: it has not come yet.
    ///
    /// # Errors
    /// A line or an event is too long. The stream is of no use from there on.
    pub fn next(&mut self) -> Result<Option<StreamEvent<'_>>, TooLong> {
        while let Some(line) = self.line()? {
            if line.is_empty() {
                let is_error = std::mem::take(&mut self.is_error);
                let Some(data) = self.data.take() else { continue };
                return Ok(Some(StreamEvent::Data { data: self.joined(data), is_error }));
            }
            match self.bytes[line.clone()].first() {
                Some(b':') => return Ok(Some(StreamEvent::Comment)),
                _ => self.field(line)?,
            }
        }
        Ok(None)
    }

    fn joined(&mut self, data: EventData) -> &[u8] {
        match data {
            EventData::Line(line) => &self.bytes[line],
            EventData::Joined(lines) => {
                // The lines stand before what is still to be read, so that they can be lent.
                let len = lines.len();
                self.bytes.splice(..self.at, lines);
                self.at = len;
                &self.bytes[..len]
            }
        }
    }

    /// The next whole line, without its end.
    fn line(&mut self) -> Result<Option<Range<usize>>, TooLong> {
        if self.after_return && self.at < self.bytes.len() {
            self.after_return = false;
            if self.bytes[self.at] == b'\n' {
                self.at += 1;
                self.searched = 0;
            }
        }
        let from = (self.at + self.searched).min(self.bytes.len());
        let Some(found) = memchr::memchr2(b'\n', b'\r', &self.bytes[from..]) else {
            self.searched = self.bytes.len() - self.at;
            return if self.searched > LONGEST_LINE { Err(TooLong) } else { Ok(None) };
        };
        let (mut start, end) = (self.at, from + found);
        self.after_return = self.bytes[end] == b'\r';
        (self.at, self.searched) = (end + 1, 0);
        if !std::mem::replace(&mut self.begun, true) && self.bytes[start..end].starts_with("\u{feff}".as_bytes()) {
            start += '\u{feff}'.len_utf8();
        }
        Ok(Some(start..end))
    }

    /// Reads a line `NAME: VALUE`. Only data and the type of an event matter.
    fn field(&mut self, line: Range<usize>) -> Result<(), TooLong> {
        let text = &self.bytes[line.clone()];
        let colon = memchr::memchr(b':', text).unwrap_or(text.len());
        let space = usize::from(text.get(colon + 1) == Some(&b' '));
        let value = (line.start + colon + 1 + space).min(line.end)..line.end;
        match &text[..colon] {
            b"data" => self.add(value),
            b"event" => {
                self.is_error = &self.bytes[value] == b"error";
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Adds a line of data to the event.
    fn add(&mut self, line: Range<usize>) -> Result<(), TooLong> {
        let mut lines = match self.data.take() {
            None => {
                self.data = Some(EventData::Line(line));
                return Ok(());
            }
            Some(EventData::Line(first)) => self.bytes[first].to_vec(),
            Some(EventData::Joined(lines)) => lines,
        };
        lines.push(b'\n');
        lines.extend_from_slice(&self.bytes[line]);
        if lines.len() > LONGEST_DATA {
            return Err(TooLong);
        }
        self.data = Some(EventData::Joined(lines));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The events of a stream that comes in pieces of this size.
    fn events(stream: &[u8], size: usize) -> Vec<String> {
        let (mut reader, mut found) = (EventReader::default(), Vec::new());
        let mut note = |event: StreamEvent<'_>| {
            found.push(match event {
                StreamEvent::Comment => ":".to_owned(),
                StreamEvent::Data { data, is_error } => {
                    format!("{}{}", if is_error { "!" } else { "" }, String::from_utf8_lossy(data))
                }
            });
        };
        for piece in stream.chunks(size.max(1)) {
            reader.push(piece);
            while let Some(event) = reader.next().unwrap() {
                note(event);
            }
        }
        // The last event may lack its empty line.
        reader.push(b"\n\n");
        while let Some(event) = reader.next().unwrap() {
            note(event);
        }
        found
    }

    #[test]
    fn events_are_read_however_the_stream_is_written_and_cut() {
        let cases: [(&[u8], &[&str]); 12] = [
            (b"data: a\n\ndata: b\n\n", &["a", "b"]),
            (b"data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]),
            (b"data: a\r\rdata: b\r\r", &["a", "b"]),
            (b"data:a\n\ndata:  b\n\n", &["a", " b"]),
            (b"data: a\ndata: b\ndata\n\n", &["a\nb\n"]),
            (b": hello\n\ndata: a\n: x\ndata: b\n\n", &[":", ":", "a\nb"]),
            ("\u{feff}data: a\n\n".as_bytes(), &["a"]),
            (b"event: error\ndata: a\n\ndata: b\n\n", &["!a", "b"]),
            (b"event: message\nid: 7\nretry: 1\nnonsense\ndata: a\n\n", &["a"]),
            (b"data: a\n\ndata: [DONE]", &["a", "[DONE]"]),
            (b"\n\n\r\n\r", &[]),
            (b"data:\n\n", &[""]),
        ];
        for (stream, expected) in cases {
            for size in 1..=stream.len() {
                assert_eq!(events(stream, size), expected, "{:?} by {size}", String::from_utf8_lossy(stream));
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_too_long_at_some_point() {
        let mut reader = EventReader::default();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..20).find(|_| {
            reader.push(&piece);
            reader.next() == Err(TooLong)
        });
        assert_eq!(refused, Some(16));
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(stream in "[dat: \r\n\u{feff}x]{0,200}", size in 1_usize..20) {
            prop_assert_eq!(events(stream.as_bytes(), size), events(stream.as_bytes(), stream.len()));
        }
    }
}
