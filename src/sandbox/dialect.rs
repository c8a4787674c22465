//! The form of the API that the server speaks.

use serde::{Deserialize, Serialize};

/// The form of the API that the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServedDialect {
    /// Together's.
    #[default]
    Together,
    /// `OpenAI`'s.
    Openai,
}

impl std::str::FromStr for ServedDialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "together" => Ok(Self::Together),
            "openai" => Ok(Self::Openai),
            _ => Err(format!("dialect {text:?}: use together or openai")),
        }
    }
}
