//! The values that the template prints.

use serde::Serialize;
use serde_json::Value;

use super::charts::{HistogramCard, TimelineCard};
use super::models::ModelsCard;
use super::numbers::{hundredths, minute};
use super::samples::SampleCard;
use super::tiles::{Tile, tiles};
use crate::outcome::ErrorCode;
use crate::price::Nanos;
use crate::report::details::{FailedRow, ReportDetails, ReportDocument, ReportSource, RuleDetail, TopRow};
use crate::summary::{ErrorLine, ExitLine, Summary};
use crate::text;

/// Characters of an error's example.
const EXAMPLE: usize = 300;

/// The page.
#[derive(Debug, Serialize)]
pub(super) struct PageView<'a> {
    title: String,
    /// `None` if the report is about files.
    job: Option<JobLine<'a>>,
    /// `None` if the report is about a job.
    files: Option<FilesLine>,
    /// The exit, unless everything is done.
    exit: Option<&'a ExitLine>,
    tiles: Vec<Tile>,
    models: Option<ModelsCard<'a>>,
    histograms: Vec<HistogramCard>,
    over_time: Option<TimelineCard>,
    tops: Vec<TopCard<'a>>,
    samples: Vec<SampleCard<'a>>,
    settings: Vec<SettingLine<'a>>,
    failures: Vec<FailureCard<'a>>,
    failed: FailedCard<'a>,
}

impl<'a> PageView<'a> {
    pub(super) fn of(report: &'a ReportDocument) -> Self {
        let ReportDocument { summary, details } = report;
        let histograms = [HistogramCard::latency(summary, details), HistogramCard::lengths(&details.answer_tokens)];
        let tops = [TopCard::of("Slowest answers", &details.slowest), TopCard::of("Dearest rows", &details.dearest)];
        let failures = [FailureCard::of_errors(&summary.errors), FailureCard::of_rules(&details.rules)];
        Self {
            title: title(details),
            job: JobLine::of(summary, details),
            files: FilesLine::of(details),
            exit: Some(&summary.exit).filter(|exit| exit.code != 0),
            tiles: tiles(report),
            models: ModelsCard::of(report),
            histograms: histograms.into_iter().flatten().collect(),
            over_time: details.over_time.as_ref().map(TimelineCard::of),
            tops: tops.into_iter().flatten().collect(),
            samples: SampleCard::all(details),
            settings: SettingLine::all(details),
            failures: failures.into_iter().filter(|card| !card.bars.is_empty()).collect(),
            failed: FailedCard { total: summary.rows.failed, rows: FailedItem::all(&details.failed_rows) },
        }
    }
}

fn title(details: &ReportDetails) -> String {
    match &details.source {
        ReportSource::Job { name: Some(name), input, .. } => format!("{name}, {input}"),
        ReportSource::Job { input, .. } => input.clone(),
        ReportSource::Files { files, .. } => files.join(", "),
    }
}

/// A parameter of the job's requests.
#[derive(Debug, Serialize)]
struct SettingLine<'a> {
    name: &'a str,
    value: String,
}

impl<'a> SettingLine<'a> {
    fn all(details: &'a ReportDetails) -> Vec<Self> {
        let ReportSource::Job { settings, .. } = &details.source else { return Vec::new() };
        let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        settings.iter().map(|(name, of)| SettingLine { name, value: value(of) }).collect()
    }
}

/// The line below the title of a job's report.
#[derive(Debug, Serialize)]
struct JobLine<'a> {
    id: &'a str,
    transport: &'a str,
    state: &'a str,
    begun: String,
}

impl<'a> JobLine<'a> {
    fn of(summary: &'a Summary, details: &'a ReportDetails) -> Option<Self> {
        let ReportSource::Job { created_at, .. } = &details.source else { return None };
        let transport = summary.transport.as_deref().unwrap_or_default();
        let id = summary.job.as_deref().unwrap_or_default();
        Some(Self { id, transport, state: &summary.state, begun: minute(created_at) })
    }
}

/// The line below the title of a report on results files.
#[derive(Debug, Serialize)]
struct FilesLine {
    count: usize,
    batch_price: bool,
}

impl FilesLine {
    fn of(details: &ReportDetails) -> Option<Self> {
        let ReportSource::Files { files, batch_price } = &details.source else { return None };
        Some(Self { count: files.len(), batch_price: *batch_price })
    }
}

