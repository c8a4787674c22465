//! The end of a command on a job, one place for both transports.
//!
//! It adds outstanding costs to paid ones, asks for the [`Verdict`], records both in the index and the budgets, and
//! sums up. Realtime runs, batch deliveries, rescues and retries in real time end here.

use std::time::Duration;

use super::spec::{Spec, inputs_of, spec_of};
use super::stop::Stop;
use super::verdict::{BatchFacts, JobCommand, JobFacts, RowFacts, Verdict, is_empty};
use crate::api::is_on_this_machine;
use crate::check::calibrate::{self, SentJob};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::money::{Accounts, Outstanding};
use crate::price::Nanos;
use crate::report::details::DetailsFold;
use crate::report::{Folded, batch_time};
use crate::request::RequestBuilder;
use crate::results::{ResultFiles, SummaryFile};
use crate::row_set::RowSet;
use crate::state_place::StatePlace;
use crate::store::{Job, JobBatch, JobDb, JobState, Ledger, Store, Transport};
use crate::summary::{HttpCounts, JobTime, Summary};
use crate::telling::JobMetrics;

/// The context, the store and the index of a job.
#[derive(Debug, Clone, Copy)]
pub struct Workspace<'a> {
    /// Settings and user interface.
    pub ctx: &'a Ctx,
    /// The state directory.
    pub store: &'a Store,
    /// The index of jobs.
    pub ledger: &'a Ledger,
}

/// The accounts of a job, including outstanding costs.
#[derive(Debug)]
pub(super) struct JobAccounts {
    /// The fold of all outcomes and of outstanding costs.
    pub accounts: Accounts,
    /// The job's batches.
    pub batches: Vec<JobBatch>,
    /// The maximum cost of open batches. Budgets count the batches themselves.
    pub in_batches: Nanos,
    /// The service may still bill something.
    open: bool,
}

impl JobAccounts {
    /// Folds the job's database.
    pub fn of(workspace: Workspace<'_>, db: &JobDb, job: &Job, spec: &Spec) -> Result<Self> {
        let accounts = Accounts::of(db, workspace.ctx.settings.prices.clone(), job.total, &RowSet::default())?;
        Self::with(accounts, workspace, db, job, spec)
    }

    /// Adds outstanding costs to `accounts`.
    pub fn with(accounts: Accounts, workspace: Workspace<'_>, db: &JobDb, job: &Job, spec: &Spec) -> Result<Self> {
        let mut all = Self::paid(accounts);
        all.add_outstanding(workspace, db, job, spec)?;
        Ok(all)
    }

    /// Builds the accounts of a job without outstanding costs.
    pub const fn paid(accounts: Accounts) -> Self {
        Self { accounts, batches: Vec::new(), in_batches: Nanos::ZERO, open: false }
    }

    /// Adds the costs of requests and batches whose results llbatch does not have.
    pub fn add_outstanding(&mut self, workspace: Workspace<'_>, db: &JobDb, job: &Job, spec: &Spec) -> Result<()> {
        let input = || Ok((inputs_of(spec, workspace.store, &job.id)?, RequestBuilder::new(&spec.params)?));
        let outstanding = Outstanding::of_job(db, job.total, &mut self.accounts.prices, input)?;
        self.accounts.add_outstanding(&outstanding);
        self.open = !outstanding.is_empty();
        let batched = outstanding.iter().filter(|requests| requests.transport == Transport::Batch);
        self.in_batches = batched.filter_map(|requests| requests.upper_bound).sum();
        self.batches = db.batches()?;
        Ok(())
    }

    /// Returns true if llbatch has the results of every batch.
    fn all_collected(&self) -> bool {
        !self.batches.iter().any(JobBatch::is_open)
    }

    /// Gathers the facts for a verdict on the job.
    pub fn facts(&self, job: &Job, command: JobCommand, stop: Option<Stop>) -> JobFacts {
        JobFacts {
            transport: job.transport,
            rows: RowFacts::of(job.total, &self.accounts.totals),
            empty: is_empty(job),
            batches: BatchFacts::of(&self.batches),
            command,
            concluded: stop.is_none() || job.state.ended(),
            kept_state: (stop.is_some() && job.state.ended()).then_some(job.state),
            stop,
            busy: false,
        }
    }
}

