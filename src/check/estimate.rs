//! What a pass over all rows adds up to: tokens, the bound of the answers, batches, by model.

use std::collections::HashMap;
use std::sync::Arc;

use crate::price::Table;
use crate::request::batch_line::{self, Limits};
use crate::request::{Draft, Endpoint};
use crate::tokens::{self, Estimator};

/// Text that is counted in full; of larger inputs rows are picked by chance, and the others scaled by their bytes. That
/// took the sum of no model further off than 1.1% where a million rows (`tests/bench/check.sh`: prose, code, JSON, ten other
/// languages, three models) were counted in full beside it. Counting all of 1 GB would take 10 s.
const COUNTED: u64 = 16 << 20;

/// What is seen of one row, on the thread that parsed it.
#[derive(Debug)]
pub struct Sight {
    body: u64,
    line: u64,
    max_tokens: Option<u64>,
    tokens: Option<u64>,
    /// Prompt and answer may be more than the model reads.
    tight: bool,
    bound: u64,
}

/// Looks at rows; shared by threads.
#[derive(Debug)]
pub struct Looker<'a> {
    /// One row of so many is counted.
    every: u64,
    estimator: &'a Estimator,
    /// For what models read.
    table: &'a Table,
}

impl<'a> Looker<'a> {
    /// For an input of about `bytes`.
    pub fn new(bytes: u64, estimator: &'a Estimator, table: &'a Table) -> Self {
        Self { every: bytes.div_ceil(COUNTED).max(1), estimator, table }
    }

    /// Whether prompt and answer may be more than the model reads: an estimate may be a tenth too low.
    fn is_tight(&self, draft: &Draft<'_>, counted: Option<u64>) -> bool {
        let answer = draft.max_tokens.unwrap_or(0);
        let most = tokens::bound(&draft.body).saturating_add(answer);
        if most <= super::scan::SHORT || draft.body.len() > super::scan::COUNTABLE {
            return false;
        }
        let Some(context) = self.table.get(&draft.model).and_then(|entry| entry.context) else { return false };
        if most <= context {
            return false;
        }
        let prompt = counted.unwrap_or_else(|| self.estimator.request(&draft.body, draft.endpoint == Endpoint::Chat));
        prompt + prompt / 10 + answer > context
    }

    /// What a row is like.
    pub fn look(&self, draft: &Draft<'_>) -> Sight {
        // Picked by a hash of the row: models that take turns must not fall between the picks.
        let picked = draft.row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let counted = picked
            .is_multiple_of(self.every)
            .then(|| self.estimator.request(&draft.body, draft.endpoint == Endpoint::Chat));
        Sight {
            body: draft.body.len() as u64,
            line: batch_line::length(draft),
            max_tokens: draft.answer_bound(),
            tokens: counted,
            tight: self.is_tight(draft, counted),
            bound: tokens::bound(&draft.body),
        }
    }
}

/// One model's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelEstimate {
    /// Good rows.
    pub rows: u64,
    /// Of their bodies.
    pub bytes: u64,
    counted_bytes: u64,
    counted_tokens: u64,
    /// The sum of the bounds that rows set on their answers.
    pub max_tokens: u64,
    /// Rows that set none.
    pub unbounded: u64,
    /// Rows that may be more than the model reads.
    pub tight: u64,
    /// What budgets take the prompts' tokens for ([`tokens::bound`]).
    pub bound: u64,
    /// Batches that are full.
    full: u64,
    batch_rows: u64,
    batch_bytes: u64,
}

impl ModelEstimate {
    /// Tokens of all prompts, estimated.
    pub fn prompt_tokens(&self) -> u64 {
        if self.counted_bytes == 0 {
            return crate::tokens::estimate_bytes(self.bytes);
        }
        let exact = u128::from(self.counted_tokens) * u128::from(self.bytes) / u128::from(self.counted_bytes);
        u64::try_from(exact).unwrap_or(u64::MAX)
    }

