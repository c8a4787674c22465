//! The places that result lines go to.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;

use crate::atomic_file::{AtomicFile, remove_partial};
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
#[derive(Debug)]
pub(super) struct BufferedTarget {
    target: Target,
    lines: Vec<u8>,
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::File(file) => {
                file.write_all(bytes).map_err(|e| Error::io(format!("{}: cannot be written", file.path().display()), e))
            }
            Self::Stream(out) => out
                .write_all(bytes)
                .and_then(|()| out.flush())
                .map_err(|e| Error::io("standard output: cannot be written", e)),
        }
    }
}

impl BufferedTarget {
    /// Begins with the lines that `header` appends; they are not written yet.
    pub fn new(target: Target, header: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut lines = Vec::with_capacity(2 * GATHER);
        header(&mut lines);
        Self { target, lines }
    }

    /// Has `append` add lines, and writes them once they are many.
    pub fn append(&mut self, append: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        append(&mut self.lines);
        if self.lines.len() > GATHER { self.flush() } else { Ok(()) }
    }

    /// Writes all lines.
    pub fn flush(&mut self) -> Result<()> {
        if !self.lines.is_empty() {
            self.target.write(&self.lines)?;
            self.lines.clear();
        }
        Ok(())
    }

    /// Writes all lines and makes the file appear: under its name if it is `whole`, else as its partial file. Returns the
    /// file; `None` for a stream.
    pub fn commit(mut self, whole: bool) -> Result<Option<PathBuf>> {
        self.flush()?;
        match self.target {
            Target::File(file) if whole => {
                let path = file.is_file().then(|| file.path().to_owned());
                file.commit()?;
                if let Some(path) = &path {
                    remove_partial(path);
                }
                Ok(path)
            }
            Target::File(file) => file.commit_partial(),
            Target::Stream(_) => Ok(None),
        }
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
