//! JSON as spans of its text: members and elements as they are written, without building values.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The text of a JSON string, or `None` for any other value. A lone surrogate becomes U+FFFD instead of an error.
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inside.as_bytes().contains(&b'\\') {
        return Some(Cow::Borrowed(inside));
    }
    let bytes = serde_json::Deserializer::from_str(raw).deserialize_bytes(StringBytes).ok()?;
    Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

struct StringBytes;

impl Visitor<'_> for StringBytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

/// The members of an object in their order, each value as it is written.
#[derive(Debug)]
pub struct ObjectMembers<'a>(Vec<(Key<'a>, &'a str)>);

/// A key, borrowed unless it has escapes.
#[derive(Debug, Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> ObjectMembers<'a> {
    pub fn parse(text: &'a str) -> serde_json::Result<Self> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let members = reader.deserialize_map(MemberVisitor)?;
        reader.end()?;
        Ok(Self(members))
    }

    /// The value of the last member with this name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.last_of(&[name])
    }

    /// The value of the last member with one of these names.
    pub fn last_of(&self, names: &[&str]) -> Option<&'a str> {
        let found = self.0.iter().rev().find(|(key, _)| names.contains(&&*key.0));
        found.map(|(_, value)| *value)
    }
}

struct MemberVisitor;

impl<'a> Visitor<'a> for MemberVisitor {
    type Value = Vec<(Key<'a>, &'a str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<Key<'a>, &RawValue>()? {
            members.push((key, value.get()));
        }
        Ok(members)
    }
}

/// The elements of an array, each as it is written.
pub fn elements(text: &str) -> serde_json::Result<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(text)?;
    Ok(elements.into_iter().map(RawValue::get).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_decoded_and_other_values_are_not() {
        let cases = [
            (r#""plain""#, Some("plain")),
            (r#""tab\t \u00e9""#, Some("tab\t é")),
            (r#""lone \ud800""#, Some("lone \u{fffd}\u{fffd}\u{fffd}")),
            ("7", None),
            ("null", None),
        ];
        for (text, expected) in cases {
            assert_eq!(string(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn values_come_as_they_are_written() {
        let text = r#"{"a": 1E400, "b":[1,  2], "\u0061": 123456789012345678901234567890}"#;
        let members = ObjectMembers::parse(text).unwrap();
        let seen: Vec<_> = members.0.iter().map(|(key, value)| format!("{}={value}", key.0)).collect();
        assert_eq!(seen, ["a=1E400", "b=[1,  2]", "a=123456789012345678901234567890"]);
        assert_eq!(members.get("a"), Some("123456789012345678901234567890"), "the last one counts");
        assert_eq!(members.last_of(&["c", "b"]), Some("[1,  2]"));
        assert!(ObjectMembers::parse("{} x").is_err());
        assert!(elements("[1,]").is_err());
    }
}
