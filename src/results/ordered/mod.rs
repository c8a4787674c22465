//! Results in input order while rows are answered in any order.
//!
//! What is answered ahead of its turn waits in a small window; what does not fit there is read back from the job's
//! database when its turn comes. So memory does not grow with how far ahead the others are of a slow row.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::cursor::{Cursor, Fields, Source, Value};
use super::format::{Field, Renderer};
use crate::atomic_file::AtomicFile;
use crate::error::{Error, Exit, Result};
use crate::outcome::{ErrorCode, Outcome};
use crate::price::Nanos;
use crate::row_set::RowSet;
use crate::store::JobDb;

/// Bytes of answers that wait for their turn in memory.
const WINDOW: usize = 8 << 20;
/// Rows that the window reaches ahead.
const WINDOW_ROWS: usize = 1 << 16;
/// Outcomes read back at a time.
const READ_BACK: u32 = 128;
/// Bytes gathered before they go to the writer.
const GATHER: usize = 64 << 10;

/// Where results go.
pub enum Target {
    /// A file that appears when it is complete.
    File(AtomicFile),
    /// Standard output, row by row.
    Stream(Box<dyn Write + Send>),
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

    fn commit(self) -> Result<()> {
        match self {
            Self::File(file) => file.commit(),
            Self::Stream(_) => Ok(()),
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File(_) => "File",
            Self::Stream(_) => "Stream",
        })
    }
}

/// Where outcomes come back from that did not wait for their turn in memory.
pub trait ReadBack {
    /// Outcomes in order, the first that of row `from`; about `limit` of them.
    fn outcomes(&self, from: u64, limit: u32) -> Result<Vec<Outcome>>;

    /// The first outcome from row `from` on: what a row failed of before it was to be sent again, and was not, still stands.
    fn standing(&self, from: u64) -> Result<Option<Outcome>> {
        let _ = from;
        Ok(None)
    }
}

impl ReadBack for JobDb {
    fn outcomes(&self, from: u64, limit: u32) -> Result<Vec<Outcome>> {
        Self::outcomes(self, from, limit)
    }

    fn standing(&self, from: u64) -> Result<Option<Outcome>> {
        Ok(Self::outcomes(self, from, 1)?.pop())
    }
}

/// Told of every row as its turn comes: the outcome, and says what it cost.
pub type Price<'a> = dyn FnMut(&Outcome) -> Option<Nanos> + 'a;

/// The writer of results.
#[derive(Debug)]
pub struct Ordered {
    next: u64,
    total: u64,
    done: RowSet,
    /// From `next` on; the first place is that of `next`.
    window: VecDeque<Option<Box<Outcome>>>,
    window_bytes: usize,
    renderer: Renderer,
    flat: bool,
    cursor: Option<Cursor>,
    results: Target,
    errors: Option<Target>,
    buffer: Vec<u8>,
    error_buffer: Vec<u8>,
}

impl Ordered {
    /// Writes `total` rows to `results`, failed ones to `errors` if that is given. `done` are the rows that are in the database.
    /// With flat results, `cursor` tells the records' own fields.
    pub fn new(
        total: u64,
        done: RowSet,
        renderer: Renderer,
        cursor: Option<Cursor>,
        results: Target,
        errors: Option<Target>,
    ) -> Self {
        let mut ordered = Self {
            next: 1,
            total,
            done,
            window: VecDeque::new(),
            window_bytes: 0,
            flat: cursor.is_some(),
            renderer,
            cursor,
            results,
            errors,
            buffer: Vec::with_capacity(2 * GATHER),
            error_buffer: Vec::new(),
        };
        ordered.renderer.header(&mut ordered.buffer);
        if ordered.errors.is_some() {
            ordered.renderer.header(&mut ordered.error_buffer);
        }
        ordered
    }

    /// Takes an outcome that has been committed to the database.
    pub fn push(&mut self, outcome: Box<Outcome>) {
        self.done.insert(outcome.row);
        // A row is written once, so none comes back behind its turn.
        let Some(ahead) = outcome.row.checked_sub(self.next).and_then(|ahead| usize::try_from(ahead).ok()) else {
            return;
        };
        let size = size(&outcome);
        if ahead < WINDOW_ROWS && (ahead == 0 || self.window_bytes + size <= WINDOW) {
            if self.window.len() <= ahead {
                self.window.resize_with(ahead + 1, || None);
            }
            self.window_bytes += size;
            self.window[ahead] = Some(outcome);
        }
    }

