//! The prompt tokens of a request's body, which is walked as text.

use super::Estimator;
use crate::json::{find, string, trusted_elements as elements, trusted_members as members};

/// Llama 3 begins every prompt with a token of its own.
const BEGIN: u64 = 1;
/// Around a message and its role: the two tokens that enclose the header, an empty line, and the end of the turn.
const MESSAGE: u64 = 4;
/// The header of the answer that is asked for: as a message's, with `assistant`, and not ended.
const ANSWER: u64 = 4;
/// Around a query and a document: a token at the beginning, between them, and at the end.
const PAIR: u64 = 3;
/// Members outside of messages that become part of the prompt.
const SCHEMAS: [&str; 3] = ["tools", "functions", "response_format"];
/// Members of a message that become part of the prompt as JSON.
const CALLS: [&str; 2] = ["tool_calls", "function_call"];

/// The prompt tokens of `body`. A `chat` includes those of the template.
pub fn count(estimator: &Estimator, body: &str, chat: bool) -> u64 {
    let all = members(body);
    let value = |name| find(&all, name).map(|member| member.value).filter(|value| *value != "null");
    let json = |names: &[&'static str]| {
        names.iter().filter_map(|name| value(name)).map(|text| estimator.text(text)).sum::<u64>()
    };
    let asked = match (value("messages"), value("prompt"), value("input")) {
        (Some(messages), ..) if messages.starts_with('[') => {
            elements(messages).into_iter().map(|one| message(estimator, one, chat)).sum()
        }
        (None, Some(prompt), _) => content(estimator, prompt, false),
        (None, None, Some(input)) => content(estimator, input, false),
        // The query is read beside each document.
        (None, None, None) if let (Some(query), Some(documents)) = (value("query"), value("documents")) => {
            return ranked(estimator, query, &elements(documents));
        }
        // An unknown kind of request: any of it may become a prompt.
        _ => return estimator.text(body),
    };
    BEGIN + if chat { ANSWER } else { 0 } + asked + json(&SCHEMAS)
}

/// The tokens of a query beside each of these documents. A document may be an object, which is read as JSON text.
fn ranked(estimator: &Estimator, query: &str, documents: &[&str]) -> u64 {
    let document = |document: &&str| match string(document) {
        Some(text) => estimator.text(&text),
        None => estimator.text(document),
    };
    let query = content(estimator, query, false) + PAIR;
    documents.iter().map(document).sum::<u64>() + query * documents.len() as u64
}

fn message(estimator: &Estimator, message: &str, chat: bool) -> u64 {
    let around = if chat { MESSAGE } else { 0 };
    if !message.starts_with('{') {
        return around + content(estimator, message, chat);
    }
    let all = members(message);
    let value = |name| find(&all, name).map_or("null", |member| member.value);
    let texts = ["role", "name", "content"].map(|name| content(estimator, value(name), chat));
    let calls = CALLS.map(value).into_iter().filter(|call| *call != "null").map(|call| estimator.text(call));
    around + texts.into_iter().chain(calls).sum::<u64>()
}

/// A text, or a list of texts, of parts that have one, or of tokens. The template trims what it takes.
fn content(estimator: &Estimator, value: &str, trim: bool) -> u64 {
    if value.starts_with('[') {
        return elements(value).into_iter().map(|part| item(estimator, part, trim)).sum();
    }
    item(estimator, value, trim)
}

