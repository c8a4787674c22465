//! Rows of a plan that earlier jobs have answered, in a file without a name. Their answers are copied once the batches of the
//! other rows are written.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::job::earlier_answers::TakenRow;
use crate::pack::Pack;
use crate::row_set::RowSet;

/// The rows so far.
pub(super) struct TakenRows<'a> {
    rows: RowSet,
    dir: &'a Path,
    file: Option<BufWriter<File>>,
}

impl<'a> TakenRows<'a> {
    /// None so far. The file will be in `dir`.
    pub(super) fn new(dir: &'a Path) -> Self {
        Self { rows: RowSet::default(), dir, file: None }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, taken: &TakenRow) -> Result<()> {
        self.rows.insert(taken.row);
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(BufWriter::new(tempfile::tempfile_in(self.dir).map_err(unwritable)?)),
        };
        let mut record = Vec::new();
        taken.pack(&mut record);
        let len = (record.len() as u64).to_le_bytes();
        file.write_all(&len).and_then(|()| file.write_all(&record)).map_err(unwritable)
    }

    /// The rows.
    pub(super) const fn rows(&self) -> &RowSet {
        &self.rows
    }

    /// Calls `each` with the rows, in the order in which they were added.
    pub(super) fn each(self, mut each: impl FnMut(&TakenRow) -> Result<()>) -> Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        let mut file = file.into_inner().map_err(|e| unwritable(e.into_error()))?;
        file.rewind().map_err(unreadable)?;
        let mut file = BufReader::new(file);
        let mut record = Vec::new();
        for _ in 0..self.rows.count() {
            let mut len = [0; 8];
            file.read_exact(&mut len).map_err(unreadable)?;
            record.resize(u64::from_le_bytes(len) as usize, 0);
            file.read_exact(&mut record).map_err(unreadable)?;
            let taken = TakenRow::unpack(&mut &record[..]);
            each(&taken.ok_or_else(|| unreadable(std::io::ErrorKind::InvalidData.into()))?)?;
        }
        Ok(())
    }
}

fn unwritable(error: std::io::Error) -> Error {
    Error::io("a temporary file cannot be written in the state directory", error)
}

fn unreadable(error: std::io::Error) -> Error {
    Error::io("a temporary file of the state directory cannot be read", error)
}
