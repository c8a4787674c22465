//! The remaining budget: `--max-cost`, or the config file's budgets per day and month, which all jobs share.

use std::time::Duration;

use jiff::civil::Date;

use super::exposure::{Exposure, Requester};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::price::{Nanos, PriceTable, Spelling};
use crate::store::{Ledger, ReservedMoney, Store};
use crate::text;

/// The money that a budget still allows to spend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remaining {
    /// The amount that may still be spent.
    pub amount: Nanos,
    /// The amount that other live processes have reserved. They may give back a part of it soon.
    pub returning: Nanos,
    /// The budget in words: `--max-cost $5.00`, or the config file's budget with what is spent of it.
    pub what: String,
    /// All limits that hold, the one in `what` among them.
    limits: Vec<Limit>,
}

/// A limit as the user sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    /// `--max-cost `, or the key in the config file.
    name: &'static str,
    value: Nanos,
    /// Below zero if more was spent.
    left: Nanos,
    /// The shards of which each has this part of the limit.
    shards: u64,
}

impl Remaining {
    /// The whole of `--max-cost`, for work that has cost nothing so far. `limit`: the part of one of so many `shards`.
    pub fn of_max_cost(limit: Nanos, shards: u64) -> Self {
        let of = if shards > 1 { format!(" for each of {shards} shards") } else { String::new() };
        Self {
            amount: limit,
            returning: Nanos::ZERO,
            what: format!("--max-cost {}{of}", limit.human()),
            limits: vec![Limit { name: "--max-cost ", value: limit, left: limit, shards }],
        }
    }

    /// The same with `more` left: money that counts as in flight, and belongs to the work that asks.
    pub fn with(mut self, more: Nanos) -> Self {
        self.amount += more;
        self.limits.iter_mut().for_each(|limit| limit.left += more);
        self
    }

    /// Names the limits that would do for work that may cost up to `upper_bound`: `--max-cost 0.21 would do`.
    /// `None`: those that are set do.
    pub fn enough_for(&self, upper_bound: Nanos) -> Option<String> {
        let short = self.limits.iter().filter(|limit| limit.left < upper_bound);
        let named = short.map(|limit| {
            let whole = Nanos((limit.value + upper_bound - limit.left).0.saturating_mul(limit.shards.into()));
            format!("{}{}", limit.name, whole.typed())
        });
        let named: Vec<String> = named.collect();
        (!named.is_empty()).then(|| format!("{} would do", named.join(" and ")))
    }

    /// The rest of the tightest budget in the config file. `None`: the file sets no budget. Call it within
    /// [`Ledger::decide`].
    pub fn of_budgets(store: &Store, ledger: &Ledger, ctx: &Ctx, requester: Requester<'_>) -> Result<Option<Self>> {
        let settings = &ctx.settings;
        if !settings.budget.is_set() {
            return Ok(None);
        }
        let exposure = Exposure { store, ledger, ctx, requester };
        let (reservations, in_batches) = (exposure.reservations()?, exposure.in_batches()?);
        let returning = reservations.iter().filter(|money| money.returns).map(|money| money.reserved.amount).sum();
        let now = jiff::Zoned::now();
        let mut tightest: Option<Self> = None;
        let mut limits = Vec::new();
        for period in [Period::today(&now), Period::this_month(&now)] {
            let limit = if period.is_day { settings.budget.per_day } else { settings.budget.per_month };
            let Some(limit) = limit else { continue };
            let spent = spent_since(period.since, ledger, settings.sandbox)?;
            let reserved: Nanos = reservations
                .iter()
                .filter(|money| period.counts(&money.reserved))
                .map(|money| money.reserved.amount)
                .sum();
            let in_flight = in_batches + reserved;
            let left = limit - spent - in_flight;
            let name = if period.is_day { "[budget] per_day = " } else { "[budget] per_month = " };
            limits.push(Limit { name, value: limit, left, shards: 1 });
            let amount = left.max(Nanos::ZERO);
            if tightest.as_ref().is_none_or(|other| amount < other.amount) {
                let what = period.describe(limit, spent, in_flight);
                tightest = Some(Self { amount, returning, what, limits: Vec::new() });
            }
        }
        Ok(tightest.map(|tightest| Self { limits, ..tightest }))
    }
}

/// The day or the month that a budget is for.
struct Period {
    is_day: bool,
    since: Date,
    /// Time until the budget is whole again.
    left: Duration,
}

impl Period {
    fn today(now: &jiff::Zoned) -> Self {
        let since = now.date();
        Self { is_day: true, since, left: Self::until(since.tomorrow(), now) }
    }

    fn this_month(now: &jiff::Zoned) -> Self {
        let since = now.with().day(1).build().map_or_else(|_| now.date(), |day| day.date());
        let next = since.checked_add(jiff::Span::new().months(1));
        Self { is_day: false, since, left: Self::until(next, now) }
    }

    fn until(next: std::result::Result<Date, jiff::Error>, now: &jiff::Zoned) -> Duration {
        let end = next.unwrap_or(now.date()).to_zoned(now.time_zone().clone());
        end.map(|end| end.duration_since(now).unsigned_abs()).unwrap_or_default()
    }

    /// Returns whether `reserved` counts in this period: the process lives, or ended within it.
    fn counts(&self, reserved: &ReservedMoney) -> bool {
        !reserved.state.has_ended() || reserved.day >= self.since.to_string()
    }

