//! `llbatch cancel`: ends what has not ended, keeps what was answered.

use std::time::{Duration, Instant};

use clap::Args;

use super::service::connect;
use super::{print_json, status};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::batch::follow::{Waiting, follow};
use crate::job::batch::{Work, adopt};
use crate::store::{JobState, Store, Transport};

/// How long the service may take to end what it was asked to end, before the terminal is given back.
const GRACE: Duration = Duration::from_secs(30);

/// Cancel what has not ended; answers that were given are kept, and billed
#[derive(Debug, Args)]
pub struct Cancel {
    /// A job's id, a unique beginning of it, its --name, `last`, or a Together batch id
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
}

/// Runs the subcommand.
pub fn run(args: &Cancel, ctx: &Ctx) -> Result<Exit> {
    let store = Store::open(&ctx.settings.state_dir.value)?;
    let ledger = store.ledger()?;
    let service = connect(ctx)?;
    let mut works = Vec::new();
    let mut ids = Vec::new();
    for name in &args.jobs {
        let job = adopt::find(name, service.remote(), ctx)?;
        if ids.contains(&job.id) {
            continue;
        }
        ids.push(job.id.clone());
        let mut work = Work::open_to_cancel(&job, service.remote(), ctx).map_err(|error| match error.exit {
            Exit::TempFail => Error {
                hint: Some("stop that process first (Ctrl-C, or kill its id); its job stays resumable".to_owned()),
                ..error
            },
            _ => error,
        })?;
        if work.is_unplanned()? {
            work.unplan()?;
            ctx.ui.note(&format!("{}: its command was stopped before anything was sent; it is forgotten", job.id));
            ids.pop();
            continue;
        }
        if work.open_batches()?.0 == 0 {
            let (transport, state) = (work.job.transport, work.tell_ledger(false)?);
            if transport == Transport::Realtime && state == JobState::Interrupted {
                ctx.ui.note(&format!("{0}: nothing to cancel, none of its rows is being answered", work.job.id));
                ctx.ui.hint(&format!(
                    "it stays as it is: `llbatch run --resume={0}{1} -o FILE` goes on with it, `llbatch clean {0} --force` removes it",
                    work.job.id,
                    work.flags()
                ));
            } else {
                ctx.ui.note(&format!("{}: nothing to cancel, it has ended", work.job.id));
            }
            work.account()?;
            continue;
        }
        work.cancel()?;
        works.push(work);
    }
    let until = Some(Instant::now() + GRACE);
    let ended = follow(&mut works, Waiting { until, every: Some(Duration::from_secs(2)), submitting: false })?;
    for mut work in works {
        work.account()?;
        work.progress.finish();
    }
    if ctx.json {
        let names: Vec<&str> = ids.iter().map(String::as_str).collect();
        print_json(&status::document(&names, ctx)?, ctx)?;
    } else {
        for id in &ids {
            ctx.ui.note(&status::line(&ledger.find(id)?));
        }
    }
    if !ended {
        ctx.ui.note("the service is still ending them; `llbatch wait` takes what was answered");
    }
    Ok(Exit::Ok)
}
