//! Equal beginnings of prompts go to one base URL, whose server has the beginning in its cache.
//!
//! Rendezvous hashing: each URL has a score for each beginning, and the highest score wins. If a URL is left out, only its
//! own beginnings move, and they come back with it.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::json;

/// Bytes of a prompt that are compared. Prompts that differ earlier share at most 256 tokens or so, which are soon read again.
const BEGINNING: usize = 1024;

/// A key of the beginning of a request's prompt: equal beginnings have equal keys. `None`: it has no prompt.
///
/// System messages are left out: rows share them, so that every server has them in its cache.
pub(super) fn key_of(body: &str) -> Option<u64> {
    let members = json::members(body).ok()?;
    if let Some(messages) = json::find(&members, "messages") {
        let all = json::trusted_elements(messages.value);
        return hash(all.iter().copied().filter(|message| !is_systems(message)));
    }
    ["prompt", "input"].iter().find_map(|name| hash(std::iter::once(json::find(&members, name)?.value)))
}

/// The score of a URL for a beginning.
pub(super) fn score(url: u64, key: u64) -> u64 {
    // The finish of splitmix64: each bit of the input changes half of the output's.
    let mut mixed = url ^ key;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A number for a base URL: the same in every run, and in any order of the URLs.
pub(super) fn number_of(url: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    url.hash(&mut hasher);
    hasher.finish()
}

fn is_systems(message: &str) -> bool {
    let members = json::trusted_members(message);
    json::find(&members, "role").is_some_and(|role| matches!(role.value, "\"system\"" | "\"developer\""))
}

/// Hashes the first [`BEGINNING`] bytes of all parts.
fn hash<'a>(parts: impl Iterator<Item = &'a str>) -> Option<u64> {
    let (mut hasher, mut left) = (DefaultHasher::new(), BEGINNING);
    for part in parts {
        let taken = part.len().min(left);
        hasher.write(&part.as_bytes()[..taken]);
        left -= taken;
        if left == 0 {
            break;
        }
    }
    (left < BEGINNING).then(|| hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(system: &str, user: &str) -> String {
        let message = |role, text| serde_json::json!({"role": role, "content": text});
        serde_json::json!({"model": "m", "messages": [message("system", system), message("user", user)]}).to_string()
    }

    #[test]
    fn equal_beginnings_have_equal_keys() {
        let document = "word ".repeat(300);
        let ask = |document: &str, question: &str| key_of(&chat("You read.", &format!("{document}{question}")));
        assert_eq!(ask(&document, "Who?"), ask(&document, "When, and why?"));
        assert_ne!(ask(&document, "Who?"), ask(&document.replacen("word", "term", 1), "Who?"));
        let long = "rule ".repeat(400);
        assert_eq!(key_of(&chat(&long, "a")), key_of(&chat("", "a")), "system messages do not count");
        assert_ne!(key_of(&chat(&long, "a")), key_of(&chat(&long, "b")));
        let prompt = |text: &str| key_of(&serde_json::json!({"prompt": text}).to_string());
        assert!(prompt("a").is_some() && prompt("a") != prompt("b"));
        assert_eq!((key_of("{}"), key_of("[]"), key_of(&chat("only", "")).is_some()), (None, None, true));
    }

    #[test]
    fn each_url_has_its_share_and_keeps_it_when_another_is_left_out() {
        let urls = ["http://node7:8000/v1", "http://node8:8000/v1", "http://node9:8000/v1"].map(number_of);
        let best = |urls: &[u64], key| *urls.iter().max_by_key(|url| score(**url, key)).unwrap();
        let mut counts = [0; 3];
        for key in (0..3000_u64).map(|n| number_of(&n.to_string())) {
            let place = urls.iter().position(|url| *url == best(&urls, key)).unwrap();
            counts[place] += 1;
            if place != 1 {
                assert_eq!(best(&[urls[0], urls[2]], key), urls[place]);
            }
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
