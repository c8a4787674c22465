//! Reading a 200: whether it is an answer at all, and what it cost in tokens. Bodies stay raw JSON.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Reply;

/// Tokens beyond which a count is an error of the service's: four billion, far above any context or answer, and small
/// enough that sums over all rows of a job never overflow.
const BELIEVED_TOKENS: u64 = u32::MAX as u64;

/// What a 200 turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An answer.
    Good {
        /// The body as one line of JSON.
        body: Box<str>,
        /// (prompt, completion) tokens, if the server said.
        usage: Option<(u64, u64)>,
    },
    /// Something else.
    Bad {
        /// What is wrong with it.
        why: String,
        /// The body as one line of JSON, if it is JSON.
        body: Option<Box<str>>,
        /// Tokens that were billed for it, if it says so.
        usage: Option<(u64, u64)>,
    },
}

/// What is looked at in the body of a 200. Serde would take an array for it: see that the text begins with `{`.
#[derive(Deserialize)]
pub(crate) struct Body<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Object<Choice<'a>>>>,
    #[serde(borrow, default)]
    data: Option<Vec<Object<Embedding<'a>>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
}

impl Body<'_> {
    /// Why it is no answer, as the end of a sentence that begins with "HTTP 200".
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        if self.carries_error() {
            return Some("that carries an error");
        }
        match (&self.choices, &self.data) {
            (Some(choices), _) if choices.is_empty() => Some("with no choices"),
            (Some(choices), _) if choices.iter().all(answered) => None,
            (Some(_), _) => Some("with a choice that says nothing"),
            (None, Some(data)) if data.is_empty() => Some("with no embeddings"),
            (None, Some(data)) if data.iter().all(embedded) => None,
            (None, Some(_)) => Some("with an entry that is no embedding"),
            (None, None) => Some("with neither choices nor embeddings"),
        }
    }

    /// No completion, but a text without an error: what the audio endpoints answer.
    pub(crate) fn is_transcript(&self) -> bool {
        !self.carries_error()
            && self.choices.is_none()
            && self.data.is_none()
            && self.text.is_some_and(|text| text.get().starts_with('"'))
    }

    /// Whether it has `choices`, good or bad.
    pub(crate) const fn is_completion(&self) -> bool {
        self.choices.is_some()
    }

    /// (prompt, completion) tokens, if the server said. A count that cannot be true is none.
    pub(crate) fn usage(&self) -> Option<(u64, u64)> {
        let Object(usage): Object<Usage> = serde_json::from_str(self.usage?.get()).ok()?;
        match (usage.prompt_tokens, usage.completion_tokens) {
            (None, None) => None,
            (prompt, completion) => Some((prompt.unwrap_or(0), completion.unwrap_or(0))),
        }
        .filter(|(prompt, completion)| *prompt.max(completion) <= BELIEVED_TOKENS)
    }

    fn carries_error(&self) -> bool {
        self.error.is_some_and(|error| error.get() != "null")
    }
}

/// What is read from an object alone: serde would take an array for a struct too, value by value.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Map(PhantomData)).map(Object)
    }
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    message: Option<Object<Message<'a>>>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(default)]
    tool_calls: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    reasoning: Option<IgnoredAny>,
    #[serde(default)]
    reasoning_content: Option<IgnoredAny>,
    #[serde(default)]
    refusal: Option<IgnoredAny>,
    #[serde(default)]
    function_call: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Embedding<'a> {
    #[serde(borrow, default)]
    embedding: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}

/// Reads the body of a 200.
pub fn read(reply: &Reply) -> Answer {
    let bad = |why: &str| Answer::Bad { why: why.to_owned(), body: None, usage: None };
    if reply.body.is_empty() {
        return bad("HTTP 200 with an empty body");
    }
    let Ok(text) = std::str::from_utf8(&reply.body) else { return bad("HTTP 200 with a body that is not UTF-8") };
    if page(reply).is_some() {
        return bad("HTTP 200 with an HTML page instead of an answer");
    }
    if !is_object(text) {
        return bad("HTTP 200 with something other than a JSON object");
    }
    match serde_json::from_str::<Body<'_>>(text) {
        Ok(parsed) => {
            let body: Box<str> = one_line(text.trim()).into();
            match parsed.flaw() {
                None => Answer::Good { body, usage: parsed.usage() },
                Some(why) => Answer::Bad { why: format!("HTTP 200 {why}"), body: Some(body), usage: parsed.usage() },
            }
        }
        // JSON, but of another shape: keep it for the person who has to find out why.
        Err(error) if error.is_data() => {
            let body = serde_json::from_str::<&RawValue>(text.trim()).ok().map(|raw| one_line(raw.get()).into());
            Answer::Bad { why: format!("HTTP 200 with an unexpected shape: {error}"), body, usage: None }
        }
        Err(error) => bad(&format!("HTTP 200 with a body that is not JSON: {error}")),
    }
}

