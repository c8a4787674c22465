//! Removes the files of ended jobs.

use std::collections::HashSet;
use std::time::Duration;

use super::batch::adopt::find_local;
use super::batch::runtime;
use super::remote::Remote;
use super::spec::same_service;
use crate::batch::driver;
use crate::context::Ctx;
use crate::error::Result;
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
}

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
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let (mut removed, mut kept) = (Vec::new(), Vec::new());
    for job in jobs {
        if let Some(reason) = reason_to_keep(&job, &store, ask.force)? {
            kept.push(KeptJob { job: job.id, reason });
            continue;
        }
        if ask.dry_run {
            removed.push(job.id);
            continue;
        }
        let Some(_lock) = store.wait_for_lock(&job.id, LockWait::briefly(), &|_| ())? else {
            kept.push(KeptJob { job: job.id, reason: "another llbatch is working on it".to_owned() });
            continue;
        };
        if let Some(remote) = remote {
            delete_remote_files(&job, remote, &store, &ledger)?;
        }
        // Removes the entry last, so that the user can still name a half-removed job.
        store.remove_job(&job.id)?;
        ledger.forget(&job.id)?;
        removed.push(job.id);
    }
    Ok(CleanDocument { version: 1, removed, kept })
}

/// Finds the jobs that the command means.
///
/// # Errors
/// 2 for an unknown job.
pub fn chosen(ask: &CleanAsk<'_>, ctx: &Ctx) -> Result<Vec<Job>> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let mut jobs = if ask.jobs.is_empty() {
        ledger.recent(u32::MAX)?
    } else {
        ask.jobs.iter().map(|name| find_local(name, &store, &ledger)).collect::<Result<_>>()?
    };
    if let Some(age) = ask.older_than {
        let now = jiff::Timestamp::now().as_millisecond();
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        jobs.retain(|job| now.saturating_sub(job.updated_at) >= age);
    }
    Ok(jobs)
}

/// Deletes the files of a job's batches from the service, except those that batches of other jobs share.
fn delete_remote_files(job: &Job, remote: Remote<'_>, store: &Store, ledger: &Ledger) -> Result<()> {
    same_service(job, remote.name)?;
    let runtime = runtime()?;
    // Equal content shares one file, so another job may still need it.
    let shared = files_of_others(store, ledger, &job.id)?;
    for batch in store.open_job(&job.id)?.batches()? {
        let mut files = vec![&batch.output_file_id, &batch.error_file_id];
        // llbatch deletes only inputs that it has uploaded.
        if !batch.sha256.is_empty() {
            files.push(&batch.file_id);
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
        if job.id != but && store.job_path(&job.id).exists() {
            for batch in store.open_job(&job.id)?.batches()? {
                files.extend([batch.file_id, batch.output_file_id, batch.error_file_id].into_iter().flatten());
            }
        }
    }
    Ok(files)
}

/// Returns the reason to keep a job, if there is one.
fn reason_to_keep(job: &Job, store: &Store, force: bool) -> Result<Option<String>> {
    if store.in_use(&job.id) {
        return Ok(Some("another llbatch is working on it".to_owned()));
    }
    let batches = if store.job_path(&job.id).exists() { store.open_job(&job.id)?.batches()? } else { Vec::new() };
    if batches.iter().any(JobBatch::is_open) {
        return Ok(Some("its batches have not ended, or their results have not been downloaded".to_owned()));
    }
    if !job.state.ended() && !force {
        return Ok(Some("it has not ended (--force removes it anyway)".to_owned()));
    }
    if !batches.is_empty() && !job.delivered && job.succeeded > 0 && !force {
        return Ok(Some("its results were never written (run `llbatch fetch`, or pass --force)".to_owned()));
    }
    Ok(None)
}
