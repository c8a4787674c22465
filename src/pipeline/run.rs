//! A realtime job from its inputs to its summary.

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Bits, Consumed, Consumer, Cursor, Money, Ordered, Target, money, reader};
use crate::api::Client;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::{Format, Inputs};
use crate::outcome::{ErrorCode, Fingerprint, Outcome, Usage};
use crate::output::{self, AtomicFile, Renderer, remove_stale};
use crate::plan::{self, CheckOptions, Checked};
use crate::realtime::{self, Shared, Stopped};
use crate::request::{Params, Shape};
use crate::store::{Job, JobDb, Ledger, Lock, State, Store, Transport};
use crate::summary::{Meta, Summary, Totals};
use crate::ui::{Results, format};

/// Batches of rows between the reader and the engine.
const READ_AHEAD: usize = 8;
/// Unanswered rows of a killed run that are named; the others are counted.
const NAMED: usize = 20;
/// Most columns of a flat table; more is no table.
const COLUMNS: usize = 10_000;

/// What the user asked for.
#[derive(Debug)]
pub struct Plan {
    /// Files; none: standard input.
    pub inputs: Vec<PathBuf>,
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

/// What is kept with a job so that it can go on without its flags.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Spec {
    version: u8,
    service: String,
    inputs: Vec<PathBuf>,
    /// Where standard input is kept, under the state directory.
    spooled: bool,
    input_format: Option<Format>,
    params: Params,
    skip_invalid: bool,
}

/// A job that may be worked on.
struct Claimed {
    job: Job,
    /// Reuse its answers; otherwise it is new.
    resumed: bool,
    _locks: Vec<Lock>,
}

