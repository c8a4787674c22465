//! A tokenizer of the user's own: the `tokenizer.json` that comes with a model's weights.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::pieces::REGEX;
use super::vocabulary::{MOST, Vocabulary};

/// The members of the file that are used.
#[derive(Deserialize)]
struct TokenizerFile<'a> {
    model: TokenizerModel,
    #[serde(borrow)]
    pre_tokenizer: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TokenizerModel {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: HashMap<String, u32>,
}

/// The vocabulary of a `tokenizer.json` that cuts text as Llama 3 does.
///
/// # Errors
/// The reason why it can't be used, which follows the file's name.
pub(super) fn vocabulary(text: &str) -> Result<Vocabulary, String> {
    let TokenizerFile { model, pre_tokenizer } = serde_json::from_str(text)
        .map_err(|problem| format!("is not a tokenizer.json with a vocabulary: {problem}"))?;
    if model.kind.is_some_and(|kind| kind != "BPE") {
        return Err("is not a byte-pair encoding".to_owned());
    }
    let regex = serde_json::to_string(REGEX).unwrap_or_default();
    if !pre_tokenizer.is_some_and(|cut| cut.get().contains(&regex)) {
        return Err("splits text differently from Llama 3, the only supported family".to_owned());
    }
    let bytes: HashMap<char, u8> = (0..=u8::MAX).map(|byte| (letter(byte), byte)).collect();
    let unwritten = |(token, rank): (String, u32)| {
        token.chars().map(|c| bytes.get(&c).copied()).collect::<Option<Vec<u8>>>().map(|token| (rank, token))
    };
    let mut tokens: Vec<(u32, Vec<u8>)> = model.vocab.into_iter().filter_map(unwritten).collect();
    tokens.sort_unstable();
    if tokens.len() > MOST {
        return Err(format!("has {} tokens, more than the {MOST} that llbatch supports", tokens.len()));
    }
    if (0..=u8::MAX).any(|byte| !tokens.iter().any(|(_, token)| *token == [byte])) {
        return Err("lacks tokens for some bytes".to_owned());
    }
    Ok(Vocabulary::new(tokens.iter().map(|(_, token)| &**token)))
}

/// The letter that such a file writes for a byte: the byte itself if it is visible, else a letter from U+0100 on.
fn letter(byte: u8) -> char {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..);
    if seen(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !seen(*byte)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Estimator;
    use super::*;

    fn file(more: &[&str], kind: &str, regex: &str) -> String {
        let mut vocab: Vec<String> = (0..=u8::MAX).map(|byte| letter(byte).to_string()).collect();
        vocab.extend(more.iter().map(|&token| token.to_owned()));
        let vocab: HashMap<String, usize> = vocab.into_iter().zip(0..).collect();
        let cut =
            serde_json::json!({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": regex}}]});
        serde_json::json!({"pre_tokenizer": cut, "model": {"type": kind, "vocab": vocab, "merges": []}}).to_string()
    }

    #[test]
    fn its_tokens_are_used_as_they_are() {
        let own = Estimator::from_file(&file(&["he", "ll", "hell", "Ġw", "Îµ"], "BPE", REGEX)).unwrap();
        // hell, o; Ġw, o, r, l, d.
        assert_eq!(own.text("hello world"), 7);
        // No weights: Greek letters of two bytes, but one that is a token.
        assert_eq!(own.text("αε"), 3);
    }

    #[test]
    fn bytes_are_written_as_letters() {
        assert_eq!([b' ', b'\n', b'a', 0x7f, 0xad, 0xff].map(letter), ['Ġ', 'Ċ', 'a', 'ġ', 'Ń', 'ÿ']);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let refused = |text: &str| Estimator::from_file(text).map(|_| ()).unwrap_err();
        assert!(refused("{}").starts_with("is not a tokenizer.json"));
        assert!(refused(&file(&[], "WordPiece", REGEX)).contains("byte-pair"));
        assert!(refused(&file(&[], "BPE", r"\s+")).contains("differently"));
        assert!(refused(&file(&[], "BPE", REGEX).replace("\"Ġ\"", "\"Ġxx\"")).contains("lacks"));
    }
}
