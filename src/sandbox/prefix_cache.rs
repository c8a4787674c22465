//! A cache of the beginnings of prompts, in blocks of tokens, as servers of models keep it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock::lock;
use super::request::InferenceRequest;

/// Tokens of a block.
const BLOCK: u64 = 16;
/// Bytes of a block: a token has about four.
const BLOCK_BYTES: usize = 64;
/// Blocks that are kept: 65,536 tokens.
const BLOCKS: usize = 4096;

/// Blocks of prompts that came lately. The one that was not needed for the longest time goes first.
#[derive(Debug)]
pub struct PrefixCache {
    /// A block is forgotten when it was not needed for so long.
    lifetime: Duration,
    blocks: usize,
    kept: Mutex<KeptPrefixes>,
}

#[derive(Debug, Default)]
struct KeptPrefixes {
    /// The last use of a block. Its key covers everything up to its end.
    uses: HashMap<u64, u64>,
    /// Blocks by their last use.
    order: BTreeMap<u64, (u64, Instant)>,
    used: u64,
}

impl PrefixCache {
    /// Keeps blocks for `lifetime` after their last use.
    pub fn new(lifetime: Duration) -> Self {
        Self { lifetime, blocks: BLOCKS, kept: Mutex::default() }
    }

    /// The tokens at the beginning of the prompt that are in the cache. From now on, all its whole blocks are. The last token is
    /// always worked on.
    pub fn pass(&self, request: &InferenceRequest<'_>, now: Instant) -> u64 {
        let mut keys = Vec::with_capacity(request.spelled.len() / BLOCK_BYTES);
        let mut covered = blake3::Hasher::new();
        covered.update(request.model.as_bytes()).update(b"\n").update(request.tools.as_bytes()).update(b"\n");
        for block in request.spelled.as_bytes().chunks_exact(BLOCK_BYTES) {
            let digest = covered.update(block).finalize();
            keys.push(digest.as_bytes().iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte)));
        }
        let hits = lock(&self.kept).pass(&keys, now, self);
        (hits as u64 * BLOCK).min(request.prompt_tokens.saturating_sub(1))
    }
}

impl KeptPrefixes {
    /// Counts the blocks at the beginning that are kept, and keeps all.
    fn pass(&mut self, keys: &[u64], now: Instant, cache: &PrefixCache) -> usize {
        while let Some((first, (key, at))) = self.order.first_key_value().map(|(first, kept)| (*first, *kept))
            && now.duration_since(at) > cache.lifetime
        {
            self.order.remove(&first);
            self.uses.remove(&key);
        }
        let hits = keys.iter().take_while(|key| self.uses.contains_key(key)).count();
        // The end of a prompt is of less use than its beginning, so it goes first.
        for key in keys.iter().rev() {
            self.used += 1;
            if let Some(before) = self.uses.insert(*key, self.used) {
                self.order.remove(&before);
            }
            self.order.insert(self.used, (*key, now));
        }
        while self.order.len() > cache.blocks
            && let Some((_, (key, _))) = self.order.pop_first()
        {
            self.uses.remove(&key);
        }
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{InferenceKind, parse};
    use super::*;

    #[test]
    fn beginnings_are_cached_until_others_need_the_room_or_the_time_is_over() {
        let start = Instant::now();
        let cache = PrefixCache { blocks: 100, ..PrefixCache::new(Duration::from_mins(1)) };
        let ask = |model: &str, document: char, question: &str, seconds| {
            let text = document.to_string().repeat(1600) + question;
            let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{text}"}}]}}"#);
            let request = parse(&body, InferenceKind::Chat).unwrap();
            cache.pass(&request, start + Duration::from_secs(seconds))
        };
        assert_eq!(ask("m", 'a', "one", 0), 0);
        // 1,627 bytes are alike: 25 blocks.
        assert_eq!(ask("m", 'a', "two", 0), 400);
        assert_eq!(ask("other", 'a', "two", 0), 0);
        assert_eq!(ask("m", 'a', "two", 60), 400);
        assert_eq!(ask("m", 'a', "two", 121), 0, "not needed for more than a minute");
        for document in 'b'..'e' {
            assert_eq!(ask("m", document, "", 122), 0);
        }
        assert_eq!(ask("m", 'a', "", 122), 400, "four fit");
        assert_eq!(ask("m", 'e', "", 122), 0);
        assert_eq!(ask("m", 'b', "", 122), 0, "the oldest had to go");
        assert_eq!(ask("m", 'a', "", 122), 400);
    }

    #[test]
    fn the_last_token_is_never_cached() {
        let body = format!(r#"{{"model":"m","prompt":"{}"}}"#, "a".repeat(126));
        let request = parse(&body, InferenceKind::Completions).unwrap();
        let cache = PrefixCache::new(Duration::from_mins(1));
        let now = Instant::now();
        let tokens = request.prompt_tokens;
        assert_eq!((cache.pass(&request, now), cache.pass(&request, now)), (0, 32.min(tokens - 1)));
    }
}
