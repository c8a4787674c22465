//! The summary's JSON document, field by field as it is written.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::totals::{ErrorTotals, ModelTotals, UrlTotals};
use super::{Histogram, PartRows, Totals};
use crate::error::Exit;
use crate::outcome::ErrorCode;
use crate::pack::packed;
use crate::price::Nanos;

/// The summary as `--summary FILE` and `--json` write it; [`Summary::table`] is for people.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The version of this document's shape.
    pub version: u8,
    /// The version of llbatch.
    pub llbatch: &'static str,
    /// The job's id.
    pub job: Option<String>,
    /// The job's name.
    pub name: Option<String>,
    /// The time when the job was made, in RFC 3339.
    pub started_at: Option<String>,
    /// `realtime` or `batch`.
    pub transport: Option<String>,
    /// The sandbox answered, and nothing was charged: amounts of money show what it would have cost.
    pub sandbox: bool,
    /// The job's state.
    pub state: String,
    /// Rows by fate.
    pub rows: RowCounts,
    /// Tokens, those of responses that were thrown away included.
    pub tokens: TokenCounts,
    /// Money.
    pub cost: CostSummary,
    /// The share of each transport, if the job used both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transports: Vec<TransportSummary>,
    /// Models, the one with the most rows first.
    pub models: Vec<ModelSummary>,
    /// Latency of answered rows.
    pub latency_ms: LatencySummary,
    /// Time to the first token of streamed answers.
    pub first_token_ms: FirstTokenSummary,
    /// Output speed of answers that came in real time.
    pub tokens_per_s: SpeedSummary,
    /// Base URLs, if the service has several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<UrlSummary>,
    /// Time in seconds: of this run, and of the job's batches from their creation to their end.
    pub duration_s: f64,
    /// Requests of this run.
    pub http: HttpCounts,
    /// Excess of the estimated prompt tokens over the service's count (negative: below), as a share of that count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate_off: Option<f64>,
    /// Failures by code, the most frequent first.
    pub errors: Vec<ErrorLine>,
    /// The file with the results.
    pub output: Option<String>,
    /// The file with the failed rows.
    pub errors_output: Option<String>,
    /// Origin of the money and the tokens of merged results: `rows` or `summaries`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<&'static str>,
    /// The files that were merged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartRows>,
    /// The end of the command.
    pub exit: ExitLine,
    /// Rows answered by an earlier run.
    #[serde(skip)]
    pub resumed: u64,
    /// Attempts of unknown fate.
    #[serde(skip)]
    pub uncertain: u64,
    /// Rows in batches that have not been fetched.
    #[serde(skip)]
    pub in_batches: u64,
    /// Answers without a usage.
    #[serde(skip)]
    pub unmetered: u64,
    /// Cached tokens that are counted at the full price.
    #[serde(skip)]
    pub cached_at_full: u64,
    /// The parts of `duration_s`.
    #[serde(skip)]
    pub time: JobTime,
}

/// The time that a job took over each transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobTime {
    /// From the creation of the first batch to the end of the last one, or until now. `None`: there is none, or a batch does
    /// not say when it ended.
    pub batches: Option<Duration>,
    /// Time in which requests were sent one by one.
    pub realtime: Duration,
}

/// The share of one transport.
#[derive(Debug, Clone, Serialize)]
pub struct TransportSummary {
    /// `batch` or `realtime`.
    pub transport: &'static str,
    /// Rows whose outcome it brought.
    pub rows: u64,
    /// Paid; `None`: not known.
    pub usd: Option<Nanos>,
}

/// Rows by fate.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RowCounts {
    /// Rows of the job.
    pub total: u64,
    /// Answered rows.
    pub succeeded: u64,
    /// Rows with an error.
    pub failed: u64,
    /// Rows without an outcome yet.
    pub pending: u64,
    /// Answers that were cut off at their token limit.
    pub truncated: u64,
    /// The part of `truncated` without any text.
    pub truncated_empty: u64,
    /// Answers to `--json-schema` that are JSON in a Markdown fence.
    pub fenced: u64,
    /// Rows with the outcome of an equal request, for which nothing was sent.
    pub reused: u64,
}

