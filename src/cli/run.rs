//! `llbatch run`: flags become a [`Plan`].

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::args::InputArgs;
use super::{print_json, sandbox};
use crate::api::{Client, ClientOptions, canonical_base};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::output;
use crate::pipeline::run::{self, Plan, Resume};
use crate::realtime::{AUTO_CONCURRENCY, Options, limiter::Rates};
use crate::settings::{self, Knob};

/// Answer every row over realtime, many requests at a time under a rate limiter
///
/// Results keep the input's order. Interrupted or killed, the same command goes on where it stopped: rows that were
/// answered are not sent again. A finished command, typed again, starts a new job.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    #[command(flatten)]
    input: InputArgs,

    /// Write results to FILE, whole or not at all; by ending: .jsonl .csv .tsv [default: stdout, as rows are answered]
    #[arg(short, long, value_name = "FILE", help_heading = "Results")]
    output: Option<PathBuf>,
    /// Form of the results [default: by the ending of -o, else jsonl]
    #[arg(long, value_name = "FORMAT", value_parser = ["jsonl", "csv", "tsv"], help_heading = "Results")]
    format: Option<String>,
    /// JSONL with the record's own fields and content, tokens, cost … beside them (csv and tsv always are)
    #[arg(long, help_heading = "Results")]
    flat: bool,
    /// Put before our column names, where the record has the same ones
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, help_heading = "Results")]
    prefix: String,
    /// Write failed rows to this file instead of the results
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    errors: Option<PathBuf>,
    /// Leave cells that begin with = + - @ as they are (a spreadsheet may run them)
    #[arg(long, help_heading = "Results")]
    csv_raw: bool,
    /// Write the summary as JSON
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    summary: Option<PathBuf>,

    /// Requests in flight
    #[arg(long, value_name = "N|auto", help_heading = "Speed")]
    concurrency: Option<Knob>,
    /// Requests a minute
    #[arg(long, value_name = "N|auto", help_heading = "Speed")]
    rpm: Option<Knob>,
    /// Tokens a minute
    #[arg(long, value_name = "N|auto", help_heading = "Speed")]
    tpm: Option<Knob>,
    /// Failures of a row before it is given up; being told to wait (429, 503) does not count [default: 5]
    #[arg(long, value_name = "N", help_heading = "Speed")]
    retries: Option<u32>,
    /// Time for one request [default: 10m]
    #[arg(long, value_name = "TIME", help_heading = "Speed")]
    request_timeout: Option<String>,
    /// Stop, resumable, when nothing at all has succeeded for so long [default: 15m]
    #[arg(long, value_name = "TIME", help_heading = "Speed")]
    give_up_after: Option<String>,
    /// Start no request after this: a span (2h) or a time of day (06:00)
    #[arg(long, value_name = "TIME", help_heading = "Speed")]
    deadline: Option<String>,

    /// Name the job, for `status` and --resume
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Reuse the good rows of this command's last job, or of JOB, and send only the others
    #[arg(long, value_name = "JOB", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    resume: Option<String>,
    /// Start anew even if this command was interrupted
    #[arg(long, conflicts_with = "resume")]
    fresh: bool,
}

const EXAMPLES: &str = "\
Examples:
  llbatch run samples/prompts.jsonl --sandbox -o out.jsonl
  llbatch run samples/prompts.csv --sandbox -o answers.csv --prefix llm_      (it has a column `model` of its own)
  llbatch run reviews.csv -m … --prompt 'Positive or negative? {{ text }}' --max-tokens 5 -o out.csv
  zcat big.jsonl.gz | llbatch run - --rpm 600 > out.jsonl
  llbatch run big.jsonl -o out.jsonl --resume      after it finished: send only the failed rows again";

/// Runs the subcommand.
pub fn run(args: Run, ctx: &Ctx) -> Result<Exit> {
    let config = &ctx.settings.run;
    let stdin = args.input.stdin()?;
    let resume = match (&args.resume, args.fresh) {
        (_, true) => Resume::Fresh,
        (None, false) => Resume::Auto,
        (Some(job), false) if job.is_empty() => Resume::Last,
        (Some(job), false) => Resume::Job(job.clone()),
    };
    if args.input.inputs.is_empty() && !matches!(resume, Resume::Job(_)) {
        return Err(Error::usage("no INPUT: name files, or `-` for standard input")
            .hint("llbatch run prompts.jsonl -o out.jsonl"));
    }
    let form = form(&args)?;
    let options = options(&args, ctx)?;
    let params = args.input.params(config.model.as_deref())?;
    let sandbox = sandbox::start_if_asked(ctx)?;
    let (base_url, key, service) = if let Some(server) = &sandbox {
        (server.url.clone(), "sandbox".to_owned().into(), "sandbox".to_owned())
    } else {
        let base = canonical_base(&ctx.settings.base_url.value)
            .map_err(|e| Error::usage(format!("base URL ({}): {e}", ctx.settings.base_url.origin)))?;
        (base.to_string(), ctx.settings.key()?, base.to_string())
    };
    let user_agent = format!("llbatch/{}", env!("CARGO_PKG_VERSION"));
    let client = Client::new(&ClientOptions { base_url, key: Some(key), user_agent }).map_err(Error::usage)?;
    let plan = Plan {
        inputs: if stdin { Vec::new() } else { args.input.inputs.clone() },
        stdin,
        shaped: args.input.shapes_requests(),
        input_format: args.input.format(),
        params,
        skip_invalid: args.input.skip_invalid,
        max_problems: args.input.max_problems,
        name: args.name,
        resume,
        options,
        output: args.output.filter(|p| p.as_os_str() != "-"),
        errors: args.errors,
        form,
        summary: args.summary,
        service,
    };
    let results_on_stdout = plan.output.is_none();
    if ctx.json && results_on_stdout {
        return Err(Error::usage("--json and results on stdout would be mixed up")
            .hint("give -o FILE, or --summary FILE in place of --json"));
    }
    let (summary, exit) = run::run(plan, &client, ctx)?;
    if exit == Exit::ClosedPipe {
        return Ok(exit);
    }
    ctx.ui.block(&summary.table(u16::try_from(ctx.ui.width()).unwrap_or(u16::MAX).min(100)));
    if ctx.json {
        print_json(&summary, ctx)?;
    }
    Ok(exit)
}

