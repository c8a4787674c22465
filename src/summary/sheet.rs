//! Labelled lines of text within a width.

use std::fmt::Write as _;

use crate::text::{Grid, cut, fill, width};

/// Two blanks, the label, a blank.
const INDENT: usize = 12;
/// Less is not readable; the terminal may wrap then.
const MIN_WIDTH: usize = 40;

/// Lines with a label before the first line of each text.
pub struct Sheet {
    text: String,
    /// Columns for the text beside the labels.
    room: usize,
}

impl Sheet {
    /// Makes a sheet without lines that is `width` columns wide, labels included.
    pub fn new(width: u16) -> Self {
        Self { text: String::new(), room: usize::from(width).max(MIN_WIDTH) - INDENT }
    }

    /// Adds one line, cut to the width.
    pub fn whole(&mut self, label: &str, text: &str) {
        self.lines(label, [text]);
    }

    /// Adds parts joined by commas, broken between parts, and between the words of a part that is too wide for a line.
    /// Without parts there is no line.
    pub fn list(&mut self, label: &str, parts: &[String]) {
        let last = parts.len().saturating_sub(1);
        let comma = |(i, part)| if i < last { format!("{part},") } else { String::clone(part) };
        let (mut pieces, room) = (Vec::new(), self.room);
        for part in parts.iter().enumerate().map(comma) {
            if width(&part) <= room {
                pieces.push(part);
            } else {
                pieces.extend(fill(part.split_whitespace(), room));
            }
        }
        self.lines(label, fill(pieces, room));
    }

    /// Adds a sentence, broken between words.
    pub(super) fn prose(&mut self, label: &str, text: &str) {
        self.lines(label, fill(text.split_whitespace(), self.room));
    }

    /// Adds aligned rows. No cell is left out.
    pub fn grid(&mut self, label: &str, grid: &Grid) {
        self.lines(label, grid.broken_lines(self.room));
    }

    /// Adds a command line. It is never cut: backslashes continue it, so that it can be copied.
    pub fn command(&mut self, label: &str, text: &str) {
        // A line after the first is indented by two columns; " \" takes two more.
        let lines = fill(shell_words(text), self.room - 4);
        for (i, line) in lines.iter().enumerate() {
            let indent = if i == 0 { "" } else { "  " };
            let more = if i + 1 < lines.len() { " \\" } else { "" };
            self.put(if i == 0 { label } else { "" }, &format!("{indent}{line}{more}"));
        }
    }

    /// Returns all lines, each with its line end.
    pub fn finish(self) -> String {
        self.text
    }

    fn lines<S: AsRef<str>>(&mut self, label: &str, lines: impl IntoIterator<Item = S>) {
        for (i, line) in lines.into_iter().enumerate() {
            self.put(if i == 0 { label } else { "" }, &cut(line.as_ref(), self.room));
        }
    }

    fn put(&mut self, label: &str, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "  {label:<9} {}", line.replace(char::is_control, " "));
    }
}

/// Splits a command line into words and keeps the quotes.
fn shell_words(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '\'';
        c == ' ' && !quoted
    })
    .filter(|word| !word.is_empty())
}
