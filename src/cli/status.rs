//! `llbatch status`: jobs and where they are.

use clap::Args;
use serde::Serialize;

use super::{print_json, print_text};
use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::price::Nanos;
use crate::store::{Job, State, Store};
use crate::ui::format;
use crate::ui::table::{Align, Table};

/// Show jobs: state, rows, cost, age
#[derive(Debug, Args)]
pub struct Status {
    /// A job's id, a unique beginning of it, its --name, or `last` [default: recent jobs]
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// How many recent jobs to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: u32,
}

#[derive(Serialize)]
struct Document {
    version: u8,
    jobs: Vec<Entry>,
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
    batches: [(); 0],
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

/// Runs the subcommand.
pub fn run(args: &Status, ctx: &Ctx) -> Result<Exit> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let mut jobs = match args.jobs.as_slice() {
        [] => ledger.recent(args.limit)?,
        names => names.iter().map(|name| ledger.find(name)).collect::<Result<Vec<_>>>()?,
    };
    for job in &mut jobs {
        // A job that says it is running and that nobody holds was killed.
        if matches!(job.state, State::Running | State::Preparing) && !store.in_use(&job.id) {
            job.state = State::Interrupted;
        }
    }
    if ctx.json {
        let jobs = jobs.iter().map(entry).collect();
        print_json(&Document { version: 1, jobs }, ctx)?;
        return Ok(Exit::Ok);
    }
    if jobs.is_empty() {
        ctx.ui.note("no jobs yet");
        ctx.ui.hint("llbatch run FILE -o RESULTS makes one; add --sandbox to try it without a key");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new([
        ("JOB", Align::Left),
        ("STATE", Align::Left),
        ("ROWS", Align::Right),
        ("OK", Align::Right),
        ("FAILED", Align::Right),
        ("COST", Align::Right),
        ("AGE", Align::Right),
        ("INPUT", Align::Left),
    ]);
    for job in &jobs {
        let input = job.name.as_ref().map_or_else(|| job.input.clone(), |name| format!("{name}: {}", job.input));
        table.row([
            job.id.clone(),
            job.state.as_str().to_owned(),
            format::count(job.total),
            format::count(job.succeeded),
            format::count(job.failed),
            job.cost.map_or_else(|| "?".to_owned(), Nanos::human),
            age(job),
            input,
        ]);
    }
    print_text(&table.render(ctx.ui.table_width()), ctx)?;
    if let Some(job) = jobs.iter().find(|job| job.state == State::Interrupted) {
        ctx.ui.hint(&format!(
            "{} goes on when its command is typed again, or with `llbatch run --resume={} -o FILE`",
            job.id, job.id
        ));
    }
    Ok(Exit::Ok)
}

fn age(job: &Job) -> String {
    let now = jiff::Timestamp::now().as_millisecond();
    format::duration(std::time::Duration::from_millis(u64::try_from(now - job.created_at).unwrap_or(0)))
}

fn entry(job: &Job) -> Entry {
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
        cost: Cost { estimated_usd: None, usd: job.cost },
        batches: [],
    }
}
