//! Parts in any order: their rows are copied into a file, and sorted by the rows of the input that they belong to.
//!
//! Ids are compared by a hash of 128 bits. Memory is that of one sort, whatever the number of rows; the disk holds the parts
//! once more.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::part::PartFile;
use super::sorted_runs::{Merging, SortedRuns, broken, scratch_file};
use super::{LinesOfRows, PartLine, foreign};
use crate::check::{Checked, says_repeated};
use crate::error::{Error, Exit, Result};

/// Bytes of a hash of an id.
const HASH: usize = 16;
/// A hash, and the number of a row.
const ROW_ENTRY: usize = HASH + 8;
/// Number of the part, offset in the copy, length.
const PLACE: usize = 4 + 8 + 4;

/// The rows of the input, by the hashes of their ids.
pub(super) struct RowIds(SortedRuns<ROW_ENTRY>);

/// The rows of all parts, by the rows of the input.
pub(super) struct Index<'a> {
    parts: &'a [PartFile],
    copy: File,
    places: Merging<{ 8 + PLACE }>,
    /// The rows whose id an earlier row has.
    checked: Checked,
    /// The lines that were cut off, by part.
    pub torn: Vec<Option<u64>>,
}

impl RowIds {
    /// Begins without rows; files are in `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        SortedRuns::new(dir).map(Self)
    }

    /// Adds a row. Ids are unique.
    pub fn add(&mut self, row: u64, id: &str) -> Result<()> {
        self.push(row, hash(id))
    }

    /// Adds a row whose `id` an earlier row has. Its line in a table may show that id, if the record has a field of that name.
    pub fn add_repeated(&mut self, row: u64, id: &str) -> Result<()> {
        self.push(row, hash_of_repeated(id))
    }

    fn push(&mut self, row: u64, hash: [u8; HASH]) -> Result<()> {
        let mut entry = [0; ROW_ENTRY];
        entry[..HASH].copy_from_slice(&hash);
        entry[HASH..].copy_from_slice(&row.to_be_bytes());
        self.0.push(entry)
    }

    /// Copies the rows of the parts, and finds the row of the input for each.
    ///
    /// # Errors
    /// 76 for a row that the input lacks, 65 if several rows may be meant.
    pub fn find<'a>(self, parts: &'a [PartFile], checked: Checked, dir: &Path) -> Result<Index<'a>> {
        let mut lines = SortedRuns::<{ HASH + PLACE }>::new(dir)?;
        let (mut copy, mut at, mut torn) = (BufWriter::with_capacity(1 << 20, scratch_file(dir)?), 0_u64, Vec::new());
        for (number, part) in parts.iter().enumerate() {
            let mut reader = part.reader()?;
            while let Some(line) = reader.next()? {
                let mut entry = [0; HASH + PLACE];
                let outcome = &line.row.outcome;
                let is_repeated = line.row.flat && outcome.error.as_ref().is_some_and(|e| says_repeated(&e.message));
                let hash = if is_repeated && !checked.duplicates.is_empty() { hash_of_repeated } else { hash };
                entry[..HASH].copy_from_slice(&hash(&outcome.id));
                entry[HASH..].copy_from_slice(&place(number, at, line.bytes.len())?);
                lines.push(entry)?;
                copy.write_all(&line.bytes).map_err(broken)?;
                at += line.bytes.len() as u64;
            }
            torn.push(reader.torn);
        }
        let copy = copy.into_inner().map_err(|error| broken(error.into_error()))?;
        let places = self.places_of(lines, parts, &copy, dir)?;
        Ok(Index { parts, copy, places, checked, torn })
    }

    /// Sorts the `lines` by the numbers of their rows.
    fn places_of(
        self,
        lines: SortedRuns<{ HASH + PLACE }>,
        parts: &[PartFile],
        copy: &File,
        dir: &Path,
    ) -> Result<Merging<{ 8 + PLACE }>> {
        let (mut rows, mut lines) = (self.0.merge()?, lines.merge()?);
        let mut places = SortedRuns::new(dir)?;
        while let Some(first) = lines.peek().copied() {
            let (hash, place) = first.split_at(HASH);
            while rows.peek().is_some_and(|row| row[..HASH] < *hash) {
                rows.next()?;
            }
            let mut numbers = Vec::new();
            while let Some(row) = rows.peek().copied().filter(|row| row[..HASH] == *hash) {
                numbers.push(row);
                rows.next()?;
            }
            if numbers.is_empty() {
                return Err(foreign(&read_line(parts, copy, place)?, parts));
            }
            let mut nth = InPart::default();
            while let Some(line) = lines.peek().copied().filter(|line| line[..HASH] == *hash) {
                let place = &line[HASH..];
                let row = if let [row] = &numbers[..] { Some(row) } else { numbers.get(nth.next(place)) };
                let Some(row) = row else { return Err(ambiguous(&read_line(parts, copy, place)?, parts)) };
                let mut entry = [0; 8 + PLACE];
                entry[..8].copy_from_slice(&row[HASH..]);
                entry[8..].copy_from_slice(place);
                places.push(entry)?;
                lines.next()?;
                // A part that has some of these rows does not say which.
                let ends = lines.peek().is_none_or(|next| next[..HASH] != *hash || next[HASH..][..4] != place[..4]);
                if ends && numbers.len() > 1 && nth.lines != numbers.len() {
                    return Err(ambiguous(&read_line(parts, copy, place)?, parts));
                }
            }
        }
        places.merge()
    }
}

