//! A job of a submission, from the check of its input to its planned batches.

use std::cell::RefCell;

use super::admit::{admit_retry, admit_unsent};
use super::ask::SubmitAsk;
use super::plan::{PlanInput, plan};
use super::retry::{account_lost, keep_input, plan_retry, priced, retry_set};
use super::session::{Session, SessionOptions};
use super::submission::Submission;
use super::submitted::{free_name, living, revive_refused, take_name};
use crate::batch::driver::SubmitScope;
use crate::check::groups::ProblemGroups;
use crate::check::problems::{self, Action};
use crate::check::quote::Quote;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input;
use crate::job::ask::CostLimit;
use crate::job::earlier_answers::EarlierAnswers;
use crate::job::finish::Workspace;
use crate::job::found_repeats::FoundRepeats;
use crate::job::identity::Requests;
use crate::job::own;
use crate::job::remote::Remote;
use crate::job::spec::Spec;
use crate::job::verdict::state_of;
use crate::money::budget;
use crate::price::Nanos;
use crate::results::RecordColumns;
use crate::row_set::RowSet;
use crate::store::{BatchStep, Job, Lock, LockWait, Store, Transport};
use crate::text;

/// A job of this submission in the index.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    pub(super) session: Session<'a>,
    /// An earlier command made the job.
    pub(super) known: bool,
    /// The job had ended, and this command sends its failed rows again.
    resumed: bool,
    /// The cost of the rows that are sent.
    quote: Quote,
    /// The words about rows that are not sent, because their requests are repeated.
    repeats: String,
    /// Parameters that rows set themselves.
    own: Vec<&'static str>,
}

/// Planned batches of a new job.
#[derive(Debug, Default)]
struct PlannedCopy {
    quote: Quote,
    repeats: String,
    /// The most that the rows for realtime can cost.
    later: Nanos,
}

/// Checks the inputs and enters a job with planned batches into the index, or finds the active job of the same content.
/// It sends nothing.
pub(super) fn enter<'a>(ask: &SubmitAsk, remote: Remote<'a>, ctx: &'a Ctx) -> Result<Entered<'a>> {
    let store = Store::open(ctx.settings.state_place()?)?;
    store.must_be_writable()?;
    let ledger = store.ledger()?;
    let workspace = Workspace { ctx, store: &store, ledger: &ledger };
    let progress = ctx.ui.progress(ask.session().results);
    let submission = Submission::of(ask, &remote.identity(), workspace, &progress)?;
    progress.finish();
    if let Err(error) = remote.ready(ctx) {
        // Checks the outputs first: that costs nothing.
        if let Some(wait) = &ask.results {
            let columns = || RecordColumns::of(&submission.inputs, &ask.input.flags.params);
            wait.delivery.open(ask.input.source.files(), columns, ctx)?;
        }
        return Err(error);
    }
    let mut content = lock_content(ask, &submission.key, workspace)?;
    // If this process waited for another submission, it adopts that job, even if the job has ended and was delivered.
    let waited_for = match content.waited_for() {
        Some(id) => ledger.get(id)?.filter(|job| store.has_job(&job.id)),
        None => None,
    };
    let known = if waited_for.is_some() { waited_for } else { living(&store, &ledger, &submission.key)? };
    let known = known.filter(|_| !ask.again);
    let ended = if known.is_none() { earlier(ask, &submission, workspace)? } else { None };
    if let Some(job) = known.as_ref().or(ended.as_ref()) {
        content.work_on(&job.id)?;
        // Releases the lock, because the job may take all night and other processes find it without the lock.
        drop(content);
        let entered = go_on(job, ask, &submission, remote, ctx)?;
        return if ended.is_some() { entered.send_again(ask, remote) } else { Ok(entered) };
    }
    if !ask.again {
        let last = ledger.last_of(&submission.key)?;
        submission.requests.say_answered(&remote.identity(), last, Transport::Batch, workspace)?;
    }
    if let Some(name) = &ask.name {
        free_name(name, &store, &ledger)?;
    }
    let earlier = earlier_answers(ask, "", remote, workspace)?;
    let spec = Spec {
        account: remote.account.to_owned(),
        routes: submission.routes.clone(),
        tags: ask.tags.clone(),
        dedupe: ask.once.dedupe,
        reuses: ask.once.earlier.is_some(),
        ..Spec::new(remote, &ask.input, ask.problems.skip_invalid)
    };
    let new = Job::new(Transport::Batch, submission.key.clone(), submission.shown.clone(), spec.describe()?);
    let job = store.enter(&ledger, Job { name: ask.name.clone(), total: submission.checked.rows, ..new })?.job;
    content.work_on(&job.id)?;
    let mut session = Session::open(&job, remote, ctx, SessionOptions { wait: LockWait::Now, ..ask.session() })?;
    let PlannedCopy { quote, repeats, .. } = keep_and_plan(&mut session, &submission, ask, earlier.as_ref())?;
    drop(content);
    let own = submission.builder.own_parameters();
    Ok(Entered { session, known: false, resumed: false, quote, repeats, own })
}

