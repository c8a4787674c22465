//! `llbatch submit`: inputs become Together batches.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::args::{CostArgs, InputArgs, LockArgs, ResultArgs, WaitArgs, deadline};
use super::check::DryRun;
use super::service::connect;
use super::{print_json, print_summary, print_text, status};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::batch::follow::{Waiting, follow};
use crate::job::batch::rescue::{self, Rescue};
use crate::job::batch::submit::{self, Entered, Order};
use crate::job::batch::{PATIENCE, Remote, Work};
use crate::price::Nanos;
use crate::store::Turn;
use crate::text;
use crate::ui::Results;

/// Submit rows as Together batch jobs, at the batch price
///
/// Checks every row, groups them by model, splits them at 50,000 rows and 100 MB, uploads and creates the batches, and
/// prints the job's id. The same content submitted again while its job lives is that job: nothing is sent or paid twice.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Submit {
    #[command(flatten)]
    input: InputArgs,

    /// Wait for the end and write the results, all in one command
    #[arg(long, help_heading = "Waiting")]
    wait: bool,
    #[command(flatten)]
    waiting: WaitArgs,
    /// Wait no longer than this: a span (8h) or a time of day (06:00); then exit 5, the batches go on
    #[arg(long, value_name = "TIME", help_heading = "Waiting", conflicts_with = "timeout")]
    deadline: Option<String>,
    /// At the deadline cancel what has not ended, and answer the rows without an answer at realtime
    #[arg(long, requires = "deadline", help_heading = "Waiting")]
    rescue: bool,
    #[command(flatten)]
    cost: CostArgs,

    #[command(flatten)]
    results: ResultArgs,

    /// How to send: all in batches; or, model by model, in batches where that saves, else at realtime now
    #[arg(long, value_name = "HOW", default_value = "batch", value_parser = ["batch", "auto"])]
    via: String,
    /// Check and price, as `llbatch check` does; send nothing
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: count tokens with this tokenizer.json
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    tokenizer: Option<PathBuf>,
    /// Name the job, for other commands
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Make a second job of content that is submitted already, and pay for it again
    #[arg(long)]
    again: bool,
    /// Refuse models that have no batch discount, or that batches do not serve
    #[arg(long)]
    require_discount: bool,
    #[command(flatten)]
    lock: LockArgs,
}

const EXAMPLES: &str = "\
Examples:
  llbatch submit samples/prompts.jsonl --sandbox               try it: no key, no network, no cost
  llbatch submit prompts.jsonl                                 then: status, wait, fetch last -o out.jsonl
  llbatch submit prompts.jsonl --wait -o out.jsonl             the whole night in one command
  llbatch submit reviews.csv --prompt 'Classify: {{ text }}' -m meta-llama/Llama-3.2-3B-Instruct-Turbo
  llbatch submit big.jsonl --deadline 06:00 --rescue --max-cost 5 -o out.jsonl
                                                               complete by morning, whatever it takes";

