//! Flags that several commands share, and how they become resolved values.

mod input;
mod read;
mod shard;
mod speed;
mod tell;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
pub use input::InputArgs;
pub use read::ReadArgs;
pub use shard::ShardArg;
pub use speed::SpeedArgs;
pub use tell::{TagArgs, TellArgs};

use crate::atomic_file::writable;
use crate::batch::driver::SubmitScope;
use crate::context::Ctx;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::input::Shard;
use crate::job::ask::{CostLimit, EarlierAsk, OnceAsk};
use crate::job::batch::follow::Waiting;
use crate::objects::{Direction, ObjectBucket, ObjectUrl, is_url, kept_path};
use crate::price::Nanos;
use crate::results::{Delivery, MoreColumns, ResultFormat, ResultOptions};
use crate::settings;
use crate::store::LockWait;
use crate::text;
use crate::ui::Ui;

/// Columns that flat results have only if the user asks for them.
#[derive(Debug, Args)]
pub struct ColumnArgs {
    /// With --json-schema: add a column for each top-level property of the schema to flat results, csv and tsv
    #[arg(long, help_heading = "Results")]
    pub unpack: bool,
    /// Add the columns first_token_ms (with --stream) and tokens_per_s to flat results, csv and tsv
    #[arg(long, help_heading = "Results")]
    pub timing: bool,
    /// Add the columns cached_tokens and reasoning_tokens to flat results, csv and tsv
    #[arg(long, help_heading = "Results")]
    pub usage_columns: bool,
}

/// The destination and the form of results.
#[derive(Debug, Args)]
pub struct ResultArgs {
    /// Write results to FILE or a URL (.jsonl .csv .tsv .parquet; s3:// gs:// az://) once they are complete [default: stdout, in
    /// input order]
    #[arg(short, long, value_name = "FILE", help_heading = "Results")]
    pub output: Option<PathBuf>,
    /// Format of the results [default: by the ending of -o, else jsonl]
    #[arg(long, value_name = "FORMAT", value_parser = ["jsonl", "csv", "tsv", "parquet"], help_heading = "Results")]
    pub format: Option<String>,
    /// Write flat JSONL: the record's fields plus content, tokens, cost … (csv, tsv and parquet always do)
    #[arg(long, help_heading = "Results")]
    pub flat: bool,
    #[command(flatten)]
    pub columns: ColumnArgs,
    /// Prefix for llbatch's columns, if the record has other columns of the same names
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, help_heading = "Results")]
    pub prefix: String,
    /// Write failed rows to this file or URL instead of the results
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub errors: Option<PathBuf>,
    /// Do not prefix answers that begin with = + - @ with an apostrophe (spreadsheets may run them)
    #[arg(long, help_heading = "Results")]
    pub csv_raw: bool,
    /// Write the summary to FILE or a URL as JSON
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub summary: Option<PathBuf>,
    /// Exit with 0 although rows failed; they are in the results, with their errors
    #[arg(long, help_heading = "Results")]
    pub tolerate_failures: bool,
}

impl ColumnArgs {
    const fn resolve(&self) -> MoreColumns {
        MoreColumns { unpacked: self.unpack, timing: self.timing, usage: self.usage_columns }
    }