/// Runs the plan to its end.
///
/// # Errors
/// What stopped it before there was anything to sum up.
pub fn run(mut plan: Plan, client: &Client, ctx: &Ctx) -> Result<(Summary, Exit)> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let progress = ctx.ui.progress(if plan.output.is_some() { Results::Elsewhere } else { Results::Stdout });

    // What to read: files, standard input kept in a file, or what an earlier job read.
    let named = match &plan.resume {
        Resume::Job(name) => Some(ledger.find(name)?),
        _ => None,
    };
    let mut spool = None;
    let mut spec = match &named {
        Some(job) if plan.inputs.is_empty() => spec_of(job)?,
        _ => Spec {
            version: 1,
            service: plan.service.clone(),
            inputs: plan.inputs.iter().map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone())).collect(),
            spooled: plan.inputs.is_empty(),
            input_format: plan.input_format,
            params: plan.params.clone(),
            skip_invalid: plan.skip_invalid,
        },
    };
    if spec.service != plan.service {
        return Err(Error::usage(format!(
            "that job ran against {}, this command is for {}",
            spec.service, plan.service
        ))
        .hint(if spec.service == "sandbox" {
            "add --sandbox"
        } else {
            "leave --sandbox out, or give the same --base-url"
        }));
    }
    spec.skip_invalid |= plan.skip_invalid;
    let shape = Arc::new(Shape::new(&spec.params)?);
    let (inputs, content) = match (&named, spec.spooled) {
        (Some(job), true) if plan.inputs.is_empty() => {
            let path = store.spool_path(&job.id);
            if !path.exists() {
                return Err(Error::new(Exit::NoInput, format!("the input of {} is not kept any more", job.id)));
            }
            (Inputs::spooled(path, "-", spec.input_format.unwrap_or(Format::Jsonl)), String::new())
        }
        (_, true) => {
            progress.phase("reading standard input");
            let (file, hash) = spool_stdin(&store)?;
            let inputs = Inputs::spooled(file.path().to_owned(), "-", spec.input_format.unwrap_or(Format::Jsonl));
            spool = Some(file);
            (inputs, hash)
        }
        (_, false) => {
            // Messages name files as they were typed.
            let typed = if plan.inputs.is_empty() { &spec.inputs } else { &plan.inputs };
            (Inputs::resolve(typed, spec.input_format)?, String::new())
        }
    };
    let key = key_of(&spec, &content);
    let shown = shown_inputs(&plan, &spec);

    let mut claimed = claim(&store, &ledger, &plan, named, &key, &spec, shown)?;
    let db_path = store.job_path(&claimed.job.id);
    let old = if claimed.resumed { Some(JobDb::open(&db_path)?) } else { None };

    progress.phase("checking input");
    let (checked, resume) = check(&inputs, &shape, plan.max_problems, old)?;
    report_problems(&checked, &spec, ctx, plan.max_problems)?;
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
    let columns = if plan.form.is_flat() { columns(&inputs)? } else { Vec::new() };
    let id_field = id_field(&spec.params, &columns);
    let renderer = Renderer::new(&plan.form, &columns, id_field)?;
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

    // From here on there is a job.
    let mut money = Money::new(ctx.settings.prices.clone());
    let mut totals = Totals::new(checked.rows);
    claimed.job.total = checked.rows;
    claimed.job.state = State::Running;
    claimed.job.exit = None;
    if claimed.resumed {
        ledger.update(&claimed.job)?;
    } else {
        claimed.job = ledger.create(claimed.job)?;
        // A job is worked on under its own name too, so that `--resume JOB` and its command exclude each other.
        if let Some(lock) = store.lock(&claimed.job.id)? {
            claimed._locks.push(lock);
        }
    }
    let db_path = store.job_path(&claimed.job.id);
    if let Some(file) = spool.take() {
        file.persist(store.spool_path(&claimed.job.id))
            .map_err(|e| Error::io("standard input cannot be kept", e.error))?;
    }
    let db = prepare(resume, &db_path, &inputs, &shape, &checked, &mut money, &mut totals, ctx)?;
    let mut done = Bits::new(checked.rows);
    db.each_fingerprint(|row, _, ok| {
        if ok {
            done.insert(row);
        }
    })?;
    let job_id = claimed.job.id.clone();
    ctx.ui.note(&opening(&claimed, &checked, &done, &plan));

    let cursor = if plan.form.is_flat() { Some(Cursor::open(&inputs, &shape, true)?) } else { None };
    let done = Arc::new(done);
    let shared = Arc::new(Shared::default());
    let signal = Arc::new(AtomicI32::new(0));
    let started = Instant::now();
    if let Some(deadline) = &mut plan.options.deadline {
        *deadline = (*deadline).max(started);
    }
    let (stopped, fed, consumed) = {
        let consumer = Consumer {
            db,
            ordered: Ordered::new(checked.rows, (*done).clone(), renderer, cursor, results, errors),
            totals,
            money,
            reused: Arc::clone(&done),
            progress: progress.clone(),
            shared: Arc::clone(&shared),
            ledger: store.ledger()?,
            job: &mut claimed.job,
            started,
        };
        drive(
            consumer,
            client,
            &plan.options,
            &Feed { inputs: &inputs, shape: &shape, done: &done, checked: &checked },
            &shared,
            &signal,
        )?
    };
    progress.finish();

    let mut ending = ending(stopped.as_ref(), &fed, signal.load(Ordering::Acquire));
    let consumed = match consumed {
        Ok(consumed) => Some(consumed),
        Err(error) => {
            ending = Ending { exit: error.exit, reason: error.to_string(), pending: ErrorCode::Interrupted };
            if error.exit != Exit::ClosedPipe {
                ctx.ui.error(&error);
            }
            None
        }
    };
    finish(Closing {
        plan: &plan,
        ctx,
        ledger: &ledger,
        store: &store,
        job: claimed.job,
        job_id,
        ending,
        consumed,
        reused: &done,
        inputs: &inputs,
        shape: &shape,
        started,
        aborted: shared.abort.is_cancelled(),
    })
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
    signal: &Arc<AtomicI32>,
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
        let stopped = runtime.block_on(async {
            let signals = tokio::spawn(watch_signals(Arc::clone(shared), Arc::clone(signal)));
            let stopped = realtime::run(client.clone(), options.clone(), rows_out, events_in, Arc::clone(shared)).await;
            signals.abort();
            stopped
        });
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

