//! `llbatch retry`: sends the failed rows again.

use clap::Args;

use super::args::{CostArgs, LockArgs, SpeedArgs, TellArgs};
use super::service::connect_later;
use super::{print_json, print_summary, print_text, status};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::batch::adopt;
use crate::job::batch::retry::{Retried, RetryAsk, Via, retry};
use crate::store::Transport;

/// Send failed, missing and expired rows again, within the same job
///
/// Keeps all answers and sends only rows without one, in new batches or in real time. Prints the expected cost first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch retry last                        then: wait, fetch
  llbatch retry last --via realtime         now, at the realtime price; then: fetch last -o FILE
  llbatch retry last --via realtime --max-cost 2
  llbatch retry last --dry-run              only show what it would cost")]
pub struct RetryArgs {
    /// Job id or its unique prefix, --name, `last`, or a batch id of the service
    #[arg(value_name = "JOB")]
    job: String,
    /// Send the rows in batches or in real time [default: like the job]
    #[arg(long, value_name = "TRANSPORT", value_parser = ["batch", "realtime"])]
    via: Option<String>,
    /// Also send rows that failed permanently (400, unknown model, too long)
    #[arg(long)]
    all: bool,
    /// Show the number of rows and their cost, and send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    cost: CostArgs,
    #[command(flatten)]
    speed: SpeedArgs,
    #[command(flatten)]
    tell: TellArgs,
}

impl RetryArgs {
    /// The job that the command names.
    pub(super) const fn jobs(&self) -> &[String] {
        std::slice::from_ref(&self.job)
    }

    /// The flags for telling others, of a command that sends something.
    pub(super) const fn tell(&self) -> Option<&TellArgs> {
        if self.dry_run { None } else { Some(&self.tell) }
    }
}

/// Runs the subcommand.
pub fn run(args: &RetryArgs, ctx: &Ctx) -> Result<Exit> {
    let service = connect_later(ctx)?;
    let job = adopt::find(&args.job, service.remote(), ctx)?;
    let service = service.for_jobs(std::slice::from_ref(&job), args.dry_run, ctx)?;
    let batch = args.via.as_deref().map_or(job.transport == Transport::Batch, |via| via == "batch");
    if batch && args.speed.is_given() {
        return Err(
            Error::usage("batches take no --concurrency, rates or timeouts").hint("pass them with --via realtime")
        );
    }
    let via = if batch { Via::Batch } else { Via::Realtime(Box::new(args.speed.options(None, ctx)?)) };
    let id = job.id.clone();
    let ask = RetryAsk {
        job,
        via,
        all: args.all,
        dry_run: args.dry_run,
        limit: args.cost.limit(None),
        wait: args.lock.wait(None),
    };
    let announce = |job: &str| if ctx.json { Ok(()) } else { print_text(&format!("{job}\n"), ctx) };
    match retry(ask, service.remote(), ctx, &announce)? {
        Retried::Priced => {
            if ctx.json {
                print_json(&status::document(&[id.as_str()], ctx)?, ctx)?;
            }
            Ok(Exit::Ok)
        }
        Retried::Submitted { exit, hint } => {
            if ctx.json {
                print_json(&status::document(&[id.as_str()], ctx)?, ctx)?;
            } else if let Some(hint) = hint {
                ctx.ui.hint(&hint);
            }
            Ok(exit)
        }
        Retried::Answered { ended, hint } => {
            let exit = print_summary(&ended, &["job", "model"], ctx)?;
            if let Some(hint) = hint {
                ctx.ui.hint(&hint);
            }
            Ok(exit)
        }
    }
}
