//! Lists of sample answers.

use serde::Serialize;

use crate::report::details::{AnswerSample, ReportDetails, Truncated};
use crate::text;

/// A list of sample answers.
#[derive(Debug, Serialize)]
pub(super) struct SampleCard<'a> {
    /// The anchor of its section.
    id: &'static str,
    title: &'static str,
    note: Option<String>,
    rows: &'a [AnswerSample],
}

impl<'a> SampleCard<'a> {
    /// Returns the lists that have an answer.
    pub(super) fn all(details: &'a ReportDetails) -> Vec<Self> {
        [Self::truncated(&details.truncated), Self::good(&details.good_rows)].into_iter().flatten().collect()
    }

    fn truncated(Truncated { count, rows }: &'a Truncated) -> Option<Self> {
        let shown = rows.len() as u64;
        let first = if *count > shown { format!(". The first {}", text::count(shown)) } else { String::new() };
        let answers = text::plural(*count, "answer");
        let note = format!("{answers} ended with finish_reason length: a larger max_tokens lets them end{first}.");
        (*count > 0).then_some(Self { id: "truncated", title: "Answers that were cut off", note: Some(note), rows })
    }

    fn good(rows: &'a [AnswerSample]) -> Option<Self> {
        let title = if rows.len() == 10 { "Ten good answers chosen by chance" } else { "The good answers" };
        (!rows.is_empty()).then_some(Self { id: "good", title, note: None, rows })
    }
}
