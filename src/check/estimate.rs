//! Sums over all rows, by model: tokens, the bound of the answers, batches.

use std::collections::HashMap;
use std::sync::Arc;

use super::context_length::is_near_limit;
use super::pass::{Checked, Inspected, Pass};
use crate::error::Result;
use crate::outcome::Usage;
use crate::price::PriceTable;
use crate::request::batch_line::{self, BatchFileForm};
use crate::request::{Draft, Endpoint};
use crate::row_set::RowSet;
use crate::tokens::{self, Estimator};

/// Bytes of an input that is counted in full. Of a larger input, rows are picked by a hash, and the others are scaled
/// by their bytes. In a million rows (`tests/bench/check.sh`: prose, code, JSON, ten other languages, three models)
/// every model's sum was within 1.1% of a full count. Counting all of 1 GB would take 10 s.
const COUNTED: u64 = 16 << 20;

/// Figures of one row, made on the thread that parsed it.
#[derive(Debug)]
pub struct RowStats {
    /// Bytes of its body without those of its images.
    body: u64,
    /// Usual tokens of its images.
    image_tokens: u64,
    /// The most tokens of its images.
    image_bound: u64,
    /// Bytes of its line in a batch file.
    line: u64,
    max_tokens: Option<u64>,
    /// Estimated prompt tokens; `None`: the row was not picked.
    tokens: Option<u64>,
    /// Prompt and answer may be more than the model reads.
    near_limit: bool,
    /// Bound on the prompt's tokens ([`tokens::bound`]).
    bound: u64,
    /// A part of it has no known bound.
    open_part: bool,
}

impl RowStats {
    /// The bounds on the tokens of the request, and of the answer (0: no bound is set).
    pub fn reserve(&self) -> Usage {
        Usage::new(self.bound, self.max_tokens.map_or(0, |bound| bound.max(1)))
    }
}

/// Makes the figures of rows; threads share it.
#[derive(Debug)]
pub struct RowInspector<'a> {
    /// llbatch counts one row of this many.
    every: u64,
    estimator: &'a Estimator,
    /// Context lengths of the models.
    table: &'a PriceTable,
    /// The batch files that the rows would go to.
    form: BatchFileForm,
}

impl<'a> RowInspector<'a> {
    /// For an input of about `bytes`.
    pub fn new(bytes: u64, estimator: &'a Estimator, table: &'a PriceTable) -> Self {
        Self { every: bytes.div_ceil(COUNTED).max(1), estimator, table, form: BatchFileForm::default() }
    }

    /// For batch files of this form.
    pub fn for_files(self, form: BatchFileForm) -> Self {
        Self { form, ..self }
    }

    /// The batch files that the rows would go to.
    pub(super) const fn form(&self) -> BatchFileForm {
        self.form
    }

    /// Makes the figures of a row.
    pub fn inspect(&self, draft: &Draft<'_>) -> RowStats {
        let counted = is_picked(draft.row, self.every)
            .then(|| self.estimator.request(&draft.body, draft.endpoint == Endpoint::Chat));
        let media = draft.media();
        let image = self.table.image_tokens(&draft.model);
        RowStats {
            body: draft.body.len() as u64 - media.bytes,
            image_tokens: media.usual_tokens(image),
            image_bound: media.most_tokens(image),
            line: batch_line::length(draft, self.form),
            max_tokens: draft.answer_bound(),
            tokens: counted,
            near_limit: is_near_limit(draft, self.table, self.estimator, counted),
            bound: tokens::bound(&draft.body, media, image) + tokens::bound_bytes(draft.repeated()),
            open_part: media.unbounded.is_some(),
        }
    }
}

/// Picks one row of `every` rows by a hash of its number, so that alternating models are all sampled.
const fn is_picked(row: u64, every: u64) -> bool {
    (row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).is_multiple_of(every)
}

/// One model's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelEstimate {
    /// Good rows.
    pub rows: u64,
    /// Size of their bodies without images.
    pub bytes: u64,
    /// Usual tokens of its images, which are estimated apart from text.
    pub image_tokens: u64,
    /// The most tokens of its images.
    pub image_bound: u64,
    counted_bytes: u64,
    counted_tokens: u64,
    /// The sum of the bounds that rows set on their answers.
    pub max_tokens: u64,
    /// Rows that set no bound.
    pub unbounded: u64,
    /// Rows that may be longer than the model reads.
    pub near_limit: u64,
    /// Prompt tokens as budgets count them ([`tokens::bound`]).
    pub bound: u64,
    /// A part of a row has no known bound.
    pub open_part: bool,
    /// Batches that are full.
    full: u64,
    batch_rows: u64,
    batch_bytes: u64,
}

impl ModelEstimate {
    /// Estimated tokens of the text of all prompts.
    pub fn prompt_tokens(&self) -> u64 {
        if self.counted_bytes == 0 {
            return crate::tokens::estimate_bytes(self.bytes);
        }
        let exact = u128::from(self.counted_tokens) * u128::from(self.bytes) / u128::from(self.counted_bytes);
        u64::try_from(exact).unwrap_or(u64::MAX)
    }

