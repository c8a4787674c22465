//! `llbatch report`: what a job came to, or a results file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{print_json, print_text};
use crate::atomic_file::{AtomicFile, same_file};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::batch::{adopt, status as remote};
use crate::job::spec::{inputs_of, spec_of};
use crate::report::details::{Report as Document, Source};
use crate::report::html;
use crate::report::{of_files, of_job, time_of};
use crate::request::Shape;
use crate::results::write_summary;
use crate::store::{JobDb, State, Store, Transport};
use crate::summary::Meta;
use crate::text;

/// Report on a job or on results files: money, tokens, latency, errors
///
/// A results file is one that `run` or `fetch` wrote, or an output or error file as the service made it and
/// other tools downloaded it; .gz and .zst are read as they are, and several files are one report. A path that exists and
/// holds a / or a dot is a file; any other name is a job's first, and a file's if there is no such job.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch report last
  llbatch report last --html report.html                  one page that needs no network, for a browser
  llbatch report out.jsonl
  llbatch report output.jsonl errors.jsonl --batch        both files of a Together batch, at the batch price
  zcat old/*.jsonl.gz | llbatch report - --json")]
pub struct Report {
    /// A job (its id, a unique beginning of it, its --name, `last`, or a Together batch id), or results files; `-`: stdin
    #[arg(value_name = "JOB|RESULTS", required = true)]
    names: Vec<String>,
    /// Write a page for browsers: charts, and a searchable sample of the failed rows
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the summary as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Results files: count the rows at the batch price (a file does not say how it was paid for)
    #[arg(long)]
    batch: bool,
}

/// Runs the subcommand.
pub fn run(args: &Report, ctx: &Ctx) -> Result<Exit> {
    distinct(args)?;
    let document = match files(args, ctx)? {
        Some(files) => from_files(files, args.batch, ctx)?,
        None if args.batch => {
            return Err(Error::usage("--batch is for results files; a job knows how it was paid for"));
        }
        None => from_job(&args.names[0], ctx)?,
    };
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
        print_text(&document.table(u16::try_from(ctx.ui.width()).unwrap_or(u16::MAX).min(100)), ctx)?;
    }
    // The report itself succeeded; how the job ended is in it.
    Ok(Exit::Ok)
}

/// No file is written over that is read, or written twice.
fn distinct(args: &Report) -> Result<()> {
    let device = |path: &Path| path.starts_with("/dev");
    let written = [("--html", &args.html), ("--summary", &args.summary)];
    for (flag, path) in written.iter().filter_map(|(flag, path)| Some((flag, path.as_deref()?))) {
        if !device(path) && args.names.iter().any(|name| same_file(Path::new(name), path)) {
            let message = format!("{flag} {}: that is an input, it would be written over", path.display());
            return Err(Error::usage(message).hint("write to another file"));
        }
    }
    match (&args.html, &args.summary) {
        (Some(html), Some(summary)) if same_file(html, summary) && !device(html) => {
            Err(Error::usage(format!("--html and --summary both name {}", html.display()))
                .hint("give each a file of its own"))
        }
        _ => Ok(()),
    }
}

/// The results files that are meant; `None`: a job. Says which was taken where both could be meant.
fn files<'a>(args: &'a Report, ctx: &Ctx) -> Result<Option<&'a [String]>> {
    // A pipe too: `<(zcat FILE)`.
    let is_file = |name: &str| name == "-" || Path::new(name).metadata().is_ok_and(|file| !file.is_dir());
    let [name] = args.names.as_slice() else {
        return match args.names.iter().find(|name| !is_file(name)) {
            None => Ok(Some(&args.names)),
            Some(name) => Err(Error::new(Exit::NoInput, format!("{name}: there is no such file"))
                .hint("a report is about one job, or about any number of results files")),
        };
    };
    if name == "-" {
        return Ok(Some(&args.names));
    }
    let path_like = name.contains(['/', '.']);
    if path_like && Path::new(name).is_dir() {
        return Err(Error::new(Exit::NoInput, format!("{name}: is a directory, not a file")).hint("name its files"));
    }
    if path_like && is_file(name) {
        // A file can be read even where the store cannot.
        if job_named(name, ctx).unwrap_or(false) {
            ctx.ui.note(&format!("{name}: the file, not the job of that name"));
        }
        return Ok(Some(&args.names));
    }
    let job = job_named(name, ctx)?;
    match (job, is_file(name)) {
        (true, true) => ctx.ui.note(&format!("{name}: the job, not the file of that name, which is ./{name}")),
        (false, true) => {
            ctx.ui.note(&format!("{name}: the file; there is no job of that name"));
            return Ok(Some(&args.names));
        }
        (false, false) if path_like => {
            return Err(Error::new(Exit::NoInput, format!("{name}: there is no such file, and no job of that name"))
                .hint("check the name; `llbatch status` lists the jobs"));
        }
        _ => {}
    }
    Ok(None)
}

fn job_named(name: &str, ctx: &Ctx) -> Result<bool> {
    let dir = &ctx.settings.state_dir.value;
    // Whoever looks at a file needs no state directory, and gets none.
    if !dir.join("ledger.db").exists() {
        return Ok(false);
    }
    let store = Store::open(dir)?;
    match adopt::find_local(name, &store, &store.ledger()?) {
        Ok(_) => Ok(true),
        // There are several: the error that says so comes later.
        Err(error) if error.exit == Exit::Usage => Ok(error.hint.is_none()),
        Err(error) => Err(error),
    }
}

fn from_files(files: &[String], batch_price: bool, ctx: &Ctx) -> Result<Document> {
    let read = of_files(files, ctx.settings.prices.clone(), batch_price)?;
    for warning in &read.warnings {
        ctx.ui.warn(warning);
    }
    let (answered, failed) = (read.folded.totals.succeeded(), read.folded.totals.failed());
    let state = match (answered, failed) {
        (_, 0) => State::Completed,
        (0, _) => State::Failed,
        _ => State::Partial,
    };
    let (exit, reason) = ended(failed);
    let summary = read.folded.totals.summary(&Meta {
        job: None,
        transport: None,
        state: state.as_str().to_owned(),
        duration: Duration::ZERO,
        estimated: false,
        exit,
        reason,
        next: None,
        routes: Vec::new(),
    });
    Ok(read.folded.details.report(summary, Source::Files { files: files.to_vec(), batch_price }, None))
}

fn from_job(name: &str, ctx: &Ctx) -> Result<Document> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let job = adopt::find_local(name, &store, &store.ledger()?)?;
    let Some(remote::Seen { job, batches }) = remote::look(vec![job], &store)?.pop() else {
        return Err(Error::usage(format!("no job `{name}`")));
    };
    let path = store.job_path(&job.id);
    if !path.exists() {
        return Err(Error::new(Exit::NoInput, format!("{}: its rows are not here any more", job.id))
            .hint("`llbatch report FILE` reports on its results file"));
    }
    let db = JobDb::open(&path)?;
    let input = || {
        let spec = spec_of(&job)?;
        Ok((inputs_of(&spec, &store, &job.id)?, Shape::new(&spec.params)?))
    };
    let folded = of_job(&db, ctx.settings.prices.clone(), job.total, input)?;
    let flags = spec_of(&job).map_or_else(|_| String::new(), |spec| ctx.flags(&spec.service));
    let batch = job.transport == Transport::Batch;
    let (exit, reason) = match job.state {
        State::Running | State::Preparing if batch => (Exit::TempFail, "not finished yet".to_owned()),
        State::Running | State::Preparing => (Exit::TempFail, "still running".to_owned()),
        State::Interrupted => (Exit::TempFail, "not finished; its command, typed again, goes on".to_owned()),
        _ if folded.totals.succeeded() + folded.totals.failed() < job.total => {
            let why = if batch { "its results have not been fetched yet" } else { "not finished" };
            (Exit::TempFail, why.to_owned())
        }
        _ => ended(folded.totals.failed()),
    };
    let passes = folded.totals.failures().any(|code| !code.is_permanent());
    let next = match exit {
        Exit::Ok => None,
        Exit::TempFail if batch => Some(format!("llbatch fetch {}{flags} --wait -o FILE", job.id)),
        Exit::RowsFailed => passes.then(|| format!("llbatch retry {}{flags}", job.id)),
        _ if job.state == State::Running => None,
        _ => Some(format!("llbatch run{flags} --resume={} -o FILE", job.id)),
    };
    let summary = folded.totals.summary(&Meta {
        job: Some(job.id.clone()),
        transport: Some(job.transport.as_str().to_owned()),
        state: job.state.as_str().to_owned(),
        duration: Duration::from_millis(job.active_ms),
        estimated: false,
        exit,
        reason,
        next,
        routes: spec_of(&job).map_or_else(|_| Vec::new(), |spec| spec.routes),
    });
    let seconds = time_of(&job, &batches).map(|time| time.as_secs_f64());
    let source = Source::Job {
        name: job.name.clone(),
        created_at: jiff::Timestamp::from_millisecond(job.created_at).unwrap_or_default().to_string(),
        input: job.input.clone(),
    };
    Ok(folded.details.report(summary, source, seconds))
}

/// How something ended of which every row has its end.
fn ended(failed: u64) -> (Exit, String) {
    match failed {
        0 => (Exit::Ok, "done".to_owned()),
        _ => (Exit::RowsFailed, format!("{} failed", text::plural(failed, "row"))),
    }
}
