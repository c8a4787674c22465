//! The division of models between batches and realtime with `--via auto`.

use crate::price::{Batch, Entry};
use crate::text;

/// The way of a model's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// In batches; otherwise at realtime.
    pub batch: bool,
    /// The reason, for people.
    pub why: String,
}

impl Route {
    /// Decides for a model with this price entry.
    pub fn of(entry: Option<&Entry>) -> Self {
        let why = match entry.map_or(Batch::Unknown, |entry| entry.batch) {
            Batch::Discounted => {
                let percent = entry.map_or_else(String::new, |entry| entry.discount.percent());
                format!("a batch saves {percent}")
            }
            Batch::Refused => "the batch API refuses this model".to_owned(),
            Batch::FullPrice => "a batch would cost the same".to_owned(),
            Batch::Unknown => "no batch discount is known".to_owned(),
        };
        Self { batch: saves(entry), why }
    }

    /// The word for the way: `batch` or `realtime`.
    pub const fn via(&self) -> &'static str {
        if self.batch { "batch" } else { "realtime" }
    }

    /// A sentence: `org/model: 4 rows in batches: a batch saves 50%`.
    pub fn line(&self, model: &str, rows: u64) -> String {
        let how = if self.batch { "in batches" } else { "at realtime" };
        format!("{model}: {} {how}: {}", text::plural(rows, "row"), self.why)
    }
}

/// Tests whether a batch serves the model for less.
pub fn saves(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| entry.batch == Batch::Discounted)
}
