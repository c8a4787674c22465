//! What became of a row: its answer or its error, what it cost in tries, time and tokens.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// blake3 of endpoint, model and body, cut to 16 bytes: two requests with the same one are the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 16]);

/// Why a row has no answer (contract, "Results").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The service or the input check refused the request itself.
    InvalidRequest,
    /// The key was refused.
    Auth,
    /// Credits are needed (402).
    Payment,
    /// No such model or path.
    NotFound,
    /// Prompt and `max_tokens` exceed the model's context.
    ContextLength,
    /// Told to slow down until nothing was left to wait for.
    RateLimited,
    /// The service lacked capacity.
    Overloaded,
    /// A 5xx that was not one of the above.
    ServerError,
    /// No answer in time.
    Timeout,
    /// The connection failed.
    Network,
    /// A 200 that is no answer: HTML, truncated, no choices, wrong shape.
    BadResponse,
    /// The batch ended before this row was reached.
    Expired,
    /// Cancelled by the user.
    Cancelled,
    /// The service's results do not mention the row.
    Missing,
    /// Not sent: the user's budget or deadline was reached.
    Budget,
    /// Not sent, or not answered: the run was stopped.
    Interrupted,
}

impl ErrorCode {
    /// Every code, in the contract's order.
    pub const ALL: [Self; 16] = [
        Self::InvalidRequest,
        Self::Auth,
        Self::Payment,
        Self::NotFound,
        Self::ContextLength,
        Self::RateLimited,
        Self::Overloaded,
        Self::ServerError,
        Self::Timeout,
        Self::Network,
        Self::BadResponse,
        Self::Expired,
        Self::Cancelled,
        Self::Missing,
        Self::Budget,
        Self::Interrupted,
    ];

    /// Whether sending the row again cannot help.
    pub const fn is_permanent(self) -> bool {
        matches!(self, Self::InvalidRequest | Self::NotFound | Self::ContextLength)
    }

    /// The code as it stands in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Auth => "auth",
            Self::Payment => "payment",
            Self::NotFound => "not_found",
            Self::ContextLength => "context_length",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::BadResponse => "bad_response",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Missing => "missing",
            Self::Budget => "budget",
            Self::Interrupted => "interrupted",
        }
    }

    /// The code that `text` names.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why one row failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// What kind of failure.
    pub code: ErrorCode,
    /// The service's words, or ours; never the key, never the prompt.
    pub message: String,
}

/// Tokens as the server counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    pub prompt: u64,
    /// Tokens of the answer.
    pub completion: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt += other.prompt;
        self.completion += other.completion;
    }
}

/// What became of one row. It succeeded if `error` is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// 1-based over all inputs.
    pub row: u64,
    /// The user's own id, or `row-N`.
    pub id: Box<str>,
    /// Of the request that was sent.
    pub fingerprint: Fingerprint,
    /// The model asked for.
    pub model: Arc<str>,
    /// Why there is no answer, or `None`.
    pub error: Option<RowError>,
    /// HTTP status of the last response, if there was one.
    pub status: Option<u16>,
    /// The last response's body: JSON on a single line, otherwise as the server sent it. `None`: there was none, or it was no JSON.
    pub body: Option<Box<str>>,
    /// Usage of the answer as the server reported it.
    pub usage: Option<Usage>,
    /// Usage of responses that were paid for and thrown away.
    pub wasted: Usage,
    /// Attempts whose fate is unknown: sent, never answered; the service may have billed them.
    pub at_risk: u32,
    /// What one attempt could cost at most, as far as known: estimated prompt tokens, and `max_tokens` (0: not given).
    pub reserve: Usage,
    /// Requests sent for this row.
    pub attempts: u32,
    /// Of those, refused by 429.
    pub refused: u32,
    /// From the last attempt's first byte out to its last byte in, in milliseconds. 0 for an answer of a batch.
    pub latency_ms: u32,
    /// The batch that it came from, as the job counts them; `None`: realtime.
    pub batch: Option<u32>,
}

impl Outcome {
    /// A failure of a row for which nothing was sent.
    pub fn unsent(row: u64, id: Box<str>, model: Arc<str>, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            row,
            id,
            fingerprint: Fingerprint::default(),
            model,
            error: Some(RowError { code, message: message.into() }),
            status: None,
            body: None,
            usage: None,
            wasted: Usage::default(),
            at_risk: 0,
            reserve: Usage::default(),
            attempts: 0,
            refused: 0,
            latency_ms: 0,
            batch: None,
        }
    }

    /// Whether the row was answered.
    pub const fn ok(&self) -> bool {
        self.error.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelled_the_same_everywhere() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
        }
        assert_eq!(ErrorCode::parse("nonsense"), None);
    }
}
