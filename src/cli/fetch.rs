//! `llbatch fetch`: a job's results.

use std::time::Instant;

use clap::Args;

use super::args::{LockArgs, ResultArgs, WaitArgs};
use super::print_summary;
use super::service::connect;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::batch::follow::follow;
use crate::job::batch::{PATIENCE, Work, adopt};
use crate::store::LockWait;
use crate::text;
use crate::ui::Results;

/// Download, verify and write a job's results: every row in input order, answered or with its error
///
/// Works for any end of a batch, after the input is gone, and as often as you like: the same bytes each time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch fetch last -o out.jsonl
  llbatch fetch nightly -o out.csv --errors failed.csv
  llbatch fetch j-abcd1234 --wait --timeout 6h -o out.jsonl
  llbatch fetch 4cc8ee1a-7a66-4c2f-9c11-b2a7a3b4a6b1 -o out.jsonl      a batch that others created")]
pub struct Fetch {
    /// A job's id, a unique beginning of it, its --name, `last`, or a Together batch id
    #[arg(value_name = "JOB")]
    job: String,
    /// Write what there is; rows without an end yet are marked as not answered (exit 75)
    #[arg(long, conflicts_with = "wait")]
    partial: bool,
    /// Wait for the end first
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    waiting: WaitArgs,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    results: ResultArgs,
}

/// Runs the subcommand.
pub fn run(args: &Fetch, ctx: &Ctx) -> Result<Exit> {
    let began = Instant::now();
    if args.waiting.is_given() && !args.wait {
        return Err(Error::usage("--timeout and --poll need --wait"));
    }
    let delivery = args.results.resolve(ctx.json)?;
    let waiting = args.waiting.resolve(None, ctx.settings.sandbox)?;
    let service = connect(ctx)?;
    let job = adopt::find(&args.job, service.remote(), ctx)?;
    let shown = if delivery.output.is_some() { Results::Elsewhere } else { Results::Stdout };
    // Who waits for the batches waits for others who do.
    let wait = if args.wait { LockWait::until(waiting.until) } else { args.lock.wait(None) };
    let mut work = Work::open_waiting(&job, service.remote(), ctx, PATIENCE, shown, wait)?;
    let outputs = work.outputs(&delivery)?;
    let ended = if args.wait {
        follow(std::slice::from_mut(&mut work), waiting)?
    } else {
        match work.advance(false) {
            // What there is can be written all the same.
            Err(error) if args.partial && matches!(error.exit, Exit::TempFail | Exit::Failure) => {
                ctx.ui.warn(&error.to_string());
                false
            }
            ended => ended?,
        }
    };
    if !ended && !args.partial {
        work.account()?;
        let (open, _) = work.open_batches()?;
        let what = if args.wait { "--timeout is over" } else { "not finished yet" };
        return Err(Error::new(Exit::TempFail, format!("{what}: {}", text::unended(open, &work.job.id)))
            .hint("--wait waits for the end, --partial writes what there is"));
    }
    let (summary, exit) = work.deliver(outputs, delivery.form.is_flat(), began)?;
    print_summary(&summary, exit, ctx)
}
