//! The status of many jobs, read without working on any of them.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use crate::api::Listing;
use crate::api::batches::Batch;
use crate::batch::driver::{Driver, Options};
use crate::error::{Error, Exit, Result};
use crate::input::Shard;
use crate::job::remote::Remote;
use crate::job::spec::{moved_from, spec_of};
use crate::job::verdict::state_of;
use crate::outcome::ErrorCode;
use crate::store::unsent::is_claimed;
use crate::store::{BatchStep, Job, JobBatch, JobDb, Ledger, Lock, Store, Tags};

/// Jobs polled concurrently. Each polls several batches at once.
const JOBS: usize = 4;

/// A job and its batches as the store knows them.
#[derive(Debug)]
pub struct JobStatus {
    /// Its entry, with its current state.
    pub job: Job,
    /// Its batches in order; none for a job that has only run in real time.
    pub batches: Vec<JobBatch>,
    /// Failed rows that the user cancelled.
    pub cancelled: u64,
    /// The part of its input that it works on, if not all.
    pub shard: Option<Shard>,
    /// Its tags.
    pub tags: Tags,
    /// A process works on it at this moment.
    pub busy: bool,
    /// Its own database is missing or cannot be read.
    pub lost: Option<Error>,
}

impl JobStatus {
    /// Reads the status of a job without calling the service.
    pub fn of(mut job: Job, store: &Store) -> Result<Self> {
        let (shard, tags) =
            spec_of(&job).map_or_else(|_| Default::default(), |spec| (spec.reading.pick.shard, spec.tags));
        let opened = store.open_job(&job.id).and_then(|db| Ok((db.batches()?, db)));
        // One lost file must not hide the other jobs.
        let (batches, db) = match opened {
            Ok((batches, db)) => (batches, db),
            Err(error) => {
                return Ok(Self {
                    job,
                    batches: Vec::new(),
                    cancelled: 0,
                    shard,
                    tags,
                    busy: false,
                    lost: Some(error),
                });
            }
        };
        let busy = store.in_use(&job.id) || is_claimed(store, &job.id, &batches);
        // A killed process may not have recorded its last rows.
        if !busy && !job.state.ended() {
            (job.succeeded, job.failed) = db.counts()?;
        }
        job.state = state_of(&job, &batches, busy);
        let cancelled = cancelled(&job, &batches, &db)?;
        Ok(Self { job, batches, cancelled, shard, tags, busy, lost: None })
    }

    /// Returns true if the service may have news of the job.
    pub fn is_live(&self) -> bool {
        self.batches.iter().any(|batch| batch.step == BatchStep::Submitted && !batch.ended)
    }
}

/// Counts the rows that the user cancelled. Most jobs have none, and are not searched.
fn cancelled(job: &Job, batches: &[JobBatch], db: &JobDb) -> Result<u64> {
    let possible = job.failed > 0 && batches.iter().any(|batch| batch.cancel);
    if possible { db.failed_with(ErrorCode::Cancelled) } else { Ok(0) }
}

/// Reads the status of these jobs without calling the service.
pub fn inspect(jobs: Vec<Job>, store: &Store) -> Result<Vec<JobStatus>> {
    jobs.into_iter().map(|job| JobStatus::of(job, store)).collect()
}

/// Polls every live batch of these jobs. It skips jobs that have another lock holder, and jobs of other services.
///
/// # Errors
/// 4 or 75 if the service does not answer. Earlier replies are kept.
pub fn refresh(seen: &mut [JobStatus], store: &Store, ledger: &Ledger, remote: Remote<'_>) -> Result<()> {
    let mut taken: Vec<(usize, Lock, Driver<'_>)> = Vec::new();
    for (i, seen) in seen.iter_mut().enumerate().filter(|(_, seen)| seen.is_live()) {
        if seen.job.service_identity().is_none_or(|service| service != remote.identity()) {
            continue;
        }
        let Some(lock) = store.lock(&seen.job.id)? else { continue };
        // Reads it again under the lock. The copy from before may be old.
        seen.job = ledger.find(&seen.job.id)?;
        // A user is waiting for the output.
        let spec = spec_of(&seen.job).ok();
        let remote = spec.as_ref().map_or(remote, |spec| remote.at(&spec.service));
        let elsewhere = spec.and_then(|spec| moved_from(&spec, remote));
        let options = Options { elsewhere, ..Options::to_poll(remote.account, Duration::from_secs(10)) };
        let db = store.open_job(&seen.job.id)?;
        let driver = Driver::new(remote.client, db, store.job_dir(&seen.job.id), options);
        taken.push((i, lock, driver));
    }
    if taken.is_empty() {
        return Ok(());
    }
    let runtime = super::runtime()?;
    let results: Vec<Result<bool>> = runtime.block_on(
        stream::iter(taken.iter().map(async |(_, _, driver)| driver.refresh().await)).buffered(JOBS).collect(),
    );
    for (i, _, driver) in &taken {
        let seen = &mut seen[*i];
        let db = driver.db.borrow();
        seen.batches = db.batches()?;
        (seen.job.succeeded, seen.job.failed) = db.counts()?;
        seen.job.state = state_of(&seen.job, &seen.batches, false);
        seen.cancelled = cancelled(&seen.job, &seen.batches, &db)?;
        ledger.update(&seen.job)?;
    }
    results.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

/// Lists the batches of the service, all or those that can be read.
///
/// # Errors
/// 4 or 75 if the service does not answer.
pub fn list(remote: Remote<'_>) -> Result<Listing<Batch>> {
    let runtime = super::runtime()?;
    runtime
        .block_on(remote.client.batches())
        .map_err(|failure| crate::batch::driver::error("listing the service's batches", &failure))
        .map_err(
            |error: Error| if error.exit == Exit::Failure { Error { exit: Exit::TempFail, ..error } } else { error },
        )
}
