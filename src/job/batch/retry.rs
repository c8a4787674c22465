//! A retry: sends the failed rows again within the same job, as new batches or in real time.

use std::cell::RefCell;

use super::admit::{admit_retry, admit_unsent};
use super::plan::{PlanInput, plan};
use super::session::{Session, SessionOptions};
use super::unended::{early_end, unended};
use crate::batch::driver::SubmitScope;
use crate::check::calibrate::Factors;
use crate::check::estimate::{RowInspector, SummedRows};
use crate::check::quote::{Counting, PriceBasis, Quote};
use crate::check::repeats::RepeatSearch;
use crate::check::{Checked, Pass};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::ask::{CostLimit, RetryFilter, Role, RunAsk};
use crate::job::earlier_answers::EarlierAnswers;
use crate::job::finish::Ended;
use crate::job::lost::LostRows;
use crate::job::remote::Remote;
use crate::job::resume::{Checking, JobRows};
use crate::job::run::run;
use crate::job::verdict::JobCommand;
use crate::price::Nanos;
use crate::realtime;
use crate::row_set::RowSet;
use crate::store::{BatchStep, Job, JobBatch, LockWait, ReservationState, Transport};
use crate::text;

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
    /// Rows among the failed ones that have no valid request.
    pub invalid: u64,
    /// The cost of the rows.
    pub quote: Quote,
    /// The findings of a pass over all rows of the job. `None`: there was no row to look at.
    checked: Option<Checked>,
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
        keep_input(&mut session)?;
        account_lost(&session)?;
    }
    let first = if ask.dry_run { unsent_rows(&session, batch)? } else { None };
    let set = retry_set(&session, ask.all, if batch { Transport::Batch } else { Transport::Realtime })?;
    if let Some(first) = &first {
        ctx.ui.note(&format!("{id}: {first}; a retry sends them first"));
    }
    if first.is_none() || !set.is_nothing() {
        ctx.ui.note(&format!("{id}: {}", set.summary(batch)));
    }
    if set.rows.is_empty() {
        announce(&id)?;
        // A dry run of a job with batches to submit has looked at them only.
        let only_looked = ask.dry_run && session.open_batches()?.all > 0;
        return if only_looked { Ok(Retried::Priced) } else { submitted(&session) };
    }
    if ask.dry_run {
        return Ok(Retried::Priced);
    }
    session.store.must_be_writable()?;
    announce(&id)?;
    match ask.via {
        Via::Batch => {
            let reservation = admit_retry(&session, &set, ask.limit)?;
            plan_retry(&mut session, &set, reservation, None)?;
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
        give_up_postponed(session)?;
    }
    let open = session.open_batches()?;
    if ask.dry_run && open.unsent > 0 && open.unsent == open.all {
        return Ok(());
    }
    if open.unsent > 0 && !ask.dry_run {
        // The submission was interrupted. Finishing it comes first and may be enough.
        admit_unsent(session, ask.limit, Nanos::ZERO)?;
        session.ctx.ui.note(&format!("{id}: submitting the batches that its command did not reach"));
        session.submit(SubmitScope::All)?;
        session.submitted(true)?;
    }
    if !session.advance(SubmitScope::Doubts)?.has_ended()? {
        let verdict = session.verdict(JobCommand::Retry)?;
        return Err(early_end(session, &verdict, unended(session)?));
    }
    if !ask.dry_run {
        // Rows that the service has answered after all are not paid again.
        session.take_late_answers()?;
    }
    let endpoint = session.spec.params.endpoint;
    if batch && !endpoint.in_batches() {
        return Err(Error::usage(format!("llbatch sends batches for chat and audio only; {id} uses {endpoint}"))
            .hint("pass --via realtime"));
    }
    Ok(())
}

/// Describes the rows and the cost of the batches that a retry submits before it sends a failed row. A retry in real time
/// gives postponed batches up instead.
fn unsent_rows(session: &Session<'_>, batch: bool) -> Result<Option<String>> {
    let mut batches = session.batches()?;
    batches.retain(|unsent| unsent.is_unsent() && (batch || !unsent.is_postponed()));
    if batches.is_empty() {
        return Ok(None);
    }
    let mut rows = Vec::new();
    for batch in &batches {
        rows.extend(session.driver.db.borrow().asked(batch.number)?.into_iter().map(|asked| asked.row));
    }
    rows.sort_unstable();
    let set = priced(session, rows, 0, Transport::Batch)?;
    let (count, are) = (set.rows.len() as u64, text::agree(set.rows.len() as u64, "is", "are"));
    let (rows, batches) = (text::plural(count, "row"), text::batches(batches.len()));
    let (cost, more) = (set.quote.shown(), set.quote.left_out());
    Ok(Some(format!("{rows} in {batches} {are} not sent yet, {cost}{more} at the batch price")))
}

