//! A retry: sends the failed rows again within the same job, as new batches or in real time.

use std::sync::Arc;

use super::plan::PlanInput;
use super::session::{Session, SessionOptions};
use crate::batch::driver::SubmitScope;
use crate::check::Pass;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::Inputs;
use crate::job::ask::{CostLimit, RetryFilter, Role, RunAsk};
use crate::job::finish::Ended;
use crate::job::remote::Remote;
use crate::job::resume::{Checking, JobRows};
use crate::job::run::run;
use crate::job::verdict::JobCommand;
use crate::outcome::Usage;
use crate::price::{Nanos, PriceBook, PriceTable};
use crate::realtime;
use crate::request::{Draft, Endpoint, RequestBuilder};
use crate::row_set::RowSet;
use crate::store::{BatchStep, Job, JobBatch, LockWait, ReservationState, Transport};
use crate::text;
use crate::tokens::{self, Estimator};

/// A request to send the failed rows of a job again.
#[derive(Debug)]
pub struct RetryAsk {
    /// The job.
    pub job: Job,
    /// The transport of the retry.
    pub via: Via,
    /// Also send rows that failed permanently.
    pub all: bool,
    /// Only show the cost.
    pub dry_run: bool,
    /// Limits of cost.
    pub limit: CostLimit,
    /// Maximum wait for the lock holder of the job.
    pub wait: LockWait,
}

/// The transport of a retry.
#[derive(Debug)]
pub enum Via {
    /// As new batches.
    Batch,
    /// In real time.
    Realtime(Box<realtime::SpeedOptions>),
}

/// A retry that has ended.
#[derive(Debug)]
pub enum Retried {
    /// A dry run. It has shown the cost and changed nothing, so there is no verdict: it succeeded.
    Priced,
    /// The service has the new batches, or there was no row to send.
    Submitted { exit: Exit, hint: Option<String> },
    /// The rows were sent in real time. The store has the results.
    Answered { ended: Box<Ended>, hint: Option<String> },
}

/// Rows to send again, with their cost.
#[derive(Debug)]
pub struct RetrySet {
    /// The rows, ascending.
    pub rows: Vec<u64>,
    /// Failed rows that stay unchanged.
    pub left: u64,
    /// Cost of estimated prompts and of answers up to their `max_tokens`. `None`: a price is unknown.
    pub cost: Option<Nanos>,
    /// The same without rows of unknown price.
    pub priced: Nanos,
    /// The maximum cost. `None`: a price is unknown.
    pub most: Option<Nanos>,
    /// A model without a known price, if there is one.
    pub unpriced: String,
}

/// Sends the failed rows of a job again. It calls `announce` with the job's id before it sends anything, or when there
/// is nothing to send.
///
/// # Errors
/// 75 if the job has not ended, 5 beyond a budget, 2 for a job that batches do not serve.
pub fn retry(ask: RetryAsk, remote: Remote<'_>, ctx: &Ctx, announce: &dyn Fn(&str) -> Result<()>) -> Result<Retried> {
    let id = ask.job.id.clone();
    let batch = matches!(ask.via, Via::Batch);
    let options = SessionOptions { wait: ask.wait, ..SessionOptions::default() };
    let mut session = Session::open(&ask.job, remote, ctx, options)?;
    bring_to_end(&mut session, &ask)?;
    session.record()?;
    if !ask.dry_run && batch {
        session.keep_input()?;
        session.account_lost()?;
    }
    let set = session.retry_set(ask.all, if batch { Transport::Batch } else { Transport::Realtime })?;
    ctx.ui.note(&format!("{id}: {}", set.summary(batch)));
    if set.rows.is_empty() {
        announce(&id)?;
        return submitted(&session);
    }
    if ask.dry_run {
        return Ok(Retried::Priced);
    }
    session.store.must_be_writable()?;
    announce(&id)?;
    match ask.via {
        Via::Batch => {
            let reservation = session.admit_retry(&set, ask.limit)?;
            session.plan_retry(&set.rows, reservation)?;
            session.submit(SubmitScope::All)?;
            session.progress.finish();
            submitted(&session)
        }
        Via::Realtime(speed) => {
            let flags = session.flags();
            drop(session);
            let part = RunAsk::part_of(id.clone(), Role::Retry, ask.limit, ask.wait, *speed);
            let filter = if ask.all { RetryFilter::All } else { RetryFilter::Retryable };
            let ended = Box::new(run(RunAsk { retry: filter, ..part }, remote, ctx)?);
            let hint = ended.verdict.steps.map(|steps| steps.text(&id, &flags));
            Ok(Retried::Answered { ended, hint })
        }
    }
}