/// The end of a command on a job.
#[derive(Debug)]
pub(super) struct Finish<'a> {
    /// The workspace of the job.
    pub workspace: Workspace<'a>,
    /// The job's entry.
    pub job: Job,
    /// The record of its command.
    pub spec: &'a Spec,
    /// The command that ends.
    pub command: JobCommand,
    /// The reason for a stop before the end of the job.
    pub stop: Option<Stop>,
    /// Counts of this command's requests; `None` for a command that sends nothing itself.
    pub http: Option<HttpCounts>,
    /// The command writes no results; they stay in the store.
    pub nowhere: bool,
    /// The files that were written.
    pub written: ResultFiles,
    /// The job's database; `None`: it is not open.
    pub db: Option<JobDb>,
    /// The fold of all outcomes beyond the accounts; `None`: the command has not read them all.
    pub details: Option<DetailsFold>,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The summary of the job.
    pub summary: Summary,
    /// The verdict on the job and the command. The summary shows its exit code and its reason.
    pub verdict: Verdict,
    /// The command stopped before the end of its work.
    pub stopped: bool,
    /// The job, if it has ended and this command has written its results.
    delivered: Option<String>,
    /// The files with the results, if they were written.
    pub written: ResultFiles,
}

impl Ended {
    /// The end of a command that belongs to no job.
    pub(super) const fn without_job(summary: Summary, verdict: Verdict, written: ResultFiles) -> Self {
        Self { summary, verdict, stopped: false, delivered: None, written }
    }

    /// Has the last act of the command record that its caller knows the end of the job. Where a kill prevents it, also while
    /// others are told of the end, the same command delivers the job again instead of paying for a new one.
    pub fn record_told_at_last(&self, ctx: &Ctx) {
        // After a failure of the disk, the same command is to deliver the job too.
        let Some(id) = self.delivered.clone().filter(|_| matches!(self.verdict.exit, Exit::Ok | Exit::RowsFailed))
        else {
            return;
        };
        let Ok(StatePlace { dir, mode }) = ctx.settings.state_place() else { return };
        let dir = dir.to_owned();
        ctx.telling.at_last(move || {
            let told = Store::open(StatePlace { dir: &dir, mode })
                .and_then(|store| if store.is_read_only() { Ok(()) } else { store.ledger()?.mark_told(&id) });
            if let Err(error) = told {
                tracing::debug!("{error}");
            }
        });
    }

    /// Writes the file of `--summary`, if the user asked for one, with the exit code that the user asked for.
    pub fn write_summary(mut self, file: SummaryFile, ctx: &Ctx) -> Self {
        if file.tolerates_failures && self.verdict.exit == Exit::RowsFailed {
            (self.verdict.exit, self.summary.exit.code) = (Exit::Ok, Exit::Ok.code());
        }
        match file.write(&self.summary) {
            Ok(path) => {
                self.written.summary = path;
                self
            }
            Err(error) => {
                ctx.ui.error(&error);
                self.verdict = self.verdict.and(&error);
                (self.summary.exit.code, self.summary.exit.reason) =
                    (self.verdict.exit.code(), self.verdict.reason.clone());
                self
            }
        }
    }
}

