//! `llbatch wait`: returns when jobs have ended, their results safely here.

use std::time::{Duration, Instant};

use clap::Args;

use super::args::WaitArgs;
use super::service::connect;
use super::{print_json, status};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::batch::follow::{Waiting, follow};
use crate::job::batch::{PATIENCE, Work, adopt};
use crate::store::unsent::is_claimed_now;
use crate::store::{Job, Store};
use crate::ui::Results;

/// Wait until jobs have ended; take their results into the store
///
/// Asks soon at first, then every 30 to 60 seconds; outages are waited out. Exits 0 if every row was answered, 3 if rows
/// failed, 75 if the time was up first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch wait last --timeout 6h && llbatch fetch last -o out.jsonl
  llbatch wait nightly j-abcd1234")]
pub struct Wait {
    /// A job's id, a unique beginning of it, its --name, `last`, or a Together batch id
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    #[command(flatten)]
    waiting: WaitArgs,
}

/// Runs the subcommand.
pub fn run(args: &Wait, ctx: &Ctx) -> Result<Exit> {
    let waiting = args.waiting.resolve(None, ctx.settings.sandbox)?;
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let service = connect(ctx)?;
    let mut jobs: Vec<Job> = Vec::new();
    for name in &args.jobs {
        let job = adopt::find(name, service.remote(), ctx)?;
        if !jobs.iter().any(|known| known.id == job.id) {
            jobs.push(job);
        }
    }
    let ids: Vec<String> = jobs.iter().map(|job| job.id.clone()).collect();
    // None is held while others are waited for: two such commands would wait for each other.
    let mut works = loop {
        for job in &jobs {
            if !until_free(job, &store, waiting, ctx) {
                return Err(Error::new(Exit::TempFail, "--timeout is over; another llbatch still works on the job"));
            }
        }
        let open = |job| Work::open(job, service.remote(), ctx, PATIENCE, Results::Elsewhere);
        match jobs.iter().map(open).collect::<Result<Vec<_>>>() {
            Err(error) if error.exit == Exit::TempFail => std::thread::sleep(PAUSE),
            works => break works?,
        }
    };
    let ended = follow(&mut works, waiting)?;
    let mut exit = Exit::Ok;
    for mut work in works {
        work.account()?;
        exit = exit.worst(work.verdict_now()?.0);
        work.progress.finish();
    }
    if ctx.json {
        let names: Vec<&str> = ids.iter().map(String::as_str).collect();
        print_json(&status::document(&names, ctx)?, ctx)?;
    } else {
        for id in &ids {
            let job = ledger.find(id)?;
            ctx.ui.note(&status::line(&job));
        }
    }
    if !ended {
        ctx.ui.warn("--timeout is over, not all has ended");
        return Ok(exit.worst(Exit::TempFail));
    }
    Ok(exit)
}

/// Between looks at whether a job is free.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits while another process works on the job; `false` if the time is up first.
fn until_free(job: &Job, store: &Store, waiting: Waiting, ctx: &Ctx) -> bool {
    let mut said = false;
    while store.in_use(&job.id) || is_claimed_now(store, job).unwrap_or(false) {
        if !said {
            ctx.ui.note(&format!("another llbatch works on {}; waiting for it", job.id));
            said = true;
        }
        if waiting.until.is_some_and(|until| Instant::now() >= until) {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}
