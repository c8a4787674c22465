//! The report on a job or on results files.

use std::path::Path;
use std::time::Duration;

use super::batch::{adopt, status as remote};
use super::spec::{inputs_of, spec_of};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::report::details::{ReportDocument, ReportSource};
use crate::report::{of_files, of_job, time_of};
use crate::request::Shape;
use crate::store::{JobDb, State, Store, Transport};
use crate::summary::Meta;
use crate::text;

/// Makes the report on `names`: one job, or results files. `batch_price` counts the rows of files at the batch price.
pub fn report_on(names: &[String], batch_price: bool, ctx: &Ctx) -> Result<ReportDocument> {
    match Named::of(names, ctx)? {
        Named::Files => from_files(names, batch_price, ctx),
        Named::Job if batch_price => Err(Error::usage("--batch is for results files; a job knows how it was paid for")),
        Named::Job => from_job(&names[0], ctx),
    }
}

/// The meaning of the names on the command line.
enum Named {
    Job,
    Files,
}

impl Named {
    /// Decides between a job and files, and tells the user which was taken where both exist.
    fn of(names: &[String], ctx: &Ctx) -> Result<Self> {
        // A pipe is a file too: `<(zcat FILE)`.
        let is_file = |name: &str| name == "-" || Path::new(name).metadata().is_ok_and(|file| !file.is_dir());
        let [name] = names else {
            return match names.iter().find(|name| !is_file(name)) {
                None => Ok(Self::Files),
                Some(name) => Err(Error::new(Exit::NoInput, format!("{name}: there is no such file"))
                    .hint("a report is about one job, or about any number of results files")),
            };
        };
        if name == "-" {
            return Ok(Self::Files);
        }
        let path_like = name.contains(['/', '.']);
        if path_like && Path::new(name).is_dir() {
            return Err(Error::new(Exit::NoInput, format!("{name}: is a directory, not a file")).hint("name its files"));
        }
        if path_like && is_file(name) {
            // The file can be read even if the store cannot.
            if job_exists(name, ctx).unwrap_or(false) {
                ctx.ui.note(&format!("{name}: the file, not the job of that name"));
            }
            return Ok(Self::Files);
        }
        match (job_exists(name, ctx)?, is_file(name)) {
            (true, true) => ctx.ui.note(&format!("{name}: the job, not the file of that name, which is ./{name}")),
            (false, true) => {
                ctx.ui.note(&format!("{name}: the file; there is no job of that name"));
                return Ok(Self::Files);
            }
            (false, false) if path_like => {
                return Err(Error::new(
                    Exit::NoInput,
                    format!("{name}: there is no such file, and no job of that name"),
                )
                .hint("check the name; `llbatch status` lists the jobs"));
            }
            _ => {}
        }
        Ok(Self::Job)
    }
}

fn job_exists(name: &str, ctx: &Ctx) -> Result<bool> {
    let dir = &ctx.settings.state_dir.value;
    // A report on a file needs no state directory, and must not create one.
    if !dir.join("ledger.db").exists() {
        return Ok(false);
    }
    let store = Store::open(dir)?;
    match adopt::find_local(name, &store, &store.ledger()?) {
        Ok(_) => Ok(true),
        // Several jobs have this name: `from_job` finds them again, and its error says so.
        Err(error) if error.exit == Exit::Usage => Ok(error.hint.is_none()),
        Err(error) => Err(error),
    }
}

fn from_files(files: &[String], batch_price: bool, ctx: &Ctx) -> Result<ReportDocument> {
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
    let source = ReportSource::Files { files: files.to_vec(), batch_price };
    Ok(read.folded.details.into_report(summary, source, None))
}

fn from_job(name: &str, ctx: &Ctx) -> Result<ReportDocument> {
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
    let source = ReportSource::Job {
        name: job.name.clone(),
        created_at: jiff::Timestamp::from_millisecond(job.created_at).unwrap_or_default().to_string(),
        input: job.input.clone(),
    };
    Ok(folded.details.into_report(summary, source, seconds))
}

/// The exit of a job or of files whose rows all have an outcome.
fn ended(failed: u64) -> (Exit, String) {
    match failed {
        0 => (Exit::Ok, "done".to_owned()),
        _ => (Exit::RowsFailed, format!("{} failed", text::plural(failed, "row"))),
    }
}
