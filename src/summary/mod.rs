//! What a job came to: rows, tokens, money, time and errors, folded from its outcomes.
//!
//! The fold does not depend on the order of the outcomes, and is the same for both transports.

mod charge;
mod document;
mod histogram;
pub mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use charge::Charge;
pub use charge::Sum;
pub use document::{Cost, ErrorLine, ExitLine, Http, Latency, ModelLine, Rows, Summary, Tokens};
pub use histogram::{Bin, Histogram};
pub use table::span;

use crate::error::Exit;
use crate::outcome::{ErrorCode, Outcome, Usage};
use crate::price::Nanos;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct ModelTotals {
    rows: u64,
    usage: Usage,
    usd: Sum,
    unpriced: bool,
    /// Rows that a batch answered or failed to, and rows that were sent at realtime.
    batched: u64,
    realtime: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ErrorTotals {
    count: u64,
    /// The row that the example is of: the first in input order.
    row: u64,
    example: String,
}

/// The fold of a job's outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    total: u64,
    succeeded: u64,
    failed: u64,
    /// Of those, rows that were never sent because they are invalid.
    invalid: u64,
    reused: u64,
    usage: Usage,
    paid: Sum,
    list: Sum,
    wasted: Sum,
    at_risk: Sum,
    resumed: Sum,
    /// Rows whose answer came without a usage.
    unmetered: u64,
    uncertain: u64,
    /// Rows in batches that have not been fetched.
    in_batches: u64,
    models: BTreeMap<Arc<str>, ModelTotals>,
    errors: BTreeMap<ErrorCode, ErrorTotals>,
    latency: Histogram,
    http: Http,
}

impl Totals {
    /// Nothing yet, of a job of `total_rows`.
    pub fn new(total_rows: u64) -> Self {
        Self {
            total: total_rows,
            succeeded: 0,
            failed: 0,
            invalid: 0,
            reused: 0,
            usage: Usage::default(),
            paid: Sum::default(),
            list: Sum::default(),
            wasted: Sum::default(),
            at_risk: Sum::default(),
            resumed: Sum::default(),
            unmetered: 0,
            uncertain: 0,
            in_batches: 0,
            models: BTreeMap::new(),
            errors: BTreeMap::new(),
            latency: Histogram::default(),
            http: Http::default(),
        }
    }

    /// Says how many rows there are, where that is known only at the end.
    pub const fn set_rows(&mut self, rows: u64) {
        self.total = rows;
    }

    /// Counts the outcome of one row. Requests of a reused row were sent by an earlier run and do not count as sent.
    pub fn add(&mut self, outcome: &Outcome, charge: &Charge) {
        let mut usage = outcome.usage.unwrap_or_default();
        usage += outcome.wasted;
        self.usage += usage;
        let total = charge.total();
        // Of an answer without a usage the tries before it may be known.
        self.paid.add(charge.paid);
        self.paid.add(charge.wasted);
        // Unknown on one side is left out of both, or "saved" would compare different rows.
        self.list.add(charge.paid.and(charge.list));
        self.list.add(charge.wasted);
        self.wasted.add(charge.wasted);
        self.at_risk.add(charge.at_risk);
        self.uncertain += u64::from(outcome.at_risk);
        self.unmetered += u64::from(charge.priced && total.is_none());

        // A row that names no model was never sent.
        if !outcome.model.is_empty() {
            let model = match self.models.get_mut(&outcome.model) {
                Some(model) => model,
                None => self.models.entry(Arc::clone(&outcome.model)).or_default(),
            };
            model.rows += 1;
            model.usage += usage;
            model.usd.add(charge.paid);
            model.usd.add(charge.wasted);
            model.unpriced |= !charge.priced && total.is_none();
            match outcome.batch {
                Some(_) => model.batched += 1,
                None => model.realtime += u64::from(outcome.attempts > 0),
            }
        }

        match &outcome.error {
            None => {
                self.succeeded += 1;
                // Nobody knows when a batch began to work on a row.
                if outcome.batch.is_none() {
                    self.latency.add(outcome.latency_ms);
                }
            }
            Some(error) => {
                self.failed += 1;
                self.invalid += u64::from(outcome.attempts == 0 && error.code == ErrorCode::InvalidRequest);
                let example = || format!("{}: {}", outcome.id, error.message);
                match self.errors.get_mut(&error.code) {
                    Some(known) => {
                        known.count += 1;
                        if outcome.row < known.row {
                            (known.row, known.example) = (outcome.row, example());
                        }
                    }
                    None => {
                        self.errors.insert(error.code, ErrorTotals { count: 1, row: outcome.row, example: example() });
                    }
                }
            }
        }
        if charge.reused {
            self.reused += u64::from(outcome.ok());
            self.resumed.add(charge.paid);
            self.resumed.add(charge.wasted);
        } else if outcome.batch.is_none() {
            let (attempts, refused) = (u64::from(outcome.attempts), u64::from(outcome.refused));
            self.http.sent += attempts;
            self.http.rate_limited += refused;
            self.http.retried += attempts.saturating_sub(1).saturating_sub(refused);
        }
    }

