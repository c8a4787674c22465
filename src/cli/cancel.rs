//! `llbatch cancel`: ends open batches and keeps their answers.

use clap::Args;

use super::service::connect_later;
use super::status;
use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::job::batch::adopt;
use crate::job::batch::cancel::cancel;

/// Cancel unfinished batches; answers given so far are kept and billed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch cancel last
  llbatch cancel j-ab12cd34 && llbatch fetch j-ab12cd34 -o results.jsonl    keep the answers so far")]
pub struct CancelArgs {
    /// Job id or its unique prefix, --name, `last`, or a batch id of the service
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    /// Also give up batches that the service does not end: their rows count as missing, and it may bill them
    #[arg(long)]
    abandon: bool,
}

impl CancelArgs {
    /// The jobs that the command names.
    pub(super) fn jobs(&self) -> &[String] {
        &self.jobs
    }
}

/// Runs the subcommand.
pub fn run(args: &CancelArgs, ctx: &Ctx) -> Result<Exit> {
    let service = connect_later(ctx)?;
    let jobs = adopt::find_all(&args.jobs, service.remote(), ctx)?;
    let service = service.for_jobs(&jobs, true, ctx)?;
    let cancelled = cancel(&jobs, args.abandon, service.remote(), ctx)?;
    let ids: Vec<&str> = cancelled.jobs.iter().map(String::as_str).collect();
    status::print_jobs(&ids, ctx)?;
    for (what, hint) in &cancelled.cancelling {
        ctx.ui.note(what);
        ctx.ui.hint(hint);
    }
    Ok(cancelled.exit)
}
