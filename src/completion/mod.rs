//! The body of an answer: its choices, usage and error, and whether it is an answer at all. Leaves stay raw JSON, so that a
//! value of an unexpected type does not hide the others.

mod assembly;
mod choice;
mod fence;
mod members;
mod places;
mod produced;
mod shares;
mod unpacking;
mod usage;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::value::RawValue;

use crate::json::{Scanner, find, trusted_elements, trusted_members};
pub use assembly::{Assembly, Chunk};
pub use choice::{Choice, Message};
pub use fence::{is_fenced, may_be_fenced, unfenced};
pub use members::NoCompletion;
pub use places::AnswerPlaces;
pub use produced::{KeptAnswer, kept_answer, paths as file_paths, with_files};
pub use shares::shares;
pub use unpacking::{UnpackedAnswer, unpacked};
pub use usage::ReportedUsage;

/// A body, looked into.
#[derive(Debug, Default)]
pub struct Completion<'a> {
    /// The model that the service says answered, as spelled.
    pub model: Option<&'a str>,
    /// When it answered, as spelled.
    pub created: Option<&'a str>,
    choices: Option<Vec<Choice<'a>>>,
    data: Option<Vec<Embedding<'a>>>,
    results: Option<&'a str>,
    usage: Option<&'a str>,
    error: Option<&'a str>,
    text: Option<&'a str>,
}

/// The reason why a body is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFlaw<'a> {
    /// The body carries this error, as spelled.
    Error(&'a str),
    /// The choices ended for this reason without any text. The answer is final, and was billed.
    Ended(&'a str),
    /// The body has no field of an answer. All of it may be an error.
    Foreign,
    /// The body has another shape than an answer. The text ends a sentence that begins with "HTTP 200".
    Shape(&'static str),
}

/// An answer that was cut off at its token limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// The limit was reached before the answer had a text.
    pub is_empty: bool,
}

impl Truncation {
    /// Looks for a truncation in `body`. `None`: the answer is whole.
    pub fn of(body: &str) -> Option<Self> {
        static CUT_OFF: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(LENGTH));
        // Nearly every answer is whole, and to search is much faster than to parse.
        CUT_OFF.find(body.as_bytes())?;
        Completion::of(body).truncation()
    }
}

/// Returns whether every choice of an answer was ended by the model itself: not by a limit, a filter or an error.
pub fn is_whole(body: &str) -> bool {
    let cut = |choice: &Choice<'_>| choice.has_failed() || matches!(choice.ended(), Some("length" | "content_filter"));
    !Completion::of(body).choices().iter().any(cut)
}

/// The spelled reason for the end of an answer that was cut off at its token limit.
const LENGTH: &str = "\"length\"";

impl<'a> Completion<'a> {
    /// Looks into `body`. A body of another shape gives an empty view.
    pub fn of(body: &'a str) -> Self {
        Self::parse(body).unwrap_or_default()
    }

    /// Looks into `body`, which is all of the text but for white space.
    ///
    /// # Errors
    /// The text is not JSON, or a part is of another type.
    pub fn parse(body: &'a str) -> Result<Self, NoCompletion> {
        let mut scanner = Scanner::searched(body);
        scanner.blanks();
        let parsed = Self::read(&mut scanner)?;
        scanner.end()?;
        Ok(parsed)
    }

    /// The first of the choices.
    pub fn first(&self) -> Option<&Choice<'a>> {
        self.choices().first()
    }

    /// All choices, good or bad.
    pub fn choices(&self) -> &[Choice<'a>] {
        self.choices.as_deref().unwrap_or_default()
    }

    /// Returns true if it has `choices`, valid or invalid.
    pub fn has_choices(&self) -> bool {
        self.choices.is_some()
    }

    /// The embeddings, as spelled.
    pub fn embeddings(&self) -> impl Iterator<Item = Option<&'a str>> {
        self.data.iter().flatten().map(|entry| entry.vector)
    }

    /// The ranked documents of a `rerank`, as a JSON list.
    pub fn ranked(&self) -> Option<&'a str> {
        self.results.filter(|list| list.starts_with('['))
    }

    /// The text of a transcript, as spelled.
    pub const fn text(&self) -> Option<&'a str> {
        self.text
    }

    /// The reason why it is not an answer. One good choice is enough: it was paid for.
    pub fn flaw(&self) -> Option<AnswerFlaw<'a>> {
        let choices = self.choices();
        if let Some(error) =
            self.error().filter(|_| !choices.iter().any(|choice| choice.has_ended() && choice.answers()))
        {
            return Some(AnswerFlaw::Error(error));
        }
        if choices.iter().any(Choice::answers) {
            return None;
        }
        if let Some(error) = choices.iter().find_map(Choice::error) {
            return Some(AnswerFlaw::Error(error));
        }
        if let Some(reason) = choices.iter().find_map(Choice::ended) {
            return Some(AnswerFlaw::Ended(reason));
        }
        Some(AnswerFlaw::Shape(match (&self.choices, &self.data) {
            (Some(choices), _) if choices.is_empty() => "with no choices",
            (Some(_), _) => "with an empty choice",
            (None, Some(data)) if data.is_empty() => "with no embeddings",
            (None, Some(data)) if data.iter().all(Embedding::is_one) => return None,
            (None, Some(_)) => "with an entry that is no embedding",
            (None, None) => match self.ranked() {
                Some(list) => flaw_of_ranks(list)?,
                None => return Some(AnswerFlaw::Foreign),
            },
        }))
    }

    /// The truncation of its answer: of several choices, one that was cut off is enough. It is empty if every cut choice is.
    pub fn truncation(&self) -> Option<Truncation> {
        let mut cut = self.choices().iter().filter(|choice| choice.is_truncated()).peekable();
        cut.peek()?;
        Some(Truncation { is_empty: cut.all(Choice::is_blank) })
    }

    /// Returns true for an answer of the audio endpoints: a text without an error, and no completion.
    pub fn is_transcript(&self) -> bool {
        self.error().is_none()
            && self.choices.is_none()
            && self.data.is_none()
            && self.text.is_some_and(|text| text.starts_with('"'))
    }

    /// The tokens, if the service counted them. A count that cannot be true is ignored.
    pub fn usage(&self) -> Option<ReportedUsage> {
        ReportedUsage::read(self.usage?, self.data.is_some() || (self.choices.is_none() && self.ranked().is_some()))
    }

    /// Its error, unless that is a placeholder.
    fn error(&self) -> Option<&'a str> {
        self.error.filter(|error| says_something(error))
    }
}

