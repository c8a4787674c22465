//! `llbatch retry`: the rows that failed, once more.

use clap::Args;

use super::args::{CostArgs, LockArgs, SpeedArgs};
use super::service::connect;
use super::{print_json, print_summary, print_text, status};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::batch::{PATIENCE, Work, adopt, rescue};
use crate::store::Transport;
use crate::text;
use crate::ui::Results;

/// Send failed, missing and expired rows again, within the same job
///
/// Answers are kept; only rows without one are sent, as new batches or at realtime, and what it may cost is said first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch retry last                        then: wait, fetch
  llbatch retry last --via realtime         now, at the realtime price; then: fetch last -o FILE
  llbatch retry last --via realtime --max-cost 2
  llbatch retry last --dry-run              only say what it would cost")]
pub struct Retry {
    /// A job's id, a unique beginning of it, its --name, `last`, or a Together batch id
    #[arg(value_name = "JOB")]
    job: String,
    /// How to send them [default: as the job was]
    #[arg(long, value_name = "TRANSPORT", value_parser = ["batch", "realtime"])]
    via: Option<String>,
    /// Also rows whose request was refused for good (400, no such model, too long)
    #[arg(long)]
    all: bool,
    /// Say how many rows and what they would cost; send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    cost: CostArgs,
    #[command(flatten)]
    speed: SpeedArgs,
}

/// Runs the subcommand.
pub fn run(args: &Retry, ctx: &Ctx) -> Result<Exit> {
    let service = connect(ctx)?;
    let job = adopt::find(&args.job, service.remote(), ctx)?;
    let batch = match args.via.as_deref() {
        Some(via) => via == "batch",
        None => job.transport == Transport::Batch,
    };
    if batch && args.speed.is_given() {
        return Err(
            Error::usage("batches have no --concurrency, rates or timeouts").hint("these go with --via realtime")
        );
    }
    let id = job.id.clone();
    let wait = args.lock.wait(None);
    let mut work = Work::open_waiting(&job, service.remote(), ctx, PATIENCE, Results::Elsewhere, wait)?;
    if work.open_batches()?.1 > 0 {
        // Its submission was cut short: that comes first, and may be all there is to do.
        work.admit_unsent(args.cost.max_cost, args.cost.allow_unpriced)?;
        ctx.ui.note(&format!("{id}: submitting what its command did not get to"));
        work.submit(false)?;
    }
    if !work.advance(false)? {
        let (open, _) = work.open_batches()?;
        return Err(Error::new(Exit::TempFail, text::unended(open, &id)).hint(format!(
            "`llbatch wait {id}{0}` waits for the end, `llbatch cancel {id}{0}` brings it about",
            work.flags()
        )));
    }
    if batch && !work.spec.params.endpoint.in_batches() {
        return Err(Error::usage(format!(
            "{id} asks {}, which Together's batches do not serve",
            work.spec.params.endpoint
        ))
        .hint("--via realtime"));
    }
    work.account()?;
    if !args.dry_run && batch {
        work.keep_input()?;
        work.account_lost()?;
    }
    let again = work.again(args.all, batch)?;
    let left = if again.left > 0 {
        format!("; {} failed for good and stay as they are (--all sends them too)", text::plural(again.left, "row"))
    } else {
        String::new()
    };
    if again.rows.is_empty() {
        ctx.ui.note(&format!("{id}: no row to send again{left}"));
        if !ctx.json {
            print_text(&format!("{id}\n"), ctx)?;
        }
        return Ok(if again.left > 0 { Exit::RowsFailed } else { Exit::Ok });
    }
    let price = if batch { "at the batch price" } else { "at the realtime price" };
    let cost = again.cost.map_or_else(|| "an unknown amount".to_owned(), |usd| format!("about {}", usd.human()));
    ctx.ui.note(&format!("{id}: {} to send again, {cost} {price}{left}", text::plural(again.rows.len() as u64, "row")));
    if args.dry_run {
        return Ok(Exit::Ok);
    }
    if !ctx.json {
        print_text(&format!("{id}\n"), ctx)?;
    }
    if batch {
        let reserve = work.admit_again(&again, args.cost.max_cost, args.cost.allow_unpriced)?;
        work.plan_again(&again.rows, reserve)?;
        work.submit(false)?;
        let flag = work.flags();
        work.progress.finish();
        let refused = work.refused()?;
        drop(work);
        if ctx.json {
            print_json(&status::document(&[id.as_str()], ctx)?, ctx)?;
        } else {
            ctx.ui.hint(&format!("`llbatch wait {id}{flag}`, then `llbatch fetch {id}{flag} -o FILE`"));
        }
        return Ok(if refused > 0 { Exit::RowsFailed } else { Exit::Ok });
    }
    let options = args.speed.options(work.spec.params.endpoint, None, ctx)?;
    let flag = work.flags();
    drop(work);
    let cost = (args.cost.max_cost, args.cost.allow_unpriced);
    let (summary, exit) = rescue::realtime(&id, options, cost, (args.all, false, wait), None, service.remote(), ctx)?;
    let exit = print_summary(&summary, exit, ctx)?;
    ctx.ui.hint(&format!("`llbatch fetch {id}{flag} -o FILE` writes the results"));
    Ok(exit)
}