/// Finds the answers of earlier jobs that the command takes for the job `own`.
fn earlier_answers(
    ask: &SubmitAsk,
    own: &str,
    remote: Remote<'_>,
    workspace: Workspace<'_>,
) -> Result<Option<RefCell<EarlierAnswers>>> {
    let Some(earlier) = &ask.once.earlier else { return Ok(None) };
    let rules = Spec::new(remote, &ask.input, false).rules(workspace.ctx);
    let answers = EarlierAnswers::find(earlier, own, remote, rules, workspace)?;
    workspace.ctx.ui.note(&answers.words());
    Ok(Some(answers.into()))
}

/// Locks the content, so that two commands with the same content do not both make a job.
fn lock_content(ask: &SubmitAsk, key: &str, workspace: Workspace<'_>) -> Result<Lock> {
    let name = format!("content-{key}");
    let say = |holder: &str| workspace.ctx.ui.note(&format!("{holder} is submitting the same content; waiting for it"));
    if let Some(lock) = workspace.store.wait_for_lock(&name, ask.wait, &say)? {
        return Ok(lock);
    }
    let job = living(workspace.store, workspace.ledger, key)?.filter(|_| !ask.again);
    let what = job.as_ref().map_or("the same content", |job| &job.id);
    Err(Error::new(Exit::TempFail, format!("{} is already submitting {what}", workspace.store.holder(&name)))
        .hint("pass --wait-lock to wait for its job, or run the same command later"))
}

/// Finds the ended job whose failed rows `--resume` sends again.
///
/// # Errors
/// 2 for a job of other content.
fn earlier(ask: &SubmitAsk, submission: &Submission, workspace: Workspace<'_>) -> Result<Option<Job>> {
    let Some(name) = &ask.resume else { return Ok(None) };
    let same = workspace.ledger.of_content(&submission.key)?;
    let named = if name.is_empty() { None } else { own::named(name, workspace.ledger, &workspace.ctx.ui)? };
    if let Some(job) = &named
        && !same.iter().any(|same| same.id == job.id)
    {
        return Err(Error::usage(format!("{} was made of other requests than this input", job.id)).hint(format!(
            "`llbatch retry {}` sends its failed rows again; without --resume the input becomes a new job",
            job.id
        )));
    }
    Ok(named.or_else(|| same.into_iter().find(|job| workspace.store.job_path(&job.id).exists())))
}

/// Resumes a job of the same content.
fn go_on<'a>(
    job: &Job,
    ask: &SubmitAsk,
    submission: &Submission,
    remote: Remote<'a>,
    ctx: &'a Ctx,
) -> Result<Entered<'a>> {
    let mut session = Session::open(job, remote, ctx, ask.session())?;
    if let Some(name) = &ask.name {
        take_name(&mut session, name)?;
    }
    judge_like(&mut session, ask)?;
    let mut planned = PlannedCopy::default();
    if session.is_unplanned()? {
        // The job was killed before its batches were planned. Nothing has been sent.
        let earlier = earlier_answers(ask, &job.id, remote, session.workspace())?;
        planned = keep_and_plan(&mut session, submission, ask, earlier.as_ref())?;
    } else {
        if !session.job.untold {
            revive_refused(&session)?;
        }
        admit_unsent(&session, ask.limit, Nanos::ZERO)?;
    }
    let PlannedCopy { quote, repeats, .. } = planned;
    Ok(Entered { session, known: true, resumed: false, quote, repeats, own: Vec::new() })
}

