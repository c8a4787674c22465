//! Control characters made visible: a terminal must show what others wrote, not obey it.
//!
//! An answer or a file name may hold harmful sequences. They can change the window's title, fill the clipboard (OSC
//! 52), disguise a link (OSC 8) or reverse the reading order. They are shown in caret notation (`^[`) or as `\u{9b}`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Makes every control character but newline and tab visible.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_unsafe(c) && c != '\n' && c != '\t')
}

/// Makes every control character visible, for a text that must stay on one line.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe)
}

/// Appends bytes that are not UTF-8: `\x9b`.
pub fn escape_bytes(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

fn escaped(text: &str, hide: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&hide) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        match c {
            _ if !hide(c) => out.push(c),
            // ESC (0x1b) is ^[ and DEL (0x7f) is ^?: caret notation flips the seventh bit.
            '\0'..='\x1f' | '\x7f' => out.extend(['^', char::from(c as u8 ^ 0x40)]),
            _ => out.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(out)
}

/// Recognises C0, DEL, C1, and the characters that reorder the text around them.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Raw texts, and what a terminal gets for them.
#[cfg(test)]
pub const ESCAPES: &[(&str, &str)] = &[
    ("plain, naïve, 日本語 🦀\n\ttab", "plain, naïve, 日本語 🦀\n\ttab"),
    ("\x1b]52;c;ZXZpbA==\x07", "^[]52;c;ZXZpbA==^G"),
    ("\x1b]8;;http://evil.example\x1b\\here\x1b]8;;\x1b\\", "^[]8;;http://evil.example^[\\here^[]8;;^[\\"),
    ("\x1b[31mred\x1b[0m", "^[[31mred^[[0m"),
    ("a\rb\0c\x7f", "a^Mb^@c^?"),
    ("\u{9b}2J\u{85}", "\\u{9b}2J\\u{85}"),
    ("\u{202e}gpj.exe\u{2069}", "\\u{202e}gpj.exe\\u{2069}"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_commands_are_shown() {
        for (raw, safe) in ESCAPES {
            assert_eq!(visible(raw), *safe);
        }
        assert!(matches!(visible("nothing to do"), Cow::Borrowed(_)));
    }

    #[test]
    fn one_line_stays_one_line() {
        assert_eq!(one_line("a\nb\tc"), "a^Jb^Ic");
        assert!(matches!(one_line("as it is"), Cow::Borrowed(_)));
    }
}
