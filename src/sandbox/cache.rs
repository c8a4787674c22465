//! Prompt tokens that the service has in its cache, and that it bills at a lower price.

use serde::{Deserialize, Serialize};

/// The form in which answers report cached tokens. The service is known to use both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachedTokens {
    /// Nothing is cached.
    #[default]
    None,
    /// `usage.cached_tokens`.
    Flat,
    /// `usage.prompt_tokens_details.cached_tokens`.
    Nested,
}

impl CachedTokens {
    /// The cached part of a prompt: none of it, a quarter, half, three quarters or all of it, by the hash of the prompt.
    pub(super) const fn part(self, prompt_tokens: u64, hash: u64) -> u64 {
        match self {
            Self::None => 0,
            Self::Flat | Self::Nested => prompt_tokens * (hash % 5) / 4,
        }
    }
}

impl std::str::FromStr for CachedTokens {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "flat" => Ok(Self::Flat),
            "nested" => Ok(Self::Nested),
            _ => Err(format!("cached tokens {text:?}: use none, flat or nested")),
        }
    }
}
