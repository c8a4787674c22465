//! The body of an answer: its choices, usage and error, and whether it is an answer at all. Leaves stay raw JSON, so that a
//! value of an unexpected type does not hide the others.

mod usage;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use memchr::memmem;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

pub use usage::ReportedUsage;

/// A body, looked into.
#[derive(Debug, Default)]
pub struct Completion<'a> {
    /// The model that the service says answered, as spelled.
    pub model: Option<&'a RawValue>,
    /// When it answered, as spelled.
    pub created: Option<&'a RawValue>,
    choices: Once<Vec<Choice<'a>>>,
    data: Once<Vec<Embedding<'a>>>,
    usage: Once<&'a RawValue>,
    error: Once<&'a RawValue>,
    text: Once<&'a RawValue>,
}

/// The reason why a body is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFlaw<'a> {
    /// It carries an error, as spelled.
    Error(&'a str),
    /// Its choices ended for this reason and say nothing. It is final, and was billed.
    Ended(&'a str),
    /// It has nothing that an answer has. The whole body may be an error.
    Foreign,
    /// Its shape is not that of an answer, as the end of a sentence that begins with "HTTP 200".
    Shape(&'static str),
}

/// An answer that was cut off at its token limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// The limit was reached before the answer had a text.
    pub is_empty: bool,
}

impl Truncation {
    /// Looks for a truncation in `body`. `None`: the answer is whole.
    pub fn of(body: &str) -> Option<Self> {
        // Nearly every answer is whole, and to search is much faster than to parse.
        memmem::find(body.as_bytes(), LENGTH.as_bytes())?;
        Completion::of(body).truncation()
    }
}

/// The spelled reason for the end of an answer that was cut off at its token limit.
const LENGTH: &str = "\"length\"";

/// One of the answers to a request.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    /// Reason for its end, as spelled.
    pub finish_reason: Option<&'a RawValue>,
    message: Once<Message<'a>>,
    text: Once<&'a RawValue>,
    error: Once<&'a RawValue>,
}

/// The message of a chat's choice.
#[derive(Debug, Default)]
pub struct Message<'a> {
    content: Once<&'a RawValue>,
    tool_calls: Once<ToolCalls<'a>>,
    reasoning: Once<IgnoredAny>,
    reasoning_content: Once<IgnoredAny>,
    refusal: Once<IgnoredAny>,
    function_call: Once<IgnoredAny>,
    audio: Once<&'a RawValue>,
    reasoning_details: Once<&'a RawValue>,
}

impl<'a> Completion<'a> {
    /// Looks into `body`. A body of another shape gives an empty view.
    pub fn of(body: &'a str) -> Self {
        serde_json::from_str(body).unwrap_or_default()
    }

