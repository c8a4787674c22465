//! Hashes that come more than once, found among millions in a few bytes each.

use crate::row_set::RowSet;

/// Bits of the hash that choose a bucket, and bits kept in the bucket.
const BUCKET_BITS: u32 = 12;
const KEPT_BITS: u32 = 32;

/// Bits of a hash.
pub(super) const HASH_BITS: u32 = BUCKET_BITS + KEPT_BITS;

/// Hashes of [`HASH_BITS`] bits, by their upper bits. `T` is what is kept of each.
#[derive(Debug, Default)]
struct Buckets<T>(Vec<Vec<T>>);

impl<T> Buckets<T> {
    /// Keeps `kept` in the bucket of a hash.
    fn add(&mut self, hash: u64, kept: T) {
        if self.0.is_empty() {
            self.0.resize_with(1 << BUCKET_BITS, Vec::new);
        }
        let bucket = &mut self.0[usize::try_from(hash >> KEPT_BITS).unwrap_or(0)];
        if bucket.len() == bucket.capacity() {
            // A bucket that doubles would be half empty.
            bucket.reserve_exact(bucket.len() / 4 + 16);
        }
        bucket.push(kept);
    }

    /// Takes the buckets one by one, and frees each.
    fn take(&mut self) -> impl Iterator<Item = Vec<T>> {
        std::mem::take(&mut self.0).into_iter()
    }
}

/// The part of a hash that is kept in its bucket.
const fn kept(hash: u64) -> u32 {
    hash as u32
}

/// Hashes, in four bytes each.
#[derive(Debug, Default)]
pub(super) struct HashBuckets(Buckets<u32>);

impl HashBuckets {
    /// Adds a hash.
    pub fn add(&mut self, hash: u64) {
        self.0.add(hash, kept(hash));
    }

    /// Takes the hashes that came more than once, ascending, and frees the rest.
    pub fn repeated(&mut self) -> Vec<u64> {
        let mut repeated = Vec::new();
        for (bucket, mut kept) in (0_u64..).zip(self.0.take()) {
            kept.sort_unstable();
            for same in kept.chunk_by(|a, b| a == b).filter(|same| same.len() > 1) {
                repeated.push((bucket << KEPT_BITS) | u64::from(same[0]));
            }
        }
        repeated
    }
}

/// Hashes of rows, in eight bytes each.
#[derive(Debug, Default)]
pub(super) struct RowBuckets(Buckets<(u32, u32)>);

/// Rows whose hash another row has too.
#[derive(Debug, Clone, Default)]
pub struct AlikeRows(RowSet);

impl RowBuckets {
    /// Adds the hash of a row.
    pub fn add(&mut self, hash: u64, row: u64) {
        self.0.add(hash, (kept(hash), place(row)));
    }

    /// Takes the rows whose hash came more than once, and frees the rest.
    pub fn alike(&mut self) -> AlikeRows {
        let mut alike = AlikeRows::default();
        for mut kept in self.0.take() {
            kept.sort_unstable();
            for same in kept.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
                for (_, row) in same {
                    alike.0.insert(u64::from(*row));
                }
            }
        }
        alike
    }
}

impl AlikeRows {
    /// Returns true if there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.count() == 0
    }

    /// Tests whether `row` is one of them.
    pub fn contains(&self, row: u64) -> bool {
        self.0.contains(u64::from(place(row)))
    }

    /// Adds a row.
    #[cfg(test)]
    pub(super) fn insert(&mut self, row: u64) {
        self.0.insert(row);
    }
}

/// The number of a row in 32 bits. Rows beyond four billion share one.
fn place(row: u64) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_hash_are_alike_and_others_are_not() {
        let mut rows = RowBuckets::default();
        let top = 1 << (HASH_BITS - 1);
        for (hash, row) in [(7, 1), (8, 2), (7, 3), (top | 7, 4), (9, 5), (7, 6), (9, u64::MAX - 1)] {
            rows.add(hash, row);
        }
        let alike = rows.alike();
        let found: Vec<u64> = (1..9).filter(|row| alike.contains(*row)).collect();
        assert_eq!(found, [1, 3, 5, 6]);
        assert!(alike.contains(u64::MAX - 1) && !alike.is_empty() && rows.alike().is_empty());
    }
}
