//! JSON looked at in place: members and their spans, never a tree. No recursion, so depth does not matter, and every number
//! and escape stays as it was spelled.
//!
//! A text is checked once, by [`members`] or [`nested`]. Values inside of it are then walked by the functions that trust it,
//! so that a nested body is not checked once for each level.

mod canonical;
mod scanner;
mod text;

use std::borrow::Cow;
use std::fmt;

pub use canonical::{digest, hash, sketch};
pub use scanner::{MemberKey, NotJson, Scanner};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
pub use text::{
    compact, depth, is_blank, is_number, is_too_deep, is_valid, one_line, pretty, quote, string, unquoted, whole,
    without_nan, write,
};

/// A member of an object, with its span in the object's text.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The name, unescaped (as spelled, if it holds a lone surrogate).
    pub key: Cow<'a, str>,
    /// The value as spelled.
    pub value: &'a str,
    /// Offset of the name's opening quote.
    pub start: usize,
    /// Offset behind the value.
    pub end: usize,
}

impl Member<'_> {
    /// Returns true if the value is `null`.
    pub fn is_null(&self) -> bool {
        self.value == "null"
    }
}

/// An object, taken apart.
#[derive(Debug, Default)]
pub struct Nested<'a> {
    /// Its members in order, duplicates included.
    pub members: Vec<Member<'a>>,
    /// The members of the value that was asked for, if it is an object. Of several the last one counts.
    pub inner: Option<Vec<Member<'a>>>,
}

/// The members of the object `text`, in order, duplicates included.
///
/// # Errors
/// `text` is not JSON, or no object.
pub fn members(text: &str) -> serde_json::Result<Vec<Member<'_>>> {
    checked(text, |scanner, _| scanner.check())
}

/// The members of the object `text`, and those of its member `name`, which would be walked again otherwise.
///
/// # Errors
/// `text` is not JSON, or no object.
pub fn nested<'a>(text: &'a str, name: &str) -> serde_json::Result<Nested<'a>> {
    let mut inner = None;
    let members = checked(text, |scanner, key| {
        if key == name {
            inner = None;
            if scanner.peek() == Some(b'{') {
                let start = scanner.at();
                inner = Some(collect(scanner, start, |scanner, _| scanner.check())?);
                return Ok(scanner.spelled(start));
            }
        }
        scanner.check()
    })?;
    Ok(Nested { members, inner })
}

/// The members of an object that is known to be valid, as part of a text that was checked.
pub fn trusted_members(text: &str) -> Vec<Member<'_>> {
    collect(&mut Scanner::trusting(text), 0, |scanner, _| scanner.skip()).unwrap_or_default()
}

/// The elements of an array that is known to be valid, as spelled.
pub fn trusted_elements(text: &str) -> Vec<&str> {
    let mut elements = Vec::new();
    // Of nonsense, as many as there are.
    let _ = Scanner::trusting(text).elements(|scanner| {
        elements.push(scanner.skip()?);
        Ok::<_, NotJson>(())
    });
    elements
}

/// The last member of that name: the one that counts for every common parser.
pub fn find<'m, 'a>(members: &'m [Member<'a>], key: &str) -> Option<&'m Member<'a>> {
    members.iter().rev().find(|member| member.key == key)
}

/// The members of the object that `text` is, if it is nothing else.
fn checked<'a>(
    text: &'a str,
    value: impl FnMut(&mut Scanner<'a>, &str) -> Result<&'a str, NotJson>,
) -> serde_json::Result<Vec<Member<'a>>> {
    let mut scanner = Scanner::searched(text);
    let members = collect(&mut scanner, 0, value);
    members.and_then(|members| scanner.end().map(|()| members)).map_err(|NotJson(_)| refusal(text))
}

/// Collects the members of the object here, their offsets counted from `base`. `value` passes over the value of a name.
fn collect<'a>(
    scanner: &mut Scanner<'a>,
    base: usize,
    mut value: impl FnMut(&mut Scanner<'a>, &str) -> Result<&'a str, NotJson>,
) -> Result<Vec<Member<'a>>, NotJson> {
    let mut members = Vec::with_capacity(8);
    scanner.members(|scanner, key| {
        let name = key.name().unwrap_or(Cow::Borrowed(key.spelled));
        let value = value(scanner, &name)?;
        members.push(Member { key: name, value, start: key.start - base, end: scanner.at() - base });
        Ok::<_, NotJson>(())
    })?;
    Ok(members)
}

/// Serde's words for what is wrong with `text`, which is not an object.
#[cold]
pub fn refusal(text: &str) -> serde_json::Error {
    struct AnyObject;
    impl<'de> Visitor<'de> for AnyObject {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while map.next_entry::<&RawValue, IgnoredAny>()?.is_some() {}
            Ok(())
        }
    }

    let mut parser = serde_json::Deserializer::from_str(text);
    let parsed = parser.deserialize_map(AnyObject).and_then(|()| parser.end());
    parsed.err().unwrap_or_else(|| serde_json::Error::custom("not a JSON object"))
}

#[cfg(test)]
mod tests;
