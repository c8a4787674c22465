//! The choices of an answer, and their messages.

use std::borrow::Cow;

use serde::Deserialize;

use super::{LENGTH, says_something};
use crate::json;

/// One of the answers to a request.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    /// Reason for its end, as spelled.
    pub finish_reason: Option<&'a str>,
    pub(super) message: Option<Message<'a>>,
    pub(super) text: Option<&'a str>,
    pub(super) error: Option<&'a str>,
}

/// The message of a chat's choice.
#[derive(Debug, Default)]
pub struct Message<'a> {
    pub(super) content: Option<&'a str>,
    /// An array.
    pub(super) tool_calls: Option<&'a str>,
    pub(super) reasoning: Option<&'a str>,
    pub(super) reasoning_content: Option<&'a str>,
    pub(super) refusal: Option<&'a str>,
    pub(super) function_call: Option<&'a str>,
    pub(super) audio: Option<&'a str>,
    pub(super) reasoning_details: Option<&'a str>,
}

impl<'a> Choice<'a> {
    /// Its message, in a chat.
    pub fn message(&self) -> Option<&Message<'a>> {
        self.message.as_ref()
    }

    /// Its text, in a text completion, as spelled.
    pub const fn text(&self) -> Option<&'a str> {
        self.text
    }

    /// Returns true if the answer was cut off at its token limit.
    pub(super) fn is_truncated(&self) -> bool {
        self.finish_reason == Some(LENGTH)
    }

    /// Returns true if it has neither a text nor a tool call. Reasoning is not a text.
    pub(super) fn is_blank(&self) -> bool {
        let (content, calls) = match self.message() {
            Some(message) => (message.content(), message.calls_tools()),
            None => (self.text(), false),
        };
        !calls && content.is_none_or(blank_text)
    }

    /// The reason for its end, if the service gives one: the answer is whole.
    pub(super) fn ended(&self) -> Option<&'a str> {
        self.finish_reason?.strip_prefix('"')?.strip_suffix('"').filter(|reason| !reason.is_empty())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    /// Its own error: some gateways put an error of their upstream into the choice.
    pub(super) fn error(&self) -> Option<&'a str> {
        self.error.filter(|error| says_something(error))
    }

    /// Returns true if the service reports this choice as failed. An empty choice is not one.
    pub fn has_failed(&self) -> bool {
        match self.ended() {
            Some(reason) => reason == "error",
            None => self.error().is_some(),
        }
    }

    /// Returns true if a filter of the service ended it without a text.
    pub fn is_filtered_out(&self) -> bool {
        let is_blank = || self.content_text().is_none_or(|text| text.trim().is_empty());
        self.ended() == Some("content_filter") && !self.calls_tools() && is_blank()
    }

    /// Returns true if it calls tools.
    pub fn calls_tools(&self) -> bool {
        self.message().is_some_and(Message::calls_tools)
    }

    /// The part of it that results show, as spelled: the content or the tool calls of a chat, else the text.
    pub fn shown(&self) -> Option<&'a str> {
        self.message().map_or(self.text, Message::shown)
    }

    /// Its text, decoded: of a chat the content, or the text parts of it put together. `None`: it has no text.
    pub fn content_text(&self) -> Option<Cow<'a, str>> {
        let raw = match self.message() {
            Some(message) => message.content(),
            None => self.text(),
        }?;
        serde_json::from_str::<Content<'a>>(raw).ok()?.into_text()
    }

    pub(super) fn answers(&self) -> bool {
        if self.has_failed() {
            return false;
        }
        let filtered = self.ended() == Some("content_filter");
        match self.text() {
            Some(text) => text.starts_with('"') && !(filtered && text == "\"\""),
            None => self.message().is_some_and(|message| message.answers(filtered)),
        }
    }
}

impl<'a> Message<'a> {
    /// Its content, as spelled.
    pub const fn content(&self) -> Option<&'a str> {
        self.content
    }

    fn shown(&self) -> Option<&'a str> {
        // Some servers send "" beside tool calls, and [] for no tool calls.
        let text = self.content.filter(|content| *content != "\"\"");
        let calls = self.tool_calls.filter(|_| self.calls_tools());
        text.or(calls).or(self.content)
    }

    /// Returns true if it has tool calls that are more than an empty array.
    pub fn calls_tools(&self) -> bool {
        self.tool_calls.is_some_and(|calls| !calls[1..].trim_start().starts_with(']'))
    }

    /// Returns true if it says something. A text that a `filtered` answer begins with counts, an empty one does not.
    fn answers(&self, filtered: bool) -> bool {
        let content = |content: &str| content.starts_with(['"', '[']) && !(filtered && content == "\"\"");
        self.content.is_some_and(content)
            || self.calls_tools()
            || self.audio.is_some_and(says_something)
            || self.reasoning_details.is_some_and(says_something)
            || [self.reasoning, self.reasoning_content, self.refusal, self.function_call].iter().any(Option::is_some)
    }
}

/// The content of a message: a text, or its parts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Parts(#[serde(borrow)] Vec<TextPart<'a>>),
}

/// A part of a content. Only a part of text has one.
#[derive(Deserialize)]
struct TextPart<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

impl<'a> Content<'a> {
    fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Parts(parts) => {
                let texts: Vec<_> = parts.into_iter().filter_map(|part| part.text).collect();
                (!texts.is_empty()).then(|| Cow::Owned(texts.concat()))
            }
        }
    }
}

/// Returns true for a JSON string of white space, an empty list, or null.
fn blank_text(raw: &str) -> bool {
    matches!(raw, "null" | "[]") || json::string(raw).is_some_and(|text| text.trim().is_empty())
}
