//! Result files of a dishonest service. Every row still ends with its answer or its error, under its own id. No text of the
//! service controls the terminal.

use serde_json::{Value, json};

use super::odd::{ID, answers, batch, night, service};
use super::{ends, side_by_side};
use crate::support::{Home, Out, Recorder, csv_rows, harmless, raw_codes, rows};

/// A service whose batch ends with these files.
fn files(output: Option<String>, errors: Option<String>) -> Recorder {
    service(move |line, _| {
        let mut job = batch("COMPLETED");
        job["output_file_id"] = output.as_ref().map_or(Value::Null, |_| json!("file-out"));
        job["error_file_id"] = errors.as_ref().map_or(Value::Null, |_| json!("file-err"));
        match line {
            "GET /v1/files/file-out/content" => Some(("200 OK", json!(output))),
            "GET /v1/files/file-err/content" => Some(("200 OK", json!(errors))),
            "GET /v1/files/file-err" => Some(("200 OK", json!({"id": "file-err"}))),
            _ => (line == format!("GET /v1/batches/{ID}")).then_some(("200 OK", job)),
        }
    })
}

/// The night with these files.
fn with(output: &str) -> (Home, Recorder, Out) {
    let (home, service) = (Home::new(), files(Some(output.to_owned()), None));
    let out = night(&home, &service);
    (home, service, out)
}

/// A line of results with this body.
fn line(id: &str, body: &str) -> String {
    format!("{{\"custom_id\":{},\"response\":{{\"status_code\":200,\"body\":{body}}}}}\n", json!(id))
}

