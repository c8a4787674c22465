//! How many tokens a request may be, before the server counts them.

/// Bytes a token in ordinary English prose and JSON, about; only pacing depends on it.
const USUAL_BYTES: u64 = 4;
/// Fewest bytes a token that ordinary text of any script comes to; bounds what an unanswered request may have cost.
const FEWEST_BYTES: u64 = 2;

/// A middling estimate of the tokens of a request body.
#[must_use]
pub const fn estimate(body: &str) -> u64 {
    (body.len() as u64).div_ceil(USUAL_BYTES)
}

/// An upper bound on the tokens of a request body.
#[must_use]
pub const fn bound(body: &str) -> u64 {
    (body.len() as u64).div_ceil(FEWEST_BYTES)
}

/// The same of so many bytes.
#[must_use]
pub const fn estimate_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(USUAL_BYTES)
}
