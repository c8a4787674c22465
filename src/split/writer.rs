//! The batch files that are being filled, at most one for each model.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use ring::digest;

use super::stage::{BatchFileSink, NewBatchFile};
use super::{BatchFile, MOST_MODELS, SplitOptions, too_many_models};
use crate::error::{Error, Exit, Result};
use crate::input;
use crate::request::Attachments;

/// Appends lines to the files of their models, and opens a new file when one is full.
pub(super) struct BatchFileWriter<'a> {
    options: &'a SplitOptions<'a>,
    open: HashMap<Arc<str>, OpenBatchFile>,
    done: Vec<BatchFile>,
    next_number: u32,
}

/// A file that still takes lines.
struct OpenBatchFile {
    file: BatchFile,
    sink: Box<dyn BatchFileSink>,
    sha256: Option<digest::Context>,
}

impl<'a> BatchFileWriter<'a> {
    pub fn new(options: &'a SplitOptions<'a>) -> Self {
        Self { options, open: HashMap::new(), done: Vec::new(), next_number: options.first_number }
    }

    /// Appends a line, with the local files of its request, to the batch file that has room for it, and returns the number of
    /// the batch file. One thread does this, so only one row with its files is in memory.
    pub fn append(&mut self, model: &Arc<str>, line: &[u8], files: &Attachments) -> Result<u32> {
        if files.is_empty() {
            return self.append_line(model, line);
        }
        let mut whole = Vec::new();
        files.write(line, &mut whole).map_err(|fault| input::changed(&fault.message))?;
        self.append_line(model, &whole)
    }

    fn append_line(&mut self, model: &Arc<str>, line: &[u8]) -> Result<u32> {
        let limits = self.options.limits;
        if let Some(open) = self.open.get_mut(model) {
            if limits.have_room(open.file.rows, open.file.bytes, line.len() as u64) {
                open.append(line)?;
                return Ok(open.file.number);
            }
        } else if self.open.len() == MOST_MODELS {
            // The check found fewer, so the input changed meanwhile: no need to count on.
            return Err(too_many_models(MOST_MODELS + 1));
        }
        if let Some(full) = self.open.remove(model) {
            self.done.push(full.finish()?);
        }
        let mut open = self.start(model)?;
        open.append(line)?;
        let number = open.file.number;
        self.open.insert(Arc::clone(model), open);
        Ok(number)
    }

    fn start(&mut self, model: &Arc<str>) -> Result<OpenBatchFile> {
        let number = self.next_number;
        self.next_number =
            number.checked_add(1).ok_or_else(|| Error::new(Exit::Data, "the input makes too many batches"))?;
        let NewBatchFile { path, sink } = (self.options.open)(number, model)?;
        let file = BatchFile { number, model: Arc::clone(model), rows: 0, bytes: 0, sha256: String::new(), path };
        let sha256 = self.options.digests.then(|| digest::Context::new(&digest::SHA256));
        Ok(OpenBatchFile { file, sink, sha256 })
    }

    /// Closes the files that are still open, and lists all by number.
    pub fn finish(self) -> Result<Vec<BatchFile>> {
        let mut last: Vec<OpenBatchFile> = self.open.into_values().collect();
        last.sort_by_key(|open| open.file.number);
        let mut files = self.done;
        for open in last {
            files.push(open.finish()?);
        }
        files.sort_by_key(|file| file.number);
        Ok(files)
    }
}

impl OpenBatchFile {
    fn append(&mut self, line: &[u8]) -> Result<()> {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(line);
        }
        self.file.rows += 1;
        self.file.bytes += line.len() as u64;
        let path = &self.file.path;
        self.sink.write_all(line).map_err(|e| Error::io(format_args!("{}: cannot write", path.display()), e))
    }

    fn finish(mut self) -> Result<BatchFile> {
        self.sink.finish()?;
        if let Some(sha256) = self.sha256 {
            for byte in sha256.finish().as_ref() {
                // Writing to memory cannot fail.
                let _ = write!(self.file.sha256, "{byte:02x}");
            }
        }
        Ok(self.file)
    }
}
