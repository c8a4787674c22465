//! `llbatch report`: reports on a job or on results files.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{print_json, print_text, summary_width};
use crate::atomic_file::AtomicFile;
use crate::atomic_file::same_file;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::report::report_on;
use crate::report::html;
use crate::results::write_summary;

/// Report on a job or on results files: money, tokens, latency, errors
///
/// A results file is one that `run` or `fetch` wrote, or an output or error file of the service. Compressed files (.gz,
/// .zst) are fine. Several files make one report. An existing path with a / or a dot is a file. Any other name is a job;
/// if no job has that name, it is a file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch report last
  llbatch report last --html report.html                  one page for a browser, works offline
  llbatch report out.jsonl
  llbatch report output.jsonl errors.jsonl --batch        both files of a batch, at the batch price
  zcat old/*.jsonl.gz | llbatch report - --json")]
pub struct ReportArgs {
    /// A job (id or its unique prefix, --name, `last`, or a batch id of the service), or results files or URLs; `-` for
    /// stdin
    #[arg(value_name = "JOB|RESULTS", required = true)]
    names: Vec<String>,
    /// Write an HTML page with charts and a searchable sample of the failed rows
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the summary as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// For results files: use the batch price (a file does not record how its rows were paid)
    #[arg(long)]
    batch: bool,
}

/// Runs the subcommand.
pub fn run(args: &ReportArgs, ctx: &Ctx) -> Result<Exit> {
    distinct(args)?;
    let document = report_on(&args.names, args.batch, args.html.is_some() || ctx.json, ctx)?;
    if let Some(path) = &args.summary {
        write_summary(&document.summary, AtomicFile::create(path, 0o666)?)?;
    }
    if let Some(path) = &args.html {
        let mut file = AtomicFile::create(path, 0o666)?;
        let failed = |e| Error::io(format!("{}: cannot be written", path.display()), e);
        file.write_all(html::page(&document).as_bytes()).map_err(failed)?;
        file.commit()?;
    }
    if ctx.json {
        print_json(&document, ctx)?;
    } else {
        print_text(&document.table(summary_width(ctx.ui.table_width())), ctx)?;
    }
    let written: Vec<String> =
        [&args.html, &args.summary].into_iter().flatten().map(|path| path.display().to_string()).collect();
    if !written.is_empty() {
        ctx.ui.verdict(Exit::Ok, &format!("report → {}", written.join(", ")));
    }
    // The report succeeds even if the job failed.
    Ok(Exit::Ok)
}

/// Rejects an output that is also an input, or named twice.
fn distinct(args: &ReportArgs) -> Result<()> {
    let device = |path: &Path| path.starts_with("/dev");
    let written = [("--html", &args.html), ("--summary", &args.summary)];
    for (flag, path) in written.iter().filter_map(|(flag, path)| Some((flag, path.as_deref()?))) {
        if !device(path) && args.names.iter().any(|name| same_file(Path::new(name), path)) {
            let message = format!("{flag} {}: this is an input file, which would be overwritten", path.display());
            return Err(Error::usage(message).hint("write to another file"));
        }
    }
    match (&args.html, &args.summary) {
        (Some(html), Some(summary)) if same_file(html, summary) && !device(html) => {
            Err(Error::usage(format!("--html and --summary both name {}", html.display()))
                .hint("name a different file for each"))
        }
        _ => Ok(()),
    }
}
