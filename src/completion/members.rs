//! Reads selected members of a body in place. All other values are skipped, and keep their spelling.

use super::{Choice, Completion, Embedding, Message};
use crate::json::{NotJson, Scanner};

/// The reason why a text is not read as a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCompletion {
    /// It is not JSON.
    NotJson,
    /// A part of it is of another type, as a sentence.
    Shape(&'static str),
}

impl From<NotJson> for NoCompletion {
    fn from(_: NotJson) -> Self {
        Self::NotJson
    }
}

impl<'a> Completion<'a> {
    /// Reads the body that `scanner` is at. If members share a name, the last one counts, as for most readers.
    ///
    /// # Errors
    /// The text is not JSON, or a part is of another type.
    pub fn read(scanner: &mut Scanner<'a>) -> Result<Self, NoCompletion> {
        let mut body = Self::default();
        object(scanner, "the body is not an object", |scanner, name| {
            match name {
                "choices" => body.choices = list(scanner, "`choices` is not a list", Choice::read)?,
                "data" => body.data = list(scanner, "`data` is not a list", Embedding::read)?,
                "results" => body.results = value(scanner)?,
                "error" => body.error = value(scanner)?,
                "text" => body.text = value(scanner)?,
                "usage" => body.usage = value(scanner)?,
                "model" => body.model = value(scanner)?,
                "created" => body.created = value(scanner)?,
                _ => _ = scanner.check()?,
            }
            Ok(())
        })?;
        Ok(body)
    }
}

impl<'a> Choice<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Result<Self, NoCompletion> {
        let mut choice = Self::default();
        object(scanner, "a choice is not an object", |scanner, name| {
            match name {
                "message" if scanner.peek() == Some(b'n') => {
                    choice.message = value(scanner)?.map(|_| Message::default());
                }
                "message" => choice.message = Some(Message::read(scanner)?),
                "text" => choice.text = value(scanner)?,
                "error" => choice.error = value(scanner)?,
                "finish_reason" => choice.finish_reason = value(scanner)?,
                _ => _ = scanner.check()?,
            }
            Ok(())
        })?;
        Ok(choice)
    }
}

impl<'a> Message<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Result<Self, NoCompletion> {
        let mut message = Self::default();
        object(scanner, "the message of a choice is not an object", |scanner, name| {
            match name {
                "content" => message.content = value(scanner)?,
                // Some servers write another value where there are no calls.
                "tool_calls" => message.tool_calls = value(scanner)?.filter(|calls| calls.starts_with('[')),
                "audio" => message.audio = value(scanner)?,
                "reasoning_details" => message.reasoning_details = value(scanner)?,
                "reasoning" => message.reasoning = value(scanner)?,
                "reasoning_content" => message.reasoning_content = value(scanner)?,
                "refusal" => message.refusal = value(scanner)?,
                "function_call" => message.function_call = value(scanner)?,
                _ => _ = scanner.check()?,
            }
            Ok(())
        })?;
        Ok(message)
    }
}

impl<'a> Embedding<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Result<Self, NoCompletion> {
        let mut embedding = Self::default();
        object(scanner, "an entry of `data` is not an object", |scanner, name| {
            match name {
                "embedding" => embedding.vector = value(scanner)?,
                _ => _ = scanner.check()?,
            }
            Ok(())
        })?;
        Ok(embedding)
    }
}

/// A value as spelled. `None` for `null`.
fn value<'a>(scanner: &mut Scanner<'a>) -> Result<Option<&'a str>, NoCompletion> {
    let value = scanner.check()?;
    Ok((value != "null").then_some(value))
}

/// An object. `member` passes over the value of each name. Anything else is an error with these `words`.
fn object<'a>(
    scanner: &mut Scanner<'a>,
    words: &'static str,
    mut member: impl FnMut(&mut Scanner<'a>, &str) -> Result<(), NoCompletion>,
) -> Result<(), NoCompletion> {
    if scanner.peek() != Some(b'{') {
        scanner.check()?;
        return Err(NoCompletion::Shape(words));
    }
    // A name with half a character is none of those that are looked at.
    scanner.members(|scanner, key| member(scanner, key.name().as_deref().unwrap_or_default()))
}

/// A list of objects, or `None` for `null`.
fn list<'a, T>(
    scanner: &mut Scanner<'a>,
    words: &'static str,
    read: fn(&mut Scanner<'a>) -> Result<T, NoCompletion>,
) -> Result<Option<Vec<T>>, NoCompletion> {
    if scanner.peek() != Some(b'[') {
        return if value(scanner)?.is_some() { Err(NoCompletion::Shape(words)) } else { Ok(None) };
    }
    let mut all = Vec::new();
    scanner.elements(|scanner| {
        all.push(read(scanner)?);
        Ok::<_, NoCompletion>(())
    })?;
    Ok(Some(all))
}
