//! Rows that a report shows one by one: a few of each kind, chosen the same way every time.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::outcome::ErrorCode;
use crate::price::Nanos;

/// Rows in a list of the slowest or the dearest.
const TOP: usize = 5;
/// Failed rows that are shown, of all codes together.
const FAILED: usize = 300;
/// Characters of any text from outside.
const START: usize = 300;

/// A row that stands out by its time or its price.
#[derive(Debug, Clone, Serialize)]
pub struct TopRow {
    /// 1-based over all inputs; of a results file, over its lines.
    pub row: u64,
    /// Its id.
    pub id: String,
    /// The model asked for.
    pub model: String,
    /// `None`: not known.
    pub latency_ms: Option<u32>,
    /// Prompt and completion, thrown away ones included.
    pub tokens: u64,
    /// `None`: not known.
    pub usd: Option<Nanos>,
}

/// An answer that was cut off.
#[derive(Debug, Clone, Serialize)]
pub struct TruncatedRow {
    /// Its id.
    pub id: String,
    /// The model asked for.
    pub model: String,
    /// Where it was cut.
    pub completion_tokens: u64,
    /// How it begins.
    pub answer: String,
}

/// A row without an answer.
#[derive(Debug, Clone, Serialize)]
pub struct FailedRow {
    /// Its id.
    pub id: String,
    /// As in the results.
    pub code: ErrorCode,
    /// HTTP status of the last response.
    pub status: Option<u16>,
    /// Why, or how the reason begins.
    pub message: String,
    /// How what came in place of an answer begins.
    pub answer: Option<String>,
}

/// The rows with the greatest values; of equal ones the first.
#[derive(Debug, Default)]
pub(super) struct Top(Vec<(i128, u64, TopRow)>);

impl Top {
    pub(super) fn offer(&mut self, value: i128, row: u64, make: impl FnOnce() -> TopRow) {
        let before =
            |other: &(i128, u64, TopRow)| (other.0, std::cmp::Reverse(other.1)) > (value, std::cmp::Reverse(row));
        let place = self.0.partition_point(before);
        if place < TOP {
            self.0.truncate(TOP - 1);
            self.0.insert(place, (value, row, make()));
        }
    }

    pub(super) fn rows(&self) -> Vec<TopRow> {
        self.0.iter().map(|(_, _, row)| row.clone()).collect()
    }
}

/// The first failed rows of each code.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<ErrorCode, Vec<FailedRow>>);

impl Failures {
    pub(super) fn add(&mut self, code: ErrorCode, make: impl FnOnce() -> FailedRow) {
        let rows = self.0.entry(code).or_default();
        if rows.len() < FAILED {
            rows.push(make());
        }
    }

    /// Up to [`FAILED`] of them, code by code: rare codes are shown in full before frequent ones take the rest.
    pub(super) fn sample(&self) -> Vec<FailedRow> {
        let mut sizes: Vec<usize> = self.0.values().map(Vec::len).collect();
        sizes.sort_unstable();
        let (mut room, mut each) = (FAILED, FAILED);
        for (i, size) in sizes.iter().enumerate() {
            each = room / (sizes.len() - i);
            if *size > each {
                // The others are no smaller: all get the same.
                break;
            }
            (room, each) = (room - size, FAILED);
        }
        self.0.values().flat_map(|rows| rows.iter().take(each)).cloned().collect()
    }
}

/// The text, or its beginning and an ellipsis.
pub(super) fn start_of(text: &str) -> String {
    match text.char_indices().nth(START) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
