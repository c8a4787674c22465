//! JSON text as text: strings with and without their escapes, and white space taken out.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;

use super::Scanner;

/// The text of the JSON string `value`, or `None` if it is another kind of value or holds a lone surrogate.
pub fn string(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(value).ok().map(Cow::Owned)
}

/// `text` as a JSON string.
pub fn quote(text: &str) -> String {
    // Writing to memory a type that is a JSON string already cannot fail.
    serde_json::to_string(text).unwrap_or_default()
}

/// Appends `value` as JSON: a text with its quotes and escapes, a number as its digits.
pub fn write(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    // Texts and numbers go to memory without fail.
    let _ = serde_json::to_writer(out, value);
}

/// Returns true if the JSON string `value` (as spelled) holds nothing but white space.
pub fn is_blank(value: &str) -> bool {
    /// Longer strings count as text without being unescaped.
    const LOOKED_AT: usize = 256;
    value.len() <= LOOKED_AT && string(value).is_some_and(|text| text.trim().is_empty())
}

/// Returns true if `text` is exactly one JSON number.
pub fn is_number(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && scanner.check().is_ok_and(|number| number.len() == text.len())
}

/// Returns true if `text` is JSON.
pub fn is_valid(text: &str) -> bool {
    let mut scanner = Scanner::searched(text);
    scanner.blanks();
    scanner.check().is_ok() && scanner.end().is_ok()
}

/// The whole number that a JSON number spells: `100`, `100.0` and `1e2` are 100. `None`: it is something else, or below 0.
/// One of more than 53 bits in another spelling than digits counts as the largest.
pub fn whole(text: &str) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().unwrap_or(u64::MAX));
    }
    let number: f64 = text.parse().ok().filter(|_| is_number(text))?;
    (number >= 0.0 && number.fract() == 0.0 || number == f64::INFINITY).then_some(if number < EXACT {
        number as u64
    } else {
        u64::MAX
    })
}

/// `text` with `null` in place of `NaN`, `Infinity` and `-Infinity`, which some servers write. `None`: it has none of them.
pub fn without_nan(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut quoted, mut found) = (text, false, false);
    while let Some(first) = rest.chars().next() {
        let words = ["NaN", "Infinity", "-Infinity"];
        if !quoted && let Some(after) = words.iter().find_map(|word| rest.strip_prefix(word)) {
            out.push_str("null");
            (rest, found) = (after, true);
            continue;
        }
        quoted ^= first == '"';
        // An escaped quotation mark does not end its text.
        let taken =
            if quoted && first == '\\' { rest.chars().take(2).map(char::len_utf8).sum() } else { first.len_utf8() };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    found.then_some(out)
}

/// `text` without the white space between its tokens, so that it fits into a JSON line.
///
/// # Errors
/// `text` is not JSON.
pub fn compact(text: &str) -> serde_json::Result<String> {
    serde_json::from_str::<&RawValue>(text)?;
    Ok(without_blanks(text))
}

/// Puts valid JSON on one line. White space outside strings goes, and every other byte stays. JSON that is on one line
/// already is passed through.
pub fn one_line(json: &str) -> Cow<'_, str> {
    match memchr::memchr2(b'\n', b'\r', json.as_bytes()) {
        Some(_) => Cow::Owned(without_blanks(json)),
        None => Cow::Borrowed(json),
    }
}

/// Takes the white space out that stands outside of strings.
fn without_blanks(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut scanner = Scanner::trusting(json);
    let mut from = 0;
    loop {
        match scanner.peek() {
            None => break,
            Some(b' ' | b'\t' | b'\n' | b'\r') => {
                out.push_str(scanner.spelled(from));
                scanner.blanks();
                from = scanner.at();
            }
            Some(_) => scanner.token(),
        }
    }
    out.push_str(scanner.spelled(from));
    out
}

/// The depth to which the arrays and objects of valid JSON are nested.
pub fn depth(json: &str) -> usize {
    let (mut now, mut deepest) = (0_usize, 0);
    let mut scanner = Scanner::trusting(json);
    while let Some(byte) = scanner.peek() {
        match byte {
            b'[' | b'{' => {
                now += 1;
                deepest = deepest.max(now);
            }
            b']' | b'}' => now = now.saturating_sub(1),
            _ => {}
        }
        scanner.token();
    }
    deepest
}

