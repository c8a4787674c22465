//! The claim on a job's unsent batches: batches that the budgets admit, and that a live process is going to send.
//!
//! While that process waits, for instance for room at the service, it frees the job's lock. It then holds the claim, a lock
//! of its own beside the job's lock, and the batches' cost stays reserved. Other commands treat the job as in use. Only
//! `cancel` may pass, because what it leaves behind costs nothing.

use super::{Job, JobBatch, Lock, LockWait, Store};
use crate::error::Result;

fn name(job: &str) -> String {
    format!("unsent-{job}")
}

/// Claims the unsent batches of `job` until the lock is dropped. `None`: another process has claimed them.
pub fn claim(store: &Store, job: &str) -> Result<Option<Lock>> {
    store.lock(&name(job))
}

/// Returns whether a live process claims the unsent batches of `job`.
pub fn has_claimant(store: &Store, job: &str) -> bool {
    store.in_use(&name(job))
}

/// Returns whether some of these batches of `job` are unsent and claimed.
pub fn is_claimed(store: &Store, job: &str, batches: &[JobBatch]) -> bool {
    batches.iter().any(JobBatch::is_unsent) && has_claimant(store, job)
}

/// Returns whether `job` has unsent batches that are claimed, by what the store holds now.
pub fn is_claimed_now(store: &Store, job: &Job) -> Result<bool> {
    Ok(store.has_job(&job.id) && is_claimed(store, &job.id, &store.open_job(&job.id)?.batches()?))
}

/// Waits until no process claims `job`. Returns `false` if the time is up first. If it has to wait, it calls `tell`
/// once with the claimant.
pub fn wait(store: &Store, job: &str, wait: LockWait, tell: &dyn Fn(&str)) -> Result<bool> {
    Ok(store.wait_for_lock(&name(job), wait, tell)?.is_some())
}