/// Runs the subcommand.
pub fn run(args: &Submit, ctx: &Ctx) -> Result<Exit> {
    let began = Instant::now();
    let stdin = args.input.stdin()?;
    if args.input.inputs.is_empty() {
        return Err(
            Error::usage("no INPUT: name files, or `-` for standard input").hint("llbatch submit prompts.jsonl")
        );
    }
    let wait = args.wait || args.deadline.is_some();
    if !wait && (args.results.is_given() || args.waiting.is_given()) {
        return Err(Error::usage("results and waiting need --wait")
            .hint("without it, `llbatch fetch last -o FILE` gets the results later"));
    }
    args.input.batch_endpoint()?;
    if args.dry_run {
        let auto = args.via == "auto";
        let max_cost = args.cost.max_cost.filter(|_| !auto);
        return DryRun { input: &args.input, tokenizer: args.tokenizer.as_deref(), max_cost, auto }.show(ctx);
    }
    let params = args.input.params(ctx.settings.run.model.as_deref())?;
    let delivery = if wait { Some(args.results.resolve(ctx.json)?) } else { None };
    let until = args.deadline.as_deref().map(deadline).transpose()?;
    let waiting = args.waiting.resolve(until, ctx.settings.sandbox)?;
    let service = connect(ctx)?;
    let to_stdout = delivery.as_ref().is_some_and(|delivery| delivery.output.is_none());
    let shown = if to_stdout { Results::Stdout } else { Results::Elsewhere };
    let order = Order {
        inputs: if stdin { Vec::new() } else { args.input.inputs.clone() },
        stdin,
        input_format: args.input.format(),
        params,
        skip_invalid: args.input.skip_invalid,
        max_problems: args.input.max_problems,
        name: args.name.clone(),
        again: args.again,
        require_discount: args.require_discount,
        auto: args.via == "auto",
        max_cost: args.cost.max_cost,
        allow_unpriced: args.cost.allow_unpriced,
        patience: PATIENCE,
        turn: args.lock.turn(waiting.until),
    };
    let Entered { mut work, known } = submit::enter(&order, service.remote(), ctx, shown)?;
    // Before money is spent.
    let outputs = match delivery.as_ref().map(|delivery| work.outputs(delivery)).transpose() {
        Ok(outputs) => outputs,
        // Nothing has been sent: no trace is left of a job that cannot be delivered.
        Err(error) if !known => {
            work.unplan()?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    work.opening(known)?;
    let id = work.job.id.clone();
    if !to_stdout && !ctx.json {
        print_text(&format!("{id}\n"), ctx)?;
    }
    work.courier.options.until = waiting.until;
    let sent = work.submit(false);
    match sent {
        // It is tried again while waiting for the others; at the deadline, if there is one, the rescue takes over.
        Err(error) if wait && (error.exit == Exit::TempFail || (args.rescue && error.exit == Exit::Failure)) => {
            ctx.ui.warn(&error.to_string());
        }
        sent => sent?,
    }
    work.courier.options.until = None;
    if args.via == "auto" {
        work = match realtime_part(work, args, order.turn, service.remote(), shown, ctx)? {
            Ok(work) => work,
            Err(stopped) => return Ok(stopped),
        };
    }
    let (Some(outputs), Some(delivery)) = (outputs, delivery) else {
        work.progress.finish();
        let refused = work.refused()?;
        if ctx.json {
            drop(work);
            print_json(&status::document(&[id.as_str()], ctx)?, ctx)?;
        } else {
            ctx.ui.hint(&format!(
                "`llbatch status {id}{0}`, `llbatch wait {id}{0}`, `llbatch fetch {id}{0} -o FILE`",
                work.flags()
            ));
        }
        return Ok(if refused > 0 { Exit::RowsFailed } else { Exit::Ok });
    };
    let flat = delivery.form.is_flat();
    let waiting = Waiting { submitting: true, ..waiting };
    let ended = match follow(std::slice::from_mut(&mut work), waiting) {
        Err(error) if args.rescue && matches!(error.exit, Exit::TempFail | Exit::Failure) => {
            ctx.ui.warn(&error.to_string());
            while !work.hold()? {
                std::thread::sleep(Duration::from_millis(500));
            }
            false
        }
        ended => ended?,
    };
    // What expired or failed before the deadline is rescued as well.
    if args.rescue && !(ended && work.again(false, false)?.rows.is_empty()) {
        let options = super::args::SpeedArgs::default().options(work.spec.params.endpoint, None, ctx)?;
        // The deadline is over by now; whoever still works on the job will not take long.
        let turn = args.lock.turn(None);
        let (max_cost, allow_unpriced) = (args.cost.max_cost, args.cost.allow_unpriced);
        let rescue = Rescue { delivery, options, max_cost, allow_unpriced, turn };
        let (summary, exit) = rescue::rescue(work, rescue, outputs, service.remote(), ctx)?;
        return print_summary(&summary, exit, ctx);
    }
    if ended {
        let (summary, exit) = work.deliver(outputs, flat, began)?;
        return print_summary(&summary, exit, ctx);
    }
    work.account()?;
    too_late(&work, args.deadline.is_some())
}

/// `--via auto`: the rows that no batch is to answer, now. An exit code if that was stopped.
fn realtime_part<'a>(
    work: Work<'a>,
    args: &Submit,
    turn: Turn,
    remote: Remote<'a>,
    shown: Results,
    ctx: &'a Ctx,
) -> Result<Result<Work<'a>, Exit>> {
    let rows = work.beside_batches()?;
    if rows == 0 {
        return Ok(Ok(work));
    }
    ctx.ui.note(&format!("{} at realtime now", text::plural(rows, "row")));
    // What the batches may cost is gone from the limit, and what an interrupted command has spent at realtime.
    let most = work.most()? + work.spent_at_realtime()?;
    let limit = args.cost.max_cost.map(|limit| Nanos((limit.0 - most.0).max(0)));
    let options = super::args::SpeedArgs::default().options(work.spec.params.endpoint, None, ctx)?;
    let (job, patience) = (work.job.clone(), work.courier.options.patience);
    work.progress.finish();
    drop(work);
    let cost = (limit, args.cost.allow_unpriced);
    let (summary, exit) = rescue::realtime(&job.id, options, cost, (false, true, turn), None, remote, ctx)?;
    if !matches!(exit, Exit::Ok | Exit::RowsFailed) {
        ctx.ui.warn(&format!("the rows for realtime: {}", summary.exit.reason));
        return Ok(Err(exit));
    }
    Work::open_in_turn(&job, remote, ctx, patience, shown, turn).map(Ok)
}

fn too_late(work: &Work<'_>, deadline: bool) -> Result<Exit> {
    let (exit, what) =
        if deadline { (Exit::Budget, "the deadline was reached") } else { (Exit::TempFail, "--timeout is over") };
    let (open, _) = work.open_batches()?;
    let count = text::unended(open, &work.job.id);
    Err(Error::new(exit, format!("{what}; {count}, and will go on")).hint(format!(
        "`llbatch wait {0}{1}` goes on waiting; `llbatch fetch {0}{1} --partial -o FILE` writes what there is",
        work.job.id,
        work.flags()
    )))
}