impl LinesOfRows for Index<'_> {
    fn take(&mut self, row: u64, _: &str, found: &mut Vec<PartLine>) -> Result<()> {
        while self.places.peek().is_some_and(|entry| entry[..8] == row.to_be_bytes()) {
            if let Some(entry) = self.places.next()? {
                found.push(read_line(self.parts, &self.copy, &entry[8..])?);
            }
        }
        Ok(())
    }

    fn id_of_result(&self, row: u64, id: Box<str>) -> Box<str> {
        self.checked.stand_in(row, &id).unwrap_or(id)
    }
}

/// The number of a line among the lines of its part.
#[derive(Default)]
struct InPart {
    part: [u8; 4],
    lines: usize,
}

impl InPart {
    /// Counts a line, and returns the number of those before it.
    fn next(&mut self, place: &[u8]) -> usize {
        if place[..4] != self.part {
            self.part.copy_from_slice(&place[..4]);
            self.lines = 0;
        }
        self.lines += 1;
        self.lines - 1
    }
}

/// The error of lines that may be of several rows.
fn ambiguous(line: &PartLine, parts: &[PartFile]) -> Error {
    let (id, part) = (&line.row.outcome.id, &parts[line.part].shown);
    Error::new(
        Exit::Data,
        format!("{part}: the id {id:?} belongs to several rows, and the part does not say which it has"),
    )
    .hint("merge parts in jsonl without --flat, or give the rows ids of their own")
}

fn hash_of_repeated(id: &str) -> [u8; HASH] {
    hash(&format!("{id}\0repeated"))
}

fn hash(id: &str) -> [u8; HASH] {
    let mut short = [0; HASH];
    short.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..HASH]);
    short
}

fn place(part: usize, at: u64, bytes: usize) -> Result<[u8; PLACE]> {
    let too_large = || Error::new(Exit::Data, "a row of a part is too long");
    let (part, bytes) = (u32::try_from(part).ok(), u32::try_from(bytes).ok());
    let (part, bytes) = part.zip(bytes).ok_or_else(too_large)?;
    let mut place = [0; PLACE];
    place[..4].copy_from_slice(&part.to_be_bytes());
    place[4..12].copy_from_slice(&at.to_be_bytes());
    place[12..].copy_from_slice(&bytes.to_be_bytes());
    Ok(place)
}

/// Reads a row from the copy.
fn read_line(parts: &[PartFile], copy: &File, place: &[u8]) -> Result<PartLine> {
    let number = |from: usize, to: usize| place[from..to].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (part, at, length) = (number(0, 4), number(4, 12), number(12, PLACE));
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    copy.read_exact_at(&mut bytes, at).map_err(broken)?;
    let part = usize::try_from(part).ok().and_then(|part| parts.get(part));
    let line = part.and_then(|part| part.read_back(bytes));
    line.ok_or_else(|| broken(std::io::ErrorKind::InvalidData.into()))
}
