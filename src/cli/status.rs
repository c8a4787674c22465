//! `llbatch status`: jobs and where they are.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::service::{self, connect};
use super::{print_json, print_text, spending};
use crate::api::batches::Batch;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::pipeline::batch::adopt::{find_local, looks_remote};
use crate::pipeline::batch::remote::{self, Seen};
use crate::pipeline::job::spec_of;
use crate::price::Nanos;
use crate::settings;
use crate::store::{BatchJob, Job, Ledger, State, Step, Store, Transport};
use crate::ui::table::{Align, Table};
use crate::ui::{escape, format};

/// Show jobs: state, progress, rows, cost, age; batches are asked about first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch status                       recent jobs
  llbatch status last                  one job, batch by batch
  llbatch status --watch               until all have ended
  llbatch status --cost --since 30d    what was spent, by day and model
  llbatch status --json | jq '.jobs[] | select(.state == \"running\") | .job'")]
pub struct Status {
    /// A job's id, a unique beginning of it, its --name, `last`, or a Together batch id [default: recent jobs]
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// How many recent jobs to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// Do not ask the service: what is known here
    #[arg(long)]
    offline: bool,
    /// Show it again and again, until all have ended
    #[arg(long, conflicts_with = "offline")]
    watch: bool,
    /// Ask every so often, with --watch [default: 30s]
    #[arg(long, value_name = "TIME", requires = "watch")]
    poll: Option<String>,
    /// Also every batch that the service lists, whoever created it
    #[arg(long, conflicts_with_all = ["offline", "watch"])]
    remote: bool,
    /// What was spent instead, by day and model, over all jobs
    #[arg(long, conflicts_with_all = ["jobs", "remote", "watch"])]
    cost: bool,
    /// From so long ago on, with --cost (30d) [default: 30d]
    #[arg(long, value_name = "TIME", requires = "cost")]
    since: Option<String>,
    /// As CSV, with --cost
    #[arg(long, requires = "cost", conflicts_with = "json")]
    csv: bool,
}

#[derive(Serialize)]
pub(super) struct Document {
    version: u8,
    jobs: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<Vec<RemoteLine>>,
}

#[derive(Serialize)]
struct Entry {
    job: String,
    name: Option<String>,
    transport: &'static str,
    state: &'static str,
    created_at: String,
    input: String,
    rows: Rows,
    cost: Cost,
    batches: Vec<BatchLine>,
}

#[derive(Serialize)]
struct Rows {
    total: u64,
    succeeded: u64,
    failed: u64,
    pending: u64,
}

#[derive(Serialize)]
struct Cost {
    estimated_usd: Option<Nanos>,
    usd: Option<Nanos>,
}

#[derive(Serialize)]
struct BatchLine {
    id: Option<String>,
    model: String,
    status: String,
    progress: Option<f64>,
    rows: u64,
    input_file_id: Option<String>,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    deadline: Option<String>,
    error: Option<String>,
}

/// A batch as the service lists it, and the job here that it belongs to.
#[derive(Serialize)]
struct RemoteLine {
    id: String,
    job: Option<String>,
    model: Option<String>,
    status: String,
    progress: Option<f64>,
    created_at: Option<String>,
    input_file_id: Option<String>,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    deadline: Option<String>,
    error: Option<String>,
}

/// Runs the subcommand.
pub fn run(args: &Status, ctx: &Ctx) -> Result<Exit> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    if args.cost {
        return spending::show(args.since.as_deref(), args.csv, &ledger, ctx);
    }
    if !args.watch {
        return Ok(show(args, &store, &ledger, ctx)?.0);
    }
    let every = args.poll.as_deref().map(|t| settings::duration(t).map_err(|e| Error::usage(format!("--poll: {e}"))));
    let every = every.transpose()?.unwrap_or(Duration::from_secs(if ctx.settings.sandbox { 1 } else { 30 }));
    loop {
        ctx.ui.clear_screen();
        let (exit, live) = show(args, &store, &ledger, ctx)?;
        if !live {
            return Ok(exit);
        }
        std::thread::sleep(every.max(Duration::from_millis(200)));
    }
}

