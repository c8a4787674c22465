//! Refusals of inference in `OpenAI`'s form.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::bodies::pretty;
use super::errors::ApiError;
use super::reply::{HttpReply, Payload};

/// The refusal as `OpenAI` words it: no id, its own codes and types. Anything but a usual error stays as it is.
pub fn refusal(mut reply: HttpReply) -> HttpReply {
    let Payload::Bytes(bytes) = &reply.payload else { return reply };
    let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let (error, status) = (&body["error"], reply.status.as_u16());
    let Some(message) = error["message"].as_str().filter(|_| status >= 400) else { return reply };
    let (was, code) = (error["type"].as_str().unwrap_or_default(), error["code"].as_str());
    let (status, kind, code) = match (status, was, code) {
        (402, ..) => (429, "insufficient_quota", Some("insufficient_quota")),
        (403, ..) => (400, was, Some("context_length_exceeded")),
        (404, _, Some("model_not_available")) => (404, was, Some("model_not_found")),
        (429, "dynamic_token_limited", _) => (429, "tokens", Some("rate_limit_exceeded")),
        (429, "dynamic_request_limited" | "request_limited", _) => (429, "requests", Some("rate_limit_exceeded")),
        (500.., ..) => (status, "server_error", None),
        (_, _, code) => (status, was, code),
    };
    let error = ApiError { message, kind, param: error["param"].as_str(), code };
    let body = pretty(&json!({"error": error}));
    reply.status = StatusCode::from_u16(status).unwrap_or(reply.status);
    if reply.headers.contains_key("retry-after") {
        // Together repeats the time in a header that OpenAI does not have.
        reply.headers.remove("x-ratelimit-reset");
    }
    reply.payload = Payload::Bytes(body.into());
    reply
}

/// A time as `OpenAI` spells it: `12ms`, `8.64s`, `6m0s`, `1h0m30s`.
pub fn reset(time: Duration) -> String {
    let millis = time.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, seconds) = (millis / 60_000, (millis % 60_000) as f64 / 1000.0);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::errors;
    use super::super::faults::{FaultKind, ScriptedFault};
    use super::*;

    #[test]
    fn resets_are_spelled_as_openai_does() {
        for (millis, text) in
            [(0, "0ms"), (12, "12ms"), (1000, "1s"), (8640, "8.64s"), (360_000, "6m0s"), (3_630_000, "1h0m30s")]
        {
            assert_eq!(reset(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn refusals_have_the_codes_of_openai() {
        let cases = [
            (400, 400, "invalid_request_error", Value::Null),
            (401, 401, "invalid_request_error", json!("invalid_api_key")),
            (402, 429, "insufficient_quota", json!("insufficient_quota")),
            (403, 400, "invalid_request_error", json!("context_length_exceeded")),
            (404, 404, "invalid_request_error", json!("model_not_found")),
            (429, 429, "requests", json!("rate_limit_exceeded")),
            (500, 500, "server_error", Value::Null),
            (503, 503, "server_error", Value::Null),
        ];
        for (status, expected, kind, code) in cases {
            let fault: ScriptedFault = format!("status={status},retry-after=3").parse().unwrap();
            let FaultKind::Status(error) = fault.kind else { panic!() };
            let reply = refusal(error.reply());
            assert_eq!((reply.status.as_u16(), reply.headers.get("retry-after").is_some()), (expected, true));
            let Payload::Bytes(bytes) = reply.payload else { panic!() };
            let body: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["error"]);
            let error = &body["error"];
            assert_eq!((&error["type"], &error["code"]), (&json!(kind), &code), "{status}");
            assert!(error["message"].is_string() && error.get("param").is_some());
        }
        let named = refusal(errors::invalid(Some("stream"), "no"));
        let Payload::Bytes(bytes) = named.payload else { panic!() };
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap()["error"]["param"], "stream");
    }
}
