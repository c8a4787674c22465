//! Faults as responses: in place of an answer, or an answer that is damaged.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::dice::Dice;
use super::errors::{self, ApiError, TypicalBody};
use super::faults::{ErrorShape, FaultKind, ScriptedError};
use super::listener::Conn;
use super::reply::{HttpReply, Payload};
use super::script_body::{BodyDelivery, BodyEnd};

/// The response in place of an answer that was not (or need not be) generated.
pub async fn instead(kind: &FaultKind, conn: &Conn, key: &str) -> Response {
    let reply = match kind {
        FaultKind::Status(error) => error.reply(),
        FaultKind::EchoKey => {
            let message = format!("The API key {key} is not known");
            let error = ApiError { code: Some("invalid_api_key"), ..ApiError::invalid(&message) };
            error.reply(StatusCode::UNAUTHORIZED)
        }
        FaultKind::Close => {
            conn.close();
            return Response::default();
        }
        FaultKind::Hang => std::future::pending().await,
        FaultKind::Html => HttpReply::new(StatusCode::OK, "text/html; charset=utf-8", HTML),
        FaultKind::EmptyBody => HttpReply::json(StatusCode::OK, ""),
        FaultKind::NullJob => {
            HttpReply::json(StatusCode::CREATED, "{\"job\": null, \"warning\": \"The job was not created\"}")
        }
        FaultKind::WrongShape => HttpReply::json(StatusCode::OK, "{\"result\": {\"text\": \"not what was asked\"}}"),
        // The other kinds need an answer to damage; without one the connection breaks.
        _ => {
            conn.reset();
            return Response::default();
        }
    };
    reply.into_response()
}

/// A right answer, damaged on its way out.
pub async fn spoil(kind: &FaultKind, mut reply: HttpReply, conn: &Conn, key: &str) -> Response {
    let half = reply.payload.len() / 2;
    let cut = |end| BodyDelivery { cut: Some(half), end, drip: None };
    match kind {
        FaultKind::ResetLate => return reply.delivered(conn, cut(BodyEnd::Reset)),
        FaultKind::Truncate => return reply.delivered(conn, cut(BodyEnd::Break)),
        FaultKind::Stall => return reply.delivered(conn, cut(BodyEnd::Stall)),
        FaultKind::Drip(pause) => {
            return reply.delivered(conn, BodyDelivery { drip: Some(*pause), ..BodyDelivery::default() });
        }
        FaultKind::Short => match &mut reply.payload {
            Payload::Bytes(bytes) => bytes.truncate(usize::try_from(half).unwrap_or(0)),
            Payload::File(_, len) => *len = half,
            Payload::Events(stream) => stream.truncate(half),
        },
        FaultKind::Delay(time) => tokio::time::sleep(*time).await,
        FaultKind::BadGzip => {
            reply.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        // The answer itself is damaged already.
        FaultKind::EmptyChoices
        | FaultKind::NullContent
        | FaultKind::NoUsage
        | FaultKind::Huge(_)
        | FaultKind::StreamError
        | FaultKind::NoFinish
        | FaultKind::NoDone
        | FaultKind::Shape => {}
        other => return instead(other, conn, key).await,
    }
    reply.into_response()
}

const HTML: &str =
    "<!DOCTYPE html>\n<html><head><title>One moment</title></head><body><h1>One moment</h1></body></html>\n";
const PLAIN: &str = "text/plain; charset=UTF-8";

impl ScriptedError {
    pub fn reply(&self) -> HttpReply {
        let mut reply = self.without_hint();
        if let Some(hint) = self.hint {
            hint.write(&mut reply.headers);
        }
        reply
    }

    fn without_hint(&self) -> HttpReply {
        let code = self.code;
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match (self.shape, errors::typical(code)) {
            (ErrorShape::Plain, _) => HttpReply::new(status, PLAIN, self.padded(&format!("error code: {code}"))),
            (ErrorShape::Usual | ErrorShape::Bare, TypicalBody::Plain(text)) => {
                HttpReply::new(status, PLAIN, self.padded(&text))
            }
            (ErrorShape::Bare, _) => errors::plain(status, &self.padded(&format!("Scripted by the sandbox: {code}"))),
            (ErrorShape::Html, _) => HttpReply::new(status, "text/html; charset=utf-8", self.padded(HTML)),
            (ErrorShape::Empty, _) => HttpReply::new(status, "text/plain", ""),
            (ErrorShape::Object, _) => {
                let inner = json!({
                    "message": self.padded("The engine had an error"),
                    "type": "BadRequestError", "param": null, "code": code,
                });
                let outer = json!({
                    "id": errors::request_id("object"),
                    "error": {"message": inner, "type": "invalid_request_error", "param": null, "code": null},
                });
                HttpReply::pretty(status, &outer)
            }
            (ErrorShape::Usual | ErrorShape::Text, TypicalBody::Json(body)) if self.padding == 0 => {
                HttpReply::json(status, body)
            }
            (ErrorShape::Usual | ErrorShape::Text, _) => {
                ApiError::new("server_error", &self.padded("Scripted by the sandbox ")).reply(status)
            }
        }
    }

    fn padded(&self, message: &str) -> String {
        message.to_owned() + &"x".repeat(self.padding)
    }
}

/// The latency of one answer: `base`, up to `jitter` (a fraction) off in either direction.
pub fn latency(base: Duration, jitter: f64, key: u64) -> Duration {
    if jitter <= 0.0 {
        return base;
    }
    base.mul_f64((1.0 + jitter * (Dice(key).unit() * 2.0 - 1.0)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::super::faults::ScriptedFault;
    use super::*;

    #[test]
    fn error_bodies_have_the_recorded_shapes() {
        let text = |spec: &str| {
            let fault: ScriptedFault = spec.parse().unwrap();
            let FaultKind::Status(error) = fault.kind else { panic!() };
            let Payload::Bytes(bytes) = error.reply().payload else { panic!() };
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        assert_eq!(text("status=521"), "error code: 521");
        assert_eq!(text("status=503,shape=text"), "error code: 503");
        assert_eq!(text("status=500,shape=empty"), "");
        assert_eq!(text("status=404,shape=bare"), "{\"error\": \"Scripted by the sandbox: 404\"}");
        assert_eq!(text("status=502,shape=bare"), "error code: 502", "the edge has one voice");
        assert!(text("status=500,huge=1").len() > 1 << 20);
        let object: serde_json::Value = serde_json::from_str(&text("status=400,shape=object")).unwrap();
        assert_eq!(object["error"]["message"]["code"], 400);
        let limited: serde_json::Value = serde_json::from_str(&text("status=429")).unwrap();
        assert_eq!(limited["error"]["type"], "dynamic_request_limited");
    }
}
