//! Answers that come as streams (`--stream`): the same results, and no more waiting for a slow answer than for a fast one.

use serde_json::{Value, json};

use crate::support::{Home, MODEL, Recorder, Server, questions, raw_codes};

/// Requests of every form: their endpoint, and the members of their body beside the model.
fn requests() -> Vec<(&'static str, Value)> {
    let chat = |extra: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "What is a lamp? get_time get_weather"}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ("chat", body)
    };
    let city = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let tools = json!([
        {"type": "function", "function": {"name": "get_weather", "parameters": city}},
        {"type": "function", "function": {"name": "get_time"}},
    ]);
    let completion =
        |extra: &str| ("completions", serde_json::from_str(&format!("{{\"prompt\": \"once\"{extra}}}")).unwrap());
    vec![
        chat(json!({})),
        chat(json!({"n": 3})),
        chat(json!({"max_tokens": 3})),
        chat(json!({"response_format": {"type": "json_object"}})),
        chat(json!({"tools": tools})),
        chat(json!({"tools": tools, "n": 2, "max_tokens": 4})),
        chat(json!({"logprobs": true, "top_logprobs": 2, "n": 2})),
        chat(json!({"logprobs": 0})),
        chat(json!({"logprobs": 2})),
        chat(json!({"reasoning": {"enabled": true}})),
        chat(json!({"reasoning_effort": "high", "max_tokens": 9})),
        completion(""),
        completion(", \"n\": 2"),
        completion(", \"logprobs\": 0"),
        completion(", \"logprobs\": 1, \"n\": 2"),
    ]
}

#[test]
fn streamed_results_are_those_of_whole_answers_byte_for_byte() {
    for dialect in ["together", "openai"] {
        let server = Server::start(&["--dialect", dialect]);
        for endpoint in ["chat", "completions"] {
            let home = Home::new();
            let bodies = requests().into_iter().filter(|(own, _)| *own == endpoint).map(|(_, body)| body);
            let rows = bodies.enumerate().map(|(nth, body)| {
                let mut row = json!({"custom_id": format!("r{nth}"), "body": body});
                row["body"]["model"] = MODEL.into();
                format!("{row}\n")
            });
            let rows: Vec<String> = rows.collect();
            home.write("in.jsonl", rows.concat());
            let usual = ["in.jsonl", "--endpoint", endpoint, "--fresh"];
            home.run(&server, &[&usual[..], &["-o", "whole.jsonl"]].concat()).code(0);
            let streamed = ["-o", "streamed.jsonl", "--stream", "--summary", "s.json"];
            home.run(&server, &[&usual[..], &streamed].concat()).code(0);
            assert!(home.json("s.json")["first_token_ms"]["p50"].is_u64(), "they came as streams");
            let (whole, streamed) = (home.read("whole.jsonl"), home.read("streamed.jsonl"));
            for ((row, whole), streamed) in rows.iter().zip(whole.lines()).zip(streamed.lines()) {
                assert_eq!(streamed, whole, "{dialect}: {row}");
            }
            assert_eq!(streamed, whole, "{dialect}");
        }
    }
}

#[test]
fn first_tokens_and_speed_are_kept_with_the_rows() {
    let home = Home::new();
    home.write("in.jsonl", questions(1..=4));
    let run = |args: &[&str]| {
        let usual = ["run", "in.jsonl", "--sandbox", "-m", MODEL, "--stream", "--timing", "--summary", "s.json"];
        let mut command = home.command(&[&usual[..], args].concat());
        command.env("LLBATCH_SANDBOX", "fault=first-token=40ms,chunk-delay=4ms");
        home.finish(command).code(0)
    };
    let out = run(&["-o", "out.csv"]);
    assert!(out.stderr.contains("  1st token p50 ") && out.stderr.contains("  output    p50 "), "{}", out.stderr);
    let summary = home.json("s.json");
    let first = summary["first_token_ms"].clone();
    assert!((40..5_000).contains(&first["p50"].as_u64().unwrap()), "{summary}");
    assert!(summary["latency_ms"]["p50"].as_u64() > first["p50"].as_u64());
    assert!(summary["tokens_per_s"]["p99"].as_f64().unwrap() > 0.0, "{summary}");
    let table = home.read("out.csv");
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let mut at = |name: &str| rows.headers().unwrap().iter().position(|column| column == name).unwrap();
    let (first_column, speed_column) = (at("first_token_ms"), at("tokens_per_s"));
    assert_eq!(at("error") + 1, first_column);
    for row in rows.records().map(Result::unwrap) {
        assert!(row[first_column].parse::<u32>().unwrap() >= 40);
        assert!(row[speed_column].parse::<f64>().unwrap() > 0.0);
    }
    // A resumed run, a report of the job and one of its results know them.
    run(&["-o", "again.csv", "--resume"]);
    assert_eq!((home.json("s.json")["first_token_ms"].clone(), home.read("again.csv")), (first.clone(), table));
    for source in ["last", "out.csv"] {
        let report: Value = serde_json::from_str(&home.llbatch(&["report", source, "--json"]).code(0).stdout).unwrap();
        assert_eq!(
            (&report["first_token_ms"], &report["tokens_per_s"]),
            (&first, &summary["tokens_per_s"]),
            "{source}"
        );
    }
    let shown = home.llbatch(&["report", "last", "--html", "page.html"]).code(0).stdout;
    assert!(
        shown.contains("  1st token p50 ") && home.read("page.html").contains("<p class=\"label\">first token</p>")
    );
}

