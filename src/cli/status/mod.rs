//! `llbatch status`: shows jobs and their progress.

mod document;
mod tables;

use std::time::Duration;

use clap::Args;
use document::{RemoteLine, StatusDocument, entry, remote_lines};
use tables::{batches_table, ends_by, errors, jobs_table, remote_table};

use super::service::{self, connect};
use super::spending::SpendingView;
use super::{print_json, print_table, print_text, spending};
use crate::api::batches::Batch;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::batch::adopt::{find_local, looks_remote};
use crate::job::batch::status::{self, JobStatus};
use crate::job::batch::unended::since;
use crate::job::finish::{Workspace, record_killed};
use crate::job::metrics;
use crate::job::verdict::{JobCommand, JobFacts, RowFacts, Verdict, cancelling_since};
use crate::outcome::ErrorCode;
use crate::settings;
use crate::store::{Job, JobState, Ledger, Store};
use crate::text;

/// Show jobs: state, progress, rows, cost and age, after asking the service about their batches
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch status                       recent jobs
  llbatch status last                  one job, batch by batch
  llbatch status --watch               until all have ended
  llbatch status --cost --since 30d    spending by day and model
  llbatch status --json | jq '.jobs[] | select(.state == \"running\") | .job'")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct StatusArgs {
    /// Job id or its unique prefix, --name, `last`, or a batch id of the service [default: recent jobs]
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Number of recent jobs to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// Show the last known state without asking the service
    #[arg(long)]
    offline: bool,
    /// Refresh until all jobs have ended
    #[arg(long, conflicts_with = "offline")]
    watch: bool,
    /// Time between refreshes with --watch [default: 30s]
    #[arg(long, value_name = "TIME", requires = "watch")]
    poll: Option<String>,
    /// Also show every batch that the service lists, wherever it was created
    #[arg(long, conflicts_with_all = ["offline", "watch"])]
    remote: bool,
    /// Text, or the jobs' figures as Prometheus reads them (prom)
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "prom"], conflicts_with_all = ["remote", "watch"])]
    format: String,
    /// Show the spending of all jobs instead, by day and model
    #[arg(long, conflicts_with_all = ["jobs", "remote", "watch"])]
    cost: bool,
    /// Period of --cost [default: 30d]
    #[arg(long, value_name = "TIME", requires = "cost")]
    since: Option<String>,
    /// Lines of --cost: by day and model, or by tag (`--tag` of run and submit)
    #[arg(long, value_name = "WHAT", requires = "cost", value_parser = ["day", "tag"])]
    by: Option<String>,
    /// Print --cost as CSV
    #[arg(long, requires = "cost", conflicts_with = "json")]
    csv: bool,
}

impl StatusArgs {
    /// The jobs that the command names; none for recent jobs.
    pub(super) fn jobs(&self) -> &[String] {
        &self.jobs
    }

    /// Returns true if the command is about a service, not about jobs, which remember their own.
    pub(super) const fn needs_service(&self) -> bool {
        self.remote
    }

    /// Returns whether the command may ask a service about its jobs.
    pub(super) const fn asks(&self) -> bool {
        !self.offline && !self.cost && !self.remote
    }
}

