//! Answers: text that depends on the request alone, so that a test can tell whose answer it holds.

use std::fmt::Write as _;

use super::request::{Endpoint, Format, Parsed, hash, tokens};

/// The time that every answer carries (2026-01-01): the same request gives the same bytes.
const CREATED: u64 = 1_767_225_600;

/// Words to make sentences of.
const WORDS: [&str; 64] = [
    "river", "lamp", "quiet", "orange", "window", "seven", "paper", "cloud", "garden", "simple", "copper", "morning",
    "letter", "forest", "signal", "bright", "harbor", "velvet", "number", "kettle", "mirror", "north", "pocket",
    "rapid", "silver", "table", "umber", "valley", "winter", "yellow", "anchor", "basket", "candle", "delta", "ember",
    "fabric", "gentle", "hollow", "island", "jacket", "kitten", "ladder", "meadow", "needle", "ocean", "pepper",
    "quartz", "ribbon", "saddle", "timber", "upland", "violin", "walnut", "zephyr", "amber", "bridge", "cotton",
    "dragon", "engine", "fossil", "glider", "hammer", "indigo", "jigsaw",
];

/// Ways in which an answer can be wrong in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flaw {
    /// It is right.
    #[default]
    None,
    /// `choices: []`.
    EmptyChoices,
    /// `content: null`.
    NullContent,
    /// Without `usage`.
    NoUsage,
    /// So many bytes of content.
    Huge(usize),
}

/// An answer and what it costs.
#[derive(Debug)]
pub struct Answer {
    /// The body, pretty-printed as live.
    pub body: String,
    /// Tokens of the request.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

/// A small generator of numbers that depend on the seed alone (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        // 32 bits fit a double exactly and are fine enough.
        f64::from((self.roll() >> 32) as u32) / 4_294_967_296.0
    }
}

fn sentence(hash: u64, choice: u64) -> String {
    let mut dice = Dice(hash.wrapping_add(choice));
    let count = 8 + dice.roll() % 25;
    let mut text = format!("[{hash:016x}] The");
    for _ in 0..count {
        text.push(' ');
        // The modulus is 64.
        text.push_str(WORDS[(dice.roll() % 64) as usize]);
    }
    text.push('.');
    text
}

/// The text of one choice before any cut.
fn text(request: &Parsed<'_>, hash: u64, choice: u64) -> String {
    match request.format {
        Format::Text => sentence(hash, choice),
        Format::Object => {
            serde_json::json!({"answer": sentence(hash, choice), "hash": format!("{hash:016x}")}).to_string()
        }
        Format::Schema(schema) => match serde_json::from_str(schema) {
            Ok(schema) => super::schema::instance(&schema, &sentence(hash, choice)).to_string(),
            Err(_) => sentence(hash, choice),
        },
    }
}

/// Cuts `text` to `max` tokens; whether it was cut.
fn cut(text: &mut String, max: Option<u64>) -> bool {
    let Some(bytes) = max.and_then(|max| usize::try_from(max.saturating_mul(4)).ok()) else { return false };
    if text.len() <= bytes {
        return false;
    }
    text.truncate(text.floor_char_boundary(bytes));
    true
}

/// The answer to `request`.
pub fn answer(request: &Parsed<'_>, endpoint: Endpoint, flaw: Flaw) -> Answer {
    match endpoint {
        Endpoint::Embeddings => return embeddings(request),
        Endpoint::Audio => {
            let body = format!("{{\n  \"text\": {}\n}}", super::errors::quote(&sentence(request.hash(), 0)));
            return Answer { body, prompt_tokens: 0, completion_tokens: 0 };
        }
        Endpoint::Chat | Endpoint::Completions => {}
    }
    let hash = request.hash();
    let mut body = String::with_capacity(1024);
    let chat = endpoint == Endpoint::Chat;
    let object = if chat { "chat.completion" } else { "text.completion" };
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        body,
        "{{\n  \"id\": \"s{hash:016x}-sandbox\",\n  \"object\": \"{object}\",\n  \"created\": {CREATED},\n  \"model\": "
    );
    push_quoted(&mut body, &request.model);
    body.push_str(
        ",\n  \"metadata\": {\n    \"weight_version\": \"default\"\n  },\n  \"prompt\": [],\n  \"choices\": [",
    );
    let mut completion_tokens = 0;
    if flaw != Flaw::EmptyChoices {
        for index in 0..request.n {
            let mut text = text(request, hash, index);
            if let Flaw::Huge(bytes) = flaw {
                text.push_str(&"all work and no play ".repeat(bytes / 21 + 1));
            }
            let finish = if cut(&mut text, request.max_tokens) { "length" } else { "stop" };
            completion_tokens += tokens(&text);
            body.push_str(if index == 0 { "\n" } else { ",\n" });
            let _ = write!(body, "    {{\n      \"index\": {index},\n      ");
            body.push_str(if chat {
                "\"message\": {\n        \"role\": \"assistant\",\n        \"content\": "
            } else {
                "\"text\": "
            });
            if flaw == Flaw::NullContent {
                body.push_str("null");
            } else {
                push_quoted(&mut body, &text);
            }
            if chat {
                body.push_str(",\n        \"tool_calls\": []\n      }");
            }
            let _ = write!(
                body,
                ",\n      \"logprobs\": null,\n      \"finish_reason\": \"{finish}\",\n      \"seed\": null\n    }}"
            );
        }
        body.push_str("\n  ");
    }
    body.push(']');
    let prompt_tokens = request.prompt_tokens;
    if flaw != Flaw::NoUsage {
        let total = prompt_tokens + completion_tokens;
        let _ = write!(
            body,
            ",\n  \"usage\": {{\n    \"prompt_tokens\": {prompt_tokens},\n    \"total_tokens\": {total},\n    \
             \"completion_tokens\": {completion_tokens},\n    \"reasoning_tokens\": 0\n  }}"
        );
    }
    body.push_str("\n}");
    Answer { body, prompt_tokens, completion_tokens }
}