#[test]
fn foreign_id_is_shown_escaped_and_costs_no_row() {
    let long = "x".repeat(10_000);
    let ids = [
        "../x",
        "../../../tmp/x",
        "/etc/passwd",
        "a\u{1b}]52;c;eA==\u{7}b\n",
        "\u{9b}2J",
        "\u{202e}gpj",
        "\0",
        &long,
        "q1 ",
        "Q1",
    ];
    side_by_side(&ids, |id| {
        let (home, _service, out) = with(&(line(id, &Recorder::chat("\"evil\"")) + &answers(&["q1", "q2", "q3"])));
        harmless(&out.stderr);
        assert!(out.stderr.lines().all(|line| line.len() < 1000), "{}", out.stderr);
        out.code(76).says(&["not in the batch"]);
        assert_eq!(ends(&home), ["ok"; 3], "{id:?}");
        assert!(!home.read("out.jsonl.partial").contains("evil"));
        // Beside what the tests make themselves, there are the results and the state.
        let there =
            std::fs::read_dir(home.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut there: Vec<String> = there.collect();
        there.sort();
        assert_eq!(there, ["home", "in.jsonl", "out.jsonl.partial", "state", "tmp"]);
    });
}

#[test]
fn impossible_usage_is_unknown_and_never_negative() {
    let cases = [
        ("", None),
        (r#""usage":null,"#, None),
        (r#""usage":{},"#, None),
        (r#""usage":[],"#, None),
        (r#""usage":"much","#, None),
        (r#""usage":{"prompt_tokens":-5,"completion_tokens":-7},"#, None),
        (r#""usage":{"prompt_tokens":5,"completion_tokens":-7},"#, None),
        (r#""usage":{"prompt_tokens":1.5,"completion_tokens":2},"#, None),
        (r#""usage":{"prompt_tokens":"12","completion_tokens":"3"},"#, Some(45)),
        (r#""usage":{"prompt_tokens":1E400,"completion_tokens":3},"#, None),
        (r#""usage":{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615},"#, None),
        (r#""usage":{"prompt_tokens":9223372036854775807,"completion_tokens":1},"#, None),
        (r#""usage":{"prompt_tokens":123456789012345678901234567890,"completion_tokens":1},"#, None),
        (r#""usage":{"prompt_tokens":0,"completion_tokens":0},"#, Some(0)),
        (r#""usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":-1},"#, Some(36)),
        (r#""usage":{"prompt_tokens":4294967295,"completion_tokens":4294967295},"#, Some(3 * 2 * 4_294_967_295_u64)),
    ];
    side_by_side(&cases, |&(usage, total)| {
        let body = format!(r#"{{{usage}"choices":[{{"message":{{"content":"x"}}}}]}}"#);
        let (home, _service, out) = with(&["q1", "q2", "q3"].map(|id| line(id, &body)).concat());
        out.code(0);
        assert_eq!(raw_codes(&home.read("out.jsonl")), ["ok"; 3], "{usage}");
        let report: Value = serde_json::from_str(&home.llbatch(&["report", "last", "--json"]).code(0).stdout).unwrap();
        let cost = &report["cost"]["usd"];
        match total {
            None => assert!(cost.is_null() && report["cost"]["estimated"] == true, "{usage}: {report}"),
            Some(tokens) => {
                assert_eq!(report["tokens"]["total"], tokens, "{usage}");
                assert!(cost.as_f64().is_some_and(|cost| cost >= 0.0), "{usage}: {cost}");
            }
        }
        // From the results alone, the same.
        let file = home.llbatch(&["report", "./out.jsonl", "--batch", "--json"]).code(0).stdout;
        let file: Value = serde_json::from_str(&file).unwrap();
        assert_eq!((&file["tokens"], file["rows"]["succeeded"].as_u64()), (&report["tokens"], Some(3)), "{usage}");
    });
}

#[test]
fn malformed_body_fails_only_its_row() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let cases = [
        (r#"{"choices":[]}"#.to_owned(), "bad_response"),
        (r#"{"choices":{}}"#.to_owned(), "bad_response"),
        (r#"{"choices":[1]}"#.to_owned(), "bad_response"),
        (r#"{"choices":"no"}"#.to_owned(), "bad_response"),
        (r#"{"choices":[{"message":{"content":7}}]}"#.to_owned(), "bad_response"),
        (r#"{"choices":[{"message":{"content":"x"}}],"error":{"message":"but no"}}"#.to_owned(), "server_error"),
        ("[]".to_owned(), "bad_response"),
        ("\"text\"".to_owned(), "bad_response"),
        (deep.clone(), "bad_response"),
        (format!(r#"{{"choices":{deep}}}"#), "bad_response"),
        (format!(r#"{{"choices":[{{"message":{{"content":"x","y":{deep}}}}}],"x":{deep}}}"#), "bad_response"),
        (r#"{"choices":[{"message":{"content":"a"}},{"message":{"content":"b"},"finish_reason":7}]}"#.to_owned(), "ok"),
        (r#"{"choices":[{"message":{"content":"a\u0000b\ud800"},"finish_reason":"\u001b[2J"}]}"#.to_owned(), "ok"),
    ];
    side_by_side(&cases, |(body, end)| {
        let shown = &body[..body.len().min(60)];
        let text = answers(&["q1"]) + &line("q2", body) + &answers(&["q3"]);
        let (home, service, out) = with(&text);
        harmless(&out.stderr);
        assert_eq!(out.code, if *end == "ok" { 0 } else { 3 }, "{shown}\n{}", out.stderr);
        assert_eq!(raw_codes(&home.read("out.jsonl")), ["ok", end, "ok"], "{shown}");
        // Paid for or not, it is there as it came, whichever form is asked for, unless no reader would take it.
        let kept = if body.len() < 100_000 { body } else { "null" };
        assert!(home.read("out.jsonl").contains(&format!("\"body\":{kept}")), "{shown}");
        let table = ["fetch", "last", "-o", "out.csv", "--prefix", "llm_"];
        home.at(&service.url, &table).code(if *end == "ok" { 0 } else { 3 });
        let table = home.read("out.csv");
        assert_eq!(csv_rows(&table, b',').1.len(), 3, "{shown}");
        let page = home.llbatch(&["report", "last", "--html", "page.html"]).code(0);
        harmless(&page.stdout);
        assert!(home.exists("page.html"));
    });
}

#[test]
fn invalid_lines_are_counted_and_shown_escaped() {
    let long = format!("{{\"custom_id\":\"q1\",\"response\":\"{}", "y".repeat(2 << 20));
    let deep = "{\"custom_id\":".repeat(100_000);
    let junk = [
        "\u{1b}[2J\u{9b}",
        "null",
        "[[]]",
        "{\"custom_id\":{\"a\":1}}",
        "{\"custom_id\":\"q1\",}",
        "\0\0\0",
        &long,
        &deep,
    ];
    side_by_side(&junk, |junk| {
        let (home, _service, out) = with(&format!("{}{junk}\n", answers(&["q1", "q2", "q3"])));
        harmless(&out.stderr);
        out.code(76);
        assert_eq!(ends(&home), ["ok"; 3], "{junk:.40}");
    });
}

#[test]
fn answer_of_20_mb_comes_through_whole() {
    let text = "é\\n🦀 word ".repeat(1_500_000);
    let (home, _service, out) = with(&(line("q1", &Recorder::chat(&format!("\"{text}\""))) + &answers(&["q2", "q3"])));
    out.code(0);
    let found = home.read("out.jsonl");
    assert!(found.len() > 20_000_000 && found.lines().next().unwrap().contains(&text));
    assert_eq!(rows(&found).len(), 3);
}

#[test]
fn both_result_files_may_be_empty_or_full() {
    let error = |id: &str| {
        format!("{{\"custom_id\":\"{id}\",\"error\":{{\"message\":\"no \\u001b[31m\",\"code\":\"timeout\"}}}}\n")
    };
    let all = ["q1", "q2", "q3"];
    let cases = [
        (Some(String::new()), Some(String::new()), 3, ["missing"; 3]),
        (None, Some(all.map(error).concat()), 3, ["timeout"; 3]),
        (Some(answers(&all)), Some(all.map(error).concat()), 0, ["ok"; 3]),
        (Some(answers(&all)), Some(answers(&all)), 0, ["ok"; 3]),
        (Some(answers(&all[..1])), Some(answers(&all[1..2]) + &error("q1")), 3, ["ok", "ok", "missing"]),
        (Some("\n\n \r\n".to_owned()), None, 3, ["missing"; 3]),
    ];
    side_by_side(&cases, |(output, errors, code, expected)| {
        let (home, service) = (Home::new(), files(output.clone(), errors.clone()));
        let out = night(&home, &service);
        harmless(&out.stderr);
        out.code(*code);
        assert_eq!(ends(&home), *expected, "{output:?} {errors:?}");
        // Once more, from what is here: the same bytes, the same end.
        let (first, asked) = (home.read("out.jsonl"), service.requests().len());
        home.at(&service.url, &["fetch", "last", "-o", "again.jsonl"]).code(*code);
        assert_eq!((home.read("again.jsonl"), service.requests().len()), (first, asked));
    });
}

#[test]
fn hostile_file_ids_are_never_requested() {
    let long = "f".repeat(10_000);
    let ids = ["../../etc/x", "/etc/passwd", "a/../b", "a?b", "a%2fb", "..", "a\r\nx: y", "\u{1b}[2J", &long];
    side_by_side(&ids, |id| {
        let shown = (*id).to_owned();
        let service = service(move |line, _| {
            let mut job = batch("COMPLETED");
            job["output_file_id"] = json!(shown);
            (line == format!("GET /v1/batches/{ID}")).then_some(("200 OK", job))
        });
        let home = Home::new();
        let out = night(&home, &service);
        harmless(&out.stderr);
        // As if it had not been named.
        out.code(3).says(&["not a valid file id"]);
        assert_eq!(ends(&home), ["missing"; 3], "{id:.20}");
        assert!(service.requests().iter().all(|request| !request.head.contains("etc") && !request.head.contains("..")));
        let asked = service.requests().iter().filter(|r| r.head.contains("/content ")).count();
        assert_eq!(asked, 0, "{id:.20}");
    });
}

#[test]
fn file_of_another_batch_answers_no_row() {
    let (home, service, out) = with(&answers(&["x1", "x2", "x3"]));
    out.code(76).says(&["not in the batch"]);
    assert_eq!(ends(&home), ["missing"; 3]);
    home.at(&service.url, &["fetch", "last", "-o", "again.jsonl"]).code(76);
    assert_eq!(home.read("again.jsonl.partial"), home.read("out.jsonl.partial"));
}

#[test]
fn batch_fields_cannot_control_the_terminal() {
    for progress in [json!(-5), json!(1e300), json!("\u{1b}[2J"), json!({"a": 1})] {
        let service = service(move |line, before| {
            let evil = "\u{1b}]0;x\u{7}\u{9b}2J\u{202e}\r\n../";
            let mut job = batch(if before > 0 { "COMPLETED" } else { evil });
            for name in ["created_at", "completed_at", "job_deadline", "model_id", "endpoint", "error"] {
                job[name] = json!(evil);
            }
            job["progress"] = progress.clone();
            job["file_size_bytes"] = json!(-1);
            (line == format!("GET /v1/batches/{ID}")).then_some(("200 OK", job))
        });
        let home = Home::new();
        let out = night(&home, &service);
        harmless(&out.stderr);
        out.code(0);
        assert_eq!(ends(&home), ["ok"; 3]);
        for command in [&["status"][..], &["status", "last"], &["status", "--remote"], &["report", "last"]] {
            let out = home.at(&service.url, command);
            harmless(&(out.stdout.clone() + &out.stderr));
            out.code(0);
        }
    }
}

#[test]
fn nan_around_a_complete_choice_does_not_lose_it() {
    let body = Recorder::chat("\"NaN is a word\"");
    let odd = body.replacen('{', "{\"logprob\":NaN,\"seed\":-Infinity,", 1);
    let (home, _service, out) = with(&(line("q1", &odd) + &answers(&["q2", "q3"])));
    out.code(0);
    let seen = rows(&home.read("out.jsonl"));
    let text = &seen[0].line["response"]["body"];
    assert_eq!(text["choices"][0]["message"]["content"], "NaN is a word");
    assert!(
        text["logprob"].is_null() && text["seed"].is_null() && text["usage"]["prompt_tokens"].is_number(),
        "{text}"
    );
    assert_eq!(ends(&home), ["ok"; 3]);
}

#[test]
fn answer_nested_too_deep_for_other_readers_is_a_bad_response() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let body = Recorder::chat("\"deep\"").replacen('{', &format!("{{\"logprobs\":{deep},"), 1);
    let wrong =
        format!("{{\"custom_id\":\"q2\",\"response\":{{\"status_code\":500,\"body\":{{\"error\":{deep}}}}}}}\n");
    let (home, _service, out) = with(&(line("q1", &body) + &wrong + &answers(&["q3"])));
    out.code(3).says(&["nested too deep"]);
    assert_eq!(ends(&home), ["bad_response", "server_error", "ok"]);
    assert!(home.read("out.jsonl").lines().all(|line| line.len() < 2_000));
}

#[test]
fn refused_row_of_a_batch_is_that_rows_error() {
    for (status, code) in [(403, "auth"), (402, "payment"), (451, "invalid_request")] {
        let error = r#"{"error":{"message":"the input was flagged"}}"#;
        let refused = format!(
            "{{\"custom_id\":\"q2\",\"response\":{{\"status_code\":{status},\"body\":{error}}},\"error\":null}}\n"
        );
        let (home, _service, out) = with(&(refused + &answers(&["q1", "q3"])));
        out.code(3);
        assert_eq!(ends(&home), ["ok", code, "ok"], "{status}");
        let message = rows(&home.read("out.jsonl"))[1].line["error"]["message"].to_string();
        assert!(message.contains("the input was flagged"), "{message}");
    }
}
