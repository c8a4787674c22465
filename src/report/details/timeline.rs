//! How many answers were made when, in bars that widen as the time grows longer.

use std::collections::BTreeMap;

use serde::Serialize;

/// More bars are joined to wider ones.
const BARS: i64 = 60;
/// Widths in seconds, each a whole number of the one before: to a minute, an hour, a day, a week.
const WIDTHS: [i64; 14] = [1, 5, 15, 30, 60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 604_800];
/// 2020 to 2100: servers that do not know the time write 0.
const PLAUSIBLE: std::ops::Range<i64> = 1_577_836_800..4_102_444_800;

/// Answers by the time that the service wrote on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OverTime {
    /// RFC 3339: where the first bar begins.
    pub from: String,
    /// RFC 3339: where the last bar ends.
    pub to: String,
    /// The width of a bar.
    pub seconds_each: i64,
    /// Of each bar.
    pub answers: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// By the second with which they begin.
    bars: BTreeMap<i64, u64>,
    /// An index into [`WIDTHS`]; behind the last of them, weeks are doubled.
    step: u32,
}

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

    /// Bars from the first to the last, empty ones too.
    fn count(&self) -> i64 {
        let ends = self.bars.first_key_value().zip(self.bars.last_key_value());
        ends.map_or(0, |((first, _), (last, _))| (last - first) / self.width() + 1)
    }

    /// `None` if there was no more than one moment: then nothing happened over time.
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
