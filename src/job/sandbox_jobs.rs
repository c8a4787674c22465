//! Jobs of the sandbox. Commands on them use the sandbox by themselves.

use super::batch::adopt::find_local;
use crate::context::Ctx;
use crate::error::Result;
use crate::store::{Job, Store};

/// Returns whether the jobs that `names` mean are all jobs of the sandbox; without names, the recent jobs that have not
/// ended.
pub fn are_of_sandbox(names: &[String], ctx: &Ctx) -> bool {
    jobs(names, ctx).is_ok_and(|jobs| !jobs.is_empty() && jobs.iter().all(Job::is_of_sandbox))
}

fn jobs(names: &[String], ctx: &Ctx) -> Result<Vec<Job>> {
    let dir = ctx.settings.state_dir()?;
    if !dir.join("ledger.db").exists() {
        return Ok(Vec::new());
    }
    let store = Store::open(dir)?;
    // The sandbox must write there.
    if store.is_read_only() {
        return Ok(Vec::new());
    }
    let ledger = store.ledger()?;
    if names.is_empty() {
        return Ok(ledger.recent(20)?.into_iter().filter(|job| !job.state.ended()).collect());
    }
    names.iter().map(|name| find_local(name, &store, &ledger)).collect()
}
