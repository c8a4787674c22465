//! Cancels jobs: ends their batches and keeps the answers.

use std::time::Duration;

use super::collect::Collected;
use super::follow::{Waiting, follow, hold_all};
use super::session::Session;
use super::unended::{unended, with_last_way};
use crate::batch::driver::{CallLimits, SubmitScope};
use crate::context::Ctx;
use crate::deadline::Deadline;
use crate::error::{Exit, Result};
use crate::job::remote::Remote;
use crate::job::verdict::{JobCommand, JobFacts, NextSteps, Verdict, cancelling_since};
use crate::store::{BatchStep, Job, JobBatch};
use crate::text;

/// Usual maximum wait for the service to end the batches, before the command returns.
const GRACE: Duration = Duration::from_secs(30);

/// Time to retry a call about a batch that is given up in any case.
const ABANDON_RETRY_FOR: Duration = Duration::from_secs(5);

/// Jobs that were cancelled.
#[derive(Debug)]
pub struct Cancelled {
    /// Jobs that still exist. llbatch forgets a job that had sent nothing.
    pub jobs: Vec<String>,
    /// Batches that the service is still cancelling, as a sentence, with what ends them.
    pub cancelling: Vec<(String, String)>,
    /// The worst exit code of them.
    pub exit: Exit,
}

/// Cancels the open batches of these jobs and collects their answers. It gives up batches that the service does not end, if
/// the user says so.
///
/// # Errors
/// 75 if one of them has another lock holder, or the service does not answer.
pub fn cancel<'a>(jobs: &[Job], abandon: bool, remote: Remote<'a>, ctx: &'a Ctx) -> Result<Cancelled> {
    let mut sessions = Vec::new();
    let mut kept = Vec::new();
    // The service had time to end batches that an earlier command cancelled.
    let usual = ctx.settings.cancel_wait.unwrap_or(GRACE);
    let mut grace = if abandon { Duration::ZERO } else { usual };
    for job in jobs {
        let mut session = Session::open_to_cancel(job, remote, ctx).map_err(|error| match error.exit {
            Exit::TempFail => error.hint(
                "stop that process first (Ctrl-C, or kill its id), then run the same command again; nothing that it has \
                 sent is lost",
            ),
            _ => error,
        })?;
        if session.is_unplanned()? {
            session.forget()?;
            ctx.ui.note(&format!("{}: its command stopped before it sent anything; the job is removed", job.id));
            continue;
        }
        kept.push(job.id.clone());
        if session.open_batches()?.all == 0 {
            nothing_to_cancel(&mut session)?;
            continue;
        }
        let asked_before = cancelling_since(&session.batches()?).is_some();
        let limits = if abandon { abandon_limits(&session) } else { session.limits() };
        let asked = session.limited(limits, Session::cancel).map_err(|error| with_last_way(&session, error));
        unless(abandon, asked, ctx)?;
        // A creation that is still in doubt was looked for, and a longer wait would not settle it.
        let live = |batch: &JobBatch| batch.step == BatchStep::Submitted && !batch.ended;
        if !asked_before && session.batches()?.iter().any(live) {
            grace = usual;
        }
        sessions.push(session);
    }
    let until = Deadline::after(grace);
    let waiting = Waiting { until, every: Some(Duration::from_secs(2)), submits: SubmitScope::Doubts };
    let ended = unless(abandon, follow(&mut sessions, waiting), ctx)?.unwrap_or(false);
    let (mut cancelling, mut exit) = (Vec::new(), Exit::Ok);
    for mut session in sessions {
        if abandon && !ended {
            give_up(&mut session)?;
        }
        let verdict = Verdict::of(&JobFacts { command: JobCommand::Cancel, ..session.record()? });
        exit = exit.worst(verdict.exit);
        if let Some(steps) = verdict.steps.filter(|steps| *steps == NextSteps::WaitOrAbandon) {
            cancelling.push((unended(&session)?, steps.text(&session.job.id, &session.flags())));
        }
        session.progress.finish();
    }
    Ok(Cancelled { jobs: kept, cancelling, exit })
}

/// Returns the value, or nothing if the service failed and the batches are given up all the same.
fn unless<T>(abandon: bool, result: Result<T>, ctx: &Ctx) -> Result<Option<T>> {
    match result {
        Err(error) if abandon && matches!(error.exit, Exit::TempFail | Exit::Failure | Exit::Auth | Exit::Budget) => {
            ctx.ui.warn(&error.to_string());
            Ok(None)
        }
        result => result.map(Some),
    }
}

/// Settles the rows of batches that have not ended as missing. They may have been billed.
fn give_up(session: &mut Session<'_>) -> Result<()> {
    hold_all(std::slice::from_mut(session), None)?;
    let open = session.batches()?.into_iter().filter(|batch| batch.is_open() && !batch.is_unsent());
    let (batches, rows) = open.fold((0, 0), |(batches, rows), batch| (batches + 1, rows + batch.rows));
    let limits = CallLimits { until: Deadline::after(Duration::ZERO), ..abandon_limits(session) };
    session.driver.abandon()?;
    session.ctx.ui.warn(&format!(
        "{}: {} given up; {} may have been billed; `llbatch fetch {0}{3}` looks once more for answers to them",
        session.job.id,
        text::batches(batches),
        text::plural(rows, "row"),
        session.flags()
    ));
    // It takes the results that are there, and waits for no others.
    match session.limited(limits, Session::collect)? {
        Collected::All => Ok(()),
        Collected::Late(error) => Err(error),
    }
}

/// The limits of calls about batches that are given up in any case.
const fn abandon_limits(session: &Session<'_>) -> CallLimits {
    CallLimits { retry_for: ABANDON_RETRY_FOR, ..session.limits() }
}

fn nothing_to_cancel(session: &mut Session<'_>) -> Result<()> {
    session.update_index(false)?;
    let (id, ui) = (&session.job.id, &session.ctx.ui);
    if let Some(steps) = session.verdict(JobCommand::Cancel)?.steps {
        ui.note(&format!("{id}: nothing to cancel, because none of its rows is in flight"));
        ui.hint(&steps.text(id, &session.flags()));
    } else {
        ui.note(&format!("{id}: nothing to cancel, it has ended"));
    }
    session.record()?;
    Ok(())
}
