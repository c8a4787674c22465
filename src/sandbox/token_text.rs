//! Tokens: about four bytes of text make one.

/// The number of tokens of a text.
pub fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

/// The tokens of a text, as many as [`tokens`] counts. None is empty, and none ends within a character.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut start = 0;
    (1..=text.len().div_ceil(4)).map(move |nth| {
        let end = text.floor_char_boundary(nth * 4);
        // The two bounds are at least one byte apart: no character has more than four.
        let token = text.get(start..end).unwrap_or_default();
        start = end;
        token
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_as_they_are_split() {
        for text in ["", "a", "abcd", "abcde", "é", "ééééé", "漢字かな交じり文", "🦀🦀🦀", "a🦀b🦀c", "x\u{301}yz🦀"]
        {
            let parts: Vec<_> = split(text).collect();
            assert_eq!((parts.concat().as_str(), parts.len() as u64), (text, tokens(text)), "{text}");
            assert!(parts.iter().all(|part| !part.is_empty()), "{parts:?}");
        }
    }
}
