//! Rows that a report shows one by one: a few of each kind, chosen the same way every time.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::outcome::{ErrorCode, Fingerprint, Outcome, RowError};
use crate::pack::packed;
use crate::price::Nanos;

/// Rows in a list of the slowest or most expensive.
const TOP: usize = 5;
/// Failed rows that are shown, of all codes together.
const FAILED: usize = 300;
/// Truncated answers that are shown. All are counted.
const TRUNCATED: usize = 20;
/// Characters that are kept of a text from outside.
const START: usize = 300;

/// Good answers that are shown.
const GOOD: usize = 10;

/// A row of the input, to find its prompt.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowKey {
    /// 1-based over all inputs.
    pub row: u64,
    /// The fingerprint of its request.
    pub fingerprint: Fingerprint,
}

packed!(RowKey { row, fingerprint });
packed!(TopRow { row, id, model, latency_ms, tokens, prompt_tokens, completion_tokens, usd });
packed!(Top(rows));
packed!(Ranked { value, row });
packed!(Truncated { count, rows });
packed!(AnswerSample { id, model, completion_tokens, prompt, answer, key });
packed!(AnswerSamples(by_place));
packed!(FailedRow { id, code, status, message, prompt, answer, key });
packed!(Failures(by_code));

impl RowKey {
    const fn of(outcome: &Outcome) -> Self {
        Self { row: outcome.row, fingerprint: outcome.fingerprint }
    }
}

/// A row that stands out by its time or its price.
#[derive(Debug, Clone, Serialize)]
pub struct TopRow {
    /// 1-based over all inputs, or over all lines of the results files.
    pub row: u64,
    /// The row's id.
    pub id: String,
    /// The model that the row asked for.
    pub model: String,
    /// `None`: unknown.
    pub latency_ms: Option<u32>,
    /// Prompt and completion, those of discarded responses included.
    pub tokens: u64,
    /// The prompt's part of `tokens`.
    pub prompt_tokens: u64,
    /// The answer's part of `tokens`.
    pub completion_tokens: u64,
    /// `None`: unknown.
    pub usd: Option<Nanos>,
}

impl TopRow {
    pub(super) fn of(outcome: &Outcome, latency_ms: Option<u32>, usd: Option<Nanos>) -> Self {
        let mut usage = outcome.usage.unwrap_or_default();
        usage += outcome.wasted;
        Self {
            row: outcome.row,
            id: start_of(&outcome.id),
            model: outcome.model.to_string(),
            latency_ms,
            tokens: usage.total(),
            prompt_tokens: usage.prompt,
            completion_tokens: usage.completion,
            usd,
        }
    }
}

/// The rows with the greatest values, the earlier row first among equals.
#[derive(Debug, Default)]
pub(super) struct Top(Vec<Ranked>);

#[derive(Debug)]
struct Ranked {
    value: i128,
    row: TopRow,
}

impl Top {
    pub(super) fn offer(&mut self, value: i128, row: u64, make: impl FnOnce() -> TopRow) {
        let place = self.0.partition_point(|kept| (kept.value, Reverse(kept.row.row)) > (value, Reverse(row)));
        if place < TOP {
            self.0.truncate(TOP - 1);
            self.0.insert(place, Ranked { value, row: make() });
        }
    }

    pub(super) fn into_rows(self) -> Vec<TopRow> {
        self.0.into_iter().map(|ranked| ranked.row).collect()
    }
}

/// Answers with `finish_reason: length`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Truncated {
    /// The number of all of them.
    pub count: u64,
    /// The first of them.
    pub rows: Vec<AnswerSample>,
}

impl Truncated {
    pub(super) fn add(&mut self, outcome: &Outcome, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.rows.len() < TRUNCATED {
            self.rows.push(AnswerSample::of(outcome, &text()));
        }
    }
}

/// The beginning of an answer, as the report shows it.
#[derive(Debug, Clone, Serialize)]
pub struct AnswerSample {
    /// The row's id.
    pub id: String,
    /// The model that the row asked for.
    pub model: String,
    /// The length of the answer.
    pub completion_tokens: u64,
    /// The beginning of the prompt, if the input still has it.
    pub prompt: Option<String>,
    /// The beginning of the answer.
    pub answer: String,
    #[serde(skip)]
    pub(super) key: RowKey,
}

