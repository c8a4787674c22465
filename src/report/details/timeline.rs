//! The number of answers over time, in bars that widen as the time grows longer.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::pack::packed;

/// The most bars. When there are more, neighbours are merged into wider ones.
const BARS: i64 = 60;
/// Widths in seconds, up to a week. Each width is a multiple of the one before it.
const WIDTHS: [i64; 14] = [1, 5, 15, 30, 60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 604_800];
/// 2020 to 2100. A server that does not know the time writes 0.
const PLAUSIBLE: std::ops::Range<i64> = 1_577_836_800..4_102_444_800;

/// Answers by the time at which the service says it made them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OverTime {
    /// The beginning of the first bar, in RFC 3339.
    pub from: String,
    /// The end of the last bar, in RFC 3339.
    pub to: String,
    /// The width of a bar.
    pub seconds_each: i64,
    /// The number of answers in each bar.
    pub answers: Vec<u64>,
}

/// Counts answers in bars of equal width.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// Answers by the second at which their bar begins.
    bars: BTreeMap<i64, u64>,
    /// An index into [`WIDTHS`]. Each step past the last one doubles the week.
    step: u32,
}

packed!(Timeline { bars, step });

impl Timeline {
    fn width(&self) -> i64 {
        let last = WIDTHS.len() as u32 - 1;
        WIDTHS[self.step.min(last) as usize] << self.step.saturating_sub(last)
    }

    pub(super) fn add(&mut self, seconds: i64) {
        if !PLAUSIBLE.contains(&seconds) {
            return;
        }
        *self.bars.entry(seconds.div_euclid(self.width()) * self.width()).or_default() += 1;
        while self.count() > BARS {
            self.step += 1;
            let width = self.width();
            for (start, count) in std::mem::take(&mut self.bars) {
                *self.bars.entry(start.div_euclid(width) * width).or_default() += count;
            }
        }
    }

    /// The number of bars from the first to the last, empty ones included.
    fn count(&self) -> i64 {
        let ends = self.bars.first_key_value().zip(self.bars.last_key_value());
        ends.map_or(0, |((first, _), (last, _))| (last - first) / self.width() + 1)
    }

    /// `None` if all answers fall into one bar: a chart would show nothing.
    pub(super) fn over_time(&self) -> Option<OverTime> {
        let first = *self.bars.first_key_value().filter(|_| self.count() > 1)?.0;
        let width = self.width();
        let starts = (0..self.count()).map(|bar| first + bar * width);
        let time = |seconds| jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default();
        Some(OverTime {
            from: time(first),
            to: time(first + self.count() * width),
            seconds_each: width,
            answers: starts.map(|start| self.bars.get(&start).copied().unwrap_or_default()).collect(),
        })
    }
}
