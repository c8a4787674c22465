//! A realtime job from its inputs to its summary.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::ending::{Closing, Ending, write_summary};
use super::job::{self, Claimed};
use super::signals::Signals;
use super::{Bits, Consumed, Consumer, Cursor, Money, Ordered, Target, columns, reader, resume};
use crate::api::Client;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::{Format, Inputs};
use crate::output::{self, AtomicFile, Renderer, remove_stale};
use crate::plan::Checked;
use crate::price::Nanos;
use crate::realtime::{self, Shared, Stopped};
use crate::request::{Params, Shape};
use crate::store::{JobDb, Store};
use crate::summary::{Summary, Totals};
use crate::ui::{Results, format};

/// Batches of rows between the reader and the engine.
const READ_AHEAD: usize = 8;

/// What the user asked for.
#[derive(Debug)]
pub struct Plan {
    /// Files.
    pub inputs: Vec<PathBuf>,
    /// The input comes through a pipe.
    pub stdin: bool,
    /// Flags say something about requests or how to read them.
    pub shaped: bool,
    /// `--input-format`
    pub input_format: Option<Format>,
    /// What the flags ask of every request.
    pub params: Params,
    /// `--skip-invalid`
    pub skip_invalid: bool,
    /// `--max-problems`
    pub max_problems: usize,
    /// `--name`
    pub name: Option<String>,
    /// Which answers to take over.
    pub resume: Resume,
    /// How to send.
    pub options: realtime::Options,
    /// `-o`; none: standard output.
    pub output: Option<PathBuf>,
    /// `--errors`
    pub errors: Option<PathBuf>,
    /// The form of results.
    pub form: output::Options,
    /// `--summary`
    pub summary: Option<PathBuf>,
    /// The service as it is told apart: its base URL, or `sandbox`.
    pub service: String,
}

/// Which answers to take over from earlier runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Those of the same command, if it was interrupted.
    Auto,
    /// None.
    Fresh,
    /// Those of the same command, however it ended.
    Last,
    /// Those of this job.
    Job(String),
}