/// Tokens as the service counted them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Tokens of requests.
    pub prompt: u64,
    /// Tokens of answers.
    pub completion: u64,
    /// Both.
    pub total: u64,
    /// The part of `prompt` that the service had in its cache.
    #[serde(default)]
    pub cached: u64,
    /// The part of `completion` that is reasoning.
    #[serde(default)]
    pub reasoning: u64,
}

/// Money in USD; `None` where nothing is known.
#[derive(Debug, Clone, Serialize)]
pub struct CostSummary {
    /// Paid for all rows, by earlier runs too; the known part if some models have no known price.
    pub usd: Option<Nanos>,
    /// The same at realtime prices.
    pub realtime_usd: Option<Nanos>,
    /// The difference.
    pub saved_usd: Option<Nanos>,
    /// `usd` is not the exact price of the tokens.
    pub estimated: bool,
    /// `usd` is an upper bound: it counts cached tokens at the full price, because theirs is not known.
    pub upper_bound: bool,
    /// The amount by which cached tokens made `usd` cheaper.
    pub cache_saved_usd: Option<Nanos>,
    /// Models that were used and have no known price.
    pub unpriced_models: Vec<String>,
    /// The most that attempts of unknown fate may have cost on top of `usd`.
    pub at_risk_usd: Option<Nanos>,
    /// The part of `usd` for responses that were thrown away.
    pub wasted_usd: Option<Nanos>,
    /// The part of `usd` that earlier runs paid, thrown-away answers included.
    pub resumed_usd: Option<Nanos>,
}

/// One model's share.
#[derive(Debug, Clone, Serialize)]
pub struct ModelSummary {
    /// The model's id.
    pub model: String,
    /// Rows that asked for it.
    pub rows: u64,
    /// Prompt and completion tokens.
    pub tokens: u64,
    /// Paid; `None`: not known.
    pub usd: Option<Nanos>,
    /// `batch`, `realtime` or `both`; `None`: nothing was sent, or the transport is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<&'static str>,
    /// The reason for `via`, if llbatch chose it for each model (`submit --via auto`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Percentiles in milliseconds; `None` if no row was answered.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LatencySummary {
    /// The median, within 1%.
    pub p50: Option<u32>,
    /// Within 1%.
    pub p90: Option<u32>,
    /// Within 1%.
    pub p99: Option<u32>,
    /// Exact.
    pub max: Option<u32>,
}

/// The share of one base URL.
#[derive(Debug, Clone, Serialize)]
pub struct UrlSummary {
    /// The base URL.
    pub url: String,
    /// Rows whose last attempt went there.
    pub rows: u64,
    /// The part of them that failed.
    pub failed: u64,
    /// Latency of its answers.
    pub latency_ms: LatencySummary,
}

/// Percentiles in milliseconds, within 1%; `None` if no answer came as a stream.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct FirstTokenSummary {
    /// The median.
    pub p50: Option<u32>,
    /// Nine in ten answers began sooner.
    pub p90: Option<u32>,
    /// 99 in 100 answers began sooner.
    pub p99: Option<u32>,
}

/// Percentiles in tokens per second, within 1%: of a stream behind its first token, of any other answer over its latency.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SpeedSummary {
    /// The median.
    pub p50: Option<f64>,
    /// Nine in ten answers were slower.
    pub p90: Option<f64>,
    /// 99 in 100 answers were slower.
    pub p99: Option<f64>,
}

/// Requests: `sent` is one per row that was tried, plus `retried`, plus `rate_limited` where the row was tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HttpCounts {
    /// All requests.
    pub sent: u64,
    /// Requests sent again for another reason than a 429.
    pub retried: u64,
    /// Requests refused by 429.
    pub rate_limited: u64,
}
packed!(HttpCounts { sent, retried, rate_limited });

