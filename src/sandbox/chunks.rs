//! The events of a streamed completion.
//!
//! Each event carries a few tokens of one choice, and the choices take turns. Put together, the events say what the
//! answer at once says. The last event has no choices but the usage, if `include_usage` asks for it. Otherwise Together
//! names the usage beside the last finish reason, and `OpenAI` does not name it.

use std::vec::IntoIter;

use serde_json::{Value, json};

use super::answer_options::StreamOptions;
use super::answers::{AnswerStyle, Flaw, GeneratedChoice, GeneratedCompletion};
use super::bodies::{CREATED, id};
use super::dialect::ServedDialect;
use super::errors::ApiError;
use super::logprobs::{LogprobForm, logprob, token_id};
use super::token_text;

/// The data of the event that ends a stream.
const DONE: &str = "[DONE]";

/// The most events for one text: a huge text comes in larger pieces.
const MOST: usize = 256;

/// The data of each event, in their order.
pub fn events(completion: &GeneratedCompletion<'_>, options: StreamOptions, style: AnswerStyle) -> Vec<String> {
    let form = ChunkForm { completion, options, dialect: style.dialect };
    let choices = completion.choices.iter().enumerate();
    let mut turns: Vec<_> = choices.map(|(index, choice)| form.parts(index, choice, style.flaw)).collect();
    let mut events = Vec::new();
    while turns.iter().any(|parts| parts.len() > 0) {
        for part in turns.iter_mut().filter_map(Iterator::next) {
            events.push(form.event(vec![part], events.is_empty()));
        }
    }
    let is_beside = style.dialect == ServedDialect::Together;
    if let Some(usage) = completion.usage.as_ref().filter(|_| options.include_usage || is_beside) {
        if options.include_usage || events.is_empty() {
            events.push(form.event(Vec::new(), false));
        }
        if let Some(last) = events.last_mut() {
            last["usage"] = json!(usage);
        }
    }
    let mut data: Vec<_> = events.iter().map(Value::to_string).collect();
    match style.flaw {
        Flaw::ErrorEvent => {
            data.truncate(data.len() / 2);
            let error = ApiError::new("server_error", "The model server stopped in the middle of the answer");
            data.push(json!({"error": error}).to_string());
        }
        Flaw::NoDone => {}
        _ => data.push(DONE.to_owned()),
    }
    data
}

/// The form of one stream's events.
#[derive(Clone, Copy)]
struct ChunkForm<'a> {
    completion: &'a GeneratedCompletion<'a>,
    options: StreamOptions,
    dialect: ServedDialect,
}

/// A piece of one choice.
#[derive(Default)]
struct ChunkPart<'a> {
    /// Some tokens of the content, the first of which has this number.
    content: Option<(usize, &'a [&'a str])>,
    reasoning: Option<String>,
    call: Option<Value>,
    finish_reason: Option<&'static str>,
}

