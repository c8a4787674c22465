//! A walk through JSON that is known to be valid, as part of a text that [`super::json::members`] took.
//! It only looks for quotes and brackets.

use std::borrow::Cow;

use super::json::{Member, string};

/// The members of an object that is known to be valid, as part of a text that [`members`] took.
pub fn members(text: &str) -> Vec<Member<'_>> {
    let mut walk = Walk { text, at: 0 };
    let mut members = Vec::with_capacity(8);
    walk.enter(b'{');
    while let Some((key, value)) = walk.member() {
        members.push(Member {
            start: key.as_ptr().addr() - text.as_ptr().addr(),
            end: walk.at,
            key: string(key).unwrap_or(Cow::Borrowed(key)),
            value,
        });
    }
    members
}

/// The elements of an array that is known to be valid, as spelled.
pub fn elements(text: &str) -> Vec<&str> {
    let mut walk = Walk { text, at: 0 };
    walk.enter(b'[');
    std::iter::from_fn(|| walk.element()).collect()
}

/// A cursor in valid JSON. On anything else it stops early, and never panics.
struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, also: u8) {
        while self.peek().is_some_and(|byte| byte == also || byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Steps behind the opening bracket.
    fn enter(&mut self, open: u8) {
        self.skip(b' ');
        if self.peek() == Some(open) {
            self.at += 1;
        } else {
            self.at = self.text.len();
        }
    }

    fn member(&mut self) -> Option<(&'a str, &'a str)> {
        self.skip(b',');
        if self.peek()? != b'"' {
            return None;
        }
        let key = self.value()?;
        self.skip(b':');
        Some((key, self.value()?))
    }

    fn element(&mut self) -> Option<&'a str> {
        self.skip(b',');
        if self.peek()? == b']' { None } else { self.value() }
    }

    /// The value that starts here, as spelled.
    fn value(&mut self) -> Option<&'a str> {
        let start = self.at;
        match self.peek()? {
            b'"' => self.pass_string()?,
            open @ (b'{' | b'[') => {
                // In valid text brackets nest, so those of one kind are enough to count.
                let close = open + 2;
                let mut depth = 0_usize;
                loop {
                    // Between strings there is little, so that calling a search would take longer.
                    match self.peek()? {
                        b'"' => {
                            self.pass_string()?;
                            continue;
                        }
                        byte if byte == open => depth += 1,
                        byte if byte == close => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                while self.peek().is_some_and(|byte| !matches!(byte, b',' | b'}' | b']') && !byte.is_ascii_whitespace())
                {
                    self.at += 1;
                }
            }
        }
        self.text.get(start..self.at).filter(|value| !value.is_empty())
    }

    /// Steps behind the string whose quote is here.
    fn pass_string(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        self.at = start;
        loop {
            // For quotes only: text may be escapes all over (`\n`, `\u0434`), of which none but `\"` matters.
            self.at += memchr::memchr(b'"', bytes.get(self.at..)?)? + 1;
            let before = &bytes[start..self.at - 1];
            // The quote is text behind an odd number of backslashes.
            if before.last() != Some(&b'\\') || before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0
            {
                return Some(());
            }
        }
    }
}

/// What is known of a `messages` value.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// How many, up to the odd one.
    pub count: usize,
    /// Whether one is the system's (or developer's).
    pub has_system: bool,
    /// Whether the last one counted is no object with a string `role`.
    pub odd: bool,
}

/// Looks over a `messages` value (as spelled, known to be valid); `None` if it is no array.
pub fn messages(value: &str) -> Option<Messages> {
    if !value.starts_with('[') {
        return None;
    }
    let mut seen = Messages::default();
    let mut walk = Walk { text: value, at: 1 };
    loop {
        walk.skip(b',');
        match walk.peek() {
            Some(b'{') => walk.at += 1,
            None | Some(b']') => return Some(seen),
            Some(_) => return Some(Messages { count: seen.count + 1, odd: true, ..seen }),
        }
        seen.count += 1;
        let mut role = None;
        while let Some((key, value)) = walk.member() {
            if key == "\"role\"" || (key.contains('\\') && string(key).as_deref() == Some("role")) {
                role = Some(value);
            }
        }
        // Behind the closing bracket.
        walk.at += 1;
        if !role.is_some_and(|role| role.starts_with('"')) {
            return Some(Messages { odd: true, ..seen });
        }
        seen.has_system |= matches!(role, Some("\"system\"" | "\"developer\""));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::super::json;
    use super::*;

    /// Any JSON, spaced at random.
    fn any_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("-1.5E400".to_owned()),
            Just("true".to_owned()),
            r#""([a-z,:é{}\[\]]|\\\\|\\"|\\ud800){0,6}""#.prop_map(|text| text),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let key = r#"([a-c{]|\\"|\\u0041){0,3}"#;
            prop_oneof![
                (prop::collection::vec(inner.clone(), 0..5), "[ \t]?")
                    .prop_map(|(all, gap)| format!("[{gap}{}{gap}]", all.join(&format!("{gap},")))),
                (prop::collection::vec((key, inner), 0..5), "[ \t]?").prop_map(|(all, gap)| {
                    let all: Vec<String> =
                        all.iter().map(|(key, value)| format!("{gap}\"{key}\"{gap}:{gap}{value}{gap}")).collect();
                    format!("{{{}}}", all.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_trusting_walk_sees_what_serde_sees(value in any_json()) {
            let text = format!("{{\"a\": {value} , \"b\":[{value}]}}");
            let show = |members: Vec<Member<'_>>| members.iter().map(|m| format!("{}={} {}..{}", m.key, m.value, m.start, m.end)).collect::<Vec<_>>();
            prop_assert_eq!(show(members(&text)), show(json::members(&text).unwrap()));
            if value.starts_with('{') {
                prop_assert_eq!(show(members(&value)), show(json::members(&value).unwrap()));
            }
            let list = format!("[{value}, {value}]");
            let raw: Vec<&RawValue> = serde_json::from_str(&list).unwrap();
            prop_assert_eq!(elements(&list), raw.iter().map(|raw| raw.get()).collect::<Vec<_>>());
        }

        #[test]
        fn the_trusting_walk_survives_nonsense(text in "[\\[\\]{}\":,\\\\a1 é]{0,30}") {
            members(&text);
            elements(&text);
            messages(&text);
        }
    }

    #[test]
    fn messages_are_looked_over() {
        let seen = |count, has_system, odd| Some(Messages { count, has_system, odd });
        for (value, expected) in [
            ("{}", None),
            ("[]", seen(0, false, false)),
            (r#"[{"role":"user"},{"role":"system","content":1E400}]"#, seen(2, true, false)),
            (r#"[{"r\u006fle":"developer"}]"#, seen(1, true, false)),
            (r#"[{"role":"user"},1E400,{"role":"user"}]"#, seen(2, false, true)),
            (r#"[{"role":"user"},"\ud800"]"#, seen(2, false, true)),
            (r#"[{"role":1}]"#, seen(1, false, true)),
            (r"[[]]", seen(1, false, true)),
            (r"[null]", seen(1, false, true)),
            (r"[{}]", seen(1, false, true)),
        ] {
            assert_eq!(messages(value), expected, "{value}");
        }
    }

    #[test]
    fn depth_is_no_matter() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(json::members(&deep).unwrap()[0].value.len(), 200_001);
        let value = format!(r#"[{{"role":"user","content":{}1{}}}]"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(messages(&value), Some(Messages { count: 1, has_system: false, odd: false }));
    }
}
