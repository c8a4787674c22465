//! `llbatch status --cost`: costs by day and model.

use std::fmt::Write;

use serde::Serialize;

use super::{print_json, print_table, print_text};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::price::{Nanos, Spelling};
use crate::settings;
use crate::store::{DayLine, Ledger, TagLine};
use crate::text::{self, Align, Grid};

#[derive(Serialize)]
struct SpendingDocument {
    version: u8,
    since: String,
    days: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<TaggedLine>>,
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

/// The cost of the jobs with one tag; without a name, of those that have none.
#[derive(Serialize)]
struct TaggedLine {
    tag: Option<String>,
    value: Option<String>,
    jobs: u64,
    rows: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    usd: Option<Nanos>,
}

/// The form of `status --cost`.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpendingView<'a> {
    /// `--since`
    pub since: Option<&'a str>,
    /// `--by tag`
    pub by_tag: bool,
    /// `--csv`
    pub csv: bool,
}

/// Shows the costs.
pub(super) fn show(view: SpendingView<'_>, ledger: &Ledger, ctx: &Ctx) -> Result<Exit> {
    let span =
        settings::long_duration(view.since.unwrap_or("30d")).map_err(|e| Error::usage(format!("--since: {e}")))?;
    let now = jiff::Zoned::now();
    let past = jiff::SignedDuration::try_from(span).map_err(|_| Error::usage("--since: too long ago"))?;
    let since = now.checked_sub(past).map_err(|_| Error::usage("--since: too long ago"))?;
    let day = since.date().to_string();
    let days: Vec<Line> = ledger.spending(&day, ctx.settings.sandbox)?.into_iter().map(line).collect();
    let usd = days.iter().filter_map(|line| line.usd).sum();
    let unrecorded_usd = ledger.unrecorded(since.timestamp().as_millisecond(), ctx.settings.sandbox)?;
    let tags = if view.by_tag {
        Some(ledger.spending_by_tag(&day, ctx.settings.sandbox)?.into_iter().map(tagged).collect::<Vec<_>>())
    } else {
        None
    };
    if ctx.json {
        print_json(&SpendingDocument { version: 1, since: day, days, tags, usd, unrecorded_usd }, ctx)?;
        return Ok(Exit::Ok);
    }
    if view.csv {
        print_text(&tags.as_deref().map_or_else(|| days_csv(&days), tags_csv), ctx)?;
        return Ok(Exit::Ok);
    }
    if days.is_empty() && unrecorded_usd == Nanos::ZERO {
        ctx.ui.note(&format!("nothing was spent since {day}"));
        return Ok(Exit::Ok);
    }
    let amounts = match &tags {
        Some(tags) => tags.iter().filter_map(|line| line.usd).collect::<Vec<_>>(),
        None => days.iter().filter_map(|line| line.usd).collect(),
    };
    let spelling = Spelling::of(amounts.into_iter().chain([usd, unrecorded_usd]));
    print_table(
        &tags.as_deref().map_or_else(|| days_table(&days, &spelling), |tags| tags_table(tags, &spelling)),
        ctx,
    )?;
    let mut text = String::new();
    let _ = writeln!(text, "\n{} since {day}", spelling.show(usd));
    if unrecorded_usd > Nanos::ZERO {
        let _ = writeln!(text, "and {} by jobs that have not ended", spelling.show(unrecorded_usd));
    }
    print_text(&text, ctx)?;
    if tags.is_some_and(|tags| tags.iter().map(|line| line.usd.unwrap_or_default()).sum::<Nanos>() > usd) {
        ctx.ui.note("a job with several tags counts for each of them");
    }
    Ok(Exit::Ok)
}

fn days_csv(days: &[Line]) -> String {
    let mut text = "day,model,rows,prompt_tokens,completion_tokens,usd\n".to_owned();
    for Line { day, model, rows, prompt_tokens, completion_tokens, usd } in days {
        let (model, usd) = (cell(model), amount(*usd));
        let _ = writeln!(text, "{day},{model},{rows},{prompt_tokens},{completion_tokens},{usd}");
    }
    text
}

fn tags_csv(tags: &[TaggedLine]) -> String {
    let mut text = "tag,value,jobs,rows,prompt_tokens,completion_tokens,usd\n".to_owned();
    for TaggedLine { tag, value, jobs, rows, prompt_tokens, completion_tokens, usd } in tags {
        let [tag, value] = [tag, value].map(|text| cell(text.as_deref().unwrap_or_default()));
        let usd = amount(*usd);
        let _ = writeln!(text, "{tag},{value},{jobs},{rows},{prompt_tokens},{completion_tokens},{usd}");
    }
    text
}

fn amount(usd: Option<Nanos>) -> String {
    usd.map_or_else(String::new, |usd| usd.to_string())
}

fn days_table(days: &[Line], spelling: &Spelling) -> Grid {
    let mut table = Grid::new([
        ("DAY", Align::Left),
        ("ROWS", Align::Right),
        ("TOKENS", Align::Right),
        ("COST", Align::Right),
        ("MODEL", Align::Left),
    ]);
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
    table
}

fn tags_table(tags: &[TaggedLine], spelling: &Spelling) -> Grid {
    let mut table = Grid::new([
        ("TAG", Align::Left),
        ("JOBS", Align::Right),
        ("ROWS", Align::Right),
        ("TOKENS", Align::Right),
        ("COST", Align::Right),
    ]);
    for line in tags {
        let tag = line.tag.as_ref().zip(line.value.as_ref());
        table.row([
            tag.map_or_else(|| "(no tag)".to_owned(), |(tag, value)| format!("{tag}={value}")),
            text::count(line.jobs),
            text::count(line.rows),
            text::count(line.prompt_tokens + line.completion_tokens),
            line.usd.map_or_else(|| "?".to_owned(), |usd| spelling.show(usd)),
        ]);
    }
    table
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

fn tagged(line: TagLine) -> TaggedLine {
    let (tag, value) = line.tag.unzip();
    TaggedLine {
        tag,
        value,
        jobs: line.jobs,
        rows: line.rows,
        prompt_tokens: line.prompt,
        completion_tokens: line.completion,
        usd: line.paid,
    }
}
