//! The service of the jobs that a command names. Commands on them use it by themselves.

use super::batch::adopt::find_local;
use crate::context::Ctx;
use crate::error::Result;
use crate::settings::JobsService;
use crate::store::{Job, Store};

/// Finds the one service of the jobs that `names` mean; without names, of the recent jobs that have not ended.
pub fn of(names: &[String], ctx: &Ctx) -> JobsService {
    let Ok(jobs) = jobs(names, ctx) else { return JobsService::Unknown };
    let Some(first) = jobs.first().map(service_of) else { return JobsService::Unknown };
    if jobs.iter().all(|job| service_of(job) == first) { first } else { JobsService::Unknown }
}

fn service_of(job: &Job) -> JobsService {
    match job.service_name() {
        _ if job.is_of_sandbox() => JobsService::Sandbox,
        Some(name) => JobsService::Named(name),
        None => JobsService::Unnamed,
    }
}

fn jobs(names: &[String], ctx: &Ctx) -> Result<Vec<Job>> {
    let dir = ctx.settings.state_dir()?;
    if !dir.join("ledger.db").exists() {
        return Ok(Vec::new());
    }
    let store = Store::open(ctx.settings.state_place()?)?;
    // The sandbox must write there.
    let usable = |job: &Job| !(store.is_read_only() && job.is_of_sandbox());
    let ledger = store.ledger()?;
    let jobs: Vec<Job> = if names.is_empty() {
        ledger.recent(20)?.into_iter().filter(|job| !job.state.ended()).collect()
    } else {
        names.iter().map(|name| find_local(name, &store, &ledger)).collect::<Result<_>>()?
    };
    Ok(jobs.into_iter().filter(usable).collect())
}
