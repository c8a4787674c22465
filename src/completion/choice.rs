//! The choices of an answer, and their messages.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, IgnoredAny};
use serde_json::value::RawValue;

use super::object::Once;
use super::{LENGTH, says_something};

/// One of the answers to a request.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    /// Reason for its end, as spelled.
    pub finish_reason: Option<&'a RawValue>,
    pub(super) message: Once<Message<'a>>,
    pub(super) text: Once<&'a RawValue>,
    pub(super) error: Once<&'a RawValue>,
}

/// The message of a chat's choice.
#[derive(Debug, Default)]
pub struct Message<'a> {
    pub(super) content: Once<&'a RawValue>,
    pub(super) tool_calls: Once<ToolCalls<'a>>,
    pub(super) reasoning: Once<IgnoredAny>,
    pub(super) reasoning_content: Once<IgnoredAny>,
    pub(super) refusal: Once<IgnoredAny>,
    pub(super) function_call: Once<IgnoredAny>,
    pub(super) audio: Once<&'a RawValue>,
    pub(super) reasoning_details: Once<&'a RawValue>,
}

impl<'a> Choice<'a> {
    /// Its message, in a chat.
    pub fn message(&self) -> Option<&Message<'a>> {
        self.message.get()
    }

    /// Its text, in a text completion, as spelled.
    pub fn text(&self) -> Option<&'a RawValue> {
        self.text.get().copied()
    }

    /// Returns true if the answer was cut off at its token limit.
    pub(super) fn is_truncated(&self) -> bool {
        self.finish_reason.is_some_and(|reason| reason.get() == LENGTH)
    }

    /// Returns true if it has neither a text nor a tool call. Reasoning is not a text.
    pub(super) fn is_blank(&self) -> bool {
        let (content, calls) = match self.message() {
            Some(message) => (message.content(), message.calls_tools()),
            None => (self.text(), false),
        };
        !calls && content.is_none_or(|content| blank_text(content.get()))
    }

    /// The reason for its end, if the service gives one: the answer is whole.
    pub(super) fn ended(&self) -> Option<&'a str> {
        self.finish_reason?.get().strip_prefix('"')?.strip_suffix('"').filter(|reason| !reason.is_empty())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    /// Its own error: some gateways put an error of their upstream into the choice.
    pub(super) fn error(&self) -> Option<&'a RawValue> {
        self.error.get().copied().filter(|error| says_something(error.get()))
    }

    pub(super) fn answers(&self) -> bool {
        if self.ended() == Some("error") || (self.ended().is_none() && self.error().is_some()) {
            return false;
        }
        let filtered = self.ended() == Some("content_filter");
        match self.text() {
            Some(text) => text.get().starts_with('"') && !(filtered && text.get() == "\"\""),
            None => self.message().is_some_and(|message| message.answers(filtered)),
        }
    }
}

impl<'a> Message<'a> {
    /// Its content, as spelled.
    pub fn content(&self) -> Option<&'a RawValue> {
        self.content.get().copied()
    }

    /// Its tool calls, as spelled: an array.
    pub fn tool_calls(&self) -> Option<&'a RawValue> {
        self.tool_calls.get().and_then(|calls| calls.spelled)
    }

    /// Returns true if it has tool calls that are more than an empty array.
    pub fn calls_tools(&self) -> bool {
        self.tool_calls.get().is_some_and(|calls| !calls.is_empty())
    }

    /// Returns true if it says something. A text that a `filtered` answer begins with counts, an empty one does not.
    fn answers(&self, filtered: bool) -> bool {
        let content =
            |content: &RawValue| content.get().starts_with(['"', '[']) && !(filtered && content.get() == "\"\"");
        let more = |part: &Once<&'a RawValue>| part.get().is_some_and(|part| says_something(part.get()));
        self.content().is_some_and(content)
            || self.calls_tools()
            || more(&self.audio)
            || more(&self.reasoning_details)
            || [&self.reasoning, &self.reasoning_content, &self.refusal, &self.function_call]
                .iter()
                .any(|other| other.get().is_some())
    }
}

/// Returns true for a JSON string of white space, an empty list, or null.
fn blank_text(raw: &str) -> bool {
    matches!(raw, "null" | "[]") || serde_json::from_str::<Cow<'_, str>>(raw).is_ok_and(|text| text.trim().is_empty())
}

/// An array, as spelled. Some servers write another value where there are no calls.
#[derive(Debug)]
pub(super) struct ToolCalls<'a> {
    spelled: Option<&'a RawValue>,
}

impl ToolCalls<'_> {
    fn is_empty(&self) -> bool {
        self.spelled.is_none_or(|calls| calls.get()[1..].trim_start().starts_with(']'))
    }
}

impl<'de> Deserialize<'de> for ToolCalls<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spelled = <&RawValue>::deserialize(deserializer)?;
        Ok(Self { spelled: Some(spelled).filter(|calls| calls.get().starts_with('[')) })
    }
}
