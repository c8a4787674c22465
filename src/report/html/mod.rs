//! The report as one page for browsers: no network, no fonts, and no word of others that could be taken for markup.
//!
//! Everything that is not written here goes through `Markup::text`, which escapes; the policy in the head allows this
//! page's own style and script by their hashes and nothing else. The same report gives the same bytes.

mod charts;
mod lists;
mod markup;

use markup::{Markup, count, plural};
use ring::digest::{SHA256, digest};

use crate::price::Nanos;
use crate::report::details::{Report, Source};
use crate::summary::Summary;
use crate::text::millis;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = Markup::default();
    let title = match (&report.summary.job, &report.details.source) {
        (Some(job), Source::Job { name: Some(name), .. }) => format!("{job} {name}"),
        (Some(job), _) => job.clone(),
        (None, Source::Files { files, .. }) => files.join(", "),
        (None, Source::Job { .. }) => "a job".to_owned(),
    };
    head(&title, &mut page);
    page.raw("<body>\n<main>\n");
    header(&title, report, &mut page);
    tiles(report, &mut page);
    lists::models(report, &mut page);
    page.raw("<div class=\"pair\">\n");
    charts::latency(report, &mut page);
    charts::lengths(&report.details.answer_tokens, &mut page);
    page.raw("</div>\n");
    charts::over_time(report.details.over_time.as_ref(), &mut page);
    page.raw("<div class=\"pair\">\n");
    lists::top("Slowest answers", &report.details.slowest, &mut page);
    lists::top("Dearest rows", &report.details.dearest, &mut page);
    page.raw("</div>\n");
    lists::truncated(&report.details.truncated, &mut page);
    lists::errors(report, &mut page);
    lists::failed(report, &mut page);
    page.raw("</main>\n<footer>Made by llbatch ").text(env!("CARGO_PKG_VERSION"));
    page.raw(". Money is computed from the tokens that the server reported.</footer>\n<script>");
    page.raw(SCRIPT).raw("</script>\n</body>\n</html>\n");
    page.done()
}

fn head(title: &str, page: &mut Markup) {
    page.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-");
    page.text(sha256(STYLE)).raw("'; script-src 'sha256-").text(sha256(SCRIPT));
    page.raw("'; base-uri 'none'; form-action 'none'\">\n<meta name=\"referrer\" content=\"no-referrer\">\n");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<title>")
        .text(title)
        .raw(": llbatch report</title>\n");
    page.raw("<style>").raw(STYLE).raw("</style>\n</head>\n");
}

fn header(title: &str, report: &Report, page: &mut Markup) {
    let summary = &report.summary;
    page.raw("<header>\n<p class=\"kicker\">llbatch report</p>\n<h1 class=\"x\">")
        .text(title)
        .raw("</h1>\n<p class=\"x muted\">");
    match &report.details.source {
        Source::Job { created_at, input, .. } => {
            page.text(summary.transport.as_deref().unwrap_or_default()).raw(", <b>").text(&summary.state);
            page.raw("</b>, begun ").text(markup::time(created_at)).raw(", input ").text(input);
        }
        Source::Files { files, batch_price } => {
            page.text(plural(files.len() as u64, "results file")).raw(", counted at the ");
            page.text(if *batch_price { "batch" } else { "realtime" }).raw(" price");
        }
    }
    page.raw("</p>\n");
    if summary.exit.code != 0 {
        page.raw("<p class=\"x\">").text(&summary.exit.reason);
        if let Some(next) = &summary.exit.next {
            page.raw(". Next: <code>").text(next).raw("</code>");
        }
        page.raw("</p>\n");
    }
    page.raw("</header>\n");
}

