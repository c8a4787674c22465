//! Both folds of the same rows: one for the summary, one for the rest of the report.

use super::answer::{AnswerBody, AnswerFacts};
use super::details::DetailsFold;
use crate::error::Result;
use crate::money::RetiredCost;
use crate::outcome::Outcome;
use crate::pack::{self, packed};
use crate::price::{PriceBook, PriceTable};
use crate::store::JobDb;
use crate::summary::{Charge, Totals};

/// Both folds of the same rows.
#[derive(Debug)]
pub struct Folded {
    /// The fold for the summary.
    pub totals: Totals,
    /// The fold for the rest of the report.
    pub details: DetailsFold,
}

packed!(Folded { totals, details });

impl Folded {
    /// These folds as bytes, to be kept with a job that has ended. `prices` are those in force.
    pub fn to_keep(&self, prices: &PriceTable) -> Vec<u8> {
        pack::to_bytes(self, &prices.to_keep())
    }

    /// The folds that were kept with a job. `None`: another version of llbatch kept them, other prices were in force, or
    /// they are damaged.
    pub fn kept(bytes: &[u8], prices: &PriceTable) -> Option<Self> {
        pack::from_bytes(bytes, &prices.to_keep())
    }

    /// Folds that begin with these totals.
    pub(super) fn new(totals: Totals) -> Self {
        Self { totals, details: DetailsFold::default() }
    }

    /// Counts one row.
    pub(super) fn add(&mut self, outcome: &Outcome, charge: &Charge) {
        self.details.count(outcome, charge);
        self.totals.add(outcome, charge);
    }
}

impl DetailsFold {
    /// Counts one row with the body of its answer. Rows come in input order.
    pub fn count(&mut self, outcome: &Outcome, charge: &Charge) {
        let body = outcome.body.as_deref();
        let start = || body.map(|body| AnswerBody::of(body).start()).unwrap_or_default();
        self.add(outcome, charge, body.map(AnswerFacts::of).unwrap_or_default(), start);
    }

    /// Counts what outcomes have cost that no longer stand for a row.
    pub fn add_retired(&mut self, db: &JobDb, prices: &mut PriceBook) -> Result<()> {
        for retired in db.retired()? {
            let RetiredCost { paid, at_risk, .. } = RetiredCost::of(&retired, prices);
            self.add_spent(&retired.model, retired.all_usage(), paid, at_risk);
        }
        Ok(())
    }
}
