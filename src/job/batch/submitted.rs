//! Finds jobs that were submitted before, by content and by name.

use super::session::Session;
use super::status::inspect;
use crate::error::{Error, Result};
use crate::store::{BatchStep, Job, JobBatch, JobState, Ledger, Store};

/// Finds the last job of this content with answers that are still to come or to be fetched, or whose last delivery was killed
/// at its end.
pub fn living(store: &Store, ledger: &Ledger, key: &str) -> Result<Option<Job>> {
    // A batch's status may be wrong, and its rows may be billed, until llbatch has read the results.
    let open = |job: &Job| {
        let batches = store.open_job(&job.id).and_then(|db| db.batches());
        batches.is_ok_and(|batches| batches.iter().any(JobBatch::is_open))
    };
    let lives = |job: &Job| match job.state {
        JobState::Preparing | JobState::Running | JobState::Interrupted => true,
        // The answers are paid for, and no command has fetched them.
        JobState::Completed | JobState::Partial | JobState::Expired => !job.delivered || job.untold,
        JobState::Failed => job.untold || open(job),
        JobState::Cancelled => open(job),
    };
    Ok(ledger.all_of(key)?.into_iter().find(lives))
}

/// Plans refused batches anew if the service has created none of the job, so that nothing was paid.
pub(super) fn revive_refused(session: &Session<'_>) -> Result<()> {
    let batches = session.batches()?;
    let nothing = batches.iter().all(|batch| batch.is_unsent() || batch.step == BatchStep::Refused);
    for batch in batches.iter().filter(|batch| nothing && batch.step == BatchStep::Refused) {
        let mut planned = JobBatch { step: BatchStep::Planned, ended: false, cancel: false, ..batch.clone() };
        (planned.remote.status, planned.remote.error, planned.creation.refusals) = (None, None, 0);
        session.driver.db.borrow_mut().save_batch(&planned)?;
    }
    Ok(())
}

/// Checks that a new job may have this name.
///
/// # Errors
/// 2 if it may not.
pub(super) fn free_name(name: &str, store: &Store, ledger: &Ledger) -> Result<()> {
    if name == "last" || name.starts_with("j-") {
        return Err(Error::usage(format!("--name {name}: this looks like the id of a job")).hint("choose another name"));
    }
    for job in inspect(ledger.recent(u32::MAX)?, store)?.into_iter().map(|status| status.job) {
        let lives = matches!(job.state, JobState::Running | JobState::Preparing);
        if lives && job.name.as_deref() == Some(name) {
            return Err(Error::usage(format!("--name {name}: {} has this name and has not ended", job.id))
                .hint("choose another name, or leave --name out"));
        }
    }
    Ok(())
}

/// Names an earlier job as this command asks, unless the job has a name.
pub(super) fn take_name(session: &mut Session<'_>, name: &str) -> Result<()> {
    match &session.job.name {
        Some(own) if own == name => {}
        Some(own) => {
            session.ctx.ui.warn(&format!("{} keeps its name {own}; --name {name} is ignored", session.job.id));
        }
        None => {
            free_name(name, &session.store, &session.ledger)?;
            session.ledger.rename(&session.job.id, name)?;
            session.job.name = Some(name.to_owned());
            session.driver.db.borrow_mut().put_entry(&session.job)?;
        }
    }
    Ok(())
}
