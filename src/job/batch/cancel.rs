//! Cancels jobs: ends their batches and keeps the answers.

use std::time::Duration;

use super::follow::{Waiting, follow};
use super::session::Session;
use crate::batch::driver::SubmitScope;
use crate::context::Ctx;
use crate::deadline::Deadline;
use crate::error::{Exit, Result};
use crate::job::remote::Remote;
use crate::store::{Job, JobState, Transport};

/// Maximum wait for the service to end the batches, before the command returns.
const GRACE: Duration = Duration::from_secs(30);

/// Jobs that were cancelled.
#[derive(Debug)]
pub struct Cancelled {
    /// Jobs that still exist. llbatch forgets a job that had sent nothing.
    pub jobs: Vec<String>,
    /// All of their batches have ended.
    pub ended: bool,
}

/// Cancels the open batches of these jobs and collects their answers.
///
/// # Errors
/// 75 if one of them has another lock holder, or the service does not answer.
pub fn cancel<'a>(jobs: &[Job], remote: Remote<'a>, ctx: &'a Ctx) -> Result<Cancelled> {
    let mut sessions = Vec::new();
    let mut kept = Vec::new();
    for job in jobs {
        let mut session = Session::open_to_cancel(job, remote, ctx).map_err(|error| match error.exit {
            Exit::TempFail => error.hint("stop that process first (Ctrl-C, or kill its id); its job stays resumable"),
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
        session.cancel()?;
        sessions.push(session);
    }
    let until = Deadline::after(GRACE);
    let ended =
        follow(&mut sessions, Waiting { until, every: Some(Duration::from_secs(2)), submits: SubmitScope::Doubts })?;
    for mut session in sessions {
        session.record()?;
        session.progress.finish();
    }
    Ok(Cancelled { jobs: kept, ended })
}

fn nothing_to_cancel(session: &mut Session<'_>) -> Result<()> {
    let state = session.update_index(false)?;
    let (id, ui) = (&session.job.id, &session.ctx.ui);
    if session.job.transport == Transport::Realtime && state == JobState::Interrupted {
        ui.note(&format!("{id}: nothing to cancel, because none of its rows is in flight"));
        ui.hint(&format!(
            "`llbatch run --resume={id}{} -o FILE` resumes it, `llbatch clean {id} --force` removes it",
            session.flags()
        ));
    } else {
        ui.note(&format!("{id}: nothing to cancel, it has ended"));
    }
    session.record()?;
    Ok(())
}
