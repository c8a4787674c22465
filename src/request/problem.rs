//! One problem of one row of the input, and its place.

use std::fmt;

use serde::Serialize;

use super::id;
use super::record::{InputPlace, Record};
use crate::text::shortened;

/// One mistake in the input. It is listed, and stops nothing by itself.
#[derive(Serialize, Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The row, 1-based over all inputs, or `None` where no row can be named.
    #[serde(skip)]
    pub row: Option<u64>,
    /// Its number in the whole input.
    #[serde(skip)]
    pub number: Option<u64>,
    /// The input as the user named it.
    pub file: String,
    /// The place in the file where the record begins.
    pub line: InputPlace,
    /// Byte column in that line, 1-based, if it is known.
    pub column: Option<u64>,
    /// The row's own id, once it is known.
    pub id: Option<String>,
    /// Stable name of the kind of mistake, such as `json` or `duplicate_id`.
    pub code: &'static str,
    /// The mistake, with the invalid value shortened.
    pub message: String,
    /// The remedy.
    pub hint: Option<String>,
}

impl Problem {
    /// A mistake in `record`.
    pub fn new(record: &Record<'_>, code: &'static str, message: impl Into<String>) -> Self {
        let problem = Self::at(Some(record.row), record.file, record.line, code, message);
        Self { number: Some(record.number), ..problem }
    }

    /// A mistake at a place that is not a whole record.
    pub fn at(
        row: Option<u64>,
        file: &str,
        line: impl Into<InputPlace>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let (file, line, message) = (file.to_owned(), line.into(), message.into());
        Self { row, number: row, file, line, column: None, id: None, code, message, hint: None }
    }

    /// The id of the row's result: its own, or `row-N`.
    pub fn result_id(&self) -> String {
        self.id.clone().unwrap_or_else(|| id::generated(self.number.unwrap_or(0)))
    }

    /// Its place, `file:line:column`, the column left out when unknown.
    pub fn place(&self) -> String {
        let column = self.column.map_or_else(String::new, |column| format!(":{column}"));
        format!("{}:{}{column}", self.file, self.line)
    }

    /// Adds the byte column, 1-based. Rows without lines have none.
    pub fn column(mut self, column: usize) -> Self {
        self.column = matches!(self.line, InputPlace::Line(_)).then_some(column as u64);
        self
    }

    /// Adds the remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// `file:line:column: message`, the column left out when unknown.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.message)
    }
}

/// Characters of a user's value that a message shows.
const SHOWN: usize = 48;

/// A value for a message: on one line, control characters escaped, cut with `…`.
pub fn shorten(text: &str) -> String {
    shorten_to(text, SHOWN)
}

/// The same, cut after `max` characters.
pub(super) fn shorten_to(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in shortened(text, max).chars() {
        // Also marks that change the reading order, and so the value that people see, and the byte order mark.
        let odd = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || odd { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Names for a message: `a, b, c`, cut after some.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 20;
    let mut out = String::new();
    for (i, name) in names.into_iter().enumerate() {
        if i == MOST {
            out.push_str(", …");
            break;
        }
        if i > 0 {
            out.push_str(", ");
        }
        out.push_str(&shorten(name));
    }
    if out.is_empty() { "none".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_comes_first() {
        let problem = Problem::at(Some(1), "a.jsonl", 3, "json", "not JSON");
        assert_eq!(problem.to_string(), "a.jsonl:3: not JSON");
        assert_eq!(problem.column(7).to_string(), "a.jsonl:3:7: not JSON");
    }

    #[test]
    fn values_are_cut_and_harmless() {
        assert_eq!(shorten("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
        assert_eq!(shorten("\u{202e}gpj.exe\u{feff}"), "\\u{202e}gpj.exe\\u{feff}");
        assert_eq!(shorten(&"é".repeat(100)), format!("{}…", "é".repeat(SHOWN)));
        assert_eq!(listed([]), "none");
        assert_eq!(listed(["a", "b"]), "a, b");
    }
}
