//! Writes the results of a batch job: every row in input order, answered or with its error.

use std::time::Duration;

use super::ahead::Ahead;
use super::follow::{Step, Waiting, follow};
use super::retry::same_input;
use super::session::{Session, SessionOptions};
use super::unended::unfinished;
use super::verify::verify_answers;
use crate::batch::driver::SubmitScope;
use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::job::finish::{Ended, Finish, JobAccounts, Workspace};
use crate::job::remote::Remote;
use crate::job::tally::RowFolds;
use crate::job::verdict::{JobCommand, Verdict};
use crate::money::Accounts;
use crate::outcome::{ErrorCode, Outcome};
use crate::price::Nanos;
use crate::results::{Delivery, Outputs, RecordColumns, RowReader, Unanswered};
use crate::row_set::RowSet;
use crate::store::{Job, JobBatch, LockWait};
use crate::text;
use crate::ui::Results;

/// A request for the results of a job.
#[derive(Debug)]
pub struct FetchAsk {
    /// The job.
    pub job: Job,
    /// Destination of the results.
    pub delivery: Delivery,
    /// `--wait`
    pub waiting: Option<Waiting>,
    /// `--partial`: write the results so far.
    pub partial: bool,
    /// Maximum wait for the lock holder of the job.
    pub wait: LockWait,
}

/// Collects ended batches and writes the results.
///
/// # Errors
/// 75 if the job has not ended and `--partial` is missing.
pub fn fetch(ask: &FetchAsk, remote: Remote<'_>, ctx: &Ctx) -> Result<Ended> {
    let results = if ask.delivery.output.is_some() { Results::Elsewhere } else { Results::Stdout };
    // A command that waits for the batches also waits for another lock holder.
    let wait = ask.waiting.map_or(ask.wait, |waiting| LockWait::until(waiting.until));
    let mut session =
        Session::open(&ask.job, remote, ctx, SessionOptions { results, wait, ..SessionOptions::default() })?;
    let outputs = outputs(&session, &ask.delivery)?;
    let ended = match ask.waiting {
        Some(waiting) => follow(std::slice::from_mut(&mut session), waiting)?,
        None => match session.advance(SubmitScope::Doubts).and_then(Step::has_ended) {
            // The results so far can still be written.
            Err(error) if ask.partial && matches!(error.exit, Exit::TempFail | Exit::Failure) => {
                ctx.ui.warn(&error.to_string());
                false
            }
            ended => ended?,
        },
    };
    if !ended && !ask.partial {
        return Err(unfinished(&mut session, ask.waiting.is_some())?);
    }
    session.take_late_answers()?;
    deliver(session, outputs, ask.delivery.form.is_flat())
}

/// Opens the outputs before the first step that costs time or money.
///
/// # Errors
/// As [`Delivery::open`]; 65 if the input is needed and has changed.
pub fn outputs(session: &Session<'_>, delivery: &Delivery) -> Result<Outputs> {
    if delivery.form.is_flat() && session.spec.kept.is_empty() {
        // Columns of a changed input must not appear beside these answers.
        same_input(session)?;
    }
    let columns = || RecordColumns::of(&session.inputs()?, &session.spec.params);
    let mut delivery = delivery.clone();
    delivery.form.reused |= session.spec.marks_reused();
    delivery.form.files = session.spec.params.files.is_some();
    delivery.open(&session.spec.inputs, columns, session.ctx)
}

impl Session<'_> {
    /// Forgets totals that were kept, as far as the disk lets it.
    fn forget_totals(&self) {
        let mut db = self.driver.db.borrow_mut();
        let forgotten = if self.store.is_read_only() { Ok(()) } else { db.begin().and_then(|()| db.commit(false)) };
        if let Err(error) = forgotten {
            tracing::debug!("{error}");
        }
    }
}

