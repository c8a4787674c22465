//! `llbatch status --cost`: costs by day and model.

use std::fmt::Write;

use serde::Serialize;

use super::{print_json, print_table, print_text};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::price::{Nanos, Spelling};
use crate::settings;
use crate::store::{DayLine, Ledger};
use crate::text::{self, Align, Grid};

#[derive(Serialize)]
struct SpendingDocument {
    version: u8,
    since: String,
    days: Vec<Line>,
    /// The known part of the cost.
    usd: Nanos,
    /// Cost of jobs that run now or were killed. It counts on the day on which they end.
    unrecorded_usd: Nanos,
}

#[derive(Serialize)]
struct Line {
    day: String,
    model: String,
    rows: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    usd: Option<Nanos>,
}

/// Shows the costs.
pub(super) fn show(since: Option<&str>, csv: bool, ledger: &Ledger, ctx: &Ctx) -> Result<Exit> {
    let span = settings::long_duration(since.unwrap_or("30d")).map_err(|e| Error::usage(format!("--since: {e}")))?;
    let now = jiff::Zoned::now();
    let past = jiff::SignedDuration::try_from(span).map_err(|_| Error::usage("--since: too long ago"))?;
    let since = now.checked_sub(past).map_err(|_| Error::usage("--since: too long ago"))?;
    let day = since.date().to_string();
    let days: Vec<Line> = ledger.spending(&day, ctx.settings.sandbox)?.into_iter().map(line).collect();
    let usd = days.iter().filter_map(|line| line.usd).sum();
    let unrecorded_usd = ledger.unrecorded(since.timestamp().as_millisecond(), ctx.settings.sandbox)?;
    if ctx.json {
        print_json(&SpendingDocument { version: 1, since: day, days, usd, unrecorded_usd }, ctx)?;
        return Ok(Exit::Ok);
    }
    if csv {
        let mut text = "day,model,rows,prompt_tokens,completion_tokens,usd\n".to_owned();
        for line in &days {
            let usd = line.usd.map_or_else(String::new, |usd| usd.to_string());
            let Line { day, rows, prompt_tokens, completion_tokens, .. } = line;
            let model = cell(&line.model);
            let _ = writeln!(text, "{day},{model},{rows},{prompt_tokens},{completion_tokens},{usd}");
        }
        print_text(&text, ctx)?;
        return Ok(Exit::Ok);
    }
    if days.is_empty() && unrecorded_usd == Nanos::ZERO {
        ctx.ui.note(&format!("nothing was spent since {day}"));
        return Ok(Exit::Ok);
    }
    let mut table = Grid::new([
        ("DAY", Align::Left),
        ("ROWS", Align::Right),
        ("TOKENS", Align::Right),
        ("COST", Align::Right),
        ("MODEL", Align::Left),
    ]);
    let spelling = Spelling::of(days.iter().filter_map(|line| line.usd).chain([unrecorded_usd]));
    let amounts: Vec<Nanos> = days.iter().map(|line| line.usd.unwrap_or_default()).collect();
    for (line, shown) in days.iter().zip(spelling.parts(&amounts)) {
        table.row([
            line.day.clone(),
            text::count(line.rows),
            text::count(line.prompt_tokens + line.completion_tokens),
            line.usd.map_or_else(|| "?".to_owned(), |usd| spelling.show_as(usd, shown)),
            line.model.clone(),
        ]);
    }
    print_table(&table, ctx)?;
    let mut text = String::new();
    let _ = writeln!(text, "\n{} since {day}", spelling.show(usd));
    if unrecorded_usd > Nanos::ZERO {
        let _ = writeln!(text, "and {} by jobs that have not ended", spelling.show(unrecorded_usd));
    }
    print_text(&text, ctx)?;
    Ok(Exit::Ok)
}

/// Quotes a cell as RFC 4180 requires. Names of models come from the input and may hold any character.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn line(line: DayLine) -> Line {
    Line {
        day: line.day,
        model: line.spent.model,
        rows: line.spent.rows,
        prompt_tokens: line.spent.prompt,
        completion_tokens: line.spent.completion,
        usd: line.spent.paid,
    }
}
