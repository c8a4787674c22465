//! JSON as spans of its text: members and elements as they are written, without building values.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The text of a JSON string; none for any other value. A lone surrogate becomes U+FFFD instead of an error.
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inside.as_bytes().contains(&b'\\') {
        return Some(Cow::Borrowed(inside));
    }
    let bytes = serde_json::Deserializer::from_str(raw).deserialize_bytes(Bytes).ok()?;
    Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

/// Calls `f` with each member of an object: its key and its value as it is written.
pub fn each_member<'a>(text: &'a str, f: impl FnMut(&str, &'a str)) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(MemberVisitor(f))?;
    reader.end()
}

struct MemberVisitor<F>(F);

impl<'a, F: FnMut(&str, &'a str)> Visitor<'a> for MemberVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            let value: &RawValue = map.next_value()?;
            (self.0)(&key, value.get());
        }
        Ok(())
    }
}

/// A key, borrowed unless it has escapes.
struct Key;

impl<'a> DeserializeSeed<'a> for Key {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, reader: D) -> Result<Cow<'a, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Key {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Calls `f` with each element of an array as it is written.
pub fn each_element<'a>(text: &'a str, f: impl FnMut(&'a str)) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_seq(ElementVisitor(f))?;
    reader.end()
}

struct ElementVisitor<F>(F);

impl<'a, F: FnMut(&'a str)> Visitor<'a> for ElementVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<&RawValue>()? {
            (self.0)(value.get());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_what_is_none() {
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
        let mut seen = Vec::new();
        each_member(r#"{"a": 1E400, "b":[1,  2], "\u0061": 123456789012345678901234567890}"#, |key, value| {
            seen.push(format!("{key}={value}"));
        })
        .unwrap();
        assert_eq!(seen, ["a=1E400", "b=[1,  2]", "a=123456789012345678901234567890"]);
        assert!(each_member("{} x", |_, _| {}).is_err());
        assert!(each_element("[1,]", |_| {}).is_err());
    }
}
