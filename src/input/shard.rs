//! `--shard I/N`: one task's part of an input.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Part `index` of `count` parts. Row r of the rows that count belongs to part ((r-1) mod count)+1.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(into = "String", try_from = "String")]
pub struct Shard {
    /// 1-based.
    index: u64,
    count: u64,
}

impl Shard {
    /// Parts of one input, at most.
    const MOST: u64 = 1_000_000;

    /// Part `index` of `count`; `None` if there is no such part.
    pub fn new(index: u64, count: u64) -> Option<Self> {
        ((1..=count).contains(&index) && count <= Self::MOST).then_some(Self { index, count })
    }

    /// The number of this part, 1-based.
    pub const fn index(self) -> u64 {
        self.index
    }

    /// The number of all parts.
    pub const fn count(self) -> u64 {
        self.count
    }

    /// The place in this part of row `row` of all parts; `None` if the row belongs to another part.
    pub const fn place(self, row: u64) -> Option<u64> {
        if row > 0 && (row - 1) % self.count == self.index - 1 { Some(self.rows_up_to(row)) } else { None }
    }

    /// The row of all parts that has this place, 1-based, in this part: the inverse of [`Self::place`].
    pub const fn row_at(self, place: u64) -> u64 {
        (place - 1) * self.count + self.index
    }

    /// The number of this part's rows among the first `rows`.
    pub const fn rows_up_to(self, rows: u64) -> u64 {
        (rows + self.count - self.index) / self.count
    }
}

/// `2/8`
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let (index, count) = numbers.ok_or("expected I/N such as 2/8, or auto, or auto/8")?;
        Self::new(index, count).ok_or_else(|| match count {
            0 => "there must be at least one shard".to_owned(),
            _ if count > Self::MOST => format!("at most {} shards", Self::MOST),
            _ => format!("of {count} shards, the first is 1/{count} and the last {count}/{count}"),
        })
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_parts_that_exist_are_accepted() {
        for text in ["1/1", "1/8", "8/8", "1000000/1000000"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        for text in ["", "3", "0/8", "9/8", "1/0", "-1/8", "1/8/2", "a/b", "1 / 8", "1/1000001"] {
            text.parse::<Shard>().unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn every_row_has_one_part_and_one_place(count in 1_u64..40, rows in 0_u64..500) {
            let shards: Vec<Shard> = (1..=count).map(|index| Shard::new(index, count).unwrap()).collect();
            let mut seen = vec![0; shards.len()];
            for row in 1..=rows {
                let owners: Vec<_> = shards.iter().enumerate().filter_map(|(at, s)| Some((at, s.place(row)?))).collect();
                prop_assert_eq!(owners.len(), 1);
                let (at, place) = owners[0];
                prop_assert_eq!(at as u64, (row - 1) % count);
                seen[at] += 1;
                prop_assert_eq!(place, seen[at]);
                prop_assert_eq!(shards[at].rows_up_to(row), place);
                prop_assert_eq!(shards[at].row_at(place), row);
            }
            for (shard, seen) in shards.iter().zip(seen) {
                prop_assert_eq!(shard.rows_up_to(rows), seen);
            }
        }
    }
}
