//! Looks into the body of an answer for the report: which model answered and when, whether it was cut off, its beginning.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::completion::{Choice, Completion};
use crate::report::details::Said;

/// Bytes of a text that are looked at: more than is ever shown.
const LOOK: usize = 4096;

/// A body, looked into for the report.
#[derive(Debug, Default)]
pub struct Body<'a>(Completion<'a>);

impl<'a> Body<'a> {
    /// Looks into `body`. A body of another shape gives an empty view.
    pub fn of(body: &'a str) -> Self {
        Self(Completion::of(body))
    }

    /// The model that it says answered.
    pub fn model(&self) -> Option<Cow<'a, str>> {
        let raw = self.0.model?.get();
        raw.starts_with('"').then(|| text_of(raw)).filter(|name| !name.is_empty())
    }

    /// The facts that an outcome does not keep of it. An answer with several choices is cut off if one of them is.
    pub fn said(&self) -> Said {
        Said {
            truncated: self.0.choices().iter().any(Choice::is_truncated),
            created: self.0.created.and_then(|raw| raw.get().parse().ok()),
        }
    }

    /// The beginning of the answer: a chat's first content or tool calls, or the text of a completion or a transcript. For
    /// anything else `body` as spelled.
    pub fn start(&self, body: &str) -> String {
        let content = self.0.first().and_then(|choice| match choice.message() {
            Some(message) => message.content().or(message.tool_calls()),
            None => choice.text(),
        });
        let raw = content.or(self.0.text()).map_or(body, RawValue::get);
        text_of(&raw[..raw.floor_char_boundary(LOOK)]).into_owned()
    }
}

/// The text of a JSON string, also of one that is cut off. Anything else stays as spelled.
fn text_of(raw: &str) -> Cow<'_, str> {
    if let Ok(text) = serde_json::from_str::<String>(raw) {
        return Cow::Owned(text);
    }
    let Some(rest) = raw.strip_prefix('"') else { return Cow::Borrowed(raw) };
    // A long string is read up to an escape that is cut in two.
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
            assert_eq!(Body::of(body).start(body), start, "{body}");
        }
        let start = Body::of(&long).start(&long);
        assert!(start.starts_with("é😀\né😀\n") && start.chars().count() > 500, "{start}");
    }

    #[test]
    fn what_is_of_another_type_is_not_there() {
        let body = Body::of(r#"{"model":7,"created":"x","choices":[{"finish_reason":3}]}"#);
        assert_eq!((body.model(), body.said().truncated, body.said().created), (None, false, None));
        let body = Body::of(
            r#"{"model":"o\/m","created":1790000000,"choices":[{"finish_reason":"stop"},{"finish_reason":"length"}]}"#,
        );
        assert_eq!(body.model().as_deref(), Some("o/m"));
        assert_eq!((body.said().truncated, body.said().created), (true, Some(1_790_000_000)));
        assert!(Body::of("[[]]").model().is_none());
    }
}
