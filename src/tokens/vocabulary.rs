//! A vocabulary of tokens, and the number of them that a piece of text becomes.

use std::sync::atomic::{AtomicU64, Ordering};

/// cl100k, and 16,000 tokens of o200k: packed by `tests/tokens/pack.py`, licence beside it.
const PACKED: &[u8] = include_bytes!("vocabulary.zst");
/// About twice what is packed, so that a look-up meets one slot or two.
const SLOTS: usize = 1 << 18;
/// Bits of a slot that hold the rank. The higher bits hold a part of the hash.
const RANK_BITS: u32 = 20;
/// The most tokens there may be.
pub const MOST: usize = SLOTS / 4 * 3;
/// A slot with no token: its rank is more than there may be.
const EMPTY: u64 = u64::MAX;
/// No token.
const NONE: u32 = u32::MAX;
/// Longer pieces are cut to this length, as merging takes the square of the length. No token of letters comes near it.
const LONGEST: usize = 240;
/// Pieces that are remembered, as words come again. This doubles the speed where words are not tokens.
const REMEMBERED: usize = 1 << 14;

/// Ranks by a hash of the token. The tokens themselves are not kept. Two are confused once in 2⁴⁴ look-ups, which no
/// estimate shows.
#[derive(Debug)]
pub(super) struct Vocabulary {
    slots: Box<[u64]>,
    /// Ranks of the tokens of two bytes, which is what merging asks for first and most.
    pairs: Box<[u32]>,
    /// Counts of pieces that are not single tokens. The lowest byte is the count, the others are the hash.
    remembered: Box<[AtomicU64]>,
}

impl Vocabulary {
    /// The vocabulary that is part of the program.
    pub(super) fn bundled() -> Self {
        let unpacked = zstd::decode_all(PACKED).expect("packed when the program was built");
        let (bytes, longer) = unpacked.split_at(256);
        Self::new(bytes.chunks(1).chain(longer[1..].split(|byte| *byte == 0xff)))
    }

