//! Blocks of a Parquet file: its rows as lines of JSON.

use std::sync::Arc;

use super::source::packing;
use crate::columnar::{FieldType, ParquetRows, RangedRead};
use crate::error::{Error, Exit, Result};

/// The names and types of a file's columns.
pub(super) type FileTypes = Arc<[(String, FieldType)]>;

/// A Parquet file that is being read.
pub struct ParquetFile {
    pub(super) file: Arc<str>,
    /// Its columns.
    pub(super) types: FileTypes,
    rows: ParquetRows,
    /// Rows handed out so far.
    pub(super) read: u64,
    /// The next row was read, and is longer than any may be.
    too_long: bool,
}

/// The next rows of a file.
pub(super) enum NextRows {
    /// Lines, and their number.
    Lines(Vec<u8>, u64),
    /// A row that is longer than any may be.
    TooLong,
    /// There are no more.
    End,
}

impl ParquetFile {
    /// Opens `source`.
    ///
    /// # Errors
    /// As [`ParquetRows::open`]; 65 for a file that is packed as a whole.
    pub fn of(source: Arc<dyn RangedRead>, shown: &str) -> Result<Self> {
        let head = source.read_at(0, usize::try_from(source.size().min(4)).unwrap_or(0))?;
        if let Some(packing) = packing(&head) {
            let text = format!("{shown}: the Parquet file is packed with {packing}, which hides its end");
            let unpack = if packing == "gzip" { "gunzip -k" } else { "unzstd" };
            return Err(Error::new(Exit::Data, text).hint(format!("unpack it: {unpack} '{shown}'")));
        }
        let rows = ParquetRows::open(source, shown)?;
        Ok(Self { file: shown.into(), types: rows.types().into(), rows, read: 0, too_long: false })
    }

    /// Reads rows of about `block` bytes, where one of more than `longest` is a problem.
    ///
    /// # Errors
    /// As [`ParquetRows::next`].
    pub(super) fn next(&mut self, block: usize, longest: usize) -> Result<NextRows> {
        let (mut lines, mut count) = (Vec::with_capacity(block), 0);
        while !self.too_long && lines.len() < block {
            let before = lines.len();
            if !self.rows.next(&mut lines)? {
                break;
            }
            if lines.len() - before > longest {
                lines.truncate(before);
                self.too_long = true;
            } else {
                count += 1;
            }
        }
        self.read += count;
        if count > 0 {
            return Ok(NextRows::Lines(lines, count));
        }
        if !std::mem::take(&mut self.too_long) {
            return Ok(NextRows::End);
        }
        self.read += 1;
        Ok(NextRows::TooLong)
    }
}

impl ParquetFile {
    /// The next row as a JSON object, on one line; `None` behind the last.
    ///
    /// # Errors
    /// As [`ParquetRows::next`].
    pub fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let more = self.rows.next(&mut line)?;
        self.read += u64::from(more);
        Ok(more.then_some(line))
    }

    /// The number of the row that was read last, 1-based.
    pub const fn row(&self) -> u64 {
        self.read
    }

    /// The columns of the file, each with its name and type.
    pub fn types(&self) -> &[(String, FieldType)] {
        &self.types
    }
}

/// The error of a Parquet file that comes through a pipe.
pub(super) fn piped() -> Error {
    Error::usage("-: a Parquet file lists its columns at its end, so it cannot be read from a pipe")
        .hint("name the file in place of -")
}
