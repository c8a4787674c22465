//! Reads the body of a 200 response: decides whether it is an answer, and finds the tokens that it cost. Bodies stay raw JSON.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Reply;
use super::error::{Failure, Fault};
use super::error_body::flaw_of;
use crate::completion::{AnswerFlaw, AnswerPlaces, Completion, NoCompletion, ReportedUsage};
use crate::json::{is_too_deep, one_line, refusal, without_nan};

/// The content of a 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An answer.
    Good {
        /// The body as one line of JSON.
        body: Box<str>,
        /// The places of the answer's parts in it, if they are known.
        places: Option<AnswerPlaces>,
        /// The tokens, if the service counted them.
        usage: Option<ReportedUsage>,
    },
    /// Something else.
    Bad {
        /// The reason why it is not an answer.
        failure: Failure,
        /// The body as one line of JSON, if it is JSON.
        body: Option<Box<str>>,
        /// The tokens that were billed for it, if the service counted them.
        usage: Option<ReportedUsage>,
    },
}

/// Reads the body of a 2xx. The content decides, not its wrapping: a wrong content type, a byte order mark, or comments of
/// an event stream in front.
pub fn read(reply: &Reply) -> Answer {
    read_as(reply, |parsed| parsed.flaw())
}

/// Reads the body of a 2xx that answers with a transcript. One without a word is an answer too.
pub fn read_transcript(reply: &Reply) -> Answer {
    read_as(reply, |parsed| match parsed.flaw() {
        Some(AnswerFlaw::Foreign) if parsed.is_transcript() => None,
        None => Some(AnswerFlaw::Foreign),
        flaw => flaw,
    })
}

/// Finds the reason why a body is not an answer.
type FindFlaw = for<'a> fn(&Completion<'a>) -> Option<AnswerFlaw<'a>>;

fn read_as(reply: &Reply, flaw: FindFlaw) -> Answer {
    let status = reply.status;
    let bad = |why: &str| {
        let why = format!("HTTP {status} with {why}");
        Answer::Bad { failure: Failure::no_answer(Fault::BadResponse, status, why), body: None, usage: None }
    };
    if reply.body.is_empty() {
        return bad("an empty body");
    }
    let Ok(text) = std::str::from_utf8(&reply.body) else { return bad("a body that is not UTF-8") };
    let text = unwrapped(text);
    if page(reply).is_some() {
        return bad("an HTML page instead of an answer");
    }
    if begins_events(text) {
        return event_stream(text, status);
    }
    if !text.starts_with('{') {
        return bad("something other than a JSON object");
    }
    match Completion::parse(text) {
        Ok(_) if is_too_deep(text) => {
            let why = format!("HTTP {status} {TOO_DEEP}");
            Answer::Bad { failure: Failure::no_answer(Fault::Unusable, status, why), body: None, usage: None }
        }
        Ok(parsed) => {
            let line = one_line(text);
            let places = AnswerPlaces::of(&parsed, text).filter(|_| matches!(line, Cow::Borrowed(_)));
            let body: Box<str> = line.into();
            match flaw(&parsed) {
                None => Answer::Good { body, places, usage: parsed.usage() },
                Some(found) => {
                    let failure = flaw_of(&found, status, text);
                    Answer::Bad { failure, body: Some(body), usage: parsed.usage() }
                }
            }
        }
        // JSON of another shape is kept, so that the user can find out why.
        Err(NoCompletion::Shape(words)) => {
            let raw = serde_json::from_str::<&RawValue>(text).ok().filter(|raw| !is_too_deep(raw.get()));
            let body = raw.map(|raw| one_line(raw.get()).into());
            let why = format!("HTTP {status} with an unexpected shape: {words}");
            Answer::Bad { failure: Failure::no_answer(Fault::BadResponse, status, why), body, usage: None }
        }
        Err(NoCompletion::NotJson) => match without_nan(text) {
            Some(body) => read_as(&Reply { body: body.into(), status, limits: reply.limits, html: reply.html }, flaw),
            None => bad(&format!("a body that is not JSON: {}", refusal(text))),
        },
    }
}

/// The body without what some servers put around it: a byte order mark, white space, comments of an event stream.
pub fn unwrapped(text: &str) -> &str {
    let mut text = text.trim_start_matches('\u{feff}').trim();
    while text.starts_with(':') {
        text = text.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
    }
    text
}

/// Returns true for the body of an event stream, whatever its type is.
pub(super) fn holds_events(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| begins_events(unwrapped(text)))
}

fn begins_events(text: &str) -> bool {
    text.starts_with("data:") || text.starts_with("event:")
}

/// Longest body of a failed response that goes into a line of results.
pub(crate) const MAX_FAILED_BODY: usize = 64 << 10;

