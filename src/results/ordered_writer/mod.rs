//! Results in input order while rows are answered in any order.
//!
//! An outcome that comes ahead of its turn waits in a small window. If it does not fit there, it is read back from the
//! store when its turn comes. So memory does not grow with the lead of other rows over a slow one.

mod window;

use std::sync::Arc;

use super::delivery::ResultFiles;
use super::format::Renderer;
use super::row_reader::{RowReader, SourceRow};
use super::target::{BufferedTarget, Target};
use crate::error::{Error, Exit, Result};
use crate::outcome::{ErrorCode, Outcome};
use crate::price::Nanos;
use crate::request::generated_id;
use crate::row_set::RowSet;
use crate::store::JobDb;
use window::Window;

/// Most outcomes read back at a time.
const READ_BACK: u32 = 128;

/// The store of outcomes that did not wait in memory for their turn.
pub trait StoredOutcomes {
    /// Reads outcomes in order, the first that of row `from`; about `limit` of them.
    fn outcomes(&self, from: u64, limit: u32) -> Result<Vec<Outcome>>;

    /// Reads the first outcome from row `from` on that no new one replaces: the error of a row that was to be sent
    /// again and was not.
    fn earlier_outcome(&self, from: u64) -> Result<Option<Outcome>> {
        let _ = from;
        Ok(None)
    }
}

impl StoredOutcomes for JobDb {
    fn outcomes(&self, from: u64, limit: u32) -> Result<Vec<Outcome>> {
        Self::outcomes(self, from, limit)
    }

    fn earlier_outcome(&self, from: u64) -> Result<Option<Outcome>> {
        Ok(Self::outcomes(self, from, 1)?.pop())
    }
}

/// Sees every outcome as its turn comes, and returns its cost.
pub type CostOf<'a> = dyn FnMut(&Outcome) -> Option<Nanos> + 'a;

/// The lines of rows without an outcome.
pub struct Unanswered<'a> {
    /// Their error.
    pub code: ErrorCode,
    /// The reason, for people.
    pub reason: &'a str,
    /// Opens the input for their ids.
    pub open_reader: &'a mut dyn FnMut() -> Result<RowReader>,
}

/// The lines that a writer makes, and the places that they go to.
#[derive(Debug)]
pub struct ResultTargets {
    /// Makes the lines.
    pub renderer: Renderer,
    /// The place of all lines, or of good ones if there is a place for `errors`.
    pub results: Target,
    /// The place of lines of failed rows.
    pub errors: Option<Target>,
}

/// The writer of results.
#[derive(Debug)]
pub struct OrderedWriter {
    next: u64,
    total: u64,
    /// Rows that are in the database.
    done: RowSet,
    window: Window,
    renderer: Renderer,
    flat: bool,
    reader: Option<RowReader>,
    results: BufferedTarget,
    errors: Option<BufferedTarget>,
}

/// Results with a line for every row, not yet under the names of their files.
#[derive(Debug)]
pub struct WrittenResults {
    pub(super) results: BufferedTarget,
    pub(super) errors: Option<BufferedTarget>,
    pub(super) guarded: u64,
}

impl WrittenResults {
    /// Makes the files appear: under their names if the results are `whole`, else as partial files beside them.
    pub fn commit(self, whole: bool) -> Result<ResultFiles> {
        let results = self.results.commit(whole)?;
        let errors = self.errors.map_or(Ok(None), |errors| errors.commit(whole)).map_err(|error| match &results {
            Some(path) => error.hint(format!("{} is new and complete", path.display())),
            None => error,
        })?;
        Ok(ResultFiles { results, errors, summary: None, guarded: self.guarded, partial: !whole })
    }
}

impl OrderedWriter {
    /// Writes `total` rows, of which those in `done` are in the database. Flat results need a `reader` for the records' own
    /// fields.
    pub fn new(targets: ResultTargets, total: u64, done: RowSet, reader: Option<RowReader>) -> Self {
        let ResultTargets { renderer, results, errors } = targets;
        let open = |target| BufferedTarget::new(target, renderer.schema(), |lines| renderer.header(lines));
        Self {
            next: 1,
            total,
            done,
            window: Window::default(),
            flat: reader.is_some(),
            reader,
            results: open(results),
            errors: errors.map(open),
            renderer,
        }
    }

    /// Takes an outcome that has been committed to the database.
    pub fn push(&mut self, outcome: Box<Outcome>) {
        self.done.insert(outcome.row);
        // A row is written once: an outcome behind its turn is not written again.
        if let Some(ahead) = outcome.row.checked_sub(self.next).and_then(|ahead| usize::try_from(ahead).ok()) {
            self.window.put(ahead, outcome);
        }
    }