/// First signal: start nothing more. Second: at once.
async fn watch_signals(shared: Arc<Shared>, seen: Arc<AtomicI32>) {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut int), Ok(mut term), Ok(mut hup)] = kinds.map(signal) else { return };
    loop {
        let number = tokio::select! {
            _ = int.recv() => 2,
            _ = term.recv() => 15,
            _ = hup.recv() => 1,
        };
        if seen.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            shared.stop.cancel();
        } else {
            shared.abort.cancel();
        }
    }
}

fn spec_of(job: &Job) -> Result<Spec> {
    if job.transport != Transport::Realtime {
        return Err(Error::usage(format!("{} is not a realtime job", job.id)));
    }
    serde_json::from_str(&job.spec)
        .map_err(|e| Error::new(Exit::Io, format!("the record of {} cannot be read", job.id)).because(e))
}

/// The same command has the same key: same inputs, same parameters, same service.
fn key_of(spec: &Spec, content: &str) -> String {
    let parts = serde_json::json!([spec.service, spec.inputs, spec.input_format, spec.params, content]);
    blake3::hash(parts.to_string().as_bytes()).to_hex()[..32].to_owned()
}

fn shown_inputs(plan: &Plan, spec: &Spec) -> String {
    let paths = if plan.inputs.is_empty() { &spec.inputs } else { &plan.inputs };
    if spec.spooled || paths.is_empty() {
        return "-".to_owned();
    }
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ")
}

fn spool_stdin(store: &Store) -> Result<(tempfile::NamedTempFile, String)> {
    let file = store.spool()?;
    let mut writer = BufWriter::with_capacity(256 << 10, file);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    let mut stdin = std::io::stdin().lock();
    loop {
        let read = match stdin.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::new(Exit::NoInput, "standard input cannot be read").because(e)),
        };
        hasher.update(&buffer[..read]);
        writer.write_all(&buffer[..read]).map_err(|e| Error::io("standard input cannot be kept", e))?;
    }
    let file = writer.into_inner().map_err(|e| Error::io("standard input cannot be kept", e.into_error()))?;
    file.as_file().sync_all().map_err(|e| Error::io("standard input cannot be kept", e))?;
    Ok((file, hasher.finalize().to_hex().to_string()))
}

/// Finds the job to go on with, or describes a new one; nobody else can do the same at the same time.
fn claim(
    store: &Store,
    ledger: &Ledger,
    plan: &Plan,
    named: Option<Job>,
    key: &str,
    spec: &Spec,
    shown: String,
) -> Result<Claimed> {
    let busy = |what: &str| {
        Error::new(Exit::TempFail, format!("{what} is being worked on by another llbatch"))
            .hint("wait for it, or give --fresh to start a second job (and pay for it)")
    };
    let mut locks = Vec::new();
    if plan.resume != Resume::Fresh {
        locks.push(store.lock(key)?.ok_or_else(|| busy("this very command"))?);
    }
    let found = match (&plan.resume, named) {
        (_, Some(job)) => Some(job),
        (Resume::Fresh | Resume::Job(_), None) => None,
        (Resume::Auto, None) => ledger.last_of(key)?.filter(|job| !job.state.ended()),
        (Resume::Last, None) => Some(ledger.last_of(key)?.ok_or_else(|| {
            Error::usage("this command has no earlier job to resume")
                .hint("leave --resume out, or name a job: --resume=JOB")
        })?),
    };
    let spec_text =
        serde_json::to_string(spec).map_err(|e| Error::new(Exit::Failure, "the job cannot be described").because(e))?;
    if let Some(mut job) = found {
        locks.push(store.lock(&job.id)?.ok_or_else(|| busy(&job.id))?);
        job.spec = spec_text;
        return Ok(Claimed { job, resumed: true, _locks: locks });
    }
    let job = Job {
        id: String::new(),
        name: plan.name.clone(),
        key: key.to_owned(),
        transport: Transport::Realtime,
        state: State::Preparing,
        created_at: 0,
        updated_at: 0,
        input: shown,
        spec: spec_text,
        total: 0,
        succeeded: 0,
        failed: 0,
        cost: None,
        active_ms: 0,
        exit: None,
    };
    Ok(Claimed { job, resumed: false, _locks: locks })
}