impl Finish<'_> {
    /// Decides, records and sums up. `realtime` is the time of the requests that the summary shows.
    pub(super) fn conclude(mut self, accounts: &JobAccounts, realtime: Duration) -> Ended {
        let mut facts = accounts.facts(&self.job, self.command, self.stop.clone());
        if facts.kept_state.is_none()
            && let Err(error) = self.record(&Verdict::of(&facts), accounts)
        {
            self.fail(&error);
            facts = accounts.facts(&self.job, self.command, self.stop.clone());
        }
        let verdict = Verdict::of(&facts);
        let time = JobTime { batches: batch_time(&accounts.batches), realtime };
        let mut meta = verdict.meta(&self.job, self.spec, time, self.workspace.ctx);
        meta.batched = accounts.batches.iter().any(|batch| batch.remote.id.is_some());
        let mut summary = accounts.accounts.totals.summary(&meta);
        let shown = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        (summary.output, summary.errors_output) = (shown(&self.written.results), shown(&self.written.errors));
        if verdict.state.ended() && accounts.all_collected() {
            let learned = self.learn();
            // A realtime run has shown no estimate, so nothing was off.
            summary.estimate_off = learned.filter(|_| self.job.estimate.is_some());
        }
        match self.http {
            Some(http) => summary.http = http,
            // A run has shown what it counted itself, with the requests of earlier runs.
            None => show_metrics(self.workspace.ctx, &self.job.id, accounts),
        }
        let delivered = self.delivers(&verdict, accounts).then(|| self.job.id.clone());
        Ended { summary, verdict, stopped: self.stop.is_some(), delivered, written: self.written }
    }

    /// Returns true if the job has ended and the command has written its results.
    fn delivers(&self, verdict: &Verdict, accounts: &JobAccounts) -> bool {
        self.stop.is_none() && !self.nowhere && verdict.state.ended() && accounts.all_collected()
    }

    /// Shows the error that ends the command, once.
    pub fn fail(&mut self, error: &Error) {
        let said = self.stop.as_ref().is_some_and(|stop| stop.exit == Exit::Io) && error.exit == Exit::Io;
        if error.exit != Exit::ClosedPipe && !said {
            self.workspace.ctx.ui.error(error);
        }
        if !said {
            self.stop = Some(Stop::by(error));
        }
    }

    fn record(&mut self, verdict: &Verdict, accounts: &JobAccounts) -> Result<()> {
        let written = self.delivers(verdict, accounts);
        let job = &mut self.job;
        let untold = written && !(job.delivered && job.state.ended());
        job.exit = Some(verdict.exit.code());
        let unseen = self.nowhere && self.http.as_ref().is_some_and(|http| http.sent > 0);
        job.delivered = (job.delivered || written) && !unseen;
        set_state(job, verdict.state, accounts);
        if self.workspace.store.is_read_only() {
            return Ok(());
        }
        self.workspace.ledger.decide(|| {
            record_entry(self.workspace, job, accounts)?;
            if untold { self.workspace.ledger.mark_untold(&job.id) } else { Ok(()) }
        })?;
        let mut db = match self.db.take() {
            Some(db) => db,
            None => self.workspace.store.open_job(&job.id)?,
        };
        let totals = self.totals(verdict, accounts);
        db.put_end(&self.job, totals.as_deref())?;
        db.close()
    }

    /// The totals of a job that has ended, to be kept with it.
    fn totals(&mut self, verdict: &Verdict, accounts: &JobAccounts) -> Option<Vec<u8>> {
        let details = self.details.take()?;
        let ended = self.stop.is_none() && verdict.state.ended() && accounts.all_collected() && !accounts.open;
        let totals = accounts.accounts.totals.clone();
        ended.then(|| Folded { totals, details }.to_keep(&self.workspace.ctx.settings.prices))
    }

    /// Compares the estimated tokens of the job with the reported ones. A missing input is not an error here.
    fn learn(&self) -> Option<f64> {
        if !compares_estimates(self.spec, &self.job, self.job.succeeded) {
            return None;
        }
        let teaches = teaches(self.spec, self.job.succeeded);
        let Workspace { store, ledger, .. } = self.workspace;
        let learned = inputs_of(self.spec, store, &self.job.id).and_then(|inputs| {
            let builder = RequestBuilder::new(&self.spec.params)?;
            let job = SentJob { id: &self.job.id, teaches, inputs: &inputs, builder: &builder };
            calibrate::learn(&job, &store.open_job(&self.job.id)?, ledger)
        });
        learned.unwrap_or_else(|error| {
            tracing::debug!("{error}");
            None
        })
    }
}

/// Returns true if the answers of a job correct later estimates. Test servers count in ways of their own.
fn teaches(spec: &Spec, answered: u64) -> bool {
    !is_on_this_machine(&spec.service) && answered >= calibrate::FEWEST
}

