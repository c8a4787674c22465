//! Reads one line of a batch's results: the row that it belongs to, and the answer or the error.
//!
//! Answers and errors share one shape and are read alike from either file. Nothing is copied from an answer.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::words;
use crate::api::chat::TOO_DEEP;
use crate::api::error::Failure;
use crate::api::error_body::{ErrorBody, flaw_of};
use crate::completion::{AnswerFlaw, Completion, says_something};
use crate::fault::code_of;
use crate::json::{self, MemberKey, NotJson, Scanner};
use crate::outcome::{RowError, Usage};

/// A valid line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResultLine<'a> {
    /// `custom_id`, unescaped.
    pub id: Cow<'a, str>,
    /// The error, or `None` for an answer.
    pub error: Option<RowError>,
    /// An error beside the answer was ignored.
    pub also_failed: bool,
    /// HTTP status of the response, if there was one.
    pub status: Option<u16>,
    /// The response's body as spelled. `null` is `None` too.
    pub body: Option<&'a str>,
    /// The usage that the body reports. A failed row has one only if it was billed.
    pub usage: Option<Usage>,
    /// llbatch wrote the line for a row whose request was not sent.
    pub reused: bool,
}

/// The reason why a line cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LineError {
    /// The line is not JSON from this byte on (1-based).
    NotJson(usize),
    /// The `custom_id` is missing or invalid.
    NoId,
    /// The line is longer than any answer, so llbatch does not read it.
    TooLong,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(column) => write!(f, "not JSON from column {column} on"),
            Self::NoId => f.write_str("no custom_id"),
            Self::TooLong => f.write_str("longer than any answer"),
        }
    }
}

impl From<NotJson> for LineError {
    fn from(NotJson(column): NotJson) -> Self {
        Self::NotJson(column)
    }
}

/// Reads a line without the white space around it. It parses the body once, as it skips it.
pub(crate) fn read(line: &[u8]) -> Result<ResultLine<'_>, LineError> {
    let text = std::str::from_utf8(line).map_err(|error| LineError::NotJson(error.valid_up_to() + 1))?;
    let (mut custom_id, mut error, mut response) = (None, None, Response::default());
    let mut reused = false;
    let mut scanner = Scanner::searched(text);
    scanner.members(|scanner, key| {
        match &*name(key)? {
            "custom_id" => custom_id = Some(value(scanner)?),
            "error" => error = Some(value(scanner)?),
            "reused" => reused = value(scanner)? == "true",
            "response" if scanner.peek() == Some(b'{') => response = Response::read(scanner)?,
            // If members share a name, the last one counts, even if it is empty.
            "response" => {
                value(scanner)?;
                response = Response::default();
            }
            _ => drop(value(scanner)?),
        }
        Ok::<_, LineError>(())
    })?;
    scanner.end()?;
    let id = custom_id.and_then(id).ok_or(LineError::NoId)?;
    Ok(ResultLine { reused, ..response.judge(id, error.filter(|error| says_something(error))) })
}

/// Returns a line whose `response.body` is a JSON string with the object in it, with the object in its place. `body` is the
/// body of `line`, as [`read`] found it.
pub(crate) fn with_object_body(line: &[u8], body: &str) -> Option<String> {
    let text = std::str::from_utf8(line).ok()?;
    let object = json::string(body).filter(|object| object.trim_start().starts_with('{'))?;
    let start = body.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let (before, after) = (text.get(..start)?, text.get(start + body.len()..)?);
    Some([before, &object, after].concat())
}

/// Decodes the name of a member. A name with a lone surrogate is invalid.
fn name(key: MemberKey<'_>) -> Result<Cow<'_, str>, LineError> {
    key.name().ok_or_else(|| NotJson(key.start + column::<String>(key.spelled)).into())
}

/// Skips a value and returns it as spelled.
fn value<'a>(scanner: &mut Scanner<'a>) -> Result<&'a str, LineError> {
    let start = scanner.at();
    scanner.check().map_err(|_| LineError::NotJson(start + column::<&RawValue>(scanner.rest(start))))
}

/// Returns the column (1-based) at which serde refuses a text that does not begin with a `T`.
#[cold]
fn column<'a, T: Deserialize<'a>>(text: &'a str) -> usize {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    // At the end of the text, serde reports an error for it too.
    let value = values.next().unwrap_or_else(|| serde_json::from_str(""));
    value.err().map_or(1, |error| error.column())
}

