//! `llbatch clean`: removes what is kept of jobs that have ended.

use std::collections::HashSet;

use clap::Args;

use super::print_json;
use super::service::connect;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::batch::adopt::find_local;
use crate::job::batch::{self, same_service};
use crate::job::spec::spec_of;
use crate::settings;
use crate::store::{BatchJob, Job, Ledger, LockWait, Store};
use crate::text;

/// Remove local data of ended jobs, and with --remote their files from the service
///
/// Jobs that have not ended are never touched, nor are jobs whose answers nobody has fetched (but with --force).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch clean --older-than 30d            everything that ended and was not touched for 30 days
  llbatch clean j-abcd1234 --remote         also its uploaded and result files with the service")]
pub struct Clean {
    /// A job's id, a unique beginning of it, its --name, `last`, or a Together batch id
    #[arg(value_name = "JOB", required_unless_present = "older_than")]
    jobs: Vec<String>,
    /// All jobs that ended so long ago (30d, 12h)
    #[arg(long, value_name = "TIME")]
    older_than: Option<String>,
    /// Also delete the uploaded and result files from the service
    #[arg(long)]
    remote: bool,
    /// Also jobs whose results were never written anywhere
    #[arg(long)]
    force: bool,
    /// Say what would be removed; remove nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(serde::Serialize)]
struct Document {
    version: u8,
    removed: Vec<String>,
    kept: Vec<Kept>,
}

#[derive(serde::Serialize)]
struct Kept {
    job: String,
    reason: String,
}

/// Runs the subcommand.
pub fn run(args: &Clean, ctx: &Ctx) -> Result<Exit> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let age = args
        .older_than
        .as_deref()
        .map(|text| settings::long_duration(text).map_err(|e| Error::usage(format!("--older-than: {e}"))))
        .transpose()?;
    let mut jobs = Vec::new();
    for name in &args.jobs {
        jobs.push(find_local(name, &store, &ledger)?);
    }
    let named = !jobs.is_empty();
    if let Some(age) = age {
        let now = jiff::Timestamp::now().as_millisecond();
        let old = |job: &Job| now.saturating_sub(job.updated_at) >= i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        if named {
            jobs.retain(old);
        } else {
            jobs = ledger.recent(u32::MAX)?.into_iter().filter(old).collect();
        }
    }
    let service = if args.remote && !jobs.is_empty() && !args.dry_run { Some(connect(ctx)?) } else { None };
    let runtime = batch::runtime()?;
    let (mut removed, mut kept) = (Vec::new(), Vec::new());
    for job in jobs {
        if let Some(reason) = held(&job, &store, args.force)? {
            kept.push(Kept { job: job.id.clone(), reason });
            continue;
        }
        if args.dry_run {
            removed.push(job.id);
            continue;
        }
        let Some(_lock) = store.wait_for_lock(&job.id, LockWait::briefly(), &|_| ())? else {
            kept.push(Kept { job: job.id.clone(), reason: "another llbatch works on it".to_owned() });
            continue;
        };
        if let Some(service) = &service {
            same_service(&job, &spec_of(&job)?, &service.name)?;
            // The same content has the same file: what another job was made from stays for it.
            let shared = files_of_others(&store, &ledger, &job.id)?;
            for batch in store.open_job(&job.id)?.batches()? {
                let mut files = vec![&batch.output_file_id, &batch.error_file_id];
                // What others uploaded is theirs.
                if !batch.sha256.is_empty() {
                    files.push(&batch.file_id);
                }
                for file in files.into_iter().flatten().filter(|file| !shared.contains(*file)) {
                    runtime.block_on(service.client.delete_file(file)).map_err(|failure| {
                        crate::batch::courier::error(&format!("deleting {file} of {}", job.id), &failure)
                    })?;
                }
            }
        }
        // The entry goes last: a job that is half removed can still be named.
        store.remove_job(&job.id)?;
        ledger.forget(&job.id)?;
        removed.push(job.id);
    }
    if ctx.json {
        print_json(&Document { version: 1, removed, kept }, ctx)?;
        return Ok(Exit::Ok);
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    for id in &removed {
        ctx.ui.note(&format!("{verb} {id}"));
    }
    for Kept { job, reason } in &kept {
        ctx.ui.note(&format!("kept {job}: {reason}"));
    }
    if removed.is_empty() && kept.is_empty() {
        ctx.ui.note("nothing to remove");
    } else if removed.len() + kept.len() > 1 {
        ctx.ui.note(&format!("{verb} {}", text::plural(removed.len() as u64, "job")));
    }
    Ok(if named && !kept.is_empty() { Exit::TempFail } else { Exit::Ok })
}

/// Files that batches of other jobs were made from, or answered into.
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

/// Why a job must stay.
fn held(job: &Job, store: &Store, force: bool) -> Result<Option<String>> {
    if store.in_use(&job.id) {
        return Ok(Some("another llbatch works on it".to_owned()));
    }
    let batches = if store.job_path(&job.id).exists() { store.open_job(&job.id)?.batches()? } else { Vec::new() };
    if batches.iter().any(BatchJob::is_open) {
        return Ok(Some("its batches have not ended, or their results are not in yet".to_owned()));
    }
    if !job.state.ended() && !force {
        return Ok(Some("it has not ended (--force removes it all the same)".to_owned()));
    }
    if !batches.is_empty() && !job.delivered && job.succeeded > 0 && !force {
        return Ok(Some("its results were never written anywhere (`llbatch fetch`, or --force)".to_owned()));
    }
    Ok(None)
}
