//! What may still be spent: `--max-cost`, and the config file's budgets per day and month over all jobs.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::submit::peek;
use super::job::spec_of;
use super::{Bits, money};
use crate::error::{Error, Exit, Result};
use crate::outcome::Usage;
use crate::price::{Nanos, Price, Spelling, Table};
use crate::settings::Settings;
use crate::store::{BatchJob, Job, JobDb, Ledger, Reserve, Spent, Step, Store, Transport};
use crate::summary::Totals;
use crate::ui::format;

/// The most that requests can cost.
#[derive(Debug)]
pub struct Worst {
    table: Table,
    known: HashMap<Arc<str>, Option<(Price, u64)>>,
    batch: bool,
}

impl Worst {
    /// At realtime, or in a `batch`.
    #[must_use]
    pub fn new(table: Table, batch: bool) -> Self {
        Self { table, known: HashMap::new(), batch }
    }

    /// The most that a request can cost, given the bounds that it sets itself (0: none); `None`: no price is known.
    pub fn of(&mut self, model: &Arc<str>, most: Usage) -> Option<Nanos> {
        let (table, batch) = (&self.table, self.batch);
        let known = *self.known.entry(Arc::clone(model)).or_insert_with(|| {
            let entry = table.get(model)?;
            let price = if batch { entry.batch_price().or(entry.price) } else { entry.price };
            Some((price?, entry.longest_answer()))
        });
        known.map(|(price, longest)| {
            let completion = if most.completion == 0 { longest } else { most.completion };
            price.cost(Usage { completion, ..most })
        })
    }
}

/// What is left of a budget, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// May still be spent.
    pub amount: Nanos,
    /// For people: `--max-cost $5.00`, or the budget with what is gone of it.
    pub what: String,
}

/// Whose question it is: what a process has reserved itself is not against it, and who else held its job's lock is gone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own<'a> {
    /// The job that this process works on.
    pub job: &'a str,
    /// What it has reserved.
    pub reserve: Option<i64>,
}

/// What is left of the tightest budget of the config file; `None`: there is none. Ask within [`Ledger::decide`].
///
/// # Errors
/// 74 if the ledger cannot be read.
pub fn left(store: &Store, ledger: &Ledger, settings: &Settings, own: Own<'_>) -> Result<Option<Left>> {
    let mut all: Vec<Left> = Vec::new();
    let now = jiff::Zoned::now();
    let month = now.with().day(1).build().map_or_else(|_| now.date(), |day| day.date());
    let per = &settings.budget;
    let next = |then: std::result::Result<jiff::civil::Date, jiff::Error>| then.unwrap_or(now.date());
    let budgets = [
        ("today", per.per_day, now.date(), next(now.date().tomorrow()), "at midnight"),
        ("this month", per.per_month, month, next(month.checked_add(jiff::Span::new().months(1))), "on the first"),
    ];
    for (when, limit, since, until, then) in budgets {
        let Some(limit) = limit else { continue };
        let spent = spent_since(since, ledger, settings.sandbox)?;
        let flying =
            in_flight(store, ledger, settings.sandbox)? + reserved(&since.to_string(), store, ledger, settings, own)?;
        let amount = Nanos((limit.0 - spent.0 - flying.0).max(0));
        let spelling = Spelling::of([limit, spent, flying]);
        let left = until.to_zoned(now.time_zone().clone()).map(|at| at.duration_since(&now).unsigned_abs());
        let what = format!(
            "the config file's budget of {} for {when} ({} spent, up to {} in flight, of which a part may come back; free again {then}, in {})",
            spelling.show(limit),
            spelling.show(spent),
            spelling.show(flying),
            format::about(left.unwrap_or_default())
        );
        all.push(Left { amount, what });
    }
    Ok(all.into_iter().min_by_key(|left| left.amount.0))
}

/// What `--max-cost` leaves for something that has cost nothing so far.
#[must_use]
pub fn limit(max_cost: Option<Nanos>) -> Option<Left> {
    max_cost.map(|limit| Left { amount: limit, what: format!("--max-cost {}", limit.human()) })
}

fn spent_since(day: jiff::civil::Date, ledger: &Ledger, sandbox: bool) -> Result<Nanos> {
    let recorded: Nanos = ledger.spending(&day.to_string(), sandbox)?.iter().filter_map(|line| line.spent.paid).sum();
    let midnight = day.to_zoned(jiff::tz::TimeZone::system()).map_or(0, |at| at.timestamp().as_millisecond());
    Ok(recorded + ledger.unrecorded(midnight, sandbox)?)
}

/// What processes may still spend, and what those that are gone may have spent since that day.
fn reserved(since: &str, store: &Store, ledger: &Ledger, settings: &Settings, own: Own<'_>) -> Result<Nanos> {
    let mut sum = Nanos::ZERO;
    for mut reserve in ledger.reserves(settings.sandbox)? {
        let lives = Some(reserve.id) == own.reserve || (reserve.job != own.job && store.in_use(&reserve.job));
        if !reserve.ended && !lives {
            reserve.amount = unknown(&reserve, store, ledger, settings)?;
            reserve.ended = true;
            ledger.set_reserve(reserve.id, reserve.amount, true)?;
        }
        if !reserve.ended || *reserve.day >= *since {
            sum += reserve.amount;
        }
    }
    Ok(sum)
}

