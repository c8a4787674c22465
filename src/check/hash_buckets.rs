//! Hashes that come more than once, found among millions in a few bytes each.

/// Bits of the hash that choose a bucket, and bits kept in the bucket.
const BUCKET_BITS: u32 = 12;
const KEPT_BITS: u32 = 32;

/// Bits of a hash.
pub(super) const HASH_BITS: u32 = BUCKET_BITS + KEPT_BITS;

/// Hashes of [`HASH_BITS`] bits by their upper bits, in four bytes each.
#[derive(Debug, Default)]
pub(super) struct HashBuckets(Vec<Vec<u32>>);

impl HashBuckets {
    /// Adds a hash.
    pub fn add(&mut self, hash: u64) {
        if self.0.is_empty() {
            self.0.resize_with(1 << BUCKET_BITS, Vec::new);
        }
        let bucket = &mut self.0[usize::try_from(hash >> KEPT_BITS).unwrap_or(0)];
        if bucket.len() == bucket.capacity() {
            // A bucket that doubles would be half empty.
            bucket.reserve_exact(bucket.len() / 4 + 16);
        }
        bucket.push(hash as u32);
    }

    /// Takes the hashes that came more than once, ascending, and frees the rest.
    pub fn repeated(&mut self) -> Vec<u64> {
        let mut repeated = Vec::new();
        for (bucket, mut kept) in (0_u64..).zip(std::mem::take(&mut self.0)) {
            kept.sort_unstable();
            for same in kept.chunk_by(|a, b| a == b).filter(|same| same.len() > 1) {
                repeated.push((bucket << KEPT_BITS) | u64::from(same[0]));
            }
        }
        repeated
    }
}
