//! `llbatch check`: the forecast of a job, without sending anything.

use std::path::{Path, PathBuf};

use clap::Args;

use super::args::InputArgs;
use super::{name_hidden, preview, print_json, print_text};
use crate::api::is_on_this_machine;
use crate::check::calibrate::Factors;
use crate::check::document::CheckDocument;
use crate::check::quote::Counting;
use crate::check::{Pass, first_look, unlisted};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::OpenedInputs;
use crate::job::ask::CostLimit;
use crate::job::remote::WITHOUT_KEY;
use crate::money::budget::{BudgetedWork, admit};
use crate::price::Nanos;
use crate::request::RequestBuilder;
use crate::store::Store;
use crate::tokens::Estimator;
use crate::ui::Results;

/// Validate and price the rows, sending nothing: problems, tokens, realtime and batch cost
///
/// Exits 65 if a row is invalid. Costs are a range: from the prompts alone up to every answer at its `max_tokens`.
#[derive(Debug, Args)]
#[command(
    visible_alias = "estimate",
    after_help = "\
Examples:
  llbatch check prompts.jsonl
  llbatch check reviews.csv --prompt 'Classify: {{ text }}' -m meta-llama/Llama-3.2-3B-Instruct-Turbo --max-tokens 5
  llbatch check big.jsonl --json | jq '.cost.batch_usd.max'"
)]
pub struct CheckArgs {
    #[command(flatten)]
    pub(super) input: InputArgs,
    /// Count tokens with this Hugging Face tokenizer.json (Llama 3 family) instead of estimating them
    #[arg(long, value_name = "FILE", help_heading = "Requests")]
    tokenizer: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(args: &CheckArgs, ctx: &Ctx) -> Result<Exit> {
    if args.input.inputs.is_empty() {
        return Err(InputArgs::missing("llbatch check prompts.jsonl"));
    }
    if let Some(rows) = args.input.preview {
        return preview::show(&args.input, rows, ctx);
    }
    DryRun {
        input: &args.input,
        tokenizer: args.tokenizer.as_deref(),
        limit: None,
        with_budget: false,
        auto: false,
        dedupe: false,
    }
    .show(ctx)
}

/// A command that only shows its plan: `check`, and `run` and `submit` with `--dry-run`.
pub(super) struct DryRun<'a> {
    /// The rows.
    pub input: &'a InputArgs,
    /// `--tokenizer`
    pub tokenizer: Option<&'a Path>,
    /// Limits of the cost of a submission.
    pub limit: Option<CostLimit>,
    /// The command has a budget of its own, so the text names what budgets reserve.
    pub with_budget: bool,
    /// Also shows which models `--via auto` would put into batches.
    pub auto: bool,
    /// Of equal requests, only the first is sent.
    pub dedupe: bool,
}

impl DryRun<'_> {
    /// Checks, prices and prints.
    pub fn show(&self, ctx: &Ctx) -> Result<Exit> {
        let document = match self.tokenizer.map(estimator).transpose()? {
            // An exact count needs no correction.
            Some(exact) => self.document(&Counting { estimator: &exact, factors: Factors::default() }, ctx),
            None => self.document(&Counting::usual(learned(ctx)), ctx),
        }?;
        if ctx.json {
            print_json(&document, ctx)?;
        } else {
            let with_budget = self.with_budget || ctx.settings.budget.is_set();
            let width = ctx.ui.table_width();
            print_text(&document.text(width, with_budget), ctx)?;
            name_hidden(&document.grid(), width, ctx);
        }
        let limit = self.limit.and_then(CostLimit::remaining);
        if document.exit() == Exit::Ok && limit.is_some() && document.set_aside_in_batches().is_some() {
            let upper_bound = document.set_aside_in_batches();
            admit(
                BudgetedWork {
                    upper_bound,
                    later: Nanos::ZERO,
                    allow_unpriced: false,
                    unpriced: "",
                    prices: &ctx.settings.prices,
                },
                limit.as_ref(),
            )?;
        }
        Ok(document.exit())
    }

    fn document(&self, counting: &Counting<'_>, ctx: &Ctx) -> Result<CheckDocument> {
        let stdin = self.input.stdin()?;
        let builder = RequestBuilder::new(&self.input.params(&ctx.settings)?)?;
        let progress = ctx.ui.progress(Results::Elsewhere);
        progress.phase("reading input");
        let new_file = || Store::open(ctx.settings.state_place()?)?.spool();
        let opened = OpenedInputs::open(&self.input.inputs, stdin, self.input.reading(), new_file)?;
        progress.phase("checking input");
        first_look(&opened.inputs, &builder, &ctx.ui)?;
        let pass = Pass { max_problems: self.input.max_problems, ..Pass::new(&opened.inputs, &builder) };
        let mut document = CheckDocument::of(&pass, &ctx.settings.prices, counting, self.dedupe)?;
        progress.finish();
        if self.auto {
            document.divide(&ctx.settings.prices);
        }
        document.advice.splice(0..0, unlisted(document.model_names(), ctx));
        let unused = builder.unused(&document.model_names(), ctx.settings.run.model.as_deref());
        document.advice.extend(unused);
        Ok(document)
    }
}

/// Reads the file of `--tokenizer`.
fn estimator(path: &Path) -> Result<Estimator> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::new(Exit::NoInput, format!("--tokenizer {}: cannot be read", path.display())).because(e))?;
    Estimator::from_file(&text).map_err(|why| Error::usage(format!("--tokenizer {}: {why}", path.display())))
}

/// Reads the corrections learned from earlier jobs of the account, if there are any. It does not create a missing
/// directory.
pub(super) fn learned(ctx: &Ctx) -> Factors {
    let Ok(dir) = ctx.settings.state_dir() else { return Factors::default() };
    let Some(service) = super::service::name(ctx).filter(|service| !is_on_this_machine(service)) else {
        return Factors::default();
    };
    let service = ctx.settings.service_name().map_or(service, str::to_owned);
    // A check needs no key, and learns nothing without one.
    let Ok(key) = ctx.settings.key() else { return Factors::default() };
    let account = key.map_or_else(|| WITHOUT_KEY.to_owned(), |key| ctx.settings.account(&key));
    if !dir.join("ledger.db").exists() {
        return Factors::default();
    }
    ctx.settings
        .state_place()
        .and_then(Store::open)
        .and_then(|store| Factors::of(&store.ledger()?, &service, &account))
        .unwrap_or_else(|error| {
            ctx.ui.detail(&format!("{error}; the estimates ignore what earlier jobs taught"));
            Factors::default()
        })
}