/// One kind of failure.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorLine {
    /// The code, as in the results.
    pub code: ErrorCode,
    /// Rows with this code.
    pub count: u64,
    /// The first such row's id and message.
    pub example: String,
}

/// The end of a command.
#[derive(Debug, Clone, Serialize)]
pub struct ExitLine {
    /// The exit code.
    pub code: u8,
    /// The reason.
    pub reason: String,
    /// The command that continues from here.
    pub next: Option<String>,
}

/// The facts of a summary that outcomes do not hold.
#[derive(Debug, Clone)]
pub struct Meta {
    /// The job's id; `None` for a results file.
    pub job: Option<String>,
    /// The job's name.
    pub name: Option<String>,
    /// The time when the job was made, in RFC 3339.
    pub started_at: Option<String>,
    /// `realtime` or `batch`; `None` for a results file.
    pub transport: Option<String>,
    /// The job is the sandbox's.
    pub sandbox: bool,
    /// The state as in `status`: `completed`, `partial`, ...
    pub state: String,
    /// Time by the clock.
    pub time: JobTime,
    /// The service was asked for a batch, which need not have brought an outcome.
    pub batched: bool,
    /// The exit code of the command.
    pub exit: Exit,
    /// The reason for the exit code, in a few words.
    pub reason: String,
    /// The command that continues from here.
    pub next: Option<String>,
    /// Models with the reason for their transport, if llbatch chose it for each model.
    pub routes: Vec<(String, String)>,
}

#[cfg(test)]
impl Meta {
    /// Makes facts without content, for tests of what was counted.
    pub fn blank() -> Self {
        Self {
            job: None,
            name: None,
            started_at: None,
            transport: None,
            sandbox: false,
            state: String::new(),
            time: JobTime::default(),
            batched: false,
            exit: Exit::Ok,
            reason: String::new(),
            next: None,
            routes: Vec::new(),
        }
    }
}

impl Totals {
    /// Makes the summary of everything that was counted.
    pub fn summary(&self, meta: &Meta) -> Summary {
        let elapsed = meta.time.realtime + meta.time.batches.unwrap_or_default();
        let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Summary {
            version: 1,
            llbatch: env!("CARGO_PKG_VERSION"),
            job: meta.job.clone(),
            name: meta.name.clone(),
            started_at: meta.started_at.clone(),
            transport: meta.transport.clone(),
            sandbox: meta.sandbox,
            state: meta.state.clone(),
            rows: RowCounts {
                total: self.rows,
                succeeded: self.succeeded,
                failed: self.failed,
                pending: self.rows.saturating_sub(self.succeeded + self.failed),
                truncated: self.truncated,
                truncated_empty: self.truncated_empty,
                fenced: self.fenced,
                reused: self.reused,
            },
            tokens: TokenCounts {
                prompt: self.usage.prompt,
                completion: self.usage.completion,
                total: self.usage.total(),
                cached: self.usage.cached,
                reasoning: self.usage.reasoning,
            },
            cost: self.cost(),
            transports: self.transport_summaries(meta.batched),
            models: self.model_summaries(meta),
            latency_ms: LatencySummary::of(&self.latency),
            first_token_ms: FirstTokenSummary::of(&self.first_token),
            tokens_per_s: SpeedSummary::of(&self.speed),
            urls: self.url_summaries(),
            duration_s: elapsed as f64 / 1000.0,
            http: self.http,
            estimate_off: None,
            errors: self.error_summaries(),
            output: None,
            errors_output: None,
            from: None,
            parts: Vec::new(),
            exit: ExitLine { code: meta.exit.code(), reason: meta.reason.clone(), next: meta.next.clone() },
            resumed: self.resumed,
            uncertain: self.uncertain,
            in_batches: self.in_batches,
            unmetered: self.unmetered,
            cached_at_full: self.money.cached_at_full,
            time: meta.time,
        }
    }

