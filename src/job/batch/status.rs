//! Looking at many jobs at once, without working on any of them.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;

use super::state::{Counts, state_of};
use super::{PATIENCE, Remote};
use crate::batch::courier::{Courier, Options};
use crate::error::{Error, Exit, Result};
use crate::job::spec::spec_of;
use crate::store::unsent::is_claimed;
use crate::store::{BatchJob, BatchStep, Job, JobDb, JobState, Ledger, Lock, Store, Transport};

/// Jobs asked about at once; each asks for several batches at once.
const JOBS: usize = 4;

/// A job and its batches as they are known here.
#[derive(Debug)]
pub struct Seen {
    /// Its entry, with the state that it is in now.
    pub job: Job,
    /// In their order; none for a job that has only run at realtime.
    pub batches: Vec<BatchJob>,
}

impl Seen {
    /// Whether the service may have news of it.
    pub fn is_live(&self) -> bool {
        self.batches.iter().any(|batch| batch.step == BatchStep::Submitted && !batch.ended)
    }
}

/// What is known of these jobs without asking anybody.
pub fn look(jobs: Vec<Job>, store: &Store) -> Result<Vec<Seen>> {
    jobs.into_iter()
        .map(|mut job| {
            let db = if store.job_path(&job.id).exists() { Some(store.open_job(&job.id)?) } else { None };
            let batches = db.as_ref().map_or_else(|| Ok(Vec::new()), JobDb::batches)?;
            let busy = store.in_use(&job.id) || is_claimed(store, &job.id, &batches);
            if job.transport == Transport::Batch {
                let counts = Counts { total: job.total, succeeded: job.succeeded, failed: job.failed };
                job.state = state_of(&batches, counts, busy);
            } else if !busy && matches!(job.state, JobState::Running | JobState::Preparing) {
                // A job that says it is running and that nobody holds was killed, or waits for its batches.
                let live = batches.iter().any(|batch| batch.is_open() && batch.step != BatchStep::Planned);
                job.state = if live { JobState::Running } else { JobState::Interrupted };
            }
            // A process that was killed may not have told the index its last rows.
            if let Some(db) = db.filter(|_| !busy && job.state == JobState::Interrupted) {
                (job.succeeded, job.failed) = db.counts()?;
                if job.transport == Transport::Batch {
                    let counts = Counts { total: job.total, succeeded: job.succeeded, failed: job.failed };
                    job.state = state_of(&batches, counts, busy);
                }
            }
            Ok(Seen { job, batches })
        })
        .collect()
}

/// Asks the service about every live batch of these jobs. Jobs that another process works on are left to it, and so are
/// those of other services.
///
/// # Errors
/// 4 or 75 if the service does not answer; what it did answer is kept.
pub fn refresh(seen: &mut [Seen], store: &Store, ledger: &Ledger, remote: Remote<'_>) -> Result<()> {
    let mut taken: Vec<(usize, Lock, Courier<'_>)> = Vec::new();
    for (i, seen) in seen.iter_mut().enumerate().filter(|(_, seen)| seen.is_live()) {
        if spec_of(&seen.job)?.service != remote.name {
            continue;
        }
        let Some(lock) = store.lock(&seen.job.id)? else { continue };
        // As it stands now that nobody else changes it: what is read before may be old.
        seen.job = ledger.find(&seen.job.id)?;
        let options = Options {
            account: remote.account.to_owned(),
            settle_after: PATIENCE,
            // Somebody sits before it.
            patience: Duration::from_secs(10),
            asking: Duration::from_secs(10),
            until: None,
            uploads: 1,
            witnesses: Vec::new(),
        };
        let courier = Courier {
            client: remote.client,
            db: RefCell::new(store.open_job(&seen.job.id)?),
            dir: store.job_dir(&seen.job.id),
            options,
            // It looks nothing up.
            owned: Box::new(|| Ok(Vec::new())),
            tell: Box::new(|_| ()),
            stop: CancellationToken::new(),
            moved: Cell::new(Instant::now()),
        };
        taken.push((i, lock, courier));
    }
    if taken.is_empty() {
        return Ok(());
    }
    let runtime = super::runtime()?;
    let results: Vec<Result<bool>> = runtime.block_on(
        stream::iter(taken.iter().map(async |(_, _, courier)| courier.refresh().await)).buffered(JOBS).collect(),
    );
    for (i, _, courier) in &taken {
        let seen = &mut seen[*i];
        let db = courier.db.borrow();
        seen.batches = db.batches()?;
        let (succeeded, failed) = db.counts()?;
        let counts = Counts { total: seen.job.total, succeeded, failed };
        seen.job.state = state_of(&seen.batches, counts, false);
        (seen.job.succeeded, seen.job.failed) = (succeeded, failed);
        ledger.update(&seen.job)?;
    }
    results.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

/// All batches that the service lists.
///
/// # Errors
/// 4 or 75 if it does not answer.
pub fn list(remote: Remote<'_>) -> Result<Vec<crate::api::batches::Batch>> {
    let runtime = super::runtime()?;
    runtime
        .block_on(remote.client.batches())
        .map(|listed| listed.entries)
        .map_err(|failure| crate::batch::courier::error("listing the service's batches", &failure))
        .map_err(
            |error: Error| if error.exit == Exit::Failure { Error { exit: Exit::TempFail, ..error } } else { error },
        )
}
