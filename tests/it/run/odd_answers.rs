//! Answers of a dishonest service to `run`. The row still ends with its answer or its error, costs stay true, and no text
//! controls the terminal.

use serde_json::Value;

use crate::support::{Home, MODEL, Out, Recorder, csv_rows, harmless, questions, raw_codes, side_by_side};

/// Two rows, the second answered with `body`, sent once.
fn night(status: &'static str, body: &str, args: &[&str]) -> (Home, Out) {
    let (home, body) = (Home::new(), body.to_owned());
    let recorder = Recorder::answering(move |request| {
        if request.body.contains("question 2") {
            (status, String::new(), body.clone())
        } else {
            ("200 OK", String::new(), Recorder::chat("\"fine\""))
        }
    });
    home.write("in.jsonl", questions(1..=2));
    let all = ["in.jsonl", "-m", MODEL, "--retries", "0", "--concurrency", "1", "--summary", "s.json"];
    let out = home.finish(home.run_command(&recorder.url, &[&all[..], args].concat()));
    harmless(&out.stderr);
    (home, out)
}

/// The exit code for this end of the second row.
fn exit(end: &str) -> i32 {
    if end == "ok" { 0 } else { 3 }
}

#[test]
fn malformed_body_fails_only_its_row() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let chat = |rest: &str| format!(r#"{{"choices":[{{"message":{{"content":{rest}}}]}}"#);
    let cases = [
        (r#"{"choices":[]}"#.to_owned(), "bad_response", true),
        (r#"{"choices":{"0":1}}"#.to_owned(), "bad_response", true),
        (r#"{"choices":[null]}"#.to_owned(), "bad_response", true),
        (r#"{"choices":[[{"message":{"content":"x"}}]]}"#.to_owned(), "bad_response", true),
        (r#"{"choices":[{"message":"x"}]}"#.to_owned(), "bad_response", true),
        (chat("7}"), "bad_response", true),
        (r#"{"choices":[{"message":{"content":"x"}}],"error":"but no"}"#.to_owned(), "server_error", true),
        (r#"{"choices":[{"message":{"content":"x"}}]} {"choices":[]}"#.to_owned(), "bad_response", false),
        (r#"{"choices":[{"message":{"content":"cut"#.to_owned(), "bad_response", false),
        ("\0\0\0".to_owned(), "bad_response", false),
        ("\u{1b}[2J\u{9b}31m\u{202e}".to_owned(), "bad_response", false),
        (deep.clone(), "bad_response", false),
        (format!(r#"{{"choices":{deep}}}"#), "bad_response", false),
        (
            format!(r#"{{"x":{deep},"choices":[{{"y":{deep},"message":{{"content":"x","z":{deep}}}}}]}}"#),
            "bad_response",
            false,
        ),
        (chat(r#""a"},"finish_reason":["odd"]}, {"message":{"content":"b"},"index":-1"#), "ok", true),
        (chat(r#""\ud800\u0000\u001b[31m"},"finish_reason":"\u001b[2J""#), "ok", true),
    ];
    side_by_side(&cases, |(body, end, kept)| {
        let shown = &body[..body.len().min(60)];
        let (home, out) = night("200 OK", body, &["-o", "out.jsonl"]);
        out.code(exit(end));
        let found = home.read("out.jsonl");
        assert_eq!(raw_codes(&found), ["ok", *end], "{shown}");
        assert_eq!(found.contains(&format!("\"body\":{body}}}")), *kept, "{shown}");
        let report = home.llbatch(&["report", "last", "--html", "page.html"]).code(0);
        harmless(&report.stdout);
        // The same as a table.
        if *end != "ok" && body.len() < 100_000 {
            return;
        }
        let table = ["--format", "csv", "-o", "out.csv", "--errors", "bad.csv"];
        let (home, out) = night("200 OK", body, &table);
        out.code(exit(end));
        let counts = ["out.csv", "bad.csv"].map(|name| csv_rows(&home.read(name), b',').1.len());
        assert_eq!(counts, if *end == "ok" { [2, 0] } else { [1, 1] }, "{shown}");
    });
}

#[test]
fn error_texts_are_data() {
    let long = format!("{{\"error\":{{\"message\":\"{}\"}}}}", "\\u001b[31m".repeat(100_000));
    let deep = format!("{{\"error\":{}1{}}}", "{\"message\":".repeat(50_000), "}".repeat(50_000));
    for body in
        ["\u{1b}]0;owned\u{7}", r#"{"error":{"message":"\u001b[2J\u009b\u202e\u0000","type":"\r\n"}}"#, &long, &deep]
    {
        let (home, out) = night("400 Bad Request", body, &["-o", "out.jsonl"]);
        assert!(out.stderr.lines().all(|line| line.len() < 2000), "{}", out.stderr);
        out.code(3);
        let found = home.read("out.jsonl");
        assert_eq!(found.lines().count(), 2);
        assert_eq!(raw_codes(&found)[1], "invalid_request");
    }
}

#[test]
fn impossible_usage_is_unknown_and_never_negative() {
    for (usage, tokens) in [
        (r#"{"prompt_tokens":-5,"completion_tokens":-7}"#, None),
        (r#"{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615}"#, None),
        (r#"{"prompt_tokens":1e3,"completion_tokens":"7"}"#, Some(1007)),
        (r#"{"prompt_tokens":5,"completion_tokens":4294967296}"#, None),
        ("null", None),
        (r#"{"prompt_tokens":4294967295,"completion_tokens":4294967295}"#, Some(8_589_934_590_u64)),
    ] {
        let body = format!(r#"{{"choices":[{{"message":{{"content":"x"}}}}],"usage":{usage}}}"#);
        let (home, out) = night("200 OK", &body, &["-o", "out.jsonl"]);
        out.code(0);
        let summary: Value = home.json("s.json");
        assert_eq!(summary["tokens"]["total"], 1010 + tokens.unwrap_or(0), "{usage}");
        assert_eq!(summary["cost"]["estimated"], tokens.is_none(), "{usage}");
        // $0.06 a million tokens; what is not known is left out, and said.
        let usd = summary["cost"]["usd"].as_f64().unwrap();
        let known = 0.06e-6 * (1010 + tokens.unwrap_or(0)) as f64;
        assert!((usd - known).abs() < 1e-9, "{usage}: {usd}");
        // In a ledger of all jobs nothing has gone negative either.
        let spent = home.llbatch(&["status", "--cost", "--since", "1d", "--json"]).code(0).stdout;
        assert!(!spent.replace(' ', "").contains(":-"), "{usage}: {spent}");
    }
}

#[test]
fn impossible_headers_are_ignored() {
    let odd = ["1e-300", "5e-324", "1e300", "-1", "inf", "NaN", "999999999999999999999999"];
    side_by_side(&odd, |odd| {
        let home = Home::new();
        let names =
            ["x-ratelimit-limit", "x-ratelimit-limit-tokens", "x-tokenlimit-limit", "x-ratelimit-reset", "retry-after"];
        let headers: String = names.map(|name| format!("{name}: {odd}\r\n")).concat();
        let recorder = Recorder::answering(move |_| ("200 OK", headers.clone(), Recorder::chat("\"fine\"")));
        home.write("in.jsonl", questions(1..=20));
        let args = ["in.jsonl", "-m", MODEL, "--concurrency", "2", "-o", "out.jsonl"];
        home.finish(home.run_command(&recorder.url, &args)).code(0);
        assert_eq!(raw_codes(&home.read("out.jsonl")), ["ok"; 20], "{odd}");
    });
}
