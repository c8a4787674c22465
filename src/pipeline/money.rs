//! What outcomes cost, at the prices in force.

use std::collections::HashMap;
use std::sync::Arc;

use super::Bits;
use crate::error::Result;
use crate::outcome::{Outcome, Usage};
use crate::price::{Nanos, Price, Table};
use crate::store::JobDb;
use crate::store::job::Retired;
use crate::summary::{Charge, Totals};

/// Looks prices up once per model.
#[derive(Debug)]
pub struct Money {
    table: Table,
    known: HashMap<Arc<str>, Option<Price>>,
    /// The last one asked for: nearly always the next one too.
    last: Option<(Arc<str>, Option<Price>)>,
}

impl Money {
    /// Prices from this table.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self { table, known: HashMap::new(), last: None }
    }

    fn price(&mut self, model: &Arc<str>) -> Option<Price> {
        if let Some((last, price)) = &self.last
            && Arc::ptr_eq(last, model)
        {
            return *price;
        }
        let price = match self.known.get(model) {
            Some(price) => *price,
            None => self.table.get(model).and_then(|entry| entry.price),
        };
        self.known.insert(Arc::clone(model), price);
        self.last = Some((Arc::clone(model), price));
        price
    }

    /// What `outcome` cost.
    pub fn charge(&mut self, outcome: &Outcome) -> Charge {
        let price = self.price(&outcome.model);
        let mut charge = Charge::of(outcome, price, price);
        if outcome.at_risk > 0 {
            charge.at_risk = price.map(|p| Nanos(p.cost(outcome.reserve).0 * i128::from(outcome.at_risk)));
        }
        charge
    }

    /// Adds what was spent on outcomes that no longer stand for a row.
    pub fn retired(&mut self, retired: &Retired, totals: &mut Totals) {
        let price = self.price(&Arc::from(retired.model.as_str()));
        let paid =
            if retired.usage == Usage::default() { Some(Nanos::ZERO) } else { price.map(|p| p.cost(retired.usage)) };
        let at_risk = if retired.at_risk == 0 { Some(Nanos::ZERO) } else { price.map(|p| p.cost(retired.reserve)) };
        totals.spent(&retired.model, retired.usage, paid, at_risk, retired.at_risk);
    }

    /// Adds `outcome` to the totals; returns what the row cost.
    pub fn count(&mut self, outcome: &Outcome, reused: bool, totals: &mut Totals) -> Option<Nanos> {
        let mut charge = self.charge(outcome);
        charge.reused = reused;
        totals.add(outcome, &charge);
        charge.total()
    }
}

/// The totals of a job of `rows` rows, folded from its database; `reused` rows were answered by an earlier run.
///
/// # Errors
/// 74 if the database cannot be read.
pub fn fold(db: &JobDb, table: Table, rows: u64, reused: &Bits) -> Result<Totals> {
    let mut money = Money::new(table);
    let mut totals = Totals::new(rows);
    for retired in db.retired()? {
        money.retired(&retired, &mut totals);
    }
    db.each_outcome(|outcome| {
        money.count(&outcome, reused.contains(outcome.row), &mut totals);
    })?;
    Ok(totals)
}