    /// Notes that an outcome was committed to the database, from where it is read in its turn.
    pub fn note(&mut self, row: u64) {
        self.done.insert(row);
    }

    /// Tests whether an outcome of `row` is in the database.
    pub fn is_done(&self, row: u64) -> bool {
        self.done.contains(row)
    }

    /// Writes every row whose turn has come.
    pub fn advance(&mut self, stored: &dyn StoredOutcomes, cost: &mut CostOf<'_>) -> Result<()> {
        while self.done.contains(self.next) {
            if let Some(outcome) = self.window.take() {
                self.with_outcome(&outcome, cost)?;
                continue;
            }
            let turn = self.next;
            for outcome in stored.outcomes(turn, self.to_read_back())? {
                // The store may have rows that this writer was not told of.
                if outcome.row != self.next {
                    break;
                }
                self.with_outcome(&outcome, cost)?;
            }
            if self.next == turn {
                return Err(Error::new(Exit::Io, format!("row {turn} was stored and cannot be read back")));
            }
        }
        self.flush()
    }

    /// The number of rows to read back from the next one on. Rows may be answered far from their order: one whose
    /// predecessor is still to be answered, or that waits in memory, would be read for nothing.
    fn to_read_back(&self) -> u32 {
        let in_turn =
            |ahead: &u32| self.done.contains(self.next + u64::from(*ahead)) && !self.window.holds(*ahead as usize);
        (1..READ_BACK).find(|ahead| !in_turn(ahead)).unwrap_or(READ_BACK)
    }

    /// Writes the rest.
    pub fn finish(
        mut self,
        stored: &dyn StoredOutcomes,
        cost: &mut CostOf<'_>,
        mut unanswered: Unanswered<'_>,
    ) -> Result<WrittenResults> {
        self.advance(stored, cost)?;
        // Read once for many rows, since millions may be unanswered; flushed once for the same reason.
        let mut earlier = stored.earlier_outcome(self.next)?;
        while self.next <= self.total {
            let row = self.next;
            if self.done.contains(row) {
                self.advance(stored, cost)?;
                continue;
            }
            if earlier.as_ref().is_some_and(|before| before.row < row) {
                earlier = stored.earlier_outcome(row)?;
            }
            match earlier.as_ref().filter(|before| before.row == row) {
                Some(before) => self.with_outcome(before, cost)?,
                None => self.unanswered(&mut unanswered)?,
            }
        }
        Ok(WrittenResults { guarded: self.renderer.guarded(), results: self.results, errors: self.errors })
    }

    fn with_outcome(&mut self, outcome: &Outcome, cost: &mut CostOf<'_>) -> Result<()> {
        let cost = cost(outcome);
        let source = if self.flat { self.source(outcome.row)? } else { None };
        self.write(outcome, cost, source.as_ref())
    }

    /// Writes the next row without an outcome.
    fn unanswered(&mut self, unanswered: &mut Unanswered<'_>) -> Result<()> {
        if self.reader.is_none() {
            self.reader = Some((unanswered.open_reader)()?);
        }
        let source = self.source(self.next)?;
        let id = match (&self.reader, &source) {
            (Some(reader), Some(source)) => reader.id_of(source),
            _ => generated_id(self.next).into(),
        };
        let source = source.filter(|_| self.flat);
        let outcome = Outcome::unsent(self.next, id, Arc::from(""), unanswered.code, unanswered.reason);
        self.write(&outcome, None, source.as_ref())
    }

    fn source(&mut self, row: u64) -> Result<Option<SourceRow>> {
        self.reader.as_mut().map_or(Ok(None), |reader| reader.at(row))
    }

    /// Writes the next row, and moves on.
    fn write(&mut self, outcome: &Outcome, cost: Option<Nanos>, source: Option<&SourceRow>) -> Result<()> {
        let fields = source
            .map(if outcome.attempts > 0 { SourceRow::sent_fields } else { SourceRow::fields })
            .unwrap_or_default();
        let target = self.errors.as_mut().filter(|_| !outcome.ok()).unwrap_or(&mut self.results);
        target.append(|lines| self.renderer.render(outcome, cost, &fields, lines))?;
        self.next += 1;
        self.window.step();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.results.flush()?;
        self.errors.as_mut().map_or(Ok(()), BufferedTarget::flush)
    }
}

#[cfg(test)]
mod tests;