impl AnswerSample {
    fn of(outcome: &Outcome, text: &str) -> Self {
        Self {
            id: start_of(&outcome.id),
            model: outcome.model.to_string(),
            completion_tokens: outcome.usage.unwrap_or_default().completion,
            prompt: None,
            answer: start_of(text),
            key: RowKey::of(outcome),
        }
    }
}

/// A few good answers, spread over the input by chance. The same rows give the same choice.
#[derive(Debug, Default)]
pub(super) struct AnswerSamples(BTreeMap<u64, AnswerSample>);

impl AnswerSamples {
    pub(super) fn offer(&mut self, outcome: &Outcome, text: impl FnOnce() -> String) {
        let place = scatter(outcome.row);
        if self.0.len() >= GOOD && self.0.last_key_value().is_some_and(|(last, _)| *last < place) {
            return;
        }
        self.0.insert(place, AnswerSample::of(outcome, &text()));
        if self.0.len() > GOOD {
            self.0.pop_last();
        }
    }

    /// The rows in input order.
    pub(super) fn into_rows(self) -> Vec<AnswerSample> {
        let mut rows: Vec<AnswerSample> = self.0.into_values().collect();
        rows.sort_by_key(|row| row.key.row);
        rows
    }
}

/// Maps row numbers to numbers without any order, each to another one (the last step of `SplitMix64`).
const fn scatter(row: u64) -> u64 {
    let mut n = row.wrapping_add(0x9e37_79b9_7f4a_7c15);
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A row without an answer.
#[derive(Debug, Clone, Serialize)]
pub struct FailedRow {
    /// The row's id.
    pub id: String,
    /// The code, as in the results.
    pub code: ErrorCode,
    /// HTTP status of the last response.
    pub status: Option<u16>,
    /// The beginning of the error message.
    pub message: String,
    /// The beginning of the prompt, if the input still has it.
    pub prompt: Option<String>,
    /// The beginning of the text that came in place of an answer.
    pub answer: Option<String>,
    #[serde(skip)]
    pub(super) key: RowKey,
}

impl FailedRow {
    pub(super) fn of(outcome: &Outcome, error: &RowError, text: impl FnOnce() -> String) -> Self {
        Self {
            id: start_of(&outcome.id),
            code: error.code,
            status: outcome.status,
            message: start_of(&error.message),
            prompt: None,
            answer: Some(start_of(&text())).filter(|text| !text.is_empty()),
            key: RowKey::of(outcome),
        }
    }

    /// The beginning of the answer, or the error message where none came.
    pub fn shown_answer(&self) -> &str {
        self.answer.as_deref().unwrap_or(&self.message)
    }
}

/// The first failed rows of each code.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<ErrorCode, Vec<FailedRow>>);

impl Failures {
    pub(super) fn add(&mut self, outcome: &Outcome, error: &RowError, text: impl FnOnce() -> String) {
        let rows = self.0.entry(error.code).or_default();
        if rows.len() < FAILED {
            rows.push(FailedRow::of(outcome, error, text));
        }
    }

    /// Up to [`FAILED`] rows, code by code. Rare codes are shown in full before frequent ones share the rest.
    pub(super) fn into_sample(self) -> Vec<FailedRow> {
        let mut sizes: Vec<usize> = self.0.values().map(Vec::len).collect();
        sizes.sort_unstable();
        let (mut room, mut each) = (FAILED, FAILED);
        for (i, size) in sizes.iter().enumerate() {
            each = room / (sizes.len() - i);
            if *size > each {
                // The other codes have at least as many rows: all get the same share.
                break;
            }
            (room, each) = (room - size, FAILED);
        }
        self.0.into_values().flat_map(|rows| rows.into_iter().take(each)).collect()
    }
}

/// The text, or its beginning and an ellipsis.
pub(super) fn start_of(text: &str) -> String {
    match text.char_indices().nth(START) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