#[test]
fn a_stream_is_asked_for_and_resumes_without_one() {
    let recorder = Recorder::answering(|_| {
        let chunk = |rest: &str| format!("data: {{\"choices\":[{{\"index\":0,{rest}}}]}}\n\n");
        let body = [chunk(r#""delta":{"content":"hi"}"#), chunk(r#""delta":{},"finish_reason":"stop""#)].concat();
        ("200 OK", "content-type: text/event-stream\r\n".to_owned(), body + "data: [DONE]\n\n")
    });
    let home = Home::new();
    home.write("in.jsonl", questions(1..=2));
    let run = ["in.jsonl", "-m", MODEL, "-o", "out.jsonl"];
    home.finish(home.run_command(&recorder.url, &[&run[..], &["--stream"]].concat())).code(0);
    assert_eq!(raw_codes(&home.read("out.jsonl")), ["ok"; 2]);
    for body in recorder.bodies() {
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["stream"], &body["stream_options"]["include_usage"]), (&true.into(), &true.into()));
    }
    // The stream is no part of the request: the answers are reused.
    home.finish(home.run_command(&recorder.url, &[&run[..], &["--resume"]].concat())).code(0);
    assert_eq!(recorder.count("POST"), 2);
}

#[test]
fn broken_streams_fail_their_row_and_count_as_at_risk() {
    for (fault, code) in
        [("no-finish", "bad_response"), ("truncate,on=stream", "bad_response"), ("stall,on=stream", "timeout")]
    {
        let home = Home::new();
        home.write("in.jsonl", questions(1..=1));
        let args = ["run", "in.jsonl", "--sandbox", "-m", MODEL, "-o", "out.jsonl", "--summary", "s.json"];
        let stream = ["--stream", "--retries", "0", "--first-token-timeout", "2s", "--stall-timeout", "1s"];
        let script = format!("fault={fault},times=always");
        let mut command = home.command(&[&args[..], &stream].concat());
        command.env("LLBATCH_SANDBOX", script);
        home.finish(command).code(3);
        assert_eq!(raw_codes(&home.read("out.jsonl")), [code], "{fault}");
        let risk = home.json("s.json")["cost"]["at_risk_usd"].as_f64().unwrap();
        assert!(risk > 0.0, "{fault}");
    }
}

#[test]
fn error_under_a_200_is_the_rows_own_and_final_as_under_its_own_status() {
    for (code, expected) in [("context_length_exceeded", "context_length"), ("model_not_found", "not_found")] {
        for streams in [false, true] {
            let recorder = Recorder::answering(move |_| {
                let error = format!(r#"{{"error":{{"message":"no","type":"invalid_request_error","code":"{code}"}}}}"#);
                let kind = if streams { "content-type: text/event-stream\r\n" } else { "" };
                let body = if streams { format!("data: {error}\n\ndata: [DONE]\n\n") } else { error };
                ("200 OK", kind.to_owned(), body)
            });
            let home = Home::new();
            home.write("in.jsonl", questions(1..=1));
            let args = ["in.jsonl", "-m", MODEL, "-o", "out.jsonl", "--stream"];
            home.finish(home.run_command(&recorder.url, &args[..if streams { 6 } else { 5 }])).code(3);
            assert_eq!(raw_codes(&home.read("out.jsonl")), [expected], "{code}");
            assert_eq!(recorder.count("POST"), 1, "{code}: it is not sent again");
        }
    }
}

#[test]
fn late_streams_name_the_limits_of_streams() {
    let home = Home::new();
    home.write("in.jsonl", questions(1..=1));
    let args = ["run", "in.jsonl", "--sandbox", "-m", MODEL, "-o", "out.jsonl", "--retries", "0"];
    let mut command = home.command(&[&args[..], &["--stream", "--stall-timeout", "1s"]].concat());
    command.env("LLBATCH_SANDBOX", "fault=stall,on=stream,times=always");
    let out = home.finish(command).code(3).says(&["a lower --concurrency, or longer --first-token-timeout"]);
    assert!(!out.stderr.contains("--request-timeout"), "{}", out.stderr);
}
