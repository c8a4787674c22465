//! `llbatch wait`: returns when jobs have ended and the store has their results.

use clap::Args;

use super::args::{TellArgs, WaitingArgs};
use super::service::connect_later;
use super::status;
use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::job::batch::adopt;
use crate::job::batch::follow::wait;

/// Wait until jobs have ended, and download their results
///
/// Prints a line per status change and downloads results as batches finish. Waits through outages. Exits 0 if every row
/// was answered, 3 if rows failed, 75 on a timeout.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch wait last --timeout 6h; llbatch fetch last -o out.jsonl
  llbatch wait nightly j-abcd1234")]
pub struct WaitArgs {
    /// Job id or its unique prefix, --name, `last`, or a batch id of the service
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    #[command(flatten)]
    waiting: WaitingArgs,
    #[command(flatten)]
    pub(super) tell: TellArgs,
}

impl WaitArgs {
    /// The jobs that the command names.
    pub(super) fn jobs(&self) -> &[String] {
        &self.jobs
    }
}

/// Runs the subcommand.
pub fn run(args: &WaitArgs, ctx: &Ctx) -> Result<Exit> {
    let waiting = args.waiting.resolve(None, ctx.settings.sandbox)?;
    let service = connect_later(ctx)?;
    let jobs = adopt::find_all(&args.jobs, service.remote(), ctx)?;
    let service = service.for_jobs(&jobs, true, ctx)?;
    let waited = wait(&jobs, waiting, service.remote(), ctx)?;
    let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    status::print_jobs(&ids, ctx)?;
    if !waited.ended {
        ctx.ui.warn("--timeout has passed, but not all jobs have ended");
    }
    Ok(waited.exit)
}
