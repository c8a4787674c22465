//! What the targets share. Each of them hands bytes to the library's public entries and asserts more than "no panic".

use std::fmt;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A file without a name in any directory: nothing is left behind, however a target ends. In memory where that can be.
pub struct Scratch {
    file: File,
}

impl Default for Scratch {
    fn default() -> Self {
        let file = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile());
        Self { file: file.expect("a temporary file") }
    }
}

impl Scratch {
    /// A file that holds `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut scratch = Self::default();
        scratch.fill(bytes);
        scratch
    }

    /// Puts `bytes` in place of what it holds.
    pub fn fill(&mut self, bytes: &[u8]) {
        self.file.set_len(0).expect("a shorter file");
        self.file.seek(SeekFrom::Start(0)).expect("a seek");
        self.file.write_all(bytes).expect("a write");
    }

    /// Where it can be opened, while this lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// The members of a JSON object as serde reads them, in order, each value as spelled; `None` if `text` is no object. Names
/// that are no text (a lone surrogate) stay as spelled. Written apart from the library's own, which it checks.
pub fn members(text: &str) -> Option<Vec<(String, &str)>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de str)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                members.push((string(key.get()).unwrap_or_else(|| key.get().to_owned()), value.get()));
            }
            Ok(members)
        }
    }

    let mut parser = serde_json::Deserializer::from_str(text);
    let members = parser.deserialize_map(Members).ok()?;
    parser.end().ok()?;
    Some(members)
}

/// The text of a JSON string.
pub fn string(value: &str) -> Option<String> {
    serde_json::from_str(value).ok()
}

/// The last member of that name.
pub fn find<'a>(members: &[(String, &'a str)], name: &str) -> Option<&'a str> {
    members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
}

/// Whether a message may be shown and kept: something, not for ever, and nothing that moves a terminal's cursor.
pub fn is_message(text: &str, most: usize) -> bool {
    !text.is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
}

/// The first byte and the rest; a choice of what is done with the rest.
pub fn choice(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}
