//! Charts as plain numbers. The template draws them as SVG without text, stretched to the width of the page, and puts their
//! labels beside them.

use serde::Serialize;

use super::numbers::{hundredths, minute};
use crate::report::details::{AnswerLengths, OverTime, ReportDetails};
use crate::summary::{Bin, Summary};
use crate::text;
use crate::text::plural;

/// The fewest places for bars: fewer bars would be as wide as walls.
const PLACES: usize = 12;
/// The width of a bar's place, of which the bar fills eight.
const PITCH: usize = 10;
/// The height of the tallest bar.
const HEIGHT: f64 = 100.0;
/// The least height of a bar that is not empty.
const VISIBLE: f64 = 1.5;

/// A drawing of bars.
#[derive(Debug, Serialize)]
struct BarChart {
    label: &'static str,
    width: usize,
    bars: Vec<ChartBar>,
}

#[derive(Debug, Serialize)]
struct ChartBar {
    x: usize,
    y: f64,
    height: f64,
    label: String,
    /// The bar holds the long tail.
    tail: bool,
}

impl BarChart {
    fn of(label: &'static str, counts: &[u64], tail: bool, bar_label: impl Fn(usize) -> String) -> Self {
        let highest = counts.iter().copied().max().unwrap_or_default().max(1) as f64;
        let bar = |(i, count): (usize, u64)| {
            let height = hundredths((count as f64 * HEIGHT / highest).max(VISIBLE));
            let y = hundredths(HEIGHT - height);
            ChartBar { x: i * PITCH + 1, y, height, label: bar_label(i), tail: tail && i + 1 == counts.len() }
        };
        let bars = counts.iter().copied().enumerate().filter(|(_, count)| *count > 0).map(bar).collect();
        Self { label, width: counts.len().max(PLACES) * PITCH, bars }
    }
}

/// A histogram of answers.
#[derive(Debug, Serialize)]
pub(super) struct HistogramCard {
    title: &'static str,
    /// The value and the number of all answers, if they all have the same value. There is no distribution then.
    single: Option<Figure>,
    distribution: Option<Distribution>,
}

/// A histogram with more than one bar.
#[derive(Debug, Serialize)]
struct Distribution {
    percentiles: Vec<NamedValue>,
    chart: BarChart,
    axis: [String; 3],
    bar_width: String,
    /// The last bar is wider than the others: it holds the long tail.
    tail: bool,
    figures: Vec<Figure>,
}

#[derive(Debug, Serialize)]
struct NamedValue {
    name: &'static str,
    value: String,
}

/// Answers from one value up to below another.
#[derive(Debug, Serialize)]
struct Figure {
    from: String,
    below: String,
    answers: u64,
}

impl HistogramCard {
    pub(super) fn latency(summary: &Summary, details: &ReportDetails) -> Option<Self> {
        let latency = &summary.latency_ms;
        let percentiles = [latency.p50, latency.p90, latency.p99, latency.max];
        Self::of("Latency", &details.latency_histogram, percentiles, |ms| text::millis(ms.into()))
    }

    pub(super) fn lengths(lengths: &AnswerLengths) -> Option<Self> {
        let percentiles = [lengths.p50, lengths.p90, lengths.p99, lengths.max];
        Self::of("Length of answers", &lengths.histogram, percentiles, |n| plural(n, "token"))
    }

    fn of(
        title: &'static str,
        bins: &[Bin],
        percentiles: [Option<u32>; 4],
        show: impl Fn(u64) -> String,
    ) -> Option<Self> {
        let card = Self { title, single: None, distribution: None };
        match bins {
            [] => None,
            [only] => Some(Self { single: Some(Figure::of(only, &show)), ..card }),
            bins => Some(Self { distribution: Some(Distribution::of(title, bins, percentiles, &show)), ..card }),
        }
    }
}

impl Distribution {
    /// `bins` are two or more, and all as wide as the first but for a long tail.
    fn of(title: &'static str, bins: &[Bin], percentiles: [Option<u32>; 4], show: &impl Fn(u64) -> String) -> Self {
        let (first, last) = (bins[0], bins[bins.len() - 1]);
        let width = first.to - first.from;
        let tail = last.to - last.from != width;
        // The axis also spans the places without bars.
        let places = bins.len().max(PLACES) as u64;
        let end = if tail { last.to - 1 } else { first.from + places * width };
        let counts: Vec<u64> = bins.iter().map(|bin| bin.count).collect();
        let bar_label = |i: usize| {
            let Figure { from, below, answers } = Figure::of(&bins[i], show);
            format!("{from} to {below}: {}", plural(answers, "answer"))
        };
        let named = |(name, value): (_, Option<u32>)| Some(NamedValue { name, value: show(value?.into()) });
        Self {
            percentiles: ["p50", "p90", "p99", "max"].into_iter().zip(percentiles).filter_map(named).collect(),
            chart: BarChart::of(title, &counts, tail, bar_label),
            axis: [first.from, first.from + places / 2 * width, end].map(show),
            bar_width: show(width),
            tail,
            figures: bins.iter().filter(|bin| bin.count > 0).map(|bin| Figure::of(bin, show)).collect(),
        }
    }
}

impl Figure {
    fn of(bin: &Bin, show: &impl Fn(u64) -> String) -> Self {
        Self { from: show(bin.from), below: show(bin.to), answers: bin.count }
    }
}

/// Answers over time.
#[derive(Debug, Serialize)]
pub(super) struct TimelineCard {
    chart: BarChart,
    from: String,
    to: String,
    bar_width: String,
    tallest: u64,
}

impl TimelineCard {
    pub(super) fn of(over_time: &OverTime) -> Self {
        let OverTime { from, to, seconds_each, answers } = over_time;
        let start: jiff::Timestamp = from.parse().unwrap_or_default();
        let bar_label = |i: usize| {
            let begin = start.as_second() + i64::try_from(i).unwrap_or_default() * seconds_each;
            let begin = jiff::Timestamp::from_second(begin).unwrap_or_default();
            format!("{}: {}", begin.strftime("%Y-%m-%d %H:%M:%S UTC"), plural(answers[i], "answer"))
        };
        Self {
            chart: BarChart::of("Answers over time", answers, false, bar_label),
            from: minute(from),
            to: minute(to),
            bar_width: whole_units(*seconds_each),
            tallest: answers.iter().copied().max().unwrap_or_default(),
        }
    }
}

/// A length of time in the largest unit that fits: `15 seconds`, `1 hour`.
fn whole_units(seconds: i64) -> String {
    let units = [(604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds % unit == 0).unwrap_or((1, "second"));
    plural(u64::try_from(seconds / unit).unwrap_or_default(), name)
}
