//! What a job would be, for people.

use std::fmt::Write;

use super::{Document, ModelLine, Range};
use crate::context::Ctx;
use crate::price::{Batch, Nanos, Spelling};
use crate::text;

impl Document {
    /// A sum of what is known, and what it leaves out: models without a price, or that batches do not serve.
    fn known(&self, part: &dyn Fn(&ModelLine) -> Range, batch: bool) -> String {
        let sum = Range::total(self.models.iter().map(part));
        let mut shown = sum.shown(self.spelling());
        if sum.min.is_none() {
            return shown;
        }
        let out = |refused| {
            let left = self.models.iter().filter(|model| part(model).min.is_none());
            left.filter(|model| (batch && model.batch == Batch::Refused) == refused).count() as u64
        };
        for (models, why) in [(out(false), "without a known price"), (out(true), "not served in batches")] {
            if models > 0 {
                let _ = write!(shown, ", and {} {why}", text::plural(models, "model"));
            }
        }
        shown
    }

    /// How all amounts are spelled.
    fn spelling(&self) -> Spelling {
        spelling(&self.models)
    }

    /// For people.
    pub fn text(&self, ctx: &Ctx) -> String {
        use crate::text::{Align, Grid};
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
            let _ = writeln!(text, "and {}", text::plural(more, "more problem"));
        }
        if self.problem_count > 0 {
            text.push('\n');
        }
        if self.rows == 0 {
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
            let bound = model.completion_max.map_or_else(|| "no bound".to_owned(), |n| format!("≤ {}", text::count(n)));
            grid.row([
                model.model.clone(),
                text::count(model.rows),
                format!("~{}", text::count(model.prompt_tokens)),
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
            text::plural(self.rows, "row"),
            text::bytes(self.bytes),
            match self.problem_count {
                0 => "no problems".to_owned(),
                n => text::plural(n, "problem"),
            }
        );
        let batches = text::batches(usize::try_from(self.batches).unwrap_or(usize::MAX));
        let realtime = self.known(&|model| model.realtime, false);
        let in_batch = self.known(&|model| model.in_batch, true);
        let _ = writeln!(text, "realtime  {realtime}");
        let _ = writeln!(text, "batch     {in_batch} ({batches})");
        if self.cost.auto_usd.is_some() {
            let way = |model: &ModelLine| if model.via == Some("batch") { model.in_batch } else { model.realtime };
            let rows = |via| self.models.iter().filter(|m| m.via == Some(via)).map(|m| m.rows).sum();
            let (batched, others) = (text::plural(rows("batch"), "row"), text::count(rows("realtime")));
            let auto = self.known(&way, false);
            let _ = writeln!(text, "auto      {auto} ({batched} in batches, {others} at realtime)");
        }
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
pub(super) fn advice(models: &[ModelLine]) -> Vec<String> {
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
            text::plural(model.near_context, "row"),
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
            text::plural(unbounded, "row")
        ));
    }
    advice
}

fn are(models: usize) -> String {
    if models == 1 { "1 model is".to_owned() } else { format!("{models} models are") }
}
