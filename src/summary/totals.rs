//! The fold of a job's outcomes. It does not depend on their order, and is the same for both transports.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{CacheCharge, Charge, Histogram, HttpCounts, Sum};
use crate::completion::{Truncation, is_fenced};
use crate::outcome::{ErrorCode, Outcome, RowError, Usage};
use crate::pack::packed;
use crate::price::Nanos;

/// Everything that is counted about a job's outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Rows of the job.
    pub(super) rows: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    /// Rows that a stop of the run left: paid for or in flight, and still to be answered. They are not part of `failed`.
    interrupted: u64,
    /// Rows answered by an earlier run.
    pub(super) resumed: u64,
    /// Rows with the outcome of an equal request.
    pub(super) reused: u64,
    /// Answers that were cut off at their token limit.
    pub(super) truncated: u64,
    /// The part of `truncated` without any text.
    pub(super) truncated_empty: u64,
    /// Answers are JSON, so that those in a Markdown fence are counted.
    asks_json: bool,
    /// Answers that are JSON in a Markdown fence.
    pub(super) fenced: u64,
    /// Answers without a usage.
    pub(super) unmetered: u64,
    /// Attempts of unknown fate.
    pub(super) uncertain: u64,
    /// Rows in batches that have not been fetched.
    pub(super) in_batches: u64,
    pub(super) usage: Usage,
    pub(super) money: MoneyTotals,
    pub(super) models: BTreeMap<Arc<str>, ModelTotals>,
    pub(super) batch: TransportTotals,
    pub(super) realtime: TransportTotals,
    pub(super) errors: BTreeMap<ErrorCode, ErrorTotals>,
    pub(super) latency: Histogram,
    /// The base URLs of a service that has several, by number.
    pub(super) urls: BTreeMap<u32, UrlTotals>,
    /// Milliseconds to the first token of streamed answers.
    pub(super) first_token: Histogram,
    /// Speeds of answers, in tenths of a token per second.
    pub(super) speed: Histogram,
    pub(super) http: HttpCounts,
}

/// Money spent on outcomes that no longer stand for a row.
#[derive(Debug, Clone, Copy)]
pub struct DiscardedSpend<'a> {
    /// The model of the outcomes.
    pub model: &'a str,
    /// Tokens that were paid for and discarded.
    pub usage: Usage,
    /// The cost of these tokens.
    pub paid: Option<Nanos>,
    /// Their cost at the realtime price.
    pub list: Option<Nanos>,
    /// The maximum cost of the uncertain attempts.
    pub at_risk: Option<Nanos>,
    /// Attempts that may have been billed.
    pub uncertain: u32,
    /// The effect of cached tokens on `paid`.
    pub cache: CacheCharge,
    /// The outcomes came from a batch.
    pub batch: bool,
    /// The requests of these outcomes that were sent one by one.
    pub http: HttpCounts,
}

/// The share of one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TransportTotals {
    /// Rows whose outcome it brought.
    pub(super) rows: u64,
    pub(super) usd: Sum,
}

/// Sums of what outcomes cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct MoneyTotals {
    /// At the prices in force.
    pub(super) paid: Sum,
    /// At realtime prices, for the rows whose paid price is known.
    pub(super) list: Sum,
    pub(super) wasted: Sum,
    pub(super) at_risk: Sum,
    /// The part of `paid` that earlier runs paid.
    pub(super) resumed: Sum,
    /// The amount by which cached tokens made `paid` cheaper.
    pub(super) cache_saved: Sum,
    /// Cached tokens that `paid` counts at the full price.
    pub(super) cached_at_full: u64,
}

/// The share of one base URL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct UrlTotals {
    pub(super) url: String,
    /// Rows whose last attempt went there.
    pub(super) rows: u64,
    /// The part of them that failed.
    pub(super) failed: u64,
    pub(super) latency: Histogram,
}

/// One model's share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ModelTotals {
    pub(super) rows: u64,
    pub(super) usage: Usage,
    pub(super) usd: Sum,
    pub(super) unpriced: bool,
    /// Rows with an outcome from a batch.
    pub(super) batched: u64,
    /// Rows that were sent in real time.
    pub(super) realtime: u64,
}

/// The rows that failed with one code.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ErrorTotals {
    pub(super) count: u64,
    /// The row of the example: the first in input order.
    row: u64,
    /// Id and message of an example row.
    pub(super) example: String,
}

packed!(Totals {
    rows,
    succeeded,
    failed,
    interrupted,
    resumed,
    reused,
    truncated,
    truncated_empty,
    asks_json,
    fenced,
    unmetered,
    uncertain,
    in_batches,
    usage,
    money,
    models,
    batch,
    realtime,
    errors,
    latency,
    urls,
    first_token,
    speed,
    http
});
packed!(UrlTotals { url, rows, failed, latency });
packed!(TransportTotals { rows, usd });
packed!(MoneyTotals { paid, list, wasted, at_risk, resumed, cache_saved, cached_at_full });
packed!(ModelTotals { rows, usage, usd, unpriced, batched, realtime });
packed!(ErrorTotals { count, row, example });

