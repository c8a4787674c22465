//! The body of an error, in any of the service's shapes, and what it means.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{Failure, Fault, MAX_MESSAGE};
use crate::completion::AnswerFlaw;
use crate::text::shortened;

/// Codes and types of an account without money in `OpenAI`'s dialect, which sends them with a 429 or a 400.
const NO_MONEY: [&str; 3] = ["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"];

/// The content of an error body, in any of the service's shapes.
#[derive(Debug, Default)]
pub(crate) struct ErrorBody {
    /// For people.
    pub(crate) message: Option<String>,
    /// `type`, or `error_type`.
    pub(crate) kind: Option<String>,
    /// `code`, as text if it is a number.
    pub(crate) code: Option<String>,
}

#[derive(Deserialize)]
struct ErrorEnvelope<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ErrorDetail<'a> {
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
}

/// The status under which services send an error with this word in its code or type. The first one that fits counts.
const STATUS_OF: [(&str, u16); 27] = [
    ("context_length", 400),
    ("rate_limit", 429),
    ("too_many_requests", 429),
    ("resource_exhausted", 429),
    ("insufficient_balance", 402),
    ("insufficient_credit", 402),
    ("payment", 402),
    ("invalid_api_key", 401),
    ("authentication", 401),
    ("unauthorized", 401),
    ("unauthenticated", 401),
    ("permission", 403),
    ("forbidden", 403),
    ("not_found", 404),
    ("model_not_available", 400),
    ("content_policy", 400),
    ("content_filter", 400),
    ("validation", 400),
    ("invalid_request", 400),
    ("invalid_argument", 400),
    ("invalid_prompt", 400),
    ("bad_request", 400),
    ("unsupported", 400),
    ("overloaded", 503),
    ("unavailable", 503),
    ("not_implemented", 501),
    ("timeout", 504),
];

/// Names the flaw of a 2xx's body: the fault, and a sentence with the service's words.
pub(crate) fn flaw_of(flaw: &AnswerFlaw<'_>, status: u16, body: &str) -> Failure {
    let no_answer = |fault, why| Failure::no_answer(fault, status, why);
    let raw = |text: &str| serde_json::from_str::<&RawValue>(text).map(ErrorBody::of_error).unwrap_or_default();
    match flaw {
        AnswerFlaw::Error(text) => raw(text).or_beside(&ErrorBody::read(body.as_bytes())).inside(status),
        AnswerFlaw::Foreign => match ErrorBody::read(body.as_bytes()) {
            said if said.message.is_some() => said.inside(status),
            _ => no_answer(Fault::BadResponse, format!("HTTP {status} with neither choices nor embeddings")),
        },
        AnswerFlaw::Shape(why) => no_answer(Fault::BadResponse, format!("HTTP {status} {why}")),
        AnswerFlaw::Ended("length") => {
            no_answer(Fault::Truncated, "the answer was cut off at max_tokens before any text".to_owned())
        }
        AnswerFlaw::Ended("content_filter") => {
            let why = "a filter of the service ended the answer before any text (content_filter)";
            no_answer(Fault::Filtered, why.to_owned())
        }
        AnswerFlaw::Ended(reason) => {
            let reason = shortened(reason, MAX_MESSAGE);
            no_answer(Fault::Unusable, format!("the answer is empty (finish_reason: {reason})"))
        }
    }
}

impl ErrorBody {
    /// The failure of an error that came with a 2xx: it means what it means under the status that its code has elsewhere.
    fn inside(self, status: u16) -> Failure {
        let number =
            |text: &Option<String>| text.as_deref()?.parse::<u16>().ok().filter(|code| (400..600).contains(code));
        let named = number(&self.code);
        let meant = named.unwrap_or_else(|| self.usual_status());
        let (fault, model_unknown) = self.fault(meant);
        let words =
            self.message.as_deref().map(str::trim).filter(|words| !words.is_empty()).unwrap_or("no reason given");
        let code = named.map(|code| format!(" {code}")).unwrap_or_default();
        let message = format!("HTTP {status} with error{code}: {}", shortened(words, MAX_MESSAGE));
        Failure { named: Some(meant), model_unknown, ..Failure::no_answer(fault, status, message) }
    }

