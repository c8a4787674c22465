//! The header of a table: a name for each column, the delimiter, and the first lines of a file that spreadsheets write.

use std::collections::HashSet;
use std::sync::Arc;

use super::block_place::not_utf8;
use super::csv::{end_of, newlines, split, trimmed, unclosed};
use super::{Problem, TextEncoding};
use crate::error::{Error, Exit, Result};
use crate::request::shorten;

/// The columns of a table.
#[derive(Debug)]
pub struct TableHeader {
    /// A different name for each.
    pub names: Arc<[String]>,
    /// Columns whose names are made up, each with the name that the header gives it: none, or that of an earlier column.
    renamed: Vec<(usize, String)>,
    /// The line where it begins, 1-based.
    pub line: u64,
    /// The byte that seems to stand between its fields, if the delimiter leaves it whole.
    pub shows: Option<char>,
}

impl TableHeader {
    fn new(mut names: Vec<String>, line: u64, shows: Option<char>) -> Self {
        let mut taken: HashSet<String> = names.iter().cloned().collect();
        let (mut seen, mut renamed) = (HashSet::new(), Vec::new());
        for (at, name) in names.iter_mut().enumerate() {
            if !name.is_empty() && seen.insert(name.clone()) {
                continue;
            }
            let mut new = format!("{}_{}", if name.is_empty() { "column" } else { name.as_str() }, at + 1);
            while !taken.insert(new.clone()) {
                new.push('_');
            }
            renamed.push((at, std::mem::replace(name, new)));
        }
        Self { names: names.into(), renamed, line, shows }
    }

    /// Names that are made up, each with the one in the header: empty, or that of another column too.
    pub fn renamed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.renamed.iter().map(|(at, given)| (&*self.names[*at], given.as_str()))
    }

    /// Names that several columns have.
    pub fn repeated(&self) -> impl Iterator<Item = RepeatedColumn<'_>> {
        self.renamed.iter().filter(|(_, given)| !given.is_empty()).filter_map(|(at, given)| {
            let first = self.names.iter().position(|name| name == given)?;
            Some(RepeatedColumn { name: given, first: first + 1, second: at + 1 })
        })
    }
}

/// A name that several columns of a table have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepeatedColumn<'a> {
    /// The name.
    pub name: &'a str,
    /// Number of the first of these columns, 1-based.
    pub first: usize,
    /// Number of another.
    pub second: usize,
}

/// The byte between fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delimiter {
    pub byte: u8,
    /// The user named it.
    pub fixed: bool,
}

/// The header of a file, as far as it was read.
pub(super) enum HeaderPart {
    /// The header goes on beyond the buffer.
    Partial,
    /// The file is empty.
    Empty,
    /// The whole header, with the bytes and lines that it takes.
    Read { header: Arc<TableHeader>, bytes: usize, lines: u64 },
    /// Another byte than the expected one stands between the fields. `bytes` and `lines` of a `sep=` line are skipped.
    Other { delimiter: u8, bytes: usize, lines: u64 },
}

/// The beginning of a table that is being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableStart<'a> {
    pub file: &'a str,
    /// Bytes behind `before` lines of the file.
    pub buffer: &'a [u8],
    pub before: u64,
    pub at_end: bool,
    pub encoding: Option<TextEncoding>,
}

