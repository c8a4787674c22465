//! The fold of a run's outcomes: the totals of the job, and the counts of this run for its display.

use std::sync::Arc;

use crate::money::{Accounts, charge};
use crate::outcome::Outcome;
use crate::price::Nanos;
use crate::row_set::RowSet;

/// The fold of a run's outcomes.
#[derive(Debug)]
pub(super) struct Tally {
    /// The accounts of all rows whose turn has come.
    pub accounts: Accounts,
    /// Rows that had an outcome before this run.
    pub reused: Arc<RowSet>,
    /// The answered rows among `reused`.
    pub answered_before: u64,
    /// The failed rows among `reused`.
    pub failed_before: u64,
    /// Rows and money of this run.
    pub new: NewRows,
}

/// Rows and money of this run alone.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct NewRows {
    /// Answered rows.
    pub succeeded: u64,
    /// Failed rows.
    pub failed: u64,
    /// Tokens of both directions.
    pub tokens: u64,
    /// The known part of their cost.
    pub cost: Nanos,
    /// The cost of a row is unknown.
    pub unpriced: bool,
}

impl Tally {
    /// Adds a row of this run that was committed.
    pub(super) fn add_new(&mut self, outcome: &Outcome) {
        let new = &mut self.new;
        if outcome.ok() {
            new.succeeded += 1;
        } else {
            new.failed += 1;
        }
        let usage = outcome.usage.unwrap_or_default();
        new.tokens += usage.total();
        match charge(outcome, &mut self.accounts.prices).total() {
            Some(cost) => new.cost += cost,
            None => new.unpriced = true,
        }
    }

    /// Adds a row to the totals in its turn, and returns its cost.
    pub fn count(&mut self, outcome: &Outcome) -> Option<Nanos> {
        self.accounts.add(outcome, self.reused.contains(outcome.row))
    }
}
