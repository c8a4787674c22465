//! Text of others on a terminal: what could command the terminal is shown instead of obeyed.
//!
//! A model's answer or a file name may hold sequences that retitle the window, fill the clipboard (OSC 52), disguise a
//! link (OSC 8) or turn the reading order. Data in files and pipes keeps its bytes; a terminal gets them in caret
//! notation (`^[`) or as `\u{9b}`, and so does all talk.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// The text with every control character but newline and tab made visible.
pub fn visible(text: &str) -> Cow<'_, str> {
    shown(text, |c| is_unsafe(c) && c != '\n' && c != '\t')
}

/// The text with every control character made visible, for what must stay on one line.
pub fn line(text: &str) -> Cow<'_, str> {
    shown(text, is_unsafe)
}

fn shown(text: &str, hide: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&hide) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        if hide(c) { push(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// C0, DEL, C1, and the characters that reorder what is around them.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push(out: &mut String, c: char) {
    match c {
        '\0'..='\x1f' | '\x7f' => {
            out.push('^');
            // ESC (0x1b) is ^[ and DEL (0x7f) is ^?: the sixth bit is turned over.
            out.push(char::from(c as u8 ^ 0x40));
        }
        _ => out.extend(c.escape_unicode()),
    }
}

/// A writer that does to a stream of bytes what [`visible`] does to a text; bytes that are no UTF-8 become `\x9b`.
///
/// Characters may be split over calls of `write`. An incomplete one at the very end is shown when this is dropped.
#[derive(Debug)]
pub struct Writer<W: Write> {
    inner: W,
    /// The beginning of a character whose rest has not come yet.
    pending: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Shows on `inner` what is written here.
    pub const fn new(inner: W) -> Self {
        Self { inner, pending: Vec::new() }
    }
}

impl<W: Write> Write for Writer<W> {
    /// Takes all of `buf`. After an error it is unknown how much of it was shown.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let joined;
        let mut rest = if self.pending.is_empty() {
            buf
        } else {
            self.pending.extend_from_slice(buf);
            joined = std::mem::take(&mut self.pending);
            &joined
        };
        let mut out = String::with_capacity(rest.len());
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(&visible(text));
                    break;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    out.push_str(&visible(&String::from_utf8_lossy(good)));
                    let Some(length) = error.error_len() else {
                        self.pending = bad.to_vec();
                        break;
                    };
                    push_bytes(&mut out, &bad[..length]);
                    rest = &bad[length..];
                }
            }
        }
        self.inner.write_all(out.as_bytes())?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Drop for Writer<W> {
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            let mut out = String::new();
            push_bytes(&mut out, &self.pending);
            // Nobody is left to tell: whoever cares about errors has flushed before.
            let _ = self.inner.write_all(out.as_bytes());
        }
    }
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &[(&str, &str)] = &[
        ("plain, naïve, 日本語 🦀\n\ttab", "plain, naïve, 日本語 🦀\n\ttab"),
        ("\x1b]52;c;ZXZpbA==\x07", "^[]52;c;ZXZpbA==^G"),
        ("\x1b]8;;http://evil.example\x1b\\here\x1b]8;;\x1b\\", "^[]8;;http://evil.example^[\\here^[]8;;^[\\"),
        ("\x1b[31mred\x1b[0m", "^[[31mred^[[0m"),
        ("a\rb\0c\x7f", "a^Mb^@c^?"),
        ("\u{9b}2J\u{85}", "\\u{9b}2J\\u{85}"),
        ("\u{202e}gpj.exe\u{2069}", "\\u{202e}gpj.exe\\u{2069}"),
    ];

    fn written(parts: &[&[u8]]) -> String {
        let mut sink = Vec::new();
        let mut writer = Writer::new(&mut sink);
        for part in parts {
            writer.write_all(part).unwrap();
        }
        drop(writer);
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn what_commands_a_terminal_is_shown() {
        for (raw, safe) in CASES {
            assert_eq!(visible(raw), *safe);
        }
        assert!(matches!(visible("nothing to do"), Cow::Borrowed(_)));
    }

    #[test]
    fn one_line_stays_one_line() {
        assert_eq!(line("a\nb\tc"), "a^Jb^Ic");
        assert!(matches!(line("as it is"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_writer_agrees_wherever_the_stream_is_cut() {
        for (raw, safe) in CASES {
            let bytes = raw.as_bytes();
            for cut in 0..=bytes.len() {
                assert_eq!(written(&[&bytes[..cut], &bytes[cut..]]), *safe, "cut at {cut}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(written(&single), *safe);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown() {
        assert_eq!(written(&[b"a\x9b2Jb"]), "a\\x9b2Jb");
        assert_eq!(written(&[b"a\xe2\x82", b"b"]), "a\\xe2\\x82b");
        assert_eq!(written(&[b"end \xf0\x9f"]), "end \\xf0\\x9f");
    }

    #[test]
    fn a_closed_pipe_is_passed_on() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = Writer::new(Closed).write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
