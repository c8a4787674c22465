//! Flags about the input and the requests.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::Args;

use super::read::ReadArgs;
use super::shard::ShardArg;
use crate::error::{Error, Exit, Result};
use crate::input::{Pick, ReadOptions};
use crate::job::ask::{InputSource, InputSpec, ProblemPolicy, RequestFlags};
use crate::request::{Endpoint, Params};
use crate::rules::Schema;
use crate::settings::Settings;
use crate::ui::Ui;

/// Inputs, and the requests that are made of them.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// Input files or URLs (.jsonl .csv .tsv .txt .parquet, also .gz and .zst; s3:// gs:// az:// https:// hf://), or `-` for
    /// standard input
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub read: ReadArgs,
    /// Work on every Nth row from row I on, as task I of N; `auto` reads them from the variables of a scheduler
    #[arg(long, value_name = "I/N|auto[/N]")]
    pub shard: Option<ShardArg>,
    /// Print the requests of the first N rows [default: 3] and send nothing
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "3", value_parser = preview_rows)]
    pub preview: Option<u64>,
    /// Model for rows without one
    #[arg(short, long, value_name = "MODEL", help_heading = "Requests")]
    pub model: Option<String>,
    /// Template that makes the prompt from a record's fields: 'Classify: {{ text }}'; @FILE reads it from a file
    #[arg(long, value_name = "TEMPLATE|@FILE", help_heading = "Requests")]
    pub prompt: Option<String>,
    /// Allow a --prompt that names no field, so that every row sends the same text
    #[arg(long, requires = "prompt", help_heading = "Requests")]
    pub constant_prompt: bool,
    /// System message for rows without one; may be a template; @FILE reads it from a file
    #[arg(long, value_name = "TEXT|@FILE", help_heading = "Requests")]
    pub system: Option<String>,
    /// Use parameters that rows give (model, system, max_tokens …) beside --prompt: all, or those NAMES
    #[arg(long, value_name = "NAMES", num_args = 0..=1, require_equals = true, default_missing_value = "", help_heading = "Requests")]
    pub row_params: Option<String>,
    /// Field with the id [default: custom_id, else id, else row-N]
    #[arg(long, value_name = "FIELD", help_heading = "Requests")]
    pub id: Option<String>,
    /// Field with an image for the prompt: a path, pattern, URL or data URI, or a JSON list of them; may be repeated
    #[arg(long = "image", value_name = "FIELD", help_heading = "Requests")]
    pub images: Vec<String>,
    /// Directory of local files that the rows' own `messages` may name as images
    #[arg(long, value_name = "DIR", help_heading = "Requests")]
    pub local_files: Option<PathBuf>,
    /// Largest local file of a request [default: 10MB, of a recording 80MB]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Requests")]
    pub max_file: Option<u64>,
    /// Maximum tokens of an answer, for rows that do not set it
    #[arg(long, value_name = "N", help_heading = "Requests", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_tokens: Option<u64>,
    /// Sampling temperature, for rows that do not set it
    #[arg(long, value_name = "X", help_heading = "Requests", allow_hyphen_values = true)]
    pub temperature: Option<String>,
    /// Nucleus sampling, for rows that do not set it
    #[arg(long, value_name = "X", help_heading = "Requests")]
    pub top_p: Option<String>,
    /// Random seed, for rows that do not set it
    #[arg(long, value_name = "N", help_heading = "Requests", allow_hyphen_values = true)]
    pub seed: Option<i64>,
    /// Stop sequence; may be repeated
    #[arg(long, value_name = "TEXT", help_heading = "Requests")]
    pub stop: Vec<String>,
    /// JSON schema that is asked for, and that answers must follow
    #[arg(long, value_name = "FILE", help_heading = "Requests")]
    pub json_schema: Option<PathBuf>,
    /// The only texts that an answer may have, such as yes,no; @FILE: one a line
    #[arg(
        long,
        value_name = "TEXTS",
        value_delimiter = ',',
        conflicts_with = "json_schema",
        help_heading = "Requests"
    )]
    pub choices: Vec<String>,
    /// Fail answers that were cut off at max_tokens
    #[arg(long, help_heading = "Requests")]
    pub complete: bool,
    /// Any other field of the request, such as top_k=40; may be repeated
    #[arg(long, value_name = "KEY=JSON", help_heading = "Requests")]
    pub set: Vec<String>,
    /// Field of the request that replaces what rows say, such as model=provider/name; may be repeated
    #[arg(long = "override", value_name = "KEY=JSON", help_heading = "Requests")]
    pub overrides: Vec<String>,
    /// Endpoint of the API; `run` supports all, batches support chat, transcriptions and translations
    #[arg(long, value_name = "ENDPOINT", default_value = "chat", value_parser = Endpoint::ALL.map(Endpoint::as_str), help_heading = "Requests")]
    pub endpoint: String,
    /// Go on with the valid rows; the invalid ones fail in the results (`prepare` leaves them out)
    #[arg(long)]
    pub skip_invalid: bool,
    /// Number of input problems to list; more are only counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub max_problems: usize,
}

