//! The course of batch jobs.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The course of batch jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchConfig {
    /// Time in `VALIDATING`.
    pub validation: Duration,
    /// Time in `IN_PROGRESS`.
    pub run: Duration,
    /// Time in `CANCELING`.
    pub cancel: Duration,
    /// The fraction of rows with which jobs end as `EXPIRED`; by default they complete.
    pub expires_at: Option<f64>,
    /// The error with which jobs end as `FAILED` after validation.
    pub fails: Option<String>,
    /// The batches that may be unfinished at once. One more ends as `FAILED` after validation.
    pub queue: Option<usize>,
    /// The error file lists the rows that `EXPIRED` or `CANCELLED` left undone.
    pub list_undone: bool,
    /// The time for which a new job is missing from the list.
    pub list_lag: Duration,
    /// The form of fields without a value. By default Together's are left out, and `OpenAI`'s are `null`.
    pub unset: Option<Unset>,
    /// Most batches in a page of the list, in `OpenAI`'s form.
    pub list_page: usize,
    /// A `body` of the results is a JSON string in place of an object, in `OpenAI`'s form. Some servers do so.
    pub body_text: bool,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            validation: Duration::from_millis(500),
            run: Duration::from_secs(3),
            cancel: Duration::from_millis(500),
            expires_at: None,
            fails: None,
            queue: None,
            list_undone: false,
            list_lag: Duration::ZERO,
            unset: None,
            list_page: 100,
            body_text: false,
        }
    }
}

/// The form of fields without a value; the service is not known to keep to one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unset {
    /// No field.
    #[default]
    Omit,
    /// `null`.
    Null,
    /// `""`.
    Empty,
}

impl Unset {
    /// The value of a field without a value, unless it is left out.
    pub(super) fn value(self) -> Option<Value> {
        match self {
            Self::Omit => None,
            Self::Null => Some(Value::Null),
            Self::Empty => Some(json!("")),
        }
    }
}

impl std::str::FromStr for Unset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "omit" => Ok(Self::Omit),
            "null" => Ok(Self::Null),
            "empty" => Ok(Self::Empty),
            _ => Err(format!("unset fields {text:?}: use omit, null or empty")),
        }
    }
}
