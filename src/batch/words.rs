//! Maps the service's words for a failed row to an error code and a message. Together does not document these words.

use crate::api::error::MAX_MESSAGE;
use crate::api::error_body::ErrorBody;
use crate::fault::code_of;
use crate::outcome::{ErrorCode, RowError};
use crate::text::shortened;

/// Fragments of the service's codes (letters and digits only) with their meaning. The first match counts.
const WORDS: &[(&str, ErrorCode)] = &[
    ("invalidmodel", ErrorCode::NotFound),
    ("modelnot", ErrorCode::NotFound),
    ("notfound", ErrorCode::NotFound),
    ("apikey", ErrorCode::Auth),
    ("timeout", ErrorCode::Timeout),
    ("timedout", ErrorCode::Timeout),
    ("ratelimit", ErrorCode::RateLimited),
    ("limited", ErrorCode::RateLimited),
    ("insufficientquota", ErrorCode::Payment),
    ("billing", ErrorCode::Payment),
    // An old name for throttling. A lack of credit is 402, or one of the codes above.
    ("creditlimit", ErrorCode::RateLimited),
    ("contextlength", ErrorCode::ContextLength),
    ("unavailable", ErrorCode::Overloaded),
    ("overloaded", ErrorCode::Overloaded),
    ("expired", ErrorCode::Expired),
    ("cancel", ErrorCode::Cancelled),
    ("invalidrequest", ErrorCode::InvalidRequest),
    ("badrequest", ErrorCode::InvalidRequest),
];

/// Builds a row's error from `said`, the error of a line, and from its HTTP status unless that is 200.
pub(super) fn row_error(status: Option<u16>, said: &ErrorBody) -> RowError {
    RowError::new(code(status, said), message(status, said))
}

fn code(status: Option<u16>, said: &ErrorBody) -> ErrorCode {
    if let Some(own) = said.code.as_deref().and_then(ErrorCode::parse) {
        return own;
    }
    let numeric = || said.code.as_deref()?.parse().ok().filter(|code| (400..600).contains(code));
    if let Some(status) = status.or_else(numeric) {
        return code_of(said.fault(status).0);
    }
    // Some errors are only a code.
    let bare = said.message.as_deref().filter(|text| !text.contains(char::is_whitespace));
    let known = [said.code.as_deref(), said.kind.as_deref(), bare].into_iter().flatten().find_map(by_word);
    match known {
        Some(ErrorCode::InvalidRequest) | None if said.about_context() => ErrorCode::ContextLength,
        Some(code) => code,
        None => ErrorCode::ServerError,
    }
}

fn by_word(text: &str) -> Option<ErrorCode> {
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    ErrorCode::parse(text).or_else(|| WORDS.iter().find(|(word, _)| plain.contains(word)).map(|(_, code)| *code))
}