impl InputArgs {
    /// Reads standard input if no INPUT is named and a pipe or a file waits there. Tells the user where rows come from.
    pub fn find_stdin(&mut self, ui: &Ui) {
        if self.inputs.is_empty() && stdin_waits() {
            self.inputs.push("-".into());
            ui.note("no INPUT is named: reading standard input");
        } else if self.inputs.iter().any(|path| path.as_os_str() == "-") && io::stdin().is_terminal() {
            ui.note("reading from the terminal; Ctrl-D ends");
        }
    }

    /// Reads the shard of `auto` from the variables of a scheduler, and tells the user which it is.
    ///
    /// # Errors
    /// 2 if the variables do not name one.
    pub fn find_shard(&mut self, env: &dyn Fn(&str) -> Option<String>, ui: &Ui) -> Result<()> {
        self.shard = self.shard.map(|shard| shard.resolve(env, ui)).transpose()?;
        Ok(())
    }

    /// The error of a command without an INPUT.
    pub fn missing(example: &str) -> Error {
        let text = if io::stdin().is_terminal() {
            "no INPUT: name files, or `-` for standard input"
        } else {
            "no INPUT, and nothing is on standard input: name files, or `-` for standard input"
        };
        Error::usage(text).hint(example)
    }

    /// Returns true if input comes through a pipe.
    ///
    /// # Errors
    /// 2 if `-` stands beside other inputs.
    pub fn stdin(&self) -> Result<bool> {
        let dash = self.inputs.iter().any(|p| p.as_os_str() == "-");
        if dash && self.inputs.len() > 1 {
            return Err(Error::usage("`-` (standard input) cannot be combined with files")
                .hint("cat them into one pipe, or name only files"));
        }
        Ok(dash)
    }

    /// Returns true if a flag concerns the requests or how to read them.
    pub fn shapes_requests(&self) -> bool {
        let texts = [&self.model, &self.prompt, &self.system, &self.id, &self.temperature, &self.top_p];
        texts.into_iter().any(Option::is_some)
            || self.max_tokens.is_some()
            || self.seed.is_some()
            || self.json_schema.is_some()
            || !self.choices.is_empty()
            || self.complete
            || !self.stop.is_empty()
            || !self.set.is_empty()
            || !self.overrides.is_empty()
            || self.constant_prompt
            || self.reading() != ReadOptions::default()
            || self.row_params.is_some()
            || !self.images.is_empty()
            || self.local_files.is_some()
            || self.max_file.is_some()
            || self.endpoint != "chat"
    }

    /// The input and what to ask of it.
    ///
    /// # Errors
    /// As [`Self::params`]; 2 if `-` stands beside other inputs.
    pub fn spec(&self, settings: &Settings) -> Result<InputSpec> {
        let source = if self.stdin()? { InputSource::Stdin } else { InputSource::Files(self.inputs.clone()) };
        Ok(InputSpec { source, flags: RequestFlags { reading: self.reading(), params: self.params(settings)? } })
    }

    /// Treatment of invalid rows.
    pub const fn problems(&self) -> ProblemPolicy {
        ProblemPolicy { skip_invalid: self.skip_invalid, listed: self.max_problems }
    }

    /// The reading of the inputs.
    pub fn reading(&self) -> ReadOptions {
        let options = self.read.options();
        let shard = self.shard.and_then(ShardArg::known);
        ReadOptions { pick: Pick { shard, ..options.pick }, ..options }
    }

    /// The endpoint of requests over realtime.
    ///
    /// # Errors
    /// 2 if there is no such endpoint.
    pub fn realtime_endpoint(&self) -> Result<Endpoint> {
        self.endpoint.parse::<Endpoint>().map_err(Error::usage)
    }

    /// The endpoint of requests in batches.
    ///
    /// # Errors
    /// 2 if it is one that batches do not serve.
    pub fn batch_endpoint(&self) -> Result<Endpoint> {
        let endpoint = self.endpoint.parse::<Endpoint>().map_err(Error::usage)?;
        if !endpoint.in_batches() {
            return Err(Error::usage(format!("--endpoint {endpoint}: Together's batch API does not serve it"))
                .hint("send the rows with `llbatch run`; batches serve chat, transcriptions and translations"));
        }
        Ok(endpoint)
    }