/// A stream of events, which nobody asked for. The server would send one again. Its text is kept as a JSON string.
fn event_stream(text: &str, status: u16) -> Answer {
    let body =
        Some(text).filter(|text| text.len() <= MAX_FAILED_BODY).and_then(|text| serde_json::to_string(text).ok());
    let why = format!("HTTP {status} with an event stream, although the request asks for a whole answer");
    Answer::Bad { failure: Failure::no_answer(Fault::Unusable, status, why), body: body.map(Into::into), usage: None }
}

/// The flaw of an answer that is nested too deep, as the end of a sentence.
pub(crate) const TOO_DEEP: &str = "with JSON that is nested too deep for other programs";

/// The title or the beginning of a web page that came in place of an answer. `None` for anything else.
pub fn page(reply: &Reply) -> Option<String> {
    const LONGEST: usize = 80;
    // It is nearly always an answer, of which only the beginning is looked at.
    let start = reply.body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&reply.body).trim_ascii_start();
    if !start.starts_with(b"<") && (!reply.html || start.starts_with(b"{") || start.starts_with(b"[")) {
        return None;
    }
    let text = String::from_utf8_lossy(start);
    let text = text.trim();
    let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    let words = title.map_or(text, |(title, _)| title).split_whitespace().collect::<Vec<_>>().join(" ");
    Some(words.chars().take(LONGEST).collect())
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
        let Answer::Good { body, usage, .. } = answer(LIVE) else { panic!("not an answer") };
        assert_eq!(usage, Some(ReportedUsage { prompt: 12, completion: 3, ..ReportedUsage::default() }));
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
            (r#"{"choices":[{}]}"#, "an empty choice"),
            (r#"{"choices":[{"message":{"content":null}}]}"#, "an empty choice"),
            (r#"{"choices":[{"message":{"content":null},"finish_reason":"length"}]}"#, "cut off at max_tokens"),
            (r#"{"choices":[{"message":{"content":""},"finish_reason":"content_filter"}]}"#, "content_filter"),
            ("data: {}\n\ndata: [DONE]\n", "an event stream"),
            (r#"{"choices":"x"}"#, "unexpected shape"),
            (r#"{"choices":[["x"]]}"#, "unexpected shape"),
            (r#"{"choices":[[[[]]]]}"#, "unexpected shape"),
            (r#"{"choices":[{"message":["x"]}]}"#, "unexpected shape"),
            (r#"{"data":[[[0.1]]]}"#, "unexpected shape"),
            (r#"{"data":[]}"#, "no embeddings"),
            (r#"{"data":[{"embedding":7}]}"#, "no embedding"),
            (r#"{"object":"list"}"#, "neither"),
            (r#"{"error":{"message":"x"},"choices":[{"message":{"content":"x"}}]}"#, "HTTP 200 with error: x"),
            (r#"{"error":{"code":502,"message":"upstream crashed"}}"#, "HTTP 200 with error 502: upstream crashed"),
            (r#"{"code":"rate_limit_daily","message":"daily limit"}"#, "HTTP 200 with error: daily limit"),
            (r#"[[{"text":"x"}]]"#, "other than a JSON object"),
            ("null", "other than a JSON object"),
        ];
        for (body, expected) in cases {
            let Answer::Bad { failure, .. } = answer(body) else { panic!("{body} was taken for an answer") };
            assert!(failure.message.contains(expected), "{body}: {failure}");
        }
    }

    #[test]
    fn transcripts_are_told_from_other_bodies() {
        let reply = |body: &str| Reply {
            status: 200,
            limits: Limits::default(),
            html: false,
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        for (body, is_answer) in [
            (r#"{"text":"hello"}"#, true),
            (r#"{"text":""}"#, true),
            (r#"{"text":"hello","words":[{"word":"hello","start":0.0,"end":0.5}],"duration":0.5}"#, true),
            (r#"{"text":"hello","usage":{"type":"duration","seconds":1}}"#, true),
            (r#"{"text":"hello","error":{"message":"cut"}}"#, false),
            (r#"{"text":7}"#, false),
            (r#"{"choices":[{"message":{"content":"hello"}}]}"#, false),
            ("{}", false),
            ("1\n00:00:00,000 --> 00:00:01,000\nhello", false),
        ] {
            let answer = read_transcript(&reply(body));
            assert_eq!(matches!(answer, Answer::Good { .. }), is_answer, "{body}: {answer:?}");
        }
    }

    #[test]
    fn unusual_answers_are_answers() {
        for body in [
            "\u{feff}{\"choices\":[{\"text\":\"\"}]}",
            ": PROCESSING\n\n: PROCESSING\n\n{\"choices\":[{\"text\":\"\"}]}",
            r#"{"choices":[{"message":{"content":"x"}},{"message":null}]}"#,
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
        assert_eq!(usage, Some(ReportedUsage { prompt: 5, completion: 1, ..ReportedUsage::default() }));
        assert!(body.is_some());
    }
}
