//! Budgets of batches: admits planned batches and retries, or refuses them.

use super::retry::RetrySet;
use super::session::Session;
use crate::error::Result;
use crate::job::ask::CostLimit;
use crate::money::budget::{Remaining, Work, admit};
use crate::money::exposure::Requester;
use crate::price::Nanos;
use crate::store::{JobBatch, Payer, ReservationState};

impl Session<'_> {
    /// Admits planned batches that were never sent. From then on, budgets count them. The same command may spend up to
    /// `later` on other rows.
    ///
    /// # Errors
    /// 5 if they could cost more than is left, 2 if a price is unknown.
    pub fn admit_unsent(&self, limit: CostLimit, later: Nanos) -> Result<()> {
        let mut unsent = self.batches()?;
        unsent.retain(JobBatch::is_unsent);
        if unsent.is_empty() {
            return Ok(());
        }
        let most = unsent.iter().try_fold(Nanos::ZERO, |sum, batch| Some(sum + batch.most?));
        let unpriced =
            unsent.iter().find(|batch| batch.most.is_none()).map_or_else(String::new, |batch| batch.model.clone());
        let work = Work { most, later, allow_unpriced: limit.allow_unpriced, unpriced: &unpriced };
        admit(work, Remaining::of_max_cost(limit.max_cost).as_ref())?;
        self.ledger.decide(|| {
            let left = self.budget_left()?;
            // Batches that were admitted before count as in flight already.
            let counted: Nanos = unsent.iter().filter(|batch| batch.admitted).filter_map(|batch| batch.most).sum();
            admit(work, left.map(|left| left.with(counted)).as_ref())?;
            self.ledger.admit_batches(&self.job.id, most.unwrap_or(Nanos::ZERO))?;
            let mut db = self.driver.db.borrow_mut();
            for batch in unsent.iter_mut().filter(|batch| !batch.admitted) {
                batch.admitted = true;
                db.put_batch(batch)?;
            }
            db.commit(true)
        })
    }

    /// Admits rows of a retry and reserves their maximum cost. Returns the number of the reservation.
    ///
    /// # Errors
    /// 5 if they could cost more than is left, 2 if a price is unknown.
    pub fn admit_retry(&self, rows: &RetrySet, limit: CostLimit) -> Result<i64> {
        let CostLimit { max_cost, allow_unpriced } = limit;
        let most = rows.quote.most;
        let unpriced = rows.quote.unbounded.as_deref().unwrap_or_default();
        let work = Work { most, later: Nanos::ZERO, allow_unpriced, unpriced };
        admit(work, Remaining::of_max_cost(max_cost).as_ref())?;
        self.ledger.decide(|| {
            admit(work, self.budget_left()?.as_ref())?;
            let day = jiff::Zoned::now().date().to_string();
            let payer = Payer { job: &self.job.id, sandbox: self.ctx.settings.sandbox };
            let most = most.unwrap_or(Nanos::ZERO);
            self.ledger.admit_batches(&self.job.id, most)?;
            self.ledger.reserve(payer, &day, most, ReservationState::Active)
        })
    }

    /// Returns the rest of the config file's budgets for this job.
    fn budget_left(&self) -> Result<Option<Remaining>> {
        let requester = Requester { job: &self.job.id, ..Requester::default() };
        Remaining::of_budgets(&self.store, &self.ledger, self.ctx, requester)
    }
}