fn item(estimator: &Estimator, value: &str, trim: bool) -> u64 {
    match value.as_bytes().first() {
        // A string with half a character in it counts as spelled.
        Some(b'"') => match string(value).as_deref().unwrap_or(value.trim_matches('"')) {
            text if trim => estimator.text(text.trim()),
            text => estimator.text(text),
        },
        // A part of a message. The tokens of an image are unknown here.
        Some(b'{') => {
            let text = find(&members(value), "text").map_or("null", |member| member.value);
            if text.starts_with('"') { item(estimator, text, trim) } else { 0 }
        }
        // A prompt of tokens, or one of several.
        Some(b'[') => elements(value).len() as u64,
        Some(b'0'..=b'9') => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(body: &str) -> (u64, u64) {
        let estimator = Estimator::shared();
        (estimator.request(body, true), estimator.request(body, false))
    }

    #[test]
    fn a_chat_has_its_template_around_it() {
        // begin; start, user, end, empty line, Hello, world, end of turn; start, assistant, end, empty line.
        assert_eq!(tokens(r#"{"model":"m","messages":[{"role":"user","content":"Hello world"}]}"#).0, 12);
        let two = r#"{"messages":[{"role":"system","content":" Hello world\n"},{"content":"Hello\u0020world","role":"user"}]}"#;
        assert_eq!(tokens(two).0, 19);
        assert_eq!(tokens(r#"{"messages":[{"role":"user","content":""}]}"#).0, 10);
        assert_eq!(tokens(r#"{"messages":[{"role":"assistant","content":null}]}"#).0, 10);
        assert_eq!(tokens(r#"{"messages":[]}"#).0, 5);
    }

    #[test]
    fn a_prompt_has_none() {
        assert_eq!(tokens(r#"{"prompt":"Hello world","max_tokens":5}"#).1, 3);
        assert_eq!(tokens(r#"{"prompt":["Hello world","Hello"]}"#).1, 4);
        assert_eq!(tokens(r#"{"model":"m","input":["Hello world","Hello"]}"#).1, 4);
        assert_eq!(tokens(r#"{"prompt":[15339,1917]}"#).1, 3);
        assert_eq!(tokens(r#"{"prompt":[[15339,1917],[1]]}"#).1, 4);
    }

    #[test]
    fn a_query_counts_beside_each_document() {
        let estimator = Estimator::shared();
        let body = |documents: &str| format!(r#"{{"query":"Hello world","documents":[{documents}]}}"#);
        // The query's 2 tokens and 3 around the pair.
        assert_eq!(estimator.request(&body(r#""Hello""#), false), 6);
        assert_eq!(estimator.request(&body(r#""Hello", "Hello world""#), false), 6 + 7);
        let object = r#"{"title":"Hello"}"#;
        assert_eq!(estimator.request(&body(object), false), 5 + estimator.text(object));
    }

    #[test]
    fn escapes_are_undone_before_counting() {
        let plain = tokens(r#"{"prompt":"Ελλάδα\n\"日本\" naïve"}"#).1;
        let escaped = tokens(r#"{"prompt":"\u0395\u03bb\u03bb\u03ac\u03b4\u03b1\n\"\u65e5\u672c\" na\u00efve"}"#).1;
        assert_eq!(plain, escaped);
    }

    #[test]
    fn parts_tools_and_schemas_count() {
        let text = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"Hello world"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}"#;
        assert_eq!(tokens(text).0, 12);
        let tool = r#"{"type":"function","function":{"name":"weather"}}"#;
        let own = Estimator::shared().text(&format!("[{tool}]"));
        assert!(own > 10, "{own}");
        let asked = |rest: &str| tokens(&format!(r#"{{"messages":[{{"role":"user","content":"Hello world"{rest}}}"#)).0;
        assert_eq!(asked(&format!(r#"}}],"tools":[{tool}]"#)), 12 + own);
        assert_eq!(asked(&format!(r#"}}],"response_format":[{tool}],"tools":null"#)), 12 + own);
        assert_eq!(asked(&format!(r#","tool_calls":[{tool}]}}]"#)), 12 + own);
    }

    #[test]
    fn odd_bodies_are_counted_as_they_stand() {
        let estimator = Estimator::shared();
        for body in ["", "[1,2]", "\"text\"", "{\"messages\":\"Hello\"}", "{\"query\":\"Hello\"}", "{\"messages\":{"] {
            assert_eq!(estimator.request(body, false), estimator.text(body), "{body}");
        }
        // Half a character stands as it is spelled.
        assert_eq!(tokens(r#"{"prompt":"\ud800"}"#).1, 1 + estimator.text(r"\ud800"));
        let deep =
            format!(r#"{{"messages":[{{"role":"user","content":{}{}}}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(tokens(&deep).0 < 100);
        let deep = format!(r#"{{"prompt":{}{}}}"#, "{\"text\":".repeat(50_000), "}".repeat(50_000));
        assert!(tokens(&deep).1 < 100);
    }

    proptest! {
        #[test]
        fn no_body_is_too_odd(rest in "[\\[\\]{}\":,\\\\a1 é]{0,40}") {
            for body in [format!("{{\"messages\":[{rest}"), format!("{{\"prompt\":{rest}}}"), rest] {
                tokens(&body);
            }
        }
    }
}
