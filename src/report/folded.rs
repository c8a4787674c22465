//! Both folds of the same rows: one for the summary, one for the rest of the report.

use super::answer::AnswerBody;
use super::details::DetailsFold;
use crate::outcome::Outcome;
use crate::summary::{Charge, Totals};

/// Both folds of the same rows.
#[derive(Debug)]
pub struct Folded {
    /// The fold for the summary.
    pub totals: Totals,
    /// The fold for the rest of the report.
    pub details: DetailsFold,
}

impl Folded {
    pub(super) fn new(rows: u64) -> Self {
        Self { totals: Totals::new(rows), details: DetailsFold::default() }
    }

    /// Counts one row.
    pub(super) fn add(&mut self, outcome: &Outcome, charge: &Charge) {
        let body = outcome.body.as_deref().map(AnswerBody::of);
        let facts = body.as_ref().map(AnswerBody::facts).unwrap_or_default();
        self.details.add(outcome, charge, facts, || body.as_ref().map(AnswerBody::start).unwrap_or_default());
        self.totals.add(outcome, charge);
    }
}
