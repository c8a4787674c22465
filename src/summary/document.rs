//! The summary's JSON document, field by field as it is written.

use std::sync::Arc;

use serde::Serialize;

use super::{ErrorTotals, ModelTotals};
use crate::outcome::ErrorCode;
use crate::price::Nanos;

/// The summary as `--summary FILE` and `--json` write it (contract, "Summary"); [`Summary::table`] is for people.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Of this document's shape.
    pub version: u8,
    /// The job's id.
    pub job: Option<String>,
    /// `realtime` or `batch`.
    pub transport: Option<String>,
    /// The job's state.
    pub state: String,
    /// Rows by fate.
    pub rows: Rows,
    /// As the server counted them, thrown away ones included.
    pub tokens: Tokens,
    /// Money.
    pub cost: Cost,
    /// By model, most rows first.
    pub models: Vec<ModelLine>,
    /// Of answered rows, in milliseconds.
    pub latency_ms: Latency,
    /// Of this run, in seconds.
    pub duration_s: f64,
    /// Requests of this run.
    pub http: Http,
    /// How far the estimate of prompt tokens was above what was reported (negative: below), as a share of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate_off: Option<f64>,
    /// By code, most frequent first.
    pub errors: Vec<ErrorLine>,
    /// How the command ended.
    pub exit: ExitLine,
    /// Rows answered by an earlier run.
    #[serde(skip)]
    pub reused: u64,
    /// Attempts of unknown fate.
    #[serde(skip)]
    pub uncertain: u64,
    /// Rows in batches that have not been fetched.
    #[serde(skip)]
    pub in_batches: u64,
    /// Answers without a usage.
    #[serde(skip)]
    pub unmetered: u64,
}

/// Rows by fate.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rows {
    /// Of the job.
    pub total: u64,
    /// Answered.
    pub succeeded: u64,
    /// With an error.
    pub failed: u64,
    /// Without an outcome yet.
    pub pending: u64,
}

/// Tokens as the server counted them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Tokens {
    /// Of requests.
    pub prompt: u64,
    /// Of answers.
    pub completion: u64,
    /// Both.
    pub total: u64,
}

/// Money in USD; `None` where nothing is known.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Paid for all rows, whenever that was; the known part if some models have no known price.
    pub usd: Option<Nanos>,
    /// The same at realtime prices.
    pub realtime_usd: Option<Nanos>,
    /// The difference.
    pub saved_usd: Option<Nanos>,
    /// Whether `usd` is not the exact price of what was used.
    pub estimated: bool,
    /// Models that were used and have no known price.
    pub unpriced_models: Vec<String>,
    /// The most that attempts of unknown fate may have cost on top of `usd`.
    pub at_risk_usd: Option<Nanos>,
    /// The part of `usd` that responses cost which were thrown away.
    pub wasted_usd: Option<Nanos>,
    /// The part of `usd` that was paid by earlier runs, for answers used again.
    pub resumed_usd: Option<Nanos>,
}

/// One model's share.
#[derive(Debug, Clone, Serialize)]
pub struct ModelLine {
    /// Its id.
    pub model: String,
    /// Rows that asked for it.
    pub rows: u64,
    /// Prompt and completion.
    pub tokens: u64,
    /// `None`: not known.
    pub usd: Option<Nanos>,
    /// `batch`, `realtime` or `both`; `None`: nothing was sent, or nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<&'static str>,
    /// Why, where that was chosen for each model (`submit --via auto`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl ModelLine {
    pub(super) fn of((name, model): (&Arc<str>, &ModelTotals)) -> Self {
        let usd = if model.unpriced { model.usd.whole() } else { model.usd.known_part() };
        let via = match (model.batched, model.realtime) {
            (0, 0) => None,
            (_, 0) => Some("batch"),
            (0, _) => Some("realtime"),
            _ => Some("both"),
        };
        let tokens = model.usage.prompt + model.usage.completion;
        Self { model: name.to_string(), rows: model.rows, tokens, usd, via, why: None }
    }
}

/// Percentiles in milliseconds; `None` if no row was answered.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// The median, within 1%.
    pub p50: Option<u32>,
    /// Within 1%.
    pub p90: Option<u32>,
    /// Within 1%.
    pub p99: Option<u32>,
    /// Exact.
    pub max: Option<u32>,
}

/// Requests: `sent` is one per row that was tried, plus `retried`, plus `rate_limited` where the row was tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Http {
    /// All.
    pub sent: u64,
    /// Sent again for another reason than a 429.
    pub retried: u64,
    /// Refused by 429.
    pub rate_limited: u64,
}

/// One kind of failure.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorLine {
    /// As in the results.
    pub code: ErrorCode,
    /// Rows.
    pub count: u64,
    /// The first such row's id and message.
    pub example: String,
}

impl ErrorLine {
    pub(super) fn of((&code, error): (&ErrorCode, &ErrorTotals)) -> Self {
        Self { code, count: error.count, example: error.example.clone() }
    }
}

/// How the command ended.
#[derive(Debug, Clone, Serialize)]
pub struct ExitLine {
    /// The number given to the shell.
    pub code: u8,
    /// Why.
    pub reason: String,
    /// The command that goes on from here.
    pub next: Option<String>,
}
