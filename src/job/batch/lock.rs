//! The lock of a batch job. One process works on a job at a time; a process that only waits unlocks the job.

use super::RETRY_FOR;
use crate::deadline::Deadline;
use crate::error::{Error, Exit, Result};
use crate::store::unsent;
use crate::store::{Job, JobBatch, Lock, LockWait, Store, Transport};
use crate::ui::Ui;

/// The lock of a batch job, held or released for a while.
#[derive(Debug)]
pub struct JobLock {
    job: String,
    /// Held while this process works on the job.
    lock: Option<Lock>,
    /// Held while this process waits to send more of it.
    claim: Option<Lock>,
    /// The version of the database at the time of the unlock.
    left_at: i64,
}

impl JobLock {
    /// Takes the lock of a job, and waits for the lock holder as `wait` allows.
    ///
    /// # Errors
    /// 75 if another process holds the lock.
    pub fn take(job: &Job, store: &Store, ui: &Ui, wait: LockWait) -> Result<Self> {
        let until = if wait == LockWait::Now { LockWait::briefly() } else { wait };
        let say = |holder: &str| {
            if wait != LockWait::Now {
                ui.note(&format!("{holder} is working on {}; waiting for it", job.id));
            }
        };
        loop {
            let lock = store.wait_for_lock(&job.id, until, &say)?.ok_or_else(|| in_use(job, store))?;
            if !unsent::is_claimed_now(store, job)? {
                return Ok(Self::holding(job, lock));
            }
            drop(lock);
            if !unsent::wait(store, &job.id, until, &say)? {
                return Err(in_use(job, store));
            }
        }
    }

    /// Takes the lock to cancel the job, even if another process waits to send more of it. A process that works on batches
    /// unlocks the job as soon as they are created, or cannot be; one that sends rows in real time holds it to its end.
    ///
    /// # Errors
    /// 75 if another process holds the lock.
    pub(super) fn take_to_cancel(job: &Job, store: &Store, ui: &Ui) -> Result<Self> {
        let batches_only =
            job.transport == Transport::Batch && store.has_job(&job.id) && !store.open_job(&job.id)?.has_claim()?;
        let waits = batches_only || unsent::is_claimed_now(store, job)?;
        // In an outage, the other process holds the lock for as long as it retries a call.
        let until = if waits { LockWait::until(Deadline::after(RETRY_FOR * 2)) } else { LockWait::briefly() };
        let say = |holder: &str| {
            if waits {
                ui.note(&format!("{holder} is working on {}; waiting for it", job.id));
            }
        };
        let lock = store.wait_for_lock(&job.id, until, &say)?.ok_or_else(|| in_use(job, store))?;
        Ok(Self::holding(job, lock))
    }

    fn holding(job: &Job, lock: Lock) -> Self {
        Self { job: job.id.clone(), lock: Some(lock), claim: None, left_at: 0 }
    }

    /// Returns true if this process holds the lock.
    pub(super) const fn is_held(&self) -> bool {
        self.lock.is_some()
    }

    /// Lets other processes work on the job. `version` is that of its database.
    pub fn unlock(&mut self, version: i64) {
        if self.lock.take().is_some() {
            self.left_at = version;
        }
    }

    /// Returns true if another process has written the job since it was unlocked.
    pub(super) const fn was_changed(&self, version: i64) -> bool {
        self.left_at != version
    }

    /// Takes the lock again. Returns `false` if another process works on the job or waits to send more of it.
    pub(super) fn retake(&mut self, store: &Store, batches: impl FnOnce() -> Result<Vec<JobBatch>>) -> Result<bool> {
        let Some(lock) = store.lock(&self.job)? else { return Ok(false) };
        if self.claim.is_none() && unsent::is_claimed(store, &self.job, &batches()?) {
            return Ok(false);
        }
        self.lock = Some(lock);
        Ok(true)
    }

    /// Claims the job's unsent batches, or releases the claim if none is `unsent`. Returns `false` if another process
    /// tests the claim at this moment.
    pub(super) fn claim_unsent(&mut self, store: &Store, unsent: bool) -> Result<bool> {
        if !unsent {
            self.claim = None;
        } else if self.claim.is_none() {
            self.claim = unsent::claim(store, &self.job)?;
            return Ok(self.claim.is_some());
        }
        Ok(true)
    }
}

fn in_use(job: &Job, store: &Store) -> Error {
    Error::new(Exit::TempFail, format!("{} is already working on {}", store.holder(&job.id), job.id))
        .hint("wait for it, then run the same command again; submit, fetch and retry can wait with --wait-lock")
}

/// Builds the error of a job that has another lock holder.
pub fn busy(id: &str) -> Error {
    Error::new(Exit::TempFail, format!("another llbatch is already working on {id}"))
        .hint("wait for it, then run the same command again")
}
