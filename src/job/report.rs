//! A report on a job or on results files, with the same verdict as the command that wrote them.

use std::time::Duration;

use super::batch::adopt::find_local;
use super::batch::status::JobStatus;
use super::spec::{inputs_of, spec_of};
use super::verdict::{BatchFacts, Command, Facts, RowFacts, Verdict};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::report::details::{Report, Source};
use crate::report::{of_files, of_job, time_of};
use crate::request::Shape;
use crate::store::{State, Store, Transport};
use crate::summary::Meta;

/// Reports on results files. They do not say how they were paid for: `batch_price` does.
///
/// # Errors
/// 65 or 66 for files that cannot be read or hold no results.
pub fn of_results(files: &[String], batch_price: bool, ctx: &Ctx) -> Result<Report> {
    let read = of_files(files, ctx.settings.prices.clone(), batch_price)?;
    for warning in &read.warnings {
        ctx.ui.warn(warning);
    }
    let totals = &read.folded.totals;
    let rows = RowFacts::of(totals.succeeded() + totals.failed(), totals);
    let verdict = Verdict::of(&Facts {
        transport: Transport::Realtime,
        rows,
        batches: BatchFacts::default(),
        command: Command::Other,
        stop: None,
        busy: false,
        concluded: true,
    });
    let summary = totals.summary(&Meta {
        job: None,
        transport: None,
        state: verdict.state.as_str().to_owned(),
        duration: Duration::ZERO,
        estimated: false,
        exit: verdict.exit,
        reason: verdict.reason,
        next: None,
        routes: Vec::new(),
    });
    Ok(read.folded.details.report(summary, Source::Files { files: files.to_vec(), batch_price }, None))
}

/// Reports on the job that `name` means.
///
/// # Errors
/// 2 if there is none, 66 if its rows were removed.
pub fn of_named(name: &str, ctx: &Ctx) -> Result<Report> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let JobStatus { job, batches } = JobStatus::of(find_local(name, &store, &store.ledger()?)?, &store)?;
    if !store.job_path(&job.id).exists() {
        return Err(Error::new(Exit::NoInput, format!("{}: its rows are not here any more", job.id))
            .hint("`llbatch report FILE` reports on its results file"));
    }
    let spec = spec_of(&job)?;
    let input = || Ok((inputs_of(&spec, &store, &job.id)?, Shape::new(&spec.params)?));
    let folded = of_job(&store.open_job(&job.id)?, ctx.settings.prices.clone(), job.total, input)?;
    let verdict = Verdict::of(&Facts {
        transport: job.transport,
        rows: RowFacts::of(job.total, &folded.totals),
        batches: BatchFacts::of(&batches),
        command: Command::Other,
        stop: None,
        busy: matches!(job.state, State::Running | State::Preparing),
        concluded: job.state.ended(),
    });
    let summary = folded.totals.summary(&Meta {
        job: Some(job.id.clone()),
        transport: Some(job.transport.as_str().to_owned()),
        state: job.state.as_str().to_owned(),
        duration: Duration::from_millis(job.active_ms),
        estimated: false,
        exit: verdict.exit,
        reason: verdict.reason,
        next: verdict.next.map(|next| next.command(&job.id, &spec.service, ctx)),
        routes: spec.routes.clone(),
    });
    let seconds = time_of(&job, &batches).map(|time| time.as_secs_f64());
    let source = Source::Job {
        name: job.name.clone(),
        created_at: jiff::Timestamp::from_millisecond(job.created_at).unwrap_or_default().to_string(),
        input: job.input.clone(),
    };
    Ok(folded.details.report(summary, source, seconds))
}
