//! Puts the chunks of a streamed completion together, to the body that the service would have sent whole.
//!
//! Values stay as they were spelled: pieces of a text are joined inside of their quotes, and nothing becomes a tree. Most
//! chunks differ from the one before only in their piece of the answer. Such a chunk is not parsed: it is recognised by
//! the bytes around that piece.

mod frame;

use super::says_something;
use crate::json::{self, Member};
use frame::{Frame, Hole, HoleKind};

/// The chunks of a completion so far.
#[derive(Debug, Default)]
pub struct Assembly {
    body: Members,
    choices: Vec<StreamedChoice>,
    frame: Option<Frame>,
    /// Bytes of all parts, or more.
    bytes: usize,
}

/// The news in the data of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// A piece of the answer, and nothing else that the one before did not say.
    More,
    /// A piece of the answer.
    Piece,
    /// A chunk with anything else: roles, reasons, counts.
    Other,
    /// An error in place of a chunk.
    Error,
    /// No chunk.
    Invalid,
}

/// The order of a body's members in a whole answer. The chunks of a stream have them in other orders.
const BODY_ORDER: [&str; 10] = [
    "id",
    "object",
    "created",
    "model",
    "metadata",
    "prompt",
    "choices",
    "usage",
    "service_tier",
    "system_fingerprint",
];
/// The order of a message's members in a whole answer.
const MESSAGE_ORDER: [&str; 8] =
    ["role", "content", "reasoning", "reasoning_content", "tool_calls", "function_call", "refusal", "annotations"];
/// The `object` of Together's chunks of a completion, which have the text in a `delta` too.
const COMPLETION_CHUNK: &str = "\"completion.chunk\"";

/// The pieces that a chunk adds to a choice.
#[derive(Debug, Default)]
struct Added<'a> {
    count: usize,
    /// The parts that may differ in the next chunk.
    holes: Vec<Hole<'a>>,
    /// It says more than that.
    other_news: bool,
}

/// A choice so far.
#[derive(Debug, Default)]
struct StreamedChoice {
    index: u64,
    members: Members,
    message: Members,
    calls: Vec<StreamedCall>,
    /// Log probabilities: lists that each chunk continues.
    logprobs: Members,
}

/// A tool call so far.
#[derive(Debug, Default)]
struct StreamedCall {
    index: u64,
    members: Members,
    function: Members,
}

impl Assembly {
    /// Takes the data of an event.
    pub fn push(&mut self, data: &str) -> Chunk {
        if self.continues(data) {
            return Chunk::More;
        }
        self.frame = None;
        self.bytes += data.len();
        let Ok(members) = json::members(data) else { return Chunk::Invalid };
        let choices = json::find(&members, "choices").filter(|choices| choices.value.starts_with('['));
        let has_choices = choices.is_some_and(|choices| says_something(choices.value));
        if !has_choices && json::find(&members, "error").is_some_and(|error| says_something(error.value)) {
            return Chunk::Error;
        }
        let mut holes = Vec::new();
        let is_completion = json::find(&members, "object").is_some_and(|object| object.value == COMPLETION_CHUNK);
        for member in members.iter().filter(|member| choices.is_none_or(|choices| choices.start != member.start)) {
            match &*member.key {
                // OpenAI makes all chunks equally long.
                "obfuscation" => holes.extend(Hole::of_text(member.value, HoleKind::Ignored)),
                "object" if is_completion => self.body.update("object", "\"text.completion\""),
                // A name of the same token as in the choice.
                "token" if is_completion => {
                    for Member { value, .. } in json::members(member.value).unwrap_or_default() {
                        holes.extend(Hole::of_number(value).or_else(|| Hole::of_text(value, HoleKind::Ignored)));
                    }
                }
                "object" => self.body.update("object", &member.value.replace(".chunk\"", "\"")),
                name => self.body.update(name, member.value),
            }
        }
        self.body.update("choices", "[]");
        let choices = choices.map(|choices| json::trusted_elements(choices.value)).unwrap_or_default();
        let mut count = 0;
        for choice in choices.iter().filter(|choice| choice.starts_with('{')) {
            let members = json::trusted_members(choice);
            let place = self.place_of(&members);
            let added = self.choices[place].add(&members, is_completion);
            count += added.count;
            if let ([_], false) = (&choices[..], added.other_news) {
                holes.extend(added.holes);
                self.frame = Frame::new(data, std::mem::take(&mut holes), place);
            }
        }
        if count == 0 { Chunk::Other } else { Chunk::Piece }
    }

