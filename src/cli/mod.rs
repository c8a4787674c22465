//! The command line: the only user of clap. One file per subcommand.
#![expect(clippy::doc_markdown, reason = "comments on arguments are the help texts, read in a terminal")]
#![allow(rustdoc::bare_urls, reason = "comments on arguments are the help texts, read in a terminal")]

mod args;
mod cancel;
mod check;
mod clean;
mod completions;
mod doctor;
mod failure;
mod fetch;
mod help;
mod job_words;
mod log;
mod merge;
mod models;
mod prepare;
mod preview;
mod report;
mod retry;
mod run;
mod sandbox;
mod serve;
mod service;
mod spending;
mod status;
mod submit;
mod synonyms;
mod wait;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use self::args::{InputArgs, TellArgs};
use self::log::start_log;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::finish::Ended;
use crate::job::jobs_service;
use crate::job::report::report_on_job;
use crate::settings::{Flags, JobsService, Settings};
use crate::state_place::StateMode;
use crate::telling::Telling;
use crate::text;
use crate::ui::{AutoSwitch, LogFormat, Ui, UiOptions};

/// Run LLM prompts from JSONL and CSV, on Together AI or a service with an API like OpenAI's: N rows in, N rows out, in input order.
#[derive(Debug, Parser)]
#[command(name = "llbatch", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  llbatch run samples/prompts.jsonl --sandbox -o out.jsonl    try it: no key, no network, no cost
  llbatch run prompts.jsonl -o out.jsonl                      answer every row (needs TOGETHER_API_KEY)
  llbatch run reviews.csv -m meta-llama/Llama-3.2-3B-Instruct-Turbo \\
      --prompt 'Sentiment of: {{ text }}' -o out.csv          a table in, a table out
  llbatch submit prompts.jsonl                                the same in batches
  llbatch submit prompts.jsonl --wait -o out.jsonl            submit, wait and fetch in one command
  llbatch status                                              recent jobs
  llbatch fetch last -o out.jsonl                             a job's results

Exit codes: 0 all rows answered, 3 some rows failed, 4 key, 5 payment, budget
or deadline, 65 invalid input, 74 disk, 75 not finished or try again later,
76 the service broke its contract, 130 interrupted (run the same command again
to resume). `llbatch help errors` lists all codes.

The manual: `llbatch help PAGE` prints a page. Pages: start, input, templates,
results, realtime, batch, money, answers, endpoints, services, data, scale,
schedulers, ci, errors, json, faq, from-others, performance, design, reference.";

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Global {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Print only warnings and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Print details; twice: also requests and retries
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Show progress
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", value_parser = when())]
    progress: AutoSwitch,
    /// Use colours (NO_COLOR is respected)
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", value_parser = when())]
    color: AutoSwitch,
    /// Form of stderr: text, or one JSON object a line with ts, level, msg and job
    #[arg(long, global = true, value_name = "FORM", default_value = "text", value_parser = log_format())]
    log_format: LogFormat,
    /// Config file [env: LLBATCH_CONFIG] [default: ~/.config/llbatch/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory for jobs [env: LLBATCH_STATE_DIR] [default: ~/.local/state/llbatch]
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Use of the state directory: auto (by its file system), local, or network (one host at a time) [env: LLBATCH_STATE_MODE]
    #[arg(long, global = true, value_name = "MODE", value_parser = state_mode())]
    state_mode: Option<StateMode>,
    /// URL of the service [env: TOGETHER_BASE_URL] [default: https://api.together.ai/v1]
    #[arg(long, global = true, value_name = "URL")]
    base_url: Option<String>,
    /// Service of the config file: [services.NAME] [env: LLBATCH_SERVICE] [default: together]
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "base_url")]
    service: Option<String>,
    /// File with the API key, readable only by you [env: TOGETHER_API_KEY holds the key itself]
    #[arg(long, global = true, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Send no key, whatever is configured
    #[arg(long, global = true, conflicts_with = "api_key_file")]
    no_key: bool,
    /// Use the built-in server: no key, no network, no cost
    #[arg(long, global = true)]
    sandbox: bool,
}

fn when() -> impl clap::builder::TypedValueParser<Value = AutoSwitch> {
    use clap::builder::TypedValueParser;
    clap::builder::PossibleValuesParser::new(["auto", "always", "never"]).try_map(|text| text.parse::<AutoSwitch>())
}

