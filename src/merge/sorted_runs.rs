//! Sorts entries of one size in bounded memory: full buffers are sorted and go to a file, and are read back as one sequence.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Bytes of the entries that are sorted at a time.
const BUFFER: usize = 32 << 20;

/// Entries of `W` bytes, to be sorted as bytes.
pub(super) struct SortedRuns<const W: usize> {
    buffer: Vec<[u8; W]>,
    /// Entries that are sorted at a time.
    room: usize,
    /// All runs, one behind the other.
    file: File,
    /// Entries of each run.
    runs: Vec<u64>,
}

/// All entries in order.
pub(super) struct Merging<const W: usize> {
    runs: Vec<Run>,
    /// The first entry of each run that was not given yet, with the run's number.
    heads: BinaryHeap<Reverse<([u8; W], usize)>>,
}

struct Run {
    file: BufReader<PartOfFile>,
    /// Entries that were not read yet.
    left: u64,
}

/// A file from some byte on.
struct PartOfFile {
    file: Arc<File>,
    at: u64,
}

impl Read for PartOfFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<const W: usize> SortedRuns<W> {
    /// Begins without entries. Their file is in `dir`, without a name.
    pub fn new(dir: &Path) -> Result<Self> {
        Self::with_room(dir, BUFFER / W)
    }

    fn with_room(dir: &Path, room: usize) -> Result<Self> {
        Ok(Self { buffer: Vec::new(), room, file: scratch_file(dir)?, runs: Vec::new() })
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: [u8; W]) -> Result<()> {
        if self.buffer.len() == self.room {
            self.write().map_err(broken)?;
        }
        self.buffer.push(entry);
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.buffer.sort_unstable();
        let mut out = BufWriter::with_capacity(1 << 20, &mut self.file);
        self.buffer.iter().try_for_each(|entry| out.write_all(entry))?;
        out.flush()?;
        self.runs.push(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }

    /// Gives all entries in order.
    pub fn merge(mut self) -> Result<Merging<W>> {
        self.write().map_err(broken)?;
        // The buffer is no longer needed, and its memory is.
        self.buffer = Vec::new();
        let (file, mut at) = (Arc::new(self.file), 0);
        let piece = (BUFFER / self.runs.len()).clamp(4 << 10, 1 << 20);
        let mut merging = Merging { runs: Vec::with_capacity(self.runs.len()), heads: BinaryHeap::new() };
        for (number, left) in self.runs.into_iter().enumerate() {
            let part = PartOfFile { file: Arc::clone(&file), at };
            merging.runs.push(Run { file: BufReader::with_capacity(piece, part), left });
            merging.advance(number)?;
            at += left * W as u64;
        }
        Ok(merging)
    }
}

impl<const W: usize> Merging<W> {
    /// The next entry, which stays the next one.
    pub fn peek(&self) -> Option<&[u8; W]> {
        self.heads.peek().map(|Reverse((entry, _))| entry)
    }

    /// Takes the next entry.
    pub fn next(&mut self) -> Result<Option<[u8; W]>> {
        let Some(Reverse((entry, run))) = self.heads.pop() else { return Ok(None) };
        self.advance(run)?;
        Ok(Some(entry))
    }

    fn advance(&mut self, number: usize) -> Result<()> {
        let Some(run) = self.runs.get_mut(number).filter(|run| run.left > 0) else { return Ok(()) };
        let mut entry = [0; W];
        run.file.read_exact(&mut entry).map_err(broken)?;
        run.left -= 1;
        self.heads.push(Reverse((entry, number)));
        Ok(())
    }
}

/// A file without a name in `dir`, which goes with its process.
pub(super) fn scratch_file(dir: &Path) -> Result<File> {
    tempfile::tempfile_in(dir)
        .map_err(|error| Error::io(format!("{}: no file can be made for parts in another order", dir.display()), error))
}

/// The error of a file without a name.
pub(super) fn broken(error: io::Error) -> Error {
    Error::io("the file for parts in another order cannot be used", error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_come_back_sorted(numbers in prop::collection::vec(any::<u16>(), 0..300), room in 1_usize..50) {
            let mut runs = SortedRuns::with_room(&std::env::temp_dir(), room).unwrap();
            for number in &numbers {
                runs.push(number.to_be_bytes()).unwrap();
            }
            let mut merging = runs.merge().unwrap();
            let mut found = Vec::new();
            while let Some(entry) = merging.next().unwrap() {
                found.push(u16::from_be_bytes(entry));
            }
            let mut sorted = numbers;
            sorted.sort_unstable();
            prop_assert_eq!(found, sorted);
        }
    }
}