/// A table of the slowest or most expensive rows.
#[derive(Debug, Serialize)]
struct TopCard<'a> {
    title: &'static str,
    /// The rows have a time.
    timed: bool,
    rows: Vec<TopItem<'a>>,
}

#[derive(Debug, Serialize)]
struct TopItem<'a> {
    id: &'a str,
    time: String,
    prompt_tokens: u64,
    completion_tokens: u64,
    cost: String,
}

impl<'a> TopCard<'a> {
    fn of(title: &'static str, rows: &'a [TopRow]) -> Option<Self> {
        let item = |row: &'a TopRow| TopItem {
            id: &row.id,
            time: row.latency_ms.map(|ms| text::millis(ms.into())).unwrap_or_default(),
            prompt_tokens: row.prompt_tokens,
            completion_tokens: row.completion_tokens,
            cost: row.usd.map_or_else(|| "unknown".to_owned(), Nanos::human),
        };
        let timed = rows.iter().any(|row| row.latency_ms.is_some());
        (!rows.is_empty()).then(|| Self { title, timed, rows: rows.iter().map(item).collect() })
    }
}

/// Kinds of failures.
#[derive(Debug, Serialize)]
struct FailureCard<'a> {
    title: &'static str,
    /// The names are codes, for which the page has a search.
    linked: bool,
    bars: Vec<FailureBar<'a>>,
}

/// A kind of failure, with a bar as long as its share of the most frequent kind.
#[derive(Debug, Serialize)]
struct FailureBar<'a> {
    name: &'a str,
    count: u64,
    percent: f64,
    example: String,
}

impl<'a> FailureCard<'a> {
    fn of_errors(errors: &'a [ErrorLine]) -> Self {
        let bar = |error: &'a ErrorLine| FailureBar {
            name: error.code.as_str(),
            count: error.count,
            percent: share(error.count, errors.iter().map(|error| error.count)),
            example: error.example.chars().take(EXAMPLE).collect(),
        };
        Self { title: "Errors by code", linked: true, bars: errors.iter().map(bar).collect() }
    }

    fn of_rules(rules: &'a [RuleDetail]) -> Self {
        let bar = |rule: &'a RuleDetail| FailureBar {
            name: &rule.rule,
            count: rule.count,
            percent: share(rule.count, rules.iter().map(|rule| rule.count)),
            example: format!("{}: {}", rule.example.id, rule.example.shown_answer()),
        };
        Self { title: "Broken rules", linked: false, bars: rules.iter().map(bar).collect() }
    }
}

/// The percentage that `count` is of the largest.
fn share(count: u64, all: impl Iterator<Item = u64>) -> f64 {
    hundredths(count as f64 * 100.0 / all.max().unwrap_or(1).max(1) as f64)
}

/// The sample of failed rows.
#[derive(Debug, Serialize)]
struct FailedCard<'a> {
    /// All failed rows of the report, whether they are shown or not.
    total: u64,
    rows: Vec<FailedItem<'a>>,
}

#[derive(Debug, Serialize)]
struct FailedItem<'a> {
    id: &'a str,
    code: ErrorCode,
    /// The row is the first with its code: links from the list of errors lead to it.
    first: bool,
    status: Option<u16>,
    message: &'a str,
    prompt: Option<&'a str>,
    answer: Option<&'a str>,
}

impl<'a> FailedItem<'a> {
    fn all(rows: &'a [FailedRow]) -> Vec<Self> {
        let previous = [None].into_iter().chain(rows.iter().map(|row| Some(row.code)));
        let item = |(row, previous): (&'a FailedRow, Option<ErrorCode>)| Self {
            id: &row.id,
            code: row.code,
            first: previous != Some(row.code),
            status: row.status,
            message: &row.message,
            prompt: row.prompt.as_deref(),
            answer: row.answer.as_deref().filter(|answer| !repeats(answer, row)),
        };
        rows.iter().zip(previous).map(item).collect()
    }
}

/// Returns true if an error's body repeats the message above it, as most do.
fn repeats(body: &str, row: &FailedRow) -> bool {
    let status = row.status.map(|status| format!("HTTP {status}: ")).unwrap_or_default();
    let message = row.message.strip_prefix(&status).unwrap_or(&row.message);
    !message.is_empty() && body.contains(message)
}
