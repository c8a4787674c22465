//! Removes the files of ended jobs.

use std::collections::HashSet;
use std::time::Duration;

use super::batch::adopt::find_local;
use super::batch::runtime;
use super::finish::Workspace;
use super::remote::Remote;
use super::spec::{same_service, spec_of};
use crate::batch::driver;
use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::money::Accounts;
use crate::money::exposure::settle_removed;
use crate::row_set::RowSet;
use crate::store::{Job, JobBatch, Ledger, LockWait, Store};

/// A request to remove jobs.
#[derive(Debug)]
pub struct CleanAsk<'a> {
    /// Names of jobs. None: all that are old enough.
    pub jobs: &'a [String],
    /// Minimum age of a job since its last change.
    pub older_than: Option<Duration>,
    /// Also jobs that have not ended, and those whose results were never written.
    pub force: bool,
    /// Remove nothing.
    pub dry_run: bool,
}

/// The document of `clean --json`.
#[derive(Debug, serde::Serialize)]
pub struct CleanDocument {
    version: u8,
    /// Jobs that were removed.
    pub removed: Vec<String>,
    /// Jobs that were kept.
    pub kept: Vec<KeptJob>,
    /// Jobs that an earlier command has removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub already_removed: Vec<String>,
}

/// Reason to keep a job that has another lock holder.
const IN_USE: &str = "another llbatch is working on it";

/// A job that was not removed.
#[derive(Debug, serde::Serialize)]
pub struct KeptJob {
    /// Its id.
    pub job: String,
    /// Reason to keep it.
    pub reason: String,
}

/// Removes jobs, and with a `remote` also their files at the service.
///
/// # Errors
/// 2 for a job of another service, 75 if the service does not answer.
pub fn clean(jobs: Vec<Job>, ask: &CleanAsk<'_>, remote: Option<Remote<'_>>, ctx: &Ctx) -> Result<CleanDocument> {
    let store = Store::open(ctx.settings.state_place()?)?;
    if !ask.dry_run {
        store.must_be_writable()?;
    }
    let ledger = store.ledger()?;
    let (mut removed, mut kept, already_removed) = (Vec::new(), Vec::new(), already_removed(&ledger, ask)?);
    let keep = |job: Job, reason: String| KeptJob { job: job.id, reason };
    for job in jobs {
        if ask.dry_run {
            match reason_to_keep(&job, &store, ask.force) {
                _ if store.in_use(&job.id) => kept.push(keep(job, IN_USE.to_owned())),
                Some(reason) => kept.push(keep(job, reason)),
                None => removed.push(job.id),
            }
            continue;
        }
        let Some(_lock) = store.wait_for_lock(&job.id, LockWait::briefly(), &|_| ())? else {
            kept.push(keep(job, IN_USE.to_owned()));
            continue;
        };
        // Looks only under the lock: another command may have sent more of the job, or removed it.
        let Some(job) = ledger.get(&job.id)? else {
            removed.push(job.id);
            continue;
        };
        if let Some(reason) = reason_to_keep(&job, &store, ask.force) {
            kept.push(keep(job, reason));
            continue;
        }
        if let Some(remote) = remote {
            delete_remote_files(&job, remote, Workspace { ctx, store: &store, ledger: &ledger })?;
        }
        keep_money(&job, ask.force, Workspace { ctx, store: &store, ledger: &ledger })?;
        store.remove(&ledger, &job)?;
        removed.push(job.id);
    }
    Ok(CleanDocument { version: 1, removed, kept, already_removed })
}

/// Keeps the money of a job that is about to be removed. Its cost goes into the history. What its killed commands may have
/// spent beyond that stays reserved. The caller has the job's lock. An unreadable job is removed by `force` only, and counts
/// with what the index knows.
///
/// # Errors
/// 74 if the index cannot be written.
fn keep_money(job: &Job, force: bool, workspace: Workspace<'_>) -> Result<()> {
    let Workspace { ctx, store, ledger } = workspace;
    let unrecorded = || -> Result<Option<Accounts>> {
        let db = store.open_job(&job.id)?;
        let whole = job.state.ended() && !db.has_claim()? && ledger.recorded_rows(&job.id)? >= db.counts()?.0;
        if whole {
            return Ok(None);
        }
        Accounts::of(&db, ctx.settings.prices.clone(), job.total, &RowSet::default()).map(Some)
    };
    let accounts = match unrecorded() {
        Err(error) if !force => return Err(error),
        read => read,
    };
    ledger.decide(|| {
        match &accounts {
            Ok(Some(accounts)) => {
                accounts.record(job, ledger)?;
                let cost = accounts.totals.usd().or(job.cost);
                ledger.update(&Job { cost, ..job.clone() })?;
            }
            Ok(None) => {}
            Err(_) => ledger.record_known(job, &jiff::Zoned::now().date().to_string())?,
        }
        settle_removed(job, accounts.is_ok(), store, ledger, ctx)
    })
}

