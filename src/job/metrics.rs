//! The figures of jobs for Prometheus, from what is stored.

use super::batch::status::JobStatus;
use crate::context::Ctx;
use crate::error::Result;
use crate::money::Accounts;
use crate::report::Folded;
use crate::row_set::RowSet;
use crate::store::{Job, JobDb, Store};
use crate::telling::{EndMetrics, JobMetrics, prometheus};

/// Writes the figures of these jobs. One that cannot be read is left out.
pub fn of_jobs(seen: &[JobStatus], store: &Store, ctx: &Ctx) -> Result<String> {
    let readable = seen.iter().filter(|seen| seen.lost.is_none());
    let jobs: Vec<JobMetrics> = readable.map(|seen| of_job(seen, store, ctx)).collect::<Result<_>>()?;
    Ok(prometheus(&jobs.iter().collect::<Vec<_>>()))
}

fn of_job(JobStatus { job, busy, .. }: &JobStatus, store: &Store, ctx: &Ctx) -> Result<JobMetrics> {
    let figures = stored(&store.open_job(&job.id)?, job, ctx)?;
    // Only the process that sends knows how many requests are in flight.
    Ok(match job.exit.filter(|_| !busy) {
        Some(exit) => figures.ended(EndMetrics { at: job.updated_at, exit }),
        None => figures,
    })
}

/// Shows the stored figures of a job to those who watch it.
pub(super) fn show(db: &JobDb, job: &Job, ctx: &Ctx) -> Result<()> {
    ctx.telling.show(stored(db, job, ctx)?.in_flight(0));
    Ok(())
}

/// The figures that the totals kept with the job give, or all of its outcomes.
fn stored(db: &JobDb, job: &Job, ctx: &Ctx) -> Result<JobMetrics> {
    let prices = &ctx.settings.prices;
    if let Some(Folded { totals, .. }) = db.totals()?.and_then(|bytes| Folded::kept(&bytes, prices)) {
        return Ok(JobMetrics::of(&job.id, &totals));
    }
    let accounts = Accounts::of(db, prices.clone(), job.total, &RowSet::default())?;
    Ok(JobMetrics::of(&job.id, &accounts.totals))
}
