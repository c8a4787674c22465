//! A walk over a JSON object, in place. Serde cannot say where a value stood that it has read into a struct; this can,
//! and so the body of an answer, nearly all of a line, is parsed once and not a second time for its span (a fifth of the join's time).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::line::Garbled;

/// A place in a JSON text that has no line feed.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The offset of what comes next.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// The text from `start` to here.
    pub(super) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// The first byte of what comes next.
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over an object; `each` is called before every value, with its name, and passes over the value.
    pub(super) fn members(
        &mut self,
        mut each: impl FnMut(&mut Self, &str) -> Result<(), Garbled>,
    ) -> Result<(), Garbled> {
        self.token(b'{')?;
        if self.peek() == Some(b'}') {
            return self.token(b'}');
        }
        loop {
            let key = self.key()?;
            self.token(b':')?;
            each(self, &key)?;
            self.blanks();
            if self.peek() != Some(b',') {
                return self.token(b'}');
            }
            self.token(b',')?;
        }
    }

    /// The next value as it is spelled.
    pub(super) fn raw(&mut self) -> Result<&'a RawValue, Garbled> {
        self.value().map_err(|error| Garbled::NotJson(self.at + error.column()))
    }

    /// The next value as a `T`. If it is none, it is still to be passed over.
    pub(super) fn typed<T: Deserialize<'a>>(&mut self) -> Option<T> {
        self.value().ok()
    }

    /// Whether that was all.
    pub(super) fn end(&mut self) -> Result<(), Garbled> {
        self.blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(self.here()) }
    }

    fn value<T: Deserialize<'a>>(&mut self) -> serde_json::Result<T> {
        let mut values = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter();
        // Nothing is left: let the parser say so.
        let value = values.next().unwrap_or_else(|| serde_json::from_str(""))?;
        self.at += values.byte_offset();
        Ok(value)
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Garbled> {
        let rest = &self.text.as_bytes()[self.at..];
        let end = rest.strip_prefix(b"\"").and_then(|inside| memchr::memchr2(b'"', b'\\', inside));
        match end.map(|end| (end, rest[end + 1])) {
            Some((end, b'"')) => {
                let key = &self.text[self.at + 1..=self.at + end];
                // No JSON: what damages a file is often a run of NULs.
                if let Some(damage) = key.bytes().position(|byte| byte < b' ') {
                    return Err(Garbled::NotJson(self.at + damage + 2));
                }
                self.at += end + 2;
                Ok(Cow::Borrowed(key))
            }
            Some(_) => self.value().map(Cow::Owned).map_err(|error| Garbled::NotJson(self.at + error.column())),
            None => Err(self.here()),
        }
    }

    /// Passes over one punctuation mark and the white space around it.
    fn token(&mut self, mark: u8) -> Result<(), Garbled> {
        self.blanks();
        if self.peek() != Some(mark) {
            return Err(self.here());
        }
        self.at += 1;
        self.blanks();
        Ok(())
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    const fn here(&self) -> Garbled {
        Garbled::NotJson(self.at + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    /// The members with their values as spelled.
    fn walked(text: &str) -> Result<Vec<(String, String)>, Garbled> {
        let (mut walk, mut found) = (Walk::new(text), Vec::new());
        walk.members(|walk, key| {
            let start = walk.at();
            let raw = walk.raw()?.get();
            assert_eq!(raw, walk.since(start));
            found.push((key.to_owned(), raw.to_owned()));
            Ok(())
        })?;
        walk.end()?;
        Ok(found)
    }

    #[test]
    fn members_are_found_as_they_are_spelled() {
        let found = walked(" { \"a\" : 1E400 , \"b\\u0041\":{\"x\":[1,\"}\"]},\"\":\"\\ud800\",\"n\":null } ");
        let member = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected =
            [member("a", "1E400"), member("bA", "{\"x\":[1,\"}\"]}"), member("", "\"\\ud800\""), member("n", "null")];
        assert_eq!(found, Ok(expected.to_vec()));
        assert_eq!(walked("{ }"), Ok(Vec::new()));
    }

    #[test]
    fn a_name_with_control_characters_is_damage() {
        for text in ["{\"re\0sponse\":1}", "{\"a\":1,\"\u{1f}\":2}", "{\"\t\\n\":1}"] {
            assert!(matches!(walked(text), Err(Garbled::NotJson(_))), "{text:?}");
        }
    }

    #[test]
    fn a_value_of_another_type_is_still_there() {
        let mut walk = Walk::new("{\"a\":[1] ,\"b\":2}");
        let result = walk.members(|walk, _| {
            assert!(walk.typed::<String>().is_none());
            walk.raw().map(drop)
        });
        assert_eq!((result, walk.end()), (Ok(()), Ok(())));
    }

    proptest! {
        #[test]
        fn what_is_no_object_is_refused_where_the_parser_refuses_it(text in "\\{?[{}\\[\\]\":, 1a\\\\\u{1}-]{0,12}\\}?") {
            let parsed = serde_json::from_str::<IgnoredAny>(&text).is_ok() && text.trim_start().starts_with('{');
            prop_assert_eq!(walked(&text).is_ok(), parsed, "{}", text);
        }
    }
}
