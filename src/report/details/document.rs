//! The report as JSON: the summary, and under `details` what a report adds.

use serde::Serialize;

use super::{Details, FailedRow, ModelMoney, OverTime, TopRow, TruncatedRow};
use crate::price::Nanos;
use crate::summary::{Bin, Histogram, Summary};

/// What `report --json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// As a run or a fetch ends with it.
    #[serde(flatten)]
    pub summary: Summary,
    /// The rest.
    pub details: Detail,
}

/// What a report says beyond the summary.
#[derive(Debug, Clone, Serialize)]
pub struct Detail {
    /// Where it is from.
    pub source: Source,
    /// Dearest first.
    pub models: Vec<ModelDetail>,
    /// How fast answers came.
    pub tokens_per_s: Speed,
    /// Of answered rows, in milliseconds; empty if nobody measured it.
    pub latency_histogram: Vec<Bin>,
    /// Lengths of answers.
    pub answer_tokens: Tokens,
    /// `None`: answers do not say when they were made, or all say the same.
    pub over_time: Option<OverTime>,
    /// Answers that were cut off.
    pub truncated: Truncated,
    /// Of answered rows.
    pub slowest: Vec<TopRow>,
    /// Of all rows.
    pub dearest: Vec<TopRow>,
    /// Some of those that failed, of every code.
    pub failed_rows: Vec<FailedRow>,
}

/// What a report is about.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// A job of the ledger.
    Job {
        /// Its `--name`.
        name: Option<String>,
        /// RFC 3339.
        created_at: String,
        /// As typed.
        input: String,
    },
    /// Results files.
    Files {
        /// As typed; `-` for standard input.
        files: Vec<String>,
        /// Whether rows are counted at the batch price.
        batch_price: bool,
    },
}

/// One model's share.
#[derive(Debug, Clone, Serialize)]
pub struct ModelDetail {
    /// Its id.
    pub model: String,
    /// Rows.
    pub answered: u64,
    /// Rows.
    pub failed: u64,
    /// Answers that were cut off.
    pub truncated: u64,
    /// Thrown away ones included.
    pub prompt_tokens: u64,
    /// Thrown away ones included.
    pub completion_tokens: u64,
    /// At the list price, which is that of realtime.
    pub list_usd: Option<Nanos>,
    /// Paid.
    pub usd: Option<Nanos>,
    /// The difference.
    pub saved_usd: Option<Nanos>,
    /// The most that attempts of unknown fate may have cost on top.
    pub at_risk_usd: Option<Nanos>,
}

/// Tokens of answers a second.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Speed {
    /// Of all rows together, over the time that the job took.
    pub overall: Option<f64>,
    /// Of a single answer: the slow ones.
    pub row_p10: Option<f64>,
    /// The median.
    pub row_p50: Option<f64>,
    /// The fast ones.
    pub row_p90: Option<f64>,
}

/// Lengths of answers in tokens.
#[derive(Debug, Clone, Serialize)]
pub struct Tokens {
    /// The median.
    pub p50: Option<u32>,
    /// Within 1%.
    pub p90: Option<u32>,
    /// Within 1%.
    pub p99: Option<u32>,
    /// Exact.
    pub max: Option<u32>,
    /// Counts.
    pub histogram: Vec<Bin>,
}

/// Answers with `finish_reason: length`.
#[derive(Debug, Clone, Serialize)]
pub struct Truncated {
    /// All.
    pub count: u64,
    /// The first of them.
    pub rows: Vec<TruncatedRow>,
}

impl Details {
    /// The report of what was counted. `seconds`: how long the job took, if that is known.
    pub fn report(&self, summary: Summary, source: Source, seconds: Option<f64>) -> Report {
        let mut models: Vec<ModelDetail> = self.models.iter().map(|(name, model)| model.detail(name)).collect();
        // Stable: equal ones stay in the order of their names.
        models.sort_by_key(|model| std::cmp::Reverse((model.usd, model.answered + model.failed)));
        let speed = |percent| self.speeds.percentile(percent).map(|tenths| f64::from(tenths) / 10.0);
        let overall = seconds.filter(|seconds| *seconds > 0.0 && self.completion > 0);
        let details = Detail {
            source,
            models,
            tokens_per_s: Speed {
                overall: overall.map(|seconds| (self.completion as f64 / seconds * 10.0).round() / 10.0),
                row_p10: speed(10),
                row_p50: speed(50),
                row_p90: speed(90),
            },
            latency_histogram: self.latency.bins(),
            answer_tokens: Tokens::of(&self.lengths),
            over_time: self.timeline.over_time(),
            truncated: Truncated { count: self.truncated, rows: self.truncated_rows.clone() },
            slowest: self.slowest.rows(),
            dearest: self.dearest.rows(),
            failed_rows: self.failures.sample(),
        };
        Report { summary, details }
    }
}

impl Tokens {
    fn of(lengths: &Histogram) -> Self {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| lengths.percentile(percent));
        Self { p50, p90, p99, max: lengths.max(), histogram: lengths.bins() }
    }
}

impl ModelMoney {
    fn detail(&self, name: &str) -> ModelDetail {
        // An answer without usage leaves the rest known; a price that is not known leaves nothing.
        let known = |sum: super::Sum| if self.unpriced { sum.whole() } else { sum.known_part() };
        let (list_usd, usd) = (known(self.list), known(self.paid));
        ModelDetail {
            model: name.to_owned(),
            answered: self.answered,
            failed: self.failed,
            truncated: self.truncated,
            prompt_tokens: self.usage.prompt,
            completion_tokens: self.usage.completion,
            list_usd,
            usd,
            saved_usd: list_usd.zip(usd).map(|(list, paid)| list - paid),
            at_risk_usd: self.at_risk.whole(),
        }
    }
}
