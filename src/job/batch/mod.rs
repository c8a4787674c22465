//! A batch job from its inputs to its results: planned, submitted, followed, collected, delivered. Each of these can be a
//! command of its own, days apart; what is known lies in the store in between.

pub mod adopt;
mod ahead;
pub mod collect;
pub mod deliver;
pub mod follow;
mod lock;
mod notes;
mod other_jobs;
pub mod plan;
mod prepared;
pub mod rescue;
pub mod retry;
mod runtime;
pub mod state;
pub mod status;
pub mod submit;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use runtime::runtime;
use tokio::runtime::Runtime;

use super::signals::Signals;
use super::spec::{Spec, inputs_of};
use crate::api::Client;
use crate::batch::courier::{self, Courier};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::Inputs;
use crate::price::Nanos;
use crate::realtime::Shared;
use crate::store::{BatchStep, Job, JobState, Ledger, Lock, Store, Transport};
use crate::ui::{Progress, Results};
use ahead::Fresh;
pub use lock::same_service;
use notes::teller;
use other_jobs::{owned, witnesses};
use state::{Counts, state_of};

/// How long a command waits for failures that may pass before it gives the terminal back.
pub const PATIENCE: Duration = Duration::from_secs(45);
/// After so long a batch that was created stands in the service's list. Not publicly known: a generous guess.
const SETTLE_AFTER: Duration = Duration::from_mins(10);
/// Uploads at once.
const UPLOADS: usize = 3;

/// The service that a command talks to.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    /// Its client.
    pub client: &'a Client,
    /// As jobs tell services apart.
    pub name: &'a str,
    /// As accounts are told apart.
    pub account: &'a str,
}

/// A batch job that this process alone works on.
pub struct Work<'a> {
    /// The surroundings.
    pub ctx: &'a Ctx,
    /// The state directory.
    pub store: Store,
    /// The index.
    pub ledger: Ledger,
    /// Its entry in the index.
    pub job: Job,
    /// What is kept of its command.
    pub spec: Spec,
    /// The way to the service, and the job's database.
    pub courier: Courier<'a>,
    /// What is shown meanwhile.
    pub progress: Progress,
    /// What was planned here may cost about that, ...
    priced: Nanos,
    /// ... and what the rows of these models cost, of which no price is known.
    unpriced: Vec<String>,
    /// Rows answered and failed, once they have been counted: a count reads them all.
    counted: Cell<Option<(u64, u64)>>,
    /// What was collected here, if results are to be written here too.
    fresh: Cell<Option<Fresh>>,
    signals: Option<Signals>,
    runtime: Rc<Runtime>,
    /// Held while it is worked on; not while it is only waited for.
    lock: Option<Lock>,
    /// Held while it waits to send more.
    claim: Option<Lock>,
    /// The state of the database when the lock was given up.
    left_at: i64,
}

impl<'a> Work<'a> {
    fn with(
        job: Job,
        spec: Spec,
        remote: Remote<'a>,
        ctx: &'a Ctx,
        (store, ledger, lock): (Store, Ledger, Lock),
        patience: Duration,
        results: Results,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let stop = shared.stop.clone();
        let signals = Signals::watch(shared, ctx.leave)?;
        let progress = ctx.ui.progress(results);
        let dir = store.make_job_dir(&job.id)?;
        let mut db = store.open_job(&job.id)?;
        // After a realtime retry; one that was killed first has to account for what it had in flight.
        if db.claimed()? == 0 {
            db.settle_aside()?;
        }
        let options = courier::Options {
            account: remote.account.to_owned(),
            settle_after: ctx.settings.settle_after.unwrap_or(if remote.name == "sandbox" {
                Duration::from_secs(1)
            } else {
                SETTLE_AFTER
            }),
            patience,
            asking: patience.min(PATIENCE),
            until: None,
            uploads: UPLOADS,
            witnesses: witnesses(&store, &ledger, &job.id, remote)?,
        };
        let tell = teller(ctx.ui.clone(), progress.clone());
        let (shelf, id) = (store.clone(), job.id.clone());
        let owned = Box::new(move || owned(&shelf, &id));
        let moved = Cell::new(Instant::now());
        let courier = Courier { client: remote.client, db: RefCell::new(db), dir, options, owned, tell, stop, moved };
        Ok(Self {
            ctx,
            store,
            ledger,
            job,
            spec,
            courier,
            progress,
            priced: Nanos::ZERO,
            unpriced: Vec::new(),
            counted: Cell::default(),
            fresh: Cell::default(),
            signals: Some(signals),
            runtime: runtime()?,
            lock: Some(lock),
            claim: None,
            left_at: 0,
        })
    }