/// Shows it once; says whether anything is still going on.
fn show(args: &Status, store: &Store, ledger: &Ledger, ctx: &Ctx) -> Result<(Exit, bool)> {
    let mut foreign = Vec::new();
    let mut jobs = Vec::new();
    if args.jobs.is_empty() {
        jobs = ledger.recent(args.limit)?;
    }
    for name in &args.jobs {
        match find_local(name, store, ledger) {
            Ok(job) => jobs.push(job),
            Err(error) if error.exit == Exit::Usage && looks_remote(name) && !args.offline => {
                foreign.push((name.clone(), error));
            }
            Err(error) => return Err(error),
        }
    }
    let mut seen = remote::look(jobs, store)?;
    let here = service::name(ctx);
    let mine = |seen: &Seen| seen.is_live() && service_of(seen) == here;
    let ask = !args.offline && (args.remote || !foreign.is_empty() || seen.iter().any(mine));
    let mut trouble = None;
    let mut listed: Option<Vec<Batch>> = None;
    if ask {
        // What is known is shown even if there is no key and no network.
        match connect(ctx) {
            Ok(service) => {
                trouble = remote::refresh(&mut seen, store, ledger, service.remote()).err();
                if args.remote || !foreign.is_empty() {
                    listed = Some(remote::list(service.remote())?);
                }
            }
            Err(error) if seen.is_empty() => return Err(error),
            Err(error) => trouble = Some(error),
        }
    }
    if let Some(listed) = &mut listed
        && !args.remote
    {
        for (name, error) in foreign {
            if !listed.iter().any(|batch| batch.id == name) {
                return Err(error);
            }
        }
        listed.retain(|batch| args.jobs.contains(&batch.id));
    }
    let remote = listed.map(|listed| remote_lines(listed, store, ledger)).transpose()?;
    let live = seen.iter().any(|seen| matches!(seen.job.state, State::Running | State::Preparing));
    if ctx.json {
        print_json(&Document { version: 1, jobs: seen.iter().map(entry).collect(), remote }, ctx)?;
    } else {
        print(args, &seen, remote.as_deref(), ctx)?;
    }
    let exit = match trouble {
        Some(error) => {
            ctx.ui.warn(&format!("not asked about now, as last known: {error}"));
            if let Some(hint) = &error.hint {
                ctx.ui.hint(hint);
            }
            error.exit
        }
        None => Exit::Ok,
    };
    Ok((exit, live))
}

fn remote_lines(listed: Vec<Batch>, store: &Store, ledger: &Ledger) -> Result<Vec<RemoteLine>> {
    let mut owners = std::collections::HashMap::new();
    for seen in remote::look(ledger.recent(u32::MAX)?, store)? {
        for id in seen.batches.into_iter().filter_map(|batch| batch.id) {
            owners.insert(id, seen.job.id.clone());
        }
    }
    let line = |batch: Batch| RemoteLine {
        job: owners.get(&batch.id).cloned(),
        id: batch.id,
        model: batch.model_id,
        status: batch.status.as_str().to_owned(),
        progress: batch.progress,
        created_at: batch.created_at,
        input_file_id: batch.input_file_id,
        output_file_id: batch.output_file_id,
        error_file_id: batch.error_file_id,
        deadline: batch.job_deadline,
        error: batch.error,
    };
    Ok(listed.into_iter().map(line).collect())
}

/// The document of these jobs, as they are known here.
pub(super) fn document(names: &[&str], ctx: &Ctx) -> Result<Document> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let jobs = names.iter().map(|name| ledger.find(name)).collect::<Result<Vec<_>>>()?;
    let seen = remote::look(jobs, &store)?;
    Ok(Document { version: 1, jobs: seen.iter().map(entry).collect(), remote: None })
}

/// A job in a line, for people.
pub(super) fn line(job: &Job) -> String {
    let failed = if job.failed > 0 { format!(", {} failed", format::count(job.failed)) } else { String::new() };
    let pending = job.total.saturating_sub(job.succeeded + job.failed);
    let pending = if pending > 0 { format!(", {} without an end yet", format::count(pending)) } else { String::new() };
    format!(
        "{} {}: {} of {} answered{failed}{pending}",
        job.id,
        job.state.as_str(),
        format::count(job.succeeded),
        format::plural(job.total, "row")
    )
}

fn print(args: &Status, seen: &[Seen], remote: Option<&[RemoteLine]>, ctx: &Ctx) -> Result<()> {
    if seen.is_empty() && remote.is_none() {
        ctx.ui.note("no jobs yet");
        ctx.ui.hint(
            "llbatch run FILE -o RESULTS makes one, or llbatch submit FILE; add --sandbox to try it without a key",
        );
        return Ok(());
    }
    let width = ctx.ui.table_width();
    if !seen.is_empty() {
        print_text(&jobs_table(seen).render(width), ctx)?;
    }
    if !args.jobs.is_empty() && seen.iter().any(|seen| !seen.batches.is_empty()) {
        print_text(&format!("\n{}{}{}", batches_table(seen).render(width), errors(seen), ends_by(seen)), ctx)?;
    }
    if let Some(remote) = remote {
        if remote.is_empty() {
            ctx.ui.note("the service lists no batches");
        } else {
            let space = if seen.is_empty() { "" } else { "\n" };
            print_text(&format!("{space}{}", remote_table(remote).render(width)), ctx)?;
        }
    }
    hint(seen, args.offline, ctx);
    Ok(())
}

