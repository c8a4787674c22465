//! Parts whose rows are in the order of the input: the first row of each part that was not taken yet.

use std::collections::HashMap;

use super::part::{PartFile, PartReader};
use super::{LinesOfRows, PartLine};
use crate::error::Result;

/// The next row of each part, by its id. Memory is a row for each part.
pub(super) struct Heads<'a> {
    readers: Vec<PartReader<'a>>,
    next: Vec<Option<PartLine>>,
    by_id: HashMap<Box<str>, Vec<usize>>,
}

impl<'a> Heads<'a> {
    /// Reads the first row of each part.
    pub fn open(parts: &'a [PartFile]) -> Result<Self> {
        let readers = parts.iter().map(PartFile::reader).collect::<Result<Vec<_>>>()?;
        let next = readers.iter().map(|_| None).collect();
        let mut heads = Self { readers, next, by_id: HashMap::new() };
        for part in 0..parts.len() {
            heads.advance(part)?;
        }
        Ok(heads)
    }

    /// Returns true if a part has rows that no row of the input took: it is in another order, or they are of other rows.
    pub fn has_rest(&self) -> bool {
        self.next.iter().any(Option::is_some)
    }

    /// The lines that were cut off, by part.
    pub fn torn(&self) -> Vec<Option<u64>> {
        self.readers.iter().map(|reader| reader.torn).collect()
    }

    fn advance(&mut self, part: usize) -> Result<()> {
        let line = self.readers[part].next()?;
        if let Some(line) = &line {
            self.by_id.entry(line.row.outcome.id.clone()).or_default().push(part);
        }
        self.next[part] = line;
        Ok(())
    }
}

impl LinesOfRows for Heads<'_> {
    fn take(&mut self, _: u64, id: &str, found: &mut Vec<PartLine>) -> Result<()> {
        while let Some(parts) = self.by_id.remove(id) {
            for part in parts {
                found.extend(self.next[part].take());
                self.advance(part)?;
            }
        }
        // Whatever the lead of one part over another, the order is that of the command line.
        found.sort_by_key(|line| line.part);
        Ok(())
    }
}
