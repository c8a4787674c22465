//! What outcomes cost, at the prices in force.

pub mod budget;
pub mod exposure;
pub mod reservation;
pub mod worst;

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Result;
use crate::input::Inputs;
use crate::outcome::{Outcome, Usage};
use crate::price::{Nanos, Price, Table};
use crate::request::Shape;
use crate::row_set::RowSet;
use crate::store::job::Retired;
use crate::store::{BatchJob, JobDb, Step};
use crate::summary::{Charge, Totals};
use worst::bounds;

/// What a model's tokens cost at realtime and in a batch (`None`: not known), and how long its answers can be.
#[derive(Debug, Clone, Copy, Default)]
struct Prices {
    realtime: Option<Price>,
    batch: Option<Price>,
    longest: u64,
}

impl Prices {
    const fn of(self, batch: bool) -> Option<Price> {
        if batch { self.batch } else { self.realtime }
    }

    /// The most that `attempts` which could use up to `reserve` each may have cost.
    fn most(self, batch: bool, reserve: Usage, attempts: u32) -> Option<Nanos> {
        if attempts == 0 {
            return Some(Nanos::ZERO);
        }
        // Nothing but the model bounds the answer to a request that does not.
        let completion = if reserve.completion == 0 { self.longest } else { reserve.completion };
        let one = self.of(batch)?.cost(Usage { completion, ..reserve });
        Some(Nanos(one.0 * i128::from(attempts)))
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
                longest: entry.longest_answer(),
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
        let batch = outcome.batch.is_some();
        let mut charge = Charge::of(outcome, prices.of(batch), prices.realtime);
        // Of an answer without a usage nobody knows what it cost, but for the bound.
        let unmetered = u32::from(outcome.ok() && outcome.usage.is_none());
        charge.at_risk = prices.most(batch, outcome.reserve, outcome.at_risk + unmetered);
        charge
    }

