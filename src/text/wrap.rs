//! Sentences on lines of a terminal's width.

use super::width;

/// Indents the lines after the first.
const INDENT: &str = "    ";

/// Breaks lines that are wider than `columns` between words. `taken`: columns before the first line. A command between
/// backticks stays in one piece, so that it can be copied. A word that is wider than a line is not broken.
pub fn wrapped(text: &str, columns: usize, taken: usize) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        wrap_line(&mut out, line, columns, if number == 0 { taken } else { 0 });
    }
    out
}

fn wrap_line(out: &mut String, line: &str, columns: usize, taken: usize) {
    if taken + width(line) <= columns {
        out.push_str(line);
        return;
    }
    let (indent, words) = line.split_at(line.len() - line.trim_start().len());
    out.push_str(indent);
    let mut column = taken + width(indent);
    for (number, piece) in pieces(words).enumerate() {
        if number > 0 && column + 1 + width(piece) <= columns {
            out.push(' ');
            column += 1;
        } else if number > 0 {
            out.extend(["\n", indent, INDENT]);
            column = width(indent) + INDENT.len();
        }
        out.push_str(piece);
        column += width(piece);
    }
}

/// Splits a text at its spaces, except for those between backticks.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '`';
        c == ' ' && !quoted
    })
    .filter(|piece| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_commands_stay_whole() {
        for (text, columns, taken, expected) in [
            ("one two three", 13, 0, "one two three"),
            ("one two three", 13, 1, "one two\n    three"),
            ("one  two", 4, 0, "one\n    two"),
            ("pass `llbatch fetch j-1 -o FILE` now", 20, 0, "pass\n    `llbatch fetch j-1 -o FILE`\n    now"),
            ("a\n  b c d\n", 6, 0, "a\n  b c\n      d\n"),
            ("https://example.com/a/long/path x", 10, 0, "https://example.com/a/long/path\n    x"),
            ("日本 本日", 8, 0, "日本\n    本日"),
            ("an `unclosed tick and more", 9, 0, "an\n    `unclosed tick and more"),
            ("", 4, 0, ""),
        ] {
            assert_eq!(wrapped(text, columns, taken), expected, "{text} in {columns}");
        }
    }
}
