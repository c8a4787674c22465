//! Jobs that were submitted before: the one of the same content, and the ones that have a name.

use super::session::Session;
use super::status::inspect;
use crate::error::{Error, Result};
use crate::store::{BatchJob, Job, JobState, Ledger, Store};

/// Finds the last job of this content whose answers are still to come or have not been fetched yet.
pub fn living(store: &Store, ledger: &Ledger, key: &str) -> Result<Option<Job>> {
    // What a batch says of itself may be wrong, and may be paid for, until its results have been looked at.
    let open = |job: &Job| {
        store.job_path(&job.id).exists()
            && store
                .open_job(&job.id)
                .and_then(|db| db.batches())
                .is_ok_and(|batches| batches.iter().any(BatchJob::is_open))
    };
    let lives = |job: &Job| match job.state {
        JobState::Preparing | JobState::Running | JobState::Interrupted => true,
        // Paid for, and not fetched by anybody.
        JobState::Completed | JobState::Partial | JobState::Expired => !job.delivered,
        JobState::Failed | JobState::Cancelled => open(job),
    };
    Ok(ledger.all_of(key)?.into_iter().find(lives))
}

/// Checks that a new job may have this name.
///
/// # Errors
/// 2 if it may not.
pub fn free_name(name: &str, store: &Store, ledger: &Ledger) -> Result<()> {
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

/// Gives a job that was there before the name that its command asks for, unless it has one.
pub fn take_name(session: &mut Session<'_>, name: &str) -> Result<()> {
    match &session.job.name {
        Some(own) if own == name => {}
        Some(own) => {
            session.ctx.ui.warn(&format!("{} keeps its name {own}; --name {name} is ignored", session.job.id));
        }
        None => {
            free_name(name, &session.store, &session.ledger)?;
            session.ledger.rename(&session.job.id, name)?;
            session.job.name = Some(name.to_owned());
        }
    }
    Ok(())
}
