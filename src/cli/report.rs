//! `llbatch report`: a job's summary again.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{print_json, print_text};
use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::output::AtomicFile;
use crate::pipeline::ending::write_summary;
use crate::pipeline::{Bits, money};
use crate::store::{JobDb, State, Store};
use crate::summary::Meta;

/// Print the summary of a job: rows, tokens, cost, latency, errors
#[derive(Debug, Args)]
pub struct Report {
    /// A job's id, a unique beginning of it, its --name, or `last`
    #[arg(value_name = "JOB")]
    job: String,
    /// Write the summary as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(args: &Report, ctx: &Ctx) -> Result<Exit> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let mut job = store.ledger()?.find(&args.job)?;
    if matches!(job.state, State::Running | State::Preparing) && !store.in_use(&job.id) {
        job.state = State::Interrupted;
    }
    let db = JobDb::open(&store.job_path(&job.id))?;
    let totals = money::fold(&db, ctx.settings.prices.clone(), job.total, &Bits::default())?;
    let (exit, reason) = match job.state {
        State::Completed => (Exit::Ok, "done"),
        State::Running | State::Preparing => (Exit::TempFail, "still running"),
        State::Interrupted => (Exit::TempFail, "not finished; its command, typed again, goes on"),
        _ => (Exit::RowsFailed, "rows failed"),
    };
    let next =
        (exit != Exit::Ok && job.state != State::Running).then(|| format!("llbatch run --resume={} -o FILE", job.id));
    let summary = totals.summary(&Meta {
        job: Some(job.id.clone()),
        transport: Some(job.transport.as_str().to_owned()),
        state: job.state.as_str().to_owned(),
        duration: Duration::from_millis(job.active_ms),
        estimated: false,
        exit,
        reason: reason.to_owned(),
        next,
    });
    if let Some(path) = &args.summary {
        write_summary(&summary, AtomicFile::create(path, 0o666)?)?;
    }
    if ctx.json {
        print_json(&summary, ctx)?;
    } else {
        print_text(&summary.table(u16::try_from(ctx.ui.width()).unwrap_or(u16::MAX).min(100)), ctx)?;
    }
    // The report itself succeeded; how the job ended is in it.
    Ok(Exit::Ok)
}