    /// The first of the choices.
    pub fn first(&self) -> Option<&Choice<'a>> {
        self.choices().first()
    }

    /// All choices, good or bad.
    pub fn choices(&self) -> &[Choice<'a>] {
        self.choices.get().map_or(&[], Vec::as_slice)
    }

    /// Returns true if it has `choices`, valid or invalid.
    pub fn has_choices(&self) -> bool {
        self.choices.get().is_some()
    }

    /// The embeddings, as spelled.
    pub fn embeddings(&self) -> impl Iterator<Item = Option<&'a RawValue>> {
        self.data.get().into_iter().flatten().map(|entry| entry.embedding.get().copied())
    }

    /// The text of a transcript, as spelled.
    pub fn text(&self) -> Option<&'a RawValue> {
        self.text.get().copied()
    }

    /// The reason why it is not an answer. One good choice is enough: it was paid for.
    pub fn flaw(&self) -> Option<AnswerFlaw<'a>> {
        let choices = self.choices();
        if let Some(error) =
            self.error().filter(|_| !choices.iter().any(|choice| choice.has_ended() && choice.answers()))
        {
            return Some(AnswerFlaw::Error(error.get()));
        }
        if choices.iter().any(Choice::answers) {
            return None;
        }
        if let Some(error) = choices.iter().find_map(Choice::error) {
            return Some(AnswerFlaw::Error(error.get()));
        }
        if let Some(reason) = choices.iter().find_map(Choice::ended) {
            return Some(AnswerFlaw::Ended(reason));
        }
        Some(AnswerFlaw::Shape(match (self.choices.get(), self.data.get()) {
            (Some(choices), _) if choices.is_empty() => "with no choices",
            (Some(_), _) => "with a choice that says nothing",
            (None, Some(data)) if data.is_empty() => "with no embeddings",
            (None, Some(data)) if data.iter().all(Embedding::is_one) => return None,
            (None, Some(_)) => "with an entry that is no embedding",
            (None, None) => return Some(AnswerFlaw::Foreign),
        }))
    }

    /// The truncation of its answer: of several choices, one that was cut off is enough. It is empty if every cut choice is.
    pub fn truncation(&self) -> Option<Truncation> {
        let mut cut = self.choices().iter().filter(|choice| choice.is_truncated()).peekable();
        cut.peek()?;
        Some(Truncation { is_empty: cut.all(Choice::is_blank) })
    }

    /// Returns true for an answer of the audio endpoints: a text without an error, and no completion.
    pub fn is_transcript(&self) -> bool {
        self.error().is_none()
            && self.choices.get().is_none()
            && self.data.get().is_none()
            && self.text().is_some_and(|text| text.get().starts_with('"'))
    }

    /// The tokens, if the service counted them. A count that cannot be true is ignored.
    pub fn usage(&self) -> Option<ReportedUsage> {
        ReportedUsage::read(self.usage.get()?.get(), self.data.get().is_some())
    }

    /// Its error, unless that is a placeholder.
    fn error(&self) -> Option<&'a RawValue> {
        self.error.get().copied().filter(|error| says_something(error.get()))
    }
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
    fn is_truncated(&self) -> bool {
        self.finish_reason.is_some_and(|reason| reason.get() == LENGTH)
    }

    /// Returns true if it has neither a text nor a tool call. Reasoning is not a text.
    fn is_blank(&self) -> bool {
        let (content, calls) = match self.message() {
            Some(message) => (message.content(), message.calls_tools()),
            None => (self.text(), false),
        };
        !calls && content.is_none_or(|content| blank_text(content.get()))
    }

    /// The reason for its end, if the service gives one: the answer is whole.
    fn ended(&self) -> Option<&'a str> {
        self.finish_reason?.get().strip_prefix('"')?.strip_suffix('"').filter(|reason| !reason.is_empty())
    }

    fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    /// Its own error: some gateways put an error of their upstream into the choice.
    fn error(&self) -> Option<&'a RawValue> {
        self.error.get().copied().filter(|error| says_something(error.get()))
    }

    fn answers(&self) -> bool {
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

#[derive(Debug, Default)]
struct Embedding<'a> {
    embedding: Once<&'a RawValue>,
}

impl Embedding<'_> {
    fn is_one(&self) -> bool {
        self.embedding.get().is_some_and(|numbers| numbers.get().starts_with(['[', '"']))
    }
}

/// An array, as spelled. Some servers write another value where there are no calls.
#[derive(Debug)]
struct ToolCalls<'a> {
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

/// Returns true if `error` is more than a placeholder. Beside an answer, servers write `null`, `""`, `{}` and empty
/// members.
pub fn says_something(error: &str) -> bool {
    let blank = |raw: &str| matches!(raw, "null" | "\"\"" | "{}" | "[]" | "false" | "0");
    if !error.starts_with('{') {
        return !blank(error);
    }
    let members: Result<BTreeMap<Cow<'_, str>, &RawValue>, _> = serde_json::from_str(error);
    members.map_or(true, |members| members.values().any(|value| !blank(value.get())))
}

/// A member that may be absent. If it stands twice, the last one counts, as for most readers.
#[derive(Debug, Default)]
enum Once<T> {
    #[default]
    Absent,
    /// The value. It is `None` for `null`, which counts as a member all the same.
    Read(Option<T>),
}

impl<T> Once<T> {
    const fn get(&self) -> Option<&T> {
        match self {
            Self::Read(Some(value)) => Some(value),
            _ => None,
        }
    }

    fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error>
    where
        T: Deserialize<'de>,
    {
        *self = Self::Read(map.next_value()?);
        Ok(())
    }
}

/// A part of a body that is an object. Serde's derived code would take an array for it too, value by value.
trait ObjectPart<'de>: Default {
    /// The names of the members that are looked at.
    type Name: Deserialize<'de>;

    /// Reads the value of a member.
    fn member<A: MapAccess<'de>>(&mut self, name: Self::Name, map: &mut A) -> Result<(), A::Error>;
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: ObjectPart<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut part = T::default();
        while let Some(name) = map.next_key()? {
            part.member(name, &mut map)?;
        }
        Ok(part)
    }
}

