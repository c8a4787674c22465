//! `llbatch run`: answers rows in real time.

use std::path::PathBuf;

use clap::Args;

use super::args::{
    AnswersArgs, CostArgs, InputArgs, LockArgs, OnceArgs, ResultArgs, SpeedArgs, TagArgs, TellArgs, deadline,
};
use super::check::DryRun;
use super::service::connect_later;
use super::{preview, print_summary};
use crate::atomic_file::local;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::ask::{Ask, OnceAsk, RetryFilter, Reuse, Role, RunAsk, Start};
use crate::job::run;
use crate::realtime::SpeedOptions;
use crate::request::{Endpoint, FilesDir};

/// Answer every row now, with concurrent requests and automatic rate limiting
///
/// Results keep the input's order. If a run is interrupted or killed, run the command again: it resumes, and answered
/// rows are not sent again. Running a finished command again starts a new job.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    #[command(flatten)]
    input: InputArgs,

    #[command(flatten)]
    results: ResultArgs,
    /// With --endpoint images or speech: directory for the files that answers are, named by the ids of their rows
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    files: Option<PathBuf>,

    #[command(flatten)]
    cost: CostArgs,
    #[command(flatten)]
    once: OnceArgs,
    /// Send rows whose prompts begin alike near each other, for caches of prompts; results keep the input's order
    #[arg(long, conflicts_with = "pack", help_heading = "Cost")]
    group_by_prefix: bool,

    #[command(flatten)]
    speed: SpeedArgs,
    /// Start no request after this duration (2h) or time of day (06:00)
    #[arg(long, value_name = "TIME", help_heading = "Speed")]
    deadline: Option<String>,

    /// Check and price the rows like `llbatch check`, and send nothing
    #[arg(long = "dry-run")]
    dry: bool,
    /// With --dry-run: count tokens with this tokenizer.json
    #[arg(long, value_name = "FILE", requires = "dry")]
    tokenizer: Option<PathBuf>,
    /// Name of the job, for `status` and --resume
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    tags: TagArgs,
    /// Reuse the answers of the last job of this command or content, or of JOB, and send only the other rows; without one, start anew
    #[arg(long, value_name = "JOB", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    resume: Option<String>,
    /// Start a new job even if this command was interrupted
    #[arg(long, conflicts_with = "resume")]
    fresh: bool,
    #[command(flatten)]
    answers: AnswersArgs,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    tell: TellArgs,
}

const EXAMPLES: &str = "\
Examples:
  llbatch run samples/prompts.jsonl --sandbox -o out.jsonl
  llbatch run samples/prompts.csv --sandbox -o answers.csv --prefix llm_      (it has a column `model` of its own)
  llbatch run reviews.csv -m … --prompt 'Positive or negative? {{ text }}' --max-tokens 5 -o out.csv
  zcat big.jsonl.gz | llbatch run - --rpm 600 > out.jsonl
  llbatch run big.jsonl -o out.jsonl --resume      for schedulers: starts anew, or sends only what lacks an answer";

impl RunArgs {
    /// Says that flags for rejected answers do nothing here.
    fn say_idle_rechecks(&self, ctx: &Ctx) {
        let Some(rechecks) = self.speed.recheck.filter(|_| !self.input.inputs.is_empty()) else { return };
        let has_rules = self.input.json_schema.is_some() || !self.input.choices.is_empty();
        match (self.speed.grow_max_tokens, self.input.max_tokens) {
            (None, _) if !has_rules => ctx.ui.warn(&format!(
                "--recheck {rechecks}: no rule rejects an answer, so no row is sent again; give --json-schema or --choices"
            )),
            (Some(growth), Some(bound)) if growth.is_below(bound) => ctx.ui.warn(&format!(
                "--grow-max-tokens: its largest bound is not above --max-tokens {bound}, so no answer may be longer"
            )),
            _ => {}
        }
    }

    /// The inputs.
    pub(super) const fn input(&mut self) -> &mut InputArgs {
        &mut self.input
    }

    /// The flags for telling others, of a command that sends something.
    pub(super) const fn tell(&self) -> Option<&TellArgs> {
        if self.dry || self.input.preview.is_some() { None } else { Some(&self.tell) }
    }

    /// Returns true unless the command goes on with the inputs of a job.
    pub(super) fn needs_input(&self) -> bool {
        self.resume.as_ref().is_none_or(String::is_empty)
    }