/// A `response`. Any value that is not an object counts as an object without members.
#[derive(Default)]
struct Response<'a> {
    status: Option<u16>,
    body: Option<&'a str>,
    /// The reason why the body is not an answer.
    flaw: Option<AnswerFlaw<'a>>,
    /// The body has `choices`, valid or invalid.
    completion: bool,
    usage: Option<Usage>,
}

impl<'a> Response<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Result<Self, LineError> {
        let mut response = Self { flaw: Some(AnswerFlaw::Shape("with an empty body")), ..Self::default() };
        scanner.members(|scanner, key| {
            match &*name(key)? {
                "status_code" => {
                    // Some servers write 0 if there was no response.
                    let status = value(scanner)?.trim_matches('"').parse().ok();
                    response.status = status.filter(|status| (100..600).contains(status));
                }
                "body" => response.body(scanner)?,
                _ => drop(value(scanner)?),
            }
            Ok::<_, LineError>(())
        })?;
        Ok(response)
    }

    fn body(&mut self, scanner: &mut Scanner<'a>) -> Result<(), LineError> {
        let start = scanner.at();
        *self = Self { status: self.status, ..Self::default() };
        let typed = scanner.peek() == Some(b'{');
        let mut ahead = scanner.clone();
        if typed && let Ok(body) = Completion::read(&mut ahead) {
            *scanner = ahead;
            self.body = Some(scanner.spelled(start));
            self.flaw = body.flaw().filter(|_| !body.is_transcript());
            self.completion = body.has_choices();
            self.usage = body.usage().map(Usage::from);
            if self.body.is_some_and(json::is_too_deep) {
                (self.body, self.flaw) = (None, Some(AnswerFlaw::Shape(TOO_DEEP)));
            }
            return Ok(());
        }
        let body = value(scanner)?;
        (self.body, self.flaw) = match body {
            _ if json::is_too_deep(body) => (None, Some(AnswerFlaw::Shape(TOO_DEEP))),
            "null" => (None, Some(AnswerFlaw::Shape("with an empty body"))),
            _ if typed => (Some(body), Some(AnswerFlaw::Shape("with an unexpected shape"))),
            _ => (Some(body), Some(AnswerFlaw::Shape("with something other than a JSON object"))),
        };
        Ok(())
    }

    /// Decides between answer and error, with the line's `error` if that is not a placeholder.
    fn judge(self, id: Cow<'a, str>, error: Option<&str>) -> ResultLine<'a> {
        let Self { status, body, flaw, completion, usage } = self;
        let good = body.is_some() && flaw.is_none() && matches!(status, None | Some(200..=299));
        if good {
            return ResultLine {
                id,
                error: None,
                also_failed: error.is_some(),
                status: status.or(Some(200)),
                body,
                usage,
                reused: false,
            };
        }
        let answered = matches!(status, Some(200..=299)) || (status.is_none() && completion);
        if answered && error.is_none() {
            let flaw = flaw.unwrap_or(AnswerFlaw::Shape("with an empty body"));
            let Failure { fault, message, .. } = flaw_of(&flaw, status.unwrap_or(200), body.unwrap_or_default());
            let error = Some(RowError::new(code_of(fault), message));
            return ResultLine {
                id,
                error,
                also_failed: false,
                status: status.or(Some(200)),
                body,
                usage,
                reused: false,
            };
        }
        let error = words::row_error(status.filter(|status| !(200..300).contains(status)), &said(error, body));
        let billed = usage.filter(|_| matches!(status, None | Some(200..=299)));
        ResultLine { id, error: Some(error), also_failed: false, status, body, usage: billed, reused: false }
    }
}

/// Reads the line's `error`, and takes missing members from the body.
fn said(error: Option<&str>, body: Option<&str>) -> ErrorBody {
    let raw = error.and_then(|error| serde_json::from_str::<&RawValue>(error).ok());
    let line = raw.map(ErrorBody::of_error).unwrap_or_default();
    let Some(body) = body else { return line };
    let mut inner = ErrorBody::read(body.as_bytes());
    if inner.message.is_none() && error.is_none() {
        inner.message = Some(serde_json::from_str(body).unwrap_or_else(|_| body.to_owned()));
    }
    ErrorBody {
        message: line.message.filter(|text| !text.trim().is_empty()).or(inner.message),
        kind: line.kind.or(inner.kind),
        code: line.code.or(inner.code),
    }
}

/// Reads the id of a line: a string, or a number as spelled.
fn id(value: &str) -> Option<Cow<'_, str>> {
    match value.as_bytes() {
        [b'"', ..] => json::string(value),
        [b'-' | b'0'..=b'9', ..] => Some(Cow::Borrowed(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
