//! The fingerprints that a check computed, kept for the run that follows it.
//!
//! A run reads its input twice. To hash a request costs as much as to parse it, a tenth of all that a row costs, so the
//! second reading takes the hash from here, if the request is still the same.

use std::fs::File;
use std::io::{Result, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::outcome::Fingerprint;

/// Bytes of an entry: a fingerprint, and a checksum of the body that it was made of.
const ENTRY: usize = 16 + 4;
/// Bytes of the entries that are in memory at a time: those of 4,096 rows.
const WINDOW: usize = ENTRY << 12;

/// A fingerprint, and a checksum of the body that it was made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownFingerprint {
    fingerprint: Fingerprint,
    sum: u32,
}

/// An entry for each row, in a file without a name.
#[derive(Debug)]
pub(super) struct KnownFingerprints {
    dir: PathBuf,
    /// The first entries. `None`: there are few.
    file: Option<File>,
    /// Bytes of the entries in the file.
    written: u64,
    /// The entries behind those.
    tail: Vec<u8>,
    /// The file cannot be written, so nothing is known. It is not worth the end of a command.
    lost: bool,
}

/// Looks up rows, most of which follow each other.
#[derive(Debug)]
pub(super) struct FingerprintReader<'a> {
    known: &'a KnownFingerprints,
    window: Vec<u8>,
    from: u64,
}

impl KnownFingerprint {
    /// The fingerprint of a request with this body.
    pub fn of(fingerprint: Fingerprint, body: &str) -> Self {
        Self { fingerprint, sum: crc32fast::hash(body.as_bytes()) }
    }
}

impl KnownFingerprints {
    /// No entries. The file of many will be in `dir`.
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir, file: None, written: 0, tail: Vec::new(), lost: false }
    }

    /// Adds the next row. `None`: its fingerprint is not known.
    pub fn push(&mut self, entry: Option<KnownFingerprint>) {
        if self.lost {
            return;
        }
        let entry = entry.unwrap_or(KnownFingerprint { fingerprint: Fingerprint::default(), sum: 0 });
        self.tail.extend_from_slice(&entry.fingerprint.0);
        self.tail.extend_from_slice(&entry.sum.to_le_bytes());
        if self.tail.len() >= WINDOW
            && let Err(error) = self.write()
        {
            tracing::debug!("fingerprints are not kept in {}: {error}", self.dir.display());
            (self.lost, self.tail) = (true, Vec::new());
        }
    }

    fn write(&mut self) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.dir)?),
        };
        file.write_all(&self.tail)?;
        self.written += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }

    /// A reader of all entries.
    pub const fn reader(&self) -> FingerprintReader<'_> {
        FingerprintReader { known: self, window: Vec::new(), from: 0 }
    }
}

impl FingerprintReader<'_> {
    /// The fingerprint of the request of `row`, if it still has this body.
    pub fn of(&mut self, row: u64, body: &str) -> Option<Fingerprint> {
        let at = row.checked_sub(1)?.checked_mul(ENTRY as u64).filter(|_| !self.known.lost)?;
        let entry = match at.checked_sub(self.known.written) {
            Some(behind) => entry(&self.known.tail, behind),
            None => self.in_file(at),
        };
        let (fingerprint, sum) = entry?.split_at_checked(ENTRY - 4)?;
        // Bytes of no request hash to the sum of an unknown entry.
        let same = !body.is_empty() && sum == crc32fast::hash(body.as_bytes()).to_le_bytes();
        same.then_some(Fingerprint(fingerprint.try_into().ok()?))
    }

    fn in_file(&mut self, at: u64) -> Option<&[u8]> {
        let behind = at.checked_sub(self.from).filter(|behind| *behind < self.window.len() as u64);
        if behind.is_none() {
            let rest = usize::try_from(self.known.written - at).unwrap_or(WINDOW);
            self.window.resize(rest.min(WINDOW), 0);
            self.from = at;
            if self.known.file.as_ref()?.read_exact_at(&mut self.window, at).is_err() {
                self.window.clear();
            }
        }
        entry(&self.window, at - self.from)
    }
}

/// The entry that begins at this byte.
fn entry(bytes: &[u8], at: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(at).ok()?..)?.get(..ENTRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: u64 = 10_000;

    fn fingerprint(row: u64) -> Fingerprint {
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&row.to_le_bytes());
        Fingerprint(bytes)
    }

    fn known(dir: &std::path::Path) -> KnownFingerprints {
        let mut known = KnownFingerprints::new(dir.to_owned());
        for row in 1..=ROWS {
            // Every seventh row has none.
            let entry = (row % 7 > 0).then(|| KnownFingerprint::of(fingerprint(row), &format!("body {row}")));
            known.push(entry);
        }
        known
    }

    #[test]
    fn rows_are_found_in_any_order_while_their_bodies_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let known = known(dir.path());
        assert!(known.written > 0 && !known.tail.is_empty(), "a part is in the file, a part is not");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
        let mut reader = known.reader();
        for row in (1..=ROWS).chain((1..=ROWS).rev()).chain([ROWS, 1, 9_000, 2]) {
            let expected = (row % 7 > 0).then(|| fingerprint(row));
            assert_eq!(reader.of(row, &format!("body {row}")), expected, "{row}");
            assert_eq!(reader.of(row, "another body"), None, "{row}");
            assert_eq!(reader.of(row, ""), None, "{row}");
        }
        for row in [0, ROWS + 1, u64::MAX] {
            assert_eq!(reader.of(row, "body 1"), None, "{row}");
        }
    }

    #[test]
    fn nothing_is_known_where_the_file_cannot_be_written() {
        let known = known(std::path::Path::new("/nowhere"));
        assert!(known.lost);
        assert_eq!(known.reader().of(1, "body 1"), None);
        assert_eq!(known.reader().of(ROWS, &format!("body {ROWS}")), None);
    }
}