/// What a web page that came in place of an answer calls itself, or how it begins; `None`: it is none.
pub fn page(reply: &Reply) -> Option<String> {
    const LONGEST: usize = 80;
    // Of an answer, which it nearly always is, no more than the beginning is looked at.
    if !reply.html && !reply.body.trim_ascii_start().starts_with(b"<") {
        return None;
    }
    let text = String::from_utf8_lossy(&reply.body);
    let text = text.trim();
    let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    let words = title.map_or(text, |(title, _)| title).split_whitespace().collect::<Vec<_>>().join(" ");
    Some(words.chars().take(LONGEST).collect())
}

fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

fn embedded(Object(entry): &Object<Embedding<'_>>) -> bool {
    entry.embedding.is_some_and(|e| e.get().starts_with(['[', '"']))
}

fn answered(Object(choice): &Object<Choice<'_>>) -> bool {
    if let Some(text) = choice.text {
        return text.get().starts_with('"');
    }
    choice.message.as_ref().is_some_and(|Object(m)| {
        m.content.is_some_and(|c| c.get().starts_with(['"', '[']))
            || m.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty())
            || m.reasoning.is_some()
            || m.reasoning_content.is_some()
            || m.refusal.is_some()
            || m.function_call.is_some()
    })
}

/// JSON without line breaks: the service pretty-prints, a line of results must stay one line.
///
/// White space outside strings goes; every other byte stays. Already single-line JSON is passed through.
pub fn one_line(json: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_none() {
        return Cow::Borrowed(json);
    }
    let bytes = json.as_bytes();
    let mut out = String::with_capacity(json.len());
    let mut from = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1),
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.push_str(&json[from..at]);
                while at < bytes.len() && matches!(bytes[at], b' ' | b'\t' | b'\n' | b'\r') {
                    at += 1;
                }
                from = at;
            }
            _ => at += 1,
        }
    }
    out.push_str(&json[from..]);
    Cow::Owned(out)
}

