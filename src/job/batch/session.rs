//! A batch job that this process works on: its record, its database, its driver and its lock.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::RETRY_FOR;
use super::admit::price_uncreated;
use super::lock::JobLock;
use super::network::Network;
use super::notes::notifier;
use super::other_jobs::{owned, witnesses};
use crate::batch::driver::{self, CallLimits, Driver, SubmitScope};
use crate::batch_status::BatchStatus;
use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::input::Inputs;
use crate::job::finish::{self, JobAccounts, Workspace};
use crate::job::identity::key_maker;
use crate::job::judge::judge_anew;
use crate::job::metrics;
use crate::job::remote::Remote;
use crate::job::signals::{self, Signals};
use crate::job::spec::{Spec, inputs_of, moved_from, same_service, say_changes, spec_of};
use crate::job::verdict::{JobCommand, JobFacts, RowFacts, Verdict, state_of};
use crate::price::Nanos;
use crate::realtime::Shared;
use crate::request::{KeyMaker, RequestBuilder};
use crate::store::{BatchStep, Job, JobBatch, JobState, Ledger, LockWait, Store};
use crate::ui::{Progress, Results};

/// Time after which the service's list shows a new batch. Together does not document it; this is a generous guess.
const SETTLE_AFTER: Duration = Duration::from_mins(10);
/// The same for the built-in server.
const SETTLE_AFTER_SANDBOX: Duration = Duration::from_secs(1);
/// Concurrent uploads.
const UPLOADS: usize = 3;

/// Options of a session.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions {
    /// Time to retry transient failures.
    pub retry_for: Duration,
    /// Destination of the results, which decides if progress may be drawn.
    pub results: Results,
    /// Maximum wait for the lock holder of the job.
    pub wait: LockWait,
    /// A batch that was created from an identical file, and that no job here owns, is used instead of creating another.
    pub take_over: bool,
}