/// Runs the plan to its end.
///
/// # Errors
/// What stopped it before there was anything to sum up.
pub fn run(mut plan: Plan, client: &Client, ctx: &Ctx) -> Result<(Summary, Exit)> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let progress = ctx.ui.progress(if plan.output.is_some() { Results::Elsewhere } else { Results::Stdout });

    progress.phase("reading input");
    let mut source = job::source(&plan, &store, &ledger)?;
    let shape = Arc::new(Shape::new(&source.spec.params)?);
    let mut claimed = job::claim(&store, &ledger, &plan, &source)?;
    let earlier = if claimed.resumed { Some(JobDb::open(&store.job_path(&claimed.job.id))?) } else { None };

    progress.phase("checking input");
    let (checked, resumed) = resume::check(&source.inputs, &shape, plan.max_problems, earlier, claimed.sound.as_ref())?;
    report_problems(&checked, source.spec.skip_invalid, ctx, plan.max_problems)?;
    if checked.rows == 0 {
        return Err(Error::new(Exit::Data, "the input has no rows")
            .hint("each line of JSONL is one request; a CSV needs rows below its header"));
    }
    if checked.stream_removed > 0 {
        ctx.ui.note(&format!(
            "{}: `stream` was taken out, results come whole",
            format::plural(checked.stream_removed, "row")
        ));
    }

    // Outputs are opened before money is spent.
    distinct(&plan, &source.spec.inputs)?;
    let columns = if plan.form.is_flat() { columns::columns(&source.inputs)? } else { Vec::new() };
    let renderer = Renderer::new(&plan.form, &columns, columns::id_field(&source.spec.params, &columns))?;
    let open = |path: &Path| {
        // What a killed run left of its results is of no use: they are in the store.
        let _ = remove_stale(path);
        AtomicFile::create(path, 0o666)
    };
    let results = match &plan.output {
        Some(path) => Target::File(open(path)?),
        None => Target::Stream(Box::new(ctx.ui.data())),
    };
    let errors = plan.errors.as_deref().map(open).transpose()?.map(Target::File);
    let summary_file = plan.summary.as_deref().map(open).transpose()?;

    // From here on there is a job.
    job::enter(&mut claimed, &mut source, &checked, &store, &ledger)?;
    let inputs = &source.inputs;
    let mut money = Money::new(ctx.settings.prices.clone());
    let mut totals = Totals::new(checked.rows);
    let path = store.job_path(&claimed.job.id);
    let db = match resumed {
        Some(resumed) => resume::prepare(resumed, inputs, &shape, &checked, ctx)?,
        None => JobDb::open(&path)?,
    };
    job::settle(&mut claimed, &source, &checked, &ledger)?;
    for retired in db.retired()? {
        money.retired(&retired, &mut totals);
    }
    let mut done = Bits::new(checked.rows);
    db.each_fingerprint(|row, _, ok| {
        if ok {
            done.insert(row);
        }
    })?;
    ctx.ui.note(&opening(&claimed, &checked, &done, &plan));

    let cursor = if plan.form.is_flat() { Some(Cursor::open(inputs, &shape, true)?) } else { None };
    let done = Arc::new(done);
    let shared = Arc::new(Shared::default());
    let signals = Signals::watch(Arc::clone(&shared), ctx.leave)?;
    let started = Instant::now();
    if let Some(deadline) = &mut plan.options.deadline {
        *deadline = (*deadline).max(started);
    }
    plan.options.last_row = checked.rows;
    let changed = || {
        Error::new(Exit::Failure, "the input was written to while it was read; no results were written")
            .hint("run the same command again: answers whose request is unchanged are kept")
    };
    if inputs.stamp() != source.stamp {
        return Err(changed());
    }
    let consumer = Consumer {
        db,
        ordered: Ordered::new(checked.rows, (*done).clone(), renderer, cursor, results, errors),
        totals,
        money,
        reused: Arc::clone(&done),
        progress: progress.clone(),
        ui: ctx.ui.clone(),
        outage: false,
        shared: Arc::clone(&shared),
        ledger: store.ledger()?,
        spent: claimed.job.cost.unwrap_or(Nanos::ZERO),
        job: &mut claimed.job,
        started,
    };
    let feed = Feed { inputs, shape: &shape, done: &done, checked: &checked };
    let (stopped, mut fed, consumed) = drive(consumer, client, &plan.options, &feed, &shared)?;
    progress.finish();
    // Rows of two versions of an input would stand beside each other.
    let mixed = inputs.stamp() != source.stamp;
    if mixed {
        fed = Err(changed());
    }

    let closing = Closing {
        plan: &plan,
        ctx,
        ledger: &ledger,
        store: &store,
        reused: &done,
        inputs,
        shape: &shape,
        started,
        shared: &shared,
        mixed,
    };
    let (summary, exit) =
        closing.finish(claimed.job.clone(), Ending::of(stopped.as_ref(), &fed, signals.first()), consumed)?;
    if let Some(Err(error)) = summary_file.map(|file| write_summary(&summary, file)) {
        ctx.ui.error(&error.hint(format!(
            "the job itself is not affected: `llbatch report {} --summary FILE` writes it",
            claimed.job.id
        )));
        return Ok((summary, exit.worst(Exit::Io)));
    }
    Ok((summary, exit))
}

/// No file is written twice, and no input is written over.
fn distinct(plan: &Plan, inputs: &[PathBuf]) -> Result<()> {
    let outputs: Vec<(&str, &PathBuf)> =
        [("-o", &plan.output), ("--errors", &plan.errors), ("--summary", &plan.summary)]
            .into_iter()
            .filter_map(|(flag, path)| path.as_ref().map(|path| (flag, path)))
            .filter(|(_, path)| !path.starts_with("/dev"))
            .collect();
    for (i, (flag, path)) in outputs.iter().enumerate() {
        if inputs.iter().any(|input| same_file(input, path)) {
            return Err(Error::usage(format!("{flag} {}: that is an input, it would be written over", path.display()))
                .hint("write to another file"));
        }
        if let Some((other, _)) = outputs[..i].iter().find(|(_, earlier)| same_file(earlier, path)) {
            return Err(Error::usage(format!("{other} and {flag} both name {}", path.display()))
                .hint("give each a file of its own"));
        }
    }
    Ok(())
}

