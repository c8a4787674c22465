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

/// What a model's tokens cost at realtime and in a batch; `None`: not known.
#[derive(Debug, Clone, Copy, Default)]
struct Prices {
    realtime: Option<Price>,
    batch: Option<Price>,
}

impl Prices {
    const fn of(self, batch: bool) -> Option<Price> {
        if batch { self.batch } else { self.realtime }
    }
}

/// Looks prices up once per model.
#[derive(Debug)]
pub struct Money {
    table: Table,
    known: HashMap<Arc<str>, Prices>,
    /// The last one asked for: nearly always the next one too.
    last: Option<(Arc<str>, Prices)>,
}

impl Money {
    /// Prices from this table.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self { table, known: HashMap::new(), last: None }
    }

    fn prices(&mut self, model: &Arc<str>) -> Prices {
        if let Some((last, prices)) = &self.last
            && Arc::ptr_eq(last, model)
        {
            return *prices;
        }
        let prices = match self.known.get(model) {
            Some(prices) => *prices,
            None => self.table.get(model).map_or_else(Prices::default, |entry| Prices {
                realtime: entry.price,
                // A batch of a model that is said to be refused was served after all: the list price is the safe reading.
                batch: entry.batch_price().or(entry.price),
            }),
        };
        self.known.insert(Arc::clone(model), prices);
        self.last = Some((Arc::clone(model), prices));
        prices
    }

    /// What so many tokens of a model cost, in a batch or at realtime.
    pub fn cost(&mut self, model: &Arc<str>, batch: bool, usage: Usage) -> Option<Nanos> {
        self.prices(model).of(batch).map(|price| price.cost(usage))
    }

    /// What `outcome` cost.
    pub fn charge(&mut self, outcome: &Outcome) -> Charge {
        let prices = self.prices(&outcome.model);
        let price = prices.of(outcome.batch.is_some());
        let mut charge = Charge::of(outcome, price, prices.realtime);
        if outcome.at_risk > 0 {
            charge.at_risk = price.map(|p| Nanos(p.cost(outcome.reserve).0 * i128::from(outcome.at_risk)));
        }
        charge
    }

    /// Adds what was spent on outcomes that no longer stand for a row; returns what was paid, and may have been.
    pub fn retired(&mut self, retired: &Retired, totals: &mut Totals) -> (Option<Nanos>, Option<Nanos>) {
        let price = self.prices(&Arc::from(retired.model.as_str())).of(retired.batch);
        let paid =
            if retired.usage == Usage::default() { Some(Nanos::ZERO) } else { price.map(|p| p.cost(retired.usage)) };
        let at_risk = if retired.at_risk == 0 { Some(Nanos::ZERO) } else { price.map(|p| p.cost(retired.reserve)) };
        totals.spent(&retired.model, retired.usage, paid, at_risk, retired.at_risk);
        (paid, at_risk)
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
