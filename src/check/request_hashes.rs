//! Hashes of requests, and the rows whose hash another row has too: found among millions, in memory that does not grow with them.
//!
//! Hashes are kept in memory up to a number, then sorted and written to a file without a name. At the end, the sorted parts are
//! merged, and equal hashes stand side by side.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use crate::row_set::RowSet;

/// Hashes in memory: 2 MiB.
const IN_MEMORY: usize = 1 << 17;
/// Hashes of a part that are read at once.
const AT_ONCE: usize = 1 << 9;
/// Groups whose keys are compared in one pass over the input: up to 40 MB.
const GROUPS: u64 = 1 << 19;

/// The hashes that the first pass keeps of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RequestHash {
    /// The same for requests with the same key.
    pub hash: u64,
    pub row: u32,
    /// The same for requests that are spelled alike.
    pub spelling: u32,
}

/// Hashes of requests.
#[derive(Debug)]
pub(super) struct RequestHashes {
    /// Hashes that were not written.
    recent: Vec<RequestHash>,
    /// Most of them.
    most: usize,
    /// The file of sorted parts, and the number of hashes in each part. `None`: none was needed so far.
    file: Option<File>,
    parts: Vec<usize>,
    /// No file can be written, so all stay in memory.
    unwritable: bool,
}

/// Rows whose request may be that of another row.
#[derive(Debug, Clone, Default)]
pub struct AlikeRows(pub(super) Vec<AlikePart>);

/// Rows with some of the hashes. A hash is in one part.
#[derive(Debug, Clone, Default)]
pub(super) struct AlikePart {
    pub rows: RowSet,
    /// Rows whose hash came in more than one spelling.
    pub respelled: RowSet,
    groups: u64,
}

impl Default for RequestHashes {
    fn default() -> Self {
        Self { recent: Vec::new(), most: IN_MEMORY, file: None, parts: Vec::new(), unwritable: false }
    }
}

impl RequestHashes {
    /// Adds the hashes of a row's request.
    pub fn add(&mut self, hash: u64, spelling: u32, row: u64) {
        if self.recent.len() >= self.most && !self.unwritable {
            // What cannot be written stays in memory, which then grows.
            match self.write_part() {
                Ok(()) => self.recent.clear(),
                Err(error) => {
                    tracing::debug!("hashes stay in memory: {error}");
                    self.unwritable = true;
                }
            }
        }
        self.recent.push(RequestHash { hash, row: place(row), spelling });
    }

    fn write_part(&mut self) -> io::Result<()> {
        self.recent.sort_unstable();
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        // A part that was written in part is written over.
        file.seek(SeekFrom::Start(place_of(self.parts.iter().sum())))?;
        let mut out = BufWriter::with_capacity(64 << 10, file);
        for entry in &self.recent {
            out.write_all(&entry.bytes())?;
        }
        out.flush()?;
        self.parts.push(self.recent.len());
        Ok(())
    }

    /// Takes the rows whose hash came more than once, and frees the rest.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn alike(&mut self) -> io::Result<AlikeRows> {
        let Self { mut recent, file, parts, .. } = std::mem::take(self);
        recent.sort_unstable();
        let mut groups = Groups::default();
        let Some(file) = file.filter(|_| !parts.is_empty()) else {
            for entry in recent {
                groups.add(entry);
            }
            return Ok(groups.finish());
        };
        let mut start = 0;
        let mut sources: Vec<SortedPart> = Vec::with_capacity(parts.len() + 1);
        for len in parts {
            sources.push(SortedPart { at: start, end: start + len, read: Vec::new().into_iter() });
            start += len;
        }
        sources.push(SortedPart { at: 0, end: 0, read: recent.into_iter() });
        let mut next = BinaryHeap::with_capacity(sources.len());
        for (place, source) in sources.iter_mut().enumerate() {
            next.extend(source.next(&file)?.map(|entry| Reverse((entry, place))));
        }
        while let Some(Reverse((entry, place))) = next.pop() {
            groups.add(entry);
            next.extend(sources[place].next(&file)?.map(|entry| Reverse((entry, place))));
        }
        Ok(groups.finish())
    }
}

impl RequestHash {
    const BYTES: usize = 16;

    fn bytes(self) -> [u8; Self::BYTES] {
        let rest = u64::from(self.row) << 32 | u64::from(self.spelling);
        (u128::from(self.hash) << 64 | u128::from(rest)).to_be_bytes()
    }

    fn of(bytes: [u8; Self::BYTES]) -> Self {
        let all = u128::from_be_bytes(bytes);
        Self { hash: (all >> 64) as u64, row: (all >> 32) as u32, spelling: all as u32 }
    }
}

/// The place in the file behind so many hashes.
const fn place_of(hashes: usize) -> u64 {
    (hashes * RequestHash::BYTES) as u64
}

