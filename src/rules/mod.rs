//! The rules that an answer must pass before its row counts as answered. Nothing is repaired: an answer passes as it came, or
//! its row fails with the reason.

mod schema;

use std::borrow::Cow;

pub use schema::Schema;

use crate::completion::{Choice, Completion, unfenced};
use crate::error::{Error, Result};
use crate::outcome::{ErrorCode, RowError};

/// The rules of a job as the user gave them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSpec {
    /// The JSON schema of `--json-schema`.
    pub schema: Option<String>,
    /// The texts of `--choices`. Empty: any text.
    pub choices: Vec<String>,
    /// An answer that was cut off at its token limit fails (`--complete`).
    pub complete: bool,
}

impl RuleSpec {
    fn fingerprint(&self) -> i64 {
        let text = serde_json::json!([self.schema, self.choices, self.complete]).to_string();
        let hash = blake3::hash(text.as_bytes());
        hash.as_bytes().first_chunk().map_or(1, |first| i64::from_le_bytes(*first))
    }
}

/// The rules of a job, ready to judge answers.
#[derive(Debug, Default)]
pub struct AnswerRules {
    fingerprint: i64,
    complete: bool,
    content: Option<ContentRule>,
}

/// The rule that each text of an answer must pass.
#[derive(Debug)]
enum ContentRule {
    Schema(Schema),
    Choices(Vec<String>),
}

impl AnswerRules {
    /// Prepares the rules of `spec`.
    ///
    /// # Errors
    /// A usage error for an invalid schema, and for a schema beside choices.
    pub fn new(spec: &RuleSpec) -> Result<Self> {
        let content = match (&spec.schema, spec.choices.is_empty()) {
            (Some(_), false) => {
                return Err(Error::usage("--json-schema and --choices exclude each other")
                    .hint("a schema can hold the choices: {\"enum\": [\"a\", \"b\"]}"));
            }
            (Some(schema), true) => Some(ContentRule::Schema(Schema::new(schema)?)),
            (None, false) => Some(ContentRule::Choices(spec.choices.clone())),
            (None, true) => None,
        };
        let rules = Self { fingerprint: 0, complete: spec.complete, content };
        let fingerprint = if rules.is_empty() { 0 } else { spec.fingerprint() };
        Ok(Self { fingerprint, ..rules })
    }

    /// A number that differs where the rules do. 0: every answer passes.
    pub const fn fingerprint(&self) -> i64 {
        self.fingerprint
    }

    /// Returns true if every answer passes.
    pub const fn is_empty(&self) -> bool {
        !self.complete && self.content.is_none()
    }

    /// Looks for the first rule that the answer in `body` breaks. Every choice of an answer must pass, except one that the
    /// service itself reports as failed.
    pub fn violation(&self, body: &str) -> Option<RowError> {
        if self.is_empty() {
            return None;
        }
        let answer = Completion::of(body);
        if self.complete && answer.truncation().is_some() {
            let rule = Some("--complete".into());
            let message = "the answer was cut off at its token limit, and --complete asks for whole answers";
            return Some(RowError { rule, ..RowError::new(ErrorCode::Truncated, message) });
        }
        let rule = self.content.as_ref()?;
        let choices = answer.choices();
        choices.iter().enumerate().filter(|(_, choice)| !choice.has_failed()).find_map(|(at, choice)| {
            let named = |why: String| match choices.len() {
                0..=1 => why,
                number => format!("choice {} of {number}: {why}", at + 1),
            };
            if choice.is_filtered_out() {
                let message = named("a filter of the service ended it without a text".to_owned());
                return Some(RowError::new(ErrorCode::Filtered, message));
            }
            let BrokenRule { name, why } = rule.broken_by(choice)?;
            let message = named(why);
            Some(RowError { rule: Some(name.into()), ..RowError::new(ErrorCode::InvalidAnswer, message) })
        })
    }
}

/// A rule that an answer breaks.
#[derive(Debug, PartialEq, Eq)]
pub struct BrokenRule {
    /// The flag, and the place in the schema.
    pub name: String,
    /// The reason, for people.
    pub why: String,
}

impl ContentRule {
    /// The rule that the choice breaks. `None`: it passes.
    fn broken_by(&self, choice: &Choice<'_>) -> Option<BrokenRule> {
        let flag = match self {
            Self::Schema(_) => "--json-schema",
            Self::Choices(_) => "--choices",
        };
        let Some(text) = choice.content_text() else {
            let why = if choice.calls_tools() { "the answer calls a tool" } else { "the answer has no text" };
            return Some(BrokenRule { name: format!("{flag}: text"), why: why.to_owned() });
        };
        match self {
            Self::Schema(schema) => schema.broken_by(unfenced(&text).unwrap_or(&text)),
            Self::Choices(choices) if choices.iter().any(|choice| choice == text.trim()) => None,
            Self::Choices(choices) => {
                let why = format!("the answer is none of --choices {}", listed(choices));
                Some(BrokenRule { name: flag.to_owned(), why })
            }
        }
    }
}

/// The choices between commas; the first of many.
fn listed(choices: &[String]) -> Cow<'_, str> {
    const SHOWN: usize = 8;
    match choices {
        [one] => Cow::Borrowed(one),
        _ if choices.len() <= SHOWN => Cow::Owned(choices.join(", ")),
        _ => Cow::Owned(format!("{}, … ({} in all)", choices[..SHOWN].join(", "), choices.len())),
    }
}

#[cfg(test)]
mod tests;
