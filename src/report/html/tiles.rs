//! The figures at the top of the page.

use serde::Serialize;

use crate::price::Nanos;
use crate::report::details::ReportDocument;
use crate::summary::Summary;
use crate::text;
use crate::text::{count, plural};

/// A figure with its label and a note.
#[derive(Debug, Serialize)]
pub(super) struct Tile {
    label: &'static str,
    value: String,
    note: String,
    /// The figure is shown in red.
    bad: bool,
    /// The figure needs smaller digits, so that it is not broken.
    long: bool,
}

/// Characters of a figure in large digits.
const LARGE: usize = 8;

impl Tile {
    fn new(label: &'static str, value: String, note: String) -> Self {
        let long = value.chars().count() > LARGE;
        Self { label, value, note, bad: false, long }
    }
}

pub(super) fn tiles(report: &ReportDocument) -> Vec<Tile> {
    let ReportDocument { summary, details } = report;
    let tokens = &summary.tokens;
    let split = format!("{}, {}", tokens.prompt_part(), tokens.completion_part());
    let mut tiles = vec![
        Tile::new("cost", cost(summary), cost_note(summary)),
        answered(summary),
        failed(summary),
        Tile::new("tokens", count(tokens.total), split),
    ];
    tiles.extend(time(summary));
    tiles.extend(requests(summary));
    tiles.extend(latency(summary));
    tiles.extend(first_token(summary));
    tiles.extend(speed(report));
    if details.truncated.count > 0 {
        let note = "answers that reached max_tokens".to_owned();
        tiles.push(Tile { bad: true, ..Tile::new("cut off", count(details.truncated.count), note) });
    }
    tiles
}

fn answered(summary: &Summary) -> Tile {
    let rows = &summary.rows;
    let pending = if rows.pending > 0 { format!(", {} to do", count(rows.pending)) } else { String::new() };
    Tile::new("answered", count(rows.succeeded), format!("of {}{pending}", plural(rows.total, "row")))
}

fn failed(summary: &Summary) -> Tile {
    let rows = &summary.rows;
    let percent = if rows.total == 0 { 0.0 } else { rows.failed as f64 * 100.0 / rows.total as f64 };
    let tile = Tile::new("failed", count(rows.failed), format!("{percent:.1}% of all rows"));
    Tile { bad: rows.failed > 0, ..tile }
}

fn time(summary: &Summary) -> Option<Tile> {
    let value = summary.elapsed()?;
    let parts = summary.time_parts();
    let note = match parts.split_first() {
        Some((first, rest)) if *first == value => rest.join(", "),
        // A part that says what it measures begins with the figure.
        _ => parts.join(", ").trim_start_matches(value.as_str()).trim().to_owned(),
    };
    Some(Tile::new("time", value, note))
}

fn requests(summary: &Summary) -> Option<Tile> {
    let http = &summary.http;
    let note = format!("{} retried, {} rate-limited", count(http.retried), count(http.rate_limited));
    (http.sent > 0).then(|| Tile::new("requests", count(http.sent), note))
}

fn latency(summary: &Summary) -> Option<Tile> {
    let latency = &summary.latency_ms;
    let [p50, p90, p99] = [latency.p50?, latency.p90?, latency.p99?].map(|ms| text::millis(ms.into()));
    Some(Tile::new("latency", p50, format!("median; p90 {p90}, p99 {p99}")))
}

fn first_token(summary: &Summary) -> Option<Tile> {
    let times = &summary.first_token_ms;
    let [p50, p90, p99] = [times.p50?, times.p90?, times.p99?].map(|ms| text::millis(ms.into()));
    Some(Tile::new("first token", p50, format!("median; p90 {p90}, p99 {p99}")))
}

fn speed(report: &ReportDocument) -> Option<Tile> {
    let (overall, one) = (report.details.tokens_per_s.overall?, &report.summary.tokens_per_s);
    let percentiles = one.p50.zip(one.p90).zip(one.p99);
    let one = percentiles.map(|((p50, p90), p99)| {
        let [p50, p90, p99] = [p50, p90, p99].map(text::rate);
        format!("; median answer {p50}/s, p90 {p90}, p99 {p99}")
    });
    let note = format!("tokens of answers{}", one.unwrap_or_default());
    Some(Tile::new("speed", format!("{}/s", count(overall.round() as u64)), note))
}

fn cost(summary: &Summary) -> String {
    let bound = summary.bound();
    summary.cost.usd.map_or_else(|| "unknown".to_owned(), |usd| format!("{bound}{}", summary.spelling().show(usd)))
}

fn cost_note(summary: &Summary) -> String {
    let (cost, spelling) = (&summary.cost, summary.spelling());
    let some = |amount: Option<Nanos>| amount.filter(|amount| amount.0 > 0).map(|amount| spelling.show(amount));
    let mut notes = Vec::new();
    if summary.sandbox {
        notes.push("in the sandbox: nothing was charged".to_owned());
    }
    if let (Some(_), Some(list), Some(usd)) = (some(cost.saved_usd), cost.realtime_usd, cost.usd) {
        let less = spelling.less(spelling.shown(list), spelling.shown(usd));
        notes.push(format!("{less} less than the list price of {}", spelling.show(list)));
    }
    notes.extend(some(cost.cache_saved_usd).map(|saved| format!("{saved} saved by cached tokens")));
    notes.extend(summary.cached_at_full_part());
    notes.extend(some(cost.at_risk_usd).map(|at_risk| format!("up to {at_risk} more at risk")));
    notes.extend(some(cost.wasted_usd).map(|wasted| format!("{wasted} of it for discarded responses")));
    if !cost.unpriced_models.is_empty() {
        notes.push(format!("without {} of unknown price", plural(cost.unpriced_models.len() as u64, "model")));
    } else if summary.unmetered > 0 {
        notes.push("estimated".to_owned());
    }
    match notes.as_slice() {
        [] if cost.usd == Some(Nanos::ZERO) => "nothing was used".to_owned(),
        [] => "at the list price".to_owned(),
        notes => notes.join("; "),
    }
}