    /// Does something over the network. A signal that ends it decides the exit code.
    fn block_on<T>(&self, act: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(act).map_err(|error| {
            // What was being tried again when the user wanted out failed because of that.
            let error = match error.exit {
                Exit::Interrupt => error,
                Exit::TempFail if self.courier.stop.is_cancelled() => {
                    Error::new(Exit::Interrupt, "interrupted").hint("the same command goes on from here")
                }
                _ => return error,
            };
            let exit = match self.signals.as_ref().map_or(0, Signals::first) {
                1 => Exit::Hangup,
                15 => Exit::Terminate,
                _ => Exit::Interrupt,
            };
            // Not "the same command": with --again that would be a job of its own.
            let hint = format!(
                "batches that were created go on; `llbatch fetch {0}{1} --wait -o FILE` takes their results, `llbatch retry {0}{1}` submits what is left",
                self.job.id,
                self.flags()
            );
            Error { exit, hint: Some(hint), ..error }
        })
    }

    /// The inputs as they were submitted, or those that a realtime job read.
    ///
    /// # Errors
    /// 66 if they are gone.
    pub fn inputs(&self) -> Result<Inputs> {
        inputs_of(&self.spec, &self.store, &self.job.id)
    }

    /// What a command for a person to type must say beside the job's name.
    pub fn flags(&self) -> String {
        self.ctx.flags(&self.spec.service)
    }

    /// Rows by fate.
    pub fn counts(&self) -> Result<Counts> {
        let (succeeded, failed) = match self.counted.get() {
            Some(counted) => counted,
            None => self.courier.db.borrow().counts()?,
        };
        // Nobody else writes the job while it is ours.
        self.counted.set(Some((succeeded, failed)));
        Ok(Counts { total: self.job.total, succeeded, failed })
    }

    /// So many outcomes more are in the store.
    fn count_in(&self, succeeded: u64, failed: u64) {
        self.counted.set(self.counted.get().map(|(s, f)| (s + succeeded, f + failed)));
    }

    /// The outcomes in the store are not what they were.
    fn forget_counts(&self) {
        self.counted.set(None);
        self.fresh.set(None);
    }

    /// Writes where the job is into the index. `busy`: this process goes on with it.
    pub fn tell_ledger(&mut self, busy: bool) -> Result<JobState> {
        let batches = self.courier.db.borrow().batches()?;
        let counts = self.counts()?;
        // A run that was stopped before it wrote its answers is not done: its command goes on with it, and pays for nothing.
        let unwritten = self.job.transport == Transport::Realtime && batches.is_empty() && !self.job.delivered;
        self.job.state = match state_of(&batches, counts, busy) {
            state if state.ended() && unwritten && !self.job.state.ended() => JobState::Interrupted,
            state => state,
        };
        self.job.succeeded = counts.succeeded;
        self.job.failed = counts.failed;
        self.ledger.update(&self.job)?;
        Ok(self.job.state)
    }

    /// Brings planned batches to the service, or only settles creates that are in doubt.
    pub fn submit(&mut self, only_doubts: bool) -> Result<()> {
        let done = self.block_on(self.courier.submit(only_doubts));
        self.drop_shards()?;
        self.tell_ledger(false)?;
        done
    }

    /// Files that are with the service, in batches, can be made again from the input.
    fn drop_shards(&self) -> Result<()> {
        for batch in self.courier.db.borrow().batches()? {
            if matches!(batch.step, BatchStep::Submitted | BatchStep::Settled) {
                // If it cannot be removed it is untidy, not wrong.
                drop(std::fs::remove_file(self.courier.dir.join(&batch.name)));
            }
        }
        Ok(())
    }

    /// Batches that the service would not have.
    pub fn refused(&self) -> Result<usize> {
        Ok(self.courier.db.borrow().batches()?.iter().filter(|batch| batch.step == BatchStep::Refused).count())
    }

    /// Asks once how the batches are doing; whether all have ended.
    pub fn refresh(&mut self) -> Result<bool> {
        let ended = self.block_on(self.courier.refresh());
        self.tell_ledger(false)?;
        ended
    }

    /// Ends what has not ended.
    pub fn cancel(&mut self) -> Result<()> {
        let done = self.block_on(self.courier.cancel());
        self.tell_ledger(false)?;
        done
    }
}