/// Returns the known cost of the job in real time so far, including requests that may have been billed.
pub(super) fn spent_in_realtime(session: &Session<'_>) -> Result<Nanos> {
    let accounts = Accounts::of_realtime(&session.driver.db.borrow(), session.ctx.settings.prices.clone())?;
    Ok(accounts.spent())
}

/// Counts rows without an outcome that no batch will answer.
pub(super) fn rows_beside_batches(session: &Session<'_>) -> Result<u64> {
    let (succeeded, failed) = session.counts()?;
    let (mut awaited, mut followers) = (RowSet::default(), 0);
    let db = session.driver.db.borrow();
    db.each_awaited(|row| _ = awaited.insert(row))?;
    db.each_waiting(|_, leader| followers += u64::from(awaited.contains(leader)))?;
    Ok(session.job.total.saturating_sub(succeeded + failed + awaited.count() + followers))
}

/// Writes one result per row. Rows without an outcome carry an error that says they are not answered yet.
///
/// # Errors
/// 74 if they cannot be written, 141 if the reader of the pipe is gone.
pub fn deliver(session: Session<'_>, outputs: Outputs, flat: bool) -> Result<Ended> {
    let verified = verify_answers(&session)?;
    session.judge_anew()?;
    session.progress.phase("writing results");
    let builder = session.builder()?;
    let reader = if flat { Some(RowReader::open(&session.inputs()?, &builder)?) } else { None };
    let mut done = RowSet::new(session.job.total);
    session.driver.db.borrow().each_row(|row| _ = done.insert(row))?;
    let (results, summary_file) = outputs.ordered(session.job.total, done, reader);
    let accounts = Accounts::new(session.ctx.settings.prices.clone(), session.job.total);
    let accounts = accounts.asking_json(session.spec.params.json_schema.is_some());
    let accounts = accounts.knowing(&session.driver.db.borrow());
    let mut folds = RowFolds::of_job(&session.driver.db.borrow(), accounts)?;
    let mut price = |outcome: &Outcome| folds.count(outcome, false);
    let mut open = || RowReader::open(&session.inputs()?, &builder);
    let pending = not_answered(&session.batches()?);
    let mut stored = session.store.open_job(&session.job.id)?;
    stored.trust(verified);
    let lines = std::thread::scope(|scope| {
        let ahead = Ahead::start(scope, stored);
        let unanswered = Unanswered { code: ErrorCode::Interrupted, reason: &pending, open_reader: &mut open };
        results.finish(&ahead, &mut price, unanswered)
    });
    session.progress.finish();
    // Damage that was found here is also for the report to find.
    let lines = lines.inspect_err(|_| session.forget_totals())?;
    let workspace = Workspace { ctx: session.ctx, store: &session.store, ledger: &session.ledger };
    let RowFolds { accounts, details, .. } = folds;
    let accounts = JobAccounts::with(accounts, workspace, &session.driver.db.borrow(), &session.job, &session.spec);
    let whole = |accounts: &JobAccounts| Verdict::of(&accounts.facts(&session.job, JobCommand::Other, None)).is_whole();
    let written = lines.commit(accounts.as_ref().is_ok_and(whole))?;
    let accounts = accounts?;
    let realtime = Duration::from_millis(session.job.active_ms);
    let finish = Finish {
        workspace,
        job: session.job,
        spec: &session.spec,
        command: JobCommand::Other,
        stop: None,
        http: None,
        nowhere: false,
        written,
        db: None,
        details: Some(details),
    };
    Ok(finish.conclude(&accounts, realtime).write_summary(summary_file, session.ctx))
}

/// Describes why a row has no outcome.
fn not_answered(batches: &[JobBatch]) -> String {
    match batches.iter().filter(|batch| batch.is_open()).count() {
        0 => "not answered yet".to_owned(),
        open => {
            let (all, have) = (text::batches(batches.len()), text::have(open));
            format!("not answered yet: {open} of {all} {have} not ended")
        }
    }
}
