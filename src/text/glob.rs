//! Patterns of keys and file names: `*` within a part, `**` over parts, `?` and `[a-z]` for one character.

/// Returns true if `key` holds the signs of a pattern.
pub fn is_glob(key: &str) -> bool {
    key.contains(['*', '?', '['])
}

/// The part of a pattern before its first sign.
pub fn fixed_prefix(pattern: &str) -> &str {
    &pattern[..pattern.find(['*', '?', '[']).unwrap_or(pattern.len())]
}

/// Tests a key against a pattern.
pub fn matches(pattern: &str, key: &str) -> bool {
    Matcher { hides: false }.matches(pattern, key, true)
}

/// The same where no sign stands for a hidden part: such a part must be spelled.
pub fn matches_shown(pattern: &str, key: &str) -> bool {
    Matcher { hides: true }.matches(pattern, key, true)
}

/// Tests whether all of `parts` is below a prefix that ends with a slash, and no part of it is hidden.
pub fn is_shown(parts: &str) -> bool {
    !parts.split('/').any(is_hidden)
}

/// Returns true for a name under which Spark, Delta and Hive keep notes and unfinished files beside the data. A partition such as
/// `_day=1` is data.
fn is_hidden(part: &str) -> bool {
    part.starts_with('.') || part.starts_with('_') && !part.contains('=')
}

struct Matcher {
    /// Signs stand for no hidden part.
    hides: bool,
}

impl Matcher {
    /// `start`: a part of the key begins here.
    fn matches(&self, pattern: &str, key: &str, start: bool) -> bool {
        let mut rest = pattern.chars();
        let Some(sign) = rest.next() else { return key.is_empty() };
        let tail = rest.as_str();
        let hidden = |key: &str| self.hides && is_hidden(key.split('/').next().unwrap_or_default());
        let one = |tail: &str| {
            let next = key.chars().next();
            next.is_some_and(|c| c != '/' && !(start && hidden(key)) && self.matches(tail, &key[c.len_utf8()..], false))
        };
        match sign {
            '*' => {
                let (over, tail) = tail.strip_prefix('*').map_or((false, tail), |tail| (true, tail));
                // `**/` also stands for no part at all.
                if over && tail.strip_prefix('/').is_some_and(|tail| self.matches(tail, key, start)) {
                    return true;
                }
                let mut start = start;
                for (at, next) in key.char_indices().map(|(at, c)| (at, Some(c))).chain([(key.len(), None)]) {
                    if self.matches(tail, &key[at..], start) {
                        return true;
                    }
                    if !over && next == Some('/') || start && hidden(&key[at..]) {
                        return false;
                    }
                    start = next == Some('/');
                }
                false
            }
            '?' => one(tail),
            '[' => match (tail.split_once(']'), key.chars().next()) {
                (Some((set, tail)), Some(c)) => in_set(set, c) && one(tail),
                _ => false,
            },
            sign => key.strip_prefix(sign).is_some_and(|key| self.matches(tail, key, sign == '/')),
        }
    }
}

fn in_set(set: &str, c: char) -> bool {
    let (negated, set) = set.strip_prefix(['!', '^']).map_or((false, set), |set| (true, set));
    let chars: Vec<char> = set.chars().collect();
    let mut at = 0;
    let mut found = false;
    while at < chars.len() {
        if at + 2 < chars.len() && chars[at + 1] == '-' {
            found |= (chars[at]..=chars[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= chars[at] == c;
            at += 1;
        }
    }
    found != negated && c != '/'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_does() {
        for (pattern, key, expected) in [
            ("a/*.jsonl", "a/x.jsonl", true),
            ("a/*.jsonl", "a/b/x.jsonl", false),
            ("a/**/*.jsonl", "a/b/c/x.jsonl", true),
            ("a/**/*.jsonl", "a/x.jsonl", true),
            ("a/part-?.csv", "a/part-1.csv", true),
            ("a/part-?.csv", "a/part-10.csv", false),
            ("a/[0-3]?", "a/2x", true),
            ("a/[!0-3]?", "a/2x", false),
            ("*", "", true),
            ("é*", "etat", false),
            ("é*", "éa", true),
        ] {
            assert_eq!(matches(pattern, key), expected, "{pattern} {key}");
            assert_eq!(matches_shown(pattern, key), expected, "{pattern} {key}");
        }
        for (pattern, key, expected) in [
            ("a/*.jsonl", "a/_x.jsonl", false),
            ("a/*.jsonl", "a/x_y.jsonl", true),
            ("a/_*.jsonl", "a/_x.jsonl", true),
            ("a/?x", "a/_x", false),
            ("a/[_b]x", "a/_x", false),
            ("a/**", "a/b/.hidden/x", false),
            ("a/**/x", "a/_temporary/0/x", false),
            ("a/_temporary/**", "a/_temporary/0/x", true),
            ("a/**/x", "a/_day=1/x", true),
            ("a/b*", "a/b_c/d", false),
            ("**", "a/b", true),
            ("a/x**", "a/xy/z", true),
            ("a/x**", "a/xy/_z", false),
        ] {
            assert_eq!(matches_shown(pattern, key), expected, "{pattern} {key}");
        }
        assert!(matches("a/*", "a/_x") && matches("**", "a/.b/_c"));
        assert!(is_shown("a/b_c/_d=1/x") && !is_shown("a/_b/x") && !is_shown(".x"));
        assert_eq!(fixed_prefix("a/b*/c"), "a/b");
    }
}