/// Ends batches that the service did not begin, so that their rows can be sent in real time.
fn give_up_postponed(session: &mut Session<'_>) -> Result<()> {
    for mut batch in session.batches()?.into_iter().filter(JobBatch::is_postponed) {
        batch.step = BatchStep::Refused;
        batch.ended = true;
        session.driver.db.borrow_mut().save_batch(&batch)?;
    }
    Ok(())
}

/// Copies the input of a job that ran in real time, so that it can go on in batches.
///
/// # Errors
/// 65 if the input has changed, 66 if it is gone.
pub(super) fn keep_input(session: &mut Session<'_>) -> Result<()> {
    if !session.spec.kept.is_empty() {
        return Ok(());
    }
    let inputs = session.inputs()?;
    let stamp = inputs.stamp();
    same_input(session)?;
    let kept = inputs.keep(&session.driver.dir)?;
    if inputs.stamp() != stamp {
        return Err(changed(session));
    }
    session.spec.kept = kept;
    session.job.spec = session.spec.describe()?;
    session.ledger.update(&session.job)
}

/// Accounts for the requests that a killed run had in flight, before its rows go into batches.
///
/// # Errors
/// 66 if the input is gone.
pub fn account_lost(session: &Session<'_>) -> Result<()> {
    let mut db = session.driver.db.borrow_mut();
    if !db.has_claim()? {
        return Ok(());
    }
    let mut awaited = RowSet::new(session.job.total);
    db.each_awaited(|row| _ = awaited.insert(row))?;
    let rows = JobRows { inputs: &session.inputs()?, builder: &session.builder()? };
    // A changed input has been refused, or the job has a copy of its own. The rows in flight may have changed all the same.
    let table = Some(&session.ctx.settings.prices);
    let found = rows.check(
        None,
        Checking {
            service: &session.spec.service,
            listed: 0,
            table,
            fields: false,
            keys: None,
            clean: None,
            keep_in: None,
        },
    )?;
    let same_input = found.has_requests(session.spec.content.as_deref()).unwrap_or(true);
    LostRows { rows, awaited: &awaited, same_input }.account(&mut db, session.ctx)?;
    db.settle_aside()?;
    drop(db);
    session.forget_counts();
    Ok(())
}

fn changed(session: &Session<'_>) -> Error {
    Error::new(Exit::Data, format!("the input of {} has changed since it ran", session.job.id))
        .hint("`llbatch run INPUT --resume` sends the changed rows; `llbatch submit INPUT` starts a new job")
}

/// Checks that the answers of a realtime job still fit the rows of its input.
///
/// # Errors
/// 65 if they do not, 66 if the input is gone.
pub(super) fn same_input(session: &Session<'_>) -> Result<()> {
    let db = session.store.open_job(&session.job.id)?;
    let rows = JobRows { inputs: &session.inputs()?, builder: &session.builder()? };
    let how = Checking {
        service: &session.spec.identity(),
        listed: 0,
        table: None,
        fields: false,
        keys: None,
        clean: None,
        keep_in: None,
    };
    let found = rows.check(Some(db), how)?;
    if found.checked.rows != session.job.total || found.resumed.is_some_and(|resumed| !resumed.is_same()) {
        return Err(changed(session));
    }
    Ok(())
}

/// Finds the rows without an answer that can be sent. Of the failed rows, it takes those that a retry may answer, or
/// `all`. Rows of open batches belong to those batches. Only a retry in real time takes them from postponed batches.
pub(super) fn retry_set(session: &Session<'_>, all: bool, transport: Transport) -> Result<RetrySet> {
    let (mut left, mut awaited) = (0, RowSet::new(session.job.total));
    let db = session.driver.db.borrow();
    let keeps = |batch: &JobBatch| transport == Transport::Batch || !batch.is_postponed();
    db.each_awaited_by(keeps, |row| _ = awaited.insert(row))?;
    let mut followers = Vec::new();
    db.each_waiting(|row, leader| followers.extend(awaited.contains(leader).then_some(row)))?;
    for row in followers {
        awaited.insert(row);
    }
    let mut rows = db.to_do(session.job.total, |code| {
        let take = all || !code.is_permanent();
        left += u64::from(!take);
        take
    })?;
    drop(db);
    rows.retain(|row| !awaited.contains(*row));
    priced(session, rows, left, transport)
}

