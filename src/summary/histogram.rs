//! Percentiles of latencies, and the bars of a chart of them, in fixed memory.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::pack::Pack;

/// Values below this have a bucket each.
const EXACT: u32 = 128;
/// Buckets for each power of two above: the middle of a bucket differs from its values by at most 1/128 of them.
const PARTS: u32 = 64;
/// 128 exact ones, and 64 for each of the powers 2^7 to 2^31.
const BUCKETS: usize = 128 + 25 * 64;

/// Bars for which a chart on a telephone has room, approximately.
const BARS: u64 = 24;

/// One bar of a chart: values from `from` to below `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// The least value.
    pub from: u64,
    /// The first value that is not in the bar.
    pub to: u64,
    /// The number of values.
    pub count: u64,
}

/// Counts of milliseconds in buckets that grow with the value: 14 KiB, percentiles within 1%.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max: u32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), total: 0, max: 0 }
    }
}

/// Only the buckets that are not empty are packed.
impl Pack for Histogram {
    fn layout(text: &mut String) {
        text.push_str("Histogram ");
        text.push_str(&BUCKETS.to_string());
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        let counts: BTreeMap<u32, u64> = (0..).zip(self.counts.iter().copied()).filter(|(_, n)| *n > 0).collect();
        counts.pack(bytes);
        self.max.pack(bytes);
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        let mut histogram = Self::default();
        for (index, count) in BTreeMap::<u32, u64>::unpack(bytes)? {
            *histogram.counts.get_mut(index as usize)? = count;
            histogram.total += count;
        }
        histogram.max = u32::unpack(bytes)?;
        Some(histogram)
    }
}

impl Histogram {
    /// Counts one value.
    pub fn add(&mut self, value: u32) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Returns the number of values.
    pub const fn count(&self) -> u64 {
        self.total
    }

    /// Returns the largest value, exactly; `None` if nothing was counted.
    pub fn max(&self) -> Option<u32> {
        (self.total > 0).then_some(self.max)
    }

    /// Returns the value that `percent` % of the values do not exceed (nearest rank), within 1%; `None` if nothing was
    /// counted.
    pub fn percentile(&self, percent: u8) -> Option<u32> {
        let rank = (u128::from(self.total) * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, &count) in (0..).zip(&self.counts) {
            seen += u128::from(count);
            if seen >= rank {
                return Some(middle(index).min(self.max));
            }
        }
        None
    }

    /// Returns the counts as bars of one round width, empty bars included. The last bar is wider if it holds the slowest
    /// hundredth, because that would squeeze all others. A value within 1% of a bar's edge may count for the next bar.
    pub fn bins(&self) -> Vec<Bin> {
        let (Some(first), Some(p99)) = (self.counts.iter().position(|&count| count > 0), self.percentile(99)) else {
            return Vec::new();
        };
        let (low, high, end) = (middle(first as u32).min(self.max), u64::from(p99), u64::from(self.max) + 1);
        // A tail of twice the length of the rest still fits.
        let high = if end <= high * 2 { end - 1 } else { high };
        let width = round_width((high - u64::from(low)) / BARS + 1);
        let start = u64::from(low) / width * width;
        let bars = (high - start) / width + 1;
        let tail = start + bars * width;
        let mut bins: Vec<Bin> =
            (0..bars).map(|bar| Bin { from: start + bar * width, to: start + (bar + 1) * width, count: 0 }).collect();
        if tail < end {
            bins.push(Bin { from: tail, to: end, count: 0 });
        }
        for (index, &count) in (0..).zip(&self.counts).filter(|(_, count)| **count > 0) {
            let value = u64::from(middle(index).min(self.max));
            let bar = ((value - start) / width).min(bins.len() as u64 - 1);
            bins[bar as usize].count += count;
        }
        bins
    }
}

/// Returns the least of 1, 2, 5, 10, 20, 50, … that is at least `width`.
fn round_width(width: u64) -> u64 {
    let mut unit = 1;
    loop {
        if let Some(round) = [1, 2, 5].into_iter().map(|n| n * unit).find(|&round| round >= width) {
            return round;
        }
        unit *= 10;
    }
}

fn bucket(value: u32) -> usize {
    let index = if value < EXACT {
        value
    } else {
        let power = value.ilog2();
        // Its first seven bits: a one, then which of the 64 parts.
        let part = (value >> (power - 6)) - PARTS;
        EXACT + (power - 7) * PARTS + part
    };
    index as usize
}

fn middle(index: u32) -> u32 {
    if index < EXACT {
        return index;
    }
    let (power, part) = ((index - EXACT) / PARTS + 7, (index - EXACT) % PARTS);
    let width = 1_u32 << (power - 6);
    (PARTS + part) * width + width / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_in_order_without_gaps() {
        let mut last = 0;
        for value in (0..100_000).chain((17..32).flat_map(|p| [(1_u32 << p) - 1, 1 << p])).chain([u32::MAX]) {
            let index = bucket(value);
            assert!(index == last || index == last + 1 || value > 100_000, "{value}");
            assert!(index < BUCKETS);
            last = index;
        }
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
    }

    #[test]
    fn nothing_has_no_percentile() {
        let empty = Histogram::default();
        assert_eq!((empty.percentile(50), empty.max()), (None, None));
    }

    #[test]
    fn small_samples_are_exact() {
        let mut histogram = Histogram::default();
        for value in [10, 20, 30, 40] {
            histogram.add(value);
        }
        let got = [0, 25, 26, 50, 75, 90, 100].map(|percent| histogram.percentile(percent));
        assert_eq!(got, [10, 10, 20, 20, 30, 40, 40].map(Some));
    }

    #[test]
    fn bars_have_round_edges_and_the_tail_one_of_its_own() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.bins(), []);
        histogram.add(7);
        assert_eq!(histogram.bins(), [Bin { from: 7, to: 8, count: 1 }]);
        for value in 100..1_100 {
            histogram.add(value);
        }
        histogram.add(90_000);
        let bins = histogram.bins();
        assert_eq!((bins[0].from, bins[0].to), (0, 50));
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), 1_002);
        assert_eq!(bins.last(), Some(&Bin { from: 1_100, to: 90_001, count: 1 }));
        assert!(bins.windows(2).all(|pair| pair[0].to == pair[1].from), "{bins:?}");
    }

    proptest! {
        #[test]
        fn percentiles_are_within_one_percent(
            values in proptest::collection::vec(prop_oneof![0..200_u32, 0..1_000_000_u32, any::<u32>()], 1..300),
            percent in 1_u8..=100,
        ) {
            let mut values = values;
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.add(*value);
            }
            let bins = histogram.bins();
            prop_assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), values.len() as u64);
            prop_assert!(bins.len() <= 27, "{} bars", bins.len());
            values.sort_unstable();
            let exact = f64::from(values[(values.len() * usize::from(percent)).div_ceil(100) - 1]);
            let got = f64::from(histogram.percentile(percent).unwrap());
            prop_assert!((got - exact).abs() <= exact * 0.01, "{} for {}", got, exact);
        }
    }
}
