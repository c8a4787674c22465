//! Budgets of batches: admits planned batches and retries, or refuses them.

use super::retry::{RetrySet, account_lost};
use super::session::Session;
use crate::error::Result;
use crate::job::ask::CostLimit;
use crate::money::budget::{BudgetedWork, Remaining, admit};
use crate::money::exposure::Requester;
use crate::price::{Nanos, PriceBook};
use crate::store::{Asked, BatchStep, JobBatch, Payer, ReservationState, Transport};

/// Admits planned batches that were never sent. From then on, budgets count them. The same command may spend up to
/// `later` on other rows.
///
/// # Errors
/// 5 if they could cost more than is left, 2 if a price is unknown.
pub(super) fn admit_unsent(session: &Session<'_>, limit: CostLimit, later: Nanos) -> Result<()> {
    price_uncreated(session)?;
    let mut unsent = session.batches()?;
    unsent.retain(JobBatch::is_unsent);
    if unsent.is_empty() {
        return Ok(());
    }
    let upper_bound = unsent.iter().try_fold(Nanos::ZERO, |sum, batch| Some(sum + batch.cost.upper_bound?));
    let unpriced = unsent
        .iter()
        .find(|batch| batch.cost.upper_bound.is_none())
        .map_or_else(String::new, |batch| batch.model.clone());
    let prices = &session.ctx.settings.prices;
    let work = BudgetedWork { upper_bound, later, allow_unpriced: limit.allow_unpriced, unpriced: &unpriced, prices };
    admit(work, limit.remaining().as_ref())?;
    session.ledger.decide(|| {
        let left = budget_left(session)?;
        // Batches that were admitted before count as in flight already.
        let counted: Nanos =
            unsent.iter().filter(|batch| batch.cost.admitted).filter_map(|batch| batch.cost.upper_bound).sum();
        admit(work, left.map(|left| left.with(counted)).as_ref())?;
        session.ledger.admit_batches(&session.job.id, upper_bound.unwrap_or(Nanos::ZERO))?;
        let mut db = session.driver.db.borrow_mut();
        for batch in unsent.iter_mut().filter(|batch| !batch.cost.admitted) {
            batch.cost.admitted = true;
            db.put_batch(batch)?;
        }
        db.commit(true)
    })
}

/// Admits rows of a retry and reserves their maximum cost. Returns the number of the reservation.
///
/// # Errors
/// 5 if they could cost more than is left, 2 if a price is unknown.
pub(super) fn admit_retry(session: &Session<'_>, rows: &RetrySet, limit: CostLimit) -> Result<i64> {
    let allow_unpriced = limit.allow_unpriced;
    let upper_bound = rows.quote.upper_bound;
    let unpriced = rows.quote.unbounded.as_deref().unwrap_or_default();
    let prices = &session.ctx.settings.prices;
    let work = BudgetedWork { upper_bound, later: Nanos::ZERO, allow_unpriced, unpriced, prices };
    admit(work, limit.remaining().as_ref())?;
    session.ledger.decide(|| {
        admit(work, budget_left(session)?.as_ref())?;
        let day = jiff::Zoned::now().date().to_string();
        let payer = Payer { job: &session.job.id, sandbox: session.ctx.settings.sandbox };
        let upper_bound = upper_bound.unwrap_or(Nanos::ZERO);
        session.ledger.admit_batches(&session.job.id, upper_bound)?;
        session.ledger.reserve(payer, &day, upper_bound, ReservationState::Active)
    })
}

/// Puts the prices in force upon batches that may still be created: prices may have changed since they were planned.
/// The maximum cost of one whose creation is in doubt is that at either price.
///
/// # Errors
/// 66 if rows were in flight, and the input with their bounds is gone.
pub(super) fn price_uncreated(session: &Session<'_>) -> Result<()> {
    let mut open = session.batches()?;
    open.retain(|batch| batch.is_unsent() || batch.step == BatchStep::Creating);
    let table = &session.ctx.settings.prices;
    if open.is_empty() || session.driver.db.borrow().has_kept(table) {
        return Ok(());
    }
    // Requests that a killed run had in flight cost the earlier price.
    account_lost(session)?;
    let mut db = session.driver.db.borrow_mut();
    db.keep_prices(table)?;
    let mut prices = PriceBook::new(table.clone());
    for batch in &mut open {
        let model = batch.model.as_str().into();
        let asked = db.asked(batch.number)?;
        let add = |sum: Nanos, row: &Asked| Some(sum + prices.upper_bound(&model, Transport::Batch, row.reserve, 1)?);
        let upper_bound = asked.iter().try_fold(Nanos::ZERO, add);
        if batch.is_unsent() {
            (batch.cost.upper_bound, batch.cost.prices) = (upper_bound, db.prices_in_force());
        } else {
            batch.cost.upper_bound = batch.cost.upper_bound.zip(upper_bound).map(|(one, other)| one.max(other));
        }
        db.put_batch(batch)?;
    }
    db.commit(true)
}

/// Returns the rest of the config file's budgets for this job.
fn budget_left(session: &Session<'_>) -> Result<Option<Remaining>> {
    let requester = Requester { job: &session.job.id, ..Requester::default() };
    Remaining::of_budgets(&session.store, &session.ledger, session.ctx, requester)
}