    /// The first flag that was given.
    fn given(&self) -> Option<&'static str> {
        let flags = [("--unpack", self.unpack), ("--timing", self.timing), ("--usage-columns", self.usage_columns)];
        flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

impl ResultArgs {
    /// Checks the flags and decides the format. With `json`, standard output carries a JSON document.
    ///
    /// # Errors
    /// 2 for an unknown format, or for results and a document on one stream.
    pub fn resolve(&self, json: bool) -> Result<Delivery> {
        let output = self.output.clone().filter(|p| p.as_os_str() != "-");
        for path in [&output, &self.errors, &self.summary].into_iter().flatten() {
            writable(path)?;
        }
        let named = match &self.format {
            Some(text) => Some(
                text.parse()
                    .map_err(|_| Error::usage(format!("--format {text}: expected jsonl, csv, tsv or parquet")))?,
            ),
            None => output.as_deref().map_or(Ok(None), format_of)?,
        };
        let format = named.unwrap_or(ResultFormat::Jsonl);
        if let Some(path) = &self.errors {
            let theirs = if self.format.is_some() { ResultFormat::of_path(path) } else { format_of(path)? };
            if theirs.is_some_and(|theirs| theirs != format) {
                return Err(Error::usage(format!(
                    "--errors {}: failed rows are written in the format of the results, {}",
                    path.display(),
                    format.as_str()
                ))
                .hint("give both files the same ending"));
            }
        }
        if json && output.is_none() {
            return Err(Error::usage("--json and the results would be mixed on stdout")
                .hint("pass -o FILE, or --summary FILE instead of --json"));
        }
        let form = ResultOptions {
            format,
            flat: self.flat,
            prefix: self.prefix.clone(),
            csv_raw: self.csv_raw,
            more: self.columns.resolve(),
            reused: false,
            files: false,
        };
        if let Some(flag) = self.columns.given().filter(|_| !form.is_flat()) {
            return Err(Error::usage(format!("{flag} adds columns to flat results, and these are not flat"))
                .hint("add --flat, or write csv, tsv or parquet"));
        }
        Ok(Delivery {
            output,
            errors: self.errors.clone(),
            form,
            summary: self.summary.clone(),
            tolerates_failures: self.tolerate_failures,
            nowhere: false,
        })
    }
}

impl ResultArgs {
    /// Returns true if a flag or the ending of the file names the format of the results.
    pub fn names_format(&self) -> bool {
        let of_file = self.output.as_deref().and_then(ResultFormat::of_path);
        self.format.is_some() || self.flat || of_file.is_some()
    }

    /// Returns true if a flag about results was given.
    pub fn is_given(&self) -> bool {
        self.output.is_some()
            || self.format.is_some()
            || self.flat
            || self.errors.is_some()
            || self.summary.is_some()
            || self.tolerate_failures
    }
}

/// Reads the format of results from the ending of their file; `None` without an ending.
///
/// # Errors
/// 2 for an ending that llbatch cannot write.
fn format_of(path: &Path) -> Result<Option<ResultFormat>> {
    let format = ResultFormat::of_path(path);
    let Some(ending) = path.extension().filter(|_| format.is_none() && !path.starts_with("/dev")) else {
        return Ok(format);
    };
    let (ending, shown) = (ending.to_string_lossy(), path.display());
    Err(match &*ending {
        "gz" | "zst" | "bz2" | "xz" | "zip" => {
            Error::usage(format!("{shown}: llbatch does not write compressed results"))
                .hint("drop the ending and compress the file afterwards, or pipe standard output into a compressor")
        }
        _ => {
            Error::usage(format!("{shown}: llbatch cannot write .{ending}; it writes .jsonl, .csv, .tsv and .parquet"))
                .hint("choose one of these endings, or pass --format jsonl, csv, tsv or parquet")
        }
    })
}

/// The patience of a command that waits.
#[derive(Debug, Args)]
pub struct WaitingArgs {
    /// Stop waiting after this time (6h, 90m), with exit 75
    #[arg(long, value_name = "TIME", help_heading = "Waiting")]
    pub timeout: Option<String>,
    /// Time between status requests [default: 5 s at first, then 30 to 60 s]
    #[arg(long, value_name = "TIME", help_heading = "Waiting")]
    pub poll: Option<String>,
}

impl WaitingArgs {
    /// Returns true if a flag about waiting was given.
    pub const fn is_given(&self) -> bool {
        self.timeout.is_some() || self.poll.is_some()
    }