/// Whether two paths name one file, be it there or not.
fn same_file(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| {
        path.canonicalize().or_else(|_| {
            let path = std::path::absolute(path)?;
            let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path) };
            dir.canonicalize().map(|dir| dir.join(name))
        })
    };
    matches!((real(a), real(b)), (Ok(a), Ok(b)) if a == b)
}

struct Feed<'a> {
    inputs: &'a Inputs,
    shape: &'a Arc<Shape>,
    done: &'a Bits,
    checked: &'a Checked,
}

/// Reader, engine and consumer at work: each on a thread of its own, the network on this one.
type Driven = (Option<Stopped>, Result<()>, Result<Consumed>);
fn drive(
    consumer: Consumer<'_>,
    client: &Client,
    options: &realtime::Options,
    feed: &Feed<'_>,
    shared: &Arc<Shared>,
) -> Result<Driven> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(Exit::Failure, "the network cannot be set up").because(e))?;
    let (rows_in, rows_out) = mpsc::channel(READ_AHEAD);
    let (events_in, events_out) = std::sync::mpsc::channel();
    let driven = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("reader".to_owned()).spawn_scoped(scope, move || {
            let result =
                reader::feed(feed.inputs, feed.shape, feed.done, &feed.checked.duplicates, feed.checked.rows, &rows_in);
            if result.is_err() {
                shared.stop.cancel();
            }
            result
        });
        let writer = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn_scoped(scope, move || consumer.consume(&events_out));
        let failed = |e| Error::new(Exit::Failure, "a thread cannot be started").because(e);
        let run = realtime::run(client.clone(), options.clone(), rows_out, events_in, Arc::clone(shared));
        let stopped = runtime.block_on(run);
        let crashed =
            |_| Error::new(Exit::Failure, "a thread of llbatch crashed; please report it with the lines above");
        let fed = reader.map_err(failed)?.join().map_err(crashed)?;
        let consumed = writer.map_err(failed)?.join().map_err(crashed)?;
        Ok((stopped, fed, consumed))
    });
    // Connections that still linger need not be waited for.
    runtime.shutdown_background();
    driven
}

fn report_problems(checked: &Checked, skip_invalid: bool, ctx: &Ctx, max: usize) -> Result<()> {
    if checked.problem_count == 0 {
        return Ok(());
    }
    let mut said = std::collections::HashSet::new();
    for problem in &checked.problems {
        ctx.ui.warn(&problem.to_string());
        if let Some(hint) = problem.hint.as_ref().filter(|hint| said.insert(hint.as_str())) {
            ctx.ui.hint(hint);
        }
    }
    let more = checked.problem_count.saturating_sub(checked.problems.len() as u64);
    if more > 0 {
        ctx.ui.warn(&format!("and {} like these (--max-problems {max})", format::plural(more, "more problem")));
    }
    if skip_invalid {
        ctx.ui.note(&format!("{} will be in the results as failed", format::plural(checked.bad_rows, "invalid row")));
        return Ok(());
    }
    Err(Error::new(
        Exit::Data,
        format!(
            "{} of {} cannot be sent; nothing was sent",
            format::count(checked.bad_rows),
            format::plural(checked.rows, "row")
        ),
    )
    .hint("mend the rows, or give --skip-invalid to send the others"))
}

fn opening(claimed: &Claimed, checked: &Checked, done: &Bits, plan: &Plan) -> String {
    let models: Vec<&str> = checked.models.iter().take(3).map(|(m, _)| &**m).collect();
    let more = if checked.models.len() > 3 { format!(" and {} more", checked.models.len() - 3) } else { String::new() };
    let rows = if claimed.resumed {
        format!("{} answered before, {} to go", format::count(done.count()), format::count(checked.rows - done.count()))
    } else {
        format::plural(checked.rows, "row")
    };
    let verb = if claimed.resumed { "resuming job" } else { "job" };
    format!("{verb} {}: {rows}, {}{more}, against {}", claimed.job.id, models.join(", "), plan.service)
}