fn log_format() -> impl clap::builder::TypedValueParser<Value = LogFormat> {
    use clap::builder::TypedValueParser;
    let form = |text: String| if text == "json" { LogFormat::Json } else { LogFormat::Text };
    clap::builder::PossibleValuesParser::new(["text", "json"]).map(form)
}

fn state_mode() -> impl clap::builder::TypedValueParser<Value = StateMode> {
    use clap::builder::TypedValueParser;
    clap::builder::PossibleValuesParser::new(["auto", "local", "network"]).try_map(|text| text.parse::<StateMode>())
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
    Submit(Box<submit::SubmitArgs>),
    Prepare(Box<prepare::PrepareArgs>),
    Check(Box<check::CheckArgs>),
    Status(status::StatusArgs),
    Wait(wait::WaitArgs),
    Fetch(fetch::FetchArgs),
    Retry(retry::RetryArgs),
    Cancel(cancel::CancelArgs),
    Report(report::ReportArgs),
    Merge(Box<merge::MergeArgs>),
    Models(models::ModelsArgs),
    Serve(serve::ServeArgs),
    Clean(clean::CleanArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
    Help(help::HelpArgs),
    /// Print the version
    #[command(hide = true)]
    Version,
}

impl Command {
    /// Returns whether the command looks for jobs in the state directory.
    const fn names_jobs(&self) -> bool {
        !matches!(
            self,
            Self::Prepare(_)
                | Self::Check(_)
                | Self::Merge(_)
                | Self::Models(_)
                | Self::Serve(_)
                | Self::Completions(_)
                | Self::Man(_)
                | Self::Help(_)
                | Self::Version
        )
    }

    /// Returns true unless the command does with what is stored.
    const fn needs_service(&self) -> bool {
        match self {
            Self::Report(_) | Self::Completions(_) => false,
            Self::Status(args) => args.needs_service(),
            Self::Clean(args) => args.needs_service(),
            _ => true,
        }
    }

    /// The inputs of a command that reads some.
    fn input(&mut self) -> Option<&mut InputArgs> {
        match self {
            Self::Run(args) => Some(args.input()),
            Self::Submit(args) => Some(&mut args.input),
            Self::Prepare(args) => Some(&mut args.input),
            Self::Check(args) => Some(&mut args.input),
            _ => None,
        }
    }

    /// Returns true unless the command can do without inputs.
    fn needs_input(&self) -> bool {
        if let Self::Run(args) = self { args.needs_input() } else { true }
    }

    /// The flags of a command that tells others how it goes and ends. A command that sends nothing tells nobody.
    const fn tell(&self) -> Option<&TellArgs> {
        match self {
            Self::Run(args) => args.tell(),
            Self::Submit(args) => args.tell(),
            Self::Wait(args) => Some(&args.tell),
            Self::Retry(args) => args.tell(),
            _ => None,
        }
    }

    /// The jobs whose own service the command uses; none for recent jobs. `None`: the command has a service of its own.
    fn jobs(&self) -> Option<&[String]> {
        match self {
            Self::Wait(args) => Some(args.jobs()),
            Self::Fetch(args) => Some(args.jobs()),
            Self::Retry(args) => Some(args.jobs()),
            Self::Cancel(args) => Some(args.jobs()),
            Self::Run(args) => Some(args.jobs()).filter(|jobs| !jobs.is_empty()),
            Self::Status(args) => Some(args.jobs()).filter(|_| args.asks()),
            Self::Clean(args) => Some(args.jobs_with_files()).filter(|jobs| !jobs.is_empty()),
            _ => None,
        }
    }
}

/// Runs the command line `argv` (with the program's name in front), prints everything, and returns the exit code.
/// `leave` ends the process at once.
pub fn main(argv: &[OsString], leave: fn(Exit) -> !) -> Exit {
    let cli = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(error) => return failure::explain(error, argv),
    };
    let env = |name: &str| std::env::var(name).ok();
    let global = &cli.global;
    let ui = Ui::new(UiOptions {
        quiet: global.quiet,
        verbose: global.verbose,
        color: global.color,
        progress: global.progress,
        no_color_env: env("NO_COLOR").is_some_and(|v| !v.is_empty()),
        columns: env("COLUMNS").and_then(|v| v.parse().ok()),
        json: global.json,
        log: global.log_format,
    });
    start_log(global.verbose, &ui);
    let telling = Telling::default();
    let output = Output { ui: ui.clone(), telling: telling.clone() };
    let exit = dispatch(cli, output, &env, argv, leave).unwrap_or_else(|error| {
        ui.end();
        if error.exit != Exit::ClosedPipe {
            ui.error(&error);
        }
        error.exit
    });
    failure::tell(exit, &ui);
    telling.finish(exit, &ui);
    telling.act_at_last();
    exit
}