    fn url_summaries(&self) -> Vec<UrlSummary> {
        let summary = |UrlTotals { url, rows, failed, latency }: &UrlTotals| UrlSummary {
            url: url.clone(),
            rows: *rows,
            failed: *failed,
            latency_ms: LatencySummary::of(latency),
        };
        self.urls.values().map(summary).collect()
    }

    /// Sums up each transport; nothing if the job used one alone. `batched`: the service was asked for a batch.
    fn transport_summaries(&self, batched: bool) -> Vec<TransportSummary> {
        let both = [("batch", &self.batch), ("realtime", &self.realtime)];
        if self.realtime.rows == 0 || (self.batch.rows == 0 && !batched) {
            return Vec::new();
        }
        let summary = |(transport, totals): (&'static str, &super::totals::TransportTotals)| TransportSummary {
            transport,
            rows: totals.rows,
            usd: totals.usd.known_part(),
        };
        both.map(summary).into()
    }

    fn cost(&self) -> CostSummary {
        let (usd, realtime_usd) = (self.money.paid.known_part(), self.money.list.known_part());
        let unpriced = self.models.iter().filter(|(_, model)| model.unpriced);
        CostSummary {
            usd,
            realtime_usd,
            saved_usd: realtime_usd.zip(usd).map(|(realtime, usd)| realtime - usd),
            estimated: self.unmetered > 0 || self.money.cached_at_full > 0,
            upper_bound: self.money.cached_at_full > 0,
            cache_saved_usd: self.money.cache_saved.known_part(),
            unpriced_models: unpriced.map(|(name, _)| name.to_string()).collect(),
            // The known part alone would not be an upper bound.
            at_risk_usd: self.money.at_risk.whole(),
            wasted_usd: self.money.wasted.known_part(),
            resumed_usd: self.money.resumed.known_part(),
        }
    }

    fn model_summaries(&self, meta: &Meta) -> Vec<ModelSummary> {
        let summary = |name: &str, model: &ModelTotals| ModelSummary {
            model: name.to_owned(),
            rows: model.rows,
            tokens: model.usage.total(),
            usd: if model.unpriced { model.usd.whole() } else { model.usd.known_part() },
            // A results file does not name the transport.
            via: model.via().filter(|_| meta.job.is_some()),
            why: meta.routes.iter().find(|(routed, _)| routed == name).map(|(_, why)| why.clone()),
        };
        let mut models: Vec<_> = self.models.iter().map(|(name, model)| summary(name, model)).collect();
        // Stable: equal counts stay in the order of the models' names.
        models.sort_by_key(|model| std::cmp::Reverse(model.rows));
        models
    }

    fn error_summaries(&self) -> Vec<ErrorLine> {
        let line = |(code, error): (ErrorCode, &ErrorTotals)| ErrorLine {
            code,
            count: error.count,
            example: error.example.clone(),
        };
        let mut errors: Vec<_> = self.failed_by_code().map(line).collect();
        // Stable: equal counts stay in the contract's order of codes.
        errors.sort_by_key(|error| std::cmp::Reverse(error.count));
        errors
    }
}

impl LatencySummary {
    fn of(latency: &Histogram) -> Self {
        Self {
            p50: latency.percentile(50),
            p90: latency.percentile(90),
            p99: latency.percentile(99),
            max: latency.max(),
        }
    }
}

impl FirstTokenSummary {
    fn of(times: &Histogram) -> Self {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| times.percentile(percent));
        Self { p50, p90, p99 }
    }
}

impl SpeedSummary {
    /// `speeds` are in tenths.
    fn of(speeds: &Histogram) -> Self {
        let [p50, p90, p99] =
            [50, 90, 99].map(|percent| speeds.percentile(percent).map(|tenths| f64::from(tenths) / 10.0));
        Self { p50, p90, p99 }
    }
}

impl ModelTotals {
    fn via(&self) -> Option<&'static str> {
        match (self.batched, self.realtime) {
            (0, 0) => None,
            (_, 0) => Some("batch"),
            (0, _) => Some("realtime"),
            _ => Some("both"),
        }
    }
}
