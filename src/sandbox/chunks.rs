//! The events of a streamed completion.
//!
//! Each event carries a few tokens of one choice; the choices take turns. Put together, the events say what the answer
//! at once says. Their shape is the recorded one: the first event has no `usage`, the later ones have `usage: null`.
//! The last one has no choices but the usage if `include_usage` asks for it, else the usage stands beside the last finish reason.

use serde_json::{Value, json};

use super::answers::{Flaw, GeneratedChoice, GeneratedCompletion};
use super::bodies::CREATED;
use super::errors::ApiError;
use super::request::{StreamOptions, hash};
use super::token_text;

/// The data of the event that ends a stream.
const DONE: &str = "[DONE]";

/// The most events for the text of one choice: a huge text comes in larger pieces.
const MOST: usize = 256;

/// The data of each event, in their order.
pub fn events(completion: &GeneratedCompletion<'_>, options: StreamOptions, flaw: Flaw) -> Vec<String> {
    let choices = completion.choices.iter().enumerate();
    let mut turns: Vec<_> = choices.map(|(index, choice)| steps(index, choice, flaw)).collect();
    let mut events = Vec::new();
    while turns.iter().any(|steps| steps.len() > 0) {
        for choice in turns.iter_mut().filter_map(Iterator::next) {
            events.push(event(completion, vec![choice], !events.is_empty()));
        }
    }
    if let Some(usage) = &completion.usage {
        if options.include_usage || events.is_empty() {
            events.push(event(completion, Vec::new(), true));
        }
        if let Some(last) = events.last_mut() {
            last["usage"] = json!(usage);
        }
    }
    let mut data: Vec<_> = events.iter().map(Value::to_string).collect();
    match flaw {
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

/// One event with these choices.
fn event(completion: &GeneratedCompletion<'_>, choices: Vec<Value>, names_usage: bool) -> Value {
    let object = if completion.is_chat { "chat.completion.chunk" } else { "completion.chunk" };
    let mut event = json!({
        "id": completion.id,
        "object": object,
        "created": CREATED,
        "choices": choices,
        "model": completion.model,
    });
    if names_usage {
        event["usage"] = Value::Null;
    }
    event
}

/// The parts of one choice: its text in pieces, then its finish reason.
fn steps(index: usize, choice: &GeneratedChoice, flaw: Flaw) -> std::vec::IntoIter<Value> {
    let part = |text: Option<&str>, finish_reason: Option<&str>| {
        let token_id = text.filter(|text| !text.is_empty()).map(|text| hash(text) % 128_000);
        let delta = json!({"token_id": token_id, "role": "assistant", "content": text, "tool_calls": null});
        json!({
            "index": index,
            "text": text,
            "logprobs": null,
            "finish_reason": finish_reason,
            "seed": null,
            "delta": delta,
        })
    };
    let mut steps: Vec<_> = match &choice.content {
        Some(text) => pieces(text).iter().map(|piece| part(Some(piece), None)).collect(),
        None => vec![part(None, None)],
    };
    if flaw != Flaw::NoFinish {
        steps.push(part(Some(""), Some(choice.finish_reason)));
    }
    steps.into_iter()
}

/// A text in pieces of whole tokens.
fn pieces(text: &str) -> Vec<String> {
    let tokens: Vec<_> = token_text::split(text).collect();
    tokens.chunks(tokens.len().div_ceil(MOST).max(1)).map(<[&str]>::concat).collect()
}