    /// Reads the times. `until` is a limit from elsewhere.
    ///
    /// # Errors
    /// 2 for an invalid time.
    pub fn resolve(&self, until: Option<Deadline>, sandbox: bool) -> Result<Waiting> {
        let time = |name: &str, text: &Option<String>| {
            text.as_deref()
                .map(|text| settings::long_duration(text).map_err(|e| Error::usage(format!("{name}: {e}"))))
                .transpose()
        };
        let timeout = time("--timeout", &self.timeout)?.and_then(Deadline::after);
        // Batches of the built-in server end within seconds, and requests to it cost nothing.
        let every = time("--poll", &self.poll)?.or(sandbox.then_some(Duration::from_millis(500)));
        let every = every.map(|time| time.max(Duration::from_millis(50)));
        Ok(Waiting { until: until.or(timeout), every, submits: SubmitScope::Postponed })
    }
}

/// Wait for another lock holder of the job, or exit.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// Wait for another llbatch that works on the same job instead of exiting with 75; answered rows are not paid again
    #[arg(long)]
    pub wait_lock: bool,
}

impl LockArgs {
    /// Returns the wait for the lock, which ends at `until` if there is a deadline.
    pub fn wait(&self, until: Option<Deadline>) -> LockWait {
        if self.wait_lock { LockWait::until(until) } else { LockWait::Now }
    }
}

/// Requests that are equal to others.
#[derive(Debug, Args)]
pub struct OnceArgs {
    /// Send rows with the same request once; the others get its outcome, marked `reused`, at no cost
    #[arg(long, help_heading = "Cost")]
    pub dedupe: bool,
    /// Reuse good answers that earlier jobs got for the same requests; with AGE (30d), only from jobs no older than that
    #[arg(long, value_name = "AGE", num_args = 0..=1, require_equals = true, default_missing_value = "", help_heading = "Cost")]
    pub reuse: Option<String>,
    /// Take the good answers of this job to the same requests, or those in a directory of --answers
    #[arg(long, value_name = "JOB|DIR", conflicts_with = "reuse", help_heading = "Cost")]
    pub reuse_from: Option<String>,
}

/// Answers that tasks on several machines share.
#[derive(Debug, Args, Default)]
pub struct AnswersArgs {
    /// Also keep answers in a directory or at an s3://, gs:// or az:// URL that other machines share, and take those that tasks
    /// of the same job left there; of two copies of a task at once, one waits for the answers of the other
    #[arg(long, value_name = "DIR|URL")]
    pub answers: Option<PathBuf>,
}

impl AnswersArgs {
    /// The directory, as a path that holds for later commands too, or the URL.
    ///
    /// # Errors
    /// 2 for a URL that nothing can be written to.
    pub fn resolve(&self) -> Result<Option<PathBuf>> {
        let Some(dir) = &self.answers else { return Ok(None) };
        if is_url(dir) {
            ObjectBucket::open(&ObjectUrl::parse(dir)?, Direction::Write)?;
            return Ok(Some(kept_path(dir)));
        }
        Ok(Some(std::path::absolute(dir).unwrap_or_else(|_| dir.clone())))
    }
}

impl OnceArgs {
    /// Resolved.
    ///
    /// # Errors
    /// 2 for an invalid age, or one that stands among the `inputs`.
    pub fn resolve(&self, inputs: &[PathBuf]) -> Result<OnceAsk> {
        let is_age = |input: &&PathBuf| input.to_str().is_some_and(|text| settings::long_duration(text).is_ok());
        let stray = inputs.iter().filter(|_| self.reuse.as_deref() == Some("")).find(is_age);
        if let Some(age) = stray.filter(|input| !input.exists()).map(|input| input.display()) {
            return Err(Error::usage(format!("--reuse {age}: {age} would be an input file"))
                .hint(format!("write --reuse={age}, with an equals sign")));
        }
        let given = self.reuse.as_deref().filter(|age| !age.is_empty());
        if let Some(number) = given.filter(|age| age.trim().parse::<f64>().is_ok()) {
            return Err(Error::usage(format!("--reuse={number}: the unit is missing"))
                .hint(format!("write --reuse={number}d for days, or --reuse={number}h for hours")));
        }
        let age = given.map(settings::long_duration).transpose();
        let max_age = age.map_err(|why| Error::usage(format!("--reuse: {why}")))?;
        if max_age.is_some_and(|age| age.is_zero()) {
            return Err(Error::usage("--reuse: no answer is so young")
                .hint("write --reuse=30d, or --reuse alone for answers of any age"));
        }
        let earlier = self.reuse.is_some() || self.reuse_from.is_some();
        let earlier = earlier.then(|| EarlierAsk { max_age, from: self.reuse_from.clone() });
        Ok(OnceAsk { dedupe: self.dedupe, earlier, answers: None })
    }
}