    fn describe(&self, limit: Nanos, spent: Nanos, in_flight: Nanos) -> String {
        let (when, then) = if self.is_day { ("today", "at midnight") } else { ("this month", "on the first") };
        let spelling = Spelling::of([limit, spent, in_flight]);
        format!(
            "the config file's budget of {} for {when} ({} spent, up to {} reserved for requests in flight; renewed \
             {then}, in {})",
            spelling.show(limit),
            spelling.show(spent),
            spelling.show(in_flight),
            text::duration(self.left)
        )
    }
}

fn spent_since(day: Date, ledger: &Ledger, sandbox: bool) -> Result<Nanos> {
    let recorded: Nanos = ledger.spending(&day.to_string(), sandbox)?.iter().filter_map(|line| line.spent.paid).sum();
    let midnight = day.to_zoned(jiff::tz::TimeZone::system()).map_or(0, |at| at.timestamp().as_millisecond());
    Ok(recorded + ledger.unrecorded(midnight, sandbox)?)
}

/// Work that a budget admits or refuses.
#[derive(Debug, Clone, Copy)]
pub struct BudgetedWork<'a> {
    /// The most that it can cost; `None`: unknown.
    pub upper_bound: Option<Nanos>,
    /// The most that the same command may spend on other work later.
    pub later: Nanos,
    /// The user has allowed an unknown cost.
    pub allow_unpriced: bool,
    /// A model without a known price, if there is one.
    pub unpriced: &'a str,
    /// The prices.
    pub prices: &'a PriceTable,
}

/// Refuses work that could cost more than the remaining budget.
///
/// # Errors
/// 5 if its maximum exceeds the budget, 2 if it is unknown and the user has not allowed that.
pub fn admit(work: BudgetedWork<'_>, remaining: Option<&Remaining>) -> Result<()> {
    let Some(remaining) = remaining else { return Ok(()) };
    match work.upper_bound {
        None if work.allow_unpriced => Ok(()),
        None => Err(unpriced_error(work.unpriced, work.prices)),
        Some(upper_bound) if upper_bound <= remaining.amount => Ok(()),
        Some(upper_bound) => Err(Error::new(
            Exit::Budget,
            format!(
                "this may cost up to {}, but only {} is left of {}; nothing was sent",
                upper_bound.human(),
                remaining.amount.human(),
                remaining.what
            ),
        )
        .hint(format!(
            "{}; answers with a lower max_tokens need less",
            remaining.enough_for(upper_bound + work.later).unwrap_or_default()
        ))),
    }
}

/// The error for a budget and a model without a known price.
pub fn unpriced_error(model: &str, prices: &PriceTable) -> Error {
    Error::usage(format!("the price of {model} is unknown, so llbatch cannot keep a budget; nothing was sent"))
        .hint(format!("{}, or pass --allow-unpriced; `llbatch help money` explains budgets", prices.remedy(model)))
}

/// The error for a budget and a request with a part whose tokens have no known bound.
pub fn unbounded_error(id: &str, kind: &str) -> Error {
    Error::usage(format!(
        "row `{id}` has a part of type `{kind}`, whose tokens have no known bound, so llbatch cannot keep a budget; \
         nothing was sent"
    ))
    .hint("leave such parts out, or pass --allow-unpriced to send them without a bound")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_case_fits_or_nothing_is_sent() {
        let left = Remaining::of_max_cost(Nanos(100), 1);
        let prices = PriceTable::builtin();
        let work = |upper_bound: Option<i128>, allow_unpriced| BudgetedWork {
            upper_bound: upper_bound.map(Nanos),
            later: Nanos(7),
            allow_unpriced,
            unpriced: "org/m",
            prices: &prices,
        };
        assert!(admit(work(Some(100), false), Some(&left)).is_ok());
        assert!(admit(work(Some(101), false), None).is_ok());
        assert!(admit(work(None, false), None).is_ok());
        assert!(admit(work(None, true), Some(&left)).is_ok());
        let error = admit(work(Some(101), true), Some(&left)).unwrap_err();
        assert_eq!(error.exit, Exit::Budget);
        assert!(error.hint.unwrap().starts_with("--max-cost 0.00000011 would do"), "108 nano-USD, rounded up");
        let error = admit(work(None, false), Some(&left)).unwrap_err();
        assert!(error.exit == Exit::Usage && error.message.contains("org/m"), "{error}");
    }

    #[test]
    fn every_limit_that_is_too_low_is_named() {
        let limit = |name, value, left| Limit { name, value: Nanos(value), left: Nanos(left), shards: 1 };
        let limits = vec![limit("[budget] per_day = ", 50, -3), limit("[budget] per_month = ", 900, 60)];
        let left = Remaining { amount: Nanos::ZERO, returning: Nanos::ZERO, what: String::new(), limits };
        let named = |upper_bound| left.enough_for(Nanos(upper_bound));
        assert_eq!(named(7).unwrap(), "[budget] per_day = 0.00000006 would do");
        let both = "[budget] per_day = 0.00000013 and [budget] per_month = 0.00000091 would do";
        assert_eq!(named(70).unwrap(), both, "910 for the month");
        let left = left.with(Nanos(75));
        assert_eq!(left.enough_for(Nanos(70)), None);
    }
}
