//! What one line of a batch's results says: whose it is, and the answer or why there is none.
//!
//! Answers and errors share one shape and are read alike in whichever file they stand. Nothing is copied from an answer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use super::walk::Walk;
use super::words;
use crate::api::chat::Body;
use crate::api::error::ErrorBody;
use crate::outcome::{ErrorCode, RowError, Usage};

/// A line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading<'a> {
    /// `custom_id`, unescaped.
    pub id: Cow<'a, str>,
    /// Why there is no answer, or `None`.
    pub error: Option<RowError>,
    /// An answer, and beside it an error, which is set aside.
    pub also_failed: bool,
    /// HTTP status of the response, if there was one.
    pub status: Option<u16>,
    /// The response's body as spelled; `None` for `null` too.
    pub body: Option<&'a str>,
    /// As the body reports it; of a failed row only if it was billed.
    pub usage: Option<Usage>,
}

/// A line of which nobody can say what it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Garbled {
    /// No JSON, from this byte on (1-based).
    NotJson(usize),
    /// Without a usable `custom_id`.
    NoId,
    /// Longer than any answer; not looked at.
    TooLong,
}

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(column) => write!(f, "not JSON from column {column} on"),
            Self::NoId => f.write_str("no custom_id"),
            Self::TooLong => f.write_str("longer than any answer"),
        }
    }
}

/// Reads a line, white space around it taken off. It is parsed once: the body as it is passed over.
pub(crate) fn read(line: &[u8]) -> Result<Reading<'_>, Garbled> {
    let text = std::str::from_utf8(line).map_err(|error| Garbled::NotJson(error.valid_up_to() + 1))?;
    let (mut custom_id, mut error, mut response) = (None, None, Response::default());
    let mut walk = Walk::new(text);
    walk.members(|walk, key| {
        match key {
            "custom_id" => custom_id = Some(walk.raw()?),
            "error" => error = Some(walk.raw()?),
            "response" if walk.peek() == Some(b'{') => response = Response::read(walk)?,
            // Of members of the same name the last one counts, also one that says nothing.
            "response" => {
                walk.raw()?;
                response = Response::default();
            }
            _ => drop(walk.raw()?),
        }
        Ok(())
    })?;
    walk.end()?;
    let id = custom_id.and_then(|raw| id(raw.get())).ok_or(Garbled::NoId)?;
    Ok(response.judge(id, error.filter(|raw| says_something(raw.get()))))
}

/// A `response`. Anything but an object says as much as one without members.
#[derive(Default)]
struct Response<'a> {
    status: Option<u16>,
    body: Option<&'a str>,
    /// The body is no answer: why, as the end of "HTTP 200 …".
    flaw: Option<&'static str>,
    /// It has `choices`, good or bad.
    completion: bool,
    usage: Option<Usage>,
}

impl<'a> Response<'a> {
    fn read(walk: &mut Walk<'a>) -> Result<Self, Garbled> {
        let mut response = Self { flaw: Some("with an empty body"), ..Self::default() };
        walk.members(|walk, key| {
            match key {
                "status_code" => {
                    // Some write 0 where there was no response.
                    let status = walk.raw()?.get().trim_matches('"').parse().ok();
                    response.status = status.filter(|status| (100..600).contains(status));
                }
                "body" => response.body(walk)?,
                _ => drop(walk.raw()?),
            }
            Ok(())
        })?;
        Ok(response)
    }

    fn body(&mut self, walk: &mut Walk<'a>) -> Result<(), Garbled> {
        let start = walk.at();
        *self = Self { status: self.status, ..Self::default() };
        // Serde would take an array for a struct.
        let typed = walk.peek() == Some(b'{');
        if typed && let Some(body) = walk.typed::<Body<'_>>() {
            self.body = Some(walk.since(start));
            self.flaw = body.flaw().filter(|_| !body.is_transcript());
            self.completion = body.is_completion();
            self.usage = body.usage().map(|(prompt, completion)| Usage { prompt, completion });
            return Ok(());
        }
        let body = walk.raw()?.get();
        (self.body, self.flaw) = match body {
            "null" => (None, Some("with an empty body")),
            _ if typed => (Some(body), Some("with an unexpected shape")),
            _ => (Some(body), Some("with something other than a JSON object")),
        };
        Ok(())
    }

    /// What it says together with the line's `error`, if that says something.
    fn judge(self, id: Cow<'a, str>, error: Option<&'a RawValue>) -> Reading<'a> {
        let Self { status, body, flaw, completion, usage } = self;
        let good = body.is_some() && flaw.is_none() && matches!(status, None | Some(200));
        if good {
            return Reading { id, error: None, also_failed: error.is_some(), status: Some(200), body, usage };
        }
        let answered = status == Some(200) || (status.is_none() && completion);
        if answered && error.is_none() {
            let why = format!("HTTP 200 {}", flaw.unwrap_or_default());
            let error = Some(RowError { code: ErrorCode::BadResponse, message: why });
            return Reading { id, error, also_failed: false, status: Some(200), body, usage };
        }
        let error = words::row_error(status.filter(|status| *status != 200), &said(error, body));
        let billed = usage.filter(|_| matches!(status, None | Some(200)));
        Reading { id, error: Some(error), also_failed: false, status, body, usage: billed }
    }
}

/// What the line's `error` says, and where that is silent, the body.
fn said(error: Option<&RawValue>, body: Option<&str>) -> ErrorBody {
    let line = error.map(ErrorBody::of_error).unwrap_or_default();
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

/// An id is a string; a number is taken for its spelling.
fn id(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes() {
        [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => {
            Some(Cow::Borrowed(&raw[1..raw.len() - 1]))
        }
        [b'"', ..] => serde_json::from_str(raw).ok().map(Cow::Owned),
        [b'-' | b'0'..=b'9', ..] => Some(Cow::Borrowed(raw)),
        _ => None,
    }
}

/// Whether an `error` is more than a placeholder beside an answer: servers write `null`, `""`, `{}` and empty members.
fn says_something(error: &str) -> bool {
    let blank = |raw: &str| matches!(raw, "null" | "\"\"" | "{}" | "[]" | "false" | "0");
    if !error.starts_with('{') {
        return !blank(error);
    }
    let members: Result<BTreeMap<Cow<'_, str>, &RawValue>, _> = serde_json::from_str(error);
    members.map_or(true, |members| members.values().any(|value| !blank(value.get())))
}

#[cfg(test)]
mod tests;
