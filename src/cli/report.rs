//! `llbatch report`: a job's summary again.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{print_json, print_text};
use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::output::AtomicFile;
use crate::pipeline::batch::remote::look;
use crate::pipeline::ending::write_summary;
use crate::pipeline::job::spec_of;
use crate::pipeline::{Bits, money};
use crate::store::{JobDb, State, Store, Transport};
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
    let job = store.ledger()?.find(&args.job)?;
    // The state that it is in, not the one that its last command left.
    let job = look(vec![job.clone()], &store)?.pop().map_or(job, |seen| seen.job);
    let db = JobDb::open(&store.job_path(&job.id))?;
    let totals = money::fold(&db, ctx.settings.prices.clone(), job.total, &Bits::default())?;
    let (exit, reason) = match job.state {
        State::Completed => (Exit::Ok, "done"),
        State::Running | State::Preparing => (Exit::TempFail, "still running"),
        State::Interrupted => (Exit::TempFail, "not finished; its command, typed again, goes on"),
        _ => (Exit::RowsFailed, "rows failed"),
    };
    let sandbox = spec_of(&job).is_ok_and(|spec| spec.service == "sandbox");
    let id = format!("{}{}", job.id, if sandbox { " --sandbox" } else { "" });
    let next = match (job.transport, job.state) {
        (_, State::Completed) | (Transport::Realtime, State::Running) => None,
        (Transport::Realtime, _) => Some(format!("llbatch run --resume={id} -o FILE")),
        (Transport::Batch, State::Running) => Some(format!("llbatch fetch {id} --wait -o FILE")),
        (Transport::Batch, _) => Some(format!("llbatch retry {id}")),
    };
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
