//! The figures of a job, read from its database.

use std::time::Duration;

use super::folded::Folded;
use crate::error::Result;
use crate::input::Inputs;
use crate::money::{Outstanding, RetiredCost, charge};
use crate::outcome::Usage;
use crate::price::{Nanos, PriceBook, PriceTable};
use crate::request::RequestBuilder;
use crate::store::{Job, JobBatch, JobDb, Transport};
use crate::summary::Totals;

/// Outcomes read at a time. Their bodies are in memory together.
const PAGE: u32 = 64;

/// Adds the outcomes of a job to its `totals`, which are empty so far, the money spent on outcomes that were replaced, and the requests whose
/// outcome is still outstanding. `input` opens the input again, and is called only if a row was sent without an outcome.
pub fn of_job(
    db: &JobDb,
    prices: PriceTable,
    totals: Totals,
    input: impl FnOnce() -> Result<(Inputs, RequestBuilder)>,
) -> Result<Folded> {
    let mut prices = PriceBook::new(prices);
    prices.keep(db.kept_prices());
    let rows = totals.rows();
    let mut folded = Folded::new(totals);
    folded.totals.name_urls(db.kept_urls());
    for retired in db.retired()? {
        RetiredCost::of(&retired, &mut prices).add_to(&mut folded.totals);
    }
    folded.details.add_retired(db, &mut prices)?;
    for open in Outstanding::of_job(db, rows, &mut prices, input)? {
        folded.totals.add_outstanding(open.rows, open.upper_bound, open.transport == Transport::Batch);
        folded.details.add_spent(&open.model, Usage::default(), Some(Nanos::ZERO), open.upper_bound);
    }
    let mut next = 0;
    loop {
        let page = db.outcomes(next, PAGE)?;
        let Some(last) = page.last() else { return Ok(folded) };
        next = last.row + 1;
        for outcome in &page {
            folded.add(outcome, &charge(outcome, &mut prices));
        }
    }
}

/// Returns the time that a job took, for tokens per second. `None`: unknown, or the job used both transports.
pub fn time_of(job: &Job, batches: &[JobBatch]) -> Option<Duration> {
    match (batches.is_empty(), job.active_ms) {
        (true, active) => Some(Duration::from_millis(active)),
        (false, 0) => batch_time(batches),
        (false, _) => None,
    }
}

/// Returns the time from the creation of the first batch to the end of the last one, or until now while one works. `None`:
/// there is none, or a batch does not say when it ended.
pub fn batch_time(batches: &[JobBatch]) -> Option<Duration> {
    let time = |text: &Option<String>| text.as_deref()?.parse::<jiff::Timestamp>().ok();
    let begin = batches.iter().filter_map(|batch| time(&batch.remote.created_at)).min()?;
    let end =
        |batch: &JobBatch| if batch.ended { time(&batch.remote.completed_at) } else { Some(jiff::Timestamp::now()) };
    let ends: Option<Vec<_>> = batches.iter().map(end).collect();
    Duration::try_from(ends?.into_iter().max()?.duration_since(begin)).ok()
}
