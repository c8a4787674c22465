//! `llbatch submit`: submits inputs as batches.

use std::path::PathBuf;

use clap::Args;

use super::args::{
    CostArgs, InputArgs, LockArgs, OnceArgs, ResultArgs, SpeedArgs, TagArgs, TellArgs, WaitingArgs, deadline,
};
use super::check::DryRun;
use super::service::connect_later;
use super::{preview, print_json, print_summary, print_text, status};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::batch::ask::{RescueAsk, SubmitAsk, WaitAsk};
use crate::job::batch::follow::Waiting;
use crate::job::batch::submit::{self, Submitted};

/// Submit rows as batches, at the batch price
///
/// Checks every row, groups the rows by model, splits them at 50,000 rows and 100 MB, uploads and creates the batches,
/// and prints the job's id. Submitting the same content again returns the existing job while it is active.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct SubmitArgs {
    #[command(flatten)]
    pub(super) input: InputArgs,

    /// Wait until the job has ended, then write its results
    #[arg(long, help_heading = "Waiting")]
    wait: bool,
    #[command(flatten)]
    waiting: WaitingArgs,
    /// Stop waiting after this duration (8h) or time of day (06:00), with exit 5; the batches keep running
    #[arg(long, value_name = "TIME", help_heading = "Waiting", conflicts_with = "timeout")]
    deadline: Option<String>,
    /// At the deadline, cancel unfinished batches and send unanswered rows in real time; at once if all batches have ended
    #[arg(long, requires = "deadline", help_heading = "Waiting")]
    rescue: bool,
    #[command(flatten)]
    cost: CostArgs,
    #[command(flatten)]
    once: OnceArgs,

    #[command(flatten)]
    results: ResultArgs,

    /// Send all rows in batches, or let llbatch choose for each model: a batch where that saves money, else in real time
    #[arg(long, value_name = "HOW", default_value = "batch", value_parser = ["batch", "auto"])]
    via: String,
    /// Refused: a batch has a line for each row
    #[arg(long, value_name = "N", hide = true)]
    pack: Option<u64>,
    /// Check and price the rows like `llbatch check`, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: count tokens with this tokenizer.json
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    tokenizer: Option<PathBuf>,
    /// Name of the job, for other commands
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    tags: TagArgs,
    /// Start a second job even if the same content was submitted before, and pay again
    #[arg(long)]
    again: bool,
    /// Resend only the failed rows of the last job with this content, or of JOB; without such a job, submit all rows
    #[arg(long, value_name = "JOB", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "again")]
    resume: Option<String>,
    /// Refuse models without a batch discount, and models that batches do not serve
    #[arg(long)]
    require_discount: bool,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    tell: TellArgs,
}

const EXAMPLES: &str = "\
Examples:
  llbatch submit samples/prompts.jsonl --sandbox               try it: no key, no network, no cost
  llbatch submit prompts.jsonl                                 then: status, wait, fetch last -o out.jsonl
  llbatch submit prompts.jsonl --wait -o out.jsonl             submit, wait and fetch in one command
  llbatch submit reviews.csv --prompt 'Classify: {{ text }}' -m meta-llama/Llama-3.2-3B-Instruct-Turbo
  llbatch submit big.jsonl --deadline 06:00 --rescue --max-cost 5 -o out.jsonl
                                                               complete by 6 a.m., for 5 USD at most";

/// Runs the subcommand.
pub fn run(args: &SubmitArgs, ctx: &Ctx) -> Result<Exit> {
    let wait = args.wait || args.deadline.is_some();
    args.checked(wait)?;
    if let Some(rows) = args.input.preview {
        return preview::show(&args.input, rows, ctx);
    }
    let auto = args.via == "auto";
    if args.dry_run {
        let limit = Some(args.cost.limit(args.input.shard)).filter(|_| !auto);
        let with_budget = args.cost.max_cost.is_some();
        let tokenizer = args.tokenizer.as_deref();
        return DryRun { input: &args.input, tokenizer, limit, with_budget, auto, dedupe: args.once.dedupe }.show(ctx);
    }
    let input = args.input.spec(&ctx.settings)?;
    let until = args.deadline.as_deref().map(|given| deadline(given, ctx)).transpose()?;
    let waiting = args.waiting.resolve(until, ctx.settings.sandbox)?;
    let speed = || SpeedArgs::default().options(None, ctx);
    let delivery = if wait { Some(args.delivery(waiting, ctx)?) } else { None };
    let service = connect_later(ctx)?;
    let to_stdout = delivery.as_ref().is_some_and(|wait| wait.delivery.output.is_none());
    args.cost.say_part(args.input.shard, &ctx.ui);
    let ask = SubmitAsk {
        input,
        problems: args.input.problems(),
        name: args.name.clone(),
        tags: args.tags.resolve()?,
        again: args.again,
        resume: args.resume.clone(),
        once: args.once.resolve(&args.input.inputs)?,
        require_discount: args.require_discount,
        auto: auto.then(speed).transpose()?,
        limit: args.cost.limit(args.input.shard),
        wait: args.lock.wait(waiting.until),
        results: delivery,
    };
    let announce = |job: &str| if to_stdout || ctx.json { Ok(()) } else { print_text(&format!("{job}\n"), ctx) };
    match submit::submit(ask, service.remote(), ctx, &announce)? {
        Submitted::Delivered(ended) => print_summary(&ended, &["job"], ctx),
        Submitted::Stopped(exit) => Ok(exit),
        Submitted::Created { job, exit, hint } => {
            if ctx.json {
                print_json(&status::document(&[job.as_str()], ctx)?, ctx)?;
            } else if let Some(hint) = hint {
                ctx.ui.hint(&hint);
            }
            Ok(exit)
        }
    }
}

impl SubmitArgs {
    /// The flags for telling others, of a command that sends something.
    pub(super) const fn tell(&self) -> Option<&TellArgs> {
        if self.dry_run || self.input.preview.is_some() { None } else { Some(&self.tell) }
    }

    /// Refuses conflicting flags. `wait`: the command delivers the results.
    fn checked(&self, wait: bool) -> Result<()> {
        self.input.stdin()?;
        if self.input.inputs.is_empty() {
            return Err(InputArgs::missing("llbatch submit prompts.jsonl"));
        }
        if !wait && (self.results.is_given() || self.waiting.is_given()) {
            return Err(Error::usage("-o, --timeout and the other flags about results and waiting need --wait")
                .hint("without it, `llbatch fetch last -o FILE` gets the results later"));
        }
        if !wait && self.tell.is_given() {
            return Err(Error::usage("--metrics, --on-done and --notify need --wait")
                .hint("without it, `llbatch wait last` takes the same flags"));
        }
        if self.pack.is_some() {
            return Err(Error::usage("--pack: a batch has a line for each row, and batches do not serve embeddings")
                .hint("`llbatch run --endpoint embeddings --pack N` packs rows into requests"));
        }
        self.input.batch_endpoint()?;
        Ok(())
    }

    fn delivery(&self, waiting: Waiting, ctx: &Ctx) -> Result<WaitAsk> {
        // The deadline has passed when a rescue begins, so a lock holder will finish soon.
        let rescue = || Ok(RescueAsk { speed: SpeedArgs::default().options(None, ctx)?, wait: self.lock.wait(None) });
        Ok(WaitAsk {
            delivery: self.results.resolve(ctx.json)?,
            waiting,
            deadline: self.deadline.is_some(),
            rescue: self.rescue.then(rescue).transpose()?,
        })
    }
}