/// What the check found out about the job that is resumed.
struct Resumed {
    db: JobDb,
    /// Every stored row stands where it stood, with the same request.
    same: bool,
}

/// Checks all rows; beside that, whether the answers of an earlier run still stand at their rows.
fn check(
    inputs: &Inputs,
    shape: &Shape,
    max_problems: usize,
    old: Option<JobDb>,
) -> Result<(Checked, Option<Resumed>)> {
    let options = CheckOptions { max_problems, ..CheckOptions::default() };
    let Some(db) = old else {
        let checked = plan::check_with(inputs, shape, &options, &|_| (), &mut |_, _| {})?;
        return Ok((checked, None));
    };
    // 24 bytes an answer, for as long as the check lasts.
    let mut stored: Vec<(u64, Fingerprint)> = Vec::new();
    db.each_fingerprint(|row, fp, ok| {
        if ok {
            stored.push((row, fp));
        }
    })?;
    let mut at = 0;
    let mut same = true;
    let checked = plan::check_with(inputs, shape, &options, &|draft| draft.fingerprint(), &mut |row, fp| {
        if let Some((stored_row, stored_fp)) = stored.get(at)
            && *stored_row == row
        {
            same &= fp == Some(*stored_fp);
            at += 1;
        }
    })?;
    same &= at == stored.len();
    Ok((checked, Some(Resumed { db, same })))
}

fn report_problems(checked: &Checked, spec: &Spec, ctx: &Ctx, max: usize) -> Result<()> {
    if checked.problem_count == 0 {
        return Ok(());
    }
    for problem in &checked.problems {
        ctx.ui.warn(&problem.to_string());
        if let Some(hint) = &problem.hint {
            ctx.ui.hint(hint);
        }
    }
    let more = checked.problem_count.saturating_sub(checked.problems.len() as u64);
    if more > 0 {
        ctx.ui.warn(&format!("and {} like these (--max-problems {max})", format::plural(more, "more problem")));
    }
    if spec.skip_invalid {
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

/// All field names of all records, first seen first.
fn columns(inputs: &Inputs) -> Result<Vec<String>> {
    let mut seen = std::collections::HashSet::new();
    let mut columns = Vec::new();
    let mut blocks = inputs.blocks()?;
    while let Some(block) = blocks.next()? {
        block.for_each(|record| {
            let Ok(record) = record else { return };
            for (name, _) in record.fields() {
                if columns.len() <= COLUMNS && !seen.contains(&*name) {
                    seen.insert(name.clone().into_owned());
                    columns.push(name.into_owned());
                }
            }
        });
        if columns.len() > COLUMNS {
            return Err(Error::new(
                Exit::Data,
                format!("the records have more than {COLUMNS} different fields: no table has so many columns"),
            )
            .hint("write JSONL results without --flat"));
        }
    }
    Ok(columns)
}

fn id_field<'a>(params: &'a Params, columns: &[String]) -> Option<&'a str> {
    params.id.as_deref().or_else(|| ["custom_id", "id"].into_iter().find(|name| columns.iter().any(|c| c == name)))
}

/// Makes the job's database ready: answers at their rows, failed rows out, money of both kept.
#[expect(clippy::too_many_arguments, reason = "one call, and a struct of the same eight would say no more")]
fn prepare(
    resume: Option<Resumed>,
    path: &Path,
    inputs: &Inputs,
    shape: &Arc<Shape>,
    checked: &Checked,
    money: &mut Money,
    totals: &mut Totals,
    ctx: &Ctx,
) -> Result<JobDb> {
    let Some(Resumed { mut db, same }) = resume else { return JobDb::open(path) };
    let lost = db.unanswered(usize::MAX)?;
    if !lost.is_empty() {
        tell_lost(&lost, inputs, shape, ctx)?;
    }
    retire_lost(&lost, &mut db, inputs, shape)?;
    db.retire_failed()?;
    if !same {
        let mut kept = 0;
        let mut remap = db.remap()?;
        let mut result = Ok(());
        plan::check(inputs, shape, &CheckOptions { max_problems: 0, threads: 1 }, &mut |row, request| {
            let Some(request) = request.filter(|_| checked.duplicates.binary_search(&row).is_err()) else { return };
            if result.is_ok() {
                match remap.place(row, &request.id, request.fingerprint) {
                    Ok(found) => kept += u64::from(found),
                    Err(e) => result = Err(e),
                }
            }
        })?;
        result?;
        let gone = remap.finish()?;
        ctx.ui.note(&format!(
            "the input has changed: {} still fit a row, {} changed or new rows will be sent, {} are of no use any more",
            format::plural(kept, "answer"),
            format::count(checked.rows - kept),
            format::plural(gone, "answer")
        ));
    }
    for retired in db.retired()? {
        money.retired(&retired, totals);
    }
    Ok(db)
}