/// Passes over a value that is not looked at.
fn ignore<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum BodyMember {
    Choices,
    Created,
    Data,
    Error,
    Model,
    Text,
    Usage,
    #[serde(other)]
    Other,
}

impl<'de> ObjectPart<'de> for Completion<'de> {
    type Name = BodyMember;

    fn member<A: MapAccess<'de>>(&mut self, name: BodyMember, map: &mut A) -> Result<(), A::Error> {
        match name {
            BodyMember::Choices => self.choices.read(map),
            BodyMember::Data => self.data.read(map),
            BodyMember::Error => self.error.read(map),
            BodyMember::Text => self.text.read(map),
            BodyMember::Usage => self.usage.read(map),
            BodyMember::Model => map.next_value().map(|model| self.model = model),
            BodyMember::Created => map.next_value().map(|created| self.created = created),
            BodyMember::Other => ignore(map),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum ChoiceMember {
    Error,
    FinishReason,
    Message,
    Text,
    #[serde(other)]
    Other,
}

impl<'de> ObjectPart<'de> for Choice<'de> {
    type Name = ChoiceMember;

    fn member<A: MapAccess<'de>>(&mut self, name: ChoiceMember, map: &mut A) -> Result<(), A::Error> {
        match name {
            ChoiceMember::Message => self.message.read(map),
            ChoiceMember::Text => self.text.read(map),
            ChoiceMember::Error => self.error.read(map),
            ChoiceMember::FinishReason => map.next_value().map(|reason| self.finish_reason = reason),
            ChoiceMember::Other => ignore(map),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum MessageMember {
    Audio,
    Content,
    FunctionCall,
    Reasoning,
    ReasoningContent,
    ReasoningDetails,
    Refusal,
    ToolCalls,
    #[serde(other)]
    Other,
}

impl<'de> ObjectPart<'de> for Message<'de> {
    type Name = MessageMember;

    fn member<A: MapAccess<'de>>(&mut self, name: MessageMember, map: &mut A) -> Result<(), A::Error> {
        match name {
            MessageMember::Content => self.content.read(map),
            MessageMember::ToolCalls => self.tool_calls.read(map),
            MessageMember::Reasoning => self.reasoning.read(map),
            MessageMember::ReasoningContent => self.reasoning_content.read(map),
            MessageMember::Audio => self.audio.read(map),
            MessageMember::ReasoningDetails => self.reasoning_details.read(map),
            MessageMember::Refusal => self.refusal.read(map),
            MessageMember::FunctionCall => self.function_call.read(map),
            MessageMember::Other => ignore(map),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum EmbeddingMember {
    Embedding,
    #[serde(other)]
    Other,
}

impl<'de> ObjectPart<'de> for Embedding<'de> {
    type Name = EmbeddingMember;

    fn member<A: MapAccess<'de>>(&mut self, name: EmbeddingMember, map: &mut A) -> Result<(), A::Error> {
        match name {
            EmbeddingMember::Embedding => self.embedding.read(map),
            EmbeddingMember::Other => ignore(map),
        }
    }
}

/// Reads each part from an object alone.
macro_rules! from_objects {
    ($($part:ty),*) => {$(
        impl<'de> Deserialize<'de> for $part {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map(ObjectVisitor(PhantomData))
            }
        }
    )*};
}

