//! A set of rows at one bit each.

/// Which of the rows 1..=n are in the set.
#[derive(Debug, Clone, Default)]
pub struct Bits {
    words: Vec<u64>,
    count: u64,
}

impl Bits {
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
        let mut bits = Bits::new(3);
        assert!(bits.insert(1) && bits.insert(64) && bits.insert(1000));
        assert!(!bits.insert(64));
        assert!(bits.contains(64) && !bits.contains(63) && !bits.contains(1_000_000));
        assert_eq!(bits.count(), 3);
    }
}