/// A batch job that this process works on.
pub struct Session<'a> {
    /// Settings and user interface.
    pub ctx: &'a Ctx,
    /// The state directory.
    pub store: Store,
    /// The index of jobs.
    pub ledger: Ledger,
    /// Its entry in the index.
    pub job: Job,
    /// The record of its command.
    pub spec: Spec,
    /// The driver of its batches, with the job's database.
    pub driver: Driver<'a>,
    /// The progress display.
    pub progress: Progress,
    /// The job's lock, held while this process works and released while it only waits.
    pub lock: JobLock,
    /// The base URL of its service now.
    base_url: String,
    network: Network,
    /// Answered and failed rows, kept because a count reads all of them.
    counted: Cell<Option<(u64, u64)>>,
    /// Answered and failed rows of the figures that were last shown.
    shown: Option<(u64, u64)>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { retry_for: RETRY_FOR, results: Results::Elsewhere, wait: LockWait::Now, take_over: false }
    }
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("job", &self.job.id).finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// Opens a job of the index.
    ///
    /// # Errors
    /// 75 if it has another lock holder, 2 if it belongs to another service, 74 if its files cannot be read.
    pub fn open(job: &Job, remote: Remote<'a>, ctx: &'a Ctx, options: SessionOptions) -> Result<Self> {
        let store = Store::open(ctx.settings.state_place()?)?;
        same_service(job, remote, ctx)?;
        let lock = JobLock::take(job, &store, &ctx.ui, options.wait)?;
        Self::with(job, lock, remote, ctx, options)
    }

    /// Opens a job to cancel it, even if another process waits to send more of it.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub(super) fn open_to_cancel(job: &Job, remote: Remote<'a>, ctx: &'a Ctx) -> Result<Self> {
        let store = Store::open(ctx.settings.state_place()?)?;
        store.must_be_writable()?;
        same_service(job, remote, ctx)?;
        let lock = JobLock::take_to_cancel(job, &store, &ctx.ui)?;
        Self::with(job, lock, remote, ctx, SessionOptions::default())
    }

    fn with(job: &Job, lock: JobLock, remote: Remote<'a>, ctx: &'a Ctx, options: SessionOptions) -> Result<Self> {
        let store = Store::open(ctx.settings.state_place()?)?;
        let ledger = store.ledger()?;
        // Reads it again, now that no other process can change it.
        let job = ledger.find(&job.id)?;
        ctx.concern(&job.id);
        let remote = remote.at(&spec_of(&job)?.service);
        let shared = Arc::new(Shared::default());
        let stop = shared.stop.clone();
        let ui = ctx.ui.clone();
        let say = move |_: &Shared, signal| {
            ui.note(&format!("stopping after the request in progress; {}", signals::again(signal)));
        };
        let signals = Signals::watch(shared, say, ctx)?;
        let progress = ctx.ui.progress(options.results);
        let dir = store.make_job_dir(&job.id)?;
        let mut db = store.open_job(&job.id)?;
        // A realtime retry has written the job. If one was killed, its requests in flight must be accounted for first.
        if !db.has_claim()? && !store.is_read_only() {
            db.settle_aside()?;
        }
        // An earlier llbatch has made the job.
        if !store.is_read_only() && db.entry()?.is_none() {
            db.put_entry(&job)?;
        }
        let usual = if remote.name == "sandbox" { SETTLE_AFTER_SANDBOX } else { SETTLE_AFTER };
        let options = driver::Options {
            job: job.id.clone(),
            settle_after: ctx.settings.settle_after.unwrap_or(usual),
            retry_for: options.retry_for,
            uploads: UPLOADS,
            witnesses: witnesses(&store, &ledger, &job.id, remote)?,
            take_over: options.take_over,
            ..driver::Options::to_poll(remote.account, options.retry_for.min(RETRY_FOR))
        };
        let (jobs, id) = (store.clone(), job.id.clone());
        let spec = spec_of(&job)?;
        say_changes(&job, &spec, remote, "`submit --again`", ctx);
        let options = driver::Options { elsewhere: moved_from(&spec, remote), ..options };
        let driver = Driver {
            owned: Box::new(move || owned(&jobs, &id)),
            on_event: notifier(ctx.ui.clone(), progress.clone()),
            stop: stop.clone(),
            ..Driver::new(remote.client, db, dir, options)
        };
        let network = Network::new(signals, stop)?;
        let mut session = Self {
            ctx,
            store,
            ledger,
            job,
            spec,
            base_url: remote.name.to_owned(),
            driver,
            progress,
            lock,
            network,
            counted: Cell::default(),
            shown: None,
        };
        if session.batches()?.iter().all(|batch| !batch.is_open()) {
            session.record_changes()?;
        }
        Ok(session)
    }

    /// Records where the service is and which key it takes, now that this is known to be right for the job.
    fn record_changes(&mut self) -> Result<()> {
        let account = &self.driver.options.account;
        let changed = self.spec.service != self.base_url || self.spec.account != *account;
        if !changed || account.is_empty() || self.store.is_read_only() {
            return Ok(());
        }
        self.spec.service.clone_from(&self.base_url);
        self.spec.account.clone_from(account);
        self.driver.options.elsewhere = None;
        self.job.spec = self.spec.describe()?;
        self.ledger.update(&self.job)
    }

    /// Returns the workspace of the job.
    pub fn workspace(&self) -> Workspace<'_> {
        Workspace { ctx: self.ctx, store: &self.store, ledger: &self.ledger }
    }

    /// Runs `act` on the network. If a signal ends it, the signal decides the exit code.
    pub fn block_on<T>(&self, act: impl Future<Output = Result<T>>) -> Result<T> {
        // The hint must not name the same command: with --again it would start another job.
        self.network.block_on(act, || {
            format!(
                "created batches keep running; `llbatch fetch {0}{1} --wait -o FILE` collects their results, `llbatch \
                 retry {0}{1}` submits the rest",
                self.job.id,
                self.flags()
            )
        })
    }

    /// The limits of the driver's calls.
    pub(super) const fn limits(&self) -> CallLimits {
        self.driver.options.limits
    }

    /// Runs `act` with these limits of the driver's calls.
    pub(super) fn limited<T>(&mut self, limits: CallLimits, act: impl FnOnce(&mut Self) -> T) -> T {
        let usual = std::mem::replace(&mut self.driver.options.limits, limits);
        let done = act(self);
        self.driver.options.limits = usual;
        done
    }

    /// Opens the inputs as submitted, or those that a realtime job read.
    ///
    /// # Errors
    /// 66 if they are gone.
    pub fn inputs(&self) -> Result<Inputs> {
        inputs_of(&self.spec, &self.store, &self.job.id)
    }

    /// Builds the request builder of the inputs.
    pub fn builder(&self) -> Result<Arc<RequestBuilder>> {
        RequestBuilder::for_batches(&self.spec.params).map(Arc::new)
    }

    /// Returns the flags that the user must type beside the job's name.
    pub fn flags(&self) -> String {
        self.spec.flags(self.ctx)
    }

    /// Holds the stored answers against the rules of the job, if they were held against others.
    pub(super) fn judge_anew(&self) -> Result<()> {
        if self.store.is_read_only() {
            return Ok(());
        }
        self.counted.set(None);
        judge_anew(&mut self.driver.db.borrow_mut(), &self.spec.rules(self.ctx), self.ctx)
    }

    /// Reads the job's batches, in order.
    pub fn batches(&self) -> Result<Vec<JobBatch>> {
        self.driver.db.borrow().batches()
    }

    /// Counts answered and failed rows.
    pub fn counts(&self) -> Result<(u64, u64)> {
        let counted = match self.counted.get() {
            Some(counted) => counted,
            None => self.driver.db.borrow().counts()?,
        };
        // No other process writes the job while this one holds the lock.
        self.counted.set(Some(counted));
        Ok(counted)
    }

    /// Shows the job's figures to those who watch it, if they have changed.
    pub(super) fn show_metrics(&mut self) -> Result<()> {
        let counts = self.counts()?;
        if self.ctx.telling.wants_metrics() && self.shown != Some(counts) {
            metrics::show(&self.driver.db.borrow(), &self.job, self.ctx)?;
            self.shown = Some(counts);
        }
        Ok(())
    }

    /// Adds stored outcomes to the count.
    pub(super) fn count_in(&self, succeeded: u64, failed: u64) {
        self.counted.set(self.counted.get().map(|(s, f)| (s + succeeded, f + failed)));
    }

    /// Forgets the count, because the store may hold other outcomes by now.
    pub(super) fn forget_counts(&self) {
        self.counted.set(None);
    }

    /// Makes the keys by which the job finds repeated requests. `None`: it sends every row.
    pub(super) fn keys(&self) -> Option<KeyMaker> {
        self.spec.dedupe.then(|| self.key_maker())
    }

    /// Makes the keys of requests to the job's service.
    pub(super) fn key_maker(&self) -> KeyMaker {
        key_maker(&self.spec.identity())
    }

    /// Writes the job's state and counts into the index. `busy`: this process continues with the job.
    pub(super) fn update_index(&mut self, busy: bool) -> Result<JobState> {
        let batches = self.batches()?;
        (self.job.succeeded, self.job.failed) = self.counts()?;
        self.job.state = state_of(&self.job, &batches, busy);
        if !self.store.is_read_only() {
            self.ledger.update(&self.job)?;
        }
        Ok(self.job.state)
    }

    /// Returns the verdict on the job for `command`, without recording it.
    pub fn verdict(&self, command: JobCommand) -> Result<Verdict> {
        Ok(Verdict::of(&JobFacts { command, ..self.facts()? }))
    }

    fn facts(&self) -> Result<JobFacts> {
        let (succeeded, failed) = self.counts()?;
        let rows = RowFacts { succeeded, failed, ..RowFacts::counted(&self.job) };
        Ok(JobFacts::seen(&self.job, rows, &self.batches()?, false))
    }

    /// Records the state of the job for a command that writes no results. Returns the facts for its verdict.
    pub fn record(&mut self) -> Result<JobFacts> {
        let workspace = Workspace { ctx: self.ctx, store: &self.store, ledger: &self.ledger };
        finish::record(workspace, &mut self.job, &self.driver.db.borrow(), &self.spec)
    }

    /// Returns the known cost of the job so far, including requests that may have been billed.
    pub fn spent(&self) -> Result<Nanos> {
        let accounts = JobAccounts::of(self.workspace(), &self.driver.db.borrow(), &self.job, &self.spec)?;
        Ok(accounts.accounts.spent())
    }

    /// Locks the job again and reads the changes of other processes. Returns `false` if one of them works on it.
    ///
    /// # Errors
    /// 1 if another process removed the job meanwhile.
    pub(super) fn relock(&mut self) -> Result<bool> {
        if self.lock.is_held() {
            return Ok(true);
        }
        if !self.lock.retake(&self.store, || self.driver.db.borrow().batches())? {
            return Ok(false);
        }
        let id = &self.job.id;
        let gone = |error: Error| match error.exit {
            crate::error::Exit::Usage => {
                Error::new(crate::error::Exit::Failure, format!("{id} was removed by another llbatch meanwhile"))
            }
            _ => error,
        };
        self.job = self.ledger.find(id).map_err(gone)?;
        self.spec = spec_of(&self.job)?;
        if self.lock.was_changed(self.driver.db.borrow().version()?) {
            self.forget_counts();
        }
        Ok(true)
    }

    /// Commits all work and lets other processes work on the job while this one only waits.
    pub fn unlock(&mut self) -> Result<()> {
        let version = self.driver.db.borrow().version()?;
        self.lock.unlock(version);
        Ok(())
    }

    /// Unlocks the job, but keeps the claim on batches of `scope` that are still to be sent.
    pub(super) fn unlock_but_claim(&mut self, scope: SubmitScope) -> Result<()> {
        let sends = |batch: &JobBatch| match scope {
            SubmitScope::Doubts => false,
            SubmitScope::Postponed => batch.is_postponed(),
            SubmitScope::Due | SubmitScope::All => batch.is_unsent(),
        };
        let unsent = self.batches()?.iter().any(sends);
        if self.lock.claim_unsent(&self.store, unsent)? { self.unlock() } else { Ok(()) }
    }

    /// Settles creations in doubt, and submits the batches of `scope`.
    ///
    /// # Errors
    /// As [`Driver::submit`].
    pub fn submit(&mut self, scope: SubmitScope) -> Result<()> {
        price_uncreated(self)?;
        let done = self.block_on(self.driver.submit(scope));
        self.drop_sent_files()?;
        self.update_index(false)?;
        done
    }

    /// Removes files of batches that the service works on. Until then it may have to be made again.
    fn drop_sent_files(&self) -> Result<()> {
        for batch in self.batches()? {
            let begun = batch.step == BatchStep::Submitted && batch.remote.status != Some(BatchStatus::Validating);
            if begun || batch.step == BatchStep::Settled {
                // A file that cannot be removed does no harm.
                drop(std::fs::remove_file(self.driver.dir.join(&batch.file.name)));
            }
        }
        Ok(())
    }

    /// Polls the batches once. Returns `true` if all have ended.
    ///
    /// # Errors
    /// As [`Driver::refresh`].
    pub fn refresh(&mut self) -> Result<bool> {
        // Ended batches whose results are not here yet are not asked about.
        let unasked = self.batches()?.iter().any(|batch| batch.ended && batch.is_open());
        let ended = self.block_on(self.driver.refresh());
        if ended.is_ok() && !unasked {
            self.record_changes()?;
        }
        self.drop_sent_files()?;
        self.update_index(false)?;
        ended
    }

    /// Asks the service to end the open batches.
    ///
    /// # Errors
    /// As [`Driver::cancel`].
    pub fn cancel(&mut self) -> Result<()> {
        let done = self.block_on(self.driver.cancel());
        self.update_index(false)?;
        done
    }

    /// Removes a job that has sent nothing from the index.
    pub fn forget(&self) -> Result<()> {
        self.store.remove(&self.ledger, &self.job)
    }

    /// Returns true for a batch job that was killed before its batches were planned.
    pub fn is_unplanned(&self) -> Result<bool> {
        Ok(self.facts()?.is_unplanned())
    }

    /// Counts of batches whose results are still to come.
    pub(super) fn open_batches(&self) -> Result<OpenBatches> {
        let mut open = self.batches()?;
        open.retain(JobBatch::is_open);
        let unsent = open.iter().filter(|batch| batch.is_unsent()).count();
        let postponed = open.iter().filter(|batch| batch.is_postponed()).count();
        Ok(OpenBatches { all: open.len(), unsent, postponed })
    }
}

/// Counts of batches whose results are still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenBatches {
    /// All such batches.
    pub all: usize,
    /// Batches that llbatch has not asked the service to create, or that the service did not begin.
    pub unsent: usize,
    /// Those that the service did not begin.
    pub postponed: usize,
}
