//! What may still be spent: `--max-cost`, and the config file's budgets per day and month over all jobs.

use super::exposure::{Flying, Own};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::price::{Nanos, Spelling};
use crate::store::{Job, Ledger, Reserve, Spent, Store};
use crate::summary::Totals;
use crate::text;

/// What is left of a budget, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// May still be spent.
    pub amount: Nanos,
    /// Other processes that live hold so much, of which a part may come back soon.
    pub returning: Nanos,
    /// For people: `--max-cost $5.00`, or the budget with what is gone of it.
    pub what: String,
}

/// What is left of the tightest budget of the config file; `None`: there is none. Ask within [`Ledger::decide`].
pub fn left(store: &Store, ledger: &Ledger, ctx: &Ctx, own: Own<'_>) -> Result<Option<Left>> {
    let (settings, per) = (&ctx.settings, &ctx.settings.budget);
    if !per.is_set() {
        return Ok(None);
    }
    let flying = Flying { store, ledger, ctx, own };
    let (reserves, in_batches) = (flying.reserves()?, flying.in_batches()?);
    let returning = reserves.iter().filter(|(_, returns)| *returns).map(|(reserve, _)| reserve.amount).sum();
    let mut all: Vec<Left> = Vec::new();
    let now = jiff::Zoned::now();
    let month = now.with().day(1).build().map_or_else(|_| now.date(), |day| day.date());
    let next = |then: std::result::Result<jiff::civil::Date, jiff::Error>| then.unwrap_or(now.date());
    let budgets = [
        ("today", per.per_day, now.date(), next(now.date().tomorrow()), "at midnight"),
        ("this month", per.per_month, month, next(month.checked_add(jiff::Span::new().months(1))), "on the first"),
    ];
    for (when, limit, since, until, then) in budgets {
        let Some(limit) = limit else { continue };
        let spent = spent_since(since, ledger, settings.sandbox)?;
        let day = since.to_string();
        let counts = |reserve: &Reserve| !reserve.standing.ended() || reserve.day >= day;
        let reserved: Nanos = reserves.iter().filter(|(r, _)| counts(r)).map(|(r, _)| r.amount).sum();
        let flying = in_batches + reserved;
        let amount = Nanos((limit.0 - spent.0 - flying.0).max(0));
        let spelling = Spelling::of([limit, spent, flying]);
        let left = until.to_zoned(now.time_zone().clone()).map(|at| at.duration_since(&now).unsigned_abs());
        let what = format!(
            "the config file's budget of {} for {when} ({} spent, up to {} in flight, of which a part may come back; free again {then}, in {})",
            spelling.show(limit),
            spelling.show(spent),
            spelling.show(flying),
            text::duration(left.unwrap_or_default())
        );
        all.push(Left { amount, returning, what });
    }
    Ok(all.into_iter().min_by_key(|left| left.amount.0))
}

/// What `--max-cost` leaves for something that has cost nothing so far.
pub fn limit(max_cost: Option<Nanos>) -> Option<Left> {
    max_cost.map(|limit| Left { amount: limit, returning: Nanos::ZERO, what: format!("--max-cost {}", limit.human()) })
}

fn spent_since(day: jiff::civil::Date, ledger: &Ledger, sandbox: bool) -> Result<Nanos> {
    let recorded: Nanos = ledger.spending(&day.to_string(), sandbox)?.iter().filter_map(|line| line.spent.paid).sum();
    let midnight = day.to_zoned(jiff::tz::TimeZone::system()).map_or(0, |at| at.timestamp().as_millisecond());
    Ok(recorded + ledger.unrecorded(midnight, sandbox)?)
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
pub fn unpriced_error(model: &str) -> Error {
    Error::usage(format!("the price of {model} is not known, so no budget can be kept; nothing was sent")).hint(format!(
        "`llbatch models --refresh` asks the service; or [models.\"{model}\"] input and output in the config file, or --allow-unpriced"
    ))
}

/// Writes down what a job has come to.
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
    ledger.record_spending((&job.id, job.is_rehearsal()), &jiff::Zoned::now().date().to_string(), &spent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_case_fits_or_nothing_is_sent() {
        let left = Left { amount: Nanos(100), returning: Nanos::ZERO, what: "--max-cost $5".into() };
        assert!(admit(Some(Nanos(100)), Some(&left), false, "m").is_ok());
        assert!(admit(Some(Nanos(101)), None, false, "m").is_ok());
        assert!(admit(None, None, false, "m").is_ok());
        assert!(admit(None, Some(&left), true, "m").is_ok());
        assert_eq!(admit(Some(Nanos(101)), Some(&left), true, "m").unwrap_err().exit, Exit::Budget);
        let error = admit(None, Some(&left), false, "org/m").unwrap_err();
        assert!(error.exit == Exit::Usage && error.message.contains("org/m"), "{error}");
    }
}