/// Makes the rules of the command those of the job, and holds the stored answers against them. Adds the command's tags.
fn judge_like(session: &mut Session<'_>, ask: &SubmitAsk) -> Result<()> {
    let mut spec = session.spec.clone().judged_like(&ask.input.flags.params);
    spec.tags.extend(ask.tags.clone());
    let changed = spec.params != session.spec.params || spec.tags != session.spec.tags;
    session.spec = spec;
    session.judge_anew()?;
    if changed {
        session.job.spec = session.spec.describe()?;
        session.ledger.update(&session.job)?;
    }
    Ok(())
}

/// Copies the input into the job's directory and plans batches from that copy. If that fails, it forgets the job.
fn keep_and_plan(
    session: &mut Session<'_>,
    submission: &Submission,
    ask: &SubmitAsk,
    earlier: Option<&RefCell<EarlierAnswers>>,
) -> Result<PlannedCopy> {
    keep(session, submission, ask)?;
    let planned = plan_copy(session, submission, ask, earlier).and_then(|planned| {
        session.judge_anew()?;
        admit_unsent(session, ask.limit, planned.later)?;
        session.driver.db.borrow_mut().put_entry(&session.job)?;
        Ok(planned)
    });
    or_forget(session, planned)
}

/// Returns `result`. If it is an error, forgets the job, which has sent nothing.
pub(super) fn or_forget<T>(session: &Session<'_>, result: Result<T>) -> Result<T> {
    result.inspect_err(|_| {
        if let Err(error) = session.forget() {
            session.ctx.ui.warn(&error.to_string());
        }
    })
}

fn keep(session: &mut Session<'_>, submission: &Submission, ask: &SubmitAsk) -> Result<()> {
    session.progress.phase("keeping a copy of the input");
    let kept = submission.inputs.keep(&session.driver.dir)?;
    if submission.inputs.stamp() != submission.stamp {
        return Err(input::changed("nothing was sent"));
    }
    session.spec.kept = kept;
    session.spec.skip_invalid = ask.problems.skip_invalid;
    session.spec.dedupe = ask.once.dedupe;
    session.spec.reuses = ask.once.earlier.is_some();
    session.job.spec = session.spec.describe()?;
    session.job.total = submission.checked.rows;
    session.ledger.update(&session.job)
}

/// Plans batches. The cost is that of all rows.
fn plan_copy(
    session: &mut Session<'_>,
    submission: &Submission,
    ask: &SubmitAsk,
    earlier: Option<&RefCell<EarlierAnswers>>,
) -> Result<PlannedCopy> {
    let bounded = ask.limit.max_cost.is_some() || session.ctx.settings.budget.is_set();
    if let Some((id, kind)) = submission.checked.unbounded.as_ref().filter(|_| bounded && !ask.limit.allow_unpriced) {
        return Err(budget::unbounded_error(id, kind));
    }
    let inputs = session.inputs()?;
    let mut content = Requests::new(&session.spec.identity(), inputs.chosen().shard());
    let only = submission.realtime.as_ref().map(|realtime| |row: u64| !realtime.contains(row));
    let keys = session.keys();
    let input = PlanInput {
        inputs: &inputs,
        builder: &submission.builder,
        checked: &submission.checked,
        only: only.as_ref().map(|only| only as &(dyn Fn(u64) -> bool + Sync)),
        retry: false,
        keys: keys.as_ref(),
        earlier,
    };
    let planned = plan(session, input, &mut |found| content.row(found))?;
    let split = &planned.split;
    if split.oversize_count > 0 && !ask.problems.skip_invalid {
        let ui = &session.ctx.ui;
        let groups = ProblemGroups::of(&split.oversize, split.oversize_count);
        problems::list(&groups, split.oversize.len(), ui);
        problems::judge(split.oversize_count, submission.checked.rows, false, Action::Send, ui)
            .map_err(|error| error.problems(&split.oversize))?;
    }
    let whole = submission.checked.bad_rows == 0 && split.oversize_count == 0;
    let mut repeats = planned.repeats.as_ref().map_or_else(|| submission.requests.repeat_words(), FoundRepeats::words);
    if planned.taken > 0 {
        let taken = text::plural(planned.taken, "row");
        repeats = format!("{repeats}, {taken} answered by earlier jobs");
    }
    // The plan skips rows for realtime, repeats and answered rows, so the keys cannot be compared then.
    let all = submission.realtime.is_none() && keys.is_none() && planned.taken == 0;
    if all && whole && content.key() != submission.key {
        return Err(input::changed("nothing was sent"));
    }
    let Some(realtime) = &submission.realtime else {
        return Ok(PlannedCopy { quote: planned.quote, repeats, later: Nanos::ZERO });
    };
    let beside = price_beside(session, realtime, ask.limit)?;
    let later = beside.upper_bound.unwrap_or_default();
    let quote = planned.quote.and(beside);
    session.job.estimate = quote.estimate();
    session.ledger.update(&session.job)?;
    Ok(PlannedCopy { quote, repeats, later })
}

