//! A submission: makes a job of its input, plans and creates the batches, and delivers them if the user waits.

use std::time::Instant;

use super::ask::{SubmitAsk, WaitAsk};
use super::deliver::{deliver, outputs, rows_beside_batches, spent_in_realtime};
use super::entered::{Entered, enter, or_forget};
use super::follow::{Waiting, follow, hold_all};
use super::notes::REMIND;
use super::rescue::{Rescue, rescue};
use super::retry::retry_set;
use super::session::Session;
use super::unended::too_late;
use crate::batch::driver::{self, SubmitScope};
use crate::batch::poll;
use crate::context::Ctx;
use crate::deadline::Deadline;
use crate::error::{Exit, Result};
use crate::job::ask::{CostLimit, Role, RunAsk};
use crate::job::finish::Ended;
use crate::job::remote::Remote;
use crate::job::run::run;
use crate::price::Nanos;
use crate::realtime;
use crate::store::Transport;
use crate::text;

/// A submission that has ended.
#[derive(Debug)]
pub enum Submitted {
    /// The service has its batches.
    Created { job: String, exit: Exit, hint: Option<String> },
    /// Its results were written.
    Delivered(Box<Ended>),
    /// Its realtime part was stopped, with the exit code of the verdict on that part.
    Stopped(Exit),
}

/// Submits the input, and with `--wait` delivers the results. It calls `announce` with the job's id before it sends
/// anything.
///
/// # Errors
/// 65 or 66 for inputs, 2 with `--require-discount`, 5 beyond a budget, 75 if another process submits the same content
/// or a creation stays in doubt.
pub fn submit<'a>(
    ask: SubmitAsk,
    remote: Remote<'a>,
    ctx: &'a Ctx,
    announce: &dyn Fn(&str) -> Result<()>,
) -> Result<Submitted> {
    let entered = enter(&ask, remote, ctx)?;
    // Opens the outputs before the job spends money.
    let opened = ask.results.as_ref().map(|wait| outputs(&entered.session, &wait.delivery)).transpose();
    // A new job has sent nothing, so one that cannot be delivered leaves no trace.
    let outputs = if entered.known { opened? } else { or_forget(&entered.session, opened)? };
    entered.announce()?;
    let Entered { mut session, .. } = entered;
    let job = session.job.id.clone();
    announce(&job)?;
    create(&mut session, &ask)?;
    if let Some(speed) = &ask.auto {
        session = match answer_beside(session, &ask, speed.clone(), remote, ctx)? {
            Beside::Done(session) => *session,
            Beside::Stopped(exit) => return Ok(Submitted::Stopped(exit)),
        };
    }
    let (Some(outputs), Some(wait)) = (outputs, ask.results) else {
        session.progress.finish();
        if session.job.state.ended() {
            // A command that was killed may have stored the last answers without recording their cost.
            session.record()?;
        }
        let verdict = session.submitted(false)?;
        let hint = verdict.steps.map(|steps| steps.text(&job, &session.flags()));
        return Ok(Submitted::Created { job, exit: verdict.exit, hint });
    };
    let ended = wait_for(&mut session, &wait)?;
    // A rescue also answers rows that expired or failed before the deadline.
    let left = wait.rescue.is_some()
        && !session.job.untold
        && !(ended && retry_set(&session, false, Transport::Realtime)?.rows.is_empty());
    let ended = match wait.rescue {
        Some(how) if left => {
            rescue(session, Rescue { how, delivery: wait.delivery, limit: ask.limit }, outputs, remote, ctx)?
        }
        _ if ended => deliver(session, outputs, wait.delivery.form.is_flat())?,
        _ => return Err(too_late(&mut session, wait.deadline)?),
    };
    Ok(Submitted::Delivered(Box::new(ended)))
}

/// Creates the batches. With `--wait` a transient failure is retried during the wait; at a deadline, the rescue takes
/// over.
fn create(session: &mut Session<'_>, ask: &SubmitAsk) -> Result<()> {
    let waiting = ask.results.as_ref().map(|wait| Waiting { submits: SubmitScope::Due, ..wait.waiting });
    let limits = waiting.map_or(session.limits(), |waiting| waiting.limits(session.limits()));
    let sent = session.limited(limits, |session| session.submit(SubmitScope::All));
    match (sent, &ask.results) {
        (Err(error), Some(wait))
            if error.exit == Exit::TempFail
                || (wait.rescue.is_some() && error.exit == Exit::Failure && !driver::is_setup(&error)) =>
        {
            session.ctx.ui.warn(&error.to_string());
            Ok(())
        }
        (sent, _) => sent,
    }
}

/// Waits for the end of all batches. Returns `false` if the time is up first. With a rescue, no other failure that may pass
/// ends the wait: it begins at the deadline, and not before.
fn wait_for(session: &mut Session<'_>, wait: &WaitAsk) -> Result<bool> {
    let waiting = Waiting { submits: SubmitScope::Due, ..wait.waiting };
    let mut said: Option<Instant> = None;
    for failures in 0.. {
        let error = match follow(std::slice::from_mut(session), waiting) {
            Err(error)
                if wait.rescue.is_some()
                    && matches!(error.exit, Exit::TempFail | Exit::Failure)
                    && !driver::is_setup(&error) =>
            {
                error
            }
            ended => return ended,
        };
        if said.is_none_or(|at| at.elapsed() > REMIND) {
            session.ctx.ui.warn(&error.to_string());
            said = Some(Instant::now());
        }
        if waiting.until.is_some_and(Deadline::has_passed) {
            break;
        }
        session.unlock_but_claim(waiting.submits)?;
        let pause = poll::interval(failures, waiting.every, fastrand::f64());
        session.block_on(session.driver.pause_in_time(pause, waiting.until))?;
    }
    hold_all(std::slice::from_mut(session), None)?;
    Ok(false)
}

/// The end of the realtime part of `--via auto`.
enum Beside<'a> {
    Done(Box<Session<'a>>),
    Stopped(Exit),
}

/// Answers the rows in real time that no batch will answer.
fn answer_beside<'a>(
    session: Session<'a>,
    ask: &SubmitAsk,
    speed: realtime::SpeedOptions,
    remote: Remote<'a>,
    ctx: &'a Ctx,
) -> Result<Beside<'a>> {
    let rows = rows_beside_batches(&session)?;
    if rows == 0 {
        return Ok(Beside::Done(Box::new(session)));
    }
    ctx.ui.note(&format!("sending {} in real time now", text::plural(rows, "row")));
    // The limit is reduced by the maximum cost of the batches and by the realtime cost of an interrupted command.
    let upper_bound: Nanos = session.batches()?.iter().filter_map(|batch| batch.cost.upper_bound).sum();
    let gone = upper_bound + spent_in_realtime(&session)?;
    let limit = CostLimit { max_cost: ask.limit.max_cost.map(|limit| limit.saturating_sub(gone)), ..ask.limit };
    let job = session.job.clone();
    session.progress.finish();
    drop(session);
    let mut part = RunAsk::part_of(job.id.clone(), Role::BesideBatches, limit, ask.wait, speed);
    part.job.once.earlier.clone_from(&ask.once.earlier);
    let ended = run(part, remote, ctx)?;
    if ended.stopped {
        ctx.ui.warn(&format!("the rows sent in real time: {}", ended.summary.exit.reason));
        return Ok(Beside::Stopped(ended.verdict.exit));
    }
    Session::open(&job, remote, ctx, ask.session()).map(|session| Beside::Done(Box::new(session)))
}
