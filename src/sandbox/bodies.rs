//! The JSON of answers that are given at once.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::value::RawValue;

use super::answers::{AnswerBody, AnswerTokens, GeneratedAnswer, GeneratedCompletion};
use super::cache::CachedTokens;
use super::dice::Dice;
use super::request::{InferenceRequest, hash};

/// The time that every answer carries (2026-01-01): the same request gives the same bytes.
pub const CREATED: u64 = 1_767_225_600;

#[derive(Serialize)]
struct CompletionBody<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    metadata: Metadata,
    prompt: [(); 0],
    choices: Vec<CompletionChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'a TokenUsage>,
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
    logprobs: (),
    finish_reason: &'static str,
    seed: (),
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum ChoiceContent<'a> {
    Message { role: &'static str, content: Option<&'a str>, tool_calls: [(); 0] },
    Text(Option<&'a str>),
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
}

impl TokenUsage {
    /// The usage of a completion, with its cached tokens in this form.
    pub fn of(tokens: AnswerTokens, form: CachedTokens) -> Self {
        let AnswerTokens { prompt, cached, completion } = tokens;
        let details = PromptTokensDetails { cached_tokens: cached };
        Self {
            prompt_tokens: prompt,
            total_tokens: prompt + completion,
            completion_tokens: Some(completion),
            reasoning_tokens: Some(0),
            cached_tokens: (form == CachedTokens::Flat).then_some(cached),
            prompt_tokens_details: (form == CachedTokens::Nested).then_some(details),
        }
    }
}

#[derive(Debug, Serialize)]
struct PromptTokensDetails {
    cached_tokens: u64,
}

/// JSON over several lines.
pub fn pretty(body: &impl Serialize) -> String {
    serde_json::to_string_pretty(body).unwrap_or_default()
}

/// The body of a completion.
pub fn completion(completion: &GeneratedCompletion<'_>) -> String {
    let choices = completion.choices.iter().enumerate().map(|(index, choice)| {
        let content = choice.content.as_deref();
        let content = if completion.is_chat {
            ChoiceContent::Message { role: "assistant", content, tool_calls: [] }
        } else {
            ChoiceContent::Text(content)
        };
        CompletionChoice { index, content, logprobs: (), finish_reason: choice.finish_reason, seed: () }
    });
    pretty(&CompletionBody {
        id: &completion.id,
        object: if completion.is_chat { "chat.completion" } else { "text.completion" },
        created: CREATED,
        model: completion.model,
        metadata: Metadata { weight_version: "default" },
        prompt: [],
        choices: choices.collect(),
        usage: completion.usage.as_ref(),
    })
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
    let embedding = |(index, input): (usize, &std::borrow::Cow<'_, str>)| EmbeddingItem {
        object: "embedding",
        index,
        embedding: vector(input),
    };
    let tokens = request.prompt_tokens;
    let body = pretty(&EmbeddingsBody {
        object: "list",
        data: request.inputs.iter().enumerate().map(embedding).collect(),
        model: &request.model,
        usage: TokenUsage {
            prompt_tokens: tokens,
            total_tokens: tokens,
            completion_tokens: None,
            reasoning_tokens: None,
            cached_tokens: None,
            prompt_tokens_details: None,
        },
    });
    let tokens = AnswerTokens { prompt: tokens, cached: 0, completion: 0 };
    GeneratedAnswer { body: AnswerBody::Whole(body), tokens }
}

/// 16 numbers from -1 to 1 on one line, six digits each.
fn vector(input: &str) -> Box<RawValue> {
    let mut dice = Dice(hash(input));
    let mut text = String::from("[");
    for i in 0..16 {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{:.6}", if i == 0 { "" } else { ", " }, dice.unit() * 2.0 - 1.0);
    }
    text.push(']');
    RawValue::from_string(text).unwrap_or_default()
}
