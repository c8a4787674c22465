//! Batches that were admitted and not sent yet, while the process that is to send them waits and lets others at its job.
//!
//! What they may cost stays set aside as long as that process lives, which it says by a lock beside the job's. For others
//! the job is in use all the same; only `cancel` gets past, since what it leaves costs nothing.

use super::{BatchJob, Job, Lock, Store, Turn};
use crate::error::Result;

fn name(job: &str) -> String {
    format!("unsent-{job}")
}

/// Says, until it is dropped, that this process lives to send what is unsent of `job`; `None`: another one says so now.
pub fn claim(store: &Store, job: &str) -> Result<Option<Lock>> {
    store.lock(&name(job))
}

/// Whether a process says so of `job`.
pub fn has_claimant(store: &Store, job: &str) -> bool {
    store.in_use(&name(job))
}

/// Whether a process waits to send some of these `batches` of `job`.
pub fn is_claimed(store: &Store, job: &str, batches: &[BatchJob]) -> bool {
    batches.iter().any(BatchJob::is_unsent) && has_claimant(store, job)
}

/// The same of a job as the store has it.
pub fn is_claimed_now(store: &Store, job: &Job) -> Result<bool> {
    Ok(store.job_path(&job.id).exists() && is_claimed(store, &job.id, &store.open_job(&job.id)?.batches()?))
}

/// Waits as `turn` says until nobody claims `job` any more; whether that came.
pub fn wait(store: &Store, job: &str, turn: Turn, say: &dyn Fn(&str)) -> Result<bool> {
    Ok(store.lock_in_turn(&name(job), turn, say)?.is_some())
}