/// Returns true if the end of a job with so many answers compares estimated tokens with reported ones. The tables for that
/// take as long as a small run.
pub(super) fn compares_estimates(spec: &Spec, job: &Job, answered: u64) -> bool {
    teaches(spec, answered) || job.estimate.is_some()
}

/// Records the state of a job for a command that writes no results. Returns the facts for its verdict.
pub fn record(workspace: Workspace<'_>, job: &mut Job, db: &JobDb, spec: &Spec) -> Result<JobFacts> {
    let accounts = JobAccounts::of(workspace, db, job, spec)?;
    let rows = RowFacts::of(job.total, &accounts.accounts.totals);
    let facts = JobFacts::seen(job, rows, &accounts.batches, false);
    show_metrics(workspace.ctx, &job.id, &accounts);
    set_state(job, facts.state(), &accounts);
    if !workspace.store.is_read_only() {
        record_entry(workspace, job, &accounts)?;
        workspace.store.open_job(&job.id)?.put_entry(job)?;
    }
    Ok(facts)
}

/// Shows the figures of a job to those who watch it.
fn show_metrics(ctx: &Ctx, job: &str, accounts: &JobAccounts) {
    if ctx.telling.wants_metrics() {
        ctx.telling.show(JobMetrics::of(job, &accounts.accounts.totals).in_flight(0));
    }
}

/// Sets the state, the counts and the cost of a job.
fn set_state(job: &mut Job, state: JobState, accounts: &JobAccounts) {
    let totals = &accounts.accounts.totals;
    (job.state, job.succeeded, job.failed, job.cost) = (state, totals.succeeded(), totals.failed(), totals.usd());
}

/// Writes the entry of a job into the index, and its cost into the history.
fn record_entry(workspace: Workspace<'_>, job: &Job, accounts: &JobAccounts) -> Result<()> {
    workspace.ledger.decide(|| {
        accounts.accounts.record(job, workspace.ledger)?;
        workspace.ledger.update(job)
    })
}

/// Records the cost of killed commands. A realtime run leaves a claim; a batch command leaves answers that the history
/// lacks. The states of the jobs stay as they are, and a job that has a lock holder stays unchanged.
pub fn record_killed(workspace: Workspace<'_>) -> Result<()> {
    for job in workspace.ledger.recent(u32::MAX)? {
        // A command may have been killed after it had stored the last answers, and before it recorded their cost.
        let whole = job.state.ended() && workspace.ledger.recorded_rows(&job.id)? >= job.succeeded;
        if whole || !workspace.store.has_job(&job.id) {
            continue;
        }
        // One unreadable job must not hide the cost of the others.
        if let Err(error) = record_cost(workspace, job) {
            workspace.ctx.ui.warn(&error.to_string());
        }
    }
    Ok(())
}

fn record_cost(workspace: Workspace<'_>, mut job: Job) -> Result<()> {
    if workspace.store.in_use(&job.id) {
        return Ok(());
    }
    let db = workspace.store.open_job(&job.id)?;
    let counts = db.counts()?;
    if !db.has_claim()? && workspace.ledger.recorded_rows(&job.id)? >= counts.0 {
        return Ok(());
    }
    let accounts = JobAccounts::of(workspace, &db, &job, &spec_of(&job)?)?;
    // Locks the job only now: to add up millions of rows takes seconds, and a run that starts meanwhile must not fail.
    let Some(_lock) = workspace.store.lock(&job.id)? else { return Ok(()) };
    if workspace.ledger.find(&job.id)?.updated_at != job.updated_at {
        return Ok(());
    }
    accounts.accounts.record(&job, workspace.ledger)?;
    let usd = accounts.accounts.totals.usd();
    // An update renews the age of the job, so one without a change must not happen.
    if (job.succeeded, job.failed, job.cost) != (counts.0, counts.1, usd) {
        (job.succeeded, job.failed, job.cost) = (counts.0, counts.1, usd);
        workspace.ledger.update(&job)?;
    }
    Ok(())
}
