//! Keys of requests: equal for requests that ask the same of the same service, however their bodies are written.

use super::Draft;
use crate::json;

/// A blake3 hash of service, endpoint, model and canonical body, cut to 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestKey(pub [u8; 16]);

/// Makes the keys of the requests to one service.
#[derive(Debug)]
pub struct KeyMaker {
    /// The hash so far: of the service.
    base: blake3::Hasher,
}

impl KeyMaker {
    /// For the service with this one spelling.
    pub fn new(service: &str) -> Self {
        let mut base = blake3::Hasher::new_derive_key("llbatch 2026-12 key of a request");
        base.update(service.as_bytes()).update(&[0]);
        Self { base }
    }

    /// The key of a request.
    pub fn of(&self, draft: &Draft<'_>) -> RequestKey {
        let mut hasher = self.base.clone();
        hasher.update(draft.endpoint.path().as_bytes()).update(&[0]).update(draft.model.as_bytes()).update(&[0]);
        hasher.update(&json::digest(&draft.body));
        let mut cut = [0; 16];
        cut.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        RequestKey(cut)
    }
}