/// Limits of the cost.
#[derive(Debug, Args, Default)]
pub struct CostArgs {
    /// Stop before the cost could exceed USD (exit 5, resumable)
    #[arg(long, value_name = "USD", help_heading = "Cost", value_parser = usd)]
    pub max_cost: Option<Nanos>,
    /// Despite a budget, send rows of models without a known price; their cost is not counted
    #[arg(long, help_heading = "Cost")]
    pub allow_unpriced: bool,
}

impl CostArgs {
    /// Resolved. With a shard, each of all shards may cost the same part.
    pub fn limit(&self, shard: Option<ShardArg>) -> CostLimit {
        let shards = shard.and_then(ShardArg::known).map_or(1, Shard::count);
        let max_cost = self.max_cost.map(|whole| whole.part(shards));
        CostLimit { max_cost, shards, allow_unpriced: self.allow_unpriced }
    }

    /// Says which part of `--max-cost` is for this shard.
    pub fn say_part(&self, shard: Option<ShardArg>, ui: &Ui) {
        let limit = self.limit(shard);
        if let (Some(whole), Some(part)) = (self.max_cost, limit.max_cost)
            && limit.shards > 1
        {
            let shards = limit.shards;
            ui.note(&format!("--max-cost {whole} is divided by {shards} shards: this one may cost up to {part} USD"));
        }
    }
}

/// An amount of money.
fn usd(text: &str) -> Result<Nanos, String> {
    match text.trim_start_matches('$').parse::<Nanos>() {
        Ok(amount) if amount > Nanos::ZERO => Ok(amount),
        Ok(_) => Err("expected an amount above 0, such as 5 or 0.50".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A span from now, or the next time that the clock on the wall shows this. A time of day is said with its zone.
///
/// # Errors
/// 2 for what is neither, or a time of day without a valid time zone.
pub fn deadline(given: &str, ctx: &Ctx) -> Result<Deadline> {
    let bad = |what: &str| {
        Error::usage(format!("--deadline: {what}"))
            .hint("pass a duration such as 2h or 90m, or a time of day such as 06:00")
    };
    if !given.contains(':') {
        let span = settings::duration(given)
            .map_err(|_| bad(&format!("`{given}` is neither a duration nor a time of day")))?;
        return Deadline::after(span).ok_or_else(|| bad("too far away"));
    }
    let none = || bad(&format!("`{given}` is not a time of day (00:00 to 23:59)"));
    let time: jiff::civil::Time = given.trim().parse().map_err(|_| none())?;
    let now = jiff::Zoned::now().with_time_zone(time_zone()?);
    let today = now.with().time(time).build().map_err(|_| none())?;
    let at = if today > now { today } else { today.tomorrow().map_err(|_| none())? };
    let left = Duration::try_from(now.duration_until(&at)).map_err(|_| none())?;
    ctx.ui.note(&format!("deadline: {}, in {}", at.strftime("%Y-%m-%d %H:%M %Z (UTC%:z)"), text::duration(left)));
    Ok(Deadline::Clock(at.timestamp().into()))
}

/// The time zone of this machine. Like the C library, it is UTC where nothing names one.
///
/// # Errors
/// 2 if `TZ` names a zone that cannot be found.
fn time_zone() -> Result<jiff::tz::TimeZone> {
    let named = std::env::var("TZ").ok().filter(|name| !name.is_empty());
    match (jiff::tz::TimeZone::try_system(), named) {
        (Ok(zone), _) => Ok(zone),
        (Err(_), None) => Ok(jiff::tz::TimeZone::UTC),
        (Err(error), Some(name)) => Err(Error::usage(format!("--deadline: the time zone TZ={name} cannot be found"))
            .because(error)
            .hint("install the time zones (tzdata), set TZ to a zone that exists, or pass a duration such as 2h")),
    }
}
