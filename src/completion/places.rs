//! The places of an answer's parts in its body, for results that show them after the body was read once.

use std::ops::Range;

use super::Completion;

/// The places of the parts of an answer's only choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPlaces {
    shown: Option<Range<usize>>,
    finish_reason: Option<Range<usize>>,
}

impl AnswerPlaces {
    /// The places in `body` of what was read from it. `None`: there is not exactly one choice.
    pub fn of(read: &Completion<'_>, body: &str) -> Option<Self> {
        let [choice] = read.choices() else { return None };
        let place = |part: &str| {
            let start = part.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
            Some(start..start + part.len())
        };
        Some(Self { shown: choice.shown().and_then(place), finish_reason: choice.finish_reason.and_then(place) })
    }

    /// The part of the choice that results show ([`Choice::shown`](super::Choice::shown)).
    pub fn shown<'a>(&self, body: &'a str) -> Option<&'a str> {
        body.get(self.shown.clone()?)
    }

    /// The reason for its end, as spelled.
    pub fn finish_reason<'a>(&self, body: &'a str) -> Option<&'a str> {
        body.get(self.finish_reason.clone()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_hold_what_was_read() {
        for body in [
            r#"{"choices":[{"message":{"role":"assistant","content":"hi","tool_calls":[]},"finish_reason":"stop"}]}"#,
            r#"{"choices": [ {"finish_reason" : 7, "message": {"content":"","tool_calls":[{"id":"c"}]}} ] }"#,
            r#"{"choices":[{"text":"once","finish_reason":null}],"x":1}"#,
            r#"{"choices":[{"message":null}]}"#,
        ] {
            let read = Completion::of(body);
            let (places, choice) = (AnswerPlaces::of(&read, body).unwrap(), read.first().unwrap());
            assert_eq!(places.shown(body), choice.shown(), "{body}");
            assert_eq!(places.finish_reason(body), choice.finish_reason, "{body}");
        }
        for body in [r#"{"choices":[{"text":"a"},{"text":"b"}]}"#, r#"{"data":[{"embedding":[1]}]}"#, "{}"] {
            assert_eq!(AnswerPlaces::of(&Completion::of(body), body), None, "{body}");
        }
    }
}
