//! CSV and TSV: records that may hold line ends in quotes.
//!
//! Reads CSV in two steps: [`cut`] finds the ends of records, [`walk`] parses them. The reader of the `csv` crate does
//! not report an unclosed quote and cannot split its work over threads. Both follow the rules of that crate, and tests
//! compare them. A quote counts only at the start of a field, `""` inside is a quote, and text behind a closing quote
//! is kept.

use std::sync::Arc;

use ::csv::StringRecord;

use super::block_place::{BlockPlace, not_utf8};
use super::blocks::WholeRecords;
use super::{Data, Problem, Record};
use crate::text;

/// The end of a record.
pub(super) struct RecordEnd {
    /// Offset behind its line end.
    pub next: usize,
    /// Offset of its line end.
    pub to: usize,
    /// Offset of a quote that is never closed.
    pub open: Option<usize>,
}

/// The end of the record at `start`, or `None` if the buffer ends before.
pub(super) fn end_of(buffer: &[u8], start: usize, delimiter: u8, at_end: bool) -> Option<RecordEnd> {
    let mut at = start;
    loop {
        // At the start of a field.
        if buffer.get(at) == Some(&b'"') {
            let open = at;
            at += 1;
            loop {
                match memchr::memchr(b'"', &buffer[at..]) {
                    None if at_end => {
                        return Some(RecordEnd { next: buffer.len(), to: buffer.len(), open: Some(open) });
                    }
                    None => return None,
                    Some(skip) => at += skip + 1,
                }
                if buffer.get(at) != Some(&b'"') {
                    break;
                }
                at += 1;
            }
        }
        match memchr::memchr2(delimiter, b'\n', &buffer[at..]) {
            None if at_end => return Some(RecordEnd { next: buffer.len(), to: buffer.len(), open: None }),
            None => return None,
            Some(skip) => {
                at += skip + 1;
                if buffer[at - 1] == b'\n' {
                    return Some(RecordEnd { next: at, to: at - 1, open: None });
                }
            }
        }
    }
}

/// Without a carriage return at its end.
pub(super) fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

pub(super) fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Whole records of `buffer`.
pub fn cut(buffer: &[u8], delimiter: u8, at_end: bool) -> WholeRecords {
    let mut cut = WholeRecords::default();
    while cut.bytes < buffer.len() {
        let Some(end) = end_of(buffer, cut.bytes, delimiter, at_end) else { break };
        cut.rows += u64::from(!trimmed(&buffer[cut.bytes..end.to]).is_empty());
        cut.bytes = end.next;
    }
    cut.lines = newlines(&buffer[..cut.bytes]);
    cut
}

/// Calls `f` with each field of a record, unquoted.
pub(super) fn split(record: &str, delimiter: u8, mut f: impl FnMut(&str)) {
    let bytes = record.as_bytes();
    let mut unquoted = String::new();
    let mut at = 0;
    loop {
        unquoted.clear();
        let quoted = bytes.get(at) == Some(&b'"');
        if quoted {
            at += 1;
            while let Some(skip) = memchr::memchr(b'"', &bytes[at..]) {
                unquoted.push_str(&record[at..at + skip]);
                at += skip + 1;
                if bytes.get(at) != Some(&b'"') {
                    break;
                }
                unquoted.push('"');
                at += 1;
            }
        }
        let to = memchr::memchr(delimiter, &bytes[at..]).map_or(bytes.len(), |skip| at + skip);
        if quoted {
            unquoted.push_str(&record[at..to]);
            f(&unquoted);
        } else {
            f(&record[at..to]);
        }
        if to == bytes.len() {
            return;
        }
        at = to + 1;
    }
}

/// Every row of a block of whole records.
pub fn walk(
    bytes: &[u8],
    delimiter: u8,
    names: &Arc<[String]>,
    place: &BlockPlace<'_>,
    f: &mut impl FnMut(Result<Record<'_>, Problem>),
) {
    let (mut row, mut line, mut start) = (place.first_number, place.first_line, 0);
    let mut values = StringRecord::new();
    let answers = text::answer_columns(names);
    while let Some(end) = (start < bytes.len()).then(|| end_of(bytes, start, delimiter, true)).flatten() {
        let record = trimmed(&bytes[start..end.to]);
        if !record.is_empty() {
            f(if end.open.is_some() {
                Err(Problem { row: Some(row), ..unclosed(place.file, line, &bytes[start..], delimiter) })
            } else {
                match std::str::from_utf8(record) {
                    Err(error) => Err(not_utf8(row, place.file, (line, place.encoding), record, error)),
                    Ok(line_text) => {
                        values.clear();
                        split(line_text, delimiter, |field| {
                            let guarded = answers.contains(&values.len());
                            values.push_field(if guarded { text::unguarded(field) } else { field });
                        });
                        if values.len() == names.len() {
                            let data = Data::Columns { names, values: &values };
                            Ok(Record { row, number: row, file: place.file, line: line.into(), data })
                        } else {
                            Err(ragged(row, place.file, line, values.len(), names.len()))
                        }
                    }
                }
            });
            row += 1;
        }
        line += newlines(&bytes[start..end.next]);
        start = end.next;
    }
}

fn ragged(row: u64, file: &str, line: u64, found: usize, expected: usize) -> Problem {
    let fields = text::agree(found as u64, "field", "fields");
    let text = format!("{found} {fields}, but the header has {expected}");
    Problem::at(Some(row), file, line, "csv_fields", text)
        .hint("quote fields that contain a delimiter or a line break: \"…\", with each inner quote doubled: \"\"")
}

/// The record at `buffer`'s start has a quote that nothing closes.
pub fn unclosed(file: &str, line: u64, buffer: &[u8], delimiter: u8) -> Problem {
    let open = end_of(buffer, 0, delimiter, true).and_then(|end| end.open).unwrap_or(0);
    let before = &buffer[..open];
    let column = open - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1) + 1;
    let text = "the quote that opens here is never closed, so everything after it is one field";
    Problem::at(None, file, line + newlines(before), "csv_quote", text)
        .column(column)
        .hint("close it, or write a literal quote as \"\" in a quoted field")
}
