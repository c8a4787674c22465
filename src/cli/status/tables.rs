//! The tables of `status`.

use std::time::Duration;

use super::document::{RemoteLine, word};
use crate::batch_status::BatchStatus;
use crate::job::batch::status::JobStatus;
use crate::price::Nanos;
use crate::store::{BatchStep, Job, JobBatch};
use crate::text::{self, Align, Grid};

pub(super) fn jobs_table(seen: &[JobStatus]) -> Grid {
    let mut table = Grid::new([
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
    for JobStatus { job, batches, cancelled, shard, .. } in seen {
        let shard = shard.map_or_else(String::new, |shard| format!("{shard} of "));
        let name = job.name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        table.row([
            job.id.clone(),
            job.state.as_str().to_owned(),
            format!("{:.0}%", done(job, batches)),
            text::count(job.total),
            taken(job, batches, job.succeeded),
            failed(job, batches, *cancelled),
            cost(job, batches),
            age(job),
            format!("{name}{shard}{}", job.input),
        ]);
    }
    table
}

/// Shows rows by fate. It is unknown for an ended job whose results the service still has.
fn taken(job: &Job, batches: &[JobBatch], rows: u64) -> String {
    let unknown = job.state.ended() && batches.iter().any(JobBatch::is_open);
    if unknown && rows == 0 { "–".to_owned() } else { text::count(rows) }
}

/// Shows failed rows. Cancelled rows are called cancelled.
fn failed(job: &Job, batches: &[JobBatch], cancelled: u64) -> String {
    match (job.failed.saturating_sub(cancelled), cancelled) {
        (_, 0) => taken(job, batches, job.failed),
        (0, _) => format!("{} cancelled", text::count(cancelled)),
        (failed, _) => format!("{} and {} cancelled", text::count(failed), text::count(cancelled)),
    }
}

/// Returns the percentage of ended rows, as far as the service reports it.
fn done(job: &Job, batches: &[JobBatch]) -> f64 {
    if job.total == 0 {
        return 0.0;
    }
    let open: f64 = batches
        .iter()
        .filter(|batch| batch.is_open())
        .map(|batch| batch.rows as f64 * if batch.ended { 1.0 } else { batch.remote.progress.unwrap_or(0.0) / 100.0 })
        .sum();
    // Caps at 99, so that an unfinished job never shows 100.
    let percent = ((job.succeeded + job.failed) as f64 + open) / job.total as f64 * 100.0;
    if percent < 100.0 { percent.min(99.0) } else { 100.0 }
}

/// The most that the service may have billed for batches that ended without any result; `None`: nothing.
fn lost(job: &Job, batches: &[JobBatch]) -> Option<Nanos> {
    let without_result = |batch: &&JobBatch| {
        let empty = batch.collected.answers_hash.is_none() && batch.collected.failures_hash.is_none();
        // An earlier llbatch recorded no hashes, so the rows must have failed.
        let missing = match &batch.remote.status {
            Some(BatchStatus::Abandoned) => true,
            Some(BatchStatus::Completed) => job.failed >= batch.rows,
            _ => false,
        };
        batch.step == BatchStep::Settled && empty && missing
    };
    let most: Nanos = batches.iter().filter(without_result).filter_map(|batch| batch.cost.upper_bound).sum();
    (most > Nanos::ZERO).then_some(most)
}

/// The job's cost, or its estimate.
fn cost(job: &Job, batches: &[JobBatch]) -> String {
    let cost = match (job.cost, job.estimate) {
        // The cost so far, of rows sent in real time, is less than the final cost.
        (Some(usd), Some(estimate)) if !job.state.ended() => format!("~{}", usd.max(estimate).human()),
        (Some(usd), _) => usd.human(),
        (None, Some(estimate)) => format!("~{}", estimate.human()),
        (None, None) => return "?".to_owned(),
    };
    let cost = match lost(job, batches) {
        Some(most) => format!("{cost}, up to {} more", most.human()),
        None => cost,
    };
    // A sandbox run costs nothing.
    if job.is_of_sandbox() { format!("({cost})") } else { cost }
}

pub(super) fn batches_table(seen: &[JobStatus]) -> Grid {
    let mut table = Grid::new([
        ("BATCH", Align::Whole),
        ("STATUS", Align::Whole),
        ("DONE", Align::Right),
        ("ROWS", Align::Right),
        ("MODEL", Align::Left),
    ]);
    for JobStatus { batches, .. } in seen {
        for batch in batches {
            table.row([
                batch.remote.id.clone().unwrap_or_else(|| format!("({})", batch.number)),
                word(batch),
                batch.remote.progress.map_or_else(String::new, |progress| format!("{progress:.0}%")),
                text::count(batch.rows),
                short(&batch.model).to_owned(),
            ]);
        }
    }
    table
}

pub(super) fn remote_table(remote: &[RemoteLine]) -> Grid {
    let mut table = Grid::new([
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

/// Lists all errors that the service reports, in full.
pub(super) fn errors(seen: &[JobStatus]) -> String {
    let line = |batch: &JobBatch| {
        let id = batch.remote.id.clone().unwrap_or_else(|| format!("({})", batch.number));
        batch.remote.error.as_ref().map(|error| format!("{id}: {}\n", text::one_line(error)))
    };
    seen.iter().flat_map(|seen| &seen.batches).filter_map(line).collect()
}

/// Returns the latest expiry of the batches. RFC 3339 in UTC sorts as text.
pub(super) fn ends_by(seen: &[JobStatus]) -> String {
    let open = seen.iter().flat_map(|seen| &seen.batches).filter(|batch| !batch.ended);
    let last = open.filter_map(|batch| batch.remote.deadline.as_deref()).max();
    last.map_or_else(String::new, |time| format!("the last batch ends or expires by {}\n", clock(time)))
}

/// Returns a model's name without its maker.
fn short(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

/// Formats a time in the local time zone.
fn clock(rfc3339: &str) -> String {
    let Ok(time) = rfc3339.parse::<jiff::Timestamp>() else { return rfc3339.to_owned() };
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%m-%d %H:%M").to_string()
}

fn age(job: &Job) -> String {
    let now = jiff::Timestamp::now().as_millisecond();
    text::duration(Duration::from_millis(u64::try_from(now - job.created_at).unwrap_or(0)))
}
