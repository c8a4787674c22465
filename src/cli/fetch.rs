//! `llbatch fetch`: writes a job's results.

use clap::Args;

use super::args::{LockArgs, ResultArgs, WaitingArgs};
use super::print_summary;
use super::service::connect_later;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::batch::adopt;
use crate::job::batch::deliver::{FetchAsk, fetch};

/// Download, verify and write a job's results: every row in input order, with an answer or an error
///
/// Works however a batch ended, and after the input is deleted. Fetching again writes the same bytes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch fetch last -o out.jsonl
  llbatch fetch nightly -o out.csv --errors failed.csv
  llbatch fetch j-abcd1234 --wait --timeout 6h -o out.jsonl
  llbatch fetch 4cc8ee1a-7a66-4c2f-9c11-b2a7a3b4a6b1 -o out.jsonl      a batch created elsewhere")]
pub struct FetchArgs {
    /// Job id or its unique prefix, --name, `last`, or a batch id of the service
    #[arg(value_name = "JOB")]
    job: String,
    /// Write the results so far to FILE.partial, with unfinished rows marked as not answered (exit 75)
    #[arg(long, conflicts_with = "wait")]
    partial: bool,
    /// Wait until the job has ended
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    waiting: WaitingArgs,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    results: ResultArgs,
}

impl FetchArgs {
    /// The job that the command names.
    pub(super) const fn jobs(&self) -> &[String] {
        std::slice::from_ref(&self.job)
    }
}

/// Runs the subcommand.
pub fn run(args: &FetchArgs, ctx: &Ctx) -> Result<Exit> {
    if args.waiting.is_given() && !args.wait {
        return Err(Error::usage("--timeout and --poll need --wait"));
    }
    let delivery = args.results.resolve(ctx.json)?;
    let waiting = args.waiting.resolve(None, ctx.settings.sandbox)?;
    let service = connect_later(ctx)?;
    let job = adopt::find(&args.job, service.remote(), ctx)?;
    let service = service.for_jobs(std::slice::from_ref(&job), true, ctx)?;
    let ask = FetchAsk {
        job,
        delivery,
        waiting: args.wait.then_some(waiting),
        partial: args.partial,
        wait: args.lock.wait(None),
    };
    let ended = fetch(&ask, service.remote(), ctx)?;
    print_summary(&ended, &[], ctx)
}
