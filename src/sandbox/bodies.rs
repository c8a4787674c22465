//! The JSON of answers that are given at once.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::answers::{AnswerStyle, AnswerTokens, GeneratedAnswer, GeneratedChoice, GeneratedCompletion, ServedBody};
use super::cache::CachedTokens;
use super::dialect::ServedDialect;
use super::dice::Dice;
use super::request::{InferenceRequest, hash};
use super::token_text;

/// The time that every answer carries (2026-01-01): the same request gives the same bytes.
pub const CREATED: u64 = 1_767_225_600;

#[derive(Serialize)]
struct CompletionBody<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<[(); 0]>,
    choices: Vec<CompletionChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'a TokenUsage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<&'static str>,
}

#[derive(Serialize)]
struct Metadata {
    weight_version: &'static str,
}

#[derive(Serialize)]
struct CompletionChoice<'a> {
    index: usize,
    #[serde(flatten)]
    content: ChoiceContent<'a>,
    logprobs: Value,
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<()>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum ChoiceContent<'a> {
    Message(AnswerMessage<'a>),
    Text(Option<&'a str>),
}

#[derive(Serialize)]
struct AnswerMessage<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<[(); 0]>,
}

/// The tokens of an answer as it reports them.
#[derive(Debug, Serialize)]
pub struct TokenUsage {
    prompt_tokens: u64,
    total_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptTokensDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionTokensDetails>,
}

impl TokenUsage {
    /// The usage of a completion.
    pub fn of(tokens: AnswerTokens, style: AnswerStyle) -> Self {
        let AnswerTokens { prompt, cached, completion, reasoning } = tokens;
        let is_openai = style.dialect == ServedDialect::Openai;
        let details = PromptTokensDetails { cached_tokens: cached, audio_tokens: is_openai.then_some(0) };
        let is_nested = is_openai || style.cached == CachedTokens::Nested;
        Self {
            prompt_tokens: prompt,
            total_tokens: prompt + completion,
            completion_tokens: Some(completion),
            reasoning_tokens: (!is_openai).then_some(reasoning),
            cached_tokens: (!is_nested && style.cached == CachedTokens::Flat).then_some(cached),
            prompt_tokens_details: is_nested.then_some(details),
            completion_tokens_details: is_openai.then_some(CompletionTokensDetails {
                reasoning_tokens: reasoning,
                audio_tokens: 0,
                accepted_prediction_tokens: 0,
                rejected_prediction_tokens: 0,
            }),
        }
    }

    /// The same, with a count of generated tokens that is 0.
    pub const fn without_answer(tokens: u64) -> Self {
        Self { completion_tokens: Some(0), ..Self::of_prompt(tokens) }
    }

    /// The usage of an answer without generated tokens.
    const fn of_prompt(tokens: u64) -> Self {
        Self {
            prompt_tokens: tokens,
            total_tokens: tokens,
            completion_tokens: None,
            reasoning_tokens: None,
            cached_tokens: None,
            prompt_tokens_details: None,
            completion_tokens_details: None,
        }
    }
}

#[derive(Debug, Serialize)]
struct PromptTokensDetails {
    cached_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_tokens: Option<u64>,
}

#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
struct CompletionTokensDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

/// JSON over several lines.
pub fn pretty(body: &impl Serialize) -> String {
    serde_json::to_string_pretty(body).unwrap_or_default()
}

/// The id of an answer.
pub fn id(completion: &GeneratedCompletion<'_>, dialect: ServedDialect) -> String {
    let hash = completion.hash;
    match (dialect, completion.is_chat) {
        (ServedDialect::Together, _) => format!("s{hash:016x}-sandbox"),
        (ServedDialect::Openai, true) => format!("chatcmpl-{hash:016x}"),
        (ServedDialect::Openai, false) => format!("cmpl-{hash:016x}"),
    }
}

/// The body of a completion.
pub fn completion(completion: &GeneratedCompletion<'_>, dialect: ServedDialect) -> String {
    let is_together = dialect == ServedDialect::Together;
    let choices = completion.choices.iter().enumerate().map(|(index, choice)| {
        let content = if completion.is_chat {
            ChoiceContent::Message(message(choice, is_together))
        } else {
            ChoiceContent::Text(choice.content.as_deref())
        };
        let tokens = completion.logprobs.and(choice.content.as_deref()).map(|text| token_text::split(text).collect());
        let logprobs = completion.logprobs.zip(tokens).map(|(form, tokens): (_, Vec<_>)| form.shown(&tokens, 0));
        let seed = is_together.then_some(());
        let logprobs = logprobs.unwrap_or_default();
        CompletionChoice { index, content, logprobs, finish_reason: choice.finish_reason, seed }
    });
    pretty(&CompletionBody {
        id: id(completion, dialect),
        object: match (completion.is_chat, dialect) {
            (true, _) => "chat.completion",
            (false, ServedDialect::Together) => "text.completion",
            (false, ServedDialect::Openai) => "text_completion",
        },
        created: CREATED,
        model: completion.model,
        metadata: is_together.then_some(Metadata { weight_version: "default" }),
        prompt: is_together.then_some([]),
        choices: choices.collect(),
        usage: completion.usage.as_ref(),
        service_tier: (!is_together).then_some("default"),
        system_fingerprint: (!is_together).then_some("fp_sandbox"),
    })
}

