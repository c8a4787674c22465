use super::*;
use crate::outcome::ErrorCode;

const BODY: &str = r#"{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
const USAGE: Option<Usage> = Some(Usage::new(3, 4));

fn answer(rest: &str) -> String {
    format!(r#"{{"custom_id":"a","response":{{"status_code":200,"body":{BODY}}}{rest}}}"#)
}

#[test]
fn answers_are_found_in_every_dress() {
    let lines = [
        answer(""),
        answer(r#","error":null,"id":"batch_req_1","x":[{}]"#),
        answer(r#","error":{}"#),
        answer(r#","error":"""#),
        answer(r#","error":{"message":"","code":null,"param":{}}"#),
        format!(r#"{{ "response" : {{"request_id":"r","body" : {BODY} ,"status_code":"200"}} , "custom_id" : "a" }}"#),
        format!(r#"{{"response":{{"body":{BODY}}},"custom_id":"\u0061"}}"#),
        format!(r#"{{"response":{{"body":{BODY},"status_code":null}},"custom_id":"a"}}"#),
        format!(r#"{{"response":{{"body":{BODY},"status_code":0}},"custom_id":"a"}}"#),
    ];
    for line in lines {
        let result = read(line.as_bytes()).unwrap();
        let expected = ResultLine {
            id: "a".into(),
            error: None,
            also_failed: false,
            status: Some(200),
            body: Some(BODY),
            usage: USAGE,
            reused: false,
        };
        assert_eq!(result, expected, "{line}");
    }
}

#[test]
fn of_members_of_the_same_name_the_last_one_counts() {
    for rest in [r#","error":"late","response":null"#, r#","response":{"status_code":500,"body":null},"error":"late""#]
    {
        let line = answer(rest);
        let result = read(line.as_bytes()).unwrap();
        assert_eq!((result.body, result.usage, result.error.is_some()), (None, None, true), "{line}");
    }
    let line = format!(r#"{{"custom_id":"a","response":{{"status_code":200,"body":{BODY},"body":[]}}}}"#);
    let result = read(line.as_bytes()).unwrap();
    assert_eq!((result.body, result.usage, result.error.is_some()), (Some("[]"), None, true));
}

#[test]
fn an_answer_outweighs_an_error_beside_it() {
    let line = answer(r#","error":{"message":"late","code":"timeout"}"#);
    let result = read(line.as_bytes()).unwrap();
    assert_eq!((result.error, result.also_failed, result.usage), (None, true, USAGE));
}

#[test]
fn audio_answers_are_answers_and_ids_may_be_numbers() {
    let result = read(br#"{"custom_id":-12.50,"response":{"status_code":200,"body":{"text":"hello"}}}"#).unwrap();
    assert_eq!((&*result.id, result.error, result.usage), ("-12.50", None, None));
}

/// A line with an error, and its reading.
struct FailedLine {
    /// The members of the line beside `custom_id`.
    rest: &'static str,
    code: ErrorCode,
    message: &'static str,
    status: Option<u16>,
    has_body: bool,
    billed: bool,
}

impl FailedLine {
    fn check(&self) {
        let rest = self.rest;
        let line = format!(r#"{{"custom_id":"a",{rest}}}"#);
        let result = read(line.as_bytes()).unwrap();
        let error = Some(RowError::new(self.code, self.message));
        assert_eq!(result.error, error, "{rest}");
        assert_eq!(result.status, self.status, "{rest}");
        assert_eq!((result.body.is_some(), result.usage.is_some()), (self.has_body, self.billed), "{rest}");
    }
}

#[test]
fn failures_are_told_apart() {
    use ErrorCode as E;
    let cases = [
        (r#""error":{"message":"no","code":"invalid_model"}"#, E::NotFound, "invalid_model: no", None, false),
        (r#""error":"no luck","response":null"#, E::ServerError, "no luck", None, false),
        (r#""error":"late","response":"x""#, E::ServerError, "late", None, false),
        (r#""error":"late","response":[200,{"choices":[]}]"#, E::ServerError, "late", None, false),
        (
            r#""response":{"status_code":429,"body":{"error":{"message":"slow"}}}"#,
            E::RateLimited,
            "HTTP 429: slow",
            Some(429),
            true,
        ),
        (
            r#""response":{"status_code":400,"body":{"error":"inner"}},"error":{"message":"","code":"bad"}"#,
            E::InvalidRequest,
            "HTTP 400: bad: inner",
            Some(400),
            true,
        ),
        (
            r#""response":{"status_code":521,"body":"error code: 521"}"#,
            E::ServerError,
            "HTTP 521: error code: 521",
            Some(521),
            true,
        ),
        (r#""response":{"status_code":500}"#, E::ServerError, "HTTP 500", Some(500), false),
        (r#""response":{"body":{"error":"inner"}}"#, E::ServerError, "inner", None, true),
        (
            r#""response":{"status_code":200,"body":null},"error":{"code":"timeout","message":"late"}"#,
            E::Timeout,
            "late",
            Some(200),
            false,
        ),
        (r#""response":null,"error":{}"#, E::ServerError, "the service gave no reason", None, false),
    ];
    for (rest, code, message, status, has_body) in cases {
        FailedLine { rest, code, message, status, has_body, billed: false }.check();
    }
}

#[test]
fn a_success_without_an_answer_is_a_bad_response() {
    let cases = [
        (r#""response":{"status_code":200}"#, "HTTP 200 with an empty body", Some(200), false, false),
        (
            r#""response":{"status_code":200,"body":"{}"}"#,
            "HTTP 200 with something other than a JSON object",
            Some(200),
            true,
            false,
        ),
        (
            r#""response":{"body":{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0}}}"#,
            "HTTP 200 with no choices",
            Some(200),
            true,
            true,
        ),
        (
            r#""response":{"status_code":200,"body":{"choices":"secret"}}"#,
            "HTTP 200 with an unexpected shape",
            Some(200),
            true,
            false,
        ),
    ];
    for (rest, message, status, has_body, billed) in cases {
        FailedLine { rest, code: ErrorCode::BadResponse, message, status, has_body, billed }.check();
    }
}

#[test]
fn what_is_no_result_is_said_without_quoting_it() {
    let cases: &[(&[u8], LineError)] = &[
        (b"nonsense", LineError::NotJson(1)),
        (b"\"a\"", LineError::NotJson(1)),
        (b"{\"custom_id\":\"a\",}", LineError::NotJson(18)),
        (b"{\"custom_id\":\"a\",\"response\":{\"body\":{\"choices\":[}}}", LineError::NotJson(49)),
        (b"[\"a\",{\"status_code\":200},null]", LineError::NotJson(1)),
        (b"{\"custom_id\":\"a\"", LineError::NotJson(17)),
        (b"{\"custom_id\":\"a\"}{\"custom_id\":\"b\"}", LineError::NotJson(18)),
        (b"{\"custom_id\":\"a\xff\"}", LineError::NotJson(16)),
        (b"{}", LineError::NoId),
        (b"{\"custom_id\":null}", LineError::NoId),
        (b"{\"custom_id\":[\"a\"]}", LineError::NoId),
        (b"{\"custom_id\":\"\\ud800\"}", LineError::NoId),
    ];
    for (line, garbled) in cases {
        let shown = String::from_utf8_lossy(line);
        assert_eq!(read(line).as_ref().map_err(|_| ()), Err(()), "{shown}");
        assert_eq!(read(line).unwrap_err(), *garbled, "{shown}");
    }
}

#[test]
fn depth_does_not_matter() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for line in [
        format!(r#"{{"custom_id":"a","response":{deep},"error":"x"}}"#),
        format!(r#"{{"custom_id":"a","response":{{"status_code":500,"body":{deep}}},"error":{{"message":{deep}}}}}"#),
    ] {
        assert!(read(line.as_bytes()).is_ok_and(|result| result.error.is_some()));
    }
}
