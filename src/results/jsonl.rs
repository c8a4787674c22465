//! The batch output line, and JSON text written by hand: this is the hot path of a run.

use crate::outcome::{Outcome, RowError};

/// Appends `{"custom_id":…,"response":…,"error":…}` and a line end. The body's bytes are copied as they are.
pub(super) fn batch_line(outcome: &Outcome, out: &mut Vec<u8>) {
    out.reserve(outcome.id.len() + outcome.body.as_ref().map_or(0, |body| body.len()) + 96);
    out.extend_from_slice(b"{\"custom_id\":");
    string(&outcome.id, out);
    out.extend_from_slice(b",\"response\":");
    match (outcome.status, &outcome.body) {
        (None, None) => out.extend_from_slice(b"null"),
        (status, body) => {
            out.extend_from_slice(b"{\"status_code\":");
            match status {
                Some(status) => integer(u64::from(status), out),
                None => out.extend_from_slice(b"null"),
            }
            out.extend_from_slice(b",\"body\":");
            out.extend_from_slice(body.as_ref().map_or(b"null", |body| body.as_bytes()));
            out.push(b'}');
        }
    }
    out.extend_from_slice(b",\"error\":");
    match &outcome.error {
        None => out.extend_from_slice(b"null"),
        Some(RowError { code, message }) => {
            out.extend_from_slice(b"{\"code\":\"");
            out.extend_from_slice(code.as_str().as_bytes());
            out.extend_from_slice(b"\",\"message\":");
            string(message, out);
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"}\n");
}

/// Appends `text` as a JSON string. Escaped is only what JSON demands, so other bytes stay as they came.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..i]);
        copied = i + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 0xf)]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Appends decimal digits.
pub(super) fn integer(mut number: u64, out: &mut Vec<u8>) {
    // u64::MAX has 20 digits.
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        // A remainder of ten is one digit.
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

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
                outcome("c", None, None, Some("{}")),
                "{\"custom_id\":\"c\",\"response\":{\"status_code\":null,\"body\":{}},\"error\":null}\n".to_owned(),
            ),
        ];
        for (outcome, line) in cases {
            let mut out = b"before".to_vec();
            batch_line(&outcome, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("before{line}"));
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_as_a_json_string(text in any::<String>()) {
            let mut out = Vec::new();
            string(&text, &mut out);
            prop_assert!(!out.contains(&b'\n'));
            prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), Value::String(text));
        }

        #[test]
        fn any_integer_survives(number in any::<u64>()) {
            for number in [number, number >> 40, 0, u64::MAX] {
                let mut out = Vec::new();
                integer(number, &mut out);
                prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
            }
        }
    }
}