impl ChunkForm<'_> {
    /// One event with these choices.
    fn event(self, choices: Vec<Value>, is_first: bool) -> Value {
        let completion = self.completion;
        let mut event = json!({"id": id(completion, self.dialect), "object": self.object(), "created": CREATED});
        match self.dialect {
            ServedDialect::Together => {
                if let (false, Some(choice)) = (completion.is_chat, choices.first()) {
                    event["token"] = json!({
                        "id": choice["delta"]["token_id"],
                        "text": choice["text"],
                        "logprob": choice["logprobs"],
                        "special": false,
                    });
                }
                event["choices"] = choices.into();
                event["model"] = completion.model.into();
                if is_first {
                    event["metadata"] = json!({"weight_version": "default"});
                    event["prompt"] = json!([]);
                } else {
                    event["usage"] = Value::Null;
                }
            }
            ServedDialect::Openai => {
                event["model"] = completion.model.into();
                event["service_tier"] = "default".into();
                event["system_fingerprint"] = "fp_sandbox".into();
                event["choices"] = choices.into();
                if self.options.include_usage {
                    event["usage"] = Value::Null;
                }
            }
        }
        event
    }

    fn object(self) -> &'static str {
        match (self.completion.is_chat, self.dialect) {
            (true, _) => "chat.completion.chunk",
            (false, ServedDialect::Together) => "completion.chunk",
            (false, ServedDialect::Openai) => "text_completion",
        }
    }

    /// The parts of one choice: reasoning, text or calls, then the finish reason.
    fn parts(self, index: usize, choice: &GeneratedChoice, flaw: Flaw) -> IntoIter<Value> {
        let shown = |part: ChunkPart<'_>| self.choice(index, &part);
        let mut parts = Vec::new();
        let is_openai_chat = self.dialect == ServedDialect::Openai && self.completion.is_chat;
        if is_openai_chat {
            let content = if choice.calls.is_empty() { json!("") } else { Value::Null };
            let delta = json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
            parts.push(json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null}));
        } else if choice.content.is_none() && choice.calls.is_empty() {
            parts.push(shown(ChunkPart::default()));
        }
        for piece in choice.reasoning.iter().filter(|_| !is_openai_chat).flat_map(|text| pieces(text)) {
            // A text that is still to come is empty so far.
            let content = choice.content.as_ref().map(|_| (0, &[][..]));
            parts.push(shown(ChunkPart { reasoning: Some(piece), content, ..ChunkPart::default() }));
        }
        let tokens: Vec<_> = choice.content.iter().flat_map(|text| token_text::split(text)).collect();
        // An event has the log probability of one token.
        let size = if self.has_one_logprob() { 1 } else { tokens.len().div_ceil(MOST).max(1) };
        for (nth, piece) in tokens.chunks(size).enumerate() {
            parts.push(shown(ChunkPart { content: Some((nth * size, piece)), ..ChunkPart::default() }));
        }
        for (nth, call) in choice.calls.iter().enumerate() {
            let mut begun = call.shown();
            begun["index"] = nth.into();
            begun["function"]["arguments"] = "".into();
            parts.push(shown(ChunkPart { call: Some(begun), ..ChunkPart::default() }));
            for piece in pieces(&call.arguments) {
                let more = json!({"index": nth, "function": {"arguments": piece}});
                parts.push(shown(ChunkPart { call: Some(more), ..ChunkPart::default() }));
            }
        }
        if flaw != Flaw::NoFinish {
            parts.push(shown(ChunkPart { finish_reason: Some(choice.finish_reason), ..ChunkPart::default() }));
        }
        parts.into_iter()
    }

    /// One part as it stands among the choices of an event.
    fn choice(self, index: usize, part: &ChunkPart<'_>) -> Value {
        let text = match part.content {
            Some((_, tokens)) => Some(tokens.concat()),
            None => part.finish_reason.map(|_| String::new()),
        };
        let finish = part.finish_reason;
        match (self.dialect, self.completion.is_chat) {
            (ServedDialect::Together, _) => {
                let token = text.as_deref().filter(|text| !text.is_empty()).map(token_id);
                let calls = part.call.as_ref().map(|call| json!([call]));
                let mut delta = json!({"token_id": token, "role": "assistant", "content": text, "tool_calls": calls});
                if let Some(reasoning) = &part.reasoning {
                    delta["reasoning"] = reasoning.as_str().into();
                }
                json!({
                    "index": index,
                    "text": text,
                    "logprobs": self.logprobs(part),
                    "finish_reason": finish,
                    "seed": null,
                    "delta": delta,
                })
            }
            (ServedDialect::Openai, true) => {
                let delta = match (&part.call, text.filter(|_| finish.is_none())) {
                    (Some(call), _) => json!({"tool_calls": [call]}),
                    (None, Some(text)) => json!({"content": text}),
                    (None, None) => json!({}),
                };
                json!({"index": index, "delta": delta, "logprobs": self.logprobs(part), "finish_reason": finish})
            }
            (ServedDialect::Openai, false) => {
                json!({"index": index, "text": text, "logprobs": self.logprobs(part), "finish_reason": finish})
            }
        }
    }

    /// Returns true if a part names the log probability of its token alone: Together's own form without alternatives.
    fn has_one_logprob(self) -> bool {
        self.dialect == ServedDialect::Together && self.completion.logprobs == Some(LogprobForm::Lists(0))
    }

    /// The log probabilities of a part.
    fn logprobs(self, part: &ChunkPart<'_>) -> Value {
        let (Some(form), Some((first, tokens))) = (self.completion.logprobs, part.content) else { return Value::Null };
        match tokens {
            [] => Value::Null,
            [token] if self.has_one_logprob() => json!(logprob(token, first)),
            _ => form.shown(tokens, first),
        }
    }
}

/// A text in pieces of whole tokens.
fn pieces(text: &str) -> Vec<String> {
    let tokens: Vec<_> = token_text::split(text).collect();
    tokens.chunks(tokens.len().div_ceil(MOST).max(1)).map(<[&str]>::concat).collect()
}