/// Builds `HTTP 400: invalid_model: the service's words`, from the parts that exist.
fn message(status: Option<u16>, said: &ErrorBody) -> String {
    let text = |part: &Option<String>| part.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    let message = text(&said.message);
    let code = text(&said.code).filter(|code| ErrorCode::parse(code).is_none() && message.as_ref() != Some(code));
    let kind = || text(&said.kind).filter(|_| code.is_none());
    let last = message.or_else(kind);
    // Lines that llbatch wrote already begin with the status.
    let said = |status: &u16| last.as_ref().is_some_and(|last| last.starts_with(&format!("HTTP {status}")));
    let parts: Vec<String> =
        [status.filter(|status| !said(status)).map(|status| format!("HTTP {status}")), code.clone(), last]
            .into_iter()
            .flatten()
            .collect();
    if parts.is_empty() { "the service gave no reason".to_owned() } else { shortened(&parts.join(": "), MAX_MESSAGE) }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn said(error: &str) -> ErrorBody {
        ErrorBody::of_error(serde_json::from_str::<&RawValue>(error).unwrap())
    }

    #[test]
    fn codes_are_read_from_names_statuses_and_words() {
        use ErrorCode as E;
        let cases: &[(Option<u16>, &str, E, &str)] = &[
            (None, r#"{"message":"m","code":"invalid_model"}"#, E::NotFound, "invalid_model: m"),
            (None, r#"{"message":"m","code":"insufficient_quota"}"#, E::Payment, "insufficient_quota: m"),
            (None, r#"{"message":"m","code":"model_not_available"}"#, E::NotFound, "model_not_available: m"),
            (None, r#"{"message":"late","code":"timeout"}"#, E::Timeout, "late"),
            (None, r#"{"message":"m","code":"rate_limit_exceeded"}"#, E::RateLimited, "rate_limit_exceeded: m"),
            (None, r#"{"message":"m","type":"dynamic_token_limited"}"#, E::RateLimited, "m"),
            (None, r#"{"message":"m","code":"credit_limit"}"#, E::RateLimited, "credit_limit: m"),
            (
                None,
                r#"{"message":"m","code":"context_length_exceeded"}"#,
                E::ContextLength,
                "context_length_exceeded: m",
            ),
            (
                None,
                r#"{"message":"beyond the model's context","code":"invalid_request_error"}"#,
                E::ContextLength,
                "invalid_request_error: beyond the model's context",
            ),
            (None, r#"{"message":"context deadline exceeded"}"#, E::ServerError, "context deadline exceeded"),
            (None, r#"{"message":"context switch","code":"timeout"}"#, E::Timeout, "context switch"),
            (None, r#"{"message":"m","code":"invalid_request_error"}"#, E::InvalidRequest, "invalid_request_error: m"),
            (None, r#"{"message":"m","type":"BadRequestError"}"#, E::InvalidRequest, "m"),
            (None, r#"{"message":"m","code":"service_unavailable"}"#, E::Overloaded, "service_unavailable: m"),
            (None, r#"{"message":"m","code":"engine-overloaded"}"#, E::Overloaded, "engine-overloaded: m"),
            (None, r#"{"message":"m","code":"batch_expired"}"#, E::Expired, "batch_expired: m"),
            (None, r#"{"message":"m","code":"canceled"}"#, E::Cancelled, "canceled: m"),
            (None, r#"{"message":"m","code":"EngineDied"}"#, E::ServerError, "EngineDied: m"),
            (None, r#"{"message":"m","code":429}"#, E::RateLimited, "429: m"),
            (None, r#"{"message":"m","code":7}"#, E::ServerError, "7: m"),
            (None, r#"{"message":"m","code":null}"#, E::ServerError, "m"),
            (None, r#"{"message":{"message":"inner","code":400}}"#, E::InvalidRequest, "400: inner"),
            (None, r#""expired""#, E::Expired, "expired"),
            (None, r#""the window has expired""#, E::ServerError, "the window has expired"),
            (
                Some(400),
                r#"{"message":"m","code":"model_not_available"}"#,
                E::NotFound,
                "HTTP 400: model_not_available: m",
            ),
            (Some(503), r#"{"message":"m","type":"server_error"}"#, E::Overloaded, "HTTP 503: m"),
            (Some(429), r#"{"message":"m","code":503}"#, E::RateLimited, "HTTP 429: 503: m"),
            (Some(400), r#"{"message":"m","code":"payment"}"#, E::Payment, "HTTP 400: m"),
            (Some(400), r#"{"message":"HTTP 400: no","code":"invalid_request"}"#, E::InvalidRequest, "HTTP 400: no"),
            (Some(201), r#""m""#, E::BadResponse, "HTTP 201: m"),
        ];
        for (status, error, code, message) in cases {
            let found = row_error(*status, &said(error));
            assert_eq!((found.code, found.message.as_str()), (*code, *message), "{status:?} {error}");
        }
    }

    #[test]
    fn a_message_is_never_empty_and_never_long() {
        assert_eq!(row_error(None, &ErrorBody::default()).message, "the service gave no reason");
        assert_eq!(row_error(Some(500), &ErrorBody::default()).message, "HTTP 500");
        let long = row_error(Some(500), &said(&format!("\"{}\"", "é".repeat(9000)))).message;
        assert_eq!(long.chars().count(), 501);
    }
}