/// Finds the jobs that the command means.
///
/// # Errors
/// 2 for an unknown job.
pub fn chosen(ask: &CleanAsk<'_>, ctx: &Ctx) -> Result<Vec<Job>> {
    let store = Store::open(ctx.settings.state_place()?)?;
    let ledger = store.ledger()?;
    let mut jobs = if ask.jobs.is_empty() {
        ledger.recent(u32::MAX)?
    } else {
        let mut jobs: Vec<Job> = Vec::new();
        for name in ask.jobs {
            match find_local(name, &store, &ledger) {
                // A `clean` that was killed at its end is run again.
                Err(error) if error.exit == Exit::Usage && ledger.removed(name)?.is_some() => {}
                Ok(job) if jobs.iter().any(|known| known.id == job.id) => {}
                found => jobs.push(found?),
            }
        }
        jobs
    };
    if let Some(age) = ask.older_than {
        let now = jiff::Timestamp::now().as_millisecond();
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        jobs.retain(|job| now.saturating_sub(job.updated_at) >= age);
    }
    Ok(jobs)
}

/// Deletes the files of a job's batches from the service, except those that batches of other jobs share.
fn delete_remote_files(job: &Job, remote: Remote<'_>, workspace: Workspace<'_>) -> Result<()> {
    let Workspace { ctx, store, ledger } = workspace;
    same_service(job, remote, ctx)?;
    let remote = remote.at(&spec_of(job)?.service);
    let runtime = runtime()?;
    // Equal content shares one file, so another job may still need it.
    let shared = files_of_others(store, ledger, &job.id)?;
    for batch in store.open_job(&job.id)?.batches()? {
        let mut files = vec![&batch.remote.output_file_id, &batch.remote.error_file_id];
        // llbatch deletes only inputs that it has uploaded.
        if !batch.file.sha256.is_empty() {
            files.push(&batch.file.id);
        }
        for file in files.into_iter().flatten().filter(|file| !shared.contains(*file)) {
            runtime
                .block_on(remote.client.delete_file(file))
                .map_err(|failure| driver::error(&format!("deleting {file} of {}", job.id), &failure))?;
        }
    }
    Ok(())
}

/// Returns the input and result files of other jobs' batches.
fn files_of_others(store: &Store, ledger: &Ledger, but: &str) -> Result<HashSet<String>> {
    let mut files = HashSet::new();
    for job in ledger.recent(u32::MAX)? {
        if job.id != but && store.has_job(&job.id) {
            for batch in store.open_job(&job.id)?.batches()? {
                files.extend(
                    [batch.file.id, batch.remote.output_file_id, batch.remote.error_file_id].into_iter().flatten(),
                );
            }
        }
    }
    Ok(files)
}

/// Returns the jobs of the command line that an earlier command has removed.
fn already_removed(ledger: &Ledger, ask: &CleanAsk<'_>) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for name in ask.jobs {
        if ledger.find(name).is_err_and(|error| error.exit == Exit::Usage) {
            ids.extend(ledger.removed(name)?);
        }
    }
    Ok(ids)
}

/// Returns the reason to keep a job, if there is one.
fn reason_to_keep(job: &Job, store: &Store, force: bool) -> Option<String> {
    let batches = match store.open_job(&job.id).and_then(|db| db.batches()) {
        Ok(batches) => batches,
        Err(_) if force => return None,
        Err(error) => return Some(format!("its batches are not known (--force removes it anyway): {error}")),
    };
    if batches.iter().any(JobBatch::is_open) {
        let what = "its batches have not ended, or their results have not been downloaded";
        return Some(format!("{what} (`llbatch wait {0}` waits for them, `llbatch cancel {0}` ends them)", job.id));
    }
    if !job.state.ended() && !force {
        return Some("it has not ended (--force removes it anyway)".to_owned());
    }
    if !batches.is_empty() && !job.delivered && job.succeeded > 0 && !force {
        return Some("its results were never written (run `llbatch fetch`, or pass --force)".to_owned());
    }
    None
}