/// What a process that was killed may have spent at most without its job having told.
fn unknown(reserve: &Reserve, store: &Store, ledger: &Ledger, settings: &Settings) -> Result<Nanos> {
    let path = store.job_path(&reserve.job);
    let Some(job) = ledger.get(&reserve.job)?.filter(|_| path.exists()) else { return Ok(Nanos::ZERO) };
    let db = JobDb::open(&path)?;
    let paid = money::fold(&db, settings.prices.clone(), job.total, &Bits::default())?.usd();
    let untold = paid.unwrap_or(Nanos::ZERO) - job.cost.unwrap_or(Nanos::ZERO);
    let flying = db.unanswered(usize::MAX)?.len() as i128;
    let mut worst = Worst::new(settings.prices.clone(), false);
    let largest = db.largest()?.into_iter().filter_map(|(model, most)| worst.of(&model.into(), most)).max();
    // Without an answer so far nobody knows how large its requests are.
    let Some(largest) = largest.or((flying == 0).then_some(Nanos::ZERO)) else { return Ok(reserve.amount) };
    Ok(Nanos((untold.0.max(0) + largest.0 * flying).min(reserve.amount.0)))
}

/// The most that batches which have not been settled can cost.
fn in_flight(store: &Store, ledger: &Ledger, sandbox: bool) -> Result<Nanos> {
    let mut sum = Nanos::ZERO;
    for job in ledger.recent(u32::MAX)? {
        // A job of batches that has been delivered is settled; a realtime job may have been retried in batches.
        let settled = job.state.ended() && (job.delivered || job.transport == Transport::Realtime);
        // A rehearsal costs nothing, and what is real is none.
        let other = spec_of(&job).is_ok_and(|spec| (spec.service == "sandbox") != sandbox);
        if settled || other || !store.job_path(&job.id).exists() {
            continue;
        }
        let batches = peek(store, &job)?.batches()?;
        // What was not sent is sent only if the budgets let it, by a process that lives.
        let unsent = |batch: &BatchJob| matches!(batch.step, Step::Planned | Step::Uploaded);
        let lives = batches.iter().any(|batch| unsent(batch) && batch.admitted) && store.in_use(&job.id);
        let counts = |batch: &BatchJob| batch.is_open() && (!unsent(batch) || (batch.admitted && lives));
        sum += batches.into_iter().filter(counts).filter_map(|batch| batch.most).sum();
    }
    Ok(sum)
}

/// Refuses what could pass the tightest budget.
///
/// # Errors
/// 5 if `most` is more than what is left, 2 if it is not known (`None`) and that is not `allowed`.
pub fn admit(most: Option<Nanos>, left: Option<&Left>, allowed: bool, unpriced: &str) -> Result<()> {
    let Some(left) = left else { return Ok(()) };
    let Some(most) = most else {
        if allowed {
            return Ok(());
        }
        return Err(unpriced_error(unpriced));
    };
    if most.0 <= left.amount.0 {
        return Ok(());
    }
    Err(Error::new(
        Exit::Budget,
        format!(
            "this may cost up to {}, and {} is left of {}; nothing was sent",
            most.human(),
            left.amount.human(),
            left.what
        ),
    )
    .hint("--max-tokens bounds the answers; `llbatch check` shows what a budget sets aside; or raise the limit"))
}

/// A budget cannot be kept for a model without a price.
#[must_use]
pub fn unpriced_error(model: &str) -> Error {
    Error::usage(format!("the price of {model} is not known, so no budget can be kept; nothing was sent")).hint(format!(
        "`llbatch models --refresh` asks the service; or [models.\"{model}\"] input and output in the config file, or --allow-unpriced"
    ))
}

/// Writes down what a job has come to.
///
/// # Errors
/// 74 if the disk refuses.
pub fn record(job: &Job, totals: &Totals, ledger: &Ledger) -> Result<()> {
    let spent: Vec<Spent> = totals
        .by_model()
        .map(|(model, rows, usage, paid)| Spent {
            model: model.to_owned(),
            rows,
            prompt: usage.prompt,
            completion: usage.completion,
            paid,
        })
        .collect();
    let sandbox = spec_of(job).is_ok_and(|spec| spec.service == "sandbox");
    ledger.record_spending((&job.id, sandbox), &jiff::Zoned::now().date().to_string(), &spent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_case_fits_or_nothing_is_sent() {
        let left = Left { amount: Nanos(100), what: "--max-cost $5".into() };
        assert!(admit(Some(Nanos(100)), Some(&left), false, "m").is_ok());
        assert!(admit(Some(Nanos(101)), None, false, "m").is_ok());
        assert!(admit(None, None, false, "m").is_ok());
        assert!(admit(None, Some(&left), true, "m").is_ok());
        assert_eq!(admit(Some(Nanos(101)), Some(&left), true, "m").expect_err("over").exit, Exit::Budget);
        let error = admit(None, Some(&left), false, "org/m").expect_err("unknown");
        assert!(error.exit == Exit::Usage && error.message.contains("org/m"), "{error}");
    }

    #[test]
    fn an_answer_without_a_bound_may_be_as_long_as_the_model_allows() {
        let model: Arc<str> = Arc::from("meta-llama/Llama-3.2-3B-Instruct-Turbo");
        let most =
            |batch, completion| Worst::new(Table::builtin(), batch).of(&model, Usage { prompt: 1000, completion });
        assert_eq!(most(false, 1000), Some(Nanos(120_000)));
        assert_eq!(most(true, 1000), Some(Nanos(60_000)));
        assert!(most(false, 0).expect("a price").0 > 1_000_000);
        assert_eq!(Worst::new(Table::builtin(), true).of(&"no/such".into(), Usage::default()), None);
    }
}
