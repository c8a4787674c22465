//! The report as JSON: the summary, and under `details` what a report adds.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::samples::start_of;
use super::{AnswerSample, DetailsFold, FailedRow, ModelDetail, OverTime, RowKey, RuleDetail, TopRow, Truncated};
use crate::summary::{Bin, Histogram, Summary};

/// A report as `report --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct ReportDocument {
    /// The summary, as `run` and `fetch` write it.
    #[serde(flatten)]
    pub summary: Summary,
    /// The figures beyond the summary.
    pub details: ReportDetails,
}

/// The figures of a report beyond the summary.
#[derive(Debug, Clone, Serialize)]
pub struct ReportDetails {
    /// The job or the files that the report is about.
    pub source: ReportSource,
    /// All models, the most expensive first.
    pub models: Vec<ModelDetail>,
    /// Speed of answers.
    pub tokens_per_s: Speed,
    /// Milliseconds of answered rows. Empty if they were not measured.
    pub latency_histogram: Vec<Bin>,
    /// Lengths of answers.
    pub answer_tokens: AnswerLengths,
    /// Answers by time. `None`: answers carry no time, or all the same one.
    pub over_time: Option<OverTime>,
    /// Answers that were cut off.
    pub truncated: Truncated,
    /// The slowest of the answered rows.
    pub slowest: Vec<TopRow>,
    /// The dearest of all rows.
    pub dearest: Vec<TopRow>,
    /// The rules that rejected answers break, the most frequent first.
    pub rules: Vec<RuleDetail>,
    /// A sample of the failed rows, with some of every code.
    pub failed_rows: Vec<FailedRow>,
    /// A few good answers, chosen by chance.
    pub good_rows: Vec<AnswerSample>,
}

impl ReportDetails {
    /// The rows that are shown with their prompts.
    pub fn prompt_keys(&self) -> impl Iterator<Item = RowKey> {
        let failed = self.failed_rows.iter().map(|row| row.key);
        let truncated = self.truncated.rows.iter().map(|row| row.key);
        let broken = self.rules.iter().map(|rule| rule.example.key);
        failed.chain(broken).chain(truncated).chain(self.good_rows.iter().map(|row| row.key))
    }

    /// Adds the prompts of these rows, by row.
    pub fn add_prompts(&mut self, prompts: &HashMap<u64, String>) {
        let prompt = |key: RowKey| prompts.get(&key.row).map(|text| start_of(text));
        self.failed_rows.iter_mut().for_each(|row| row.prompt = prompt(row.key));
        self.rules.iter_mut().for_each(|rule| rule.example.prompt = prompt(rule.example.key));
        self.truncated.rows.iter_mut().for_each(|row| row.prompt = prompt(row.key));
        self.good_rows.iter_mut().for_each(|row| row.prompt = prompt(row.key));
    }
}

/// The job or the files that a report is about.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReportSource {
    /// A job of the ledger.
    Job {
        /// The job's `--name`.
        name: Option<String>,
        /// RFC 3339.
        created_at: String,
        /// The input as the user typed it.
        input: String,
        /// The parameters of its requests that the user set.
        settings: BTreeMap<String, serde_json::Value>,
    },
    /// Results files.
    Files {
        /// The paths as the user typed them, `-` for standard input.
        files: Vec<String>,
        /// Rows are counted at the batch price.
        batch_price: bool,
    },
}

/// Completion tokens per second.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Speed {
    /// All answers together, over the time that the job took.
    pub overall: Option<f64>,
    /// The speed of a slow answer.
    pub row_p10: Option<f64>,
    /// The speed of the median answer.
    pub row_p50: Option<f64>,
    /// The speed of a fast answer.
    pub row_p90: Option<f64>,
}

/// Lengths of answers in tokens.
#[derive(Debug, Clone, Serialize)]
pub struct AnswerLengths {
    /// The median.
    pub p50: Option<u32>,
    /// Within 1%.
    pub p90: Option<u32>,
    /// Within 1%.
    pub p99: Option<u32>,
    /// Exact.
    pub max: Option<u32>,
    /// Answers by length.
    pub histogram: Vec<Bin>,
}

impl DetailsFold {
    /// Makes the report. `seconds`: the time that the job took, if it is known.
    pub fn into_report(self, summary: Summary, source: ReportSource, seconds: Option<f64>) -> ReportDocument {
        let details = ReportDetails {
            source,
            models: self.models.details(),
            tokens_per_s: Speed::of(&self.speeds, self.completion, seconds),
            latency_histogram: self.latency.bins(),
            answer_tokens: AnswerLengths::of(&self.lengths),
            over_time: self.timeline.over_time(),
            truncated: self.truncated,
            slowest: self.slowest.into_rows(),
            dearest: self.dearest.into_rows(),
            rules: self.rules.details(),
            failed_rows: self.failures.into_sample(),
            good_rows: self.good.into_rows(),
        };
        ReportDocument { summary, details }
    }
}

impl Speed {
    /// `rows` holds the speeds of single answers, in tenths of a token per second. All answers together had `tokens`.
    fn of(rows: &Histogram, tokens: u64, seconds: Option<f64>) -> Self {
        let [row_p10, row_p50, row_p90] =
            [10, 50, 90].map(|percent| rows.percentile(percent).map(|tenths| f64::from(tenths) / 10.0));
        let seconds = seconds.filter(|seconds| *seconds > 0.0 && tokens > 0);
        let overall = seconds.map(|seconds| (tokens as f64 / seconds * 10.0).round() / 10.0);
        Self { overall, row_p10, row_p50, row_p90 }
    }
}

impl AnswerLengths {
    fn of(lengths: &Histogram) -> Self {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| lengths.percentile(percent));
        Self { p50, p90, p99, max: lengths.max(), histogram: lengths.bins() }
    }
}
