//! A set of rows at one bit each.

/// Row numbers from 1 on.
#[derive(Debug, Clone, Default)]
pub struct RowSet {
    words: Vec<u64>,
    count: u64,
}

impl RowSet {
    /// An empty set with room for the rows up to `rows`.
    pub fn new(rows: u64) -> Self {
        Self { words: vec![0; (rows / 64 + 1) as usize], count: 0 }
    }

    /// Adds `row`; `false` if the set had it.
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

    /// Tests whether the set has `row`.
    pub fn contains(&self, row: u64) -> bool {
        self.words.get((row / 64) as usize).is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    /// Lists the rows in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let rows = |(at, word): (usize, &u64)| {
            let word = *word;
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at as u64 * 64 + bit)
        };
        self.words.iter().enumerate().flat_map(rows)
    }

    /// Number of rows in the set.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_once() {
        let mut rows = RowSet::new(3);
        assert!(rows.insert(1) && rows.insert(64) && rows.insert(1000));
        assert!(!rows.insert(64));
        assert!(rows.contains(64) && !rows.contains(63) && !rows.contains(1_000_000));
        assert_eq!(rows.count(), 3);
    }
}