/// Prices the rows for realtime. It refuses them before anything is sent if their cost cannot be limited, because the
/// batches would already be running when their turn comes.
fn price_beside(session: &Session<'_>, realtime: &RowSet, limit: CostLimit) -> Result<Quote> {
    let settings = &session.ctx.settings;
    let quote = priced(session, realtime.iter().collect(), 0, Transport::Realtime)?.quote;
    let bounded = limit.max_cost.is_some() || settings.budget.is_set();
    match &quote.unbounded {
        Some(model) if bounded && !limit.allow_unpriced => Err(budget::unpriced_error(model, &settings.prices)),
        _ => Ok(quote),
    }
}

impl Entered<'_> {
    /// Plans batches for the failed and missing rows of a job that has ended.
    fn send_again(mut self, ask: &SubmitAsk, remote: Remote<'_>) -> Result<Self> {
        let session = &mut self.session;
        // A batch that the service still works on may answer its rows.
        if session.open_batches()?.unsent > 0 || !session.advance(SubmitScope::Doubts)?.has_ended()? {
            return Ok(self);
        }
        session.take_late_answers()?;
        session.record()?;
        session.spec.dedupe |= ask.once.dedupe;
        session.spec.reuses |= ask.once.earlier.is_some();
        session.job.spec = session.spec.describe()?;
        keep_input(session)?;
        account_lost(session)?;
        let set = retry_set(session, false, Transport::Batch)?;
        if !set.rows.is_empty() {
            let earlier = earlier_answers(ask, &session.job.id, remote, session.workspace())?;
            let reservation = admit_retry(session, &set, ask.limit)?;
            plan_retry(session, &set, reservation, earlier.as_ref())?;
        }
        self.resumed = true;
        Ok(self)
    }

    /// Shows the opening line of the job.
    pub(super) fn announce(&self) -> Result<()> {
        let Session { ctx, job, spec, .. } = &self.session;
        let batches = self.session.batches()?;
        let text = if self.known {
            let waits = |b: &&crate::store::JobBatch| {
                matches!(b.step, BatchStep::Planned | BatchStep::Uploaded | BatchStep::Creating)
            };
            let count = text::batches(batches.len());
            match batches.iter().filter(waits).count() {
                waiting if self.resumed => {
                    let (answered, failed) = self.session.counts()?;
                    let stay =
                        if failed > 0 { format!(", {} failed for good", text::count(failed)) } else { String::new() };
                    let left = text::count(job.total.saturating_sub(answered + failed));
                    let batches = text::batches(waiting);
                    format!(
                        "resuming job {}: {} answered before{stay}, {left} to send again in {batches}",
                        job.id,
                        text::count(answered)
                    )
                }
                0 => format!(
                    "job {} ({}) already has this content{}, so nothing is sent again; --again starts a second job and \
                     pays again",
                    job.id,
                    state_of(job, &batches, false).as_str(),
                    if job.untold {
                        ", and the command that delivered it was killed before it could say so"
                    } else {
                        ""
                    }
                ),
                waiting => format!("resuming job {}: {waiting} of {count} to submit", job.id),
            }
        } else {
            let batched: u64 = batches.iter().map(|batch| batch.rows).sum();
            let part = if batched < job.total { format!("{} of ", text::count(batched)) } else { String::new() };
            let (rows, count) = (part + &text::plural(job.total, "row"), text::batches(batches.len()));
            let (own, quote) = (text::own_parameters(&self.own), &self.quote);
            let shard = spec.reading.pick.shard.map_or_else(String::new, |shard| format!(" (shard {shard})"));
            let (id, repeats, cost) = (&job.id, &self.repeats, quote.opening());
            format!("job {id}{shard}: {rows} in {count}{repeats}, {cost}, on {}{own}", spec.shown_service())
        };
        ctx.ui.note(&text);
        Ok(())
    }
}
