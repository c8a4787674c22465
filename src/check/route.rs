//! The division of models between batches and realtime with `--via auto`.

use crate::price::{BatchTerms, PriceEntry};
use crate::text;

/// The way of a model's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// In batches; otherwise in real time.
    pub batch: bool,
    /// The reason, for people.
    pub why: String,
}

impl Route {
    /// Decides for a model with this price entry.
    pub fn of(entry: Option<&PriceEntry>) -> Self {
        let why = match entry.map_or(BatchTerms::Unknown, |entry| entry.batch) {
            BatchTerms::Discounted => {
                let percent = entry.map_or_else(String::new, |entry| entry.discount.percent());
                format!("a batch saves {percent}")
            }
            BatchTerms::Refused => "the batch API refuses this model".to_owned(),
            BatchTerms::FullPrice => "a batch would cost the same".to_owned(),
            BatchTerms::Unknown => "no batch discount is known".to_owned(),
        };
        Self { batch: saves(entry), why }
    }

    /// The word for the way: `batch` or `realtime`.
    pub const fn via(&self) -> &'static str {
        if self.batch { "batch" } else { "realtime" }
    }

    /// A sentence: `org/model: 4 rows in batches: a batch saves 50%`.
    pub fn line(&self, model: &str, rows: u64) -> String {
        let how = if self.batch { "in batches" } else { "in real time" };
        format!("{model}: {} {how}: {}", text::plural(rows, "row"), self.why)
    }
}

/// Tests whether a batch serves the model for less.
pub fn saves(entry: Option<&PriceEntry>) -> bool {
    entry.is_some_and(|entry| entry.batch == BatchTerms::Discounted)
}
