//! Charts: plain SVG without text, stretched to whatever width there is, and their labels beside it.

use super::markup::{Markup, count, plural, seconds, time};
use crate::report::details::{OverTime, Report, Tokens};
use crate::summary::Bin;
use crate::text::millis;

/// Fewer bars than that would be walls.
const LEAST: usize = 12;
/// Units of a bar's place, of which it fills eight.
const PITCH: usize = 10;
/// Units of the tallest bar.
const HEIGHT: f64 = 100.0;
/// A bar that is not empty is not invisible.
const VISIBLE: f64 = 1.5;

pub(super) fn latency(report: &Report, page: &mut Markup) {
    let latency = &report.summary.latency_ms;
    let named = [("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99), ("max", latency.max)];
    histogram("Latency", &report.details.latency_histogram, &named, &millis, page);
}

pub(super) fn lengths(tokens: &Tokens, page: &mut Markup) {
    let named = [("p50", tokens.p50), ("p90", tokens.p90), ("p99", tokens.p99), ("max", tokens.max)];
    histogram("Length of answers", &tokens.histogram, &named, &|n| plural(n, "token"), page);
}

fn histogram(
    title: &'static str,
    bins: &[Bin],
    named: &[(&'static str, Option<u32>); 4],
    show: &dyn Fn(u64) -> String,
    page: &mut Markup,
) {
    let [first, .., last] = bins else {
        if let [only] = bins {
            page.raw("<section class=\"card\">\n<h2>").raw(title).raw("</h2>\n<p>").text(show(only.from));
            page.raw(" for each of ").text(plural(only.count, "answer")).raw("</p>\n</section>\n");
        }
        return;
    };
    let width = first.to - first.from;
    let tail = last.to - last.from != width;
    page.raw("<section class=\"card\">\n<h2>").raw(title).raw("</h2>\n<p class=\"muted\">");
    for (i, (name, value)) in named.iter().enumerate() {
        if let Some(value) = value {
            page.raw(if i > 0 { ", " } else { "" }).raw(name).raw(" <b>").text(show((*value).into())).raw("</b>");
        }
    }
    page.raw("</p>\n");
    let counts: Vec<u64> = bins.iter().map(|bin| bin.count).collect();
    let label =
        |i: usize| format!("{} to {}: {}", show(bins[i].from), show(bins[i].to), plural(bins[i].count, "answer"));
    bars(title, &counts, tail, &label, page);
    // Bars that are only there to fill the width have no figures but a place on the axis.
    let places = bins.len().max(LEAST) as u64;
    let end = if tail { last.to - 1 } else { first.from + places * width };
    page.raw("<p class=\"axis\"><span>").text(show(first.from)).raw("</span><span>");
    page.text(show(first.from + places / 2 * width)).raw("</span><span>").text(show(end)).raw("</span></p>\n");
    page.raw("<p class=\"muted small\">Each bar is ").text(show(width)).raw(" wide");
    page.raw(if tail { "; the last one is the long tail.</p>\n" } else { ".</p>\n" });
    page.raw("<details><summary>Figures</summary><table><thead><tr><th>from</th><th>below</th><th>answers</th></tr></thead><tbody>\n");
    for bin in bins.iter().filter(|bin| bin.count > 0) {
        page.raw("<tr><td>").text(show(bin.from)).raw("</td><td>").text(show(bin.to)).raw("</td><td>");
        page.text(count(bin.count)).raw("</td></tr>\n");
    }
    page.raw("</tbody></table></details>\n</section>\n");
}

pub(super) fn over_time(over_time: Option<&OverTime>, page: &mut Markup) {
    let Some(OverTime { from, to, seconds_each, answers }) = over_time else { return };
    page.raw("<section class=\"card\">\n<h2>Answers over time</h2>\n<p class=\"muted\">By the time that the service wrote on each answer.</p>\n");
    let start: jiff::Timestamp = from.parse().unwrap_or_default();
    let label = |i: usize| {
        let begin = start.as_second() + i64::try_from(i).unwrap_or_default() * seconds_each;
        let begin = jiff::Timestamp::from_second(begin).unwrap_or_default();
        format!("{}: {}", begin.strftime("%Y-%m-%d %H:%M:%S UTC"), plural(answers[i], "answer"))
    };
    bars("Answers over time", answers, false, &label, page);
    page.raw("<p class=\"axis\"><span>").text(time(from)).raw("</span><span>").text(time(to)).raw("</span></p>\n");
    page.raw("<p class=\"muted small\">Each bar is ").text(seconds(*seconds_each)).raw("; the tallest holds ");
    page.text(plural(answers.iter().copied().max().unwrap_or_default(), "answer")).raw(".</p>\n</section>\n");
}

fn bars(title: &'static str, counts: &[u64], tail: bool, label: &dyn Fn(usize) -> String, page: &mut Markup) {
    let highest = counts.iter().copied().max().unwrap_or_default().max(1);
    let width = counts.len().max(LEAST) * PITCH;
    page.raw("<svg class=\"chart\" role=\"img\" aria-label=\"").raw(title).raw("\" viewBox=\"0 0 ").text(width);
    page.raw(" 100\" preserveAspectRatio=\"none\">\n");
    for (i, &number) in counts.iter().enumerate().filter(|(_, number)| **number > 0) {
        let height = (number as f64 * HEIGHT / highest as f64).max(VISIBLE);
        page.raw(if tail && i + 1 == counts.len() { "<rect class=\"tail\" x=\"" } else { "<rect x=\"" });
        page.text(i * PITCH + 1).raw("\" y=\"").text(format_args!("{:.2}", HEIGHT - height));
        page.raw("\" width=\"8\" height=\"").text(format_args!("{height:.2}")).raw("\"><title>").text(label(i));
        page.raw("</title></rect>\n");
    }
    page.raw("</svg>\n");
}

/// `paid` of `list` of `most`, as one bar over another.
pub(super) fn money_bar(paid: f64, list: f64, page: &mut Markup) {
    page.raw("<svg class=\"bar\" aria-hidden=\"true\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\">");
    page.raw("<rect class=\"track\" width=\"100\" height=\"8\"/><rect class=\"saved\" width=\"");
    page.text(format_args!("{:.2}", list * 100.0)).raw("\" height=\"8\"/><rect width=\"");
    page.text(format_args!("{:.2}", paid * 100.0)).raw("\" height=\"8\"/></svg>\n");
}
