//! What a job would be, before anything is sent: rows, problems, tokens, cost over either transport, and what follows.

mod text;

use serde::Serialize;

use super::{CheckOptions, Checked, check_by_model};
use crate::check::calibrate::Factors;
use crate::check::estimate::{Estimate, Looker, ModelEstimate};
use crate::check::route::Route;
use crate::error::{Exit, Result};
use crate::input::Inputs;
use crate::outcome::Usage;
use crate::price::{Batch, Entry, Nanos, Price, Table};
use crate::request::batch_line::Limits;
use crate::request::{Problem, RequestBuilder};
use crate::tokens::Estimator;

/// The document of `check --json` (contract).
#[derive(Debug, Serialize)]
pub struct Document {
    version: u8,
    /// All rows, good and bad.
    pub rows: u64,
    bytes: u64,
    problems: Vec<Problem>,
    /// How many there are in all.
    pub problem_count: u64,
    tokens: Tokens,
    cost: Cost,
    models: Vec<ModelLine>,
    /// Batches that the good rows make.
    pub batches: u64,
    /// What follows, in sentences.
    pub advice: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Tokens {
    prompt: u64,
    /// `None`: some answers have no bound, and no limit of their model is known.
    completion_max: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Cost {
    /// Of the models that have a price.
    realtime_usd: Range,
    /// The same; not known if batches do not serve one of all models.
    batch_usd: Range,
    /// With `--via auto`: each model the way it would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_usd: Option<Range>,
    /// Models without a known price, which the others leave out.
    unpriced_models: Vec<String>,
    /// What budgets set aside: prompts by their bytes, answers as long as they may be; `None`: not known.
    #[serde(rename = "set_aside_usd")]
    set_aside: Reserved,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Reserved {
    realtime: Option<Nanos>,
    batch: Option<Nanos>,
}

/// From prompts alone to every answer as long as it may be; `None`: not known.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
struct Range {
    min: Option<Nanos>,
    max: Option<Nanos>,
}

#[derive(Debug, Serialize)]
struct ModelLine {
    model: String,
    rows: u64,
    prompt_tokens: u64,
    completion_max: Option<u64>,
    /// At most.
    realtime_usd: Option<Nanos>,
    /// At most; `None` too if batches do not serve the model.
    batch_usd: Option<Nanos>,
    batch: Batch,
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
    realtime: Range,
    #[serde(skip)]
    in_batch: Range,
    #[serde(skip)]
    unbounded: u64,
    #[serde(skip)]
    reserved: Reserved,
    /// Rows that may be more than the model reads: an estimate may be a tenth too low.
    #[serde(skip_serializing_if = "is_none")]
    near_context: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Checks and prices `inputs` without sending anything.
///
/// # Errors
/// What stops the reading; problems of rows are in the document.
pub fn check(
    inputs: &Inputs,
    shape: &RequestBuilder,
    max_problems: usize,
    table: &Table,
    (estimator, factors): (&Estimator, &Factors),
) -> Result<Document> {
    let options = CheckOptions { max_problems, table: Some(table), ..CheckOptions::default() };
    let looker = Looker::new(inputs.total_bytes().unwrap_or(0), estimator, table);
    let mut estimate = Estimate::default();
    let limits = Limits::default();
    let checked = check_by_model(inputs, shape, &options, &|draft| looker.look(draft), &mut |_, found| {
        if let Some((model, sight)) = found {
            estimate.add(model, &sight, limits);
        }
    })?;
    Ok(Document::new(checked, estimate, table, factors))
}

impl Document {
    fn new(checked: Checked, estimate: Estimate, table: &Table, factors: &Factors) -> Self {
        let found = estimate.models();
        let batches = found.iter().map(|(_, model)| model.batches()).sum();
        let models: Vec<ModelLine> =
            found.iter().map(|(name, model)| ModelLine::new(name, model, table.get(name), factors)).collect();
        let sum = |part: &dyn Fn(&ModelLine) -> Option<Nanos>| {
            models.iter().try_fold(Nanos::ZERO, |sum, model| Some(sum + part(model)?))
        };
        let cost = Cost {
            realtime_usd: Range::total(models.iter().map(|m| m.realtime)),
            // All in batches cannot be, so it has no price.
            batch_usd: if models.iter().any(|m| m.batch == Batch::Refused) {
                Range { min: None, max: None }
            } else {
                Range::total(models.iter().map(|m| m.in_batch))
            },
            auto_usd: None,
            unpriced_models: models.iter().filter(|m| m.realtime.min.is_none()).map(|m| m.model.clone()).collect(),
            set_aside: Reserved { realtime: sum(&|m| m.reserved.realtime), batch: sum(&|m| m.reserved.batch) },
        };
        let advice = text::advice(&models);
        let (mut problems, mut problem_count) = (checked.problems, checked.problem_count);
        if checked.rows == 0 && problem_count == 0 {
            problems.push(Problem::at(None, &checked.inputs, 1, "no_rows", "the input has no rows"));
            problem_count = 1;
        }
        Self {
            version: 1,
            rows: checked.rows,
            bytes: checked.bytes,
            problem_count,
            problems,
            tokens: Tokens {
                prompt: models.iter().map(|model| model.prompt_tokens).sum(),
                completion_max: models.iter().try_fold(0_u64, |sum, m| Some(sum.saturating_add(m.completion_max?))),
            },
            cost,
            models,
            batches,
            advice,
        }
    }

    /// How the command ends.
    pub fn exit(&self) -> Exit {
        if self.problem_count > 0 || self.rows == 0 { Exit::Data } else { Exit::Ok }
    }

    /// Says which way each model would go with `--via auto`, and what that would come to.
    pub fn divide(&mut self, table: &Table) {
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
        self.cost.auto_usd = Some(Range::total(ways.into_iter()));
        // What else would be said of where they could go is settled with that.
        self.advice = lines;
    }

    /// What a submission sets aside of a budget; `None`: not known.
    pub const fn set_aside_in_batches(&self) -> Option<Nanos> {
        self.cost.set_aside.batch
    }
}

impl Range {
    /// Of what is known; nothing is known of nothing.
    fn total(parts: impl Iterator<Item = Self> + Clone) -> Self {
        let known = parts.filter(|range| range.min.is_some());
        let sum = |end: fn(&Self) -> Option<Nanos>| {
            known.clone().try_fold(Nanos::ZERO, |sum, range| Some(sum + end(&range)?))
        };
        let none = known.clone().next().is_none();
        Self { min: sum(|range| range.min).filter(|_| !none), max: sum(|range| range.max).filter(|_| !none) }
    }
}

impl ModelLine {
    fn new(name: &str, model: &ModelEstimate, entry: Option<&Entry>, factors: &Factors) -> Self {
        let prompt_tokens = factors.apply(name, model.prompt_tokens());
        let limit = entry.and_then(|entry| entry.max_output.or(entry.context));
        let completion_max = model.completion_max(limit);
        let range = |price: Option<Price>| Range {
            min: price.map(|price| price.cost(Usage { prompt: prompt_tokens, completion: 0 })),
            max: price.zip(completion_max).map(|(p, completion)| p.cost(Usage { prompt: prompt_tokens, completion })),
        };
        let most = |price: Option<Price>| {
            price.zip(completion_max).map(|(p, completion)| p.cost(Usage { prompt: model.bound, completion }))
        };
        let realtime = range(entry.and_then(|entry| entry.price));
        let in_batch = range(entry.and_then(Entry::batch_price));
        Self {
            model: name.to_owned(),
            rows: model.rows,
            prompt_tokens,
            completion_max,
            realtime_usd: realtime.max,
            batch_usd: in_batch.max,
            batch: entry.map_or(Batch::Unknown, |entry| entry.batch),
            batches: model.batches(),
            via: None,
            why: None,
            source: entry.map_or_else(String::new, |entry| entry.source.clone()),
            as_of: entry.map_or_else(String::new, |entry| entry.as_of.clone()),
            realtime,
            in_batch,
            unbounded: model.unbounded,
            reserved: Reserved {
                realtime: most(entry.and_then(|entry| entry.price)),
                batch: most(entry.and_then(Entry::batch_price)),
            },
            near_context: model.tight,
        }
    }
}