from_objects!(Completion<'de>, Choice<'de>, Message<'de>, Embedding<'de>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_is_told_from_an_empty_completion() {
        let cases = [
            (r#"{"text":"hello"}"#, true),
            (r#"{"text":"","segments":[],"choices":null,"error":null}"#, true),
            (r#"{"text":null}"#, false),
            (r#"{"text":"x","choices":[]}"#, false),
            (r#"{"text":"x","error":"y"}"#, false),
        ];
        for (body, transcript) in cases {
            let parsed: Completion<'_> = serde_json::from_str(body).unwrap();
            assert_eq!((parsed.is_transcript(), parsed.flaw().is_some()), (transcript, true), "{body}");
        }
    }

    #[test]
    fn last_of_several_members_of_one_name_counts() {
        let body = r#"{"choices":[],"choices":[{"text":"x","text":"y","finish_reason":1,"finish_reason":2}],"error":{"code":1},"error":null,"model":"a","model":"b","usage":7,"usage":null}"#;
        let parsed = Completion::of(body);
        assert_eq!((parsed.flaw(), parsed.model.map(RawValue::get)), (None, Some("\"b\"")));
        let first = parsed.first().unwrap();
        assert_eq!((first.text().unwrap().get(), first.finish_reason.map(RawValue::get)), ("\"y\"", Some("2")));
    }

    #[test]
    fn complete_choice_is_an_answer_and_an_empty_one_says_why() {
        let choice = |message: &str, reason: &str| format!(r#"{{"message":{message},"finish_reason":{reason}}}"#);
        let of = |choices: &str, more: &str| format!(r#"{{"choices":[{choices}]{more}}}"#);
        let text = choice(r#"{"content":"x"}"#, r#""stop""#);
        let empty = |reason: &str| choice(r#"{"content":null,"tool_calls":[]}"#, reason);
        for body in [
            of(&text, r#","error":{}"#),
            of(&text, r#","error":false"#),
            of(&text, r#","error":{"code":0,"message":""}"#),
            // It was paid for, whatever else the service says.
            of(&text, r#","error":{"message":"late"}"#),
            of(&choice(r#"{"content":"x","tool_calls":{}}"#, "null"), ""),
            of(&format!("{},{text}", empty(r#""length""#)), ""),
            of(&choice(r#"{"content":null,"audio":{"data":"AAAA"}}"#, r#""stop""#), ""),
            of(&choice(r#"{"content":null,"reasoning_details":[{"data":"z"}]}"#, r#""length""#), ""),
            of(&choice(r#"{"content":""}"#, r#""length""#), ""),
            of(&choice(r#"{"content":"half"}"#, r#""content_filter""#), ""),
        ] {
            assert_eq!(Completion::of(&body).flaw(), None, "{body}");
        }
        for (body, flaw) in [
            (of(&empty(r#""length""#), ""), AnswerFlaw::Ended("length")),
            (of(&empty(r#""content_filter""#), ""), AnswerFlaw::Ended("content_filter")),
            (of(&choice(r#"{"content":""}"#, r#""content_filter""#), ""), AnswerFlaw::Ended("content_filter")),
            (of(&empty("null"), ""), AnswerFlaw::Shape("with a choice that says nothing")),
            (of(&empty("null"), r#","error":{"message":"no"}"#), AnswerFlaw::Error(r#"{"message":"no"}"#)),
            (
                of(r#"{"message":{"content":""},"finish_reason":"error","error":{"code":502}}"#, ""),
                AnswerFlaw::Error(r#"{"code":502}"#),
            ),
        ] {
            assert_eq!(Completion::of(&body).flaw(), Some(flaw), "{body}");
        }
    }

    #[test]
    fn a_cut_off_answer_without_text_is_empty() {
        let choice = |message: &str| format!(r#"{{"choices":[{{"message":{message},"finish_reason":"length"}}]}}"#);
        for (body, is_empty) in [
            (choice(r#"{"content":null,"reasoning":"hm"}"#), true),
            (choice(r#"{"content":" \n"}"#), true),
            (choice(r#"{"content":[]}"#), true),
            (choice(r#"{"content":"half"}"#), false),
            (choice(r#"{"content":null,"tool_calls":[{"id":"c"}]}"#), false),
            (r#"{"choices":[{"text":"","finish_reason":"length"}]}"#.to_owned(), true),
            (
                r#"{"choices":[{"text":"","finish_reason":"length"},{"text":"x","finish_reason":"length"}]}"#
                    .to_owned(),
                false,
            ),
        ] {
            assert_eq!(Truncation::of(&body), Some(Truncation { is_empty }), "{body}");
        }
        for whole in [
            r#"{"choices":[{"text":"\"length\"","finish_reason":"stop"}]}"#,
            r#"{"choices":[],"length":"length"}"#,
            "\"length\"",
        ] {
            assert_eq!(Truncation::of(whole), None, "{whole}");
        }
    }

    #[test]
    fn a_part_of_another_type_is_named() {
        for (body, error) in [
            (r#"{"choices":"x"}"#, r#"invalid type: string "x", expected a sequence at line 1 column 14"#),
            (r#"{"choices":[["x"]]}"#, "invalid type: sequence, expected an object at line 1 column 12"),
        ] {
            let found = serde_json::from_str::<Completion<'_>>(body).unwrap_err();
            assert!(found.is_data(), "{body}");
            assert_eq!(found.to_string(), error, "{body}");
            assert!(!Completion::of(body).has_choices());
        }
    }
}
