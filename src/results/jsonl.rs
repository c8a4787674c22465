//! The batch output line.

use crate::completion::{KeptAnswer, kept_answer};
use crate::json;
use crate::outcome::{Outcome, RowError};

/// Appends `{"custom_id":…,"response":…,"error":…}` and a line end. The body's bytes are copied as they are. `files`: answers
/// are files, which are listed beside the response.
pub(super) fn batch_line(outcome: &Outcome, files: bool, out: &mut Vec<u8>) {
    let kept = outcome.body.as_deref().filter(|_| files && outcome.ok()).and_then(kept_answer);
    out.reserve(outcome.id.len() + outcome.body.as_ref().map_or(0, |body| body.len()) + 96);
    out.extend_from_slice(b"{\"custom_id\":");
    json::write(&outcome.id, out);
    out.extend_from_slice(b",\"response\":");
    match (outcome.status, &outcome.body) {
        (None, None) => out.extend_from_slice(b"null"),
        (status, body) => {
            out.extend_from_slice(b"{\"status_code\":");
            match status {
                Some(status) => json::write(&status, out),
                None => out.extend_from_slice(b"null"),
            }
            out.extend_from_slice(b",\"body\":");
            match &kept {
                Some(KeptAnswer { body: Some((members, end)), .. }) => {
                    out.extend_from_slice(members.as_bytes());
                    out.extend_from_slice(end.as_bytes());
                }
                Some(KeptAnswer { body: None, .. }) => out.extend_from_slice(b"null"),
                None => out.extend_from_slice(body.as_ref().map_or(b"null", |body| body.as_bytes())),
            }
            out.push(b'}');
        }
    }
    out.extend_from_slice(b",\"error\":");
    match &outcome.error {
        None => out.extend_from_slice(b"null"),
        Some(RowError { code, message, rule }) => {
            out.extend_from_slice(b"{\"code\":\"");
            out.extend_from_slice(code.as_str().as_bytes());
            out.extend_from_slice(b"\",\"message\":");
            json::write(message, out);
            if let Some(rule) = rule {
                out.extend_from_slice(b",\"rule\":");
                json::write(rule, out);
            }
            out.push(b'}');
        }
    }
    if let Some(kept) = &kept {
        out.extend_from_slice(b",\"files\":");
        out.extend_from_slice(kept.files.as_bytes());
    }
    if outcome.is_reused() {
        out.extend_from_slice(b",\"reused\":true");
    }
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::ErrorCode;

    fn outcome(id: &str, error: Option<&str>, status: Option<u16>, body: Option<&str>) -> Outcome {
        let mut outcome = Outcome::unsent(1, id.into(), "m".into(), ErrorCode::ServerError, error.unwrap_or_default());
        if error.is_none() {
            outcome.error = None;
        }
        Outcome { status, body: body.map(Into::into), ..outcome }
    }

    #[test]
    fn files_stand_beside_the_response_without_their_member() {
        let files = r#"[{"path":"a.png","bytes":3}]"#;
        for (body, shown) in
            [(Some(r#"{"data":[{"b64_json":null}]}"#), r#"{"data":[{"b64_json":null}]}"#), (None, "null")]
        {
            let kept = crate::completion::with_files(body, files);
            let mut out = Vec::new();
            batch_line(&outcome("a", None, Some(200), Some(&kept)), true, &mut out);
            let expected = format!(
                "{{\"custom_id\":\"a\",\"response\":{{\"status_code\":200,\"body\":{shown}}},\"error\":null,\"files\":{files}}}\n"
            );
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            let mut other = Vec::new();
            batch_line(&outcome("a", None, Some(200), Some(&kept)), false, &mut other);
            assert!(String::from_utf8(other).unwrap().contains(&kept), "any other job's bodies stay as they are");
        }
    }

    #[test]
    fn the_line_has_exactly_the_batch_shape() {
        let body = "{\"n\":1E400,\"b\": 123456789012345678901234567890,\"a\":\"\\ud800\",\"a\":2}";
        let cases = [
            (
                outcome("a", None, Some(200), Some(body)),
                format!("{{\"custom_id\":\"a\",\"response\":{{\"status_code\":200,\"body\":{body}}},\"error\":null}}\n"),
            ),
            (
                outcome("q\"\\\n\u{1}é", Some("no \"luck\""), Some(503), None),
                "{\"custom_id\":\"q\\\"\\\\\\n\\u0001é\",\"response\":{\"status_code\":503,\"body\":null},\"error\":{\"code\":\"server_error\",\"message\":\"no \\\"luck\\\"\"}}\n".to_owned(),
            ),
            (
                outcome("b", Some("refused"), None, None),
                "{\"custom_id\":\"b\",\"response\":null,\"error\":{\"code\":\"server_error\",\"message\":\"refused\"}}\n".to_owned(),
            ),
            (
                Outcome { leader: Some(1), ..outcome("d", None, Some(200), Some("{}")) },
                "{\"custom_id\":\"d\",\"response\":{\"status_code\":200,\"body\":{}},\"error\":null,\"reused\":true}\n".to_owned(),
            ),
            (
                Outcome {
                    error: Some(RowError {
                        rule: Some("--json-schema: /required".into()),
                        ..RowError::new(ErrorCode::InvalidAnswer, "no")
                    }),
                    ..outcome("e", None, Some(200), Some("{}"))
                },
                "{\"custom_id\":\"e\",\"response\":{\"status_code\":200,\"body\":{}},\"error\":{\"code\":\"invalid_answer\",\"message\":\"no\",\"rule\":\"--json-schema: /required\"}}\n".to_owned(),
            ),
            (
                outcome("c", None, None, Some("{}")),
                "{\"custom_id\":\"c\",\"response\":{\"status_code\":null,\"body\":{}},\"error\":null}\n".to_owned(),
            ),
        ];
        for (outcome, line) in cases {
            let mut out = b"before".to_vec();
            batch_line(&outcome, false, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("before{line}"));
        }
    }
}
