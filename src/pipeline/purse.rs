//! Money for one run out of the config file's budgets, drawn slice by slice: commands that run at the same time share
//! what is left, and together never pass it.

use super::budget::{self, Own};
use crate::context::Ctx;
use crate::error::Result;
use crate::price::Nanos;
use crate::settings::Settings;
use crate::store::{Ledger, Store};

/// This share of what is left is drawn at a time: little lies idle with one while another stops for want of it.
const SLICE: i128 = 16;
/// At least so many requests' worth is drawn, if there is as much.
const FEWEST: i128 = 8;

/// What one run has drawn. Dropped without [`Purse::close`], its rest is freed by the end of the process.
#[derive(Debug)]
pub struct Purse<'a> {
    settings: &'a Settings,
    store: Store,
    ledger: Ledger,
    job: String,
    reserve: Option<i64>,
    drawn: Nanos,
    told: Nanos,
}

impl<'a> Purse<'a> {
    /// For a run of this job, which is taken; `None` if the config file has no budget.
    ///
    /// # Errors
    /// 74 if the ledger cannot be opened.
    pub fn open(job: &str, store: &Store, ctx: &'a Ctx) -> Result<Option<Self>> {
        let settings = &ctx.settings;
        if !settings.budget.is_set() {
            return Ok(None);
        }
        let (store, ledger, job) = (store.clone(), store.ledger()?, job.to_owned());
        Ok(Some(Self { settings, store, ledger, job, reserve: None, drawn: Nanos::ZERO, told: Nanos::ZERO }))
    }

    /// Draws at least so much more. What was drawn in all, or which budget has no more.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn draw(&mut self, least: Nanos) -> Result<Result<Nanos, String>> {
        self.ledger.decide(|| {
            let own = Own { job: &self.job, reserve: self.reserve };
            let Some(left) = budget::left(&self.store, &self.ledger, self.settings, own)? else {
                return Ok(Ok(self.drawn));
            };
            if least > left.amount {
                return Ok(Err(left.what));
            }
            // Not too little either: each draw looks at every job.
            let enough = Nanos((least.0 * FEWEST).min(left.amount.0));
            self.drawn += enough.max(Nanos(left.amount.0 / SLICE));
            let rest = self.drawn - self.told;
            if let Some(id) = self.reserve {
                self.ledger.set_reserve(id, rest, false)?;
            } else {
                let day = jiff::Zoned::now().date().to_string();
                self.reserve = Some(self.ledger.reserve((&self.job, self.settings.sandbox), &day, rest)?);
            }
            Ok(Ok(self.drawn))
        })
    }

    /// So much of it was spent, and stands in the index of jobs now.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn told(&mut self, spent: Nanos) -> Result<()> {
        let Some(id) = self.reserve.filter(|_| spent != self.told) else { return Ok(()) };
        self.told = spent;
        self.ledger.set_reserve(id, self.drawn - spent, false)
    }

    /// The run is over, and what it paid is written down; so much more may have been billed.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn close(self, at_risk: Nanos) -> Result<()> {
        self.reserve.map_or(Ok(()), |id| self.ledger.set_reserve(id, at_risk, true))
    }
}