    /// Adds what was spent on outcomes that no longer stand for a row; returns what was paid, and may have been.
    pub fn retired(&mut self, retired: &Retired, totals: &mut Totals) -> (Option<Nanos>, Option<Nanos>) {
        let prices = self.prices(&Arc::from(retired.model.as_str()));
        let mut paid = Some(Nanos::ZERO);
        // As when they stood for their rows: rounded one by one.
        for part in [retired.usage.unwrap_or_default(), retired.wasted] {
            if part != Usage::default() {
                let each = prices.of(retired.batch).map(|price| price.cost(part));
                let cost = each.map(|each| Nanos(each.0 * i128::from(retired.count)));
                paid = paid.zip(cost).map(|(sum, cost)| sum + cost);
            }
        }
        let unmetered = if retired.ok && retired.usage.is_none() { retired.count } else { 0 };
        let uncertain = retired.at_risk + unmetered;
        let at_risk = prices.most(retired.batch, retired.reserve, uncertain);
        totals.spent(&retired.model, retired.all_usage(), paid, at_risk, uncertain);
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

/// What may be billed for requests whose end has not come in: rows in batches that have not been fetched, rows that a process
/// has, or had when it died, in flight.
#[derive(Debug)]
pub struct Outstanding {
    /// The model asked for.
    pub model: Arc<str>,
    /// Rows.
    pub rows: u32,
    /// The most that they can cost; `None`: not known.
    pub most: Option<Nanos>,
    /// They are in a batch.
    pub batch: bool,
}

/// Everything that is outstanding of a job of `total` rows. `input`: where the rows can be read again.
pub fn outstanding(
    db: &JobDb,
    total: u64,
    money: &mut Money,
    input: impl FnOnce() -> Result<(Inputs, Shape)>,
) -> Result<Vec<Outstanding>> {
    let begun = |batch: &BatchJob| batch.is_open() && !matches!(batch.step, Step::Planned | Step::Uploaded);
    let mut all: Vec<Outstanding> = db
        .batches()?
        .into_iter()
        .filter(begun)
        .map(|batch| Outstanding {
            model: batch.model.as_str().into(),
            rows: u32::try_from(batch.rows).unwrap_or(u32::MAX),
            most: batch.most,
            batch: true,
        })
        .collect();
    if db.claimed()? == 0 {
        return Ok(all);
    }
    let mut lost = db.unanswered(usize::MAX)?;
    let mut awaited = RowSet::new(total);
    db.each_awaited(|row| _ = awaited.insert(row))?;
    lost.retain(|row| *row <= total && !awaited.contains(*row));
    match input().and_then(|(inputs, shape)| bounds(&lost, &inputs, &shape)) {
        Ok(bounds) => all.extend(bounds.into_iter().map(|(model, reserve)| {
            let most = money.prices(&model).most(false, reserve, 1);
            Outstanding { model, rows: 1, most, batch: false }
        })),
        // The input is gone, so nobody knows any more.
        Err(_) if !lost.is_empty() => {
            let rows = u32::try_from(lost.len()).unwrap_or(u32::MAX);
            all.push(Outstanding { model: "".into(), rows, most: None, batch: false });
        }
        Err(_) => {}
    }
    Ok(all)
}

/// The totals of a job of `rows` rows, folded from its database; `reused` rows were answered by an earlier run.
pub fn fold(db: &JobDb, table: Table, rows: u64, reused: &RowSet) -> Result<Totals> {
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

/// What a job has cost at realtime so far, what may have been billed included; the known part.
pub fn at_realtime(db: &JobDb, table: Table) -> Result<Nanos> {
    let mut money = Money::new(table);
    let mut totals = Totals::new(0);
    for retired in db.retired()?.iter().filter(|retired| !retired.batch) {
        money.retired(retired, &mut totals);
    }
    db.each_outcome(|outcome| {
        if outcome.batch.is_none() {
            money.count(&outcome, false, &mut totals);
        }
    })?;
    Ok(spent(&totals))
}

/// What was paid and what may have been billed beyond that, the known parts.
pub fn spent(totals: &Totals) -> Nanos {
    totals.usd().unwrap_or(Nanos::ZERO) + totals.at_risk()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outcome::{ErrorCode, Fingerprint, RowError};
    use crate::price::Overrides;

    /// Fractions of a nano-USD a token: every rounding shows.
    const PRICES: &str = "[\"a\"]\ninput = 0.0037\noutput = 0.0011\n[\"b\"]\ninput = 1.000003\noutput = 0.000001\nbatch_discount = 0.3\nbatch = true\n";

    fn table() -> Table {
        let prices: Overrides = toml::from_str(PRICES).unwrap();
        Table::builtin().with(&prices).unwrap()
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        let usage = || (0_u64..900, 0_u64..900).prop_map(|(prompt, completion)| Usage { prompt, completion });
        let fate = (proptest::option::of(0_usize..16), any::<bool>(), any::<bool>(), proptest::option::of(1_u32..3));
        (usage(), usage(), usage(), fate, 0_u32..3).prop_map(|(used, wasted, reserve, fate, at_risk)| {
            let (code, metered, first, batch) = fate;
            let model = if first { "a" } else { "b" };
            Outcome {
                fingerprint: Fingerprint([7; 16]),
                error: code.map(|code| RowError { code: ErrorCode::ALL[code], message: String::new() }),
                usage: (code.is_none() && metered).then_some(used),
                wasted,
                at_risk,
                reserve,
                attempts: 1 + at_risk,
                batch,
                ..Outcome::unsent(0, "".into(), model.into(), ErrorCode::Missing, "")
            }
        })
    }

    /// Settled and at risk of all that the database holds.
    fn sums(db: &JobDb) -> (Nanos, Nanos) {
        let totals = fold(db, table(), 100, &RowSet::default()).unwrap();
        let cost = totals.summary(&crate::summary::Meta::blank()).cost;
        (cost.usd.unwrap_or_default(), cost.at_risk_usd.unwrap())
    }

    fn add((paid, risk): (Nanos, Nanos), outcome: &Outcome) -> (Nanos, Nanos) {
        let charge = Money::new(table()).charge(outcome);
        let known = charge.paid.unwrap_or_default() + charge.wasted.unwrap_or_default();
        (paid + known, risk + charge.at_risk.unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn no_retry_loses_or_makes_money(
            first in proptest::collection::vec(outcome(), 1..24),
            again in proptest::collection::vec(proptest::option::of(outcome()), 24),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut db = JobDb::open(&dir.path().join("j.db")).unwrap();
            let mut expected = (Nanos::ZERO, Nanos::ZERO);
            for (row, outcome) in (1..).zip(&first) {
                db.put_joined([(&Outcome { row, ..outcome.clone() }, None)]).unwrap();
                expected = add(expected, outcome);
            }
            db.commit(false).unwrap();
            prop_assert_eq!(sums(&db), expected);
            // All that failed is to be sent again; some of it is.
            db.set_aside(|_| true).unwrap();
            prop_assert_eq!(sums(&db), expected, "set aside");
            for ((row, old), new) in (1..).zip(&first).zip(&again) {
                let Some(new) = new.as_ref().filter(|_| !old.ok()) else { continue };
                db.put_joined([(&Outcome { row, ..new.clone() }, None)]).unwrap();
                expected = add(expected, new);
            }
            db.commit(false).unwrap();
            prop_assert_eq!(sums(&db), expected, "sent again");
            db.settle_aside().unwrap();
            prop_assert_eq!(sums(&db), expected, "settled");
        }
    }
}
