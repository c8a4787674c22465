//! What a job would be, before anything is sent: rows, problems, tokens, cost over either transport, and what follows.

use serde::Serialize;

use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::input::Inputs;
use crate::outcome::Usage;
use crate::pipeline::calibrate::Factors;
use crate::plan::estimate::{Estimate, Looker, ModelEstimate};
use crate::plan::shards::Limits;
use crate::plan::{self, CheckOptions, Checked};
use crate::price::{Batch, Entry, Nanos, Price, Spelling, Table};
use crate::request::{Problem, Shape};
use crate::tokens::Estimator;
use crate::ui::format;

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
    realtime_usd: Range,
    batch_usd: Range,
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
    source: String,
    as_of: String,
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
    shape: &Shape,
    max_problems: usize,
    table: &Table,
    (estimator, factors): (&Estimator, &Factors),
) -> Result<Document> {
    let options = CheckOptions { max_problems, table: Some(table), ..CheckOptions::default() };
    let looker = Looker::new(inputs.total_bytes().unwrap_or(0), estimator, table);
    let mut estimate = Estimate::default();
    let limits = Limits::default();
    let checked = plan::check_by_model(inputs, shape, &options, &|draft| looker.look(draft), &mut |_, found| {
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
            realtime_usd: Range { min: sum(&|m| m.realtime.min), max: sum(&|m| m.realtime.max) },
            batch_usd: Range { min: sum(&|m| m.in_batch.min), max: sum(&|m| m.in_batch.max) },
            set_aside: Reserved { realtime: sum(&|m| m.reserved.realtime), batch: sum(&|m| m.reserved.batch) },
        };
        let advice = advice(&models);
        Self {
            version: 1,
            rows: checked.rows,
            bytes: checked.bytes,
            problem_count: checked.problem_count,
            problems: checked.problems,
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

    /// A sum for people: where it is not known as a whole, its known part.
    fn known(&self, whole: Range, part: &dyn Fn(&ModelLine) -> Range) -> String {
        if whole.min.is_some() {
            return whole.shown(self.spelling());
        }
        let (known, unknown): (Vec<Range>, Vec<Range>) =
            self.models.iter().map(part).partition(|range| range.min.is_some());
        if known.is_empty() {
            return "unknown".to_owned();
        }
        let sum = |most: bool| known.iter().filter_map(|r| if most { r.max.or(r.min) } else { r.min }).sum();
        let shown = Range { min: Some(sum(false)), max: Some(sum(true)) }.shown(self.spelling());
        format!("{shown}, and {} without a known price", format::plural(unknown.len() as u64, "model"))
    }

    /// How all amounts are spelled.
    fn spelling(&self) -> Spelling {
        spelling(&self.models)
    }

    /// How the command ends.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.problem_count > 0 || self.rows == 0 { Exit::Data } else { Exit::Ok }
    }

    /// What a submission sets aside of a budget; `None`: not known.
    #[must_use]
    pub const fn set_aside_in_batches(&self) -> Option<Nanos> {
        self.cost.set_aside.batch
    }

    /// For people.
    #[must_use]
    pub fn text(&self, ctx: &Ctx) -> String {
        use std::fmt::Write;

        use crate::ui::table::{Align, Table as Grid};
        let mut text = String::new();
        let mut said = std::collections::HashSet::new();
        for problem in &self.problems {
            let _ = writeln!(text, "{problem}");
            if let Some(hint) = problem.hint.as_ref().filter(|hint| said.insert(hint.as_str())) {
                let _ = writeln!(text, "  hint: {hint}");
            }
        }
        let more = self.problem_count.saturating_sub(self.problems.len() as u64);
        if more > 0 {
            let _ = writeln!(text, "and {}", format::plural(more, "more problem"));
        }
        if self.problem_count > 0 {
            text.push('\n');
        }
        if self.rows == 0 {
            text.push_str("the input has no rows\n");
            return text;
        }
        let mut grid = Grid::new([
            ("MODEL", Align::Left),
            ("ROWS", Align::Right),
            ("PROMPT", Align::Right),
            ("ANSWERS", Align::Right),
            ("REALTIME", Align::Right),
            ("BATCH", Align::Right),
            ("", Align::Left),
        ]);
        let spelling = self.spelling();
        let column = |part: fn(&ModelLine) -> Range| {
            let all: Vec<Nanos> = self.models.iter().map(|model| part(model).max.unwrap_or_default()).collect();
            spelling.parts(&all)
        };
        let (realtime, in_batch) = (column(|model| model.realtime), column(|model| model.in_batch));
        for ((model, realtime), in_batch) in self.models.iter().zip(realtime).zip(in_batch) {
            let bound =
                model.completion_max.map_or_else(|| "no bound".to_owned(), |n| format!("≤ {}", format::count(n)));
            grid.row([
                model.model.clone(),
                format::count(model.rows),
                format!("~{}", format::count(model.prompt_tokens)),
                bound,
                model.realtime.most(spelling, realtime),
                if model.batch == Batch::Refused { "–".to_owned() } else { model.in_batch.most(spelling, in_batch) },
                model.batch.as_str().replace('_', " "),
            ]);
        }
        if !grid.is_empty() {
            text.push_str(&grid.render(ctx.ui.table_width()));
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "{}, {}; {}",
            format::plural(self.rows, "row"),
            format::bytes(self.bytes),
            match self.problem_count {
                0 => "no problems".to_owned(),
                n => format::plural(n, "problem"),
            }
        );
        let batches =
            crate::pipeline::batch::submit::plural_batches(usize::try_from(self.batches).unwrap_or(usize::MAX));
        let realtime = self.known(self.cost.realtime_usd, &|model| model.realtime);
        let in_batch = self.known(self.cost.batch_usd, &|model| model.in_batch);
        let _ = writeln!(text, "realtime  {realtime}");
        let _ = writeln!(text, "batch     {in_batch} ({batches})");
        let reserved = self.cost.set_aside;
        if let (Some(realtime), Some(batch)) = (reserved.realtime, reserved.batch) {
            let spelling = Spelling::of([realtime, batch]);
            let (realtime, batch) = (spelling.show(realtime), spelling.show(batch));
            let _ = writeln!(text, "budget    sets aside up to {realtime} at realtime, {batch} in batches");
        }
        for line in &self.advice {
            let _ = writeln!(text, "- {line}");
        }
        text
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

impl Range {
    /// In a column whose rounded amounts add up.
    fn most(self, spelling: Spelling, rounded: Nanos) -> String {
        match (self.min, self.max) {
            (_, Some(max)) => format!("≤ {}", spelling.show_as(max, rounded)),
            (Some(_), None) => self.shown(spelling),
            (None, None) => "unknown".to_owned(),
        }
    }

    fn shown(self, spelling: Spelling) -> String {
        match (self.min, self.max) {
            (None, _) => "unknown".to_owned(),
            (Some(min), None) => format!("from {}", spelling.show(min)),
            (Some(min), Some(max)) if min == max => spelling.show(max),
            (Some(min), Some(max)) => format!("{} to {}", spelling.show(min), spelling.show(max)),
        }
    }
}

fn spelling(models: &[ModelLine]) -> Spelling {
    let ranges = models.iter().flat_map(|model| [model.realtime, model.in_batch]);
    Spelling::of(ranges.flat_map(|range| [range.min, range.max]).flatten())
}

/// What a person would conclude.
fn advice(models: &[ModelLine]) -> Vec<String> {
    let mut advice = Vec::new();
    let names = |some: &[&ModelLine]| {
        let mut names: Vec<String> = some.iter().take(4).map(|m| m.model.clone()).collect();
        if some.len() > 4 {
            names.push(format!("and {} more", some.len() - 4));
        }
        names.join(", ")
    };
    let of = |batch: Batch| models.iter().filter(|m| m.batch == batch).collect::<Vec<_>>();
    let (mut saved, mut whole) = (Nanos::ZERO, Nanos::ZERO);
    for model in models {
        let price = |range: Range| range.max.or(range.min);
        if let Some(realtime) = price(model.realtime) {
            whole += realtime;
            saved += price(model.in_batch).map_or(Nanos::ZERO, |batch| realtime - batch);
        }
    }
    if saved > Nanos::ZERO {
        let spelling = spelling(models);
        advice.push(format!("batch saves up to {} of {}", spelling.show(saved), spelling.show(whole)));
    }
    for model in models.iter().filter(|model| model.near_context > 0) {
        advice.push(format!(
            "{} of {}: near the most that it reads, so the service may refuse them (context_length)",
            format::plural(model.near_context, "row"),
            model.model
        ));
    }
    let refused = of(Batch::Refused);
    if !refused.is_empty() {
        advice.push(format!("{} not served in batches, run at realtime: {}", are(refused.len()), names(&refused)));
    }
    let mut full = of(Batch::FullPrice);
    full.extend(of(Batch::Unknown));
    if !full.is_empty() {
        let get = if full.len() == 1 { "1 model gets" } else { "some models get" };
        advice.push(format!(
            "{get} no batch discount that is known of, so run at realtime unless there is no hurry: {}",
            names(&full)
        ));
    }
    let unpriced: Vec<&ModelLine> = models.iter().filter(|m| m.realtime.min.is_none()).collect();
    if !unpriced.is_empty() {
        advice.push(format!(
            "no price is known of {}: `llbatch models --refresh` asks the service, or give it in the config file",
            names(&unpriced)
        ));
    }
    let unbounded: u64 = models.iter().map(|m| m.unbounded).sum();
    if unbounded > 0 {
        advice.push(format!(
            "{} set no max_tokens: their answers are counted as long as the model allows; --max-tokens N bounds what they cost",
            format::plural(unbounded, "row")
        ));
    }
    advice
}

fn are(models: usize) -> String {
    if models == 1 { "1 model is".to_owned() } else { format!("{models} models are") }
}
