//! The checks of a `messages` value, which spare a paid refusal.

use crate::json::{NotJson, Scanner};

/// The facts about a `messages` value that decide whether it can be sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MessagesFacts {
    /// The number of messages, up to the odd one.
    pub count: usize,
    /// A message has the role `system` or `developer`.
    pub has_system: bool,
    /// A content is a list, whose parts may be images.
    pub has_parts: bool,
    /// The last message counted is not an object with a string `role`.
    pub odd: bool,
}

/// Looks over a `messages` value (as spelled, known to be valid). `None` if it is not an array.
pub(super) fn look_over(value: &str) -> Option<MessagesFacts> {
    if !value.starts_with('[') {
        return None;
    }
    let mut facts = MessagesFacts::default();
    // Stops at the first odd one.
    let _ = Scanner::trusting(value).elements(|scanner| {
        facts.count += 1;
        facts.odd = true;
        let mut role = "";
        scanner.members(|scanner, key| {
            let value = scanner.skip()?;
            if key.is("role") {
                role = value;
            }
            facts.has_parts |= value.starts_with('[') && key.is("content");
            Ok::<_, NotJson>(())
        })?;
        facts.odd = !role.starts_with('"');
        facts.has_system |= matches!(role, "\"system\"" | "\"developer\"");
        if facts.odd { Err(NotJson(0)) } else { Ok(()) }
    });
    Some(facts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_looked_over() {
        let facts = |count, has_system, odd| Some(MessagesFacts { count, has_system, odd, has_parts: false });
        for (value, expected) in [
            ("{}", None),
            ("[]", facts(0, false, false)),
            (r#"[{"role":"user"},{"role":"system","content":1E400}]"#, facts(2, true, false)),
            (r#"[{"r\u006fle":"developer"}]"#, facts(1, true, false)),
            (r#"[{"role":"user"},1E400,{"role":"user"}]"#, facts(2, false, true)),
            (r#"[{"role":"user"},"\ud800"]"#, facts(2, false, true)),
            (r#"[{"role":1}]"#, facts(1, false, true)),
            (r"[[]]", facts(1, false, true)),
            (r"[null]", facts(1, false, true)),
            (r"[{}]", facts(1, false, true)),
        ] {
            assert_eq!(look_over(value), expected, "{value}");
        }
    }

    #[test]
    fn lists_of_parts_are_seen() {
        for (content, has_parts) in [
            (r#""content":[]"#, true),
            (r#""c\u006fntent" : [1]"#, true),
            (r#""content":"[""#, false),
            (r#""x":[]"#, false),
        ] {
            let facts = look_over(&format!(r#"[{{"role":"user",{content}}},{{"role":"user","content":"x"}}]"#));
            assert_eq!(facts.map(|facts| facts.has_parts), Some(has_parts), "{content}");
        }
    }

    #[test]
    fn deep_messages_are_looked_over() {
        let value = format!(r#"[{{"role":"user","content":{}1{}}}]"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(look_over(&value), Some(MessagesFacts { count: 1, has_system: false, has_parts: true, odd: false }));
    }

    proptest! {
        #[test]
        fn nonsense_is_survived(text in "[\\[\\]{}\":,\\\\a1 é]{0,30}") {
            look_over(&text);
        }
    }
}