fn form(args: &Run) -> Result<output::Options> {
    let by_ending = args.output.as_deref().and_then(output::Format::of_path);
    let format = match &args.format {
        Some(text) => text.parse().map_err(|_| Error::usage(format!("--format {text}: expected jsonl, csv or tsv")))?,
        None => match (&args.output, by_ending) {
            (_, Some(format)) => format,
            (Some(path), None) if path.extension().is_some() && path.is_absolute() && path.starts_with("/dev") => {
                output::Format::Jsonl
            }
            _ => output::Format::Jsonl,
        },
    };
    Ok(output::Options { format, flat: args.flat, prefix: args.prefix.clone(), csv_raw: args.csv_raw })
}

fn options(args: &Run, ctx: &Ctx) -> Result<Options> {
    let config = &ctx.settings.run;
    let time = |name: &str, flag: &Option<String>, config: &Option<String>, default: u64| {
        let text = flag.as_ref().or(config.as_ref());
        text.map_or(Ok(Duration::from_secs(default)), |t| {
            settings::duration(t).map_err(|e| Error::usage(format!("{name}: {e}")))
        })
    };
    let concurrency = args.concurrency.or(config.concurrency);
    let rpm = args.rpm.or(config.rpm);
    // Every request holds a socket; some files are open too.
    let room = open_files().saturating_sub(64).max(1);
    let wanted = match concurrency.unwrap_or_default() {
        Knob::Fixed(n) => usize::try_from(n).unwrap_or(usize::MAX),
        Knob::Auto => AUTO_CONCURRENCY.min(room),
    };
    if wanted > room {
        return Err(Error::usage(format!("--concurrency {wanted}: this process may open {room} connections"))
            .hint("raise the limit with `ulimit -n`, or ask for less"));
    }
    let rates = Rates {
        rpm: match rpm {
            Some(Knob::Fixed(n)) => Some(n as f64),
            _ => None,
        },
        tpm: match args.tpm.or(config.tpm) {
            Some(Knob::Fixed(n)) => Some(n),
            _ => None,
        },
        // Who names a concurrency or a rate has said how to begin; only otherwise is the rate felt for from below.
        open: matches!(rpm, Some(Knob::Fixed(_))) || (rpm.is_none() && matches!(concurrency, Some(Knob::Fixed(_)))),
    };
    Ok(Options {
        path: args.input.endpoint.parse::<crate::request::Endpoint>().map_err(Error::usage)?.path(),
        concurrency: wanted,
        rates,
        retries: args.retries.or(config.retries).unwrap_or(5),
        request_timeout: time("--request-timeout", &args.request_timeout, &config.request_timeout, 600)?,
        deadline: args.deadline.as_deref().map(deadline).transpose()?,
        give_up_after: time("--give-up-after", &args.give_up_after, &config.give_up_after, 900)?,
        // About what is in flight is claimed at a time, so that few rows are in doubt after a kill.
        claim: (wanted as u64).clamp(8, 256),
        // Known once the input has been checked.
        last_row: u64::MAX,
    })
}

/// How many files this process may open, after raising the soft limit as far as it goes.
fn open_files() -> usize {
    /// Beyond this nothing is gained, and some systems report "unlimited".
    const ENOUGH: u64 = 65_536;
    match rlimit::increase_nofile_limit(ENOUGH) {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(_) => 256,
    }
}

/// A span from now, or the next time that the clock on the wall shows this.
fn deadline(text: &str) -> Result<Instant> {
    let bad = |e: String| {
        Error::usage(format!("--deadline: {e}")).hint("a span such as 2h or 90m, or a time of day such as 06:00")
    };
    let wait = if text.contains(':') {
        let time: jiff::civil::Time = text.parse().map_err(|e: jiff::Error| bad(e.to_string()))?;
        let now = jiff::Zoned::now();
        let today = now.with().time(time).build().map_err(|e| bad(e.to_string()))?;
        let at = if today > now { today } else { today.tomorrow().map_err(|e| bad(e.to_string()))? };
        Duration::try_from(now.duration_until(&at)).map_err(|e| bad(e.to_string()))?
    } else {
        settings::duration(text).map_err(bad)?
    };
    Instant::now().checked_add(wait).ok_or_else(|| bad("too far away".to_owned()))
}
