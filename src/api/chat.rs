//! Reads a 200: whether it is an answer at all, and the tokens that it cost. Bodies stay raw JSON.

use serde_json::value::RawValue;

use super::Reply;
use crate::completion::Completion;
use crate::json::{one_line, without_nan};

/// The content of a 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An answer.
    Good {
        /// The body as one line of JSON.
        body: Box<str>,
        /// (prompt, completion) tokens, if the service counted them.
        usage: Option<(u64, u64)>,
    },
    /// Something else.
    Bad {
        /// The reason why it is not an answer.
        why: String,
        /// The body as one line of JSON, if it is JSON.
        body: Option<Box<str>>,
        /// (prompt, completion) tokens that were billed for it, if the service counted them.
        usage: Option<(u64, u64)>,
    },
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
    match serde_json::from_str::<Completion<'_>>(text) {
        Ok(parsed) => {
            let body: Box<str> = one_line(text.trim()).into();
            match parsed.flaw() {
                None => Answer::Good { body, usage: parsed.usage() },
                Some(why) => Answer::Bad { why: format!("HTTP 200 {why}"), body: Some(body), usage: parsed.usage() },
            }
        }
        // JSON of another shape is kept, so that the user can find out why.
        Err(error) if error.is_data() => {
            let body = serde_json::from_str::<&RawValue>(text.trim()).ok().map(|raw| one_line(raw.get()).into());
            Answer::Bad { why: format!("HTTP 200 with an unexpected shape: {error}"), body, usage: None }
        }
        Err(error) => match without_nan(text) {
            Some(body) => {
                read(&Reply { body: body.into(), status: reply.status, limits: reply.limits, html: reply.html })
            }
            None => bad(&format!("HTTP 200 with a body that is not JSON: {error}")),
        },
    }
}

/// The title or the beginning of a web page that came in place of an answer. `None` for anything else.
pub fn page(reply: &Reply) -> Option<String> {
    const LONGEST: usize = 80;
    // It is nearly always an answer, of which only the beginning is looked at.
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

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
            r#"{"choices":[{"text":"x"}],"usage":{"prompt_tokens":NaN,"completion_tokens":1}}"#,
            r#"{"choices":[{"text":"x"}],"usage":{"prompt_tokens":1,"completion_tokens":1},"usage":null}"#,
        ] {
            assert!(matches!(answer(body), Answer::Good { .. }), "{body}");
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
}
