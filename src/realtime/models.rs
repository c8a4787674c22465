//! Models that the service does not know, or does not answer for this key: rows that ask for them are not sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::outcome::{ErrorCode, RowError};

/// Refusals of one model that has never been answered, after which its other rows are not sent.
pub(super) const MODEL_REFUSALS: u32 = 5;

/// Rows of one model that are asked for a long wait, with no answer in between, after which its other rows wait as well.
const MODEL_HOLDS: u32 = 3;

/// The models of a run that were answered or refused.
#[derive(Debug, Default)]
pub(super) struct Models {
    known: HashMap<Arc<str>, ModelRecord>,
    last_answered: Option<Arc<str>>,
    any_refused: bool,
    any_held: bool,
}

#[derive(Debug, Default)]
struct ModelRecord {
    answered: bool,
    refusals: u32,
    /// The words of the last refusal that may concern the model, for want of a code that says so.
    doubt: Option<Box<str>>,
    /// The error of its other rows.
    refusal: Option<RowError>,
    /// Long waits that the service has asked for since the last answer, and the end of the longest.
    holds: u32,
    held_until: Option<Instant>,
}

impl Models {
    /// Records an answer.
    pub(super) fn answered(&mut self, model: &Arc<str>) {
        // Nearly always this is the model of the row before. Names are shared, so that no look-up is needed.
        if !self.any_held && self.last_answered.as_ref().is_some_and(|last| Arc::ptr_eq(last, model)) {
            return;
        }
        self.last_answered = Some(Arc::clone(model));
        let record = self.known.entry(Arc::clone(model)).or_default();
        record.answered = true;
        (record.holds, record.held_until) = (0, None);
    }

    /// Records that the service refuses the model itself.
    pub(super) fn refused(&mut self, model: &Arc<str>, code: ErrorCode, words: &str) {
        self.any_refused = true;
        let record = self.known.entry(Arc::clone(model)).or_default();
        record.refusals += 1;
        let message = format!("not sent, because the service refused this model {MODEL_REFUSALS} times: {words}");
        record.refusal = Some(RowError::new(code, message));
    }

    /// Records the refusal of a row whose words may name the model as the reason. It counts while the service says the same
    /// of every row.
    pub(super) fn maybe_refused(&mut self, model: &Arc<str>, code: ErrorCode, words: &str) {
        if !calls_unknown(model, words) {
            if let Some(record) = self.known.get_mut(model) {
                record.doubt = None;
            }
            return;
        }
        let record = self.known.entry(Arc::clone(model)).or_default();
        if record.doubt.as_deref() != Some(words) {
            (record.doubt, record.refusals) = (Some(words.into()), 0);
        }
        self.refused(model, code, words);
    }

    /// Returns true if a row of this model was answered.
    pub(super) fn is_answered(&self, model: &Arc<str>) -> bool {
        self.known.get(model).is_some_and(|record| record.answered)
    }

    /// Records that the service asks a row of this model to wait until then.
    pub(super) fn held(&mut self, model: &Arc<str>, until: Instant) {
        self.any_held = true;
        let record = self.known.entry(Arc::clone(model)).or_default();
        record.holds += 1;
        record.held_until = record.held_until.max(Some(until));
    }

    /// The end of the longest wait, if the service has asked several rows of this model to wait, with no answer in between.
    pub(super) fn held_until(&self, model: &Arc<str>) -> Option<Instant> {
        if !self.any_held {
            return None;
        }
        self.known.get(model).filter(|record| record.holds >= MODEL_HOLDS)?.held_until
    }

    /// The error of this model's rows if the service has refused it again and again: none will ever be answered.
    pub(super) fn unserved(&self, model: &Arc<str>) -> Option<&RowError> {
        if !self.any_refused {
            return None;
        }
        let record = self.known.get(model)?;
        record.refusal.as_ref().filter(|_| !record.answered && record.refusals >= MODEL_REFUSALS)
    }
}

/// Returns true if the words of a refusal name the model and call it unknown. A parameter that a model lacks is no such case.
fn calls_unknown(model: &str, words: &str) -> bool {
    const UNKNOWN: [&str; 8] = [
        "invalid model",
        "unknown model",
        "unrecognized model",
        "no such model",
        "not a valid model",
        "not found",
        "does not exist",
        "doesn't exist",
    ];
    let lower = words.to_lowercase();
    words.contains(model) && UNKNOWN.iter().any(|phrase| lower.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_held_after_three_long_waits_and_until_it_is_answered() {
        let (model, other): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let until = Instant::now() + std::time::Duration::from_hours(24);
        let mut models = Models::default();
        models.answered(&model);
        for held in [None, None, Some(until)] {
            models.held(&model, until);
            assert_eq!(models.held_until(&model), held);
        }
        assert_eq!(models.held_until(&other), None);
        models.answered(&model);
        assert_eq!(models.held_until(&model), None);
    }

    #[test]
    fn a_model_without_an_answer_is_given_up_after_five_refusals() {
        let (unknown, answered): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut models = Models::default();
        models.answered(&answered);
        for _ in 0..MODEL_REFUSALS {
            assert_eq!(models.unserved(&unknown), None);
            models.refused(&unknown, ErrorCode::NotFound, "no such model");
            models.refused(&answered, ErrorCode::NotFound, "no such model");
        }
        let message = "not sent, because the service refused this model 5 times: no such model".to_owned();
        assert_eq!(models.unserved(&unknown), Some(&RowError::new(ErrorCode::NotFound, message)));
        assert_eq!(models.unserved(&answered), None);
    }

    #[test]
    fn words_that_call_the_model_unknown_count_while_they_are_the_same() {
        let model: Arc<str> = "m/x".into();
        let refused = |words: &dyn Fn(u32) -> String, rows: u32| {
            let mut models = Models::default();
            for row in 0..rows {
                models.maybe_refused(&model, ErrorCode::InvalidRequest, &words(row));
            }
            models.unserved(&model).is_some()
        };
        let litellm =
            |_| "HTTP 400: /chat/completions: Invalid model name passed in model=m/x. Call `/v1/models`".to_owned();
        assert!(refused(&litellm, 5) && !refused(&litellm, 4));
        assert!(refused(&|_| "HTTP 422: The model `m/x` does not exist".to_owned(), 5));
        for words in [
            &(|row| format!("HTTP 400: tool {row} not found for m/x")) as &dyn Fn(u32) -> String,
            &|_| "HTTP 400: temperature is not supported with m/x".to_owned(),
            &|_| "HTTP 400: Invalid model name passed in model=other".to_owned(),
            &|row| if row % 4 == 3 { "HTTP 400: too long".to_owned() } else { litellm(row) },
        ] {
            assert!(!refused(words, 20), "{}", words(0));
        }
        let mut models = Models::default();
        models.answered(&model);
        for row in 0..9 {
            models.maybe_refused(&model, ErrorCode::InvalidRequest, &litellm(row));
        }
        assert_eq!(models.unserved(&model), None, "it was answered");
    }
}
