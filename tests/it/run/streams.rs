//! Answers that come as streams (`--stream`): the same results, and no more waiting for a slow answer than for a fast one.

use serde_json::Value;

use crate::support::{Home, MODEL, Recorder, questions, raw_codes};

/// The lines of results, without what differs from run to run.
fn answers(home: &Home, name: &str) -> Vec<(Value, Value, Value)> {
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let mut body = line["response"]["body"].take();
        for choice in body["choices"].as_array_mut().unwrap() {
            // A stream without tool calls does not name them.
            choice["message"]
                .as_object_mut()
                .unwrap()
                .retain(|name, value| name != "tool_calls" || value[0].is_object());
        }
        (line["custom_id"].take(), body["choices"].clone(), body["usage"].clone())
    };
    home.read(name).lines().map(line).collect()
}

#[test]
fn streamed_results_are_those_of_whole_answers() {
    let home = Home::new();
    home.write("in.jsonl", questions(1..=10));
    for (name, extra) in [("plain", &[][..]), ("n", &["--set", "n=2"]), ("cut", &["--max-tokens", "3"])] {
        let usual = ["run", "in.jsonl", "--sandbox", "-m", MODEL, "--fresh"];
        let (whole, streamed) = (format!("{name}.jsonl"), format!("{name}-streamed.jsonl"));
        home.llbatch(&[&usual[..], extra, &["-o", &whole]].concat()).code(0);
        home.llbatch(&[&usual[..], extra, &["-o", &streamed, "--stream", "--summary", "s.json"]].concat()).code(0);
        assert_eq!(answers(&home, &whole), answers(&home, &streamed), "{name}");
        assert_eq!(home.json("s.json")["rows"]["succeeded"], 10, "{name}");
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
