//! Decides whether a batch that the service did not begin may be made again, and when. Together does not document its
//! words for a full queue.

use std::time::Duration;

/// Fragments that name a full queue. A batch never gets them for its content.
const QUEUE: &[&str] =
    &["enqueued", "token_limit_exceeded", "queue is full", "queue full", "queue limit", "in_progress batches"];
/// Fragments that promise success later, unless the refusal also names a fault of the batch.
const LATER: &[&str] = &[
    "try again",
    "retry later",
    "temporar",
    "overloaded",
    "at capacity",
    "rate limit",
    "rate_limit",
    "too many batches",
    "too many requests",
    "too many concurrent",
];
/// Fragments that name a fault of the batch, or one that only the user can mend.
const LASTING: &[&str] = &[
    "invalid",
    "not found",
    "no such",
    "unknown",
    "not exist",
    "unsupported",
    "not supported",
    "malformed",
    "not valid",
    "not processed",
    "parse",
    "duplicate",
    "line ",
    "row ",
    "billing",
    "credit",
    "payment",
    "permission",
    "not allowed",
];

/// Longest wait before the batch is made again, unless the user polls less often.
const LONGEST: Duration = Duration::from_mins(5);

/// Returns true if the service's words for a refusal give a reason that passes by itself.
pub fn is_passing(words: &str) -> bool {
    let words = words.to_lowercase();
    let has = |fragments: &[&str]| fragments.iter().any(|fragment| words.contains(fragment));
    has(QUEUE) || (has(LATER) && !has(LASTING))
}

/// Returns the wait before another creation after `refusals` refusals; after the first it is `first`.
pub(super) fn next_creation_wait(refusals: u32, first: Duration) -> Duration {
    first.saturating_mul(1 << refusals.saturating_sub(1).min(16)).min(LONGEST.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reasons_that_pass_by_themselves_are_waited_for() {
        for (words, pass) in [
            (
                "token_limit_exceeded: Enqueued token limit reached for this model. Please try again once some \
                 in_progress batches have been completed.",
                true,
            ),
            ("HTTP 400: The queue is full", true),
            ("HTTP 400: too many batches are in progress, try again later", true),
            ("Service temporarily unavailable", true),
            ("no room today", false),
            ("The file is invalid JSONL, correct it and try again", false),
            ("line 3 has too many tokens; try again", false),
            ("model not found", false),
            ("exceeds the token limit of the model", false),
            ("not enough credits; add some and try again", false),
            ("", false),
        ] {
            assert_eq!(is_passing(words), pass, "{words}");
        }
    }

    #[test]
    fn wait_doubles_up_to_minutes() {
        let seconds = |n, first| next_creation_wait(n, Duration::from_secs(first)).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(|n| seconds(n, 30)), [30, 60, 120, 240, 300, 300]);
        assert_eq!(seconds(7, 900), 900, "the user polls less often");
    }
}
