//! `--limit`, `--sample` and `--shard`: the rows of an input that a command works on.

use serde::{Deserialize, Serialize};

use super::{Inputs, Shard};
use crate::error::Result;
use crate::text;

/// The rows that the user asks for.
#[derive(Serialize, Deserialize, Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// `--limit`: only the first rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// `--sample`: only so many of those, at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<u64>,
    /// `--sample-seed`
    #[serde(default)]
    pub seed: u64,
    /// `--shard`: only one task's part of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
}

impl Pick {
    /// Returns true if every row is wanted.
    pub const fn is_all(&self) -> bool {
        self.limit.is_none() && self.sample.is_none() && self.shard.is_none()
    }
}

/// The rows that a [`Pick`] chooses from an input, known by their numbers alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChosenRows {
    limit: Option<u64>,
    sample: Option<Sample>,
    shard: Option<Shard>,
}

/// Rows at random: those whose rank is not above a threshold.
#[derive(Debug, Clone, Copy)]
struct Sample {
    seed: u64,
    threshold: u64,
    rows: u64,
    total: u64,
}

impl ChosenRows {
    /// Chooses rows of `inputs`. A sample needs their number, so it reads the inputs once.
    pub fn of(pick: Pick, inputs: &Inputs) -> Result<Self> {
        let limited = Self { limit: pick.limit, sample: None, shard: pick.shard };
        let Some(rows) = pick.sample else { return Ok(limited) };
        let mut blocks = inputs.clone().with(limited.of_all_shards()).blocks()?;
        let mut total = 0;
        while let Some(block) = blocks.next()? {
            total += block.rows();
        }
        let sample = |rows| Sample { seed: pick.seed, threshold: threshold(pick.seed, total, rows), rows, total };
        Ok(Self { sample: (rows < total).then(|| sample(rows)), ..limited })
    }

    /// Returns true if every row is chosen.
    pub const fn is_all(&self) -> bool {
        self.limit.is_none() && self.sample.is_none() && self.shard.is_none()
    }

    /// The same rows of all shards.
    pub(super) const fn of_all_shards(self) -> Self {
        Self { shard: None, ..self }
    }

    /// The shard that they belong to.
    pub const fn shard(&self) -> Option<Shard> {
        self.shard
    }

    /// The place among the chosen rows of row `row` of all shards; `None` if it belongs to another shard.
    pub fn place(&self, row: u64) -> Option<u64> {
        self.shard.map_or(Some(row), |shard| shard.place(row))
    }

    /// The number of chosen rows among the first `rows` of all shards.
    pub(super) fn rows_up_to(&self, rows: u64) -> u64 {
        self.shard.map_or(rows, |shard| shard.rows_up_to(rows))
    }

    /// Returns true if the row of this number is chosen, in any shard.
    pub(super) fn has(&self, number: u64) -> bool {
        self.limit.is_none_or(|limit| number <= limit)
            && self.sample.is_none_or(|sample| rank(sample.seed, number) <= sample.threshold)
    }

    /// Returns true if no row behind the first `number` is chosen.
    pub(super) fn ends_at(&self, number: u64) -> bool {
        self.limit.is_some_and(|limit| number >= limit)
    }

    /// Counts the chosen ones, of all shards, of `rows` rows behind the first `before`.
    pub(super) fn count(&self, before: u64, rows: u64) -> u64 {
        match self.sample {
            None => self.limit.map_or(rows, |limit| limit.saturating_sub(before).min(rows)),
            Some(_) => (before + 1..=before + rows).filter(|number| self.has(*number)).count() as u64,
        }
    }

    /// The part of `bytes` of input that chosen rows may have.
    pub fn share(&self, bytes: u64) -> u64 {
        /// More bytes than most rows have.
        const LONG_ROW: u64 = 4 << 10;
        let limited = self.limit.map_or(bytes, |limit| limit.saturating_mul(LONG_ROW).min(bytes));
        let sampled = self.sample.map_or(limited, |sample| (limited / sample.total).saturating_mul(sample.rows));
        self.shard.map_or(sampled, |shard| sampled.div_ceil(shard.count()))
    }

    /// Describes a sample, with the seed that draws it again.
    pub fn described(&self) -> Option<String> {
        self.sample.map(|Sample { seed, rows, total, .. }| {
            format!("{} of {}, chosen at random (--sample-seed {seed})", text::count(rows), text::plural(total, "row"))
        })
    }
}

/// The place of a row in a random order: different for all rows, and the same for the same seed (`SplitMix64`).
const fn rank(seed: u64, number: u64) -> u64 {
    mixed(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(mixed(seed)))
}

const fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The rank that `wanted` of `total` rows do not exceed. It is found digit by digit, so that memory does not grow with
/// either.
fn threshold(seed: u64, total: u64, wanted: u64) -> u64 {
    const DIGIT: u32 = 16;
    let (mut found, mut left) = (0, wanted);
    for shift in [48, 32, 16, 0] {
        let mut counts = vec![0_u64; 1 << DIGIT];
        for number in 1..=total {
            let rank = rank(seed, number);
            if rank.checked_shr(shift + DIGIT).unwrap_or(0) == found {
                counts[(rank >> shift) as usize & 0xffff] += 1;
            }
        }
        let mut digit = 0;
        while digit < 0xffff && left > counts[digit] {
            left -= counts[digit];
            digit += 1;
        }
        found = found << DIGIT | digit as u64;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threshold_lets_exactly_the_wanted_rows_pass() {
        for (total, wanted) in [(2, 1), (10, 3), (10, 9), (100_000, 1), (100_000, 777), (100_000, 99_999)] {
            for seed in [0, 1, u64::MAX] {
                let threshold = threshold(seed, total, wanted);
                let passed = (1..=total).filter(|number| rank(seed, *number) <= threshold).count() as u64;
                assert_eq!(passed, wanted, "of {total} with seed {seed}");
            }
        }
    }

    #[test]
    fn samples_spread_over_the_whole_input() {
        let threshold = threshold(0, 100_000, 1_000);
        for tenth in 0..10 {
            let rows = (tenth * 10_000 + 1..=(tenth + 1) * 10_000).filter(|number| rank(0, *number) <= threshold);
            let rows = rows.count();
            assert!((60..140).contains(&rows), "{rows} rows of the tenth {tenth}");
        }
    }
}