fn submitted(session: &Session<'_>) -> Result<Retried> {
    let verdict = session.submitted(true)?;
    let hint = verdict.steps.map(|steps| steps.text(&session.job.id, &session.flags()));
    Ok(Retried::Submitted { exit: verdict.exit, hint })
}

/// Submits batches that the job's command left unsent, and collects the ended ones.
fn bring_to_end(session: &mut Session<'_>, ask: &RetryAsk) -> Result<()> {
    let id = session.job.id.clone();
    let batch = matches!(ask.via, Via::Batch);
    if !batch && !ask.dry_run {
        session.give_up_postponed()?;
    }
    let open = session.open_batches()?;
    if ask.dry_run && open.unsent > 0 && open.unsent == open.all {
        return Ok(());
    }
    if open.unsent > 0 && !ask.dry_run {
        // The submission was interrupted. Finishing it comes first and may be enough.
        session.admit_unsent(ask.limit)?;
        session.ctx.ui.note(&format!("{id}: submitting the batches that its command did not reach"));
        session.submit(SubmitScope::All)?;
        session.submitted(true)?;
    }
    if !session.advance(SubmitScope::Doubts)? {
        let verdict = session.verdict(JobCommand::Retry)?;
        return Err(session.error(&verdict, session.unended()?));
    }
    let endpoint = session.spec.params.endpoint;
    if batch && !endpoint.in_batches() {
        return Err(Error::usage(format!("{id} uses {endpoint}, which Together's batch API does not serve"))
            .hint("pass --via realtime"));
    }
    Ok(())
}

impl Session<'_> {
    /// Ends batches that the service did not begin, so that their rows can be sent in real time.
    fn give_up_postponed(&mut self) -> Result<()> {
        for mut batch in self.batches()?.into_iter().filter(JobBatch::is_postponed) {
            batch.step = BatchStep::Refused;
            batch.ended = true;
            self.driver.db.borrow_mut().save_batch(&batch)?;
        }
        Ok(())
    }

    /// Copies the input of a job that ran in real time, so that it can go on in batches.
    ///
    /// # Errors
    /// 65 if the input has changed, 66 if it is gone.
    pub fn keep_input(&mut self) -> Result<()> {
        if !self.spec.kept.is_empty() {
            return Ok(());
        }
        let inputs = self.inputs()?;
        let stamp = inputs.stamp();
        self.same_input()?;
        let kept = inputs.keep(&self.driver.dir)?;
        if inputs.stamp() != stamp {
            return Err(self.changed());
        }
        self.spec.kept = kept;
        self.job.spec = self.spec.describe()?;
        self.ledger.update(&self.job)
    }

    /// Accounts for the requests that a killed run had in flight, before its rows go into batches.
    ///
    /// # Errors
    /// 66 if the input is gone.
    pub fn account_lost(&mut self) -> Result<()> {
        let mut db = self.driver.db.borrow_mut();
        if db.claimed()? == 0 {
            return Ok(());
        }
        let mut awaited = RowSet::new(self.job.total);
        db.each_awaited(|row| _ = awaited.insert(row))?;
        let rows = JobRows { inputs: &self.inputs()?, shape: &self.shape()? };
        rows.account_lost(&mut db, self.job.total, &awaited, self.ctx)?;
        db.settle_aside()?;
        drop(db);
        self.forget_counts();
        Ok(())
    }

    fn changed(&self) -> Error {
        Error::new(Exit::Data, format!("the input of {} has changed since it ran", self.job.id))
            .hint("`llbatch run INPUT --resume` sends the changed rows; `llbatch submit INPUT` starts a new job")
    }

    /// Checks that the answers of a realtime job still fit the rows of its input.
    ///
    /// # Errors
    /// 65 if they do not, 66 if the input is gone.
    pub fn same_input(&self) -> Result<()> {
        let db = self.store.open_job(&self.job.id)?;
        let rows = JobRows { inputs: &self.inputs()?, shape: &self.shape()? };
        let how = Checking { service: &self.spec.service, listed: 0, table: None, clean: None };
        let found = rows.check(Some(db), how)?;
        if found.checked.rows != self.job.total || found.resumed.is_some_and(|resumed| !resumed.is_same()) {
            return Err(self.changed());
        }
        Ok(())
    }

    /// Finds the rows without an answer. Of the failed rows, it takes those that a retry may answer, or `all`.
    pub fn retry_set(&self, all: bool, transport: Transport) -> Result<RetrySet> {
        let mut left = 0;
        let rows = self.driver.db.borrow().to_do(self.job.total, |code| {
            let take = all || !code.is_permanent();
            left += u64::from(!take);
            take
        })?;
        let mut set = RetrySet::of(rows, left);
        set.price(&self.inputs()?, &*self.shape()?, transport, &self.ctx.settings.prices)?;
        Ok(set)
    }

    /// Plans batches for these rows and releases their reservation.
    pub fn plan_retry(&mut self, rows: &[u64], reservation: i64) -> Result<()> {
        let (inputs, shape) = (self.inputs()?, self.shape()?);
        let checked = Pass { max_problems: 0, ..Pass::new(&inputs, &shape) }.run()?;
        let only = |row| rows.binary_search(&row).is_ok();
        let input = PlanInput { inputs: &inputs, shape: &shape, checked: &checked, only: Some(&only), retry: true };
        self.plan(input, &mut |_| {})?;
        let mut batches = self.batches()?;
        batches.retain(|batch| batch.step == BatchStep::Planned);
        let mut db = self.driver.db.borrow_mut();
        for batch in &mut batches {
            batch.admitted = true;
            db.put_batch(batch)?;
        }
        db.commit(true)?;
        drop(db);
        // From here on, budgets count the batches themselves.
        self.ledger.set_reservation(reservation, Nanos::ZERO, ReservationState::AtRisk)?;
        self.job.delivered = false;
        self.ledger.update(&self.job)
    }
}

