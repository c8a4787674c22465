//! The places that result lines go to.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::table_file::TableFile;
use crate::atomic_file::{AtomicFile, remove_partial};
use crate::columnar::TableSchema;
use crate::error::{Error, Result};

/// Bytes gathered before they are written.
const GATHER: usize = 64 << 10;

/// A place for result lines.
pub enum Target {
    /// A file that appears when it is complete.
    File(AtomicFile),
    /// Standard output, or nothing; flushed at the end of each group of rows.
    Stream(Box<dyn Write + Send>),
}

/// A target, and lines on their way to it.
pub(super) struct BufferedTarget {
    sink: LineSink,
    /// Lines that were not passed on yet.
    lines: Vec<u8>,
}

enum LineSink {
    Lines(Target),
    Table(Box<TableFile>),
}

impl Target {
    /// Its name in messages.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::File(file) => file.path().display().to_string(),
            Self::Stream(_) => "standard output".to_owned(),
        }
    }

    /// Writes a group of lines.
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let written = match self {
            Self::File(file) => file.write_all(bytes),
            Self::Stream(out) => out.write_all(bytes).and_then(|()| out.flush()),
        };
        written.map_err(|e| Error::io(format!("{}: cannot be written", self.shown()), e))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stream(out) => out.flush(),
        }
    }
}

impl BufferedTarget {
    /// Begins with the lines that `header` appends; they are not written yet. With a `schema`, lines are rows of a table.
    pub fn new(target: Target, schema: Option<&Arc<TableSchema>>, header: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut lines = Vec::with_capacity(2 * GATHER);
        header(&mut lines);
        let sink = match schema {
            None => LineSink::Lines(target),
            Some(schema) => LineSink::Table(Box::new(TableFile::new(target, schema))),
        };
        Self { sink, lines }
    }

    /// Has `append` add lines, and writes them once they are many.
    pub fn append(&mut self, append: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        append(&mut self.lines);
        if self.lines.len() > GATHER { self.flush() } else { Ok(()) }
    }

    /// Writes all lines.
    pub fn flush(&mut self) -> Result<()> {
        if !self.lines.is_empty() {
            match &mut self.sink {
                LineSink::Lines(target) => target.put(&self.lines)?,
                LineSink::Table(table) => table.push(&self.lines)?,
            }
            self.lines.clear();
        }
        Ok(())
    }

    /// Writes all lines and makes the file appear: under its name if it is `whole`, else as its partial file. Returns the
    /// file; `None` for a stream.
    pub fn commit(mut self, whole: bool) -> Result<Option<PathBuf>> {
        self.flush()?;
        let target = match self.sink {
            LineSink::Lines(target) => target,
            LineSink::Table(table) => table.finish()?,
        };
        match target {
            Target::File(file) if whole => {
                let path = file.is_file().then(|| file.path().to_owned());
                file.commit()?;
                if let Some(path) = &path {
                    remove_partial(path);
                }
                Ok(path)
            }
            Target::File(file) => file.commit_partial(),
            Target::Stream(mut out) => {
                out.flush().map_err(|e| Error::io("standard output: cannot be written", e))?;
                Ok(None)
            }
        }
    }
}

impl fmt::Debug for BufferedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match &self.sink {
            LineSink::Lines(target) => target.shown(),
            LineSink::Table(_) => "a table".to_owned(),
        };
        f.debug_struct("BufferedTarget").field("target", &target).field("waiting", &self.lines.len()).finish()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "File",
            Self::Stream(_) => "Stream",
        })
    }
}