/// The ways by which a command speaks.
struct Output {
    ui: Ui,
    telling: Telling,
}

fn dispatch(
    cli: Cli,
    Output { ui, telling }: Output,
    env: &dyn Fn(&str) -> Option<String>,
    argv: &[OsString],
    leave: fn(Exit) -> !,
) -> Result<Exit> {
    // Packagers run these commands without a home directory or a config file.
    match &cli.command {
        Command::Completions(args) if !args.lists_jobs() => {
            return completions::completions(args, cli.global.json, &ui);
        }
        Command::Man(args) => return completions::man(args, cli.global.json, &ui),
        Command::Help(args) => return help::run(args, cli.global.json, &ui, argv),
        Command::Version if cli.global.json => {
            let document = serde_json::to_string_pretty(&failure::VersionDocument::default())
                .map_err(|e| Error::new(Exit::Failure, "the document cannot be made").because(e))?;
            return print_on(&format!("{document}\n"), &ui).map(|()| Exit::Ok);
        }
        Command::Version => {
            return print_on(concat!("llbatch ", env!("CARGO_PKG_VERSION"), "\n"), &ui).map(|()| Exit::Ok);
        }
        _ => {}
    }
    let global = cli.global;
    let flags = Flags {
        config: global.config,
        state_dir: global.state_dir,
        state_mode: global.state_mode,
        base_url: global.base_url,
        service: global.service,
        jobs_service: JobsService::Unknown,
        api_key_file: global.api_key_file,
        no_key: global.no_key,
        sandbox: global.sandbox,
    };
    let mut settings = Settings::resolve(&flags, &env).or_else(|error| {
        // A name in the environment or the config file may be wrong; one on the command line is always said.
        let without = Flags { jobs_service: JobsService::Unnamed, ..flags.clone() };
        if cli.command.needs_service() { Err(error) } else { Settings::resolve(&without, &env) }
    })?;
    sandbox::learn_dialect(&mut settings);
    let argv = argv.iter().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let mut ctx = Ctx { settings, ui, json: global.json, telling, leave, argv };
    crate::job::outlive_file_limit();
    if cli.command.names_jobs() {
        // The command itself says what is wrong with the state directory, if it needs one.
        if let Err(error) = crate::job::orphans::take_in(&ctx) {
            tracing::info!("{error}");
        }
        let own = flags.sandbox || flags.base_url.is_some() || flags.service.is_some();
        if let Some(names) = cli.command.jobs().filter(|_| !own) {
            use_service_of(names, &flags, env, &mut ctx)?;
        }
    }
    let mut command = cli.command;
    let needs_input = command.needs_input();
    if let Some(input) = command.input() {
        input.find_shard(env, &ctx.ui)?;
        if needs_input || !input.inputs.is_empty() {
            input.find_stdin(&ctx.ui);
        }
    }
    execute(command, &ctx).map_err(|error| service::explain_keyless(error, &ctx))
}

fn execute(command: Command, ctx: &Ctx) -> Result<Exit> {
    if let Some(tell) = command.tell() {
        ctx.telling.begin(tell.resolve(&ctx.settings)?, &ctx.ui);
    }
    let ended = carry_out(command, ctx);
    sum_up(ctx);
    ended
}

/// Sums up the jobs of a command that has shown no summary, for those who want to be told of its end.
fn sum_up(ctx: &Ctx) {
    for job in ctx.telling.unsummarised() {
        match report_on_job(&job, ctx) {
            Ok(report) => ctx.telling.summarise(&report.summary),
            Err(error) => tracing::info!("{error}"),
        }
    }
}

fn carry_out(command: Command, ctx: &Ctx) -> Result<Exit> {
    match command {
        Command::Run(args) => run::run(*args, ctx),
        Command::Check(args) => check::run(&args, ctx),
        Command::Models(args) => models::run(&args, ctx),
        Command::Prepare(args) => prepare::run(&args, ctx),
        Command::Submit(args) => submit::run(&args, ctx),
        Command::Wait(args) => wait::run(&args, ctx),
        Command::Fetch(args) => fetch::run(&args, ctx),
        Command::Retry(args) => retry::run(&args, ctx),
        Command::Cancel(args) => cancel::run(&args, ctx),
        Command::Clean(args) => clean::run(&args, ctx),
        Command::Status(args) => status::run(&args, ctx),
        Command::Report(args) => report::run(&args, ctx),
        Command::Merge(args) => merge::run(&args, ctx),
        Command::Serve(args) => serve::run(args, ctx),
        Command::Doctor(args) => doctor::run(&args, ctx),
        Command::Completions(_) => job_words::jobs(ctx),
        Command::Man(_) | Command::Help(_) | Command::Version => Ok(Exit::Ok),
    }
}