    /// Counts money spent on outcomes that no longer stand for a row: `usage` was paid for and thrown away, `uncertain`
    /// attempts may have cost up to `at_risk`.
    pub fn spent(&mut self, model: &str, usage: Usage, paid: Option<Nanos>, at_risk: Option<Nanos>, uncertain: u32) {
        self.usage += usage;
        self.paid.add(paid);
        self.list.add(paid);
        self.wasted.add(paid);
        self.at_risk.add(at_risk);
        self.uncertain += u64::from(uncertain);
        if usage != Usage::default() {
            let model = self.models.entry(Arc::from(model)).or_default();
            model.usage += usage;
            model.usd.add(paid);
            model.unpriced |= paid.is_none();
        }
    }

    /// Counts what may be billed for `rows` rows whose end has not come in; in a `batch`, or sent one by one.
    pub fn outstanding(&mut self, rows: u32, at_risk: Option<Nanos>, batch: bool) {
        self.at_risk.add(at_risk);
        let count = if batch { &mut self.in_batches } else { &mut self.uncertain };
        *count += u64::from(rows);
    }

    /// Rows answered so far, those of an earlier run included.
    pub const fn succeeded(&self) -> u64 {
        self.succeeded
    }

    /// Rows that failed so far.
    pub const fn failed(&self) -> u64 {
        self.failed
    }

    /// As what rows failed so far.
    pub fn failures(&self) -> impl Iterator<Item = ErrorCode> {
        self.errors.keys().copied()
    }

    /// What is known to have been paid so far; `None` if nothing is known.
    pub fn usd(&self) -> Option<Nanos> {
        self.paid.known_part()
    }

    /// The most that attempts of unknown fate may have cost so far, the known part.
    pub const fn at_risk(&self) -> Nanos {
        self.at_risk.known
    }

    /// By model: rows, tokens, and what is known to have been paid.
    pub fn by_model(&self) -> impl Iterator<Item = (&str, u64, Usage, Option<Nanos>)> {
        self.models.iter().map(|(name, model)| (&**name, model.rows, model.usage, model.usd.known_part()))
    }

    /// The summary of what was counted.
    pub fn summary(&self, meta: &Meta) -> Summary {
        let usd = self.paid.known_part();
        let realtime_usd = self.list.known_part();
        let saved_usd = realtime_usd.zip(usd).map(|(realtime, usd)| realtime - usd);
        let unpriced = self.models.iter().filter(|(_, model)| model.unpriced);
        let mut models: Vec<ModelLine> = self.models.iter().map(ModelLine::of).collect();
        for line in &mut models {
            // A results file does not tell.
            line.via = line.via.filter(|_| meta.job.is_some());
            line.why = meta.routes.iter().find(|(model, _)| *model == line.model).map(|(_, why)| why.clone());
        }
        models.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.model.cmp(&b.model)));
        let mut errors: Vec<ErrorLine> = self.errors.iter().map(ErrorLine::of).collect();
        // Stable: equal counts stay in the contract's order of codes.
        errors.sort_by_key(|error| std::cmp::Reverse(error.count));
        let elapsed = u64::try_from(meta.duration.as_millis()).unwrap_or(u64::MAX);
        Summary {
            version: 1,
            job: meta.job.clone(),
            transport: meta.transport.clone(),
            state: meta.state.clone(),
            rows: Rows {
                total: self.total,
                succeeded: self.succeeded,
                failed: self.failed,
                pending: self.total.saturating_sub(self.succeeded + self.failed),
            },
            tokens: Tokens {
                prompt: self.usage.prompt,
                completion: self.usage.completion,
                total: self.usage.prompt + self.usage.completion,
            },
            cost: Cost {
                usd,
                realtime_usd,
                saved_usd,
                estimated: meta.estimated || self.unmetered > 0,
                unpriced_models: unpriced.map(|(name, _)| name.to_string()).collect(),
                // A bound with a part left out would be none.
                at_risk_usd: self.at_risk.whole(),
                wasted_usd: self.wasted.known_part(),
                resumed_usd: self.resumed.known_part(),
            },
            models,
            latency_ms: Latency {
                p50: self.latency.percentile(50),
                p90: self.latency.percentile(90),
                p99: self.latency.percentile(99),
                max: self.latency.max(),
            },
            duration_s: elapsed as f64 / 1000.0,
            http: self.http,
            estimate_off: None,
            errors,
            exit: ExitLine { code: meta.exit.code(), reason: meta.reason.clone(), next: meta.next.clone() },
            reused: self.reused,
            uncertain: self.uncertain,
            in_batches: self.in_batches,
            unmetered: self.unmetered,
        }
    }
}

/// What a summary says beside the outcomes.
#[derive(Debug, Clone)]
pub struct Meta {
    /// The job's id; `None` for a results file.
    pub job: Option<String>,
    /// `realtime` or `batch`; `None` for a results file.
    pub transport: Option<String>,
    /// As in `status`: `completed`, `partial`, ...
    pub state: String,
    /// Of this run, by the wall.
    pub duration: Duration,
    /// Whether the price itself is a guess.
    pub estimated: bool,
    /// How the command ends.
    pub exit: Exit,
    /// Why it ends so, in a few words.
    pub reason: String,
    /// The command that goes on from here.
    pub next: Option<String>,
    /// Models with why their rows went where they went, if that was chosen for each.
    pub routes: Vec<(String, String)>,
}

#[cfg(test)]
impl Meta {
    /// Says nothing, for tests of what was counted.
    pub fn blank() -> Self {
        Self {
            job: None,
            transport: None,
            state: String::new(),
            duration: Duration::ZERO,
            estimated: false,
            exit: Exit::Ok,
            reason: String::new(),
            next: None,
            routes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