    /// Returns the bytes that it holds, or more.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns true if at least so many choices have begun, and each of them has ended.
    pub fn has_ended(&self, choices: usize) -> bool {
        self.choices.len() >= choices.max(1) && self.choices.iter().all(|choice| choice.members.says("finish_reason"))
    }

    /// Returns true if a choice has ended, and its reason is an error.
    pub fn has_failed(&self) -> bool {
        let failed = |choice: &StreamedChoice| {
            choice.members.0.iter().any(|(name, value)| name == "finish_reason" && value == "\"error\"")
        };
        self.choices.iter().any(failed)
    }

    /// Returns true if the service has counted the tokens.
    pub fn has_usage(&self) -> bool {
        self.body.says("usage")
    }

    /// The body. `None`: no choice has begun.
    pub fn into_body(mut self) -> Option<String> {
        if self.choices.is_empty() {
            return None;
        }
        self.choices.sort_by_key(|choice| choice.index);
        let choices: Vec<String> = self.choices.into_iter().map(StreamedChoice::into_json).collect();
        self.body.set("choices", format!("[{}]", choices.join(",")));
        self.body.arrange(&BODY_ORDER);
        Some(self.body.into_json())
    }

    /// Takes a chunk that differs from the last one only in its pieces of texts.
    fn continues(&mut self, data: &str) -> bool {
        let Some(frame) = &self.frame else { return false };
        let Some(spans) = frame.spans(data) else { return false };
        let choice = &mut self.choices[frame.choice];
        for (kind, span) in frame.holes.iter().zip(spans) {
            self.bytes += span.len();
            match kind {
                HoleKind::Message(name) => choice.message.append(name, &data[span]),
                HoleKind::Text => choice.members.append("text", &data[span]),
                HoleKind::Ignored | HoleKind::Number => {}
            }
        }
        true
    }

    /// The place of the choice that these members belong to.
    fn place_of(&mut self, members: &[Member<'_>]) -> usize {
        let index = index_of(members).unwrap_or(0);
        self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            self.choices.push(StreamedChoice { index, ..StreamedChoice::default() });
            self.choices.len() - 1
        })
    }
}

