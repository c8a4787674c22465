//! Checksums of stored rows. A row that has changed on the disk must not become a result, a request or an amount of money.

use crc32fast::Hasher;
use rusqlite::Row;

use crate::outcome::{Fingerprint, Outcome};
use crate::store::batches::{Asked, BodyPlace};

/// Bits of the part for the row's number, its fingerprint and whether it is answered.
const KEY_BITS: u32 = 15;
/// Bits of each other part: all columns but the body, and the body.
const PART_BITS: u32 = 24;

/// The checksum of an outcome, in parts, so that a reader of some columns can verify those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Checksum(i64);

/// The columns that were read, and that a checksum is compared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// `row`, `fp` and `ok`.
    Key,
    /// All but `body`.
    Head,
    /// `body` alone.
    Body,
    /// All.
    Whole,
}

impl Checksum {
    /// The checksum of an outcome that is stored with its body at `place` and with these prices.
    pub(super) fn of(outcome: &Outcome, place: Option<BodyPlace>, prices: u32) -> Self {
        let body = outcome.body.as_deref().map_or(0, |body| crc32fast::hash(body.as_bytes()));
        let head = head(outcome, place) ^ id(&outcome.id) ^ crc32fast::hash(&prices.to_le_bytes());
        Self(join(key(outcome.row, outcome.fingerprint, outcome.ok()), head, body))
    }

    /// The checksum in a column. `None`: an earlier llbatch wrote the row.
    pub(in crate::store) fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Self>> {
        Ok(row.get::<_, Option<i64>>(column)?.map(Self))
    }

    /// The value of the column.
    pub(in crate::store) const fn value(self) -> i64 {
        self.0
    }

    /// Returns whether both agree on a part of the columns.
    pub(super) const fn agrees(self, other: Self, part: Part) -> bool {
        const HEAD: i64 = (1 << (KEY_BITS + PART_BITS)) - 1;
        let mask = match part {
            Part::Key => (1 << KEY_BITS) - 1,
            Part::Head => HEAD,
            Part::Body => !HEAD,
            Part::Whole => -1,
        };
        (self.0 ^ other.0) & mask == 0
    }

    /// The checksum of a row of which only the key is known.
    pub(super) fn of_key(row: u64, fingerprint: Fingerprint, ok: bool) -> Self {
        Self(join(key(row, fingerprint, ok), 0, 0))
    }

    /// The checksum of a row of which only the body is known.
    pub(super) fn of_body(body: &[u8]) -> Self {
        Self(join(0, 0, crc32fast::hash(body)))
    }

    /// The checksum of the same outcome for another row, under another id.
    pub(in crate::store) fn moved(self, from: RowName<'_>, to: RowName<'_>, fingerprint: Fingerprint) -> Self {
        let keys = |ok| key(from.row, fingerprint, ok) ^ key(to.row, fingerprint, ok);
        // A damaged row stays damaged: its old key does not agree.
        let ok = self.agrees(Self::of_key(from.row, fingerprint, true), Part::Key);
        Self(self.0 ^ join(keys(ok), id(from.id) ^ id(to.id), 0))
    }
}

/// The number and the id of a row.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct RowName<'a> {
    pub row: u64,
    pub id: &'a str,
}

/// The checksum of a row that a batch asks.
pub(in crate::store) fn of_asked(batch: u32, asked: &Asked<&str>) -> i64 {
    let mut hasher = Hasher::new();
    hasher.update(&batch.to_le_bytes());
    hasher.update(&asked.row.to_le_bytes());
    hasher.update(&asked.fingerprint.0);
    text(&mut hasher, asked.id);
    text(&mut hasher, asked.wire.unwrap_or_default());
    hasher.update(&asked.reserve.prompt.to_le_bytes());
    hasher.update(&asked.reserve.completion.to_le_bytes());
    hasher.finalize().into()
}

fn join(key: u32, head: u32, body: u32) -> i64 {
    let part = |sum: u32, bits: u32| i64::from(sum & ((1 << bits) - 1));
    part(key, KEY_BITS) | part(head, PART_BITS) << KEY_BITS | part(body, PART_BITS) << (KEY_BITS + PART_BITS)
}

fn key(row: u64, fingerprint: Fingerprint, ok: bool) -> u32 {
    let mut bytes = [0; 8 + 16 + 1];
    bytes[..8].copy_from_slice(&row.to_le_bytes());
    bytes[8..24].copy_from_slice(&fingerprint.0);
    bytes[24] = ok.into();
    crc32fast::hash(&bytes)
}

fn id(id: &str) -> u32 {
    crc32fast::hash(id.as_bytes())
}

fn head(outcome: &Outcome, place: Option<BodyPlace>) -> u32 {
    // Hashed at once: short updates of a hasher cost several times as much.
    let mut bytes = Vec::with_capacity(512);
    let error = outcome.error.as_ref();
    let texts =
        [&*outcome.model, error.map_or("", |error| error.code.as_str()), error.map_or("", |error| &error.message)];
    for text in texts {
        // With its length, so that the border between two texts counts.
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    let usage = outcome.usage.unwrap_or_default();
    let place = place.map_or((0, 0, 0), |place| (1 + u64::from(place.errors), place.at, place.len.into()));
    let numbers = [
        outcome.status.map_or(0, u64::from),
        outcome.usage.is_some().into(),
        usage.prompt,
        usage.completion,
        outcome.wasted.prompt,
        outcome.wasted.completion,
        outcome.at_risk.into(),
        outcome.reserve.prompt,
        outcome.reserve.completion,
        outcome.attempts.into(),
        outcome.refused.into(),
        outcome.latency_ms.into(),
        outcome.batch.map_or(0, u64::from),
        place.0,
        place.1,
        place.2,
    ];
    bytes.extend(numbers.into_iter().flat_map(u64::to_le_bytes));
    // The checksums of an earlier llbatch lack them.
    for (part, of) in [(usage, 1_u64), (outcome.wasted, 2)] {
        if (part.cached, part.reasoning) != (0, 0) {
            bytes.extend([of, part.cached, part.reasoning].into_iter().flat_map(u64::to_le_bytes));
        }
    }
    if outcome.url > 0 {
        bytes.extend([3, u64::from(outcome.url)].into_iter().flat_map(u64::to_le_bytes));
    }
    if outcome.is_reused() {
        bytes.push(1);
    }
    if let Some(ms) = outcome.first_token_ms {
        bytes.extend([4, u64::from(ms)].into_iter().flat_map(u64::to_le_bytes));
    }
    if let Some(rule) = error.and_then(|error| error.rule.as_deref()) {
        bytes.extend([5, rule.len() as u64].into_iter().flat_map(u64::to_le_bytes));
        bytes.extend_from_slice(rule.as_bytes());
    }
    crc32fast::hash(&bytes)
}

/// Adds a text with its length, so that the border between two texts counts.
fn text(hasher: &mut Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}
