//! Bounds on a template's source, checked before the engine parses it by recursion.

use super::operators::as_filters;

/// Operators in one tag. Each makes the expression a level deeper, and the engine walks it by recursion.
const OPERATORS: usize = 400;

/// `elif` branches of a template: each is a level too.
const BRANCHES: usize = 400;

/// Something that a template has too much of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excess {
    /// 1-based.
    pub line: usize,
    pub what: String,
}

/// Raw text of a loop that is no longer than this is bounded by the steps that the loop may take.
const SHORT: usize = 8;

/// The template as it is given to the engine: operators are filters, what a `set` tag stores passes the filter `bounded`, and
/// the raw text of loops is weighed.
///
/// # Errors
/// The place of an expression that is too deep for the engine.
pub(super) fn bounded(source: &str) -> Result<String, Excess> {
    let mut out = String::with_capacity(source.len());
    let (mut rest, mut branches, mut loops, mut trimmed) = (source, 0, 0_usize, None);
    while let Some((start, close)) = next_tag(rest) {
        let inside = &rest[start + 2..];
        let tag = Tag::of(inside, close);
        let excess =
            |what: String| Excess { line: source[..source.len() - inside.len()].matches('\n').count() + 1, what };
        if tag.operators > OPERATORS {
            return Err(excess(format!("an expression of more than {OPERATORS} operators")));
        }
        let mut words = inside[..tag.end].trim_start_matches('-').split_whitespace();
        let word = if close == "%}" { words.next() } else { None };
        branches += usize::from(word == Some("elif"));
        if branches > BRANCHES {
            return Err(excess(format!("more than {BRANCHES} branches")));
        }
        if let Some(dash) = trimmed.filter(|_| loops > 0 && start > SHORT) {
            out.extend(["{{", &start.to_string(), "|_weighed", dash, "}}"]);
        }
        loops = match word {
            Some("for") => loops + 1,
            Some("endfor") => loops.saturating_sub(1),
            _ => loops,
        };
        out.push_str(&rest[..start + 2]);
        if word == Some("raw") {
            let end = end_of_raw(inside);
            out.push_str(&inside[..end]);
            (rest, trimmed) = (&inside[end..], None);
            continue;
        }
        let text = &inside[..tag.end];
        out.push_str(&match tag.assigned.filter(|_| word == Some("set")) {
            Some(equals) => bounded_set(text, equals),
            None => bounded_tag(text, close == "%}"),
        });
        trimmed = Some(if text.ends_with('-') { "-" } else { "" });
        rest = &inside[tag.end..];
        if let Some(after) = rest.strip_prefix(close) {
            out.push_str(close);
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The offset behind the tag that ends raw text, which stands between tags of its own and is no template.
fn end_of_raw(inside: &str) -> usize {
    let tag = inside.find("endraw").unwrap_or(inside.len());
    inside[tag..].find("%}").map_or(inside.len(), |end| tag + end + 2)
}

/// The inside of a `set` tag that assigns with the `=` at this offset.
fn bounded_set(text: &str, equals: usize) -> String {
    let (name, value) = text.split_at(equals + 1);
    let (value, dash) = value.strip_suffix(['-', '+']).map_or((value, ""), |cut| (cut, &value[cut.len()..]));
    [name, "(", &as_filters(value, false), ")|bounded", dash].concat()
}

/// The inside of any other tag. `named`: it begins with the tag's name.
fn bounded_tag(text: &str, named: bool) -> String {
    let start = text.len() - text.strip_prefix(['-', '+']).unwrap_or(text).len();
    let end = text.len() - usize::from(text.len() > start && text.ends_with(['-', '+']));
    [&text[..start], &as_filters(&text[start..end], named), &text[end..]].concat()
}

/// The next tag that holds an expression, with its end mark. Comments are passed over.
fn next_tag(text: &str) -> Option<(usize, &'static str)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find('{')?;
        match text.as_bytes().get(start + 1) {
            Some(b'{') => return Some((start, "}}")),
            Some(b'%') => return Some((start, "%}")),
            Some(b'#') => from = start + text[start..].find("#}")?,
            _ => from = start + 1,
        }
    }
}

/// The inside of a tag.
struct Tag {
    /// Its length, up to the end mark.
    end: usize,
    operators: usize,
    /// Offset of the first `=` that assigns.
    assigned: Option<usize>,
}

impl Tag {
    fn of(inside: &str, close: &str) -> Self {
        let bytes = inside.as_bytes();
        let (mut at, mut operators, mut assigned, mut depth) = (0, 0, None, 0_usize);
        // The last byte that is no white space.
        let mut before = b' ';
        while at < bytes.len() && !(depth == 0 && inside[at..].starts_with(close)) {
            let byte = bytes[at];
            let word = at;
            match byte {
                b'"' | b'\'' => at = after_string(bytes, at),
                b'_' | b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => {
                    while bytes.get(at).is_some_and(|b| *b == b'_' || b.is_ascii_alphanumeric() || *b >= 0x80) {
                        at += 1;
                    }
                    let keyword = matches!(&inside[word..at], "not" | "and" | "or" | "in" | "is" | "if" | "else");
                    operators += usize::from(keyword);
                }
                _ => {
                    at += 1;
                    let follows_value =
                        matches!(before, b')' | b']' | b'"' | b'\'' | b'_') || before.is_ascii_alphanumeric();
                    let in_number = byte == b'.' && before.is_ascii_digit();
                    operators += match byte {
                        b'(' | b'[' => usize::from(follows_value),
                        b'+' | b'-' | b'*' | b'/' | b'%' | b'~' | b'|' | b'<' | b'>' | b'=' | b'!' => 1,
                        b'.' => usize::from(!in_number),
                        _ => 0,
                    };
                    let single =
                        byte == b'=' && bytes.get(at) != Some(&b'=') && !matches!(before, b'=' | b'!' | b'<' | b'>');
                    if single && depth == 0 && assigned.is_none() {
                        assigned = Some(word);
                    }
                    depth = match byte {
                        b'{' => depth + 1,
                        b'}' => depth.saturating_sub(1),
                        _ => depth,
                    };
                }
            }
            before = if bytes[word].is_ascii_whitespace() { before } else { *bytes.get(at - 1).unwrap_or(&b' ') };
            if before >= 0x80 {
                before = b'_';
            }
        }
        Self { end: at.min(bytes.len()), operators, assigned }
    }
}

/// The offset behind the string literal that begins at `start`.
pub(super) fn after_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != bytes[start] {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_stored_passes_the_bound() {
        for (source, expected) in [
            ("{{ a }} {% if a == b %}x{% endif %}", "{{ a }} {% if a == b %}x{% endif %}"),
            ("{%- set a = b ~ '=' -%}", "{%- set a =(( b )|_concat( '=' ))|bounded-%}"),
            ("{% set ns.s = x == y %}", "{% set ns.s =( x == y )|bounded%}"),
            ("{% set a, b = b, a %}", "{% set a, b =( b, a )|bounded%}"),
            ("{% set a | upper %}t{% endset %}", "{% set a | upper %}t{% endset %}"),
            ("{# {% set a = 1 %} #}{{ '%}' }}", "{# {% set a = 1 %} #}{{ '%}' }}"),
            (
                "{% for x in y -%} some longer text {% endfor %}",
                "{% for x in y -%}{{18|_weighed-}} some longer text {% endfor %}",
            ),
            (
                "{% raw %}{% set a = 1 %}{{ a + b }}{% endraw %}{{ a+b }}",
                "{% raw %}{% set a = 1 %}{{ a + b }}{% endraw %}{{( a)|_plus(b )}}",
            ),
            ("{% set m = {'a': {'b': 1}} %}", "{% set m =( {'a': {'b': 1}} )|bounded%}"),
            ("{{ a", "{{ a"),
            ("{{ 'a", "{{ 'a"),
            ("{% set a = 'é\\'' ~ größe %}", "{% set a =(( 'é\\'' )|_concat( größe ))|bounded%}"),
        ] {
            assert_eq!(bounded(source).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn an_expression_has_only_so_many_operators() {
        let chain = |part: &str, count: usize| format!("ok\n{{{{ {}1 }}}}", part.repeat(count));
        for part in ["1+", "not ", "a.b.", "x|y|", "a[0][0]|", "-"] {
            assert_eq!(bounded(&chain(part, 60_000)).unwrap_err().line, 2, "{part}");
            assert!(bounded(&chain(part, 50)).is_ok(), "{part}");
        }
        assert!(bounded(&format!("{{{{ [{}1] }}}}", "1.5, [2], ('x'), ".repeat(10_000))).is_ok());
        let branches = format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(30_000));
        assert_eq!(bounded(&branches).unwrap_err().what, "more than 400 branches");
    }
}
