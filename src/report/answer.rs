//! The body of an answer, as far as a report reads it: the model, the time, whether it was cut off, its beginning.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::completion::{Choice, Completion, Truncation};

/// Bytes of a text that are read: more than a report ever shows of it.
const LOOK: usize = 4096;

/// The facts of an answer that an outcome does not keep.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnswerFacts {
    /// The answer ended at `max_tokens` or at the end of the context (`finish_reason: length`).
    pub truncated: bool,
    /// The time at which the service says it made the answer, in seconds since 1970.
    pub created: Option<i64>,
}

impl AnswerFacts {
    /// The facts of the answer in `body`. Most bodies need not be parsed for them.
    pub(super) fn of(body: &str) -> Self {
        static MEMBER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(CREATED));
        // The same letters within a text have a backslash before the last quote, and are not found.
        let mut found = MEMBER.find_iter(body.as_bytes());
        let created = match (found.next(), found.next()) {
            (None, _) => None,
            (Some(at), None) if let Some(seconds) = whole_number(&body[at + CREATED.len()..]) => Some(seconds),
            _ => AnswerBody::of(body).facts().created,
        };
        Self { truncated: Truncation::of(body).is_some(), created }
    }
}

/// The name of the member with the time of an answer.
const CREATED: &str = "\"created\"";

/// The number of a member that begins with its colon. `None`: the member has another value.
fn whole_number(member: &str) -> Option<i64> {
    let value = member.trim_ascii_start().strip_prefix(':')?.trim_ascii_start();
    value[..value.find([',', '}'])?].trim_ascii_end().parse().ok()
}

/// The body of a response.
#[derive(Debug)]
pub(super) struct AnswerBody<'a> {
    text: &'a str,
    answer: Completion<'a>,
}

impl<'a> AnswerBody<'a> {
    /// Reads a body. One of an unexpected shape gives an empty view.
    pub fn of(text: &'a str) -> Self {
        Self { text, answer: Completion::of(text) }
    }

    /// The model that answered, as the body says.
    pub fn model(&self) -> Option<Cow<'a, str>> {
        let raw = self.answer.model?;
        raw.starts_with('"').then(|| text_of(raw)).filter(|name| !name.is_empty())
    }

    /// The facts that an outcome does not keep.
    pub fn facts(&self) -> AnswerFacts {
        AnswerFacts {
            truncated: self.answer.truncation().is_some(),
            created: self.answer.created.and_then(|raw| raw.parse().ok()),
        }
    }

    /// The beginning of the answer: of a chat's first content or tool calls, or of the text of a completion or a transcript.
    /// Of any other body, the beginning of the body itself.
    pub fn start(&self) -> String {
        let content = self.answer.first().and_then(Choice::shown);
        let raw = content.or(self.answer.text()).unwrap_or(self.text);
        text_of(&raw[..raw.floor_char_boundary(LOOK)]).into_owned()
    }
}

/// The text that a JSON string spells, also if the string is cut off. Anything else is returned as it is.
fn text_of(raw: &str) -> Cow<'_, str> {
    if let Ok(text) = serde_json::from_str::<String>(raw) {
        return Cow::Owned(text);
    }
    let Some(rest) = raw.strip_prefix('"') else { return Cow::Borrowed(raw) };
    // The cut may have gone through an escape, which is 12 bytes long at most.
    (rest.len().saturating_sub(12)..=rest.len())
        .rev()
        .filter(|end| rest.is_char_boundary(*end))
        .find_map(|end| serde_json::from_str::<String>(&format!("\"{}\"", &rest[..end])).ok())
        .map_or(Cow::Borrowed(rest), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_found_in_every_kind_of_body() {
        let long = format!(r#"{{"choices":[{{"text":"{}"}}]}}"#, r"\u00e9\ud83d\ude00\n".repeat(900));
        let cases = [
            (r#"{"choices":[{"message":{"content":"a\n<b>","tool_calls":[]}}]}"#, "a\n<b>"),
            (r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"c"}]}}]}"#, r#"[{"id":"c"}]"#),
            (r#"{"choices":[{"text":"once"},{"text":"twice"}]}"#, "once"),
            (r#"{"text":"a transcript"}"#, "a transcript"),
            (r#"{"error":{"message":"no"}}"#, r#"{"error":{"message":"no"}}"#),
            (r#""plain \"words\"""#, "plain \"words\""),
            ("[1]", "[1]"),
            ("<html>", "<html>"),
        ];
        for (body, start) in cases {
            assert_eq!(AnswerBody::of(body).start(), start, "{body}");
        }
        let start = AnswerBody::of(&long).start();
        assert!(start.starts_with("é😀\né😀\n") && start.chars().count() > 500, "{start}");
    }

    #[test]
    fn time_of_an_answer_is_that_of_a_parsed_one() {
        let cases = [
            (r#"{"id":"c","created":1790000000,"choices":[]}"#, Some(1_790_000_000)),
            (r#"{"created" : 5 }"#, Some(5)),
            (r#"{"choices":[{"text":"\"created\":7"}]}"#, None),
            (r#"{"status":"created","created":6}"#, Some(6)),
            (r#"{"status":"created"}"#, None),
            (r#"{"usage":{"created":7},"created":8}"#, Some(8)),
            (r#"{"created":"x"}"#, None),
            (r#"{"created":1.5}"#, None),
            (r#"{"created":"#, None),
        ];
        for (body, time) in cases {
            assert_eq!((AnswerFacts::of(body).created, AnswerBody::of(body).facts().created), (time, time), "{body}");
        }
    }

    #[test]
    fn values_of_another_type_are_ignored() {
        let body = AnswerBody::of(r#"{"model":7,"created":"x","choices":[{"finish_reason":3}]}"#);
        assert_eq!((body.model(), body.facts().truncated, body.facts().created), (None, false, None));
        let body = AnswerBody::of(
            r#"{"model":"o\/m","created":1790000000,"choices":[{"finish_reason":"stop"},{"finish_reason":"length"}]}"#,
        );
        assert_eq!(body.model().as_deref(), Some("o/m"));
        assert_eq!((body.facts().truncated, body.facts().created), (true, Some(1_790_000_000)));
        assert!(AnswerBody::of("[[]]").model().is_none());
    }
}
