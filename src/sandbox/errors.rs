//! Refusals in the shapes that the live service was seen to use.

use axum::http::StatusCode;
use serde::Serialize;

use super::dialect::ServedDialect;
use super::faults::Scope;
use super::reply::HttpReply;

/// The error object of the inference routes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ApiError<'a> {
    pub message: &'a str,
    #[serde(rename = "type")]
    pub kind: &'a str,
    pub param: Option<&'a str>,
    pub code: Option<&'a str>,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    id: &'a str,
    error: ApiError<'a>,
}

impl<'a> ApiError<'a> {
    pub fn new(kind: &'a str, message: &'a str) -> Self {
        Self { message, kind, param: None, code: None }
    }

    pub fn invalid(message: &'a str) -> Self {
        Self::new("invalid_request_error", message)
    }

    /// The whole body, pretty-printed as live.
    pub fn body(self) -> String {
        let document = ErrorDocument { id: &request_id(self.message), error: self };
        serde_json::to_string_pretty(&document).unwrap_or_default()
    }

    pub fn reply(self, status: StatusCode) -> HttpReply {
        HttpReply::json(status, self.body())
    }
}

/// A request that the service cannot read; `param` names the field.
pub fn invalid(param: Option<&str>, message: &str) -> HttpReply {
    ApiError { param, ..ApiError::invalid(message) }.reply(StatusCode::BAD_REQUEST)
}

const REFUSED_KEY: &str = "The sandbox refuses this API key";

/// A missing or wrong key, in the shape of the route.
pub fn unauthorized(scope: Scope) -> HttpReply {
    let status = StatusCode::UNAUTHORIZED;
    match scope {
        Scope::Models => HttpReply::json(status, "{\"error\": {\"message\": \"Unauthorized\"}}"),
        _ if scope.is_batches() => plain(status, REFUSED_KEY),
        _ => ApiError { code: Some("invalid_api_key"), ..ApiError::invalid(REFUSED_KEY) }.reply(status),
    }
}

/// A refusal by Together's batch routes: a bare text.
pub fn plain(status: StatusCode, message: &str) -> HttpReply {
    HttpReply::json(status, format!("{{\"error\": {}}}", quote(message)))
}

/// A refusal by the batch routes.
pub fn of_batches(status: StatusCode, message: &str, dialect: ServedDialect) -> HttpReply {
    match dialect {
        ServedDialect::Together => plain(status, message),
        ServedDialect::Openai => ApiError::invalid(message).reply(status),
    }
}

/// A JSON string literal.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An id that is the same for the same text, in the live spelling of three groups.
pub fn request_id(seed: &str) -> String {
    let hex = blake3::hash(seed.as_bytes()).to_hex();
    format!("s{}-{}-{}", &hex[..6], &hex[6..12], &hex[12..28])
}

/// The body of a scripted status.
#[derive(Debug, PartialEq, Eq)]
pub enum TypicalBody {
    Json(String),
    /// The plain text of the edge in front of the service.
    Plain(String),
}

/// The body of a status as the layer that usually answers with it writes it.
pub fn typical(status: u16) -> TypicalBody {
    let (kind, code, message) = match status {
        400 => ("invalid_request_error", None, "The request is not valid"),
        401 => ("invalid_request_error", Some("invalid_api_key"), REFUSED_KEY),
        402 => ("credit_limit", None, "The account has no credit left"),
        403 => ("invalid_request_error", None, "Prompt and max_tokens together are longer than the model's context"),
        404 => ("invalid_request_error", Some("model_not_available"), "No such model, or none that you may use"),
        408 => ("timeout", None, "The request took too long"),
        413 => ("invalid_request_error", None, "The request body is too large"),
        422 => ("invalid_request_error", None, "A parameter has a value that cannot be used"),
        429 => ("dynamic_request_limited", None, "Requests come faster than the present dynamic rate"),
        500 => ("server_error", None, "The server had an error"),
        503 => ("service_unavailable", None, "The service is overloaded, try again later"),
        504 => ("server_error", None, "The model did not answer in time"),
        502 | 520..=530 => return TypicalBody::Plain(format!("error code: {status}")),
        _ => ("server_error", None, "Scripted by the sandbox"),
    };
    TypicalBody::Json(ApiError { code, ..ApiError::new(kind, message) }.body())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_have_the_recorded_members() {
        let text = ApiError { code: Some("c"), ..ApiError::new("t", "say \"hi\"\n") }.body();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["error"]["message"], "say \"hi\"\n");
        assert_eq!(value["error"]["code"], "c");
        assert!(value["error"]["param"].is_null());
        assert!(text.starts_with("{\n  \"id\""), "pretty-printed: {text}");
    }

    #[test]
    fn the_edge_answers_in_plain_text() {
        assert_eq!(typical(521), TypicalBody::Plain("error code: 521".to_owned()));
        assert!(matches!(typical(503), TypicalBody::Json(_)));
    }
}