    /// Builds the parameters of every request. The settings may name a model.
    ///
    /// # Errors
    /// 2 for a malformed `--set` or an invalid schema, 66 for a schema or a text that cannot be read.
    pub fn params(&self, settings: &Settings) -> Result<Params> {
        let schema = self.json_schema.as_deref().map(read_schema).transpose()?;
        let schema_name = schema.as_ref().and_then(|schema| schema.name().map(str::to_owned));
        let json_schema = schema.map(|schema| schema.as_str().to_owned());
        let choices = match &self.choices[..] {
            [file] if file.starts_with('@') => {
                let lines = text_of("--choices", file)?;
                lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
            choices => choices.iter().map(|text| text.trim().to_owned()).collect::<Vec<_>>(),
        };
        if choices.iter().any(String::is_empty) {
            return Err(Error::usage("--choices: a text is empty").hint("write --choices positive,negative"));
        }
        let endpoint = self.endpoint.parse::<Endpoint>().map_err(Error::usage)?;
        let reads_files = !self.images.is_empty() || self.local_files.is_some() || endpoint.is_audio();
        Ok(Params {
            endpoint,
            model: self.model.clone().or_else(|| settings.run.model.clone()),
            prompt: self.prompt.as_deref().map(|text| text_of("--prompt", text)).transpose()?,
            system: self.system.as_deref().map(|text| text_of("--system", text)).transpose()?,
            id: self.id.clone(),
            max_tokens: self.max_tokens,
            temperature: self.temperature.clone(),
            top_p: self.top_p.clone(),
            seed: self.seed,
            stop: self.stop.clone(),
            json_schema,
            schema_name,
            asks_choices: !choices.is_empty() && settings.takes_patterns(),
            choices,
            complete: self.complete,
            set: pairs("--set", &self.set)?,
            overrides: pairs("--override", &self.overrides)?,
            row_params: self.row_params.as_deref().map(names),
            constant_prompt: self.constant_prompt,
            work_dir: if reads_files { std::env::current_dir().ok() } else { None },
            images: self.images.clone(),
            local_files: self.local_files.as_deref().map(absolute),
            max_file: self.max_file,
            files: None,
        })
    }
}

/// Reads a schema, and takes it out of the wrapper that APIs take.
///
/// # Errors
/// 2 if it is invalid, 66 if the file cannot be read.
fn read_schema(path: &Path) -> Result<Schema> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::new(Exit::NoInput, format!("--json-schema {}: cannot be read", path.display())).because(e)
    })?;
    Schema::new(&text)
}

/// The path from the root.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A number of bytes: `10MB`, `512kB`, `1GiB`, or plain digits.
fn size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &*text[digits.len()..].to_ascii_lowercase() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => 0,
    };
    let bytes = digits.trim().parse().ok().and_then(|number: u64| number.checked_mul(unit)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "expected a size such as 10MB or 512kB".to_owned())
}

/// Returns true if standard input is a pipe, or a file that is not empty. Schedulers give `/dev/null`, which is neither.
fn stdin_waits() -> bool {
    use std::os::unix::fs::FileTypeExt;
    let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned().map(File::from) else { return false };
    stdin.metadata().is_ok_and(|meta| meta.file_type().is_fifo() || meta.is_file() && meta.len() > 0)
}

/// The pairs of a repeated flag.
fn pairs(flag: &str, given: &[String]) -> Result<Vec<(String, String)>> {
    let pair = |pair: &String| {
        pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(|| {
            Error::usage(format!("{flag} {pair}: expected KEY=JSON"))
                .hint(format!("for example {flag} top_k=40, or {flag} 'logit_bias={{\"50\": 1}}'"))
        })
    };
    given.iter().map(pair).collect()
}

/// Names between commas; none for an empty text.
fn names(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).filter(|_| !text.is_empty()).collect()
}

/// The text of a flag: itself, or with `@FILE` the file's content without the line end that editors add. `@@` is an `@`.
fn text_of(flag: &str, text: &str) -> Result<String> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    if path.starts_with('@') {
        return Ok(path.to_owned());
    }
    let content = std::fs::read_to_string(path).map_err(|e| {
        Error::new(Exit::NoInput, format!("{flag} @{path}: the file cannot be read"))
            .hint(format!("a text that begins with `@` is written with two: {flag} '@@…'"))
            .because(e)
    })?;
    let content = content.strip_prefix('\u{feff}').unwrap_or(&content);
    let content = content.strip_suffix('\n').map_or(content, |cut| cut.strip_suffix('\r').unwrap_or(cut));
    Ok(content.to_owned())
}

/// The value of `--preview`. An INPUT behind it would be taken for it.
fn preview_rows(text: &str) -> std::result::Result<u64, String> {
    text.parse()
        .ok()
        .filter(|rows| *rows > 0)
        .ok_or_else(|| "expected a number of rows; write --preview=3, or put --preview behind the inputs".to_owned())
}
