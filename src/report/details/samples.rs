//! Rows that a report shows one by one: a few of each kind, chosen the same way every time.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::outcome::{ErrorCode, Outcome, RowError};
use crate::price::Nanos;

/// Rows in a list of the slowest or most expensive.
const TOP: usize = 5;
/// Failed rows that are shown, of all codes together.
const FAILED: usize = 300;
/// Truncated answers that are shown. All are counted.
const TRUNCATED: usize = 20;
/// Characters that are kept of a text from outside.
const START: usize = 300;

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
    pub rows: Vec<TruncatedRow>,
}

/// An answer that was cut off.
#[derive(Debug, Clone, Serialize)]
pub struct TruncatedRow {
    /// The row's id.
    pub id: String,
    /// The model that the row asked for.
    pub model: String,
    /// The length at which the answer was cut.
    pub completion_tokens: u64,
    /// The beginning of the answer.
    pub answer: String,
}

impl Truncated {
    pub(super) fn add(&mut self, outcome: &Outcome, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.rows.len() < TRUNCATED {
            self.rows.push(TruncatedRow {
                id: start_of(&outcome.id),
                model: outcome.model.to_string(),
                completion_tokens: outcome.usage.unwrap_or_default().completion,
                answer: start_of(&text()),
            });
        }
    }
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
    /// The beginning of the text that came in place of an answer.
    pub answer: Option<String>,
}

/// The first failed rows of each code.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<ErrorCode, Vec<FailedRow>>);

impl Failures {
    pub(super) fn add(&mut self, outcome: &Outcome, error: &RowError, text: impl FnOnce() -> String) {
        let rows = self.0.entry(error.code).or_default();
        if rows.len() < FAILED {
            rows.push(FailedRow {
                id: start_of(&outcome.id),
                code: error.code,
                status: outcome.status,
                message: start_of(&error.message),
                answer: Some(start_of(&text())).filter(|text| !text.is_empty()),
            });
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
fn start_of(text: &str) -> String {
    match text.char_indices().nth(START) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
