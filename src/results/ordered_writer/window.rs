//! Outcomes that wait in memory for their turn.

use std::collections::VecDeque;

use crate::outcome::Outcome;

/// Bytes of answers that wait.
const BYTES: usize = 8 << 20;
/// Rows that the window reaches ahead.
const ROWS: usize = 1 << 16;

/// A place for each of the next rows; most are empty.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The first place is that of the next row.
    places: VecDeque<Option<Box<Outcome>>>,
    bytes: usize,
}

impl Window {
    /// Keeps the outcome of the row that is `ahead` rows behind the next one, if there is room. The next row always has.
    pub fn put(&mut self, ahead: usize, outcome: Box<Outcome>) {
        let size = size(&outcome);
        if ahead < ROWS && (ahead == 0 || self.bytes + size <= BYTES) {
            if self.places.len() <= ahead {
                self.places.resize_with(ahead + 1, || None);
            }
            self.bytes += size;
            self.places[ahead] = Some(outcome);
        }
    }

    /// Takes the outcome of the next row, if it waits here.
    pub fn take(&mut self) -> Option<Box<Outcome>> {
        let outcome = self.places.front_mut().and_then(Option::take)?;
        self.bytes -= size(&outcome);
        Some(outcome)
    }

    /// Tests whether the outcome of the row that is `ahead` rows behind the next one waits here.
    pub fn holds(&self, ahead: usize) -> bool {
        self.places.get(ahead).is_some_and(Option::is_some)
    }

    /// Moves on by one row.
    pub fn step(&mut self) {
        self.take();
        self.places.pop_front();
    }
}

/// Memory that an outcome takes, about.
fn size(outcome: &Outcome) -> usize {
    256 + outcome.body.as_ref().map_or(0, |body| body.len())
}