    /// A vocabulary of tokens in the order in which they are merged, [`MOST`] at most.
    pub fn new<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut slots = vec![EMPTY; SLOTS].into_boxed_slice();
        let mut pairs = vec![NONE; 1 << 16].into_boxed_slice();
        for (rank, token) in (0_u64..).zip(tokens) {
            if let &[first, second] = token {
                pairs[pair(first, second)] = rank as u32;
            }
            let hash = hash(token);
            let mut at = hash as usize % SLOTS;
            while slots[at] != EMPTY {
                at = (at + 1) % SLOTS;
            }
            slots[at] = (hash >> RANK_BITS << RANK_BITS) | rank;
        }
        Self { slots, pairs, remembered: (0..REMEMBERED).map(|_| AtomicU64::new(0)).collect() }
    }

    fn rank(&self, token: &[u8]) -> u32 {
        match *token {
            [first, second] => self.pairs[pair(first, second)],
            _ => self.rank_of(hash(token)),
        }
    }

    fn rank_of(&self, hash: u64) -> u32 {
        let mut at = hash as usize % SLOTS;
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return NONE;
            }
            if (slot ^ hash) >> RANK_BITS == 0 {
                return slot as u32 % (1 << RANK_BITS);
            }
            at = (at + 1) % SLOTS;
        }
    }

    /// The tokens of a piece of text, merged as byte-pair encoding does it.
    ///
    /// With `whole` it starts from characters that are tokens, in place of bytes. The result is almost the same, at
    /// half the work for characters of three bytes.
    pub fn count(&self, piece: &[u8], whole: bool) -> u64 {
        if piece.len() <= 1 {
            return piece.len() as u64;
        }
        let hash = hash(piece);
        if self.rank_of(hash) != NONE {
            return 1;
        }
        // An entry is read whole, be it the newest or an older one, and either is right.
        let entry = &self.remembered[hash as usize % REMEMBERED];
        let known = entry.load(Ordering::Relaxed);
        if (known ^ hash) >> 8 == 0 {
            return known % 256;
        }
        let (mut tokens, mut rest) = (0, piece);
        while !rest.is_empty() {
            // Not inside of a character.
            let end = (1..=LONGEST).rev().find(|end| rest.get(*end).is_none_or(|byte| byte & 0xc0 != 0x80));
            let (part, behind) = rest.split_at(end.unwrap_or(LONGEST).min(rest.len()));
            tokens += self.merged(part, whole);
            rest = behind;
        }
        if tokens < 256 {
            entry.store((hash >> 8 << 8) | tokens, Ordering::Relaxed);
        }
        tokens
    }

    /// Forgets what it remembers.
    #[cfg(test)]
    pub fn forget(&self) {
        self.remembered.iter().for_each(|entry| entry.store(0, Ordering::Relaxed));
    }

    fn merged(&self, piece: &[u8], whole: bool) -> u64 {
        // The start of each part, and the rank of it joined with the next one. The last two only mark the end.
        let mut starts = [0_u8; LONGEST + 1];
        let mut ranks = [NONE; LONGEST + 1];
        let (mut parts, mut at) = (0, 0);
        while at < piece.len() {
            starts[parts] = at as u8;
            parts += 1;
            let width = if whole { width(piece[at]).min(piece.len() - at) } else { 1 };
            at += if width > 1 && self.rank(&piece[at..at + width]) == NONE { 1 } else { width };
        }
        starts[parts] = piece.len() as u8;
        let joined = |starts: &[u8], at: usize, parts: usize| {
            if at + 2 <= parts { self.rank(&piece[starts[at].into()..starts[at + 2].into()]) } else { NONE }
        };
        for (at, rank) in ranks[..parts].iter_mut().enumerate() {
            *rank = joined(&starts, at, parts);
        }
        while parts > 1 {
            let mut best = (NONE, 0);
            for (at, rank) in ranks[..parts - 1].iter().enumerate() {
                if *rank < best.0 {
                    best = (*rank, at);
                }
            }
            let (rank, at) = best;
            if rank == NONE {
                break;
            }
            starts.copy_within(at + 2..=parts, at + 1);
            ranks.copy_within(at + 2..=parts, at + 1);
            parts -= 1;
            ranks[at] = joined(&starts, at, parts);
            if at > 0 {
                ranks[at - 1] = joined(&starts, at - 1, parts);
            }
        }
        parts as u64
    }
}

/// The bytes of the character that starts with this one, or 1 inside of one.
const fn width(lead: u8) -> usize {
    match lead {
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
        _ => 1,
    }
}

/// The index of the rank of a token of these two bytes.
const fn pair(first: u8, second: u8) -> usize {
    u16::from_be_bytes([first, second]) as usize
}

/// A hash of a few bytes, each of which changes all bits.
fn hash(token: &[u8]) -> u64 {
    const ODD: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f];
    let mix = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        wide as u64 ^ (wide >> 64) as u64
    };
    let four = |at: usize| token[at..].first_chunk().map_or(0, |four| u64::from(u32::from_le_bytes(*four)));
    let eight = |at: usize| token[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
    let size = token.len();
    let (low, high) = match size {
        0 => (0, 0),
        // The first, the middle and the last byte are all there are.
        1..4 => (u64::from(token[0]) << 16 | u64::from(token[size / 2]) << 8 | u64::from(token[size - 1]), 0),
        4..9 => (four(0), four(size - 4)),
        9..17 => (eight(0), eight(size - 8)),
        _ => {
            let folded = (0..size - 16).step_by(8).fold(ODD[2], |seed, at| mix(eight(at) ^ ODD[0], seed ^ ODD[1]));
            (eight(size - 16) ^ folded, eight(size - 8))
        }
    };
    mix(mix(low ^ ODD[0], high ^ ODD[1]), size as u64 ^ ODD[2])
}