fn tiles(report: &Report, page: &mut Markup) {
    let (summary, details) = (&report.summary, &report.details);
    let rows = &summary.rows;
    page.raw("<section class=\"tiles\" aria-label=\"Summary\">\n");
    let pending = if rows.pending > 0 { format!(", {} to do", count(rows.pending)) } else { String::new() };
    tile(page, "answered", &count(rows.succeeded), &format!("of {}{pending}", plural(rows.total, "row")), false);
    let part = if rows.total == 0 { 0.0 } else { rows.failed as f64 * 100.0 / rows.total as f64 };
    tile(page, "failed", &count(rows.failed), &format!("{part:.1}% of all rows"), rows.failed > 0);
    tile(page, "cost", &cost(summary), &cost_note(summary), false);
    let tokens = &summary.tokens;
    let split = format!("{} prompt, {} completion", count(tokens.prompt), count(tokens.completion));
    tile(page, "tokens", &count(tokens.total), &split, false);
    let latency = &summary.latency_ms;
    if let (Some(p50), Some(p90), Some(p99)) = (latency.p50, latency.p90, latency.p99) {
        let note = format!("median; p90 {}, p99 {}", millis(p90.into()), millis(p99.into()));
        tile(page, "latency", &millis(p50.into()), &note, false);
    }
    let speed = &details.tokens_per_s;
    if let Some(overall) = speed.overall {
        let one = speed.row_p50.map(|p50| format!("; one answer {}/s", count(p50.round() as u64))).unwrap_or_default();
        tile(page, "speed", &format!("{}/s", count(overall.round() as u64)), &format!("tokens of answers{one}"), false);
    }
    if details.truncated.count > 0 {
        tile(page, "cut off", &count(details.truncated.count), "answers that reached max_tokens", true);
    }
    page.raw("</section>\n");
}

fn tile(page: &mut Markup, label: &'static str, value: &str, note: &str, alarming: bool) {
    page.raw(if alarming { "<div class=\"card tile bad\">" } else { "<div class=\"card tile\">" });
    page.raw("<p class=\"label\">").text(label).raw("</p><p class=\"value\">").text(value);
    page.raw("</p><p class=\"muted\">").text(note).raw("</p></div>\n");
}

fn cost(summary: &Summary) -> String {
    summary.cost.usd.map_or_else(|| "unknown".to_owned(), |usd| summary.spelling().show(usd))
}

fn cost_note(summary: &Summary) -> String {
    let (cost, spelling) = (&summary.cost, summary.spelling());
    let some = |amount: Option<Nanos>| amount.filter(|amount| amount.0 > 0).map(|amount| spelling.show(amount));
    let mut notes = Vec::new();
    if let (Some(_), Some(list), Some(usd)) = (some(cost.saved_usd), cost.realtime_usd, cost.usd) {
        let shown = |amount: Nanos| (amount, spelling.round(amount));
        let less = spelling.less(shown(list), shown(usd));
        notes.push(format!("{less} less than the list price of {}", spelling.show(list)));
    }
    notes.extend(some(cost.at_risk_usd).map(|at_risk| format!("up to {at_risk} more at risk")));
    notes.extend(some(cost.wasted_usd).map(|wasted| format!("{wasted} of it thrown away")));
    if !cost.unpriced_models.is_empty() {
        notes.push(format!("without {} of unknown price", plural(cost.unpriced_models.len() as u64, "model")));
    } else if cost.estimated {
        notes.push("estimated".to_owned());
    }
    if cost.usd == Some(Nanos::ZERO) && notes.is_empty() {
        return "nothing was used".to_owned();
    }
    if notes.is_empty() { "at the list price".to_owned() } else { notes.join("; ") }
}

/// In base64, as a policy names it.
fn sha256(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let hash = digest(&SHA256, text.as_bytes());
    let mut out = String::new();
    for bytes in hash.as_ref().chunks(3) {
        let number =
            bytes.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte)) << (8 * (3 - bytes.len()));
        for letter in 0..4 {
            let wanted = letter <= bytes.len();
            out.push(if wanted { char::from(LETTERS[number >> (18 - 6 * letter) & 63]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests;
