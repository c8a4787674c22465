//! `llbatch check`: what a job would be and cost, without sending anything.

use std::path::{Path, PathBuf};

use clap::Args;

use super::args::InputArgs;
use super::{print_json, print_text};
use crate::check::calibrate::Factors;
use crate::check::document as check;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::{Format, Inputs};
use crate::job::spool_stdin;
use crate::money::budget::{Remaining, admit};
use crate::price::Nanos;
use crate::request::RequestBuilder;
use crate::store::Store;
use crate::tokens::Estimator;
use crate::ui::Results;

/// Validate and price rows without sending anything: problems, tokens, realtime and batch cost
///
/// Exits 65 if a row is invalid. Costs are a range: from the prompts alone to every answer as long as it may be.
#[derive(Debug, Args)]
#[command(
    visible_alias = "estimate",
    after_help = "\
Examples:
  llbatch check prompts.jsonl
  llbatch check reviews.csv --prompt 'Classify: {{ text }}' -m meta-llama/Llama-3.2-3B-Instruct-Turbo --max-tokens 5
  llbatch check big.jsonl --json | jq '.cost.batch_usd.max'"
)]
pub struct Check {
    #[command(flatten)]
    input: InputArgs,
    /// Count tokens with this tokenizer.json (of Hugging Face, for the Llama 3 family) instead of the built-in estimate
    #[arg(long, value_name = "FILE", help_heading = "Requests")]
    tokenizer: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(args: &Check, ctx: &Ctx) -> Result<Exit> {
    if args.input.inputs.is_empty() {
        return Err(Error::usage("no INPUT: name files, or `-` for standard input").hint("llbatch check prompts.jsonl"));
    }
    show(&args.input, args.tokenizer.as_deref(), None, ctx)
}

/// Checks, prices and prints; `run --dry-run` and `submit --dry-run` do the same. `most`: what a submission may cost.
pub(super) fn show(input: &InputArgs, tokenizer: Option<&Path>, most: Option<Nanos>, ctx: &Ctx) -> Result<Exit> {
    show_via(input, tokenizer, (most, false), ctx)
}

/// The same; `auto`: also which models would go in batches, and which at realtime.
pub(super) fn show_via(
    input: &InputArgs,
    tokenizer: Option<&Path>,
    (most, auto): (Option<Nanos>, bool),
    ctx: &Ctx,
) -> Result<Exit> {
    if let Some(path) = tokenizer {
        let unusable = |why: String| Error::usage(format!("--tokenizer {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::new(Exit::NoInput, format!("--tokenizer {}: cannot be read", path.display())).because(e)
        })?;
        let estimator = Estimator::from_file(&text).map_err(unusable)?;
        // Exact, so there is nothing to correct.
        return print(input, (most, auto), ctx, (&estimator, &Factors::default()));
    }
    // What earlier jobs taught, if there were any; looking leaves nothing behind.
    let dir = &ctx.settings.state_dir.value;
    let learned = || Factors::of(&Store::open(dir)?.ledger()?);
    let factors = if dir.join("ledger.db").exists() {
        learned().unwrap_or_else(|error| {
            ctx.ui.detail(&format!("{error}; estimates do without what earlier jobs taught"));
            Factors::default()
        })
    } else {
        Factors::default()
    };
    print(input, (most, auto), ctx, (Estimator::shared(), &factors))
}

fn print(
    input: &InputArgs,
    (most, auto): (Option<Nanos>, bool),
    ctx: &Ctx,
    counting: (&Estimator, &Factors),
) -> Result<Exit> {
    let stdin = input.stdin()?;
    let shape = RequestBuilder::new(&input.params(ctx.settings.run.model.as_deref())?)?;
    let progress = ctx.ui.progress(Results::Elsewhere);
    progress.phase("reading input");
    let format = input.format();
    let (inputs, _spool) = if stdin {
        let (file, _) = spool_stdin(&Store::open(&ctx.settings.state_dir.value)?)?;
        (Inputs::spooled(file.path().to_owned(), "-", format.unwrap_or(Format::Jsonl)), Some(file))
    } else {
        (Inputs::resolve(&input.inputs, format)?, None)
    };
    progress.phase("checking input");
    let mut document = check::check(&inputs, &shape, input.max_problems, &ctx.settings.prices, counting)?;
    progress.finish();
    if auto {
        document.divide(&ctx.settings.prices);
    }
    if ctx.json {
        print_json(&document, ctx)?;
    } else {
        print_text(&document.text(ctx), ctx)?;
    }
    let limit = Remaining::of_max_cost(most);
    if document.exit() == Exit::Ok && limit.is_some() && document.set_aside_in_batches().is_some() {
        admit(document.set_aside_in_batches(), limit.as_ref(), false, "")?;
    }
    Ok(document.exit())
}