fn hint(seen: &[Seen], offline: bool, ctx: &Ctx) {
    let elsewhere = |seen: &&Seen| seen.is_live() && service_of(seen) != service::name(ctx);
    if let Some(seen) = seen.iter().find(elsewhere).filter(|_| !offline) {
        let how = match service_of(seen).as_deref() {
            Some("sandbox") => "add --sandbox".to_owned(),
            Some(url) if !ctx.settings.sandbox => format!("give --base-url {url}"),
            _ => "leave --sandbox out".to_owned(),
        };
        ctx.ui.hint(&format!("{} is with another service and was not asked about: {how}", seen.job.id));
    }
    for Seen { job, batches } in seen {
        let sandbox = spec_of(job).is_ok_and(|spec| spec.service == "sandbox");
        let flag = if sandbox { " --sandbox" } else { "" };
        let settled = !batches.iter().any(BatchJob::is_open);
        match (job.state, job.transport) {
            (State::Interrupted, Transport::Realtime) => ctx.ui.hint(&format!(
                "{0} goes on when its command is typed again, or with `llbatch run --resume={0}{flag} -o FILE`",
                job.id
            )),
            (State::Interrupted, Transport::Batch) => {
                ctx.ui.hint(&format!(
                    "{0} goes on when its command is typed again, or with `llbatch retry {0}{flag}`",
                    job.id
                ));
            }
            (state, Transport::Batch) if state.ended() && (!settled || !job.delivered) => {
                ctx.ui.hint(&format!("`llbatch fetch {}{flag} -o FILE` writes the results", job.id));
            }
            _ => continue,
        }
        // One is enough; the others are told the same way.
        return;
    }
}

fn service_of(seen: &Seen) -> Option<String> {
    spec_of(&seen.job).ok().map(|spec| spec.service)
}

fn jobs_table(seen: &[Seen]) -> Table {
    let mut table = Table::new([
        ("JOB", Align::Left),
        ("STATE", Align::Left),
        ("DONE", Align::Right),
        ("ROWS", Align::Right),
        ("OK", Align::Right),
        ("FAILED", Align::Right),
        ("COST", Align::Right),
        ("AGE", Align::Right),
        ("INPUT", Align::Left),
    ]);
    for Seen { job, batches } in seen {
        let input = job.name.as_ref().map_or_else(|| job.input.clone(), |name| format!("{name}: {}", job.input));
        table.row([
            job.id.clone(),
            job.state.as_str().to_owned(),
            format!("{:.0}%", done(job, batches)),
            format::count(job.total),
            taken(job, batches, job.succeeded),
            taken(job, batches, job.failed),
            cost(job),
            age(job),
            input,
        ]);
    }
    table
}

/// Rows by fate; of a job that ended and whose results are still with the service nobody knows.
fn taken(job: &Job, batches: &[BatchJob], rows: u64) -> String {
    let unknown = job.state.ended() && batches.iter().any(BatchJob::is_open);
    if unknown && rows == 0 { "–".to_owned() } else { format::count(rows) }
}

/// Percent of the rows that have come to an end, as far as the service tells.
fn done(job: &Job, batches: &[BatchJob]) -> f64 {
    if job.total == 0 {
        return 0.0;
    }
    let open: f64 = batches
        .iter()
        .filter(|batch| batch.is_open())
        .map(|batch| batch.rows as f64 * if batch.ended { 1.0 } else { batch.progress.unwrap_or(0.0) / 100.0 })
        .sum();
    // Never rounded up to what it is not.
    let percent = ((job.succeeded + job.failed) as f64 + open) / job.total as f64 * 100.0;
    if percent < 100.0 { percent.min(99.0) } else { 100.0 }
}

/// What it cost, or about what it will.
fn cost(job: &Job) -> String {
    match (job.cost, job.estimate) {
        // What is paid so far, of its rows at realtime, is not what it will come to.
        (Some(usd), Some(estimate)) if !job.state.ended() => format!("~{}", usd.max(estimate).human()),
        (Some(usd), _) => usd.human(),
        (None, Some(estimate)) => format!("~{}", estimate.human()),
        (None, None) => "?".to_owned(),
    }
}