impl Totals {
    /// Makes the totals of a job of `rows` rows without any outcome.
    pub fn new(rows: u64) -> Self {
        Self { rows, ..Self::default() }
    }

    /// The same totals of a job whose answers are JSON, if `json`.
    pub const fn asking_json(mut self, json: bool) -> Self {
        self.asks_json = json;
        self
    }

    /// Sets the number of rows, where it is known only at the end.
    pub const fn set_rows(&mut self, rows: u64) {
        self.rows = rows;
    }

    /// Names the base URLs, by the numbers that outcomes have for them.
    pub fn name_urls(&mut self, urls: &[(u32, String)]) {
        for (number, url) in urls {
            self.urls.entry(*number).or_default().url.clone_from(url);
        }
    }

    /// Counts the outcome of one row. Truncations and fences are counted if the outcome has its body.
    pub fn add(&mut self, outcome: &Outcome, charge: &Charge) {
        self.usage += outcome.usage.unwrap_or_default();
        self.usage += outcome.wasted;
        self.uncertain += u64::from(outcome.at_risk);
        self.unmetered += u64::from(charge.priced && charge.total().is_none());
        self.money.add(charge);
        if let Some(url) = self.urls.get_mut(&outcome.url) {
            url.add(outcome);
        }
        self.reused += u64::from(outcome.is_reused());
        if outcome.batch.is_some() {
            self.batch.add(charge);
        } else if outcome.attempts > 0 {
            self.realtime.add(charge);
        }
        // A row that names no model was never sent.
        if !outcome.model.is_empty() {
            let model = match self.models.get_mut(&outcome.model) {
                Some(model) => model,
                None => self.models.entry(Arc::clone(&outcome.model)).or_default(),
            };
            model.add(outcome, charge);
        }
        if let Some(error) = &outcome.error {
            let counted = if outcome.is_interrupted() { &mut self.interrupted } else { &mut self.failed };
            *counted += 1;
            self.errors.entry(error.code).or_default().add(outcome, error);
        } else {
            self.succeeded += 1;
            self.resumed += u64::from(charge.resumed);
            if let Some(body) = &outcome.body {
                self.look_into(body);
            }
            // The service does not say when it began to work on a row of a batch.
            if outcome.batch.is_none() && !outcome.is_reused() {
                self.latency.add(outcome.latency_ms);
                outcome.first_token_ms.into_iter().for_each(|ms| self.first_token.add(ms));
                outcome.speed().into_iter().for_each(|speed| self.speed.add(speed));
            }
        }
        // An earlier run sent the requests of a resumed row.
        if !charge.resumed && outcome.batch.is_none() {
            self.http += HttpCounts::of(1, outcome.attempts.into(), outcome.refused.into());
        }
    }

    /// Counts what the body of an answer shows.
    fn look_into(&mut self, body: &str) {
        if let Some(cut) = Truncation::of(body) {
            self.truncated += 1;
            self.truncated_empty += u64::from(cut.is_empty);
        }
        self.fenced += u64::from(self.asks_json && is_fenced(body));
    }

    /// Counts a part of what was paid as that of earlier runs.
    pub fn add_paid_earlier(&mut self, paid: Nanos) {
        self.money.resumed.add(Some(paid));
    }

    /// Counts money spent on outcomes that no longer stand for a row.
    pub fn add_spent(&mut self, spent: &DiscardedSpend<'_>) {
        let DiscardedSpend { model, usage, paid, list, at_risk, uncertain, cache, batch, http } = *spent;
        self.http += http;
        let way = if batch { &mut self.batch } else { &mut self.realtime };
        way.usd.add(paid);
        self.usage += usage;
        self.money.paid.add(paid);
        self.money.list.add(paid.and(list));
        self.money.wasted.add(paid);
        self.money.at_risk.add(at_risk);
        self.money.add_cache(cache);
        self.uncertain += u64::from(uncertain);
        if usage != Usage::default() {
            let model = self.models.entry(Arc::from(model)).or_default();
            model.usage += usage;
            model.usd.add(paid);
            model.unpriced |= paid.is_none();
        }
    }

    /// Counts what the service may bill for `rows` rows without an outcome, sent in a `batch` or one by one.
    pub fn add_outstanding(&mut self, rows: u32, at_risk: Option<Nanos>, batch: bool) {
        self.money.at_risk.add(at_risk);
        let count = if batch { &mut self.in_batches } else { &mut self.uncertain };
        *count += u64::from(rows);
    }