fn embeddings(request: &Parsed<'_>) -> Answer {
    let mut body = String::from("{\n  \"object\": \"list\",\n  \"data\": [");
    for (index, input) in request.inputs.iter().enumerate() {
        let mut dice = Dice(hash(input));
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(body, "{comma}\n    {{\n      \"object\": \"embedding\",\n      \"index\": {index},\n      ");
        body.push_str("\"embedding\": [");
        for i in 0..16 {
            let comma = if i == 0 { "" } else { ", " };
            let _ = write!(body, "{comma}{:.6}", dice.unit() * 2.0 - 1.0);
        }
        body.push_str("]\n    }");
    }
    body.push_str("\n  ],\n  \"model\": ");
    push_quoted(&mut body, &request.model);
    let tokens = request.prompt_tokens;
    let _ =
        write!(body, ",\n  \"usage\": {{\n    \"prompt_tokens\": {tokens},\n    \"total_tokens\": {tokens}\n  }}\n}}");
    Answer { body, prompt_tokens: tokens, completion_tokens: 0 }
}

/// Appends `text` as a JSON string.
pub fn push_quoted(out: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&super::errors::quote(text));
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::*;

    fn chat(extra: &str, flaw: Flaw) -> serde_json::Value {
        let body = format!(r#"{{"model":"a/b","messages":[{{"role":"user","content":"hi \"you\""}}]{extra}}}"#);
        let answer = answer(&parse(&body, Endpoint::Chat).unwrap(), Endpoint::Chat, flaw);
        serde_json::from_str(&answer.body).unwrap()
    }

    #[test]
    fn the_content_names_its_prompt() {
        let content = chat("", Flaw::None)["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        let expected = &blake3::hash(b"hi \"you\"").to_hex()[..16];
        assert!(content.starts_with(&format!("[{expected}] ")), "{content}");
        assert_eq!(content, chat(r#","temperature":1"#, Flaw::None)["choices"][0]["message"]["content"]);
    }

    #[test]
    fn the_shape_is_the_recorded_one() {
        let value = chat("", Flaw::None);
        assert_eq!(value["prompt"], serde_json::json!([]));
        assert!(value["choices"][0]["seed"].is_null() && value["choices"][0].get("seed").is_some());
        assert_eq!(value["choices"][0]["message"]["tool_calls"], serde_json::json!([]));
        let usage = &value["usage"];
        let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
        assert_eq!(usage["total_tokens"], sum);
    }

    #[test]
    fn max_tokens_cuts_and_says_so() {
        let value = chat(r#","max_tokens":5"#, Flaw::None);
        assert_eq!(value["choices"][0]["finish_reason"], "length");
        assert_eq!(value["usage"]["completion_tokens"], 5);
        assert_eq!(chat(r#","max_tokens":500"#, Flaw::None)["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn choices_and_formats() {
        assert_eq!(chat(r#","n":3"#, Flaw::None)["choices"].as_array().unwrap().len(), 3);
        let object = chat(r#","response_format":{"type":"json_object"}"#, Flaw::None);
        let text = object["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(text).unwrap().is_object());
    }

    #[test]
    fn flaws() {
        assert_eq!(chat("", Flaw::EmptyChoices)["choices"], serde_json::json!([]));
        assert!(chat("", Flaw::NullContent)["choices"][0]["message"]["content"].is_null());
        assert!(chat("", Flaw::NoUsage).get("usage").is_none());
        let huge = chat("", Flaw::Huge(1 << 20));
        assert!(huge["choices"][0]["message"]["content"].as_str().unwrap().len() > 1 << 20);
    }
}
