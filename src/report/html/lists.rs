//! Lists: models with what they cost, errors, rows that stand out, rows that failed.

use super::charts::money_bar;
use super::markup::{Markup, count, money, plural};
use crate::outcome::ErrorCode;
use crate::price::{Nanos, Spelling};
use crate::report::details::{ModelDetail, Report, TopRow, Truncated};
use crate::text::millis;

/// More models than that are counted, not listed.
const MODELS: usize = 40;

pub(super) fn models(report: &Report, page: &mut Markup) {
    let models = &report.details.models;
    if models.is_empty() {
        return;
    }
    let dollars = |usd: Option<Nanos>| usd.map_or(0.0, |usd| usd.0.max(0) as f64);
    let most = models.iter().map(|model| dollars(model.list_usd.max(model.usd))).fold(1.0, f64::max);
    page.raw("<section class=\"card\">\n<h2>Cost by model</h2>\n<ul class=\"models\">\n");
    let spelling = report.summary.spelling();
    let shown = |usd: Option<(Nanos, Nanos)>| {
        usd.map_or_else(|| "unknown".to_owned(), |(usd, shown)| spelling.show_as(usd, shown))
    };
    for (model, (list, paid)) in models.iter().zip(report.details.amounts(spelling)).take(MODELS) {
        page.raw("<li><p class=\"line\"><b class=\"x\">").text(&model.model).raw("</b><b>").text(shown(paid));
        page.raw("</b></p>\n");
        money_bar(dollars(model.usd) / most, dollars(model.list_usd) / most, page);
        page.raw("<p class=\"muted small\">").text(notes(model, spelling, (list, paid)).join(" · ")).raw("</p></li>\n");
    }
    page.raw("</ul>\n");
    if models.len() > MODELS {
        page.raw("<p class=\"muted\">and ").text(plural((models.len() - MODELS) as u64, "more model")).raw("</p>\n");
    }
    if models.iter().any(|model| model.saved_usd.is_some_and(|saved| saved.0 > 0)) {
        page.raw("<p class=\"muted small\"><span class=\"key\"></span> paid <span class=\"key saved\"></span> saved against the list price</p>\n");
    }
    page.raw("</section>\n");
}

type Amount = Option<(Nanos, Nanos)>;

fn notes(model: &ModelDetail, spelling: Spelling, (list, paid): (Amount, Amount)) -> Vec<String> {
    let mut notes = vec![plural(model.answered + model.failed, "row")];
    if model.failed > 0 {
        notes.push(format!("{} failed", count(model.failed)));
    }
    if model.truncated > 0 {
        notes.push(format!("{} cut off", count(model.truncated)));
    }
    let (prompt, completion) = (count(model.prompt_tokens), count(model.completion_tokens));
    notes.push(format!("{prompt} + {completion} tokens"));
    if let (Some(_), Some(list), Some(paid)) = (model.saved_usd.filter(|saved| saved.0 > 0), list, paid) {
        notes.push(format!("list {}, saved {}", spelling.show_as(list.0, list.1), spelling.less(list, paid)));
    }
    match model.at_risk_usd {
        Some(at_risk) if at_risk.0 > 0 => notes.push(format!("up to {} at risk", spelling.show(at_risk))),
        Some(_) => {}
        None => notes.push("an unknown amount at risk".to_owned()),
    }
    if model.usd.is_none() {
        notes.push("price not known".to_owned());
    }
    notes
}

pub(super) fn top(title: &'static str, rows: &[TopRow], page: &mut Markup) {
    if rows.is_empty() {
        return;
    }
    let timed = rows.iter().any(|row| row.latency_ms.is_some());
    page.raw("<section class=\"card\">\n<h2>").raw(title).raw("</h2>\n<table><thead><tr><th>id</th>");
    page.raw(if timed { "<th>time</th>" } else { "" }).raw("<th>tokens</th><th>cost</th></tr></thead><tbody>\n");
    for row in rows {
        page.raw("<tr><td class=\"x\">").text(&row.id).raw("</td>");
        if timed {
            page.raw("<td>").text(row.latency_ms.map(|ms| millis(ms.into())).unwrap_or_default()).raw("</td>");
        }
        page.raw("<td>").text(count(row.tokens)).raw("</td><td>").text(money(row.usd)).raw("</td></tr>\n");
    }
    page.raw("</tbody></table>\n</section>\n");
}