    /// The most that all answers may come to, if a row without a bound is answered with up to `limit` tokens. `None`: there
    /// are such rows, and no limit is known.
    pub fn completion_max(&self, limit: Option<u64>) -> Option<u64> {
        if self.unbounded == 0 {
            return Some(self.max_tokens);
        }
        limit.map(|limit| self.max_tokens.saturating_add(self.unbounded.saturating_mul(limit)))
    }

    /// Batches that its rows make.
    pub const fn batches(&self) -> u64 {
        self.full + (self.batch_rows > 0) as u64
    }
}

/// All models' rows, in the order in which they first came.
#[derive(Debug, Default)]
pub struct Estimate {
    models: Vec<(Arc<str>, ModelEstimate)>,
    at: HashMap<Arc<str>, usize>,
}

impl Estimate {
    /// Adds a row.
    pub fn add(&mut self, model: &Arc<str>, sight: &Sight, limits: Limits) {
        /// Models that are told apart by where their names are; more are looked up.
        const FEW: usize = 8;
        let same = |(known, _): &(Arc<str>, ModelEstimate)| Arc::ptr_eq(known, model);
        let at = self.models.iter().take(FEW).position(same).unwrap_or_else(|| {
            *self.at.entry(Arc::clone(model)).or_insert_with(|| {
                self.models.push((Arc::clone(model), ModelEstimate::default()));
                self.models.len() - 1
            })
        });
        let Some((_, model)) = self.models.get_mut(at) else { return };
        model.rows += 1;
        model.bytes += sight.body;
        model.tight += u64::from(sight.tight);
        model.bound += sight.bound;
        if let Some(tokens) = sight.tokens {
            model.counted_bytes += sight.body;
            model.counted_tokens += tokens;
        }
        match sight.max_tokens {
            Some(tokens) => model.max_tokens = model.max_tokens.saturating_add(tokens),
            None => model.unbounded += 1,
        }
        if model.batch_rows + 1 > limits.rows || model.batch_bytes + sight.line > limits.bytes {
            model.full += u64::from(model.batch_rows > 0);
            (model.batch_rows, model.batch_bytes) = (0, 0);
        }
        model.batch_rows += 1;
        model.batch_bytes += sight.line;
    }

    /// By model, most rows first.
    pub fn models(mut self) -> Vec<(Arc<str>, ModelEstimate)> {
        self.models.sort_by(|a, b| b.1.rows.cmp(&a.1.rows).then_with(|| a.0.cmp(&b.0)));
        self.models
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(body: u64, max_tokens: Option<u64>, tokens: Option<u64>) -> Sight {
        Sight { body, line: body + 40, max_tokens, tokens, tight: false, bound: body.div_ceil(2) }
    }

    #[test]
    fn rows_that_were_not_counted_are_scaled_by_their_bytes() {
        let mut sum = Estimate::default();
        let limits = Limits { rows: 2, bytes: 1000 };
        for (model, row) in [
            ("a", sight(100, Some(10), Some(25))),
            ("a", sight(300, None, None)),
            ("a", sight(400, Some(5), Some(125))),
            ("b", sight(900, Some(1), None)),
        ] {
            // Names that are not shared, as beyond the first thousands, are still one model.
            sum.add(&model.into(), &row, limits);
        }
        let models = sum.models();
        let (name, a) = &models[0];
        assert_eq!((&**name, a.rows, a.bytes), ("a", 3, 800));
        // 150 tokens in 500 counted bytes.
        assert_eq!(a.prompt_tokens(), 240);
        assert_eq!(a.completion_max(Some(1000)), Some(1015));
        assert_eq!(a.completion_max(None), None);
        assert_eq!(a.batches(), 2);
        assert_eq!((models[1].1.completion_max(None), models[1].1.batches()), (Some(1), 1));
    }

    #[test]
    fn no_period_of_the_input_falls_between_the_picks() {
        let looker = Looker { every: 32, estimator: Estimator::shared(), table: &Table::builtin() };
        for period in [2_u64, 3, 16, 32, 64] {
            let picked = (0..100_000_u64)
                .map(|row| (row * period).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)
                .filter(|picked| picked.is_multiple_of(32))
                .count();
            assert!((2_500..3_800).contains(&picked), "one in {} of every {period}th row: {picked}", looker.every);
        }
    }
}