/// Valid JSON with each member and element on a line of its own. Names, texts and numbers keep their spelling.
pub fn pretty(text: &str) -> String {
    /// Deeper lines are not indented further.
    const WIDEST: usize = 40;
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut chars = text.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).peekable();
    let line = |depth: usize, out: &mut String| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth.min(WIDEST)));
    };
    while let Some(c) = chars.next() {
        if quoted {
            out.push(c);
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        match c {
            ' ' => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|next| *next == ' ').is_some() {}
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(depth, &mut out);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(depth, &mut out);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(depth, &mut out);
            }
            ':' => out.push_str(": "),
            _ => {
                quoted = c == '"';
                out.push(c);
            }
        }
    }
    out
}

/// Levels of nesting that every reader of results can be expected to take.
const DEEPEST: usize = 2_000;

/// Returns true if valid JSON is nested too deep for other programs.
pub fn is_too_deep(json: &str) -> bool {
    // Each level has two brackets, so a short text needs no look.
    json.len() > 2 * DEEPEST
        && memchr::memchr2_iter(b'[', b'{', json.as_bytes()).nth(DEEPEST).is_some()
        && depth(json) > DEEPEST
}

/// Reads the text of a JSON string. An escaped half surrogate, which no text can hold, becomes U+FFFD.
pub fn unquoted(json: &str) -> Cow<'_, str> {
    let inner = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Cow::Borrowed(inner);
    }
    if let Ok(text) = serde_json::from_str::<String>(json) {
        return Cow::Owned(text);
    }
    match serde_json::from_str::<Bytes>(json) {
        Ok(Bytes(bytes)) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        // Not a JSON string: no JSON parser gives that, but losing it would be worse than showing it.
        Err(_) => Cow::Borrowed(inner),
    }
}

/// A JSON string as bytes, which may hold half surrogates encoded like UTF-8.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Copy;
        impl Visitor<'_> for Copy {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Copy)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pretty_text_is_the_same_value_with_a_line_for_each_part() {
        let text = r#"{"a" : [1E400, {}, [ ] ,"x \"y\\", "{,:"],"b":{"c":null}}"#;
        let expected = "{\n  \"a\": [\n    1E400,\n    {},\n    [],\n    \"x \\\"y\\\\\",\n    \"{,:\"\n  ],\n  \
                        \"b\": {\n    \"c\": null\n  }\n}";
        assert_eq!(pretty(text), expected);
        assert_eq!(compact(&pretty(text)).unwrap(), compact(text).unwrap());
    }

    #[test]
    fn white_space_inside_of_strings_stays() {
        let text = "{ \"a b\" :\n [1, 1E400],\t\"c\\\" \\\\\" : \" \\\" \" }";
        let compacted = "{\"a b\":[1,1E400],\"c\\\" \\\\\":\" \\\" \"}";
        assert_eq!((&*compact(text).unwrap(), &*one_line(text)), (compacted, compacted));
        assert!(compact("{").is_err());
        assert_eq!(one_line("{ }"), "{ }");
    }

    #[test]
    fn numbers_blanks_and_strings_are_told_apart() {
        for (text, is) in [
            ("1", true),
            ("-0.5e3", true),
            ("01", false),
            ("1 ", false),
            (" 1", false),
            ("\"1\"", false),
            ("", false),
            ("1 2", false),
            ("-", false),
            ("1x", false),
        ] {
            assert_eq!(is_number(text), is, "{text:?}");
        }
        assert!(is_blank(r#"" \n\t""#) && !is_blank(r#""x""#) && !is_blank("1"));
        assert_eq!(string(r#""a\u0062""#).as_deref(), Some("ab"));
        assert_eq!(string(r#""\ud800""#), None);
        assert_eq!(string("12"), None);
    }

    #[test]
    fn brackets_inside_of_strings_are_not_depth() {
        for (text, deep) in [("1", 0), (r#"{"[[\"[":[{}, []]}"#, 3), (r"[[1],[2]]", 2), ("[\"\\", 1)] {
            assert_eq!(depth(text), deep, "{text}");
        }
    }

    proptest! {
        #[test]
        fn one_line_keeps_the_value(text in "\\PC*", number in any::<i64>()) {
            let value = serde_json::json!({"a": [text, number, {"k\n": null}], "b\\\"": "\r\n"});
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(serde_json::to_string(&value).unwrap(), one_line(&pretty));
        }

        #[test]
        fn nonsense_is_survived(text in "[\\[\\]{}\":,\\\\a1 \né]{0,30}") {
            prop_assert!(one_line(&text).len() <= text.len());
            depth(&text);
        }
    }
}
