//! Flags that several commands share, and how they become resolved values.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::Format;
use crate::output;
use crate::pipeline::batch::follow::Waiting;
use crate::pipeline::results::Delivery;
use crate::price::Nanos;
use crate::realtime::limiter::Rates;
use crate::realtime::{AUTO_CONCURRENCY, Options};
use crate::request::{Endpoint, Params};
use crate::settings::{self, Knob};
use crate::store::Turn;

/// What to read and what to ask.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// Files to read (.jsonl .csv .tsv .txt, also .gz and .zst), or `-` for standard input
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Type of the inputs, where the ending does not tell (standard input: jsonl)
    #[arg(long, value_name = "FORMAT", value_parser = ["jsonl", "csv", "tsv", "lines"])]
    pub input_format: Option<String>,
    /// Model for rows that name none
    #[arg(short, long, value_name = "MODEL", help_heading = "Requests")]
    pub model: Option<String>,
    /// Template of the prompt over each record's fields: 'Classify: {{ text }}'
    #[arg(long, value_name = "TEMPLATE", help_heading = "Requests")]
    pub prompt: Option<String>,
    /// System message for rows without one; may be a template
    #[arg(long, value_name = "TEXT", help_heading = "Requests")]
    pub system: Option<String>,
    /// Field that holds the id [default: custom_id, else id, else row-N]
    #[arg(long, value_name = "FIELD", help_heading = "Requests")]
    pub id: Option<String>,
    /// Most tokens to answer with, for rows that do not say
    #[arg(long, value_name = "N", help_heading = "Requests", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_tokens: Option<u64>,
    /// Sampling temperature, for rows that do not say
    #[arg(long, value_name = "X", help_heading = "Requests", allow_hyphen_values = true)]
    pub temperature: Option<String>,
    /// Nucleus sampling, for rows that do not say
    #[arg(long, value_name = "X", help_heading = "Requests")]
    pub top_p: Option<String>,
    /// Random seed, for rows that do not say
    #[arg(long, value_name = "N", help_heading = "Requests", allow_hyphen_values = true)]
    pub seed: Option<i64>,
    /// Where to stop; may be repeated
    #[arg(long, value_name = "TEXT", help_heading = "Requests")]
    pub stop: Vec<String>,
    /// JSON schema that answers must follow
    #[arg(long, value_name = "FILE", help_heading = "Requests")]
    pub json_schema: Option<PathBuf>,
    /// Any other field of the request: --set top_k=40; may be repeated
    #[arg(long, value_name = "KEY=JSON", help_heading = "Requests")]
    pub set: Vec<String>,
    /// What to call; realtime serves the first three, batches serve chat and audio
    #[arg(long, value_name = "ENDPOINT", default_value = "chat", value_parser = ["chat", "completions", "embeddings", "transcriptions", "translations"], help_heading = "Requests")]
    pub endpoint: String,
    /// Send the good rows although others are invalid; those are in the results as failed
    #[arg(long)]
    pub skip_invalid: bool,
    /// Problems of the input to list before only counting them
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub max_problems: usize,
}

impl InputArgs {
    /// Whether input comes through a pipe.
    ///
    /// # Errors
    /// 2 if `-` stands beside other inputs.
    pub fn stdin(&self) -> Result<bool> {
        let dash = self.inputs.iter().any(|p| p.as_os_str() == "-");
        if dash && self.inputs.len() > 1 {
            return Err(Error::usage("`-` (standard input) cannot be read beside files")
                .hint("cat them into one pipe, or name only files"));
        }
        Ok(dash)
    }

    /// Whether any flag says something about requests or how to read them.
    #[must_use]
    pub fn shapes_requests(&self) -> bool {
        let texts =
            [&self.input_format, &self.model, &self.prompt, &self.system, &self.id, &self.temperature, &self.top_p];
        texts.into_iter().any(Option::is_some)
            || self.max_tokens.is_some()
            || self.seed.is_some()
            || self.json_schema.is_some()
            || !self.stop.is_empty()
            || !self.set.is_empty()
            || self.endpoint != "chat"
    }

