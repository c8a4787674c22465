//! Removal of the key from the texts of a service.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use memchr::memmem::{Finder, find};
use secrecy::ExposeSecret;

use super::Client;

/// A shorter key is a test's placeholder, and would occur in ordinary words.
const SHORTEST_KEY: usize = 8;

/// Bytes searched at a time.
const WINDOW: u64 = 1 << 20;

impl Client {
    /// The key to remove, if there is one.
    pub(super) fn secret(&self) -> Option<&[u8]> {
        self.key.as_ref().map(|key| key.expose_secret().as_bytes()).filter(|key| key.len() >= SHORTEST_KEY)
    }

    /// Returns true if `text` contains the key.
    pub fn is_key_in(&self, text: &str) -> bool {
        self.secret().is_some_and(|key| find(text.as_bytes(), key).is_some())
    }

    /// Writes `clean`, a copy of `file` without the key, and syncs it. Returns `false`, without a copy, if `file` does not
    /// contain the key.
    pub fn copy_without_key(&self, file: &Path, clean: &Path) -> io::Result<bool> {
        let Some(key) = self.secret() else { return Ok(false) };
        if !copy_without(key, File::open(file)?, &mut io::sink())? {
            return Ok(false);
        }
        let to = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(clean)?;
        let mut to = BufWriter::new(to);
        copy_without(key, File::open(file)?, &mut to)?;
        to.into_inner()?.sync_all()?;
        Ok(true)
    }
}

/// Copies `from` to `to` with `[key]` in place of `key`. Returns whether `key` occurred.
pub(super) fn copy_without(key: &[u8], mut from: impl Read, to: &mut impl Write) -> io::Result<bool> {
    let finder = Finder::new(key);
    let mut window = Vec::new();
    let mut found = false;
    loop {
        let read = from.by_ref().take(WINDOW).read_to_end(&mut window)?;
        let mut done = 0;
        for at in finder.find_iter(&window) {
            to.write_all(&window[done..at])?;
            to.write_all(b"[key]")?;
            done = at + key.len();
            found = true;
        }
        // A key may begin in one window and end in the next.
        let kept = if read == 0 { 0 } else { (window.len() - done).min(key.len().saturating_sub(1)) };
        let end = window.len() - kept;
        to.write_all(&window[done..end])?;
        window.drain(..end);
        if read == 0 {
            return Ok(found);
        }
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
}
