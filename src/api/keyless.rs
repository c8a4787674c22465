//! Removal of the key from the texts of a service.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use memchr::memmem::Finder;
use memchr::{memchr_iter, memchr2_iter};
use secrecy::ExposeSecret;

use super::Client;

/// A shorter key is a test's placeholder, and would occur in ordinary words.
const SHORTEST_KEY: usize = 8;

/// Bytes searched at a time.
const WINDOW: u64 = 1 << 20;

impl Client {
    /// The secrets to remove: the key, and what the user's own headers hold.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &[u8]> {
        self.secrets
            .iter()
            .map(|secret| secret.expose_secret().as_bytes())
            .filter(|secret| secret.len() >= SHORTEST_KEY)
    }

    /// Returns true if `text` contains a secret.
    pub fn is_key_in(&self, text: &str) -> bool {
        self.secrets().any(|secret| is_spelled_in(secret, text.as_bytes()))
    }

    /// Writes `clean`, a copy of `file` without the secrets, and syncs it. Returns `false`, without a copy, if `file` does not
    /// contain any.
    pub fn copy_without_key(&self, file: &Path, clean: &Path) -> io::Result<bool> {
        let next = clean.with_extension("next");
        let mut from = file;
        for secret in self.secrets() {
            if !copy_without(secret, File::open(from)?, &mut io::sink())? {
                continue;
            }
            let to = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&next)?;
            let mut to = BufWriter::new(to);
            copy_without(secret, File::open(from)?, &mut to)?;
            to.into_inner()?.sync_all()?;
            std::fs::rename(&next, clean)?;
            from = clean;
        }
        Ok(from != file)
    }
}

/// Returns true if `text` contains the key in any spelling.
pub(super) fn is_spelled_in(key: &[u8], text: &[u8]) -> bool {
    Spellings::of(key).find(text, 0).is_some()
}

/// Copies `from` to `to` with `[key]` in place of `key`. Returns whether `key` occurred.
pub(super) fn copy_without(key: &[u8], mut from: impl Read, to: &mut impl Write) -> io::Result<bool> {
    let spellings = Spellings::of(key);
    let mut window = Vec::new();
    let mut found = false;
    loop {
        let read = from.by_ref().take(WINDOW).read_to_end(&mut window)?;
        let mut done = 0;
        while let Some(at) = spellings.find(&window, done) {
            to.write_all(&window[done..at.start])?;
            // A backslash in front would turn `[` into an escape that no reader of JSON takes.
            let backslashes = window[done..at.start].iter().rev().take_while(|b| **b == b'\\').count();
            to.write_all(if backslashes % 2 == 0 { b"[key]" } else { b"\\[key]" })?;
            done = at.end;
            found = true;
        }
        // A key may begin in one window and end in the next.
        let kept = if read == 0 { 0 } else { (window.len() - done).min(spellings.longest() - 1) };
        let end = window.len() - kept;
        to.write_all(&window[done..end])?;
        window.drain(..end);
        if read == 0 {
            return Ok(found);
        }
    }
}

/// The spellings of a key that a reader of text or JSON would read as the key: any of its characters may be escaped.
struct Spellings<'k> {
    key: &'k [u8],
    plain: Finder<'k>,
}

impl<'k> Spellings<'k> {
    fn of(key: &'k [u8]) -> Self {
        Self { key, plain: Finder::new(key) }
    }

    /// The length of the longest spelling: six bytes a character.
    const fn longest(&self) -> usize {
        self.key.len() * 6
    }

    /// The first place at or behind `from` where the key is spelled.
    fn find(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        let text = text.get(from..)?;
        let plain = self.plain.find(text).map(|at| at..at + self.key.len());
        // Nearly no text has escapes that could spell a character of a key.
        let escaped = memchr_iter(b'\\', text).any(|at| matches!(text.get(at + 1), Some(b'u' | b'/')));
        let first = if escaped { self.first_spelled(text) } else { plain };
        first.map(|at| from + at.start..from + at.end)
    }

    fn first_spelled(&self, text: &[u8]) -> Option<Range<usize>> {
        let starts = memchr2_iter(*self.key.first()?, b'\\', text);
        starts.into_iter().find_map(|at| Some(at..at + self.spelled_at(&text[at..])?))
    }

    /// The length of the spelling that `text` begins with.
    fn spelled_at(&self, text: &[u8]) -> Option<usize> {
        let mut read = 0;
        for &wanted in self.key {
            let rest = &text[read..];
            read += match rest {
                [b'\\', b'u', digits @ ..] => {
                    let digits = std::str::from_utf8(digits.get(..4)?).ok()?;
                    (u32::from_str_radix(digits, 16).ok()? == u32::from(wanted)).then_some(6)?
                }
                [b'\\', b'/', ..] if wanted == b'/' => 2,
                [byte, ..] if *byte == wanted => 1,
                _ => return None,
            };
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_across_window_borders() {
        let key = b"canary-key";
        let window = usize::try_from(WINDOW).unwrap();
        for before in [0, 1, window - 10, window - 9, window - 5, window - 1, window, 2 * window - 5] {
            for text in ["canary-key", "canary-keycanary-key", "canary-kecanary-key", "canary-ke", "canary"] {
                let all = ["x".repeat(before), text.to_owned()].concat();
                let mut clean = Vec::new();
                let found = copy_without(key, all.as_bytes(), &mut clean).unwrap();
                let expected = all.replace("canary-key", "[key]");
                assert!(clean == expected.as_bytes(), "{text} behind {before}: {}", clean.len());
                assert_eq!(found, expected != all, "{text} behind {before}");
            }
        }
    }

    #[test]
    fn a_key_is_found_in_every_spelling_of_json() {
        let clean = |text: &str| {
            let mut clean = Vec::new();
            copy_without(b"key/1=abc", text.as_bytes(), &mut clean).unwrap();
            String::from_utf8(clean).unwrap()
        };
        for (text, expected) in [
            (r#"{"a":"key/1=abc"}"#, r#"{"a":"[key]"}"#),
            (r#"{"a":"key\/1=abc"}"#, r#"{"a":"[key]"}"#),
            (r#"{"a":"key\u002f1\u003Dabc"}"#, r#"{"a":"[key]"}"#),
            (r"\u006b\u0065\u0079\/1=abc", "[key]"),
            // Of a text that holds JSON, only the start is an escaped backslash.
            (r#"{"a":"\\u006bey/1=abc"}"#, r#"{"a":"\\[key]"}"#),
            (r#"{"a":"\u0041key/2=abc\u00"}"#, r#"{"a":"\u0041key/2=abc\u00"}"#),
        ] {
            assert_eq!(clean(text), expected);
        }
        let window = usize::try_from(WINDOW).unwrap();
        let long = ["x".repeat(window - 7), r"key\u002f1\u003Dabc".to_owned()].concat();
        assert!(clean(&long).ends_with("x[key]"));
    }
}