/// Resolves the settings again if the jobs that the command names belong to another service than the environment and the
/// config file choose.
fn use_service_of(names: &[String], flags: &Flags, env: &dyn Fn(&str) -> Option<String>, ctx: &mut Ctx) -> Result<()> {
    let jobs_service = jobs_service::of(names, ctx);
    let differs = match &jobs_service {
        JobsService::Unknown => false,
        JobsService::Sandbox => true,
        // Stored values need no service. A command that needs it says that it is gone.
        JobsService::Named(name) => ctx.settings.services.contains(name),
        JobsService::Unnamed => ctx.settings.service.is_some(),
    };
    if differs {
        let sandbox = jobs_service == JobsService::Sandbox;
        ctx.settings = Settings::resolve(&Flags { jobs_service, sandbox, ..flags.clone() }, &env)?;
        sandbox::learn_dialect(&mut ctx.settings);
    }
    Ok(())
}

/// Shows a summary as text or JSON, says in the last line how the command ended and which files it wrote, and returns
/// `exit`. `said`: lines of the summary that the command has said before, by their labels.
fn print_summary(ended: &Ended, said: &[&str], ctx: &Ctx) -> Result<Exit> {
    let Ended { summary, verdict, written, .. } = ended;
    let exit = verdict.exit;
    ctx.telling.summarise(summary);
    if exit == Exit::ClosedPipe {
        return Ok(exit);
    }
    if written.guarded > 0 {
        ctx.ui.note(&format!(
            "{} would be run by a spreadsheet as a formula and got a leading apostrophe; --csv-raw writes answers as they \
             are",
            text::plural(written.guarded, "answer")
        ));
    }
    if let Some(path) = written.results.as_ref().filter(|_| written.partial) {
        let path = path.display().to_string();
        let whole = path.strip_suffix(".partial").unwrap_or(&path);
        let why = match exit {
            Exit::Protocol => "the service broke its contract",
            _ => "the results are not complete",
        };
        ctx.ui.warn(&format!("{why}, so {whole} stays as it was and {path} holds what there is"));
    }
    ctx.ui.block(&summary.table(summary_width(ctx.ui.stderr_width()), Some(summary.exit.code), said, |_| {}));
    if ctx.json {
        print_json(summary, ctx)?;
    }
    let files: Vec<&Path> =
        [&written.results, &written.errors, &written.summary].into_iter().flatten().map(PathBuf::as_path).collect();
    ctx.ui.verdict(exit, &summary.verdict(&files));
    ended.record_told_at_last(ctx);
    Ok(exit)
}

/// Returns the columns of a summary on a terminal of that many: sentences over a whole wide screen are hard to read. A pipe or
/// a file, without bound, gets whole lines.
fn summary_width(columns: usize) -> u16 {
    u16::try_from(columns).map_or(u16::MAX, |columns| columns.min(100))
}

/// Writes one JSON document to stdout.
fn print_json(value: &impl serde::Serialize, ctx: &Ctx) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(Exit::Failure, "the document cannot be made").because(e))?;
    ctx.ui.document(&format!("{text}\n")).map_err(|e| Error::io("standard output: cannot be written", e))
}

/// Writes text to stdout.
fn print_text(text: &str, ctx: &Ctx) -> Result<()> {
    print_on(text, &ctx.ui)
}

/// Writes a table to stdout, and names the columns that the terminal has no room for.
fn print_table(grid: &text::Grid, ctx: &Ctx) -> Result<()> {
    ctx.ui.table(grid).map_err(|e| Error::io("standard output: cannot be written", e))?;
    name_hidden(grid, ctx.ui.table_width(), ctx);
    Ok(())
}

/// Names the columns of a table for which `width` has no room.
fn name_hidden(grid: &text::Grid, width: usize, ctx: &Ctx) {
    let hidden = grid.hidden(width);
    if !hidden.is_empty() {
        ctx.ui.hint(&format!(
            "{width} columns have no room for {}; a wider terminal or --json shows all",
            hidden.join(", ")
        ));
    }
}

fn print_on(text: &str, ui: &Ui) -> Result<()> {
    ui.document(text).map_err(|e| Error::io("standard output: cannot be written", e))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
