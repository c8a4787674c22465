//! Answers: text that depends on the request alone, so that a test can tell to which prompt an answer belongs.

use serde_json::json;

use super::bodies::{self, TokenUsage, embeddings, pretty};
use super::cache::CachedTokens;
use super::chunks;
use super::dice::Dice;
use super::request::{AnswerFormat, InferenceKind, InferenceRequest};
use super::schema;
use super::token_text::tokens;

/// Words to make sentences of.
const WORDS: [&str; 64] = [
    "river", "lamp", "quiet", "orange", "window", "seven", "paper", "cloud", "garden", "simple", "copper", "morning",
    "letter", "forest", "signal", "bright", "harbor", "velvet", "number", "kettle", "mirror", "north", "pocket",
    "rapid", "silver", "table", "umber", "valley", "winter", "yellow", "anchor", "basket", "candle", "delta", "ember",
    "fabric", "gentle", "hollow", "island", "jacket", "kitten", "ladder", "meadow", "needle", "ocean", "pepper",
    "quartz", "ribbon", "saddle", "timber", "upland", "violin", "walnut", "zephyr", "amber", "bridge", "cotton",
    "dragon", "engine", "fossil", "glider", "hammer", "indigo", "jigsaw",
];

/// A way in which an answer can be wrong in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flaw {
    #[default]
    None,
    EmptyChoices,
    NullContent,
    NoUsage,
    /// At least this many bytes of content.
    Huge(usize),
    /// An error event in the middle of a stream.
    ErrorEvent,
    /// A stream without a finish reason.
    NoFinish,
    /// A stream without `[DONE]`.
    NoDone,
}

/// An answer and its tokens.
#[derive(Debug)]
pub struct GeneratedAnswer {
    pub body: AnswerBody,
    pub tokens: AnswerTokens,
}

/// The form in which an answer is given.
#[derive(Debug)]
pub enum AnswerBody {
    /// At once, pretty-printed as live.
    Whole(String),
    /// The data of each event of a stream.
    Events(Vec<String>),
}

/// The tokens that an answer is billed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnswerTokens {
    pub prompt: u64,
    /// The part of `prompt` that is cached.
    pub cached: u64,
    pub completion: u64,
}

/// The generated choices of a completion, before they take the form of a body or of a stream.
#[derive(Debug)]
pub struct GeneratedCompletion<'a> {
    pub id: String,
    pub is_chat: bool,
    pub model: &'a str,
    pub choices: Vec<GeneratedChoice>,
    pub usage: Option<TokenUsage>,
}

/// One choice.
#[derive(Debug)]
pub struct GeneratedChoice {
    pub content: Option<String>,
    pub finish_reason: &'static str,
}

/// The answer to `request`, of whose prompt a part is `cached`. It is streamed if the request asks for that.
pub fn answer(
    request: &InferenceRequest<'_>,
    kind: InferenceKind,
    flaw: Flaw,
    cached: CachedTokens,
) -> GeneratedAnswer {
    match kind {
        InferenceKind::Embeddings => embeddings(request),
        InferenceKind::Audio => {
            let body = pretty(&json!({"text": sentence(request.hash(), 0)}));
            GeneratedAnswer { body: AnswerBody::Whole(body), tokens: AnswerTokens::default() }
        }
        InferenceKind::Chat | InferenceKind::Completions => {
            let (completion, tokens) = completion(request, kind, flaw, cached);
            let body = match request.stream {
                Some(options) => AnswerBody::Events(chunks::events(&completion, options, flaw)),
                None => AnswerBody::Whole(bodies::completion(&completion)),
            };
            GeneratedAnswer { body, tokens }
        }
    }
}

fn completion<'a>(
    request: &'a InferenceRequest<'_>,
    kind: InferenceKind,
    flaw: Flaw,
    form: CachedTokens,
) -> (GeneratedCompletion<'a>, AnswerTokens) {
    let hash = request.hash();
    let mut completion_tokens = 0;
    let mut choices = Vec::new();
    for index in 0..if flaw == Flaw::EmptyChoices { 0 } else { request.n } {
        let mut text = text(request, hash, index);
        if let Flaw::Huge(bytes) = flaw {
            text.push_str(&"all work and no play ".repeat(bytes / 21 + 1));
        }
        let finish_reason = if cut(&mut text, request.max_tokens) { "length" } else { "stop" };
        completion_tokens += tokens(&text);
        choices.push(GeneratedChoice { content: Some(text).filter(|_| flaw != Flaw::NullContent), finish_reason });
    }
    let prompt = request.prompt_tokens;
    let tokens = AnswerTokens { prompt, cached: form.part(prompt, hash), completion: completion_tokens };
    let usage = TokenUsage::of(tokens, form);
    let completion = GeneratedCompletion {
        id: format!("s{hash:016x}-sandbox"),
        is_chat: kind == InferenceKind::Chat,
        model: &request.model,
        choices,
        usage: Some(usage).filter(|_| flaw != Flaw::NoUsage),
    };
    (completion, tokens)
}

