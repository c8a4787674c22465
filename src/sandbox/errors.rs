//! Refusals in the shapes that the live service was seen to use.

use std::fmt::Write as _;

use axum::http::StatusCode;

use super::reply::Reply;

/// A JSON string literal.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The inference error body, pretty-printed as live.
pub fn body(id: &str, kind: &str, param: Option<&str>, code: Option<&str>, message: &str) -> String {
    let or_null = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quote);
    let mut out = String::with_capacity(192 + message.len());
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "{{\n  \"id\": {},\n  \"error\": {{\n    \"message\": {},\n    \"type\": {},\n    \"param\": {},\n    \"code\": {}\n  }}\n}}",
        quote(id),
        quote(message),
        quote(kind),
        or_null(param),
        or_null(code)
    );
    out
}

/// A refusal of an inference request.
pub fn inference(status: StatusCode, kind: &str, param: Option<&str>, code: Option<&str>, message: &str) -> Reply {
    Reply::json(status, body(&request_id(message), kind, param, code, message))
}

/// A request that the service cannot read; `param` names the field.
pub fn invalid(param: Option<&str>, message: &str) -> Reply {
    inference(StatusCode::BAD_REQUEST, "invalid_request_error", param, None, message)
}

/// A missing or wrong key.
pub fn unauthorized() -> Reply {
    inference(
        StatusCode::UNAUTHORIZED,
        "invalid_request_error",
        None,
        Some("invalid_api_key"),
        "The sandbox refuses this API key",
    )
}

/// The models list has a shape of its own for a missing or wrong key.
pub fn unauthorized_models() -> Reply {
    Reply::json(StatusCode::UNAUTHORIZED, "{\"error\": {\"message\": \"Unauthorized\"}}")
}

/// A refusal by the batch routes: a bare text.
pub fn plain(status: StatusCode, message: &str) -> Reply {
    Reply::json(status, format!("{{\"error\": {}}}", quote(message)))
}

/// An id that is the same for the same text, in the live spelling of three groups.
pub fn request_id(seed: &str) -> String {
    let hex = blake3::hash(seed.as_bytes()).to_hex();
    format!("s{}-{}-{}", &hex[..6], &hex[6..12], &hex[12..28])
}

/// The body of a scripted status as the layer that usually speaks with it would write it.
/// The flag is true for plain text.
pub fn typical(status: u16) -> (String, bool) {
    let (kind, code, message) = match status {
        400 => ("invalid_request_error", None, "The request is not valid"),
        401 => ("invalid_request_error", Some("invalid_api_key"), "The sandbox refuses this API key"),
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
        // What the edge in front of the service says for itself.
        502 | 520..=530 => return (format!("error code: {status}"), true),
        _ => ("server_error", None, "Scripted by the sandbox"),
    };
    (body(&request_id(message), kind, None, code, message), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_recorded_members() {
        let text = body("x", "t", None, Some("c"), "say \"hi\"\n");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["error"]["message"], "say \"hi\"\n");
        assert_eq!(value["error"]["code"], "c");
        assert!(value["error"]["param"].is_null());
        assert!(text.starts_with("{\n  \"id\""), "pretty-printed: {text}");
    }

    #[test]
    fn the_edge_speaks_plain_text() {
        assert_eq!(typical(521), ("error code: 521".to_owned(), true));
        assert!(!typical(503).1);
    }
}
