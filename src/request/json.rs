//! JSON looked at in place: members and their spans, never a tree. What is not asked for is skipped without
//! recursion, so depth does not matter, and every number and escape stays as it was spelled.
//!
//! A line is validated once, by [`members`]. What lies inside is then walked by [`super::walk`], which trusts it and only looks for
//! quotes and brackets, so that a nested body is not validated once for each level.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::skim;

/// A member of an object, with its span in the text that was parsed.
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
    /// Whether the value is `null`.
    pub fn is_null(&self) -> bool {
        self.value == "null"
    }
}

/// The members of the object `text`, in order, duplicates included.
///
/// # Errors
/// `text` is not JSON, or no object.
pub fn members(text: &str) -> serde_json::Result<Vec<Member<'_>>> {
    line(text).map(|line| line.members)
}

/// A line of JSON: an object.
#[derive(Debug, Default)]
pub struct Line<'a> {
    /// In order, duplicates included.
    pub members: Vec<Member<'a>>,
    /// The members of the value of `body`, if it is an object and they were seen in passing.
    pub body: Option<Vec<Member<'a>>>,
}

/// The same as [`members`], and those of a batch line's body.
pub fn line(text: &str) -> serde_json::Result<Line<'_>> {
    match skim::members(text, "body") {
        Some((members, body)) => Ok(Line { members, body }),
        None => Ok(Line { members: parsed(text)?, body: None }),
    }
}

/// The same as a parser has it that takes all there is, and tells what is wrong.
pub(super) fn parsed(text: &str) -> serde_json::Result<Vec<Member<'_>>> {
    struct Members<'a>(&'a str);
    impl<'a> Visitor<'a> for Members<'a> {
        type Value = Vec<Member<'a>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let base = self.0.as_ptr().addr();
            let mut members = Vec::with_capacity(8);
            while let Some((key, raw)) = map.next_entry::<&RawValue, &RawValue>()? {
                let (key, value) = (key.get(), raw.get());
                members.push(Member {
                    start: key.as_ptr().addr() - base,
                    end: value.as_ptr().addr() + value.len() - base,
                    key: string(key).unwrap_or(Cow::Borrowed(key)),
                    value,
                });
            }
            Ok(members)
        }
    }

    let mut parser = serde_json::Deserializer::from_str(text);
    let members = parser.deserialize_map(Members(text))?;
    parser.end()?;
    Ok(members)
}

/// The last member of that name: the one that counts for every common parser.
pub fn find<'m, 'a>(members: &'m [Member<'a>], key: &str) -> Option<&'m Member<'a>> {
    members.iter().rev().find(|member| member.key == key)
}

/// The text of the JSON string `value`; `None` if it is another kind of value or holds a lone surrogate.
pub fn string(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(value).ok().map(Cow::Owned)
}

/// Whether the JSON string `value` (as spelled) holds nothing but white space.
pub fn is_blank(value: &str) -> bool {
    /// Longer ones are taken for real without being unescaped.
    const LOOKED_AT: usize = 256;
    value.len() <= LOOKED_AT && string(value).is_some_and(|text| text.trim().is_empty())
}

/// `text` as a JSON string.
pub fn quote(text: &str) -> String {
    // Writing to memory a type that is a JSON string already: cannot fail.
    serde_json::to_string(text).unwrap_or_default()
}

/// Whether `text` is exactly one JSON number.
pub fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && !text.ends_with(|c: char| c.is_ascii_whitespace())
        && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// `text` without the white space between its tokens, so that it fits into a JSON line.
///
/// # Errors
/// `text` is not JSON.
pub fn compact(text: &str) -> serde_json::Result<String> {
    serde_json::from_str::<&RawValue>(text)?;
    let (mut out, mut quoted, mut escaped) = (String::with_capacity(text.len()), false, false);
    for c in text.chars() {
        if !quoted && c.is_ascii_whitespace() {
            continue;
        }
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        out.push(c);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_their_spans() {
        let text = r#" { "a" : 1E400 , "b\u0041":{"x":[1,"}"]},"\ud800": "\ud800" } "#;
        let members = members(text).unwrap();
        let shown: Vec<_> = members.iter().map(|m| (&*m.key, m.value, &text[m.start..m.end])).collect();
        assert_eq!(shown[0], ("a", "1E400", r#""a" : 1E400"#));
        assert_eq!(shown[1], ("bA", r#"{"x":[1,"}"]}"#, r#""b\u0041":{"x":[1,"}"]}"#));
        assert_eq!(shown[2], (r#""\ud800""#, r#""\ud800""#, r#""\ud800": "\ud800""#));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "1", "{", r#"{"a":1}x"#, r#"{"a":1,}"#, r#"{"a":01}"#, "{\"a\":\"\u{1}\"}", r#"{"a" 1}"#]
        {
            assert!(members(text).is_err(), "{text}");
        }
    }

    #[test]
    fn compact_keeps_what_is_quoted() {
        let text = "{ \"a b\" :\n [1, 1E400],\t\"c\\\" \\\\\" : \" \\\" \" }";
        assert_eq!(compact(text).unwrap(), "{\"a b\":[1,1E400],\"c\\\" \\\\\":\" \\\" \"}");
        assert!(compact("{").is_err());
    }

    #[test]
    fn numbers_blanks_and_strings() {
        for (text, is) in [
            ("1", true),
            ("-0.5e3", true),
            ("01", false),
            ("1 ", false),
            (" 1", false),
            ("\"1\"", false),
            ("", false),
            ("1 2", false),
        ] {
            assert_eq!(is_number(text), is, "{text:?}");
        }
        assert!(is_blank(r#"" \n\t""#) && !is_blank(r#""x""#) && !is_blank("1"));
        assert_eq!(string(r#""a\u0062""#).as_deref(), Some("ab"));
        assert_eq!(string(r#""\ud800""#), None);
        assert_eq!(string("12"), None);
    }
}
