//! The `usage` of an answer. Services spell its counts and its names in different ways, and leave some of them out.

use crate::json::{self, NotJson, Scanner};

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
        let counts = Counts::read(usage);
        let Counts { total, prompt, completion, .. } = counts;
        let reasoning = counts.reasoning.unwrap_or(0);
        let rest = |total: u64, part: u64| total.saturating_sub(part);
        let (prompt, completion) = match (prompt, completion) {
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
        // Of two readings of a count that cannot be true, the dearer one counts.
        let cached = counts.cached.filter(|cached| *cached <= prompt).unwrap_or(0);
        let reasoning = reasoning.min(completion);
        (prompt.max(completion) <= BELIEVED_TOKENS).then_some(Self { prompt, completion, cached, reasoning })
    }
}

/// The counts of a `usage`, by any of their names. `None` for those that are missing, or that are no whole number.
#[derive(Debug, Default)]
struct Counts {
    total: Option<u64>,
    prompt: Option<u64>,
    completion: Option<u64>,
    cached: Option<u64>,
    reasoning: Option<u64>,
}

impl Counts {
    /// Reads a `usage` that is known to be JSON. If members share a name, the last one counts.
    fn read(usage: &str) -> Self {
        let mut all = Self::default();
        let (mut input, mut output) = (None, None);
        let (mut of_prompt, mut of_completion) = ([""; 2], [""; 2]);
        // Anything but an object has no members.
        let _ = Scanner::trusting(usage).members(|scanner, key| {
            let value = scanner.skip()?;
            match key.name().as_deref().unwrap_or_default() {
                "total_tokens" => all.total = count(value),
                "prompt_tokens" => all.prompt = count(value),
                "input_tokens" => input = count(value),
                "completion_tokens" => all.completion = count(value),
                "output_tokens" => output = count(value),
                "cached_tokens" => all.cached = count(value),
                "reasoning_tokens" => all.reasoning = count(value),
                "prompt_tokens_details" => of_prompt[0] = value,
                "input_tokens_details" => of_prompt[1] = value,
                "completion_tokens_details" => of_completion[0] = value,
                "output_tokens_details" => of_completion[1] = value,
                _ => {}
            }
            Ok::<_, NotJson>(())
        });
        all.prompt = all.prompt.or(input);
        all.completion = all.completion.or(output);
        all.cached = all.cached.or_else(|| part(of_prompt, "cached_tokens"));
        all.reasoning = all.reasoning.or_else(|| part(of_completion, "reasoning_tokens"));
        all
    }
}

/// A whole number, spelled as a number or as a text.
fn count(value: &str) -> Option<u64> {
    let text = value.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    json::whole(text.unwrap_or(value))
}

/// A part of a count, which some models have in these `details`, and others in the `usage` itself.
fn part(details: [&str; 2], name: &str) -> Option<u64> {
    let inner = details.into_iter().find(|details| details.starts_with('{'))?;
    count(json::find(&json::trusted_members(inner), name)?.value)
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
