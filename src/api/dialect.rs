//! The form of files and batches that a service takes.

use serde::Deserialize;

/// The form of files and batches that a service takes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Together's.
    #[default]
    Together,
    /// `OpenAI`'s.
    Openai,
}