pub(super) fn truncated(truncated: &Truncated, page: &mut Markup) {
    if truncated.count == 0 {
        return;
    }
    page.raw("<section class=\"card\" id=\"truncated\">\n<h2>Answers that were cut off</h2>\n<p class=\"muted\">");
    page.text(plural(truncated.count, "answer"))
        .raw(" ended with finish_reason length: a larger max_tokens lets them end");
    if truncated.count > truncated.rows.len() as u64 {
        page.raw(". The first ").text(count(truncated.rows.len() as u64));
    }
    page.raw(".</p>\n<ul class=\"rows\">\n");
    for row in &truncated.rows {
        page.raw("<li><p class=\"line\"><b class=\"x\">").text(&row.id).raw("</b><span class=\"muted\">");
        page.text(plural(row.completion_tokens, "token")).raw("</span></p><p class=\"x answer\" dir=\"auto\">");
        page.text(&row.answer).raw("</p></li>\n");
    }
    page.raw("</ul>\n</section>\n");
}

pub(super) fn errors(report: &Report, page: &mut Markup) {
    let errors = &report.summary.errors;
    if errors.is_empty() {
        return;
    }
    let most = errors.iter().map(|error| error.count).max().unwrap_or(1).max(1);
    page.raw("<section class=\"card\">\n<h2>Errors by code</h2>\n<ul class=\"models errors\">\n");
    for error in errors {
        // With the script it searches; without, it leads to the first such row.
        page.raw("<li><p class=\"line\"><a href=\"#search=").text(error.code).raw("\"><b>").text(error.code);
        page.raw("</b></a><b>").text(count(error.count)).raw("</b></p>\n");
        money_bar(error.count as f64 / most as f64, 0.0, page);
        let example: String = error.example.chars().take(300).collect();
        page.raw("<p class=\"x muted small\" dir=\"auto\">").text(example).raw("</p></li>\n");
    }
    page.raw("</ul>\n</section>\n");
}

pub(super) fn failed(report: &Report, page: &mut Markup) {
    let rows = &report.details.failed_rows;
    if rows.is_empty() {
        return;
    }
    page.raw("<section class=\"card\" id=\"failed\">\n<h2>Failed rows</h2>\n<p class=\"muted\">");
    if report.summary.rows.failed > rows.len() as u64 {
        page.text(count(rows.len() as u64)).raw(" of ").text(count(report.summary.rows.failed));
        page.raw(", some of every code.</p>\n");
    } else {
        page.raw("All ").text(count(rows.len() as u64)).raw(".</p>\n");
    }
    page.raw("<p id=\"tools\" hidden><input id=\"search\" type=\"search\" placeholder=\"Search id, code, message\" aria-label=\"Search failed rows\" autocomplete=\"off\"> <span id=\"shown\" class=\"muted\" role=\"status\"></span></p>\n<ul class=\"rows\">\n");
    let mut last: Option<ErrorCode> = None;
    for row in rows {
        if last == Some(row.code) {
            page.raw("<li>");
        } else {
            page.raw("<li id=\"search=").text(row.code).raw("\">");
            last = Some(row.code);
        }
        page.raw("<p class=\"line\"><b class=\"x\">")
            .text(&row.id)
            .raw("</b><span><code>")
            .text(row.code)
            .raw("</code>");
        if let Some(status) = row.status {
            page.raw(" <span class=\"muted\">HTTP ").text(status).raw("</span>");
        }
        page.raw("</span></p><p class=\"x\" dir=\"auto\">").text(&row.message).raw("</p>");
        // An error's body mostly says the same once more.
        let prefix = row.status.map(|status| format!("HTTP {status}: ")).unwrap_or_default();
        let words = row.message.strip_prefix(&prefix).unwrap_or(&row.message);
        if let Some(answer) = row.answer.as_ref().filter(|answer| words.is_empty() || !answer.contains(words)) {
            page.raw("<p class=\"x answer\" dir=\"auto\">").text(answer).raw("</p>");
        }
        page.raw("</li>\n");
    }
    page.raw("</ul>\n</section>\n");
}