    /// Returns the rows of the job.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the rows answered so far, those of an earlier run included.
    pub const fn succeeded(&self) -> u64 {
        self.succeeded
    }

    /// Returns the requests of the rows, as far as they were sent one by one.
    pub const fn http(&self) -> HttpCounts {
        self.http
    }

    /// Returns the requests that brought an answer, one by one.
    pub fn answered_requests(&self) -> u64 {
        self.latency.count()
    }

    /// Returns the rows that failed so far.
    pub const fn failed(&self) -> u64 {
        self.failed
    }

    /// Returns the failed rows that the user cancelled.
    pub fn cancelled(&self) -> u64 {
        self.errors.get(&ErrorCode::Cancelled).map_or(0, |error| error.count)
    }

    /// Returns the codes with which rows failed so far.
    pub fn failures(&self) -> impl Iterator<Item = ErrorCode> {
        self.failed_by_code().map(|(code, _)| code)
    }

    /// Returns the failed rows by their code.
    pub(super) fn failed_by_code(&self) -> impl Iterator<Item = (ErrorCode, &ErrorTotals)> {
        let left = |code: &ErrorCode| *code == ErrorCode::Interrupted && self.interrupted > 0;
        self.errors.iter().map(|(code, error)| (*code, error)).filter(move |(code, _)| !left(code))
    }

    /// Counts interrupted rows as failed. Rows that belong to no job have no run that could resume.
    pub fn end_interrupted(&mut self) {
        self.failed += std::mem::take(&mut self.interrupted);
    }

    /// Returns the known part of what was paid so far; `None` if nothing is known.
    pub fn usd(&self) -> Option<Nanos> {
        self.money.paid.known_part()
    }

    /// Returns the known part of the most that attempts of unknown fate may have cost so far.
    pub const fn at_risk(&self) -> Nanos {
        self.money.at_risk.known
    }

    /// Returns for each model its rows, tokens, and the known part of what was paid.
    pub fn by_model(&self) -> impl Iterator<Item = (&str, u64, Usage, Option<Nanos>)> {
        self.models.iter().map(|(name, model)| (&**name, model.rows, model.usage, model.usd.known_part()))
    }
}

impl MoneyTotals {
    fn add(&mut self, charge: &Charge) {
        // The wasted part may be known where the answer's own part is not.
        self.paid.add(charge.paid);
        self.paid.add(charge.wasted);
        // A price unknown on one side is left out of both, or "saved" would compare different rows.
        self.list.add(charge.paid.and(charge.list));
        self.list.add(charge.wasted.and(charge.wasted_list));
        self.wasted.add(charge.wasted);
        self.at_risk.add(charge.at_risk);
        self.add_cache(charge.cache);
        if charge.resumed {
            self.resumed.add(charge.paid);
            self.resumed.add(charge.wasted);
        }
    }

    fn add_cache(&mut self, cache: CacheCharge) {
        self.cache_saved.add(cache.saved);
        self.cached_at_full += cache.at_full_price;
    }
}

impl TransportTotals {
    fn add(&mut self, charge: &Charge) {
        self.rows += 1;
        self.usd.add(charge.paid);
        self.usd.add(charge.wasted);
    }
}

impl UrlTotals {
    fn add(&mut self, outcome: &Outcome) {
        self.rows += 1;
        if outcome.ok() {
            self.latency.add(outcome.latency_ms);
        } else {
            self.failed += 1;
        }
    }
}

impl ModelTotals {
    fn add(&mut self, outcome: &Outcome, charge: &Charge) {
        self.rows += 1;
        self.usage += outcome.usage.unwrap_or_default();
        self.usage += outcome.wasted;
        self.usd.add(charge.paid);
        self.usd.add(charge.wasted);
        self.unpriced |= !charge.priced && charge.total().is_none();
        match outcome.batch {
            Some(_) => self.batched += 1,
            None => self.realtime += u64::from(outcome.attempts > 0),
        }
    }
}

impl ErrorTotals {
    fn add(&mut self, outcome: &Outcome, error: &RowError) {
        if self.count == 0 || outcome.row < self.row {
            self.row = outcome.row;
            self.example = format!("{}: {}", outcome.id, error.message);
        }
        self.count += 1;
    }
}

impl std::ops::AddAssign for HttpCounts {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.retried += other.retried;
        self.rate_limited += other.rate_limited;
    }
}

impl HttpCounts {
    /// The counts of `attempts` requests of some `rows`, of which the service `refused` some for their rate.
    pub const fn of(rows: u64, attempts: u64, refused: u64) -> Self {
        Self { sent: attempts, rate_limited: refused, retried: attempts.saturating_sub(rows).saturating_sub(refused) }
    }
}