impl RetrySet {
    /// Builds a set of these rows, without prices yet.
    pub fn of(rows: Vec<u64>, left: u64) -> Self {
        let zero = Some(Nanos::ZERO);
        Self { rows, left, cost: zero, priced: Nanos::ZERO, most: zero, unpriced: String::new() }
    }

    /// Sums up the cost of the rows in batches or in real time.
    pub fn price(
        &mut self,
        inputs: &Inputs,
        shape: &RequestBuilder,
        transport: Transport,
        table: &PriceTable,
    ) -> Result<()> {
        let mut prices = PriceBook::new(table.clone());
        let inspect = |draft: &Draft<'_>| -> (Arc<str>, Usage, Option<u64>) {
            let usage = Usage::new(
                Estimator::shared().request(&draft.body, draft.endpoint == Endpoint::Chat),
                draft.answer_bound().unwrap_or(0),
            );
            let media = tokens::Media::of(&draft.body);
            // A part without a known bound costs an unknown amount.
            let bound = media
                .unbounded
                .is_none()
                .then(|| tokens::bound_with(&draft.body, &media, table.image_tokens(&draft.model)));
            (shape.shared(&draft.model), usage, bound)
        };
        Pass { max_problems: 0, ..Pass::new(inputs, shape) }.inspect(&inspect, &mut |row, found| {
            let Some((model, about, bound)) =
                found.map(|found| found.value).filter(|_| self.rows.binary_search(&row).is_ok())
            else {
                return;
            };
            let cost = prices.cost(&model, transport, about);
            self.cost = self.cost.zip(cost).map(|(sum, cost)| sum + cost);
            self.priced += cost.unwrap_or_default();
            let most = bound.and_then(|prompt| prices.most(&model, transport, Usage { prompt, ..about }, 1));
            if most.is_none() {
                self.unpriced = model.to_string();
            }
            self.most = self.most.zip(most).map(|(sum, cost)| sum + cost);
        })?;
        Ok(())
    }

    /// Describes in one line which rows are sent again and which are not.
    fn summary(&self, batch: bool) -> String {
        let left = match self.left {
            0 => String::new(),
            n => format!("; {} failed permanently (--all sends those too)", text::plural(n, "row")),
        };
        if self.rows.is_empty() {
            return format!("no rows to send again{left}");
        }
        let price = if batch { "at the batch price" } else { "at the realtime price" };
        let cost = self.cost.map_or_else(|| "an unknown amount".to_owned(), |usd| format!("about {}", usd.human()));
        format!("{} to send again, {cost} {price}{left}", text::plural(self.rows.len() as u64, "row"))
    }
}
