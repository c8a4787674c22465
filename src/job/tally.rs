//! The fold of a run's outcomes: the totals of the job, and the counts of this run for its display.

use std::sync::Arc;

use super::live_metrics::LiveMetrics;
use crate::error::Result;
use crate::money::{Accounts, charge};
use crate::outcome::Outcome;
use crate::price::Nanos;
use crate::report::Folded;
use crate::report::details::DetailsFold;
use crate::row_set::RowSet;
use crate::store::JobDb;

/// The folds of all rows of a job, in their order.
#[derive(Debug)]
pub(super) struct RowFolds {
    /// The accounts.
    pub accounts: Accounts,
    /// The part of the report beyond them.
    pub details: DetailsFold,
    /// An earlier command has folded all rows.
    whole: bool,
}

impl RowFolds {
    /// Folds for rows that `accounts` prices.
    pub fn new(accounts: Accounts) -> Self {
        Self { accounts, details: DetailsFold::default(), whole: false }
    }

    /// The folds of a job that nothing was added to yet: those that were kept with it, or new ones.
    pub fn of_job(db: &JobDb, mut accounts: Accounts) -> Result<Self> {
        let kept = db.totals()?.and_then(|bytes| Folded::kept(&bytes, accounts.prices.table()));
        if let Some(Folded { totals, details }) = kept {
            accounts.totals = totals;
            return Ok(Self { accounts, details, whole: true });
        }
        let mut folds = Self::new(accounts);
        folds.add_retired(db)?;
        Ok(folds)
    }

    /// Adds a row in its turn, and returns its cost. `reused`: an earlier run paid for it.
    pub fn count(&mut self, outcome: &Outcome, reused: bool) -> Option<Nanos> {
        if self.whole {
            return charge(outcome, &mut self.accounts.prices).total();
        }
        let charge = self.accounts.add_charged(outcome, reused);
        self.details.count(outcome, &charge);
        charge.total()
    }

    /// Adds outcomes that no longer stand for a row.
    pub fn add_retired(&mut self, db: &JobDb) -> Result<()> {
        self.accounts.add_retired(db)?;
        self.details.add_retired(db, &mut self.accounts.prices)
    }
}

/// The fold of a run's outcomes.
#[derive(Debug)]
pub(super) struct Tally {
    /// The folds of all rows whose turn has come.
    pub folds: RowFolds,
    /// Rows that had an outcome before this run.
    pub reused: Arc<RowSet>,
    /// The answered rows among `reused`.
    pub answered_before: u64,
    /// The failed rows among `reused`.
    pub failed_before: u64,
    /// Rows and money of this run.
    pub new: NewRows,
    /// The figures for those who watch the job.
    pub live: Option<LiveMetrics>,
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
        if let Some(live) = &mut self.live {
            live.add(outcome);
        }
        let new = &mut self.new;
        if outcome.ok() {
            new.succeeded += 1;
        } else if !outcome.is_interrupted() {
            new.failed += 1;
        }
        let mut usage = outcome.usage.unwrap_or_default();
        usage += outcome.wasted;
        new.tokens += usage.total();
        match charge(outcome, &mut self.folds.accounts.prices).total() {
            Some(cost) => new.cost += cost,
            None => new.unpriced = true,
        }
    }

    /// Adds a row to the totals in its turn, and returns its cost.
    pub fn count(&mut self, outcome: &Outcome) -> Option<Nanos> {
        self.folds.count(outcome, self.reused.contains(outcome.row))
    }
}