fn batches_table(seen: &[Seen]) -> Table {
    let mut table = Table::new([
        ("BATCH", Align::Whole),
        ("STATUS", Align::Whole),
        ("DONE", Align::Right),
        ("ROWS", Align::Right),
        ("MODEL", Align::Left),
    ]);
    for Seen { batches, .. } in seen {
        for batch in batches {
            table.row([
                batch.id.clone().unwrap_or_else(|| format!("({})", batch.number)),
                word(batch),
                batch.progress.map_or_else(String::new, |progress| format!("{progress:.0}%")),
                format::count(batch.rows),
                short(&batch.model).to_owned(),
            ]);
        }
    }
    table
}

fn remote_table(remote: &[RemoteLine]) -> Table {
    let mut table = Table::new([
        ("REMOTE BATCH", Align::Whole),
        ("STATUS", Align::Whole),
        ("DONE", Align::Right),
        ("JOB", Align::Whole),
        ("MODEL", Align::Left),
        ("CREATED", Align::Whole),
    ]);
    for line in remote {
        table.row([
            line.id.clone(),
            line.status.clone(),
            line.progress.map_or_else(String::new, |progress| format!("{progress:.0}%")),
            line.job.clone().unwrap_or_else(|| "-".to_owned()),
            line.model.as_deref().map_or_else(String::new, |model| short(model).to_owned()),
            line.created_at.as_deref().map_or_else(String::new, clock),
        ]);
    }
    table
}

/// What the service says is wrong, in full.
fn errors(seen: &[Seen]) -> String {
    let line = |batch: &BatchJob| {
        let id = batch.id.clone().unwrap_or_else(|| format!("({})", batch.number));
        batch.error.as_ref().map(|error| format!("{id}: {}\n", escape::line(error)))
    };
    seen.iter().flat_map(|seen| &seen.batches).filter_map(line).collect()
}

/// When the service gives up at the latest. RFC 3339 in UTC sorts as text.
fn ends_by(seen: &[Seen]) -> String {
    let open = seen.iter().flat_map(|seen| &seen.batches).filter(|batch| !batch.ended);
    let last = open.filter_map(|batch| batch.deadline.as_deref()).max();
    last.map_or_else(String::new, |time| format!("to end by {}, or to expire then\n", clock(time)))
}

/// A model without its maker: the end of its name tells it apart.
fn short(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

/// A time as the clock on the wall shows it.
fn clock(rfc3339: &str) -> String {
    let Ok(time) = rfc3339.parse::<jiff::Timestamp>() else { return rfc3339.to_owned() };
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%m-%d %H:%M").to_string()
}

/// The service's word, or how far we are.
fn word(batch: &BatchJob) -> String {
    let own = match batch.step {
        Step::Planned => "PLANNED",
        Step::Uploaded => "UPLOADED",
        Step::Creating => "IN DOUBT",
        Step::Refused => "REFUSED",
        Step::Submitted | Step::Settled => "CREATED",
    };
    batch
        .status
        .clone()
        .unwrap_or_else(|| if batch.error.is_some() && own == "CREATED" { "REFUSED" } else { own }.to_owned())
}

fn age(job: &Job) -> String {
    let now = jiff::Timestamp::now().as_millisecond();
    format::duration(Duration::from_millis(u64::try_from(now - job.created_at).unwrap_or(0)))
}

fn entry(Seen { job, batches }: &Seen) -> Entry {
    Entry {
        job: job.id.clone(),
        name: job.name.clone(),
        transport: job.transport.as_str(),
        state: job.state.as_str(),
        created_at: jiff::Timestamp::from_millisecond(job.created_at).unwrap_or_default().to_string(),
        input: job.input.clone(),
        rows: Rows {
            total: job.total,
            succeeded: job.succeeded,
            failed: job.failed,
            pending: job.total.saturating_sub(job.succeeded + job.failed),
        },
        cost: Cost { estimated_usd: job.estimate, usd: job.cost },
        batches: batches
            .iter()
            .map(|batch| BatchLine {
                id: batch.id.clone(),
                model: batch.model.clone(),
                status: word(batch),
                progress: batch.progress,
                rows: batch.rows,
                input_file_id: batch.file_id.clone(),
                output_file_id: batch.output_file_id.clone(),
                error_file_id: batch.error_file_id.clone(),
                deadline: batch.deadline.clone(),
                error: batch.error.clone(),
            })
            .collect(),
    }
}
