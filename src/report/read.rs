//! What a report looks for in the body of an answer: who answered and when, whether it was cut off, how it begins.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::report::details::Said;

/// Bytes of a text that are looked at: more than is ever shown of it.
const LOOK: usize = 4096;

/// A body, looked into. Leaves stay raw, so that a value of an unexpected type costs no other value.
#[derive(Debug, Default, Deserialize)]
pub struct Body<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    created: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

impl<'a> Body<'a> {
    /// Looks into `body`; nothing is found in one of another shape.
    pub fn of(body: &'a str) -> Self {
        // Serde would take an array for a struct.
        if body.trim_start().starts_with('{') {
            serde_json::from_str(body).unwrap_or_default()
        } else {
            Self::default()
        }
    }

    /// The model that it says answered.
    pub fn model(&self) -> Option<Cow<'a, str>> {
        let raw = self.model?.get();
        raw.starts_with('"').then(|| text_of(raw)).filter(|name| !name.is_empty())
    }

    /// What an outcome does not keep of it. An answer with several choices is cut off if one of them is.
    pub fn said(&self) -> Said {
        let cut = |choice: &Choice<'_>| choice.finish_reason.is_some_and(|reason| reason.get() == "\"length\"");
        Said {
            truncated: self.choices.iter().flatten().any(cut),
            created: self.created.and_then(|raw| raw.get().parse().ok()),
        }
    }

    /// How the answer begins: of a chat its first choice's content or tool calls, of a completion or a transcript its
    /// text; of anything else, `body` as it is spelled.
    pub fn start(&self, body: &str) -> String {
        let choice = self.choices.iter().flatten().next();
        let content = choice.and_then(|choice| match &choice.message {
            Some(message) => message.content.filter(|content| content.get() != "null").or(message.tool_calls),
            None => choice.text,
        });
        let raw = content.or(self.text).map_or(body, RawValue::get);
        text_of(&raw[..raw.floor_char_boundary(LOOK)]).into_owned()
    }
}

/// The text that a JSON string spells; anything else, also one that is cut off, as it stands, escapes of line breaks read.
fn text_of(raw: &str) -> Cow<'_, str> {
    if let Ok(text) = serde_json::from_str::<String>(raw) {
        return Cow::Owned(text);
    }
    let Some(rest) = raw.strip_prefix('"') else { return Cow::Borrowed(raw) };
    // A long string: its beginning up to an escape that is cut in two.
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