fn message(choice: &GeneratedChoice, is_together: bool) -> AnswerMessage<'_> {
    let call = |(index, call): (usize, &super::tools::ToolCall)| {
        let mut shown = call.shown();
        if is_together {
            shown["index"] = index.into();
        }
        shown
    };
    let calls: Vec<_> = choice.calls.iter().enumerate().map(call).collect();
    AnswerMessage {
        role: "assistant",
        content: choice.content.as_deref(),
        // OpenAI counts its reasoning and does not show it.
        reasoning: choice.reasoning.as_deref().filter(|_| is_together),
        tool_calls: Some(calls).filter(|calls| is_together || !calls.is_empty()),
        refusal: (!is_together).then_some(()),
        annotations: (!is_together).then_some([]),
    }
}

#[derive(Serialize)]
struct EmbeddingsBody<'a> {
    object: &'static str,
    data: Vec<EmbeddingItem>,
    model: &'a str,
    usage: TokenUsage,
}

#[derive(Serialize)]
struct EmbeddingItem {
    object: &'static str,
    index: usize,
    embedding: Box<RawValue>,
}

/// The answer to a request for embeddings.
pub fn embeddings(request: &InferenceRequest<'_>) -> GeneratedAnswer {
    let options = &request.options;
    let embedding = |(index, input): (usize, &std::borrow::Cow<'_, str>)| {
        let numbers = vector(input, options.dimensions);
        let text = if options.base64 { base64(&numbers) } else { listed(&numbers) };
        EmbeddingItem { object: "embedding", index, embedding: RawValue::from_string(text).unwrap_or_default() }
    };
    let tokens = request.prompt_tokens;
    let body = pretty(&EmbeddingsBody {
        object: "list",
        data: request.inputs.iter().enumerate().map(embedding).collect(),
        model: &request.model,
        usage: TokenUsage::of_prompt(tokens),
    });
    let tokens = AnswerTokens { prompt: tokens, ..AnswerTokens::default() };
    GeneratedAnswer { body: ServedBody::Whole(body), tokens }
}

/// Numbers from -1 to 1 in millionths.
fn vector(input: &str, dimensions: u64) -> Vec<f64> {
    let mut dice = Dice(hash(input));
    (0..dimensions).map(|_| ((dice.unit() * 2.0 - 1.0) * 1e6).round() / 1e6).collect()
}

/// The numbers on one line, six digits each.
fn listed(numbers: &[f64]) -> String {
    let mut text = String::from("[");
    for (i, number) in numbers.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{number:.6}", if i == 0 { "" } else { ", " });
    }
    text.push(']');
    text
}

/// The numbers as 32-bit floats, little-endian, in base64.
fn base64(numbers: &[f64]) -> String {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect();
    format!("\"{}\"", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::answers::answer;
    use super::super::request::{InferenceKind, parse};
    use super::*;

    fn embedding(extra: &str) -> Value {
        let body = format!(r#"{{"model":"a/b","input":"x"{extra}}}"#);
        let request = parse(&body, InferenceKind::Embeddings).unwrap();
        let answer = answer(&request, InferenceKind::Embeddings, AnswerStyle::default());
        let ServedBody::Whole(body) = answer.body else { panic!("a stream") };
        serde_json::from_str::<Value>(&body).unwrap()["data"][0]["embedding"].clone()
    }

    #[test]
    fn base64_holds_the_same_numbers() {
        let numbers: Vec<f32> = serde_json::from_value(embedding("")).unwrap();
        let packed = STANDARD.decode(embedding(r#","encoding_format":"base64""#).as_str().unwrap()).unwrap();
        let unpacked: Vec<_> = packed.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert_eq!((unpacked.len(), unpacked), (16, numbers));
    }

    #[test]
    fn an_embedding_has_the_dimensions_that_were_asked_for() {
        let (short, long) = (embedding(r#","dimensions":3"#), embedding(""));
        assert_eq!(short.as_array().unwrap()[..], long.as_array().unwrap()[..3]);
    }
}
