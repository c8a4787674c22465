//! Answers: text that depends on the request alone, so that a test can tell to which prompt an answer belongs.

use serde_json::json;

use super::bodies::{self, TokenUsage, embeddings};
use super::cache::CachedTokens;
use super::chunks;
use super::dialect::ServedDialect;
use super::dice::Dice;
use super::logprobs::LogprobForm;
use super::media;
use super::recordings;
use super::request::{AnswerFormat, InferenceKind, InferenceRequest};
use super::rerank;
use super::schema;
use super::token_text::tokens;
use super::tools::ToolCall;

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
    pub body: ServedBody,
    pub tokens: AnswerTokens,
}

/// The form in which an answer is given.
#[derive(Debug)]
pub enum ServedBody {
    /// At once, pretty-printed as live.
    Whole(String),
    /// The data of each event of a stream.
    Events(Vec<String>),
    /// A file, not JSON.
    File { media_type: &'static str, bytes: Vec<u8> },
}

/// The tokens that an answer is billed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnswerTokens {
    pub prompt: u64,
    /// The part of `prompt` that is cached.
    pub cached: u64,
    pub completion: u64,
    /// The part of `completion` that is reasoning.
    pub reasoning: u64,
}

/// The form in which answers are given, beside what the request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnswerStyle {
    pub flaw: Flaw,
    /// The form of the cached part of the prompt.
    pub cached: CachedTokens,
    /// The cached part of the prompt. `None`: chance decides.
    pub cached_part: Option<u64>,
    pub dialect: ServedDialect,
}

/// The generated choices of a completion, before they take the form of a body or of a stream.
#[derive(Debug)]
pub struct GeneratedCompletion<'a> {
    pub hash: u64,
    pub is_chat: bool,
    pub model: &'a str,
    pub choices: Vec<GeneratedChoice>,
    pub logprobs: Option<LogprobForm>,
    pub usage: Option<TokenUsage>,
}

/// One choice.
#[derive(Debug)]
pub struct GeneratedChoice {
    pub reasoning: Option<String>,
    pub content: Option<String>,
    pub calls: Vec<ToolCall>,
    pub finish_reason: &'static str,
}

/// The answer to `request`. It is streamed if the request asks for that.
pub fn answer(request: &InferenceRequest<'_>, kind: InferenceKind, style: AnswerStyle) -> GeneratedAnswer {
    match kind {
        InferenceKind::Embeddings => embeddings(request),
        InferenceKind::Rerank => rerank::answer(request),
        InferenceKind::Images => media::images(request),
        InferenceKind::Speech => media::speech(request),
        InferenceKind::Audio => recordings::answer(request, style.dialect),
        InferenceKind::Chat | InferenceKind::Completions => {
            let (completion, tokens) = completion(request, kind, style);
            let body = match request.options.stream {
                Some(options) => ServedBody::Events(chunks::events(&completion, options, style)),
                None => ServedBody::Whole(bodies::completion(&completion, style.dialect)),
            };
            GeneratedAnswer { body, tokens }
        }
    }
}

fn completion<'a>(
    request: &'a InferenceRequest<'_>,
    kind: InferenceKind,
    style: AnswerStyle,
) -> (GeneratedCompletion<'a>, AnswerTokens) {
    let hash = request.hash();
    let (mut completion, mut reasoning) = (0, 0);
    let mut choices = Vec::new();
    for index in 0..if style.flaw == Flaw::EmptyChoices { 0 } else { request.n } {
        let mut budget = TokenBudget::new(request.max_tokens);
        let choice = choice(request, index, style.flaw, &mut budget);
        completion += budget.spent;
        reasoning += choice.reasoning.as_deref().map_or(0, tokens);
        choices.push(choice);
    }
    let prompt = request.prompt_tokens;
    let cached = style.cached_part.unwrap_or_else(|| style.cached.part(prompt, hash));
    let tokens = AnswerTokens { prompt, cached, completion, reasoning };
    let completion = GeneratedCompletion {
        hash,
        is_chat: kind == InferenceKind::Chat,
        model: &request.model,
        choices,
        logprobs: request.options.logprobs,
        usage: Some(TokenUsage::of(tokens, style)).filter(|_| style.flaw != Flaw::NoUsage),
    };
    (completion, tokens)
}

/// The tokens that one choice may still have.
struct TokenBudget {
    left: Option<u64>,
    spent: u64,
    is_cut: bool,
}

impl TokenBudget {
    const fn new(most: Option<u64>) -> Self {
        Self { left: most, spent: 0, is_cut: false }
    }

    /// Cuts a text to what is left, and takes that.
    fn take(&mut self, text: &mut String) {
        if let Some(bytes) = self.left.and_then(|left| usize::try_from(left.saturating_mul(4)).ok())
            && text.len() > bytes
        {
            text.truncate(text.floor_char_boundary(bytes));
            self.is_cut = true;
        }
        let taken = tokens(text);
        self.spent += taken;
        self.left = self.left.map(|left| left.saturating_sub(taken));
    }
}

/// One choice: a reasoning if it is asked for, then text or calls of tools.
fn choice(request: &InferenceRequest<'_>, index: u64, flaw: Flaw, budget: &mut TokenBudget) -> GeneratedChoice {
    let (hash, options) = (request.hash(), &request.options);
    let mut reasoning = options.reasons.then(|| sentence(!hash, index));
    if let Some(reasoning) = &mut reasoning {
        budget.take(reasoning);
    }
    let mut calls = options.tools.calls(&request.prompt, request.has_tool_result, &sentence(hash, index));
    for call in &mut calls {
        budget.take(&mut call.name.clone());
        budget.take(&mut call.arguments);
    }
    let mut content = None;
    if calls.is_empty() {
        let mut text = text(request, hash, index);
        if let Flaw::Huge(bytes) = flaw {
            text.push_str(&"all work and no play ".repeat(bytes / 21 + 1));
        }
        if let Some(end) = options.stops.iter().filter_map(|stop| text.find(&**stop)).min() {
            text.truncate(end);
        }
        budget.take(&mut text);
        content = Some(text).filter(|_| flaw != Flaw::NullContent);
    }
    let finish_reason = match (budget.is_cut, calls.is_empty()) {
        (true, _) => "length",
        (false, true) => "stop",
        (false, false) => "tool_calls",
    };
    GeneratedChoice { reasoning, content, calls, finish_reason }
}

