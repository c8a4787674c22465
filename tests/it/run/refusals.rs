//! Refusals and odd answers of single rows among good ones.

use crate::support::{Home, Recorder, prompts, raw_codes};

/// Runs three rows one after the other; the second one gets this response. Returns the home and the requests that it took.
fn second(status: &'static str, body: &'static str, code: i32) -> (Home, usize) {
    let home = Home::new();
    let service = Recorder::answering(move |request| {
        let odd = request.body.contains("question 2");
        let good = || Recorder::chat("\"fine\"");
        if odd { (status, String::new(), body.to_owned()) } else { ("200 OK", String::new(), good()) }
    });
    home.write("in.jsonl", prompts(1..=3));
    let args = ["in.jsonl", "--concurrency", "1", "-o", "out.jsonl"];
    home.finish(home.run_command(&service.url, &args)).code(code);
    (home, service.requests().len())
}

#[test]
fn refusal_of_one_row_among_good_ones_is_that_rows_error() {
    for (status, body, code) in [
        ("403 Forbidden", r#"{"error":{"code":403,"message":"the input was flagged"}}"#, "auth"),
        ("402 Payment Required", r#"{"error":{"code":402,"message":"more credits, or fewer max_tokens"}}"#, "payment"),
    ] {
        let (home, requests) = second(status, body, 3);
        assert_eq!(raw_codes(&home.read("out.jsonl")), ["ok", code, "ok"], "{status}");
        assert_eq!(requests, 3, "{status}");
    }
}

#[test]
fn complete_choice_is_an_answer_however_it_is_wrapped() {
    for (status, body) in [
        ("201 Created", r#"{"choices":[{"message":{"content":"fine"},"finish_reason":"stop"}],"error":{}}"#),
        (
            "200 OK",
            "\u{feff}{\"choices\":[{\"message\":{\"content\":\"fine\",\"content\":\"fine\",\"tool_calls\":{}}}]}",
        ),
        (
            "200 OK",
            ": PROCESSING\n\n{\"choices\":[{\"message\":{\"content\":\"fine\"}}],\"error\":{\"code\":0,\"message\":\"\"}}",
        ),
    ] {
        let (home, requests) = second(status, body, 0);
        assert_eq!((raw_codes(&home.read("out.jsonl")), requests), (vec!["ok".to_owned(); 3], 3), "{body}");
    }
}

#[test]
fn finished_answer_without_text_is_bought_once_and_says_why() {
    for (body, code, words) in [
        (
            r#"{"choices":[{"message":{"content":null},"finish_reason":"content_filter"}]}"#,
            "filtered",
            "content_filter",
        ),
        (r#"{"choices":[{"message":{"content":null},"finish_reason":"length"}]}"#, "truncated", "max_tokens"),
        ("data: {\"choices\":[]}\n\ndata: [DONE]\n\n", "bad_response", "an event stream"),
        (r#"{"error":{"code":400,"message":"Input validation error"}}"#, "invalid_request", "Input validation error"),
    ] {
        let (home, requests) = second("200 OK", body, 3);
        let text = home.read("out.jsonl");
        assert_eq!(
            (raw_codes(&text), requests),
            (vec!["ok".to_owned(), code.to_owned(), "ok".to_owned()], 3),
            "{body}"
        );
        assert!(text.contains(words), "{text}");
    }
}
