//! The forecast of a job: rows, problems, tokens, cost with either transport, and advice.

mod advice;
mod text;

use serde::Serialize;

use super::estimate::{ModelEstimate, RowInspector, SummedRows};
use super::groups::ProblemGroups;
use super::pass::{Checked, Pass};
use super::quote::{Counting, ModelCost, PriceBasis, answer_limit};
use super::range::CostRange;
use super::repeats::RepeatSearch;
use super::route::Route;
use crate::error::{Exit, Result};
use crate::input::Shard;
use crate::price::{BatchTerms, Nanos, PriceEntry, PriceTable};
use crate::request::{Endpoint, KeyMaker, Problem};
use advice::{advice, repeat_advice};

/// The document of `check --json` (contract).
#[derive(Debug, Serialize)]
pub struct CheckDocument {
    version: u8,
    /// With `--shard`: the shard that the figures are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<Shard>,
    /// All rows, good and bad; with `--shard` those of the shard.
    pub rows: u64,
    /// With `--shard`: the rows of all shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_rows: Option<u64>,
    bytes: u64,
    problems: Vec<Problem>,
    #[serde(skip)]
    groups: ProblemGroups,
    /// Number of all problems.
    pub problem_count: u64,
    tokens: CheckTokens,
    cost: CheckCost,
    models: Vec<CheckedModel>,
    /// Rows that make the same request as an earlier one.
    repeated_rows: u64,
    /// Batches that the good rows make.
    pub batches: u64,
    /// Conclusions, in sentences.
    pub advice: Vec<String>,
    #[serde(skip)]
    endpoint: Endpoint,
}

#[derive(Debug, Serialize)]
struct CheckTokens {
    prompt: u64,
    /// `None`: some answers have no bound, and no limit of their model is known.
    completion_max: Option<u64>,
}

#[derive(Debug, Serialize)]
struct CheckCost {
    /// Sum over the models that have a price.
    realtime_usd: CostRange,
    /// The same sum; not known if batches do not serve one of the models.
    batch_usd: CostRange,
    /// The sum with `--via auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_usd: Option<CostRange>,
    /// Models without a known price; the sums leave them out.
    unpriced_models: Vec<String>,
    /// Amounts that budgets set aside: prompts by their bytes, answers as long as they may be.
    #[serde(rename = "set_aside_usd")]
    set_aside: SetAside,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
struct SetAside {
    realtime: Option<Nanos>,
    batch: Option<Nanos>,
}

#[derive(Debug, Serialize)]
struct CheckedModel {
    model: String,
    rows: u64,
    prompt_tokens: u64,
    completion_max: Option<u64>,
    /// Most that it may cost.
    realtime_usd: Option<Nanos>,
    /// Most that it may cost; `None` too if batches do not serve the model.
    batch_usd: Option<Nanos>,
    batch: BatchTerms,
    /// With `--via auto`: `batch` or `realtime`, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    source: String,
    as_of: String,
    #[serde(skip)]
    batches: u64,
    #[serde(skip)]
    realtime: CostRange,
    #[serde(skip)]
    in_batch: CostRange,
    #[serde(skip)]
    unbounded: u64,
    #[serde(skip)]
    set_aside: SetAside,
    /// Rows that may be longer than the model reads: an estimate may be a tenth too low.
    #[serde(skip_serializing_if = "is_none")]
    near_context: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

impl CheckDocument {
    /// Checks and prices all rows of `pass` without sending anything. `table` has the prices. `dedupe`: of equal requests, only
    /// the first is sent and priced.
    ///
    /// # Errors
    /// An input that cannot be read; problems of rows are in the document.
    pub fn of(pass: &Pass<'_>, table: &PriceTable, counting: &Counting<'_>, dedupe: bool) -> Result<Self> {
        let inspector = RowInspector::new(pass.inputs.total_bytes().unwrap_or(0), counting.estimator, table);
        // Requests of one input are compared, so its service does not matter.
        let keys = KeyMaker::new("");
        let pass = Pass { table: Some(table), keys: Some(&keys), ..*pass };
        let SummedRows { checked, estimate, .. } = SummedRows::of(&pass, &inspector, &|_| true)?;
        let search = RepeatSearch { pass: &pass, checked: &checked, keys: &keys, inspector: &inspector, dir: None };
        let repeats = search.run(&mut |_| Ok(()))?;
        let estimate = if dedupe && repeats.count() > 0 {
            SummedRows::of(&pass, &inspector, &|row| !repeats.is_follower(row))?.estimate
        } else {
            estimate
        };
        let found = estimate.models();
        let models = found.iter().map(|(name, model)| {
            let text_tokens = counting.factors.apply(name, model.prompt_tokens());
            CheckedModel::new(name, model, text_tokens, table.get(name))
        });
        let shard = pass.inputs.chosen().shard();
        let mut document = Self::new(checked, models.collect(), table, pass.builder.endpoint());
        document.repeated_rows = repeats.count();
        document.advice.extend(repeat_advice(repeats, document.rows, PriceBasis { table, counting }, dedupe));
        Ok(Self { shard, total_rows: shard.and(document.total_rows), ..document })
    }

