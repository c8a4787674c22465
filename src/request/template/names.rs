//! The spelling of fields in a template, and the mistakes that people make with it.

use std::borrow::Cow;
use std::collections::HashSet;

use minijinja::Environment;

/// The name by which a template reaches the whole record.
pub const ROW: &str = "row";

/// Words that the engine does not take for names of fields.
const KEYWORDS: [&str; 15] =
    ["and", "else", "false", "False", "if", "in", "is", "loop", "none", "None", "not", "or", "self", "true", "True"];

/// Returns true if `{{ name }}` reaches the field.
fn is_plain(name: &str) -> bool {
    let begins = name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
    begins && name.chars().all(|c| c.is_alphanumeric() || c == '_') && !KEYWORDS.contains(&name)
}

/// A field as a template spells it: `text`, or `row["Review Text"]`.
pub fn spelled(name: &str) -> Cow<'_, str> {
    if is_plain(name) { Cow::Borrowed(name) } else { Cow::Owned(format!("{ROW}[{}]", quoted(name))) }
}

/// A member of the value at `path`, as a template spells it.
pub(super) fn member(path: &str, name: &str) -> String {
    if is_plain(name) { format!("{path}.{name}") } else { format!("{path}[{}]", quoted(name)) }
}

/// A string literal of the engine.
fn quoted(name: &str) -> String {
    if name.contains('"') && !name.contains(['\'', '\\']) { format!("'{name}'") } else { format!("{name:?}") }
}

/// The expressions of a template's `{{ … }}`, each up to its first filter.
fn expressions(source: &str) -> impl Iterator<Item = &str> {
    source.split("{{").skip(1).filter_map(|rest| {
        let inside = rest.split_once("}}")?.0;
        Some(inside.split('|').next().unwrap_or(inside).trim_matches(|c: char| c.is_whitespace() || c == '-'))
    })
}

/// The first expression that is the name of a field, but which the engine reads as something else, such as
/// `{{ product-id }}` or `{{ 2023 }}`.
pub(super) fn misread<'f>(source: &str, fields: &[&'f str], engine: &Environment<'_>) -> Option<&'f str> {
    expressions(source).find_map(|expression| {
        let field = fields.iter().find(|field| **field == expression)?;
        let found = engine.compile_expression(expression).map(|parsed| parsed.undeclared_variables(false));
        let reached = found.is_ok_and(|names| names.contains(*field));
        // `a.b` may be meant as the member `b` of the field `a`.
        let nested = field.split_once('.').is_some_and(|(outer, _)| fields.contains(&outer));
        (!reached && !nested).then_some(*field)
    })
}

/// The spelling of the first expression on this line that may be meant as a name, but is none for the engine.
pub(super) fn respelled(line: &str) -> Option<String> {
    let name = |expression: &&str| {
        let odd = |c: char| !c.is_alphanumeric() && !c.is_whitespace() && !"_-?!#%&/.:;§$€@'’".contains(c);
        !expression.is_empty() && !expression.contains(odd) && !is_plain(expression)
    };
    expressions(line).find(name).map(|name| spelled(name).into_owned())
}

/// The first placeholder of another language that names a field: `{text}`, `${text}`, `$text` or `%(text)s`.
pub fn foreign<'f>(text: &str, fields: &[&'f str]) -> Option<(String, &'f str)> {
    let mut fields: Vec<&str> = fields.iter().copied().filter(|field| !field.is_empty()).collect();
    // Of `$id` and `$id_long` the longer one.
    fields.sort_by_key(|field| std::cmp::Reverse(field.len()));
    fields.into_iter().find_map(|field| {
        for form in [format!("{{{field}}}"), format!("%({field})s")] {
            let mut at = text.match_indices(&form).filter(|(at, _)| !text[..*at].ends_with(['{', '$']));
            if at.next().is_some() {
                return Some((form, field));
            }
        }
        let braced = format!("${{{field}}}");
        if text.contains(&braced) {
            return Some((braced, field));
        }
        let bare = format!("${field}");
        let ends = |(at, found): (usize, &str)| {
            !text[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
        };
        text.match_indices(&bare).any(ends).then_some((bare, field))
    })
}

/// Returns true if a template that uses `names` uses one of the record's fields, or the whole record.
pub(super) fn any_field(names: &HashSet<String>, fields: &[&str]) -> bool {
    const FUNCTIONS: [&str; 4] = ["range", "dict", "namespace", "debug"];
    names.iter().any(|name| !FUNCTIONS.contains(&name.as_str()) || fields.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_a_template_can_spell_it() {
        for (name, spelling) in [
            ("text", "text"),
            ("größe", "größe"),
            ("本文", "本文"),
            ("Review Text", r#"row["Review Text"]"#),
            ("product-id", r#"row["product-id"]"#),
            ("2023", r#"row["2023"]"#),
            ("in", r#"row["in"]"#),
            ("say \"hi\"", r#"row['say "hi"']"#),
            ("", r#"row[""]"#),
        ] {
            assert_eq!(spelled(name), spelling);
        }
        assert_eq!(member("user", "first name"), r#"user["first name"]"#);
        assert_eq!(member("user", "name"), "user.name");
    }

    #[test]
    fn a_name_that_the_engine_reads_otherwise_is_found() {
        let engine = Environment::new();
        let fields = ["country", "2023", "product-id", "a.b", "not", "größe", "product"];
        for (source, found) in [
            ("{{ country }}", None),
            ("{{ größe }}", None),
            ("Growth {{ 2023 }}", Some("2023")),
            ("{{ country }} {{- 2023 | round -}}", Some("2023")),
            ("{{product-id}}", Some("product-id")),
            ("{{ a.b }}", Some("a.b")),
            ("{{ not }}", Some("not")),
            ("{{ 2024 }}", None),
            ("2023", None),
        ] {
            assert_eq!(misread(source, &fields, &engine), found, "{source}");
        }
        assert_eq!(misread("{{ a.b }}", &["a", "a.b"], &engine), None);
    }

    #[test]
    fn placeholders_of_other_languages_are_recognised() {
        let fields = ["id", "text", "id_long"];
        for (text, found) in [
            ("Classify: {text}", Some("{text}")),
            ("Classify: $text", Some("$text")),
            ("Classify: ${text}!", Some("${text}")),
            ("Classify: %(text)s", Some("%(text)s")),
            ("$id_long", Some("$id_long")),
            ("{{ text }}", None),
            ("$texts", None),
            ("costs $5", None),
            ("{other}", None),
        ] {
            assert_eq!(foreign(text, &fields).map(|(form, _)| form).as_deref(), found, "{text}");
        }
    }
}
