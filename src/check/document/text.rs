//! The forecast of a job as text.

use std::fmt::Write;

use super::advice::spelling;
use super::{CheckDocument, CheckedModel, SetAside};
use crate::check::range::CostRange;
use crate::price::{BatchTerms, Nanos, Spelling};
use crate::text;
use crate::text::{Align, Grid};

impl CheckDocument {
    /// Writes the document for people, its table at most `width` wide. `with_budget`: it names what a budget would reserve.
    pub fn text(&self, width: usize, with_budget: bool) -> String {
        let mut text = self.problem_list();
        if self.rows == 0 && self.shard.is_none() {
            return text;
        }
        let grid = self.grid();
        if !grid.is_empty() {
            text.push_str(&grid.render(width));
            text.push('\n');
        }
        text.push_str(&self.totals());
        text.push_str(&self.costs());
        if with_budget {
            text.push_str(&self.reserves());
        }
        for line in &self.advice {
            let _ = writeln!(text, "- {line}");
        }
        text
    }

    /// Lists the problems, those that say the same once.
    fn problem_list(&self) -> String {
        let mut text = String::new();
        for (line, hint) in self.groups.lines() {
            let _ = writeln!(text, "{line}");
            if let Some(hint) = hint {
                let _ = writeln!(text, "  hint: {hint}");
            }
        }
        if let Some(rest) = self.groups.rest() {
            let _ = writeln!(text, "{rest}");
        }
        if self.problem_count > 0 {
            text.push('\n');
        }
        text
    }

    /// The figures of each model.
    pub fn grid(&self) -> Grid {
        let mut grid = Grid::new([
            ("MODEL", Align::Whole),
            ("ROWS", Align::Right),
            ("PROMPT", Align::Right),
            ("ANSWERS", Align::Right),
            ("REALTIME", Align::Right),
            ("BATCH", Align::Right),
            ("BATCH TERMS", Align::Left),
        ])
        .stacking();
        let spelling = self.spelling();
        let column = |part: fn(&CheckedModel) -> CostRange| {
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
                model.realtime.cell(spelling, realtime),
                if model.batch == BatchTerms::Refused || !self.endpoint.in_batches() {
                    "–".to_owned()
                } else {
                    model.in_batch.cell(spelling, in_batch)
                },
                model.batch.as_str().replace('_', " "),
            ]);
        }
        grid
    }

    /// Rows, bytes and problems, in a line.
    fn totals(&self) -> String {
        let problems = match self.problem_count {
            0 => "no problems".to_owned(),
            n => text::plural(n, "problem"),
        };
        let rows = text::plural(self.rows, "row");
        let rows = match (self.shard, self.total_rows) {
            (Some(shard), Some(total)) => format!("{rows} in shard {shard} of {}", text::plural(total, "row")),
            _ => rows,
        };
        format!("{rows}, {}; {problems}\n", text::bytes(self.bytes))
    }

    /// A line for each way to run the job.
    fn costs(&self) -> String {
        let mut text = String::new();
        let batches = text::batches(usize::try_from(self.batches).unwrap_or(usize::MAX));
        let realtime = self.sum(|model| model.realtime, |_| false);
        let in_batch = self.sum(|model| model.in_batch, |model| model.batch == BatchTerms::Refused);
        let _ = writeln!(text, "realtime  {realtime}");
        if self.endpoint.in_batches() {
            let _ = writeln!(text, "batch     {in_batch} ({batches})");
        }
        if self.cost.auto_usd.is_some() {
            let way = |model: &CheckedModel| if model.via == Some("batch") { model.in_batch } else { model.realtime };
            let rows = |via| self.models.iter().filter(|m| m.via == Some(via)).map(|m| m.rows).sum();
            let (batched, others) = (text::plural(rows("batch"), "row"), text::count(rows("realtime")));
            let auto = self.sum(way, |_| false);
            let _ = writeln!(text, "auto      {auto} ({batched} in batches, {others} in real time)");
        }
        text
    }

    /// The line of a budget, if every model has a price.
    fn reserves(&self) -> String {
        let SetAside { realtime: Some(realtime), batch: Some(batch) } = self.cost.set_aside else {
            return String::new();
        };
        let spelling = Spelling::of([realtime, batch]);
        let (realtime, batch) = (spelling.show(realtime), spelling.show(batch));
        format!("budget    reserves up to {realtime} in real time, {batch} in batches\n")
    }

    /// Adds up the known costs and names the models that the sum leaves out: those without a price, and those refused.
    fn sum(&self, part: fn(&CheckedModel) -> CostRange, is_refused: fn(&CheckedModel) -> bool) -> String {
        let sum = CostRange::total(self.models.iter().map(part));
        let mut shown = sum.shown(self.spelling());
        if sum.min.is_none() {
            return shown;
        }
        if self.models.iter().any(|model| model.unbounded > 0) {
            shown.push_str(" (--max-tokens N narrows it)");
        }
        let left_out = self.models.iter().filter(|model| part(model).min.is_none());
        let (refused, unpriced): (Vec<_>, Vec<_>) = left_out.partition(|model| is_refused(model));
        for (models, why) in [(unpriced, "without a known price"), (refused, "not served in batches")] {
            if !models.is_empty() {
                let _ = write!(shown, ", and {} {why}", text::plural(models.len() as u64, "model"));
            }
        }
        shown
    }

    fn spelling(&self) -> Spelling {
        spelling(&self.models)
    }
}