/// The text of one choice before any cut.
fn text(request: &InferenceRequest<'_>, hash: u64, choice: u64) -> String {
    let sentence = sentence(hash, choice);
    match request.format {
        AnswerFormat::Text => sentence,
        AnswerFormat::Object => json!({"answer": sentence, "hash": format!("{hash:016x}")}).to_string(),
        AnswerFormat::Schema(schema) => match serde_json::from_str(schema) {
            Ok(schema) => schema::instance(&schema, &sentence).to_string(),
            Err(_) => sentence,
        },
    }
}

fn sentence(hash: u64, choice: u64) -> String {
    let mut dice = Dice(hash.wrapping_add(choice));
    let count = 8 + dice.roll() % 25;
    let mut text = format!("[{hash:016x}] The");
    for _ in 0..count {
        text.push(' ');
        text.push_str(WORDS[(dice.roll() % WORDS.len() as u64) as usize]);
    }
    text.push('.');
    text
}

/// Cuts `text` to `max` tokens. Returns whether it was cut.
fn cut(text: &mut String, max: Option<u64>) -> bool {
    let Some(bytes) = max.and_then(|max| usize::try_from(max.saturating_mul(4)).ok()) else { return false };
    if text.len() <= bytes {
        return false;
    }
    text.truncate(text.floor_char_boundary(bytes));
    true
}

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::*;

    fn whole(answer: GeneratedAnswer) -> String {
        let AnswerBody::Whole(body) = answer.body else { panic!("a stream") };
        body
    }

    fn chat(extra: &str, flaw: Flaw) -> serde_json::Value {
        let body = format!(r#"{{"model":"a/b","messages":[{{"role":"user","content":"hi \"you\""}}]{extra}}}"#);
        let answer = answer(&parse(&body, InferenceKind::Chat).unwrap(), InferenceKind::Chat, flaw, CachedTokens::None);
        serde_json::from_str(&whole(answer)).unwrap()
    }

    #[test]
    fn the_content_names_its_prompt() {
        let content = chat("", Flaw::None)["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        let expected = &blake3::hash(b"hi \"you\"").to_hex()[..16];
        assert!(content.starts_with(&format!("[{expected}] ")), "{content}");
        assert_eq!(content, chat(r#","temperature":1"#, Flaw::None)["choices"][0]["message"]["content"]);
    }

    #[test]
    fn an_answer_has_the_recorded_members() {
        let value = chat("", Flaw::None);
        assert_eq!(value["prompt"], serde_json::json!([]));
        assert!(value["choices"][0]["seed"].is_null() && value["choices"][0].get("seed").is_some());
        assert_eq!(value["choices"][0]["message"]["tool_calls"], serde_json::json!([]));
        let usage = &value["usage"];
        let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
        assert_eq!(usage["total_tokens"], sum);
    }

    #[test]
    fn cached_tokens_are_a_part_of_the_prompt_in_either_form() {
        let usage = |prompt: &str, form| {
            let body = format!(r#"{{"model":"a/b","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
            let request = parse(&body, InferenceKind::Chat).unwrap();
            let answer = answer(&request, InferenceKind::Chat, Flaw::None, form);
            let tokens = answer.tokens;
            let body: serde_json::Value = serde_json::from_str(&whole(answer)).unwrap();
            (tokens, body["usage"].clone())
        };
        let mut parts = std::collections::BTreeSet::new();
        for n in 0..40 {
            let prompt = format!("a prompt of some length, number {n}");
            let (tokens, flat) = usage(&prompt, CachedTokens::Flat);
            assert_eq!((&flat["cached_tokens"], tokens.cached <= tokens.prompt), (&json!(tokens.cached), true));
            let (same, nested) = usage(&prompt, CachedTokens::Nested);
            assert_eq!((same, &nested["prompt_tokens_details"]["cached_tokens"]), (tokens, &json!(tokens.cached)));
            assert_eq!(usage(&prompt, CachedTokens::None).0.cached, 0);
            parts.insert(tokens.cached * 4 / tokens.prompt);
        }
        assert_eq!((parts.first(), parts.last()), (Some(&0), Some(&4)));
    }

    #[test]
    fn max_tokens_cuts_the_text_with_finish_reason_length() {
        let value = chat(r#","max_tokens":5"#, Flaw::None);
        assert_eq!(value["choices"][0]["finish_reason"], "length");
        assert_eq!(value["usage"]["completion_tokens"], 5);
        assert_eq!(chat(r#","max_tokens":500"#, Flaw::None)["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn a_request_gets_its_choices_and_its_format() {
        assert_eq!(chat(r#","n":3"#, Flaw::None)["choices"].as_array().unwrap().len(), 3);
        let object = chat(r#","response_format":{"type":"json_object"}"#, Flaw::None);
        let text = object["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(text).unwrap().is_object());
    }

    #[test]
    fn each_flaw_shows_in_the_body() {
        assert_eq!(chat("", Flaw::EmptyChoices)["choices"], serde_json::json!([]));
        assert!(chat("", Flaw::NullContent)["choices"][0]["message"]["content"].is_null());
        assert!(chat("", Flaw::NoUsage).get("usage").is_none());
        let huge = chat("", Flaw::Huge(1 << 20));
        assert!(huge["choices"][0]["message"]["content"].as_str().unwrap().len() > 1 << 20);
    }
}
