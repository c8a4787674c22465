//! `llbatch help`: the help of a command, or a page of the manual.

use std::ffi::OsString;

use clap::{Args, CommandFactory, Parser};

use super::synonyms::is_near;
use super::{Cli, completions, failure};
use crate::error::{Error, Exit, Result};
use crate::ui::Ui;

/// Print the help of a command, or a page of the manual
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch help run
  llbatch help money
  llbatch help errors | less")]
pub struct HelpArgs {
    /// Command, or page of the manual [default: the list of both]
    #[arg(value_name = "COMMAND|PAGE")]
    name: Option<String>,
}

/// The pages of the manual in `docs/`, by the names that users type.
const PAGES: [(&str, &str); 21] = [
    ("start", include_str!("../../docs/start.md")),
    ("input", include_str!("../../docs/input.md")),
    ("templates", include_str!("../../docs/templates.md")),
    ("results", include_str!("../../docs/results.md")),
    ("realtime", include_str!("../../docs/realtime.md")),
    ("batch", include_str!("../../docs/batch.md")),
    ("money", include_str!("../../docs/money.md")),
    ("answers", include_str!("../../docs/answers.md")),
    ("endpoints", include_str!("../../docs/endpoints.md")),
    ("services", include_str!("../../docs/services.md")),
    ("data", include_str!("../../docs/data.md")),
    ("scale", include_str!("../../docs/scale.md")),
    ("schedulers", include_str!("../../docs/schedulers.md")),
    ("ci", include_str!("../../docs/ci.md")),
    ("errors", include_str!("../../docs/errors.md")),
    ("json", include_str!("../../docs/json.md")),
    ("faq", include_str!("../../docs/faq.md")),
    ("from-others", include_str!("../../docs/from-others.md")),
    ("performance", include_str!("../../docs/performance.md")),
    ("design", include_str!("../../docs/design.md")),
    ("reference", include_str!("../../docs/reference.md")),
];

/// Words for which users look, by the page that is about them.
const TOPICS: [(&str, &[&str]); 13] = [
    ("input", &["csv", "tsv", "jsonl", "parquet", "stdin", "ids", "parameters", "vision"]),
    ("templates", &["prompt", "prompts", "jinja", "system"]),
    ("results", &["output", "columns", "flat", "format", "formats"]),
    (
        "realtime",
        &["resume", "resuming", "retries", "stream", "streaming", "speed", "concurrency", "limits", "rate-limit"],
    ),
    ("batch", &["batches", "discount", "discounts", "deadline", "rescue"]),
    ("money", &["cost", "costs", "price", "prices", "budget", "dedupe", "reuse", "cache"]),
    ("answers", &["schema", "json-schema", "choices", "validation"]),
    ("endpoints", &["embeddings", "rerank", "images", "speech", "audio"]),
    ("services", &["key", "keys", "config", "configuration", "environment", "proxy", "openai", "vllm", "certificates"]),
    ("data", &["state", "s3", "gcs", "azure", "urls", "nfs", "privacy"]),
    ("scale", &["shard", "shards", "slurm", "kubernetes", "ray", "spark"]),
    ("schedulers", &["cron", "webhook", "notify", "metrics", "prometheus", "docker", "tags"]),
    ("errors", &["exit", "exit-codes", "codes", "error-codes"]),
];

/// Runs `help`. `argv` is the whole command line.
pub fn run(args: &HelpArgs, json: bool, ui: &Ui, argv: &[OsString]) -> Result<Exit> {
    let Some(name) = args.name.as_deref() else { return help_of(None, argv) };
    if let Some((_, page)) = PAGES.iter().find(|(page, _)| *page == name) {
        return completions::print(page, json, ui);
    }
    if Cli::command().find_subcommand(name).is_some() {
        return help_of(Some(name), argv);
    }
    let pages: Vec<&str> = PAGES.iter().map(|(page, _)| *page).collect();
    if let Some((page, _)) = TOPICS.iter().find(|(_, topics)| topics.contains(&name.to_lowercase().as_str())) {
        return Err(Error::usage(format!("no command or page `{name}`"))
            .hint(format!("`llbatch help {page}` is about it; `llbatch help` lists commands and pages")));
    }
    if let Some(near) = nearest(name, &pages) {
        return Err(Error::usage(format!("no command or page `{name}`"))
            .hint(format!("`llbatch help {near}` is the nearest; `llbatch help` lists commands and pages")));
    }
    Err(Error::usage(format!("no command or page `{name}`"))
        .hint(format!("`llbatch --help` lists the commands; the pages are {}", pages.join(", "))))
}

/// Finds the page or command that `name` was probably meant to be.
fn nearest(name: &str, pages: &[&str]) -> Option<String> {
    let cli = Cli::command();
    let commands = cli.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name);
    let names = pages.iter().copied().chain(commands);
    let near = names.filter(|other| is_near(name, other)).min_by_key(|other| strsim::osa_distance(name, other));
    near.map(str::to_owned)
}

/// Prints what `--help` prints, for the program or for one of its commands.
fn help_of(command: Option<&str>, argv: &[OsString]) -> Result<Exit> {
    let line = ["llbatch"].into_iter().chain(command).chain(["--help"]);
    match Cli::try_parse_from(line) {
        Err(help) => Ok(failure::explain(help, argv)),
        Ok(_) => Err(Error::new(Exit::Failure, "the help cannot be shown")),
    }
}