impl TableStart<'_> {
    /// Reads the header at the buffer's start. Blank lines before it are skipped.
    pub fn header(&self, delimiter: Delimiter) -> Result<HeaderPart> {
        let Self { file, buffer, at_end, .. } = *self;
        let mut start = 0;
        while start < buffer.len() {
            let Some(end) = end_of(buffer, start, delimiter.byte, at_end) else { return Ok(HeaderPart::Partial) };
            let record = trimmed(&buffer[start..end.to]);
            if record.is_empty() {
                start = end.next;
                continue;
            }
            let line = self.before + newlines(&buffer[..start]) + 1;
            if end.open.is_some() {
                return Err(bad_header(&unclosed(file, line, &buffer[start..], delimiter.byte)));
            }
            let text = std::str::from_utf8(record)
                .map_err(|error| bad_header(&not_utf8(0, file, (line, self.encoding), record, error)))?;
            let (bytes, lines) = (end.next, newlines(&buffer[..end.next]));
            if let Some(announced) = announced(text) {
                let delimiter = if delimiter.fixed { delimiter.byte } else { announced };
                return Ok(HeaderPart::Other { delimiter, bytes, lines });
            }
            match self.recognised(text, &buffer[end.next..], delimiter) {
                None => return Ok(HeaderPart::Partial),
                Some(delimiter) if delimiter.fixed => {
                    let mut names: Vec<String> = Vec::new();
                    split(text, delimiter.byte, |name| names.push(name.trim().to_owned()));
                    lone_returns(file, line, &names)?;
                    let shows = other_delimiter(text, delimiter.byte).filter(|_| names.len() == 1);
                    let header = Arc::new(TableHeader::new(names, line, shows));
                    return Ok(HeaderPart::Read { header, bytes, lines });
                }
                Some(other) => return Ok(HeaderPart::Other { delimiter: other.byte, bytes: 0, lines: 0 }),
            }
        }
        Ok(if at_end { HeaderPart::Empty } else { HeaderPart::Partial })
    }

    /// Decides the delimiter of a `header` that `rest` follows: `fixed` if it is the expected one, else another. `None`: the
    /// first row is needed for that, and the buffer ends before it does.
    fn recognised(&self, header: &str, rest: &[u8], expected: Delimiter) -> Option<Delimiter> {
        let settled = Delimiter { fixed: true, ..expected };
        let columns = |delimiter: u8| fields(header, delimiter);
        let plain = |byte: u8| !any_field(header, byte, |field| field.contains('"'));
        let more = |byte: &u8| columns(*byte) > columns(expected.byte) && plain(*byte);
        let mut better = b";\t|,".iter().copied().filter(more).peekable();
        if expected.fixed || better.peek().is_none() {
            return Some(settled);
        }
        if columns(expected.byte) == 1 {
            return Some(better.next().map_or(settled, |byte| Delimiter { byte, fixed: false }));
        }
        // Several columns either way: a name may hold the other delimiter. A row of as many fields decides.
        for byte in better {
            let end = end_of(rest, 0, byte, self.at_end)?;
            let row = std::str::from_utf8(trimmed(&rest[..end.to])).unwrap_or_default();
            if end.open.is_none() && fields(row, byte) == columns(byte) {
                return Some(Delimiter { byte, fixed: false });
            }
        }
        Some(settled)
    }
}

/// The byte that divides a header into most fields, if there is a better one than `delimiter`.
fn other_delimiter(header: &str, delimiter: u8) -> Option<char> {
    let candidates = b",;\t|".iter().copied().filter(|byte| fields(header, *byte) > fields(header, delimiter));
    candidates.max_by_key(|byte| fields(header, *byte)).map(char::from)
}

/// Returns true if `is` holds for a field.
fn any_field(record: &str, delimiter: u8, is: impl Fn(&str) -> bool) -> bool {
    let mut found = false;
    split(record, delimiter, |field| found |= is(field));
    found
}

fn fields(record: &str, delimiter: u8) -> usize {
    let mut fields = 0;
    split(record, delimiter, |_| fields += 1);
    fields
}

fn bad_header(problem: &Problem) -> Error {
    let error = Error::new(Exit::Data, format!("{problem} (in the header)"));
    match &problem.hint {
        Some(hint) => error.hint(hint.as_str()),
        None => error,
    }
}

/// The error of a header that is too long.
pub(super) fn no_header(file: &str) -> Error {
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

fn lone_returns(file: &str, line: u64, names: &[String]) -> Result<()> {
    if !names.iter().any(|name| name.replace("\r\n", "").contains('\r')) {
        return Ok(());
    }
    let text = format!("{file}:{line}: the header holds a carriage return without a line feed");
    Err(Error::new(Exit::Data, text).hint(format!(
        "if its lines end with carriage returns (old Macs), convert them: tr '\\r' '\\n' < '{file}' > other.csv"
    )))
}

/// The error of a header that the delimiter leaves whole, where requests need one of its fields.
pub fn undivided(file: &str, header: &TableHeader, shows: char) -> Error {
    let (line, name) = (header.line, header.names.first().map_or("", String::as_str));
    let text = format!("{file}:{line}: the header is read as a single column: {}", shorten(name));
    let given = if shows == '\t' { "tab".to_owned() } else { format!("'{shows}'") };
    Error::new(Exit::Data, text).hint(format!("it shows another delimiter: pass --delimiter {given}"))
}

/// The error of a name that several columns have, where requests need one of them.
pub fn ambiguous(file: &str, header: &TableHeader, column: RepeatedColumn<'_>) -> Error {
    let RepeatedColumn { name, first, second } = column;
    let (line, name) = (header.line, shorten(name));
    let text = format!("{file}:{line}: columns {first} and {second} of the header have the same name: {name}");
    Error::new(Exit::Data, text).hint("rename one of them: the requests use a column of that name")
}