/// A sorted part of the hashes.
struct SortedPart {
    /// The next hash in the file, and the end of the part.
    at: usize,
    end: usize,
    /// Those that were read.
    read: std::vec::IntoIter<RequestHash>,
}

impl SortedPart {
    fn next(&mut self, mut file: &File) -> io::Result<Option<RequestHash>> {
        if self.read.len() == 0 && self.at < self.end {
            let count = AT_ONCE.min(self.end - self.at);
            let mut bytes = vec![0; count * RequestHash::BYTES];
            file.seek(SeekFrom::Start(place_of(self.at)))?;
            file.read_exact(&mut bytes)?;
            self.at += count;
            let entries: Vec<RequestHash> = bytes.as_chunks().0.iter().map(|bytes| RequestHash::of(*bytes)).collect();
            self.read = entries.into_iter();
        }
        Ok(self.read.next())
    }
}

/// Groups of equal hashes, which come in ascending order.
#[derive(Default)]
struct Groups {
    found: AlikeRows,
    group: Vec<RequestHash>,
}

impl Groups {
    fn add(&mut self, entry: RequestHash) {
        if self.group.first().is_some_and(|first| first.hash != entry.hash) {
            self.close();
        }
        self.group.push(entry);
    }

    fn close(&mut self) {
        if let [first, others @ ..] = &self.group[..]
            && !others.is_empty()
        {
            let parts = &mut self.found.0;
            if parts.last().is_none_or(|part| part.groups == GROUPS) {
                parts.push(AlikePart::default());
            }
            if let Some(part) = parts.last_mut() {
                part.groups += 1;
                let respelled = others.iter().any(|other| other.spelling != first.spelling);
                for RequestHash { row, .. } in &self.group {
                    part.rows.insert(u64::from(*row));
                    if respelled {
                        part.respelled.insert(u64::from(*row));
                    }
                }
            }
        }
        self.group.clear();
    }

    fn finish(mut self) -> AlikeRows {
        self.close();
        self.found
    }
}

impl AlikePart {
    /// Tests whether `row` is one of them.
    pub fn contains(&self, row: u64) -> bool {
        self.rows.contains(u64::from(place(row)))
    }

    /// Tests whether requests with the hash of `row` are spelled in more than one way.
    pub fn is_respelled(&self, row: u64) -> bool {
        self.respelled.contains(u64::from(place(row)))
    }
}

/// The number of a row in 32 bits. Rows beyond four billion share one.
fn place(row: u64) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

impl AlikeRows {
    /// Returns true if there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a row.
    #[cfg(test)]
    pub(super) fn insert(&mut self, row: u64) {
        if self.0.is_empty() {
            self.0.push(AlikePart::default());
        }
        self.0[0].rows.insert(row);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(set: &RowSet) -> Vec<u64> {
        set.iter().collect()
    }

    proptest! {
        #[test]
        fn rows_of_one_hash_are_alike_wherever_the_hashes_are(
            added in proptest::collection::vec((0_u64..12, 0_u32..2), 0..80),
            most in 1_usize..30,
        ) {
            let spread = |hash: u64| hash << 60 | hash;
            let mut hashes = RequestHashes { most, ..RequestHashes::default() };
            for (row, (hash, spelling)) in (1..).zip(&added) {
                hashes.add(spread(*hash), *spelling, row);
            }
            let alike = hashes.alike().unwrap();
            let part = alike.0.first().cloned().unwrap_or_default();
            let expected = |respelled: bool| -> Vec<u64> {
                let others = |hash: u64, row: u64| {
                    let added = (1..).zip(&added).filter(move |(other, (same, _))| *same == hash && *other != row);
                    added.map(|(_, (_, spelling))| *spelling)
                };
                let all = (1..).zip(&added);
                let found = all.filter(|(row, (hash, spelling))| {
                    let mut others = others(*hash, *row).peekable();
                    others.peek().is_some() && (!respelled || others.any(|other| other != *spelling))
                });
                found.map(|(row, _)| row).collect()
            };
            prop_assert_eq!(rows(&part.rows), expected(false));
            prop_assert_eq!(rows(&part.respelled), expected(true));
            prop_assert_eq!(alike.is_empty(), part.rows.count() == 0);
        }
    }

    #[test]
    fn many_groups_are_divided() {
        let mut groups = Groups::default();
        for hash in 0..=GROUPS {
            for row in [2 * hash, 2 * hash + 1] {
                groups.add(RequestHash { hash, row: row as u32, spelling: 0 });
            }
        }
        let AlikeRows(parts) = groups.finish();
        let counts: Vec<u64> = parts.iter().map(|part| part.rows.count()).collect();
        assert_eq!(counts, [2 * GROUPS, 2]);
        assert!(!parts[0].rows.contains(2 * GROUPS) && parts[1].rows.contains(2 * GROUPS));
    }
}