impl StreamedChoice {
    /// Adds what a chunk says of this choice. `is_completion`: it is no chat, although it may have a `delta`.
    fn add<'a>(&mut self, members: &[Member<'a>], is_completion: bool) -> Added<'a> {
        let mut added = Added::default();
        let delta = json::find(members, "delta").filter(|delta| delta.value.starts_with('{'));
        let delta = delta.map(|delta| json::trusted_members(delta.value));
        let is_chat = delta.is_some() && !is_completion;
        for Member { key, value, .. } in members {
            match &**key {
                // Together repeats the piece of a chat's content here, and names each token.
                "text" if is_chat => added.holes.extend(Hole::of_text(value, HoleKind::Ignored)),
                "token_id" => added.holes.extend(Hole::of_number(value)),
                "delta" if is_completion => {
                    for Member { key, value, .. } in delta.iter().flatten() {
                        added.holes.extend(match &**key {
                            "token_id" => Hole::of_number(value),
                            _ => Hole::of_text(value, HoleKind::Ignored),
                        });
                    }
                }
                "delta" if delta.is_some() => {
                    self.members.update("message", "{}");
                    self.add_delta(delta.as_deref().unwrap_or_default(), &mut added);
                }
                "text" => match inside_of_quotes(value) {
                    None | Some("") => self.members.update("text", value),
                    Some(piece) => {
                        self.members.append("text", piece);
                        added.count += 1;
                        added.holes.extend(Hole::of_text(value, HoleKind::Text));
                    }
                },
                "logprobs" if value.starts_with('{') => {
                    self.members.update("logprobs", "{}");
                    self.logprobs.join_lists(&json::trusted_members(value));
                    added.other_news = true;
                }
                "logprobs" if value.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                    self.members.update("logprobs", "{}");
                    self.add_logprob(value, members, delta.as_deref().unwrap_or_default());
                    added.other_news = true;
                }
                name => self.members.update(name, value),
            }
        }
        added
    }

    /// Adds the log probability of the one token in a chunk of Together's.
    fn add_logprob(&mut self, logprob: &str, choice: &[Member<'_>], delta: &[Member<'_>]) {
        let text = |members, name| json::find(members, name).map(|member| member.value).filter(|v| v.starts_with('"'));
        let token = text(choice, "text").or_else(|| text(delta, "content")).unwrap_or("null");
        let id = json::find(delta, "token_id").map_or("null", |id| id.value);
        for (name, value) in [("token_ids", id), ("tokens", token), ("token_logprobs", logprob)] {
            self.logprobs.extend(name, &format!("[{value}]"));
        }
        self.logprobs.update("top_logprobs", "null");
    }

    /// Adds a piece of this choice's message.
    fn add_delta<'a>(&mut self, delta: &[Member<'a>], added: &mut Added<'a>) {
        // Together's chunks name each token. Its whole answers have a list of calls in any case, with their indices.
        let is_together = json::find(delta, "token_id").is_some();
        for Member { key, value, .. } in delta {
            match (&**key, inside_of_quotes(value)) {
                ("role", _) => self.message.update("role", value),
                ("token_id", _) => added.holes.extend(Hole::of_number(value)),
                ("tool_calls", None) if *value == "null" => {
                    if is_together {
                        self.message.update("tool_calls", "[]");
                    }
                }
                ("tool_calls", None) if value.starts_with('[') => {
                    added.other_news = true;
                    self.message.update("tool_calls", "[]");
                    for call in json::trusted_elements(value) {
                        added.count += 1;
                        self.add_call(&json::trusted_members(call), is_together);
                    }
                }
                ("function_call", None) if value.starts_with('{') => {
                    added.other_news = true;
                    added.count += 1;
                    self.message.join_texts("function_call", value);
                }
                // Beside calls, the content stays null.
                (name, Some("")) => self.message.update(name, value),
                (name, Some(piece)) => {
                    self.message.append(name, piece);
                    added.count += 1;
                    added.holes.extend(Hole::of_text(value, HoleKind::Message(name.to_owned())));
                }
                (name, None) if value.starts_with('[') => {
                    added.other_news = true;
                    self.message.extend(name, value);
                }
                (name, None) => self.message.update(name, value),
            }
        }
    }

    /// Adds a piece of a tool call. Its index orders the calls, and is part of a whole answer only where `keeps_index`.
    fn add_call(&mut self, members: &[Member<'_>], keeps_index: bool) {
        let index = index_of(members).unwrap_or(self.calls.len() as u64);
        let place = self.calls.iter().position(|call| call.index == index).unwrap_or_else(|| {
            self.calls.push(StreamedCall { index, ..StreamedCall::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[place];
        for Member { key, value, .. } in members {
            match &**key {
                "index" if !keeps_index => {}
                "function" if value.starts_with('{') => {
                    call.members.update("function", "{}");
                    for Member { key, value, .. } in json::trusted_members(value) {
                        match inside_of_quotes(value) {
                            Some(piece) if key == "arguments" => call.function.append("arguments", piece),
                            _ => call.function.update(&key, value),
                        }
                    }
                }
                name => call.members.update(name, value),
            }
        }
    }

    fn into_json(mut self) -> String {
        if !self.calls.is_empty() {
            self.calls.sort_by_key(|call| call.index);
            let calls: Vec<String> = self.calls.into_iter().map(StreamedCall::into_json).collect();
            self.message.set("tool_calls", format!("[{}]", calls.join(",")));
        }
        if !self.logprobs.0.is_empty() {
            self.members.set("logprobs", self.logprobs.into_json());
        }
        if !self.message.0.is_empty() {
            self.message.arrange(&MESSAGE_ORDER);
            self.members.0.retain(|(name, _)| name != "message");
            // Whole answers have it there.
            let place = self.members.0.iter().position(|(name, _)| name == "index").map_or(0, |index| index + 1);
            self.members.0.insert(place, ("message".to_owned(), self.message.into_json()));
        }
        self.members.into_json()
    }
}

impl StreamedCall {
    fn into_json(mut self) -> String {
        if !self.function.0.is_empty() {
            self.members.set("function", self.function.into_json());
        }
        self.members.into_json()
    }
}

/// Members as spelled, in the order of their first appearance.
#[derive(Debug, Default)]
struct Members(Vec<(String, String)>);

impl Members {
    fn of(&mut self, name: &str) -> &mut String {
        let place = self.0.iter().position(|(own, _)| own == name).unwrap_or_else(|| {
            self.0.push((name.to_owned(), String::new()));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }

    fn set(&mut self, name: &str, value: String) {
        *self.of(name) = value;
    }

    /// Sets the value, unless it says nothing and there is one.
    fn update(&mut self, name: &str, value: &str) {
        let own = self.of(name);
        if own.is_empty() || !matches!(value, "null" | "\"\"" | "[]" | "{}") {
            value.clone_into(own);
        }
    }

    /// Appends a piece to a text.
    fn append(&mut self, name: &str, piece: &str) {
        let own = self.of(name);
        if own.starts_with('"') {
            own.pop();
        } else {
            own.clear();
            own.push('"');
        }
        own.push_str(piece);
        own.push('"');
    }

    /// Appends the elements of a list.
    fn extend(&mut self, name: &str, list: &str) {
        let own = self.of(name);
        let more = list[1..list.len() - 1].trim();
        if !own.starts_with('[') {
            list.clone_into(own);
        } else if !more.is_empty() {
            own.pop();
            if own.trim_end() != "[" {
                own.push(',');
            }
            own.push_str(more);
            own.push(']');
        }
    }

    /// Joins the lists in an object with those here.
    fn join_lists(&mut self, object: &[Member<'_>]) {
        for Member { key, value, .. } in object {
            if value.starts_with('[') { self.extend(key, value) } else { self.update(key, value) }
        }
    }

    /// Joins the texts in an object with those of the object here.
    fn join_texts(&mut self, name: &str, object: &str) {
        let own = self.of(name);
        let mut whole = Self::default();
        for text in [own.as_str(), object].into_iter().filter(|text| text.starts_with('{')) {
            for Member { key, value, .. } in json::trusted_members(text) {
                match inside_of_quotes(value) {
                    Some(piece) => whole.append(&key, piece),
                    None => whole.update(&key, value),
                }
            }
        }
        *own = whole.into_json();
    }

    /// Puts members with these names first, in this order.
    fn arrange(&mut self, names: &[&str]) {
        self.0.sort_by_key(|(own, _)| names.iter().position(|name| name == own).unwrap_or(names.len()));
    }

    /// Returns true if there is a value that says something.
    fn says(&self, name: &str) -> bool {
        self.0.iter().any(|(own, value)| own == name && says_something(value))
    }

    fn into_json(self) -> String {
        let bytes: usize = self.0.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let mut json = String::with_capacity(bytes + 2);
        for (name, value) in &self.0 {
            json.push(if json.is_empty() { '{' } else { ',' });
            if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                json.push('"');
                json.push_str(name);
                json.push('"');
            } else {
                json.push_str(&json::quote(name));
            }
            json.push(':');
            json.push_str(value);
        }
        json.push_str(if json.is_empty() { "{}" } else { "}" });
        json
    }
}

/// The inside of a JSON string, as spelled.
fn inside_of_quotes(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

fn index_of(members: &[Member<'_>]) -> Option<u64> {
    json::whole(json::find(members, "index")?.value)
}

#[cfg(test)]
mod tests;