    /// The type that the user named.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        self.input_format.as_deref().and_then(|f| f.parse().ok())
    }

    /// The endpoint of requests over realtime.
    ///
    /// # Errors
    /// 2 if it is one that realtime cannot serve.
    pub fn realtime_endpoint(&self) -> Result<Endpoint> {
        let endpoint = self.endpoint.parse::<Endpoint>().map_err(Error::usage)?;
        if !endpoint.over_realtime() {
            return Err(Error::usage(format!("--endpoint {endpoint}: over realtime each request would be an upload"))
                .hint("send it as a batch: llbatch submit; or write the batch's files: llbatch prepare"));
        }
        Ok(endpoint)
    }

    /// The endpoint of requests in batches.
    ///
    /// # Errors
    /// 2 if it is one that batches do not serve.
    pub fn batch_endpoint(&self) -> Result<Endpoint> {
        let endpoint = self.endpoint.parse::<Endpoint>().map_err(Error::usage)?;
        if !endpoint.in_batches() {
            return Err(Error::usage(format!("--endpoint {endpoint}: Together's batches do not serve it"))
                .hint("answer it over realtime: llbatch run; batches serve chat, transcriptions and translations"));
        }
        Ok(endpoint)
    }

    /// What the flags ask of every request; `model` is the config file's.
    ///
    /// # Errors
    /// 2 for a malformed `--set`, 66 for a schema that cannot be read.
    pub fn params(&self, model: Option<&str>) -> Result<Params> {
        let json_schema = match &self.json_schema {
            None => None,
            Some(path) => Some(std::fs::read_to_string(path).map_err(|e| {
                Error::new(Exit::NoInput, format!("--json-schema {}: cannot be read", path.display())).because(e)
            })?),
        };
        let set = self
            .set
            .iter()
            .map(|pair| {
                pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(|| {
                    Error::usage(format!("--set {pair}: expected KEY=JSON"))
                        .hint("for example --set top_k=40, or --set 'logit_bias={\"50\": 1}'")
                })
            })
            .collect::<Result<_>>()?;
        Ok(Params {
            endpoint: self.endpoint.parse::<Endpoint>().map_err(Error::usage)?,
            model: self.model.clone().or_else(|| model.map(str::to_owned)),
            prompt: self.prompt.clone(),
            system: self.system.clone(),
            id: self.id.clone(),
            max_tokens: self.max_tokens,
            temperature: self.temperature.clone(),
            top_p: self.top_p.clone(),
            seed: self.seed,
            stop: self.stop.clone(),
            json_schema,
            set,
        })
    }
}

/// Where results go, and in which form.
#[derive(Debug, Args)]
pub struct ResultArgs {
    /// Write results to FILE, whole or not at all; by ending: .jsonl .csv .tsv [default: stdout, as rows are answered]
    #[arg(short, long, value_name = "FILE", help_heading = "Results")]
    pub output: Option<PathBuf>,
    /// Form of the results [default: by the ending of -o, else jsonl]
    #[arg(long, value_name = "FORMAT", value_parser = ["jsonl", "csv", "tsv"], help_heading = "Results")]
    pub format: Option<String>,
    /// JSONL with the record's own fields and content, tokens, cost … beside them (csv and tsv always are)
    #[arg(long, help_heading = "Results")]
    pub flat: bool,
    /// Put before our column names, where the record has the same ones
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, help_heading = "Results")]
    pub prefix: String,
    /// Write failed rows to this file instead of the results
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub errors: Option<PathBuf>,
    /// Leave cells that begin with = + - @ as they are (a spreadsheet may run them)
    #[arg(long, help_heading = "Results")]
    pub csv_raw: bool,
    /// Write the summary as JSON
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub summary: Option<PathBuf>,
}

impl ResultArgs {
    /// Resolved; `json`: standard output carries a JSON document.
    ///
    /// # Errors
    /// 2 for a format that is none, or results and a document on one stream.
    pub fn resolve(&self, json: bool) -> Result<Delivery> {
        let format = match &self.format {
            Some(text) => {
                text.parse().map_err(|_| Error::usage(format!("--format {text}: expected jsonl, csv or tsv")))?
            }
            None => self.output.as_deref().and_then(output::Format::of_path).unwrap_or(output::Format::Jsonl),
        };
        let output = self.output.clone().filter(|p| p.as_os_str() != "-");
        let packed = |path: &std::path::Path| path.extension().is_some_and(|e| e == "gz" || e == "zst");
        if let Some(path) = [&output, &self.errors].into_iter().flatten().find(|path| packed(path)) {
            return Err(Error::usage(format!("{}: results are not written packed", path.display()))
                .hint("leave the ending out and pack the file afterwards, or write to standard output and pipe it"));
        }
        if json && output.is_none() {
            return Err(Error::usage("--json and results on stdout would be mixed up")
                .hint("give -o FILE, or --summary FILE in place of --json"));
        }
        let form = output::Options { format, flat: self.flat, prefix: self.prefix.clone(), csv_raw: self.csv_raw };
        Ok(Delivery { output, errors: self.errors.clone(), form, summary: self.summary.clone(), nowhere: false })
    }
}

impl ResultArgs {
    /// Whether anything was said of results.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.output.is_some() || self.format.is_some() || self.flat || self.errors.is_some() || self.summary.is_some()
    }
}

/// How long to wait.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Wait no longer than this (6h, 90m); then exit 75
    #[arg(long, value_name = "TIME", help_heading = "Waiting")]
    pub timeout: Option<String>,
    /// Ask every so often [default: 5 s at first, then 30 to 60 s]
    #[arg(long, value_name = "TIME", help_heading = "Waiting")]
    pub poll: Option<String>,
}