    /// Writes every row whose turn has come.
    pub fn advance(&mut self, db: &dyn ReadBack, price: &mut Price<'_>) -> Result<()> {
        while self.done.contains(self.next) {
            if let Some(outcome) = self.window.front_mut().and_then(Option::take) {
                self.window_bytes -= size(&outcome);
                self.emit(&outcome, price)?;
                continue;
            }
            let turn = self.next;
            for outcome in db.outcomes(turn, READ_BACK)? {
                // Rows in between that are not done end the stretch.
                if outcome.row != self.next {
                    break;
                }
                if let Some(waiting) = self.window.front_mut().and_then(Option::take) {
                    self.window_bytes -= size(&waiting);
                }
                self.emit(&outcome, price)?;
            }
            if self.next == turn {
                return Err(Error::new(Exit::Io, format!("row {turn} was stored and cannot be read back")));
            }
        }
        self.flush()
    }

    /// Writes the rest: rows without an outcome get `code` and `why`. Then makes the files appear.
    pub fn finish(
        mut self,
        db: &dyn ReadBack,
        price: &mut Price<'_>,
        pending: (ErrorCode, &str),
        open: &mut dyn FnMut() -> Result<Cursor>,
    ) -> Result<()> {
        self.advance(db, price)?;
        let unknown: Arc<str> = Arc::from("");
        // Asked for once, not for every row, of which there may be millions; so is the writing.
        let mut standing = db.standing(self.next)?;
        while self.next <= self.total {
            let row = self.next;
            if self.done.contains(row) {
                self.advance(db, price)?;
                continue;
            }
            if standing.as_ref().is_some_and(|before| before.row < row) {
                standing = db.standing(row)?;
            }
            if let Some(before) = standing.as_ref().filter(|before| before.row == row) {
                self.emit(before, price)?;
                continue;
            }
            if self.cursor.is_none() {
                self.cursor = Some(open()?);
            }
            let source = self.source(row)?;
            let id = source.as_ref().map_or_else(|| format!("row-{row}").into(), |s| s.id.clone());
            let outcome = Outcome::unsent(row, id, Arc::clone(&unknown), pending.0, pending.1);
            self.render(&outcome, None, source.as_ref())?;
            self.step();
        }
        self.flush()?;
        if let Some(errors) = self.errors.take() {
            errors.commit()?;
        }
        self.results.commit()
    }

    fn source(&mut self, row: u64) -> Result<Option<Source>> {
        self.cursor.as_mut().map_or(Ok(None), |cursor| cursor.at(row))
    }

    fn emit(&mut self, outcome: &Outcome, price: &mut Price<'_>) -> Result<()> {
        let cost = price(outcome);
        let source = if self.flat { self.source(outcome.row)? } else { None };
        self.render(outcome, cost, source.as_ref())?;
        self.step();
        Ok(())
    }

    /// On to the next row.
    fn step(&mut self) {
        self.next += 1;
        self.window.pop_front();
    }

    fn render(&mut self, outcome: &Outcome, cost: Option<Nanos>, source: Option<&Source>) -> Result<()> {
        let fields: Vec<(Cow<'_, str>, Field<'_>)> = match source.map(|s| &s.fields) {
            Some(Fields::Some(fields)) if self.flat => {
                fields.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), borrow(value))).collect()
            }
            _ => Vec::new(),
        };
        let buffer = if self.errors.is_some() && !outcome.ok() { &mut self.error_buffer } else { &mut self.buffer };
        self.renderer.render(outcome, cost, &fields, buffer);
        if self.buffer.len() + self.error_buffer.len() > GATHER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.results.write(&self.buffer)?;
            self.buffer.clear();
        }
        if let Some(errors) = &mut self.errors
            && !self.error_buffer.is_empty()
        {
            errors.write(&self.error_buffer)?;
            self.error_buffer.clear();
        }
        Ok(())
    }
}

/// About what an outcome takes in memory.
fn size(outcome: &Outcome) -> usize {
    256 + outcome.body.as_ref().map_or(0, |body| body.len())
}

fn borrow(value: &Value) -> Field<'_> {
    match value {
        Value::Text(text) => Field::Text(Cow::Borrowed(text)),
        Value::Json(json) => {
            let json: &RawValue = json;
            Field::Json(json)
        }
    }
}

#[cfg(test)]
mod tests;
