//! The rows that are left when a budget stops a realtime run, and the limit that would do for them.

use super::ask::{CostLimit, RetryFilter, Role, RunAsk};
use super::finish::Workspace;
use super::resume::JobRows;
use super::run_start::RunStart;
use crate::check::Pass;
use crate::check::calibrate::Factors;
use crate::check::estimate::{RowInspector, SummedRows};
use crate::check::quote::{Counting, PriceBasis, Quote};
use crate::check::repeats::Repeats;
use crate::error::Result;
use crate::money::Accounts;
use crate::money::budget::Remaining;
use crate::money::exposure::Requester;
use crate::outcome::Transport;
use crate::price::Nanos;
use crate::row_set::RowSet;
use crate::store::{Job, JobDb};

/// The rows that the same command would send next.
pub struct Rest<'a> {
    /// The workspace of the job.
    pub workspace: Workspace<'a>,
    /// The rows of the job.
    pub rows: JobRows<'a>,
    /// The command.
    pub role: Role,
    /// Failed rows that it sends again.
    pub retry: RetryFilter,
    /// Its limits of cost.
    pub limit: CostLimit,
    /// Rows that get the outcome of an earlier one, with `--dedupe`.
    pub repeats: Option<&'a Repeats>,
}

impl<'a> Rest<'a> {
    /// The rest of the job that this command has started.
    pub fn of(ask: &RunAsk, start: &'a RunStart, workspace: Workspace<'a>) -> Self {
        let (rows, repeats) = (start.rows(), start.repeats());
        Self { workspace, rows, role: ask.role, retry: ask.retry, limit: ask.job.limit, repeats }
    }

    /// Names the limits that would do: `--max-cost 0.21 would do`. `None`: those that are set do, or the maximum cost of
    /// the rows is unknown.
    pub fn enough(&self, job: &Job, db: &JobDb) -> Result<Option<String>> {
        let Some(upper_bound) = self.upper_bound(job, db)? else { return Ok(None) };
        let max_cost = self.limit.remaining();
        let spent = if max_cost.is_some() { self.spent(job, db)? } else { Nanos::ZERO };
        if let Some(words) = max_cost.and_then(|limit| limit.enough_for(spent + upper_bound)) {
            return Ok(Some(words));
        }
        let Workspace { ctx, store, ledger } = self.workspace;
        let requester = Requester { job: &job.id, reservation: None, quiet: true };
        let left = ledger.decide(|| Remaining::of_budgets(store, ledger, ctx, requester))?;
        Ok(left.and_then(|left| left.enough_for(upper_bound)))
    }

    /// The maximum cost of the rows that a run will send. `None`: unknown.
    pub(super) fn upper_bound_of_start(&self, start: &RunStart) -> Result<Option<Nanos>> {
        let job = Job { total: start.checked.rows, ..start.claimed.job.clone() };
        if start.claimed.resumed {
            return self.upper_bound(&job, &self.workspace.store.open_job(&job.id)?);
        }
        self.most_of(&|_| true)
    }

    /// The maximum cost of the rows that a run of this job would send. `None`: unknown.
    fn upper_bound(&self, job: &Job, db: &JobDb) -> Result<Option<Nanos>> {
        let mut awaited = RowSet::default();
        db.each_awaited(|row| _ = awaited.insert(row))?;
        let left = db.to_do(job.total, |code| match self.retry {
            RetryFilter::Nothing => false,
            RetryFilter::Retryable => !code.is_permanent(),
            RetryFilter::All => true,
        })?;
        self.most_of(&|row| left.binary_search(&row).is_ok() && !awaited.contains(row))
    }

    fn most_of(&self, wanted: &(dyn Fn(u64) -> bool + Sync)) -> Result<Option<Nanos>> {
        let table = &self.workspace.ctx.settings.prices;
        let counting = Counting::usual(Factors::default());
        // Only the maximum is wanted, which needs no estimate.
        let inspector = RowInspector::new(u64::MAX, counting.estimator, table);
        let pass = Pass { max_problems: 0, ..Pass::new(self.rows.inputs, self.rows.builder) };
        let repeats = self.repeats;
        let wanted = |row| wanted(row) && !repeats.is_some_and(|repeats| repeats.is_follower(row));
        let sum = SummedRows::of(&pass, &inspector, &wanted)?.estimate;
        Ok(Quote::of(sum, PriceBasis { table, counting: &counting }, Transport::Realtime).upper_bound)
    }

    /// The cost so far that `--max-cost` counts.
    fn spent(&self, job: &Job, db: &JobDb) -> Result<Nanos> {
        let prices = || self.workspace.ctx.settings.prices.clone();
        match self.role {
            Role::Run => Ok(Accounts::of(db, prices(), job.total, &RowSet::default())?.spent()),
            Role::Retry => Ok(Nanos::ZERO),
            Role::BesideBatches => {
                let batches: Nanos = db.batches()?.iter().filter_map(|batch| batch.cost.upper_bound).sum();
                Ok(batches + Accounts::of_realtime(db, prices())?.spent())
            }
        }
    }
}
