//! The `usage` of an answer. Services spell its counts and its names in different ways, and leave some of them out.

use crate::json::{self, Member};

/// Tokens beyond which a count is an error of the service. Four billion is far above any context or answer, and sums
/// over all rows of a job never overflow.
const BELIEVED_TOKENS: u64 = u32::MAX as u64;

/// Tokens as the service counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportedUsage {
    /// Tokens of the request.
    pub prompt: u64,
    /// Tokens of the answer.
    pub completion: u64,
    /// The part of `prompt` that the service had in its cache.
    pub cached: u64,
    /// The part of `completion` that is reasoning.
    pub reasoning: u64,
}

impl ReportedUsage {
    /// Reads a `usage`. `None`: the tokens are unknown, or cannot be true. `embeds`: the answer is made of embeddings,
    /// which have no completion.
    pub(super) fn read(usage: &str, embeds: bool) -> Option<Self> {
        let all = if usage.starts_with('{') { json::trusted_members(usage) } else { Vec::new() };
        let total = count(&all, &["total_tokens"]);
        let prompt = count(&all, &["prompt_tokens", "input_tokens"]);
        let reasoning = part(&all, "reasoning_tokens", ["completion_tokens_details", "output_tokens_details"]);
        let rest = |total: u64, part: u64| total.saturating_sub(part);
        let (prompt, completion) = match (prompt, count(&all, &["completion_tokens", "output_tokens"])) {
            // A service may bill reasoning beside the completion, and count it in the total alone.
            (Some(prompt), Some(completion)) => {
                let beside = completion.saturating_add(Some(reasoning).filter(|r| *r > completion).unwrap_or(0));
                (prompt, total.map_or(beside, |total| beside.max(rest(total, prompt))))
            }
            (Some(prompt), None) if total.is_some() || embeds => (prompt, total.map_or(0, |total| rest(total, prompt))),
            (None, Some(completion)) => (rest(total?, completion), completion),
            (None, None) if embeds => (total?, 0),
            _ => return None,
        };
        let cached = part(&all, "cached_tokens", ["prompt_tokens_details", "input_tokens_details"]);
        // Of two readings of a count that cannot be true, the dearer one counts.
        let cached = if cached > prompt { 0 } else { cached };
        let reasoning = reasoning.min(completion);
        (prompt.max(completion) <= BELIEVED_TOKENS).then_some(Self { prompt, completion, cached, reasoning })
    }
}

/// The first of these members of a `usage` that is a whole number, spelled as a number or as a text.
fn count(members: &[Member<'_>], names: &[&str]) -> Option<u64> {
    let number = |name| json::find(members, name).and_then(|member| json::whole(member.value.trim_matches('"')));
    names.iter().find_map(|name| number(name))
}

/// A part of a count, which some models have in the `usage` itself and others in its `details`.
fn part(usage: &[Member<'_>], name: &str, details: [&str; 2]) -> u64 {
    let nested = |details: &&str| json::find(usage, details).filter(|details| details.value.starts_with('{'));
    let inner = || details.iter().find_map(nested).map(|details| json::trusted_members(details.value));
    count(usage, &[name]).or_else(|| count(&inner()?, &[name])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(usage: &str, embeds: bool) -> Option<(u64, u64)> {
        ReportedUsage::read(usage, embeds).map(|usage| (usage.prompt, usage.completion))
    }

    #[test]
    fn usage_of_embeddings_needs_no_completion() {
        for (usage, tokens) in [
            (r#"{"prompt_tokens":5}"#, Some((5, 0))),
            (r#"{"prompt_tokens":5,"total_tokens":5}"#, Some((5, 0))),
            (r#"{"total_tokens":5}"#, Some((5, 0))),
            ("{}", None),
        ] {
            assert_eq!(found(usage, true), tokens, "{usage}");
        }
    }

    #[test]
    fn usage_is_believed_only_where_it_can_be_true() {
        for (usage, tokens) in [
            (r#"{"prompt_tokens":5,"completion_tokens":1}"#, Some((5, 1))),
            // Without one of the counts, the tokens are unknown unless the total tells.
            (r#"{"prompt_tokens":5}"#, None),
            (r#"{"completion_tokens":5}"#, None),
            (r#"{"total_tokens":5}"#, None),
            (r#"{"prompt_tokens":5,"total_tokens":7}"#, Some((5, 2))),
            (r#"{"completion_tokens":5,"total_tokens":7}"#, Some((2, 5))),
            // Every spelling of a whole number, and both pairs of names.
            (r#"{"prompt_tokens":11.0,"completion_tokens":7.0,"total_tokens":18.0}"#, Some((11, 7))),
            (r#"{"prompt_tokens":"11","completion_tokens":"7"}"#, Some((11, 7))),
            (r#"{"prompt_tokens":1.1e1,"completion_tokens":7}"#, Some((11, 7))),
            (r#"{"input_tokens":11,"output_tokens":7}"#, Some((11, 7))),
            (r#"{"prompt_tokens":null,"input_tokens":11,"output_tokens":7}"#, Some((11, 7))),
            (r#"{"prompt_tokens":11,"prompt_tokens":12,"completion_tokens":7}"#, Some((12, 7))),
            // Reasoning that the completion leaves out may be billed.
            (
                r#"{"prompt_tokens":11,"completion_tokens":7,"total_tokens":2018,"completion_tokens_details":{"reasoning_tokens":2000}}"#,
                Some((11, 2007)),
            ),
            (r#"{"prompt_tokens":11,"completion_tokens":7,"reasoning_tokens":2000}"#, Some((11, 2007))),
            (r#"{"prompt_tokens":11,"completion_tokens":7,"reasoning_tokens":6}"#, Some((11, 7))),
            (r#"{"prompt_tokens":4294967295,"completion_tokens":0}"#, Some((u64::from(u32::MAX), 0))),
            (r#"{"prompt_tokens":4294967296,"completion_tokens":0}"#, None),
            (r#"{"prompt_tokens":1,"completion_tokens":18446744073709551615}"#, None),
            (r#"{"prompt_tokens":-1,"completion_tokens":1}"#, None),
            (r#"{"prompt_tokens":1.5,"completion_tokens":1}"#, None),
            ("[5,1]", None),
            ("{}", None),
            ("7", None),
        ] {
            assert_eq!(found(usage, false), tokens, "{usage}");
        }
    }

    #[test]
    fn cached_and_reasoning_tokens_are_read_in_both_shapes() {
        for (more, cached, reasoning) in [
            ("", 0, 0),
            (r#","cached_tokens":90,"reasoning_tokens":5"#, 90, 5),
            (
                r#","prompt_tokens_details":{"cached_tokens":90},"completion_tokens_details":{"reasoning_tokens":5}"#,
                90,
                5,
            ),
            (
                r#","input_tokens_details":{"cached_tokens":"90"},"output_tokens_details":{"reasoning_tokens":5.0}"#,
                90,
                5,
            ),
            (r#","prompt_tokens_details":null,"completion_tokens_details":[]"#, 0, 0),
            (r#","cached_tokens":null,"prompt_tokens_details":{"cached_tokens":90}"#, 90, 0),
            // More than the whole cannot be cached.
            (r#","cached_tokens":101"#, 0, 0),
            (r#","cached_tokens":-1"#, 0, 0),
        ] {
            let usage = format!(r#"{{"prompt_tokens":100,"completion_tokens":7{more}}}"#);
            let expected = ReportedUsage { prompt: 100, completion: 7, cached, reasoning };
            assert_eq!(ReportedUsage::read(&usage, false), Some(expected), "{usage}");
        }
    }
}