    /// The job that the command resumes with the job's own input.
    pub(super) fn jobs(&self) -> &[String] {
        let named = self.resume.as_ref().filter(|job| self.input.inputs.is_empty() && !job.is_empty());
        named.map_or(&[], std::slice::from_ref)
    }

    /// The directory for the files of answers.
    ///
    /// # Errors
    /// 2 if the endpoint makes files and there is no directory, or the other way round; for an address; for flags that
    /// would share answers with others.
    fn files_of(&self, endpoint: Endpoint) -> Result<Option<FilesDir>> {
        let Some(shown) = self.files.clone() else {
            if endpoint.makes_files() && !self.input.inputs.is_empty() {
                return Err(Error::usage(format!("--endpoint {endpoint}: answers are files, and --files is missing"))
                    .hint("add --files DIR: the directory that they are written to"));
            }
            return Ok(None);
        };
        if self.input.inputs.is_empty() {
            return Err(Error::usage("--files: the job has its directory already")
                .hint("leave --files out; --resume=JOB goes on with the directory of the job"));
        }
        if !endpoint.makes_files() {
            return Err(Error::usage(format!("--files: answers of --endpoint {endpoint} are no files"))
                .hint("leave --files out; --endpoint images and --endpoint speech need it"));
        }
        local(&shown)?;
        let once = &self.once;
        let shares = [
            ("--dedupe", once.dedupe),
            ("--reuse", once.reuse.is_some()),
            ("--reuse-from", once.reuse_from.is_some()),
            ("--answers", self.answers.answers.is_some()),
        ];
        if let Some((flag, _)) = shares.iter().find(|(_, given)| *given) {
            return Err(Error::usage(format!("{flag}: files of answers belong to one row of one job"))
                .hint(format!("leave {flag} out; each row of --endpoint {endpoint} is sent")));
        }
        let dir = std::path::absolute(&shown).unwrap_or_else(|_| shown.clone());
        Ok(Some(FilesDir { dir, shown }))
    }
}

/// Runs the subcommand.
pub fn run(args: RunArgs, ctx: &Ctx) -> Result<Exit> {
    args.input.stdin()?;
    let named = args.resume.clone().filter(|job| !job.is_empty());
    if args.input.inputs.is_empty() && named.is_none() {
        return Err(InputArgs::missing("llbatch run prompts.jsonl -o out.jsonl"));
    }
    let endpoint = args.input.realtime_endpoint()?;
    if let Some(rows) = args.input.preview.filter(|_| !args.input.inputs.is_empty()) {
        return preview::show(&args.input, rows, ctx);
    }
    let delivery = args.results.resolve(ctx.json && !args.dry)?;
    if args.dry && !args.input.inputs.is_empty() {
        let tokenizer = args.tokenizer.as_deref();
        let with_budget = args.cost.max_cost.is_some();
        return DryRun {
            input: &args.input,
            tokenizer,
            limit: None,
            with_budget,
            auto: false,
            dedupe: args.once.dedupe,
        }
        .show(ctx);
    }
    let mut input = args.input.spec(&ctx.settings)?;
    input.flags.params.files = args.files_of(endpoint)?;
    let deadline = args.deadline.as_deref().map(|given| deadline(given, ctx)).transpose()?;
    let speed = SpeedOptions { by_prefix: args.group_by_prefix, ..args.speed.options(deadline, ctx)? };
    if !args.input.inputs.is_empty() {
        speed.suit(endpoint)?;
    }
    args.say_idle_rechecks(ctx);
    let service = connect_later(ctx)?;
    let start = match named {
        Some(job) if args.input.inputs.is_empty() => {
            Start::Continue { job, flags: args.input.shapes_requests().then_some(input.flags) }
        }
        resume => Start::New { input, resume },
    };
    args.cost.say_part(args.input.shard, &ctx.ui);
    let ask = Ask {
        start,
        problems: args.input.problems(),
        name: args.name,
        tags: args.tags.resolve()?,
        limit: args.cost.limit(args.input.shard),
        wait: args.lock.wait(deadline),
        once: OnceAsk { answers: args.answers.resolve()?, ..args.once.resolve(&args.input.inputs)? },
    };
    let reuse = match (args.resume, args.fresh) {
        (_, true) => Reuse::Nothing,
        (None, false) => Reuse::Interrupted,
        (Some(_), false) => Reuse::Last,
    };
    let ask = RunAsk { job: ask, reuse, retry: RetryFilter::All, role: Role::Run, speed, delivery };
    let ended = run::run(ask, service.remote(), ctx)?;
    print_summary(&ended, &["job", "model"], ctx)
}