    /// The status that errors with this code or type have elsewhere. The code says more than the type.
    fn usual_status(&self) -> u16 {
        let parts = [&self.code, &self.kind].map(|part| part.as_deref().unwrap_or_default().to_ascii_lowercase());
        let usual = |part: &String| {
            let part = part.replace(['-', ' '], "_");
            let no_money = NO_MONEY.iter().any(|code| part.contains(code));
            let found = STATUS_OF.iter().find(|(word, _)| part.contains(word)).map(|(_, status)| *status);
            if no_money { Some(429) } else { found }
        };
        parts.iter().find_map(usual).unwrap_or(500)
    }

    /// Reads a whole body. The result is empty if the shape is unknown.
    pub(crate) fn read(body: &[u8]) -> Self {
        let Ok(envelope) = serde_json::from_slice::<ErrorEnvelope<'_>>(body) else { return Self::default() };
        let mut said = Self { kind: envelope.error_type.and_then(scalar), ..Self::default() };
        if let Some(raw) = envelope.error {
            said.read_error(raw, 0);
        } else {
            said.message = envelope.message.or(envelope.detail).map(text);
        }
        // An error that is only a text has its type and code beside it.
        said.kind = said.kind.or_else(|| envelope.r#type.and_then(scalar));
        said.code = said.code.or_else(|| envelope.code.and_then(scalar));
        said
    }

    /// Fills what this error leaves out with what stands beside it in the body.
    fn or_beside(self, whole: &Self) -> Self {
        Self { kind: self.kind.or_else(|| whole.kind.clone()), code: self.code.or_else(|| whole.code.clone()), ..self }
    }

    /// Reads the value of `"error":` (`raw` is one JSON value).
    pub(crate) fn of_error(raw: &RawValue) -> Self {
        let mut said = Self::default();
        said.read_error(raw, 0);
        said
    }

    /// The fault of this error with this HTTP status, and whether the model does not exist or is not served.
    pub(crate) fn fault(&self, status: u16) -> (Fault, bool) {
        let is = |kind: &str| self.kind.as_deref() == Some(kind) || self.code.as_deref() == Some(kind);
        let fault = match status {
            401 => Fault::Auth,
            402 => Fault::Payment,
            400 | 429 if NO_MONEY.iter().any(|code| is(code)) => Fault::Payment,
            // 403 means "prompt and max_tokens exceed the context" (support.together.ai 1067567273) unless it is about the key.
            403 if self.about_context() => Fault::ContextLength,
            403 => Fault::Auth,
            404 => return (Fault::NotFound, true),
            400 if is("model_not_available") => return (Fault::NotFound, true),
            400 | 413 | 422 if self.about_context() => Fault::ContextLength,
            // After a request timeout (before the work began) or a conflict, the request may be sent again.
            408 => Fault::Timeout,
            409 => Fault::Server,
            429 => Fault::RateLimited,
            // Not implemented, such as embeddings on a server that was started for chat. It says the same of every row.
            501 => return (Fault::InvalidRequest, true),
            503 => Fault::Overloaded,
            500..=599 => Fault::Server,
            300..=399 => Fault::BadResponse,
            200..=299 => Fault::BadResponse,
            _ => Fault::InvalidRequest,
        };
        (fault, false)
    }

    /// Reads `error`: a text, an object, or an object whose `message` is an object again (errors of the engine).
    fn read_error(&mut self, raw: &RawValue, depth: u8) {
        let Ok(detail) = serde_json::from_str::<ErrorDetail<'_>>(raw.get()) else {
            self.message = Some(text(raw));
            return;
        };
        self.kind = self.kind.take().or_else(|| detail.r#type.or(detail.error_type).and_then(scalar));
        self.code = self.code.take().or_else(|| detail.code.and_then(scalar));
        match detail.message {
            Some(inner) if inner.get().starts_with('{') && depth < 3 => self.read_error(inner, depth + 1),
            Some(inner) => self.message = Some(text(inner)),
            None => self.message = Some(raw.get().to_owned()),
        }
    }

    /// Returns true if the refusal is about the context's length. The service has no code for that, so only this place
    /// reads the text. It only chooses between two codes for a row that has failed either way.
    pub(crate) fn about_context(&self) -> bool {
        let words = |t: &Option<String>| {
            t.as_deref().is_some_and(|t| {
                let t = t.to_ascii_lowercase();
                // Go's timeout messages are about another kind of context.
                t.contains("context") && !t.contains("context deadline") && !t.contains("context cancel")
                    || t.contains("max_tokens")
                    || t.contains("max_new_tokens")
                    || t.contains("too long")
            })
        };
        words(&self.code) || words(&self.message)
    }
}

/// The text of a JSON string, or the JSON itself.
fn text(raw: &RawValue) -> String {
    serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}

fn scalar(raw: &RawValue) -> Option<String> {
    (raw.get() != "null").then(|| text(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_inside_a_200_is_classified_by_what_stands_inside_and_beside_it() {
        let inside = |body: &str| {
            let flaw = crate::completion::Completion::of(body).flaw().expect("an error");
            flaw_of(&flaw, 200, body)
        };
        let cases = [
            (r#"{"error":"bad `n`","error_type":"validation"}"#, Fault::InvalidRequest, "error: bad `n`"),
            (r#"{"error":"bad `n`","type":"validation_error"}"#, Fault::InvalidRequest, "error: bad `n`"),
            (
                r#"{"error":{"message":"bad `n`"},"type":"invalid_request_error"}"#,
                Fault::InvalidRequest,
                "error: bad `n`",
            ),
            (r#"{"error":{"message":"m","type":"validation","error_type":"x"}}"#, Fault::InvalidRequest, "error: m"),
            (
                r#"{"error":"`max_new_tokens` must be <= 9","error_type":"validation"}"#,
                Fault::ContextLength,
                "error: `max_new_tokens` must be <= 9",
            ),
            (r#"{"error":"slow","code":429}"#, Fault::RateLimited, "error 429: slow"),
            (
                r#"{"error":{"message":"busy","code":503},"type":"error","code":0}"#,
                Fault::Overloaded,
                "error 503: busy",
            ),
            (r#"{"error":"crashed","type":"error"}"#, Fault::Server, "error: crashed"),
            (r#"{"error":{"message":"quota","code":"insufficient_quota"}}"#, Fault::Payment, "error: quota"),
        ];
        for (body, fault, words) in cases {
            let found = inside(body);
            assert_eq!((found.fault, found.message), (fault, format!("HTTP 200 with {words}")), "{body}");
        }
    }

    #[test]
    fn error_under_a_200_means_what_it_means_under_its_own_status() {
        for (code, kind, status) in [
            ("context_length_exceeded", "invalid_request_error", 400),
            ("invalid_api_key", "invalid_request_error", 401),
            ("model_not_found", "invalid_request_error", 404),
            ("insufficient_quota", "insufficient_quota", 429),
            ("rate_limit_exceeded", "tokens", 429),
            ("", "authentication_error", 401),
            ("", "permission_error", 403),
            ("", "not_found_error", 404),
            ("", "overloaded_error", 503),
            ("", "service_unavailable", 503),
            ("", "invalid_request_error", 400),
            ("model_not_available", "invalid_request_error", 400),
            ("content_policy_violation", "", 400),
            ("server_error", "server_error", 500),
            ("internal_error", "", 500),
            ("", "", 500),
            ("402", "", 402),
        ] {
            let error = serde_json::json!({"error": {"message": "no", "type": kind, "code": code}}).to_string();
            let flaw = crate::completion::Completion::of(&error).flaw().expect("an error");
            let inside = flaw_of(&flaw, 200, &error);
            let (fault, model_unknown) = ErrorBody::read(error.as_bytes()).fault(status);
            assert_eq!((inside.fault, inside.model_unknown), (fault, model_unknown), "{error}");
            assert_eq!((inside.status, inside.meant_status()), (Some(200), Some(status)), "{error}");
        }
    }
}
