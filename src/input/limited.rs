//! `--limit` on standard input: llbatch copies the rows that it needs, and reads no further.

use std::path::Path;

use super::source::is_packed;
use super::{Format, Inputs, Pick, ReadOptions, TextEncoding};
use crate::error::Result;

/// Bytes of a table after which its rows are counted for the first time; then after twice as many each time. So a copy
/// depends on what was piped, and not on the pieces in which it arrived.
const FIRST_COUNT: u64 = 4 << 10;

/// The end of a copy that needs only so many rows.
#[derive(Debug)]
pub(super) struct LimitedCopy {
    limit: Option<u64>,
    /// Each line that is not blank is a row.
    lines: bool,
    /// Rows so far, if lines are rows.
    rows: u64,
    /// The line that is being copied is blank so far.
    blank: bool,
    copied: u64,
    next_count: u64,
    ended: bool,
}

impl LimitedCopy {
    /// The first piece that it is given has this many bytes, if there are so many.
    pub const HEAD: usize = 4;

    pub fn of(options: &ReadOptions) -> Self {
        let plain = options.encoding.is_none_or(TextEncoding::is_utf8);
        let lines = plain && matches!(options.piped_format(), Format::Jsonl | Format::Lines);
        let limit = options.pick.limit;
        Self { limit, lines, rows: 0, blank: true, copied: 0, next_count: FIRST_COUNT, ended: false }
    }

    /// Returns true if no more has to be copied.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// The part of `bytes` to copy before it is asked again.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(limit) = self.limit else { return bytes };
        if self.copied == 0 {
            self.lines &= TextEncoding::of_mark(bytes).is_none();
            // Packed data that is cut off cannot be read.
            if is_packed(bytes) {
                self.limit = None;
                return bytes;
            }
        }
        let left = usize::try_from(self.next_count - self.copied).unwrap_or(usize::MAX);
        let taken = if self.lines { self.through_row(bytes, limit) } else { &bytes[..bytes.len().min(left)] };
        self.copied += taken.len() as u64;
        taken
    }

    /// The lines up to the last row that counts, or all of `bytes`.
    fn through_row<'a>(&mut self, bytes: &'a [u8], limit: u64) -> &'a [u8] {
        let marked = self.copied == 0 && bytes.starts_with(b"\xef\xbb\xbf");
        for (at, byte) in bytes.iter().enumerate().skip(if marked { 3 } else { 0 }) {
            match byte {
                b'\n' => {
                    self.rows += u64::from(!std::mem::replace(&mut self.blank, true));
                    if self.rows >= limit {
                        self.ended = true;
                        return &bytes[..=at];
                    }
                }
                b' ' | b'\t' | b'\r' => {}
                _ => self.blank = false,
            }
        }
        bytes
    }

    /// Returns true if the rows of the copy are to be counted now.
    pub const fn is_due(&self) -> bool {
        self.limit.is_some() && !self.lines && self.copied >= self.next_count
    }

    /// Counts the rows of the copy at `path`.
    pub fn count(&mut self, path: &Path, options: &ReadOptions) {
        self.next_count = self.copied * 2;
        let limit = self.limit.unwrap_or(u64::MAX);
        let options = ReadOptions { pick: Pick::default(), ..*options };
        let rows = || -> Result<u64> {
            let inputs = Inputs::spooled(path.to_owned(), "-", options.piped_format()).read_as(&options)?;
            let (mut blocks, mut rows) = (inputs.blocks()?, 0);
            while rows <= limit
                && let Some(block) = blocks.next()?
            {
                rows += block.rows();
            }
            Ok(rows)
        };
        // One row more than needed: the last one may be cut off. An error is reported when everything is read.
        self.ended = rows().is_ok_and(|rows| rows > limit);
    }
}