    fn new(checked: Checked, models: Vec<CheckedModel>, table: &PriceTable, endpoint: Endpoint) -> Self {
        let (mut problems, mut problem_count) = (checked.problems, checked.problem_count);
        let mut groups = checked.groups;
        if checked.total_rows == 0 && problem_count == 0 {
            problems.push(Problem::at(None, &checked.inputs, 1, "no_rows", "the input has no rows"));
            problem_count = 1;
            groups = ProblemGroups::of(&problems, 1);
        }
        Self {
            version: 1,
            shard: None,
            rows: checked.rows,
            total_rows: Some(checked.total_rows),
            bytes: checked.bytes,
            problem_count,
            problems,
            groups,
            tokens: CheckTokens {
                prompt: models.iter().map(|model| model.prompt_tokens).sum(),
                completion_max: models.iter().try_fold(0_u64, |sum, m| Some(sum.saturating_add(m.completion_max?))),
            },
            cost: CheckCost::of(&models, endpoint),
            batches: models.iter().map(|model| model.batches).sum(),
            repeated_rows: 0,
            advice: advice(&models, table, endpoint),
            endpoint,
            models,
        }
    }

    /// Models of the rows.
    pub fn model_names(&self) -> Vec<&str> {
        self.models.iter().map(|model| model.model.as_str()).collect()
    }

    /// The exit code of the command.
    pub fn exit(&self) -> Exit {
        if self.problem_count > 0 { Exit::Data } else { Exit::Ok }
    }

    /// Divides the models between batches and realtime as `--via auto` does, and prices that.
    pub fn divide(&mut self, table: &PriceTable) {
        let mut lines = Vec::with_capacity(self.models.len());
        let mut ways = Vec::with_capacity(self.models.len());
        self.batches = 0;
        for model in &mut self.models {
            let route = Route::of(table.get(&model.model));
            lines.push(route.line(&model.model, model.rows));
            self.batches += if route.batch { model.batches } else { 0 };
            ways.push(if route.batch { model.in_batch } else { model.realtime });
            (model.via, model.why) = (Some(route.via()), Some(route.why));
        }
        self.cost.auto_usd = Some(CostRange::total(ways.into_iter()));
        // It replaces the advice: that was on where the models could go.
        self.advice = lines;
    }

    /// Amount that a submission sets aside of a budget; `None`: not known.
    pub const fn set_aside_in_batches(&self) -> Option<Nanos> {
        self.cost.set_aside.batch
    }
}

impl CheckCost {
    fn of(models: &[CheckedModel], endpoint: Endpoint) -> Self {
        let sum = |part: fn(&CheckedModel) -> Option<Nanos>| {
            models.iter().try_fold(Nanos::ZERO, |sum, model| Some(sum + part(model)?))
        };
        Self {
            realtime_usd: CostRange::total(models.iter().map(|m| m.realtime)),
            // The service does not take all of them in batches, so that has no price.
            batch_usd: if !endpoint.in_batches() || models.iter().any(|m| m.batch == BatchTerms::Refused) {
                CostRange::default()
            } else {
                CostRange::total(models.iter().map(|m| m.in_batch))
            },
            auto_usd: None,
            unpriced_models: models.iter().filter(|m| m.realtime.min.is_none()).map(|m| m.model.clone()).collect(),
            set_aside: SetAside { realtime: sum(|m| m.set_aside.realtime), batch: sum(|m| m.set_aside.batch) },
        }
    }
}

impl CheckedModel {
    fn new(name: &str, model: &ModelEstimate, text_tokens: u64, entry: Option<&PriceEntry>) -> Self {
        let (price, batch_price) = (entry.and_then(|entry| entry.price), entry.and_then(PriceEntry::batch_price));
        let cost = |price| ModelCost::of(model, text_tokens, entry, price);
        let (realtime, in_batch) = (cost(price), cost(batch_price));
        Self {
            model: name.to_owned(),
            rows: model.rows,
            prompt_tokens: text_tokens.saturating_add(model.image_tokens),
            completion_max: model.completion_max(answer_limit(entry)),
            realtime_usd: realtime.range.max,
            batch_usd: in_batch.range.max,
            batch: entry.map_or(BatchTerms::Unknown, |entry| entry.batch),
            via: None,
            why: None,
            source: entry.map_or_else(String::new, |entry| entry.source.clone()),
            as_of: entry.map_or_else(String::new, |entry| entry.as_of.clone()),
            batches: model.batches(),
            realtime: realtime.range,
            in_batch: in_batch.range,
            unbounded: model.unbounded,
            set_aside: SetAside { realtime: realtime.upper_bound, batch: in_batch.upper_bound },
            near_context: model.near_limit,
        }
    }
}
