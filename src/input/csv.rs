//! CSV and TSV: records that may hold line ends in quotes.
//!
//! Reads CSV in two steps: [`cut`] finds the ends of records, [`walk`] parses them. The reader of the `csv` crate does
//! not report an unclosed quote and cannot split its work over threads. Both follow the rules of that crate, and tests
//! compare them. A quote counts only at the start of a field, `""` inside is a quote, and text behind a closing quote
//! is kept.

use std::collections::HashMap;
use std::sync::Arc;

use ::csv::StringRecord;

use super::blocks::{BlockPlace, WholeRecords, not_utf8};
use super::{Data, Problem, Record};
use crate::error::{Error, Exit, Result};
use crate::request::shorten;
use crate::text;

/// The end of a record.
struct End {
    /// Offset behind its line end.
    next: usize,
    /// Offset of its line end.
    to: usize,
    /// Offset of a quote that is never closed.
    open: Option<usize>,
}

/// The end of the record at `start`, or `None` if the buffer ends before.
fn end_of(buffer: &[u8], start: usize, delimiter: u8, at_end: bool) -> Option<End> {
    let mut at = start;
    loop {
        // At the start of a field.
        if buffer.get(at) == Some(&b'"') {
            let open = at;
            at += 1;
            loop {
                match memchr::memchr(b'"', &buffer[at..]) {
                    None if at_end => return Some(End { next: buffer.len(), to: buffer.len(), open: Some(open) }),
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
            None if at_end => return Some(End { next: buffer.len(), to: buffer.len(), open: None }),
            None => return None,
            Some(skip) => {
                at += skip + 1;
                if buffer[at - 1] == b'\n' {
                    return Some(End { next: at, to: at - 1, open: None });
                }
            }
        }
    }
}

/// Without a carriage return at its end.
fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

fn newlines(bytes: &[u8]) -> u64 {
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
fn split(record: &str, delimiter: u8, mut f: impl FnMut(&str)) {
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
                    Err(error) => Err(not_utf8(row, place.file, line, record, error)),
                    Ok(line_text) => {
                        values.clear();
                        split(line_text, delimiter, |field| {
                            let guarded = answers.contains(&values.len());
                            values.push_field(if guarded { text::unguarded(field) } else { field });
                        });
                        if values.len() == names.len() {
                            let data = Data::Columns { names, values: &values };
                            Ok(Record { row, number: row, file: place.file, line, data })
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

/// The header of a file, as far as it was read.
pub enum Header {
    /// It does not end in the buffer.
    Partial,
    /// The file is empty.
    Empty,
    /// The names, and how many bytes and lines they took.
    Read { names: Arc<[String]>, bytes: usize, lines: u64 },
    /// Another byte than the expected one stands between the fields. `bytes` and `lines` of a `sep=` line are skipped.
    Other { delimiter: u8, bytes: usize, lines: u64 },
}

/// The header at `buffer`'s start. Blank lines before it are skipped.
pub fn header(file: &str, buffer: &[u8], delimiter: u8, at_end: bool) -> Result<Header> {
    let mut start = 0;
    while start < buffer.len() {
        let Some(end) = end_of(buffer, start, delimiter, at_end) else { return Ok(Header::Partial) };
        let record = trimmed(&buffer[start..end.to]);
        if record.is_empty() {
            start = end.next;
            continue;
        }
        let line = newlines(&buffer[..start]) + 1;
        if end.open.is_some() {
            return Err(bad_header(&unclosed(file, line, &buffer[start..], delimiter)));
        }
        let text = std::str::from_utf8(record).map_err(|error| bad_header(&not_utf8(0, file, line, record, error)))?;
        if let Some(delimiter) = announced(text) {
            return Ok(Header::Other { delimiter, bytes: end.next, lines: newlines(&buffer[..end.next]) });
        }
        let mut names: Vec<String> = Vec::new();
        split(text, delimiter, |name| names.push(name.trim().to_owned()));
        if names.len() == 1
            && let Some(delimiter) = recognised(text)
        {
            return Ok(Header::Other { delimiter, bytes: 0, lines: 0 });
        }
        check_names(file, line, &names)?;
        name_all(&mut names);
        return Ok(Header::Read { names: names.into(), bytes: end.next, lines: newlines(&buffer[..end.next]) });
    }
    Ok(if at_end { Header::Empty } else { Header::Partial })
}

fn bad_header(problem: &Problem) -> Error {
    let error = Error::new(Exit::Data, format!("{problem} (in the header)"));
    match &problem.hint {
        Some(hint) => error.hint(hint.as_str()),
        None => error,
    }
}

/// The error of a header that is too long.
pub fn no_header(file: &str) -> Error {
    Error::new(Exit::Data, format!("{file}:1: the header line never ends"))
        .hint("check that this is a text file with a header")
}

/// The delimiter that Excel's line `sep=;` names.
fn announced(line: &str) -> Option<u8> {
    match line.trim_matches('"').as_bytes() {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter @ (b',' | b';' | b'\t' | b'|')] => Some(*delimiter),
        _ => None,
    }
}

/// The delimiter of a header that is one column by the expected one: the first that makes several of it.
fn recognised(header: &str) -> Option<u8> {
    b";\t|,".iter().copied().find(|delimiter| {
        let mut columns = 0;
        split(header, *delimiter, |_| columns += 1);
        columns > 1
    })
}

/// Gives each column without a name the name `column_N`, with underscores if the header has that one too.
fn name_all(names: &mut [String]) {
    for at in 0..names.len() {
        if names[at].is_empty() {
            let mut name = format!("column_{}", at + 1);
            while names.contains(&name) {
                name.push('_');
            }
            names[at] = name;
        }
    }
}

fn check_names(file: &str, line: u64, names: &[String]) -> Result<()> {
    let fail = |text: String, hint: String| Err(Error::new(Exit::Data, format!("{file}:{line}: {text}")).hint(hint));
    let lone = |name: &str| name.replace("\r\n", "").contains('\r');
    if names.iter().any(|name| lone(name)) {
        return fail(
            "the header holds a carriage return without a line feed".to_owned(),
            format!(
                "if its lines end with carriage returns (old Macs), convert them: tr '\\r' '\\n' < '{file}' > other.csv"
            ),
        );
    }
    let mut seen = HashMap::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() {
            continue;
        }
        if let Some(first) = seen.insert(name, i) {
            let text =
                format!("columns {} and {} of the header have the same name: {}", first + 1, i + 1, shorten(name));
            return fail(text, "rename one of them".to_owned());
        }
    }
    Ok(())
}
