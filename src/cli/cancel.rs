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
pub struct CancelArgs {
    /// Job id or its unique prefix, --name, `last`, or a Together batch id
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
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
    let cancelled = cancel(&jobs, service.remote(), ctx)?;
    let ids: Vec<&str> = cancelled.jobs.iter().map(String::as_str).collect();
    status::print_jobs(&ids, ctx)?;
    if !cancelled.ended {
        ctx.ui.note("the service is still cancelling; `llbatch wait` collects the answers that exist");
    }
    Ok(Exit::Ok)
}
