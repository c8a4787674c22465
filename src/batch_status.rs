//! The state of a batch, in one spelling for all services.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a batch. Together names states in capitals, `OpenAI` in small letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum BatchStatus {
    /// The service checks the input.
    Validating,
    /// The service answers rows.
    InProgress,
    /// The service writes the results.
    Finalizing,
    /// Finished; rows may have failed.
    Completed,
    /// Refused as a whole.
    Failed,
    /// Out of time. The answers so far are available.
    Expired,
    /// Cancelled by a user. The answers so far are available, and billed.
    Cancelled,
    /// On the way to [`BatchStatus::Cancelled`].
    Canceling,
    /// The service answers that it does not know the batch.
    NotFound,
    /// llbatch gave the batch up without its results.
    Abandoned,
    /// The service never created the batch.
    Refused,
    /// An unknown status, in capitals. It counts as not final.
    Other(String),
}

impl BatchStatus {
    /// Reads a status in any case.
    pub fn read(text: &str) -> Self {
        let text = text.trim().to_ascii_uppercase();
        match text.as_str() {
            "VALIDATING" => Self::Validating,
            "IN_PROGRESS" => Self::InProgress,
            "FINALIZING" => Self::Finalizing,
            "COMPLETED" => Self::Completed,
            "FAILED" => Self::Failed,
            "EXPIRED" => Self::Expired,
            "CANCELLED" | "CANCELED" => Self::Cancelled,
            "CANCELING" | "CANCELLING" => Self::Canceling,
            "NOT FOUND" => Self::NotFound,
            "ABANDONED" => Self::Abandoned,
            "REFUSED" => Self::Refused,
            _ => Self::Other(text),
        }
    }

    /// Returns true for a final status of the service: it will not change it any more.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Expired | Self::Cancelled)
    }

    /// The name of the status, in one spelling.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Validating => "VALIDATING",
            Self::InProgress => "IN_PROGRESS",
            Self::Finalizing => "FINALIZING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
            Self::Canceling => "CANCELING",
            Self::NotFound => "NOT FOUND",
            Self::Abandoned => "ABANDONED",
            Self::Refused => "REFUSED",
            Self::Other(text) => text,
        }
    }
}

impl From<String> for BatchStatus {
    fn from(text: String) -> Self {
        Self::read(&text)
    }
}

impl From<BatchStatus> for String {
    fn from(status: BatchStatus) -> Self {
        status.as_str().to_owned()
    }
}

impl fmt::Display for BatchStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_four_known_final_states_are_final() {
        let cases = [
            ("validating", BatchStatus::Validating, false),
            ("IN_PROGRESS", BatchStatus::InProgress, false),
            ("finalizing", BatchStatus::Finalizing, false),
            ("Completed", BatchStatus::Completed, true),
            ("FAILED", BatchStatus::Failed, true),
            ("EXPIRED", BatchStatus::Expired, true),
            ("CANCELLED", BatchStatus::Cancelled, true),
            ("CANCELED", BatchStatus::Cancelled, true),
            ("CANCELING", BatchStatus::Canceling, false),
            ("cancelling", BatchStatus::Canceling, false),
            ("NOT FOUND", BatchStatus::NotFound, false),
            ("ABANDONED", BatchStatus::Abandoned, false),
            ("REFUSED", BatchStatus::Refused, false),
            ("Paused", BatchStatus::Other("PAUSED".into()), false),
            ("", BatchStatus::Other(String::new()), false),
        ];
        for (text, status, over) in cases {
            let read = BatchStatus::read(text);
            assert_eq!((read.is_final(), &read), (over, &status), "{text}");
            assert_eq!(BatchStatus::read(read.as_str()), status);
        }
    }
}