/// Rows that a killed process had in flight may be billed twice: they are named.
fn tell_lost(lost: &[u64], inputs: &Inputs, shape: &Arc<Shape>, ctx: &Ctx) -> Result<()> {
    let mut names = Vec::new();
    let mut cursor = Cursor::open(inputs, shape, false)?;
    for row in lost.iter().take(NAMED) {
        names.push(cursor.at(*row)?.map_or_else(|| format!("row-{row}"), |s| s.id.into_string()));
    }
    let more = lost.len().saturating_sub(NAMED);
    let tail = if more > 0 { format!(" and {} more", format::count(more as u64)) } else { String::new() };
    ctx.ui.warn(&format!(
        "the last run was killed: {} may have been sent without an answer coming back, and may be billed twice: {}{tail}",
        format::plural(lost.len() as u64, "row"),
        names.join(", ")
    ));
    Ok(())
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

/// How a run ended.
struct Ending {
    exit: Exit,
    reason: String,
    /// The error code of rows that were not answered.
    pending: ErrorCode,
}

fn ending(stopped: Option<&Stopped>, fed: &Result<()>, signal: i32) -> Ending {
    let (exit, reason, pending) = match (signal, stopped, fed) {
        (2, _, _) => (Exit::Interrupt, "interrupted (SIGINT)".to_owned(), ErrorCode::Interrupted),
        (15, _, _) => (Exit::Terminate, "terminated (SIGTERM)".to_owned(), ErrorCode::Interrupted),
        (1, _, _) => (Exit::Hangup, "the terminal went away (SIGHUP)".to_owned(), ErrorCode::Interrupted),
        (_, _, Err(error)) => (error.exit, error.to_string(), ErrorCode::Interrupted),
        (_, Some(Stopped::Auth(words)), _) => {
            (Exit::Auth, format!("the service refused the key: {words}"), ErrorCode::Auth)
        }
        (_, Some(Stopped::Payment(words)), _) => {
            (Exit::Budget, format!("the service asks for payment: {words}"), ErrorCode::Payment)
        }
        (_, Some(Stopped::Deadline), _) => (Exit::Budget, "the deadline was reached".to_owned(), ErrorCode::Budget),
        (_, Some(Stopped::GaveUp(words)), _) => {
            (Exit::TempFail, format!("nothing succeeded for --give-up-after; last: {words}"), ErrorCode::Interrupted)
        }
        (_, Some(Stopped::Cancelled), _) => (Exit::Failure, "stopped".to_owned(), ErrorCode::Interrupted),
        (_, None, Ok(())) => (Exit::Ok, "done".to_owned(), ErrorCode::Interrupted),
    };
    Ending { exit, reason, pending }
}

struct Closing<'a> {
    plan: &'a Plan,
    ctx: &'a Ctx,
    ledger: &'a Ledger,
    store: &'a Store,
    job: Job,
    job_id: String,
    ending: Ending,
    consumed: Option<Consumed>,
    reused: &'a Bits,
    inputs: &'a Inputs,
    shape: &'a Arc<Shape>,
    started: Instant,
    aborted: bool,
}

