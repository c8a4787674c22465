//! The figures of a job while it works, for those who watch it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::context::Ctx;
use crate::error::Result;
use crate::money::Accounts;
use crate::outcome::Outcome;
use crate::realtime::Shared;
use crate::row_set::RowSet;
use crate::store::{Job, JobDb};
use crate::telling::{JobMetrics, Telling};

/// Time between the figures of a run.
const EVERY: Duration = Duration::from_secs(1);

/// The figures of a run. They count each row when it is committed; the results count it in its turn.
#[derive(Debug)]
pub(super) struct LiveMetrics {
    job: String,
    accounts: Accounts,
    telling: Telling,
    shown: Option<Instant>,
}

impl LiveMetrics {
    /// Begins with the outcomes that the job has. `None`: nobody wants figures.
    pub fn of(job: &Job, db: &JobDb, ctx: &Ctx) -> Result<Option<Self>> {
        if !ctx.telling.wants_metrics() {
            return Ok(None);
        }
        let accounts = Accounts::of(db, ctx.settings.prices.clone(), job.total, &RowSet::default())?;
        Ok(Some(Self { job: job.id.clone(), accounts, telling: ctx.telling.clone(), shown: None }))
    }

    /// Counts a row that was committed.
    pub fn add(&mut self, outcome: &Outcome) {
        self.accounts.add(outcome, false);
    }

    /// Shows the figures, unless they were shown a moment ago. `last`: in any case.
    pub fn show(&mut self, shared: &Shared, last: bool) {
        if !last && self.shown.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let in_flight = shared.gauges.in_flight.load(Ordering::Relaxed) as u64;
        self.telling.show(JobMetrics::of(&self.job, &self.accounts.totals).in_flight(in_flight));
    }
}
