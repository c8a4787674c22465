//! A Parquet file of results on its way: rows as flat JSON lines in, row groups out.

use std::sync::Arc;

use super::target::Target;
use crate::columnar::{ParquetWriter, TableSchema, WriteFault};
use crate::error::{Error, Exit, Result};

/// The file. It is begun when its first bytes are due.
pub(super) struct TableFile {
    state: State,
    schema: Arc<TableSchema>,
    rows: u64,
    shown: String,
}

enum State {
    /// Nothing was written.
    New(Target),
    Begun(Box<ParquetWriter<Target>>),
    /// An error ended it.
    Broken,
}

impl TableFile {
    pub fn new(target: Target, schema: &Arc<TableSchema>) -> Self {
        let shown = target.shown();
        Self { state: State::New(target), schema: Arc::clone(schema), rows: 0, shown }
    }

    /// Adds the rows of flat JSON lines.
    pub fn push(&mut self, lines: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(lines).map_err(|_| self.broken())?;
        for line in text.lines().filter(|line| !line.is_empty()) {
            self.rows += 1;
            let pushed = self.writer().and_then(|writer| writer.push(line));
            pushed.map_err(|fault| {
                // Half of the row may be in its columns.
                self.state = State::Broken;
                self.error(fault)
            })?;
        }
        Ok(())
    }

    /// Writes the end of the file, and returns where it went.
    pub fn finish(mut self) -> Result<Target> {
        let begun = self.writer().map(|_| ());
        begun.map_err(|fault| self.error(fault))?;
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Begun(writer) => writer.finish().map_err(|fault| self.error(fault)),
            State::New(_) | State::Broken => Err(self.broken()),
        }
    }

    /// The writer, which begins the file when it is first asked for.
    fn writer(&mut self) -> Result<&mut ParquetWriter<Target>, WriteFault> {
        if let State::New(_) = self.state
            && let State::New(target) = std::mem::replace(&mut self.state, State::Broken)
        {
            self.state = State::Begun(Box::new(ParquetWriter::new(target, &self.schema)?));
        }
        match &mut self.state {
            State::Begun(writer) => Ok(writer),
            State::New(_) | State::Broken => Err(WriteFault::Io(std::io::Error::other("the file is broken"))),
        }
    }

    fn error(&self, fault: WriteFault) -> Error {
        match fault {
            WriteFault::Io(error) => Error::io(format!("{}: cannot be written", self.shown), error),
            WriteFault::Value(column) => {
                let (shown, row) = (&self.shown, self.rows);
                let text = format!("{shown}: result {row} has a value that the column `{column}` cannot hold");
                // The input was good, and the answers are in the store.
                Error::new(Exit::Io, text).hint(
                    "write JSONL, which holds every value: the same command with --resume and -o FILE.jsonl sends \
                     nothing again",
                )
            }
        }
    }

    fn broken(&self) -> Error {
        Error::new(Exit::Io, format!("{}: cannot be written", self.shown))
    }
}