/// Writes the last rows, the job's entry and the summary.
fn finish(closing: Closing<'_>) -> Result<(Summary, Exit)> {
    let Closing {
        plan,
        ctx,
        ledger,
        store,
        mut job,
        job_id,
        mut ending,
        consumed,
        reused,
        inputs,
        shape,
        started,
        aborted,
    } = closing;
    let duration = started.elapsed();
    job.active_ms += u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut totals = Totals::new(job.total);
    if let Some(Consumed { db, ordered, totals: folded }) = consumed {
        totals = folded;
        // Nothing to write is not worth overwriting yesterday's results for.
        if ending.exit == Exit::Ok || (job.succeeded > 0 && !aborted) {
            let mut money = Money::new(ctx.settings.prices.clone());
            let mut price = |outcome: &Outcome| money.count(outcome, reused.contains(outcome.row), &mut totals);
            let written = ordered
                .finish(&db, &mut price, (ending.pending, &ending.reason), &mut || Cursor::open(inputs, shape, false));
            if let Err(error) = written {
                if error.exit != Exit::ClosedPipe {
                    ctx.ui.error(&error);
                }
                ending = Ending { exit: error.exit, reason: error.to_string(), pending: ErrorCode::Interrupted };
            }
        } else {
            drop(ordered);
            totals = money::fold(&db, ctx.settings.prices.clone(), job.total, reused)?;
        }
    } else if let Ok(db) = JobDb::open(&store.job_path(&job.id)) {
        totals = money::fold(&db, ctx.settings.prices.clone(), job.total, reused)?;
    }
    job.succeeded = totals.succeeded();
    job.failed = totals.failed();
    let ended = ending.exit == Exit::Ok;
    if ended && totals.failed() > 0 {
        ending.exit = Exit::RowsFailed;
        ending.reason = format!("{} failed", format::plural(totals.failed(), "row"));
    }
    job.state = match (ended, job.succeeded, job.failed) {
        (false, _, _) => State::Interrupted,
        (true, _, 0) => State::Completed,
        (true, 0, _) => State::Failed,
        (true, _, _) => State::Partial,
    };
    job.cost = totals.usd();
    job.exit = Some(ending.exit.code());
    ledger.update(&job)?;

    let next = match (ended, ending.exit) {
        (true, Exit::Ok) => None,
        // `--resume` sends the failed rows again.
        _ if plan.inputs.is_empty() => Some(ctx.again(&["--resume", "--fresh", "-"], &[format!("--resume={job_id}")])),
        (true, _) => Some(ctx.again(&["--resume", "--fresh"], &["--resume".to_owned()])),
        (false, _) => Some(ctx.again(&["--fresh"], &[])),
    };
    let meta = Meta {
        job: Some(job_id),
        transport: Some(Transport::Realtime.as_str().to_owned()),
        state: job.state.as_str().to_owned(),
        duration,
        estimated: false,
        exit: ending.exit,
        reason: ending.reason,
        next,
    };
    Ok((totals.summary(&meta), ending.exit))
}

/// Writes the summary where it was asked for.
///
/// # Errors
/// 74 if it cannot be written.
pub fn write_summary(summary: &Summary, path: &Path) -> Result<()> {
    let mut file = AtomicFile::create(path, 0o666)?;
    let failed = |e| Error::io(format!("{}: cannot be written", path.display()), e);
    let text = serde_json::to_string_pretty(summary).map_err(|e| failed(e.into()))?;
    writeln!(file, "{text}").map_err(failed)?;
    file.commit()
}

/// Rows whose fate a killed process took with it: what they may have cost is kept.
fn retire_lost(lost: &[u64], db: &mut JobDb, inputs: &Inputs, shape: &Arc<Shape>) -> Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    let mut bounds: Vec<(Arc<str>, u32, Usage)> = Vec::new();
    let mut blocks = inputs.blocks()?;
    while let Some(block) = blocks.next()? {
        block.for_each(|record| {
            let Ok(record) = record else { return };
            if lost.binary_search(&record.row).is_err() {
                return;
            }
            let Ok(request) = shape.request(&record) else { return };
            let reserve =
                Usage { prompt: crate::tokens::bound(&request.body), completion: request.max_tokens.unwrap_or(0) };
            bounds.push((request.model, 1, reserve));
        });
    }
    for (model, rows, reserve) in bounds {
        db.retire_unknown(&model, rows, reserve)?;
    }
    db.commit(false)
}
