//! A set of rows at one bit each.

/// Which of the rows 1..=n are in the set.
#[derive(Debug, Clone, Default)]
pub struct RowSet {
    words: Vec<u64>,
    count: u64,
}

impl RowSet {
    /// Room for `rows` rows, none in the set.
    pub fn new(rows: u64) -> Self {
        Self { words: vec![0; (rows / 64 + 1) as usize], count: 0 }
    }

    /// Puts `row` in; `false` if it was there.
    pub fn insert(&mut self, row: u64) -> bool {
        let (word, bit) = ((row / 64) as usize, 1 << (row % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(new);
        new
    }

    /// Whether `row` is in.
    pub fn contains(&self, row: u64) -> bool {
        self.words.get((row / 64) as usize).is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    /// The rows in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let rows = |(at, word): (usize, &u64)| {
            let word = *word;
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at as u64 * 64 + bit)
        };
        self.words.iter().enumerate().flat_map(rows)
    }

    /// How many are in.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_once() {
        let mut bits = RowSet::new(3);
        assert!(bits.insert(1) && bits.insert(64) && bits.insert(1000));
        assert!(!bits.insert(64));
        assert!(bits.contains(64) && !bits.contains(63) && !bits.contains(1_000_000));
        assert_eq!(bits.count(), 3);
    }
}
