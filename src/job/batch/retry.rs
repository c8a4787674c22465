//! Rows that failed, sent again as new batches of the same job.

use std::sync::Arc;

use super::Work;
use crate::check::Pass;
use crate::error::{Error, Exit, Result};
use crate::input::Inputs;
use crate::job::resume;
use crate::job::spec::describe;
use crate::money::Money;
use crate::money::budget;
use crate::money::exposure::Own;
use crate::money::worst::Worst;
use crate::outcome::Usage;
use crate::price::{Nanos, Table};
use crate::request::{Endpoint, Shape};
use crate::row_set::RowSet;
use crate::store::{Standing, Step};
use crate::tokens::{self, Estimator};

/// Rows to be sent again, and what that may cost.
#[derive(Debug)]
pub struct Again {
    /// Ascending.
    pub rows: Vec<u64>,
    /// Failed rows that are left as they are.
    pub left: u64,
    /// Prompts estimated, answers up to their `max_tokens`; `None`: a price is not known.
    pub cost: Option<Nanos>,
    /// The same without the rows whose price is not known.
    pub priced: Nanos,
    /// The most that it can cost; `None`: a price is not known.
    pub most: Option<Nanos>,
    /// A model without a known price, if there is one.
    pub unpriced: String,
}

impl Work<'_> {
    /// The input of a job that ran at realtime is copied, so that it can go on in batches.
    ///
    /// # Errors
    /// 65 if the input is not what it was, 66 if it is gone.
    pub fn keep_input(&mut self) -> Result<()> {
        if !self.spec.kept.is_empty() {
            return Ok(());
        }
        let inputs = self.inputs()?;
        let stamp = inputs.stamp();
        self.same_input()?;
        let kept = inputs.keep(&self.courier.dir)?;
        if inputs.stamp() != stamp {
            return Err(self.changed());
        }
        self.spec.kept = kept;
        self.job.spec = describe(&self.spec)?;
        self.ledger.update(&self.job)
    }

    /// What a killed run had in flight is accounted for before its rows go on in batches.
    ///
    /// # Errors
    /// 66 if the input is gone, 74 if the disk refuses.
    pub fn account_lost(&mut self) -> Result<()> {
        let mut db = self.courier.db.borrow_mut();
        if db.claimed()? == 0 {
            return Ok(());
        }
        let mut awaited = RowSet::new(self.job.total);
        db.each_awaited(|row| _ = awaited.insert(row))?;
        let shape = Arc::new(Shape::new(&self.spec.params)?);
        resume::account_lost(&mut db, &self.inputs()?, &shape, (self.job.total, &awaited), self.ctx)?;
        db.settle_aside()?;
        drop(db);
        self.forget_counts();
        Ok(())
    }

    fn changed(&self) -> Error {
        Error::new(Exit::Data, format!("the input of {} is not what it was when it ran", self.job.id)).hint(
            "`llbatch run INPUT --resume` sends the rows that changed; `llbatch submit INPUT` makes a job of its own",
        )
    }

    /// The answers of a job that ran at realtime still stand at the rows of its input.
    ///
    /// # Errors
    /// 65 if the input is not what it was, 66 if it is gone.
    pub fn same_input(&self) -> Result<()> {
        let db = self.store.open_job(&self.job.id)?;
        let shape = Shape::new(&self.spec.params)?;
        let (checked, resumed) = resume::check(&self.inputs()?, &shape, (0, None), Some(db), None)?;
        if checked.rows != self.job.total || resumed.is_some_and(|resumed| !resumed.is_same()) {
            return Err(self.changed());
        }
        Ok(())
    }

    /// Finds the rows that have no answer; of those that failed, only where sending again may help, or `all`.
    pub fn again(&self, all: bool, batch: bool) -> Result<Again> {
        let mut left = 0;
        let rows = self.courier.db.borrow().to_do(self.job.total, |code| {
            let take = all || !code.is_permanent();
            left += u64::from(!take);
            take
        })?;
        let mut again = Again::of(rows, left);
        again.price(&self.inputs()?, &Shape::new(&self.spec.params)?, batch, &self.ctx.settings.prices)?;
        Ok(again)
    }

    /// Whether these rows may be sent again; so much is reserved for them, under this number.
    ///
    /// # Errors
    /// 5 if it could cost more than is left, 2 if a price is not known.
    pub fn admit_again(&self, again: &Again, max_cost: Option<Nanos>, allow_unpriced: bool) -> Result<i64> {
        budget::admit(again.most, budget::limit(max_cost).as_ref(), allow_unpriced, &again.unpriced)?;
        self.ledger.decide(|| {
            let own = Own { job: &self.job.id, ..Own::default() };
            let left = budget::left(&self.store, &self.ledger, self.ctx, own)?;
            budget::admit(again.most, left.as_ref(), allow_unpriced, &again.unpriced)?;
            let day = jiff::Zoned::now().date().to_string();
            let whose = (self.job.id.as_str(), self.ctx.settings.sandbox);
            let most = again.most.unwrap_or(Nanos::ZERO);
            self.ledger.admitted(&self.job.id, most)?;
            self.ledger.reserve(whose, &day, most, Standing::Held)
        })
    }

    /// Plans batches for these rows, for which that was reserved.
    pub fn plan_again(&mut self, rows: &[u64], reserve: i64) -> Result<()> {
        let inputs = self.inputs()?;
        let shape = Shape::new(&self.spec.params)?;
        let checked = Pass { max_problems: 0, ..Pass::new(&inputs, &shape) }.run()?;
        self.plan(&inputs, &shape, &checked, (Some(&|row| rows.binary_search(&row).is_ok()), true), &mut |_| {})?;
        let mut batches = self.courier.db.borrow().batches()?;
        batches.retain(|batch| batch.step == Step::Planned);
        let mut db = self.courier.db.borrow_mut();
        for batch in &mut batches {
            batch.admitted = true;
            db.put_batch(batch)?;
        }
        db.commit(true)?;
        drop(db);
        // From here on they count themselves.
        self.ledger.set_reserve(reserve, Nanos::ZERO, Standing::AtRisk)?;
        self.job.delivered = false;
        self.ledger.update(&self.job)
    }
}