/// Runs the subcommand.
pub fn run(args: &StatusArgs, ctx: &Ctx) -> Result<Exit> {
    let store = Store::open(ctx.settings.state_place()?)?;
    let ledger = store.ledger()?;
    if args.cost {
        // A later command records the costs that cannot be recorded now. The status does not need them.
        if !store.is_read_only()
            && let Err(error) = record_killed(Workspace { ctx, store: &store, ledger: &ledger })
        {
            ctx.ui.warn(&error.to_string());
        }
        let by_tag = args.by.as_deref() == Some("tag");
        let view = SpendingView { since: args.since.as_deref(), by_tag, csv: args.csv };
        return spending::show(view, &ledger, ctx);
    }
    if args.format == "prom" && ctx.json {
        return Err(Error::usage("--json and --format prom are two forms of one output").hint("leave one out"));
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

/// Shows the status once. Returns `true` if a job is still active.
fn show(args: &StatusArgs, store: &Store, ledger: &Ledger, ctx: &Ctx) -> Result<(Exit, bool)> {
    let NamedJobs { jobs, foreign } = NamedJobs::of(args, store, ledger)?;
    let mut seen = status::inspect(jobs, store)?;
    let here = service::identity(ctx);
    let mine = |seen: &JobStatus| seen.is_live() && service_of(seen) == here;
    let ask = !args.offline && !store.is_read_only() && (args.remote || !foreign.is_empty() || seen.iter().any(mine));
    let mut trouble = None;
    let mut listed: Option<Vec<Batch>> = None;
    if ask {
        // Without a key or a network, llbatch still shows its own records.
        match connect(ctx) {
            Ok(service) => {
                trouble = status::refresh(&mut seen, store, ledger, service.remote()).err();
                if args.remote || !foreign.is_empty() {
                    let list = status::list(service.remote())?;
                    if !list.complete {
                        let read = text::batches(list.entries.len());
                        ctx.ui.warn(&format!("the service's list is not complete: {read} could be read"));
                    }
                    listed = Some(list.entries);
                }
            }
            Err(error) if seen.is_empty() => return Err(error),
            Err(error) => trouble = Some(error),
        }
    }
    if let Some(listed) = &mut listed
        && !args.remote
    {
        if let Some(missing) = foreign.into_iter().find(|named| !listed.iter().any(|batch| batch.id == named.id)) {
            return Err(missing.error);
        }
        listed.retain(|batch| args.jobs.contains(&batch.id));
    }
    let remote = listed.map(|listed| remote_lines(listed, store, ledger)).transpose()?;
    let live = seen.iter().any(|seen| matches!(seen.job.state, JobState::Running | JobState::Preparing));
    if args.format == "prom" {
        print_text(&metrics::of_jobs(&seen, store, ctx)?, ctx)?;
    } else if ctx.json {
        print_json(&StatusDocument { version: 1, jobs: seen.iter().map(entry).collect(), remote }, ctx)?;
    } else {
        print(args, &seen, remote.as_deref(), ctx)?;
    }
    for error in seen.iter().filter_map(|seen| seen.lost.as_ref()) {
        ctx.ui.warn(&error.to_string());
        if let Some(hint) = &error.hint {
            ctx.ui.hint(hint);
        }
    }
    let lost = !args.jobs.is_empty() && seen.iter().any(|seen| seen.lost.is_some());
    let exit = match trouble {
        Some(error) => {
            ctx.ui.warn(&format!("shown as last known, because the service did not answer: {error}"));
            if let Some(hint) = &error.hint {
                ctx.ui.hint(hint);
            }
            error.exit
        }
        None if lost => Exit::Io,
        None => Exit::Ok,
    };
    Ok((exit, live))
}

/// The jobs and batches that a command line names.
struct NamedJobs {
    jobs: Vec<Job>,
    /// Names that can only be batches of the service.
    foreign: Vec<ForeignBatch>,
}

/// A batch that belongs to no local job, if the service has it.
struct ForeignBatch {
    id: String,
    /// The error if the service does not have it.
    error: Error,
}

impl NamedJobs {
    fn of(args: &StatusArgs, store: &Store, ledger: &Ledger) -> Result<Self> {
        let mut named = Self { jobs: Vec::new(), foreign: Vec::new() };
        if args.jobs.is_empty() {
            named.jobs = ledger.recent(args.limit)?;
        }
        for name in &args.jobs {
            match find_local(name, store, ledger) {
                // A job may be named by its id, its name and `last` at once.
                Ok(job) if named.jobs.iter().any(|seen| seen.id == job.id) => {}
                Ok(job) => named.jobs.push(job),
                Err(error) if error.exit == Exit::Usage && looks_remote(name) && !args.offline => {
                    named.foreign.push(ForeignBatch { id: name.clone(), error });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(named)
    }
}

/// Builds the document of these jobs from the local records.
pub(super) fn document(names: &[&str], ctx: &Ctx) -> Result<StatusDocument> {
    let store = Store::open(ctx.settings.state_place()?)?;
    let ledger = store.ledger()?;
    let jobs = names.iter().map(|name| ledger.find(name)).collect::<Result<Vec<_>>>()?;
    let seen = status::inspect(jobs, &store)?;
    Ok(StatusDocument { version: 1, jobs: seen.iter().map(entry).collect(), remote: None })
}

/// Prints these jobs as one document, or in one line each.
pub(super) fn print_jobs(ids: &[&str], ctx: &Ctx) -> Result<()> {
    if ctx.json {
        return print_json(&document(ids, ctx)?, ctx);
    }
    let store = Store::open(ctx.settings.state_place()?)?;
    let ledger = store.ledger()?;
    for id in ids {
        let job = ledger.find(id)?;
        let cancelled = if job.failed > 0 { store.open_job(&job.id)?.failed_with(ErrorCode::Cancelled)? } else { 0 };
        ctx.ui.note(&line(&job, cancelled));
    }
    Ok(())
}

/// Describes a job in one line of text. Of its failed rows, the user has `cancelled` some.
fn line(job: &Job, cancelled: u64) -> String {
    let others = [
        (job.failed.saturating_sub(cancelled), "failed"),
        (cancelled, "cancelled"),
        (job.total.saturating_sub(job.succeeded + job.failed), "pending"),
    ];
    let others: Vec<String> =
        others.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {} {what}", text::count(*n))).collect();
    format!(
        "{} {}: {} of {} answered{}",
        job.id,
        job.state.as_str(),
        text::count(job.succeeded),
        text::plural(job.total, "row"),
        others.concat()
    )
}

fn print(args: &StatusArgs, seen: &[JobStatus], remote: Option<&[RemoteLine]>, ctx: &Ctx) -> Result<()> {
    if seen.is_empty() && remote.is_none() {
        ctx.ui.note("no jobs yet");
        ctx.ui.hint(
            "start one with `llbatch run FILE -o RESULTS` or `llbatch submit FILE`; add --sandbox to try it without a \
             key",
        );
        return Ok(());
    }
    if !seen.is_empty() {
        print_table(&jobs_table(seen), ctx)?;
        if seen.iter().any(|seen| seen.job.is_of_sandbox() && (seen.job.cost.is_some() || seen.job.estimate.is_some()))
        {
            ctx.ui.note("costs in parentheses are sandbox runs; nothing was charged");
        }
    }
    if !args.jobs.is_empty() && seen.iter().any(|seen| !seen.batches.is_empty()) {
        print_text("\n", ctx)?;
        print_table(&batches_table(seen), ctx)?;
        print_text(&(errors(seen) + &ends_by(seen)), ctx)?;
    }
    if let Some(remote) = remote {
        if remote.is_empty() {
            ctx.ui.note("the service lists no batches");
        } else {
            print_text(if seen.is_empty() { "" } else { "\n" }, ctx)?;
            print_table(&remote_table(remote), ctx)?;
        }
    }
    hint(seen, args.offline, ctx);
    Ok(())
}

fn hint(seen: &[JobStatus], offline: bool, ctx: &Ctx) {
    let elsewhere = |seen: &&JobStatus| seen.is_live() && service_of(seen) != service::identity(ctx);
    if let Some(seen) = seen.iter().find(elsewhere).filter(|_| !offline) {
        let how = match (seen.job.service_name(), seen.job.service().as_deref()) {
            (Some(name), _) => format!("pass --service {name}"),
            (None, Some("sandbox")) => "add --sandbox".to_owned(),
            (None, Some(url)) if !ctx.settings.sandbox => format!("pass --base-url {url}"),
            _ => "leave --sandbox out".to_owned(),
        };
        ctx.ui.hint(&format!("{} belongs to another service, so llbatch did not ask about it: {how}", seen.job.id));
    }
    for JobStatus { job, batches, busy, .. } in seen.iter().filter(|seen| seen.lost.is_none()) {
        let command = JobCommand::Status { delivered: job.delivered };
        let facts = JobFacts::seen(job, RowFacts::counted(job), batches, *busy);
        let Some(steps) = Verdict::of(&JobFacts { command, ..facts }).steps else { continue };
        let flags = job.service().map_or_else(String::new, |url| ctx.flags(&url, job.service_name().as_deref()));
        let text = steps.text(&job.id, &flags);
        match cancelling_since(batches) {
            Some(at) => ctx.ui.hint(&format!("{} is being cancelled since {}: {text}", job.id, since(at))),
            None => ctx.ui.hint(&text),
        }
        // One hint is enough for all jobs.
        return;
    }
}

fn service_of(seen: &JobStatus) -> Option<String> {
    seen.job.service_identity()
}