    /// Most tokens of all answers, if a row without a bound gets up to `limit`. `None`: there are such rows, and no limit
    /// is known.
    pub fn completion_max(&self, limit: Option<u64>) -> Option<u64> {
        if self.unbounded == 0 {
            return Some(self.max_tokens);
        }
        limit.map(|limit| self.max_tokens.saturating_add(self.unbounded.saturating_mul(limit)))
    }

    /// Number of batches that its rows make.
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

/// Good rows of an input, summed up.
#[derive(Debug)]
pub struct SummedRows {
    /// The findings of the pass over all rows.
    pub checked: Checked,
    /// The sums of the good rows that were wanted.
    pub estimate: Estimate,
    /// Those rows.
    pub rows: RowSet,
}

impl SummedRows {
    /// Checks all rows of `pass`, and sums up the good ones that are `wanted`. A row whose id an earlier row has taken is
    /// bad; if there is one, the sums need a second pass.
    ///
    /// # Errors
    /// As [`Pass::inspect`].
    pub fn of(pass: &Pass<'_>, inspector: &RowInspector<'_>, wanted: &(dyn Fn(u64) -> bool + Sync)) -> Result<Self> {
        let all = Self::pass(pass, inspector, wanted)?;
        if all.checked.duplicates.is_empty() {
            return Ok(all);
        }
        let duplicate = |row: u64| all.checked.duplicates.binary_search(&row).is_ok();
        let good = Self::pass(pass, inspector, &|row| wanted(row) && !duplicate(row))?;
        Ok(Self { checked: all.checked, ..good })
    }

    fn pass(pass: &Pass<'_>, inspector: &RowInspector<'_>, wanted: &(dyn Fn(u64) -> bool + Sync)) -> Result<Self> {
        let (mut estimate, mut rows) = (Estimate::default(), RowSet::default());
        let inspect = |draft: &Draft<'_>| wanted(draft.row).then(|| inspector.inspect(draft));
        let checked = pass.inspect(&inspect, &mut |row, found| {
            if let Some(Inspected { model, value: Some(stats) }) = found {
                estimate.add(model, &stats, inspector.form);
                rows.insert(row);
            }
        })?;
        Ok(Self { checked, estimate, rows })
    }
}

impl Estimate {
    /// Adds a row.
    pub fn add(&mut self, model: &Arc<str>, row: &RowStats, limits: BatchFileForm) {
        /// Models that are found by the address of their name; more are looked up.
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
        model.bytes += row.body;
        model.image_tokens = model.image_tokens.saturating_add(row.image_tokens);
        model.image_bound = model.image_bound.saturating_add(row.image_bound);
        model.near_limit += u64::from(row.near_limit);
        model.bound = model.bound.saturating_add(row.bound);
        model.open_part |= row.open_part;
        if let Some(tokens) = row.tokens {
            model.counted_bytes += row.body;
            model.counted_tokens += tokens;
        }
        match row.max_tokens {
            Some(tokens) => model.max_tokens = model.max_tokens.saturating_add(tokens),
            None => model.unbounded += 1,
        }
        if !limits.have_room(model.batch_rows, model.batch_bytes, row.line) {
            model.full += u64::from(model.batch_rows > 0);
            (model.batch_rows, model.batch_bytes) = (0, 0);
        }
        model.batch_rows += 1;
        model.batch_bytes += row.line;
    }

    /// Takes the models, most rows first.
    pub fn models(mut self) -> Vec<(Arc<str>, ModelEstimate)> {
        self.models.sort_by(|a, b| b.1.rows.cmp(&a.1.rows).then_with(|| a.0.cmp(&b.0)));
        self.models
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(body: u64, max_tokens: Option<u64>, tokens: Option<u64>) -> RowStats {
        let bound = body.div_ceil(2);
        RowStats {
            body,
            image_tokens: 0,
            image_bound: 0,
            line: body + 40,
            max_tokens,
            tokens,
            near_limit: false,
            bound,
            open_part: false,
        }
    }

    #[test]
    fn rows_that_were_not_counted_are_scaled_by_their_bytes() {
        let mut sum = Estimate::default();
        let limits = BatchFileForm { rows: 2, bytes: 1000, addressed: false };
        for (model, stats) in [
            ("a", row(100, Some(10), Some(25))),
            ("a", row(300, None, None)),
            ("a", row(400, Some(5), Some(125))),
            ("b", row(900, Some(1), None)),
        ] {
            // Names that are not shared, as beyond the first thousands, are still one model.
            sum.add(&model.into(), &stats, limits);
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
        for period in [2_u64, 3, 16, 32, 64] {
            let picked = (0..100_000_u64).filter(|row| is_picked(row * period, 32)).count();
            assert!((2_500..3_800).contains(&picked), "one in 32 of every {period}th row: {picked}");
        }
    }
}