impl Again {
    /// These rows, not yet priced.
    pub(super) fn of(rows: Vec<u64>, left: u64) -> Self {
        Self {
            rows,
            left,
            cost: Some(Nanos::ZERO),
            priced: Nanos::ZERO,
            most: Some(Nanos::ZERO),
            unpriced: String::new(),
        }
    }

    pub(super) fn price(&mut self, inputs: &Inputs, shape: &Shape, batch: bool, table: &Table) -> Result<()> {
        let (mut money, mut worst) = (Money::new(table.clone()), Worst::new(table.clone(), batch));
        let pass = Pass { max_problems: 0, ..Pass::new(inputs, shape) };
        let inspect = |draft: &crate::request::Draft<'_>| -> (Usage, u64) {
            let usage = Usage {
                prompt: Estimator::shared().request(&draft.body, draft.endpoint == Endpoint::Chat),
                completion: draft.answer_bound().unwrap_or(0),
            };
            (usage, tokens::bound(&draft.body))
        };
        pass.inspect(&inspect, &mut |row, found| {
            let Some(found) = found.filter(|_| self.rows.binary_search(&row).is_ok()) else { return };
            let (model, (about, bound)) = (found.model, found.value);
            let cost = money.cost(model, batch, about);
            self.cost = self.cost.zip(cost).map(|(sum, cost)| sum + cost);
            self.priced += cost.unwrap_or_default();
            let most = worst.of(model, Usage { prompt: bound, ..about });
            if most.is_none() {
                self.unpriced = model.to_string();
            }
            self.most = self.most.zip(most).map(|(sum, cost)| sum + cost);
        })?;
        Ok(())
    }
}
