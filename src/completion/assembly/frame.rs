//! Chunks that differ from the one before only in some texts and numbers.

use std::ops::Range;

use super::inside_of_quotes;

/// Parts of a chunk that may differ. Chunks with more are parsed.
const MOST: usize = 6;

/// The bytes of a chunk that are the same in the next one, and what lies between them.
#[derive(Debug)]
pub(super) struct Frame {
    /// The bytes before the first hole, between holes, and behind the last one.
    fixed: Vec<Box<[u8]>>,
    pub(super) holes: Vec<HoleKind>,
    /// The place of the choice among those that have begun.
    pub(super) choice: usize,
}

/// A part of a chunk that may differ in the next one.
#[derive(Debug)]
pub(super) struct Hole<'a> {
    value: &'a str,
    kind: HoleKind,
}

/// The meaning of a part that may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HoleKind {
    /// A piece of this text of a chat's message.
    Message(String),
    /// A piece of the `text` of a completion.
    Text,
    /// A text that is no part of the answer.
    Ignored,
    /// A whole number that is no part of the answer.
    Number,
}

impl<'a> Hole<'a> {
    /// The inside of a JSON string, unless it is empty.
    pub(super) fn of_text(value: &'a str, kind: HoleKind) -> Option<Self> {
        inside_of_quotes(value).filter(|piece| !piece.is_empty()).map(|value| Self { value, kind })
    }

    /// The digits of a whole number.
    pub(super) fn of_number(value: &'a str) -> Option<Self> {
        (number_len(value.as_bytes()) == Some(value.len())).then_some(Self { value, kind: HoleKind::Number })
    }
}

impl Frame {
    /// The frame of a chunk with these holes. `None`: none of them is a piece of the answer, or there are too many.
    pub(super) fn new(data: &str, mut holes: Vec<Hole<'_>>, choice: usize) -> Option<Self> {
        let is_piece = |hole: &Hole<'_>| matches!(hole.kind, HoleKind::Message(_) | HoleKind::Text);
        if holes.len() > MOST || !holes.iter().any(is_piece) {
            return None;
        }
        holes.sort_by_key(|hole| hole.value.as_ptr().addr());
        let (mut fixed, mut at) = (Vec::with_capacity(holes.len() + 1), 0);
        for hole in &holes {
            let start = hole.value.as_ptr().addr() - data.as_ptr().addr();
            fixed.push(data.as_bytes()[at..start].into());
            at = start + hole.value.len();
        }
        fixed.push(data.as_bytes()[at..].into());
        Some(Self { fixed, holes: holes.into_iter().map(|hole| hole.kind).collect(), choice })
    }

    /// The places of the holes in the next chunk. `None`: it differs in more than those.
    pub(super) fn spans(&self, data: &str) -> Option<[Range<usize>; MOST]> {
        let bytes = data.as_bytes();
        let (first, behind) = self.fixed.split_first()?;
        let mut at = bytes.starts_with(first).then_some(first.len())?;
        let mut spans = [const { 0..0 }; MOST];
        for ((kind, behind), span) in self.holes.iter().zip(behind).zip(&mut spans) {
            let len = match kind {
                HoleKind::Number => number_len(&bytes[at..])?,
                HoleKind::Ignored => text_len(&bytes[at..])?,
                HoleKind::Message(_) | HoleKind::Text => text_len(&bytes[at..]).filter(|len| *len > 0)?,
            };
            *span = at..at + len;
            at += len;
            at = bytes[at..].starts_with(behind).then_some(at + behind.len())?;
        }
        (at == bytes.len()).then_some(spans)
    }
}

/// The bytes up to the end of the string that these are the inside of. `None`: it does not end, or is invalid.
fn text_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let found = at + memchr::memchr2(b'"', b'\\', &bytes[at..])?;
        at = match bytes[found..] {
            [b'"', ..] => return bytes[..found].iter().all(|byte| *byte >= b' ').then_some(found),
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => found + 2,
            [_, b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(u8::is_ascii_hexdigit) => found + 6,
            _ => return None,
        };
    }
}

/// The bytes of the whole number that these begin with, as JSON spells it.
fn number_len(bytes: &[u8]) -> Option<usize> {
    let len = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (len > 0 && (len == 1 || bytes[0] != b'0')).then_some(len)
}
