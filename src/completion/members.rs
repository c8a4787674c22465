//! The members of a body that are looked at.

use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess};

use super::object::{ObjectPart, ObjectVisitor, ignore};
use super::{Choice, Completion, Embedding, Message};

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
pub(super) enum BodyMember {
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
pub(super) enum ChoiceMember {
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
pub(super) enum MessageMember {
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
pub(super) enum EmbeddingMember {
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