/// The text of one choice before any cut.
fn text(request: &InferenceRequest<'_>, hash: u64, choice: u64) -> String {
    let sentence = sentence(hash, choice);
    match &request.format {
        AnswerFormat::Text => sentence,
        AnswerFormat::Object => json!({"answer": sentence, "hash": format!("{hash:016x}")}).to_string(),
        AnswerFormat::Schema(schema) => match serde_json::from_str(schema) {
            Ok(schema) => schema::instance(&schema, &sentence).to_string(),
            Err(_) => sentence,
        },
        AnswerFormat::OneOf(texts) => texts[hash.wrapping_add(choice) as usize % texts.len()].clone(),
    }
}

pub fn sentence(hash: u64, choice: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::*;

    fn whole(answer: GeneratedAnswer) -> String {
        let ServedBody::Whole(body) = answer.body else { panic!("a stream") };
        body
    }

    fn chat(extra: &str, flaw: Flaw) -> serde_json::Value {
        let body = format!(r#"{{"model":"a/b","messages":[{{"role":"user","content":"hi \"you\""}}]{extra}}}"#);
        let answer = answer(
            &parse(&body, InferenceKind::Chat).unwrap(),
            InferenceKind::Chat,
            AnswerStyle { flaw, ..AnswerStyle::default() },
        );
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
            let answer = answer(&request, InferenceKind::Chat, AnswerStyle { cached: form, ..AnswerStyle::default() });
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
    fn a_stop_ends_the_text_before_it() {
        let whole = chat("", Flaw::None)["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        let stopped = chat(r#","stop":["no such text","] The"]"#, Flaw::None);
        assert_eq!(stopped["choices"][0]["message"]["content"], whole[..17]);
        assert_eq!(
            (&stopped["choices"][0]["finish_reason"], &stopped["usage"]["completion_tokens"]),
            (&json!("stop"), &json!(5))
        );
    }

    #[test]
    fn reasoning_comes_out_of_the_same_tokens() {
        let value = chat(r#","reasoning":{"enabled":true}"#, Flaw::None);
        let message = &value["choices"][0]["message"];
        let count = |text: &serde_json::Value| tokens(text.as_str().unwrap());
        let (reasoning, content) = (count(&message["reasoning"]), count(&message["content"]));
        assert_eq!(value["usage"]["reasoning_tokens"], reasoning);
        assert_eq!(value["usage"]["completion_tokens"], reasoning + content);
        assert!(reasoning > 5 && chat("", Flaw::None)["choices"][0]["message"].get("reasoning").is_none());
        let cut = chat(r#","reasoning_effort":"low","max_tokens":5"#, Flaw::None);
        assert_eq!(
            (&cut["choices"][0]["message"]["content"], &cut["usage"]["reasoning_tokens"]),
            (&json!(""), &json!(5))
        );
        assert_eq!(cut["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn tools_are_called_in_place_of_text() {
        let tools = r#","tools":[{"type":"function","function":{"name":"hi","parameters":{"type":"object","properties":{"x":{"type":"string"}}}}}]"#;
        let value = chat(tools, Flaw::None);
        let choice = &value["choices"][0];
        assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &json!(null)));
        let function = &choice["message"]["tool_calls"][0]["function"];
        assert_eq!(function["name"], "hi", "the prompt names it");
        let arguments = function["arguments"].as_str().unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(arguments).unwrap()["x"].is_string());
        assert_eq!(value["usage"]["completion_tokens"], 1 + tokens(arguments));
        let cut = chat(&format!(r#"{tools},"max_tokens":3"#), Flaw::None);
        assert_eq!(cut["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn logprobs_are_those_of_the_tokens_of_the_text() {
        let value = chat(r#","logprobs":true,"top_logprobs":1"#, Flaw::None);
        let entries = value["choices"][0]["logprobs"]["content"].as_array().unwrap();
        let text: String = entries.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
        assert_eq!(value["choices"][0]["message"]["content"], text);
        assert_eq!(value["usage"]["completion_tokens"], entries.len());
        assert_eq!(
            chat(r#","logprobs":1"#, Flaw::None)["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(),
            entries.len()
        );
    }

    #[test]
    fn openai_s_answer_has_its_own_members() {
        let body = r#"{"model":"a/b","messages":[{"role":"user","content":"hi"}]}"#;
        let style = AnswerStyle { dialect: ServedDialect::Openai, ..AnswerStyle::default() };
        let answer = answer(&parse(body, InferenceKind::Chat).unwrap(), InferenceKind::Chat, style);
        let value: serde_json::Value = serde_json::from_str(&whole(answer)).unwrap();
        assert!(value["id"].as_str().unwrap().starts_with("chatcmpl-") && value.get("prompt").is_none());
        let message = &value["choices"][0]["message"];
        assert!(
            message["refusal"].is_null() && message.get("refusal").is_some() && message.get("tool_calls").is_none()
        );
        assert_eq!(value["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
        assert_eq!(value["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
        assert!(value["usage"].get("reasoning_tokens").is_none());
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