#[derive(Debug, Default)]
struct Embedding<'a> {
    vector: Option<&'a str>,
}

impl Embedding<'_> {
    fn is_one(&self) -> bool {
        self.vector.is_some_and(|numbers| numbers.starts_with(['[', '"']))
    }
}

/// The flaw of a list that is to hold ranked documents, each with an index and a score. `None`: it has none.
fn flaw_of_ranks(list: &str) -> Option<&'static str> {
    let is_number = |value: &str| value.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let is_rank = |entry: &&str| {
        let members = if entry.starts_with('{') { trusted_members(entry) } else { Vec::new() };
        ["index", "relevance_score"].iter().all(|name| find(&members, name).is_some_and(|found| is_number(found.value)))
    };
    let entries = trusted_elements(list);
    if entries.is_empty() {
        return Some("with no ranked documents");
    }
    (!entries.iter().all(is_rank)).then_some("with an entry of `results` that is no ranked document")
}

/// Returns true if `error` is more than a placeholder. Beside an answer, servers write `null`, `""`, `{}` and empty
/// members.
pub fn says_something(error: &str) -> bool {
    let blank = |raw: &str| matches!(raw, "null" | "\"\"" | "{}" | "[]" | "false" | "0");
    if !error.starts_with('{') {
        return !blank(error);
    }
    let members: Result<BTreeMap<Cow<'_, str>, &RawValue>, _> = serde_json::from_str(error);
    members.map_or(true, |members| members.values().any(|value| !blank(value.get())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_is_told_from_an_empty_completion() {
        let cases = [
            (r#"{"text":"hello"}"#, true),
            (r#"{"text":"","segments":[],"choices":null,"error":null}"#, true),
            (r#"{"text":null}"#, false),
            (r#"{"text":"x","choices":[]}"#, false),
            (r#"{"text":"x","error":"y"}"#, false),
        ];
        for (body, transcript) in cases {
            let parsed = Completion::parse(body).unwrap();
            assert_eq!((parsed.is_transcript(), parsed.flaw().is_some()), (transcript, true), "{body}");
        }
    }

    #[test]
    fn ranked_documents_are_an_answer_with_usage_of_the_prompt_alone() {
        let of = |results: &str| format!(r#"{{"results":{results},"usage":{{"prompt_tokens":7,"total_tokens":7}}}}"#);
        let rank = r#"{"index":1,"relevance_score":-0.5,"document":{"text":"x"}}"#;
        let body = of(&format!("[{rank}, {rank}]"));
        let read = Completion::parse(&body).unwrap();
        assert_eq!((read.flaw(), read.ranked()), (None, Some(format!("[{rank}, {rank}]").as_str())));
        assert_eq!(read.usage().map(|usage| (usage.prompt, usage.completion)), Some((7, 0)));
        for (results, why) in [
            ("[]", "with no ranked documents"),
            (r#"[{"index":0}]"#, "with an entry of `results` that is no ranked document"),
            (r#"[{"index":0,"relevance_score":null}]"#, "with an entry of `results` that is no ranked document"),
        ] {
            assert_eq!(Completion::of(&of(results)).flaw(), Some(AnswerFlaw::Shape(why)), "{results}");
        }
        for results in ["null", "7", r#"{"index":0}"#] {
            assert_eq!(Completion::of(&of(results)).flaw(), Some(AnswerFlaw::Foreign), "{results}");
        }
    }

    #[test]
    fn last_of_several_members_of_one_name_counts() {
        let body = r#"{"choices":[],"choices":[{"text":"x","text":"y","finish_reason":1,"finish_reason":2}],"error":{"code":1},"error":null,"model":"a","model":"b","usage":7,"usage":null}"#;
        let parsed = Completion::of(body);
        assert_eq!((parsed.flaw(), parsed.model), (None, Some("\"b\"")));
        let first = parsed.first().unwrap();
        assert_eq!((first.text(), first.finish_reason), (Some("\"y\""), Some("2")));
    }

    #[test]
    fn complete_choice_is_an_answer_and_an_empty_one_says_why() {
        let choice = |message: &str, reason: &str| format!(r#"{{"message":{message},"finish_reason":{reason}}}"#);
        let of = |choices: &str, more: &str| format!(r#"{{"choices":[{choices}]{more}}}"#);
        let text = choice(r#"{"content":"x"}"#, r#""stop""#);
        let empty = |reason: &str| choice(r#"{"content":null,"tool_calls":[]}"#, reason);
        for body in [
            of(&text, r#","error":{}"#),
            of(&text, r#","error":false"#),
            of(&text, r#","error":{"code":0,"message":""}"#),
            // It was paid for, whatever else the service says.
            of(&text, r#","error":{"message":"late"}"#),
            of(&choice(r#"{"content":"x","tool_calls":{}}"#, "null"), ""),
            of(&format!("{},{text}", empty(r#""length""#)), ""),
            of(&choice(r#"{"content":null,"audio":{"data":"AAAA"}}"#, r#""stop""#), ""),
            of(&choice(r#"{"content":null,"reasoning_details":[{"data":"z"}]}"#, r#""length""#), ""),
            of(&choice(r#"{"content":""}"#, r#""length""#), ""),
            of(&choice(r#"{"content":"half"}"#, r#""content_filter""#), ""),
        ] {
            assert_eq!(Completion::of(&body).flaw(), None, "{body}");
        }
        for (body, flaw) in [
            (of(&empty(r#""length""#), ""), AnswerFlaw::Ended("length")),
            (of(&empty(r#""content_filter""#), ""), AnswerFlaw::Ended("content_filter")),
            (of(&choice(r#"{"content":""}"#, r#""content_filter""#), ""), AnswerFlaw::Ended("content_filter")),
            (of(&empty("null"), ""), AnswerFlaw::Shape("with an empty choice")),
            (of(&empty("null"), r#","error":{"message":"no"}"#), AnswerFlaw::Error(r#"{"message":"no"}"#)),
            (
                of(r#"{"message":{"content":""},"finish_reason":"error","error":{"code":502}}"#, ""),
                AnswerFlaw::Error(r#"{"code":502}"#),
            ),
        ] {
            assert_eq!(Completion::of(&body).flaw(), Some(flaw), "{body}");
        }
    }

    #[test]
    fn a_cut_off_answer_without_text_is_empty() {
        let choice = |message: &str| format!(r#"{{"choices":[{{"message":{message},"finish_reason":"length"}}]}}"#);
        for (body, is_empty) in [
            (choice(r#"{"content":null,"reasoning":"hm"}"#), true),
            (choice(r#"{"content":" \n"}"#), true),
            (choice(r#"{"content":[]}"#), true),
            (choice(r#"{"content":"half"}"#), false),
            (choice(r#"{"content":null,"tool_calls":[{"id":"c"}]}"#), false),
            (r#"{"choices":[{"text":"","finish_reason":"length"}]}"#.to_owned(), true),
            (
                r#"{"choices":[{"text":"","finish_reason":"length"},{"text":"x","finish_reason":"length"}]}"#
                    .to_owned(),
                false,
            ),
        ] {
            assert_eq!(Truncation::of(&body), Some(Truncation { is_empty }), "{body}");
        }
        for whole in [
            r#"{"choices":[{"text":"\"length\"","finish_reason":"stop"}]}"#,
            r#"{"choices":[],"length":"length"}"#,
            "\"length\"",
        ] {
            assert_eq!(Truncation::of(whole), None, "{whole}");
        }
    }

    #[test]
    fn part_of_another_type_is_named() {
        for (body, error) in [
            (r#"{"choices":"x"}"#, "`choices` is not a list"),
            (r#"{"choices":[["x"]]}"#, "a choice is not an object"),
            (r#"{"choices":[null]}"#, "a choice is not an object"),
            (r#"{"choices":[{"message":["x"]}]}"#, "the message of a choice is not an object"),
            (r#"{"data":{}}"#, "`data` is not a list"),
            (r#"{"data":[[0.1]]}"#, "an entry of `data` is not an object"),
            ("[]", "the body is not an object"),
        ] {
            assert_eq!(Completion::parse(body).unwrap_err(), NoCompletion::Shape(error), "{body}");
            assert!(!Completion::of(body).has_choices());
        }
        for body in ["{", "{}x", r#"{"choices":[{"message":nul}]}"#, r#"{"usage":NaN}"#, "{\"model\":\"\u{1}\"}"] {
            assert_eq!(Completion::parse(body).unwrap_err(), NoCompletion::NotJson, "{body}");
        }
    }
}