/// The index just past the closing quote of a string that begins at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at = (at + 2).min(bytes.len());
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::api::limits::Limits;

    fn answer(body: &str) -> Answer {
        read(&Reply {
            status: 200,
            limits: Limits::default(),
            html: false,
            body: Bytes::copy_from_slice(body.as_bytes()),
        })
    }

    const LIVE: &str = "{\n  \"id\": \"x\",\n  \"prompt\": [],\n  \"choices\": [\n    {\"index\": 0, \"message\": {\"role\": \"assistant\", \"content\": \"a\\n b\", \"tool_calls\": []}, \"logprobs\": null, \"finish_reason\": \"stop\", \"seed\": null}\n  ],\n  \"usage\": {\"prompt_tokens\": 12, \"total_tokens\": 15, \"completion_tokens\": 3}\n}";

    #[test]
    fn a_live_answer_becomes_one_line_with_its_strings_untouched() {
        let Answer::Good { body, usage } = answer(LIVE) else { panic!("not an answer") };
        assert_eq!(usage, Some((12, 3)));
        assert!(!body.contains('\n'));
        assert!(body.contains(r#""content":"a\n b""#));
        assert!(body.contains(r#""seed":null"#));
    }

    #[test]
    fn what_is_no_answer_is_never_taken_for_one() {
        let cases = [
            ("", "empty body"),
            ("<html>", "HTML"),
            (r#"{"choices":[{"message":{"con"#, "not JSON"),
            (r#"{"choices":[]}"#, "no choices"),
            (r#"{"choices":[{}]}"#, "says nothing"),
            (r#"{"choices":[{"message":{"content":null}}]}"#, "says nothing"),
            (r#"{"choices":[{"message":{"content":"x"}},{"message":null}]}"#, "says nothing"),
            (r#"{"choices":"x"}"#, "unexpected shape"),
            (r#"{"choices":[["x"]]}"#, "unexpected shape"),
            (r#"{"choices":[[[[]]]]}"#, "unexpected shape"),
            (r#"{"choices":[{"message":["x"]}]}"#, "unexpected shape"),
            (r#"{"data":[[[0.1]]]}"#, "unexpected shape"),
            (r#"{"data":[]}"#, "no embeddings"),
            (r#"{"data":[{"embedding":7}]}"#, "no embedding"),
            (r#"{"object":"list"}"#, "neither"),
            (r#"{"error":{"message":"x"},"choices":[{"message":{"content":"x"}}]}"#, "carries an error"),
            (r#"[[{"text":"x"}]]"#, "other than a JSON object"),
            ("null", "other than a JSON object"),
        ];
        for (body, expected) in cases {
            let Answer::Bad { why, .. } = answer(body) else { panic!("{body} was taken for an answer") };
            assert!(why.contains(expected), "{body}: {why}");
        }
    }

    #[test]
    fn unusual_answers_are_answers() {
        for body in [
            r#"{"choices":[{"text":""}]}"#,
            r#"{"choices":[{"message":{"content":""}}],"usage":null}"#,
            r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"x"}]}}]}"#,
            r#"{"choices":[{"message":{"content":null,"reasoning":"hm"}}]}"#,
            r#"{"data":[{"embedding":[0.1]}],"error":null,"usage":{"prompt_tokens":"many"}}"#,
        ] {
            assert!(matches!(answer(body), Answer::Good { .. }), "{body}");
        }
    }

    #[test]
    fn a_transcript_is_told_from_an_empty_completion() {
        let cases = [
            (r#"{"text":"hello"}"#, true),
            (r#"{"text":"","segments":[],"choices":null,"error":null}"#, true),
            (r#"{"text":null}"#, false),
            (r#"{"text":"x","choices":[]}"#, false),
            (r#"{"text":"x","error":"y"}"#, false),
        ];
        for (body, transcript) in cases {
            let parsed: Body<'_> = serde_json::from_str(body).unwrap();
            assert_eq!((parsed.is_transcript(), parsed.flaw().is_some()), (transcript, true), "{body}");
        }
    }

    #[test]
    fn tokens_are_counted_only_where_the_count_can_be_true() {
        for (usage, tokens) in [
            (r#"{"prompt_tokens":5,"completion_tokens":1}"#, Some((5, 1))),
            (r#"{"prompt_tokens":5}"#, Some((5, 0))),
            (r#"{"prompt_tokens":4294967295,"completion_tokens":0}"#, Some((u64::from(u32::MAX), 0))),
            (r#"{"prompt_tokens":4294967296,"completion_tokens":0}"#, None),
            (r#"{"prompt_tokens":1,"completion_tokens":18446744073709551615}"#, None),
            (r#"{"prompt_tokens":-1,"completion_tokens":1}"#, None),
            (r#"{"prompt_tokens":1.0,"completion_tokens":1}"#, None),
            ("[5,1]", None),
            ("{}", None),
            ("7", None),
        ] {
            let body = format!(r#"{{"choices":[{{"text":"x"}}],"usage":{usage}}}"#);
            let Answer::Good { usage: read, .. } = answer(&body) else { panic!("{body}") };
            assert_eq!(read, tokens, "{usage}");
        }
    }

    #[test]
    fn a_thrown_away_answer_still_tells_its_price() {
        let Answer::Bad { usage, body, .. } =
            answer(r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#)
        else {
            panic!()
        };
        assert_eq!(usage, Some((5, 1)));
        assert!(body.is_some());
    }

    proptest! {
        #[test]
        fn one_line_keeps_the_value(text in "\\PC*", number in any::<i64>()) {
            let value = serde_json::json!({"a": [text, number, {"k\n": null}], "b\\\"": "\r\n"});
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let line = one_line(&pretty);
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(serde_json::to_string(&value).unwrap(), line);
        }
    }
}
