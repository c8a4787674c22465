//! `llbatch clean`: removes the files of ended jobs.

use clap::Args;

use super::print_json;
use super::service::connect;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::clean::{CleanAsk, CleanDocument, KeptJob, chosen, clean};
use crate::settings;
use crate::text;

/// Remove the local data of ended jobs, and with --remote their files at the service
///
/// Keeps jobs that have not ended, and jobs whose answers were never fetched. With --force, keeps only those whose
/// batches have not ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch clean --older-than 30d            all jobs that ended 30 days ago or earlier
  llbatch clean j-abcd1234 --remote         also its files at the service")]
pub struct CleanArgs {
    /// Job id or its unique prefix, --name, `last`, or a batch id of the service
    #[arg(value_name = "JOB", required_unless_present = "older_than")]
    jobs: Vec<String>,
    /// All jobs that ended at least this long ago (30d, 12h)
    #[arg(long, value_name = "TIME")]
    older_than: Option<String>,
    /// Also delete the uploaded files and the result files at the service
    #[arg(long)]
    remote: bool,
    /// Also remove interrupted jobs, and jobs whose results were never written
    #[arg(long)]
    force: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

impl CleanArgs {
    /// Returns true if the command deletes files at the service.
    pub(super) const fn needs_service(&self) -> bool {
        self.remote
    }

    /// The jobs that the command names whose files at the service it deletes.
    pub(super) fn jobs_with_files(&self) -> &[String] {
        if self.remote { &self.jobs } else { &[] }
    }
}

/// Runs the subcommand.
pub fn run(args: &CleanArgs, ctx: &Ctx) -> Result<Exit> {
    let age = args
        .older_than
        .as_deref()
        .map(|text| settings::long_duration(text).map_err(|e| Error::usage(format!("--older-than: {e}"))))
        .transpose()?;
    let ask = CleanAsk { jobs: &args.jobs, older_than: age, force: args.force, dry_run: args.dry_run };
    let jobs = chosen(&ask, ctx)?;
    // Without a job to remove, no key is needed.
    let service = if args.remote && !args.dry_run && !jobs.is_empty() { Some(connect(ctx)?) } else { None };
    let cleaned = clean(jobs, &ask, service.as_ref().map(|service| service.remote()), ctx)?;
    let exit = if !args.jobs.is_empty() && !cleaned.kept.is_empty() { Exit::TempFail } else { Exit::Ok };
    if ctx.json {
        print_json(&cleaned, ctx)?;
    } else {
        print(&cleaned, args.dry_run, ctx);
    }
    Ok(exit)
}

fn print(CleanDocument { removed, kept, already_removed, .. }: &CleanDocument, dry_run: bool, ctx: &Ctx) {
    let verb = if dry_run { "would remove" } else { "removed" };
    for id in removed {
        ctx.ui.note(&format!("{verb} {id}"));
    }
    for KeptJob { job, reason } in kept {
        ctx.ui.note(&format!("kept {job}: {reason}"));
    }
    for id in already_removed {
        ctx.ui.note(&format!("{id}: already removed"));
    }
    if removed.is_empty() && kept.is_empty() && already_removed.is_empty() {
        ctx.ui.note("nothing to remove");
    } else if removed.len() + kept.len() > 1 {
        ctx.ui.note(&format!("{verb} {}", text::plural(removed.len() as u64, "job")));
    }
}
