//! What a report says beyond the summary: money by model at both prices, truncated answers, the slowest and the dearest
//! rows, answers over time, a sample of failed rows. Memory does not grow with the rows.

mod document;
mod samples;
mod text;
mod timeline;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use document::{Detail, ModelDetail, Report, Source, Tokens, Truncated};
pub use samples::{FailedRow, TopRow, TruncatedRow};
use samples::{Failures, Top, start_of};
pub use timeline::OverTime;
use timeline::Timeline;

use crate::outcome::{Outcome, Usage};
use crate::price::Nanos;
use crate::summary::{Charge, Histogram, Sum};

/// Truncated answers that are listed; all are counted.
const TRUNCATED: usize = 20;

/// What a body says that an outcome does not keep.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said {
    /// The answer ended because `max_tokens` or the context did (`finish_reason: length`).
    pub truncated: bool,
    /// When the service says that it made the answer, in seconds since 1970.
    pub created: Option<i64>,
}

#[derive(Debug, Default)]
struct ModelMoney {
    answered: u64,
    failed: u64,
    truncated: u64,
    usage: Usage,
    list: Sum,
    paid: Sum,
    at_risk: Sum,
    unpriced: bool,
}

/// The fold of a job's outcomes, or of a results file.
#[derive(Debug, Default)]
pub struct Details {
    models: BTreeMap<Arc<str>, ModelMoney>,
    latency: Histogram,
    /// Of answers, in tokens.
    lengths: Histogram,
    /// Of single answers, in tenths of a token a second.
    speeds: Histogram,
    timeline: Timeline,
    truncated: u64,
    truncated_rows: Vec<TruncatedRow>,
    slowest: Top,
    dearest: Top,
    failures: Failures,
    /// Tokens of answers that were kept.
    completion: u64,
}

impl Details {
    /// Counts one row; rows come in the order of the input. `text` gives the beginning of its answer, or of whatever came
    /// in its place, if it is wanted.
    pub fn add(&mut self, outcome: &Outcome, charge: &Charge, said: Said, text: impl FnOnce() -> String) {
        let truncated = outcome.ok() && said.truncated;
        let mut usage = outcome.usage.unwrap_or_default();
        let answer = usage.completion;
        usage += outcome.wasted;
        let total = charge.total();
        self.model(outcome, usage, charge, truncated);

        let row = |latency_ms| TopRow {
            row: outcome.row,
            id: start_of(&outcome.id),
            model: outcome.model.to_string(),
            latency_ms,
            tokens: usage.prompt + usage.completion,
            usd: total,
        };
        // Nobody knows when a batch began to work on a row, and a results file does not say.
        let timed = outcome.batch.is_none() && outcome.attempts > 0;
        if let Some(total) = total.filter(|total| *total > Nanos::ZERO) {
            self.dearest.offer(total.0, outcome.row, || row(timed.then_some(outcome.latency_ms)));
        }
        if outcome.ok() {
            self.completion += answer;
            if outcome.usage.is_some() {
                self.lengths.add(u32::try_from(answer).unwrap_or(u32::MAX));
            }
            if let Some(created) = said.created {
                self.timeline.add(created);
            }
            if timed {
                self.latency.add(outcome.latency_ms);
                self.slowest.offer(outcome.latency_ms.into(), outcome.row, || row(Some(outcome.latency_ms)));
                if let Some(speed) = (answer * 10_000).checked_div(outcome.latency_ms.into()).filter(|_| answer > 0) {
                    self.speeds.add(u32::try_from(speed).unwrap_or(u32::MAX));
                }
            }
        }
        if truncated {
            self.truncated += 1;
            if self.truncated_rows.len() < TRUNCATED {
                self.truncated_rows.push(TruncatedRow {
                    id: start_of(&outcome.id),
                    model: outcome.model.to_string(),
                    completion_tokens: answer,
                    answer: start_of(&text()),
                });
            }
        } else if let Some(error) = &outcome.error {
            self.failures.add(error.code, || FailedRow {
                id: start_of(&outcome.id),
                code: error.code,
                status: outcome.status,
                message: start_of(&error.message),
                answer: Some(start_of(&text())).filter(|text| !text.is_empty()),
            });
        }
    }

    fn model(&mut self, outcome: &Outcome, usage: Usage, charge: &Charge, truncated: bool) {
        // A row that names no model was never sent, or its file does not say to whom.
        if outcome.model.is_empty() {
            return;
        }
        let model = match self.models.get_mut(&outcome.model) {
            Some(model) => model,
            None => self.models.entry(Arc::clone(&outcome.model)).or_default(),
        };
        model.answered += u64::from(outcome.ok());
        model.failed += u64::from(!outcome.ok());
        model.truncated += u64::from(truncated);
        model.usage += usage;
        model.paid.add(charge.paid);
        model.paid.add(charge.wasted);
        // As in the summary: unknown on one side is left out of both.
        model.list.add(charge.paid.and(charge.list));
        model.list.add(charge.wasted);
        model.at_risk.add(charge.at_risk);
        model.unpriced |= !charge.priced && charge.total().is_none();
    }

    /// Counts money spent on outcomes that no longer stand for a row, as [`super::Totals::spent`] does.
    pub fn spent(&mut self, model: &str, usage: Usage, paid: Option<Nanos>, at_risk: Option<Nanos>) {
        let model = self.models.entry(Arc::from(model)).or_default();
        model.usage += usage;
        model.paid.add(paid);
        model.list.add(paid);
        model.at_risk.add(at_risk);
        model.unpriced |= paid.is_none();
    }
}

#[cfg(test)]
mod tests;
