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
    let mut rest = pattern.chars();
    let Some(sign) = rest.next() else { return key.is_empty() };
    let tail = rest.as_str();
    match sign {
        '*' => {
            let (over, tail) = tail.strip_prefix('*').map_or((false, tail), |tail| (true, tail));
            // `**/` also stands for no part at all.
            if over && tail.strip_prefix('/').is_some_and(|tail| matches(tail, key)) {
                return true;
            }
            let ends = key.char_indices().map(|(at, c)| (at, Some(c))).chain([(key.len(), None)]);
            for (at, next) in ends {
                if matches(tail, &key[at..]) {
                    return true;
                }
                if !over && next == Some('/') {
                    return false;
                }
            }
            false
        }
        '?' => key.chars().next().is_some_and(|c| c != '/' && matches(tail, &key[c.len_utf8()..])),
        '[' => match (tail.split_once(']'), key.chars().next()) {
            (Some((set, tail)), Some(c)) => in_set(set, c) && matches(tail, &key[c.len_utf8()..]),
            _ => false,
        },
        sign => key.strip_prefix(sign).is_some_and(|key| matches(tail, key)),
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
        }
        assert_eq!(fixed_prefix("a/b*/c"), "a/b");
    }
}