impl WaitArgs {
    /// Whether anything was said of waiting.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        self.timeout.is_some() || self.poll.is_some()
    }

    /// Resolved; `until`: a limit from elsewhere.
    ///
    /// # Errors
    /// 2 for a time that is none.
    pub fn resolve(&self, until: Option<Instant>, sandbox: bool) -> Result<Waiting> {
        let time = |name: &str, text: &Option<String>| {
            text.as_deref()
                .map(|text| settings::long_duration(text).map_err(|e| Error::usage(format!("{name}: {e}"))))
                .transpose()
        };
        let timeout = time("--timeout", &self.timeout)?.and_then(|time| Instant::now().checked_add(time));
        // The built-in server is done in seconds and minds no question.
        let every = time("--poll", &self.poll)?.or(sandbox.then_some(Duration::from_millis(500)));
        let every = every.map(|time| time.max(Duration::from_millis(50)));
        Ok(Waiting { until: until.or(timeout), every, submitting: false })
    }
}

/// What to do when another llbatch works on the same.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// Wait for another llbatch that works on the same job, in place of ending with 75; what it has answered is not paid again
    #[arg(long)]
    pub wait_lock: bool,
}

impl LockArgs {
    /// Resolved; `until`: no longer than that.
    #[must_use]
    pub fn turn(&self, until: Option<Instant>) -> Turn {
        if self.wait_lock { Turn::Wait(until) } else { Turn::Now }
    }
}

/// What it may cost.
#[derive(Debug, Args, Default)]
pub struct CostArgs {
    /// Most that it may cost: nothing is sent that could pass it (exit 5, resumable)
    #[arg(long, value_name = "USD", help_heading = "Cost", value_parser = usd)]
    pub max_cost: Option<Nanos>,
    /// Send rows of models whose price is not known, uncounted, although there is a budget
    #[arg(long, help_heading = "Cost")]
    pub allow_unpriced: bool,
}

/// An amount of money.
fn usd(text: &str) -> Result<Nanos, String> {
    match text.trim_start_matches('$').parse::<Nanos>() {
        Ok(amount) if amount > Nanos::ZERO => Ok(amount),
        Ok(_) => Err("an amount above 0 is needed, such as 5 or 0.50".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// How fast to send at realtime.
#[derive(Debug, Args, Default)]
pub struct SpeedArgs {
    /// Requests in flight
    #[arg(long, value_name = "N|auto", help_heading = "Speed")]
    pub concurrency: Option<Knob>,
    /// Requests a minute
    #[arg(long, value_name = "N|auto", help_heading = "Speed")]
    pub rpm: Option<Knob>,
    /// Tokens a minute
    #[arg(long, value_name = "N|auto", help_heading = "Speed")]
    pub tpm: Option<Knob>,
    /// Failures of a row before it is given up; being told to wait (429, 503) does not count [default: 5]
    #[arg(long, value_name = "N", help_heading = "Speed")]
    pub retries: Option<u32>,
    /// Time for one request [default: 10m]
    #[arg(long, value_name = "TIME", help_heading = "Speed")]
    pub request_timeout: Option<String>,
    /// Stop, resumable, when nothing at all has succeeded for so long [default: 15m]
    #[arg(long, value_name = "TIME", help_heading = "Speed")]
    pub give_up_after: Option<String>,
}

impl SpeedArgs {
    /// Whether anything was said of speed.
    #[must_use]
    pub fn is_given(&self) -> bool {
        let texts = [&self.request_timeout, &self.give_up_after];
        let knobs = [self.concurrency, self.rpm, self.tpm];
        texts.into_iter().any(Option::is_some) || knobs.iter().any(Option::is_some) || self.retries.is_some()
    }

    /// Resolved, with the config file's say.
    ///
    /// # Errors
    /// 2 for a time that is none, or more connections than this process may open.
    pub fn options(&self, endpoint: Endpoint, deadline: Option<Instant>, ctx: &Ctx) -> Result<Options> {
        let args = self;
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
            path: endpoint.path(),
            concurrency: wanted,
            rates,
            retries: args.retries.or(config.retries).unwrap_or(5),
            request_timeout: time("--request-timeout", &args.request_timeout, &config.request_timeout, 600)?,
            deadline,
            give_up_after: time("--give-up-after", &args.give_up_after, &config.give_up_after, 900)?,
            // About what is in flight is claimed at a time, so that few rows are in doubt after a kill.
            claim: (wanted as u64).clamp(8, 256),
            // Known once the input has been checked.
            last_row: u64::MAX,
            budget: None,
            peers: None,
        })
    }
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
///
/// # Errors
/// 2 for what is neither.
pub fn deadline(text: &str) -> Result<Instant> {
    let bad = |what: &str| {
        Error::usage(format!("--deadline: {what}")).hint("a span such as 2h or 90m, or a time of day such as 06:00")
    };
    let wait = if text.contains(':') {
        let none = || bad(&format!("`{text}` is no time of day (00:00 to 23:59)"));
        let time: jiff::civil::Time = text.trim().parse().map_err(|_| none())?;
        let now = jiff::Zoned::now();
        let today = now.with().time(time).build().map_err(|_| none())?;
        let at = if today > now { today } else { today.tomorrow().map_err(|_| none())? };
        Duration::try_from(now.duration_until(&at)).map_err(|_| none())?
    } else {
        settings::duration(text).map_err(|_| bad(&format!("`{text}` is neither a span nor a time of day")))?
    };
    Instant::now().checked_add(wait).ok_or_else(|| bad("too far away"))
}
