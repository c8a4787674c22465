//! The money of a realtime run: `--max-cost`, and a reservation from the config file's budgets.

use super::ask::RunAsk;
use super::finish::Workspace;
use super::rest::Rest;
use super::run_start::RunStart;
use crate::error::{Error, Exit, Result};
use crate::money::Accounts;
use crate::money::budget::{Remaining, unbounded_error, unpriced_error};
use crate::money::exposure::Requester;
use crate::money::reservation::Reservation;
use crate::price::Nanos;
use crate::realtime::{Budget, MaxCost};
use crate::row_set::RowSet;
use crate::store::{Job, JobDb};

/// The money of a realtime run.
pub(super) struct RunFunds<'ctx> {
    /// The limits of the engine; `None` without any.
    pub budget: Option<Budget>,
    /// The reservation, if the config file has a budget.
    pub reservation: Option<Reservation<'ctx>>,
    /// Possible charges of earlier runs beyond their recorded cost.
    pub at_risk: Nanos,
}

impl<'ctx> RunFunds<'ctx> {
    /// Refuses a run whose cost cannot be limited, or for which the config file's budgets have nothing left.
    ///
    /// # Errors
    /// 2 for a model without a price, 5 for an exhausted budget.
    pub fn refuse(start: &RunStart, ask: &RunAsk, workspace: Workspace<'_>) -> Result<()> {
        let (checked, limit, settings) = (&start.checked, ask.job.limit, &workspace.ctx.settings);
        let budgets = settings.budget.is_set();
        if !budgets && limit.max_cost.is_none() {
            return Ok(());
        }
        let unpriced = checked.models.iter().find(|(m, _)| settings.prices.get(m).is_none_or(|e| e.price.is_none()));
        if let Some((model, _)) = unpriced.filter(|_| !limit.allow_unpriced) {
            return Err(unpriced_error(model, &settings.prices));
        }
        if let Some((id, kind)) = checked.unbounded.as_ref().filter(|_| !limit.allow_unpriced) {
            return Err(unbounded_error(id, kind));
        }
        if !budgets {
            return Ok(());
        }
        let requester = Requester { job: &start.claimed.job.id, ..Requester::default() };
        match workspace
            .ledger
            .decide(|| Remaining::of_budgets(workspace.store, workspace.ledger, workspace.ctx, requester))?
        {
            Some(left) if left.amount == Nanos::ZERO && left.returning == Nanos::ZERO => {
                let upper_bound = Rest::of(ask, start, workspace).upper_bound_of_start(start)?;
                let enough = upper_bound.and_then(|upper_bound| left.enough_for(upper_bound));
                let enough = enough.unwrap_or_else(|| "a higher budget in the config file would do".to_owned());
                Err(Error::new(Exit::Budget, format!("nothing is left of {}, so nothing was sent", left.what))
                    .hint(format!("run the same command again then; {enough} now")))
            }
            _ => Ok(()),
        }
    }

    /// Opens the reservation and sets the limits of the engine. Under a budget, unrecorded costs of a killed process
    /// count as spent from here on.
    pub fn open(ask: &RunAsk, job: &mut Job, db: &JobDb, workspace: Workspace<'ctx>) -> Result<Self> {
        let reservation = Reservation::open(&job.id, workspace.store, workspace.ctx)?;
        let max_cost = ask.job.limit.max_cost;
        if reservation.is_none() && max_cost.is_none() {
            return Ok(Self { budget: None, reservation, at_risk: Nanos::ZERO });
        }
        let prices = &workspace.ctx.settings.prices;
        let accounts = Accounts::of(db, prices.clone(), job.total, &RowSet::default())?;
        if reservation.is_some() {
            job.cost = accounts.totals.usd().or(job.cost);
            accounts.record(job, workspace.ledger)?;
        }
        let spent = if ask.role.limits_whole_job() { accounts.spent() } else { Nanos::ZERO };
        let limit = max_cost.map(|limit| MaxCost { limit, before: spent });
        let budget = Some(Budget::new(limit, reservation.is_some(), prices.clone()));
        Ok(Self { budget, reservation, at_risk: accounts.totals.at_risk() })
    }
}
