//! Whose a job is: one process works on it at a time, and who only waits lets others at it.

use std::time::{Duration, Instant};

use super::{PATIENCE, Remote, Work};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::spec::{Spec, spec_of};
use crate::store::unsent;
use crate::store::{BatchJob, Job, LockWait, Store};
use crate::ui::Results;

impl<'a> Work<'a> {
    /// Takes a job that is in the index.
    ///
    /// # Errors
    /// 75 if another process works on it, 2 if it is none for this service, 74 if its files cannot be read.
    pub fn open(job: &Job, remote: Remote<'a>, ctx: &'a Ctx, patience: Duration, results: Results) -> Result<Self> {
        Self::open_waiting(job, remote, ctx, patience, results, LockWait::Now)
    }

    /// The same, waiting as `turn` says for a process that works on it.
    pub fn open_waiting(
        job: &Job,
        remote: Remote<'a>,
        ctx: &'a Ctx,
        patience: Duration,
        results: Results,
        wait: LockWait,
    ) -> Result<Self> {
        Self::take(job, remote, ctx, patience, results, wait, false)
    }

    /// The same, also from a process that only waits to send more of it: to cancel it.
    pub fn open_to_cancel(job: &Job, remote: Remote<'a>, ctx: &'a Ctx) -> Result<Self> {
        let waits = unsent::is_claimed_now(&Store::open(&ctx.settings.state_dir.value)?, job)?;
        // In an outage that process has the job for as long as a call is tried again.
        let until = || LockWait::until(Instant::now().checked_add(PATIENCE * 2));
        let wait = if waits { until() } else { LockWait::Now };
        Self::take(job, remote, ctx, PATIENCE, Results::Elsewhere, wait, true)
    }

    fn take(
        job: &Job,
        remote: Remote<'a>,
        ctx: &'a Ctx,
        patience: Duration,
        results: Results,
        wait: LockWait,
        past_claims: bool,
    ) -> Result<Self> {
        let store = Store::open(&ctx.settings.state_dir.value)?;
        let ledger = store.ledger()?;
        let spec = spec_of(job)?;
        same_service(job, &spec, remote.name)?;
        let until = if wait == LockWait::Now { LockWait::briefly() } else { wait };
        let say = |holder: &str| {
            if wait != LockWait::Now {
                ctx.ui.note(&format!("{holder} works on {}; waiting for it", job.id));
            }
        };
        let in_use = || {
            Error::new(Exit::TempFail, format!("{} is being worked on by {}", job.id, store.holder(&job.id)))
                .hint("wait for it, then run the same command again; submit, fetch and retry wait by themselves with --wait-lock")
        };
        let lock = loop {
            let lock = store.wait_for_lock(&job.id, until, &say)?.ok_or_else(in_use)?;
            if past_claims || !unsent::is_claimed_now(&store, job)? {
                break lock;
            }
            drop(lock);
            if !unsent::wait(&store, &job.id, until, &say)? {
                return Err(in_use());
            }
        };
        // As it stands now that nobody else changes it.
        let job = ledger.find(&job.id)?;
        Self::with(job, spec, remote, ctx, (store, ledger, lock), patience, results)
    }

    /// Lets others work on the job while this process only waits for it. All that was done is committed.
    pub fn release(&mut self) -> Result<()> {
        if self.lock.is_some() {
            self.left_at = self.courier.db.borrow().version()?;
            self.lock = None;
        }
        Ok(())
    }

    /// The same, and what was admitted and is still to be sent stays claimed meanwhile.
    pub fn leave(&mut self, submitting: bool) -> Result<()> {
        let unsent = submitting && self.courier.db.borrow().batches()?.iter().any(BatchJob::is_unsent);
        if !unsent {
            self.claim = None;
        } else if self.claim.is_none() {
            self.claim = unsent::claim(&self.store, &self.job.id)?;
            // Somebody looks whether it is claimed, this very moment.
            if self.claim.is_none() {
                return Ok(());
            }
        }
        self.release()
    }

    /// Takes the job again after [`Self::release`], as others have left it; `false` if another process works on it.
    ///
    /// # Errors
    /// 1 if it was removed meanwhile, 74 if it cannot be read.
    pub fn hold(&mut self) -> Result<bool> {
        if self.lock.is_some() {
            return Ok(true);
        }
        let id = &self.job.id;
        let Some(lock) = self.store.lock(id)? else { return Ok(false) };
        if self.claim.is_none() && unsent::is_claimed(&self.store, id, &self.courier.db.borrow().batches()?) {
            return Ok(false);
        }
        let gone = |error: Error| match error.exit {
            Exit::Usage => Error::new(Exit::Failure, format!("{id} was removed by another llbatch meanwhile")),
            _ => error,
        };
        self.job = self.ledger.find(id).map_err(gone)?;
        self.spec = spec_of(&self.job)?;
        self.lock = Some(lock);
        if self.courier.db.borrow().version()? != self.left_at {
            self.forget_counts();
        }
        Ok(true)
    }
}

/// Whether the job may be talked about with this service.
///
/// # Errors
/// 2 if it belongs to another one.
pub fn same_service(job: &Job, spec: &Spec, remote: &str) -> Result<()> {
    if spec.service == remote {
        return Ok(());
    }
    let hint =
        if spec.service == "sandbox" { "add --sandbox" } else { "leave --sandbox out, or give the same --base-url" };
    Err(Error::usage(format!("{} is with {}, this command is for {remote}", job.id, spec.service)).hint(hint))
}

pub fn busy(id: &str) -> Error {
    Error::new(Exit::TempFail, format!("{id} is being worked on by another llbatch"))
        .hint("wait for it, then run the same command again")
}