/// Prices these rows of the job, which are in ascending order.
pub fn priced(session: &Session<'_>, mut rows: Vec<u64>, left: u64, transport: Transport) -> Result<RetrySet> {
    if rows.is_empty() {
        return Ok(RetrySet { rows, left, invalid: 0, quote: Quote::default(), checked: None });
    }
    let (inputs, builder) = (session.inputs()?, session.builder()?);
    // Of a few rows of a large input, all are counted.
    let share = rows.len() as f64 / session.job.total.max(1) as f64;
    let bytes = (inputs.total_bytes().unwrap_or(0) as f64 * share) as u64;
    let (table, counting) = (&session.ctx.settings.prices, counting(session));
    let inspector = RowInspector::new(bytes, counting.estimator, table);
    let keys = session.keys();
    let pass = Pass { max_problems: 0, keys: keys.as_ref(), ..Pass::new(&inputs, &builder) };
    let wanted = |row| rows.binary_search(&row).is_ok();
    let mut sent = SummedRows::of(&pass, &inspector, &wanted)?;
    let asked = rows.len() as u64;
    let good = std::mem::take(&mut sent.rows);
    if let Some(keys) = &keys {
        // A repeated request costs nothing.
        let search = RepeatSearch { pass: &pass, checked: &sent.checked, keys, inspector: &inspector, dir: None };
        let repeats = search.run(&mut |_| Ok(()))?;
        if rows.iter().any(|row| repeats.is_follower(*row)) {
            let pass = Pass { keys: None, ..pass };
            let leaders = SummedRows::of(&pass, &inspector, &|row| wanted(row) && !repeats.is_follower(row))?;
            sent.estimate = leaders.estimate;
        }
    }
    rows.retain(|row| good.contains(*row));
    let quote = Quote::of(sent.estimate, PriceBasis { table, counting: &counting }, transport);
    Ok(RetrySet { invalid: asked - rows.len() as u64, rows, left, quote, checked: Some(sent.checked) })
}

/// Returns the way of counting tokens: corrected by what earlier jobs of the account have taught.
pub fn counting(session: &Session<'_>) -> Counting<'static> {
    let service = session.spec.service_name.as_ref().unwrap_or(&session.spec.service);
    let factors = Factors::of(&session.ledger, service, &session.driver.options.account);
    Counting::usual(factors.unwrap_or_else(|error| {
        tracing::debug!("{error}");
        Factors::default()
    }))
}

/// Plans batches for these rows and releases their reservation.
pub(super) fn plan_retry(
    session: &mut Session<'_>,
    set: &RetrySet,
    reservation: i64,
    earlier: Option<&RefCell<EarlierAnswers>>,
) -> Result<()> {
    let (inputs, builder) = (session.inputs()?, session.builder()?);
    let keys = session.keys();
    let keys = keys.as_ref();
    let Some(checked) = &set.checked else { return Ok(()) };
    let only = |row| set.rows.binary_search(&row).is_ok();
    let input =
        PlanInput { inputs: &inputs, builder: &builder, checked, only: Some(&only), retry: true, keys, earlier };
    plan(session, input, &mut |_| {})?;
    let mut batches = session.batches()?;
    batches.retain(|batch| batch.step == BatchStep::Planned);
    let mut db = session.driver.db.borrow_mut();
    for batch in &mut batches {
        batch.cost.admitted = true;
        db.put_batch(batch)?;
    }
    db.commit(true)?;
    drop(db);
    // From here on, budgets count the batches themselves.
    session.ledger.set_reservation(reservation, Nanos::ZERO, ReservationState::AtRisk)?;
    session.job.delivered = false;
    session.ledger.update(&session.job)
}

impl RetrySet {
    /// Returns true if there is no failed row to report either.
    const fn is_nothing(&self) -> bool {
        self.rows.is_empty() && self.left == 0 && self.invalid == 0
    }

    /// Describes in one line which rows are sent again and which are not.
    fn summary(&self, batch: bool) -> String {
        let left = match self.left {
            0 => String::new(),
            n => format!("; {} failed permanently (--all sends those too)", text::plural(n, "row")),
        };
        let invalid = match self.invalid {
            0 => String::new(),
            n => format!("; {} {} no valid request", text::plural(n, "row"), text::agree(n, "has", "have")),
        };
        if self.rows.is_empty() {
            return format!("no rows to send again{left}{invalid}");
        }
        let price = if batch { "at the batch price" } else { "at the realtime price" };
        let (rows, cost) = (text::plural(self.rows.len() as u64, "row"), self.quote.shown());
        format!("{rows} to send again, {cost}{} {price}{left}{invalid}", self.quote.left_out())
    }
}
