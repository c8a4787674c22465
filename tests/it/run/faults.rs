//! Errors of the service: each becomes an error code of its row, or passes with a retry.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Home, KEY, MODEL, Recorder, Server, answered, codes, lines, prompts, rows};

/// A row that asks the sandbox for `fault`; its id is the fault.
fn row(fault: &str) -> String {
    format!(r#"{{"id":"{fault}","prompt":"[[sandbox:{fault}]]","model":"{MODEL}","max_tokens":16}}"#)
}

fn http(home: &Home) -> [u64; 3] {
    let http = &home.json("s.json")["http"];
    ["sent", "retried", "rate_limited"].map(|name| http[name].as_u64().unwrap())
}

#[test]
fn refused_request_is_never_sent_again() {
    let home = Home::new();
    let server = Server::start(&[]);
    let cases = [
        ("status=400", 400, "invalid_request"),
        ("status=403", 403, "context_length"),
        ("status=404", 404, "not_found"),
        ("status=413", 413, "invalid_request"),
        ("status=422", 422, "invalid_request"),
        ("status=400,shape=object", 400, "invalid_request"),
        ("status=422,shape=html", 422, "invalid_request"),
        ("status=400,shape=empty", 400, "invalid_request"),
    ];
    let mut all: Vec<String> = cases.iter().map(|(fault, ..)| row(fault)).collect();
    all.push(r#"{"id":"long","prompt":"x","model":"sandbox/tiny-context","max_tokens":9999}"#.to_owned());
    all.push(format!(r#"{{"id":"good","prompt":"x","model":"{MODEL}"}}"#));
    home.write("in.jsonl", all.join("\n"));
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "4"]).code(3);
    let results = rows(&home.read("out.jsonl"));
    for ((fault, status, code), row) in cases.iter().zip(&results) {
        assert_eq!((row.id.as_str(), row.code.as_deref()), (*fault, Some(*code)));
        let message = row.line["error"]["message"].as_str().unwrap();
        assert!(message.contains(&status.to_string()), "{message}");
        if !fault.contains("html") && !fault.contains("empty") {
            assert_eq!(row.line["response"]["status_code"], *status, "the last response is kept: {}", row.line);
        }
    }
    assert_eq!(results[8].code.as_deref(), Some("context_length"));
    assert_eq!(results[9].code, None);
    assert_eq!(http(&home), [10, 0, 0]);
    let summary = home.json("s.json");
    assert_eq!(
        summary["rows"],
        serde_json::json!({"total": 10, "succeeded": 1, "failed": 9, "pending": 0, "truncated": 0, "truncated_empty": 0, "fenced": 0, "reused": 0})
    );
    assert_eq!(summary["exit"]["code"], 3);
    let errors = summary["errors"].as_array().unwrap();
    let counts: Vec<_> = errors.iter().map(|e| (e["code"].as_str().unwrap(), e["count"].as_u64().unwrap())).collect();
    assert_eq!(counts, [("invalid_request", 6), ("context_length", 2), ("not_found", 1)]);
    assert!(out.stderr.contains("invalid_request"), "people see it as well:\n{}", out.stderr);
}

#[test]
fn reserved_tokens_of_a_refused_row_are_released() {
    let home = Home::new();
    let server = Server::start(&["--fault", "status=400,contains=question,times=always"]);
    // Each sets aside what takes minutes to grow again at 100 tokens a second.
    let long = |n: u32| format!(r#"{{"id":"r{n}","prompt":"question {n}","model":"{MODEL}","max_tokens":100000}}"#);
    home.write("in.jsonl", (1..=4).map(long).collect::<Vec<_>>().join("\n"));
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--tpm", "6000", "--deadline", "20s"]).code(3);
    let found = codes(&home.read("out.jsonl"));
    assert!(found.len() == 4 && found.iter().all(|(_, code)| code == "invalid_request"), "{found:?}\n{}", out.stderr);
}

#[test]
fn permanent_failure_keeps_its_code_and_message() {
    let home = Home::new();
    let server = Server::start(&[]);
    let cases = [
        ("status=500", "server_error"),
        ("status=502", "server_error"),
        ("status=520", "server_error"),
        ("status=504", "server_error"),
        ("status=500,shape=html", "server_error"),
        ("reset", "network"),
        ("close", "network"),
        ("reset-late", "bad_response"),
        ("truncate", "bad_response"),
        ("short", "bad_response"),
        ("html", "bad_response"),
        ("empty-body", "bad_response"),
        ("empty-choices", "bad_response"),
        ("wrong-shape", "bad_response"),
        ("null-content", "truncated"),
        ("bad-gzip", "bad_response"),
    ];
    let all: Vec<String> = cases.iter().map(|(fault, _)| row(fault)).collect();
    home.write("in.jsonl", all.join("\n"));
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "1", "--retries", "0"];
    home.run(&server, &args).code(3);
    let expected: Vec<_> = cases.iter().map(|(fault, code)| ((*fault).to_owned(), (*code).to_owned())).collect();
    let results = home.read("out.jsonl");
    // A connection that broke in the middle of an answer may be called either.
    let same = |code: String| if code == "network" { "bad_response".to_owned() } else { code };
    let broken = ["reset-late", "truncate"];
    let seen = codes(&results).into_iter().map(|(id, code)| {
        let code = if broken.contains(&id.as_str()) { same(code) } else { code };
        (id, code)
    });
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    for row in rows(&results) {
        assert!(row.line["error"]["message"].as_str().unwrap().len() > 10, "{}", row.line);
    }
    assert_eq!(http(&home), [16, 0, 0]);
    // Answers that were paid for and thrown away are counted, at least where they say what they cost.
    let cost = &home.json("s.json")["cost"];
    assert!(cost["usd"].as_f64().unwrap() > 0.0, "{cost}");
    assert!(cost["at_risk_usd"].as_f64().unwrap() > 0.0, "{cost}");
}

#[test]
fn transient_failure_is_retried_and_counted() {
    for fault in ["status=500", "reset", "truncate", "html", "empty-choices", "bad-gzip", "status=503"] {
        let home = Home::new();
        let server = Server::start(&["--fault", &format!("{fault},times=1,contains=question 2")]);
        home.write("in.jsonl", prompts(1..=3));
        let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "4"];
        home.run(&server, &args).code(0);
        answered(&home.read("out.jsonl"), 1..=3);
        assert_eq!(http(&home), [4, 1, 0], "{fault}");
    }
}

#[test]
fn ambiguous_failure_is_retried_at_most_three_times() {
    let home = Home::new();
    let server = Server::start(&["--fault", "status=500,after"]);
    home.write("in.jsonl", prompts(1..=1));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--retries", "9"]).code(3);
    assert_eq!(codes(&home.read("out.jsonl")), [("q1".to_owned(), "server_error".to_owned())]);
    assert_eq!(server.bill(), 4);
    let server = Server::start(&["--fault", "status=500"]);
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--retries", "1"]).code(3);
    assert_eq!(server.requests(), 2, "--retries bounds it further");
}

#[test]
fn any_429_is_waited_for_and_costs_no_retry() {
    for (hint, wait) in [
        ("retry-after=1", 1000),
        ("retry-after=0.4", 400),
        ("retry-after-ms=600", 600),
        ("reset-after=1", 1000),
        // A date has whole seconds: a little under two to three of them remain.
        ("retry-after-date=3", 1900),
    ] {
        let home = Home::new();
        let server = Server::start(&["--fault", &format!("status=429,{hint},nth=1")]);
        home.write("in.jsonl", prompts(1..=3));
        let started = Instant::now();
        let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "1", "--retries", "0"];
        home.run(&server, &args).code(0);
        assert!(started.elapsed() >= Duration::from_millis(wait), "{hint}: after {:?}", started.elapsed());
        answered(&home.read("out.jsonl"), 1..=3);
        assert_eq!(http(&home), [4, 0, 1], "{hint}");
        let summary = home.json("s.json");
        assert_eq!(summary["cost"]["at_risk_usd"], 0, "refused is unpaid");
    }
}

#[test]
fn limit_without_a_hint_loses_no_row() {
    let home = Home::new();
    let server = Server::start(&["--rps", "20", "--burst", "2", "--retry-after", "none"]);
    home.write("in.jsonl", prompts(1..=40));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "8"]).code(0);
    answered(&home.read("out.jsonl"), 1..=40);
    let refused = server.stats()["refused"].as_u64().unwrap();
    assert!(refused > 0, "the limit was felt");
    assert_eq!(http(&home), [40 + refused, 0, refused]);
    assert_eq!(server.paid_again(), 0);
}

#[test]
fn server_without_capacity_is_waited_for() {
    let home = Home::new();
    let server = Server::start(&["--capacity", "2", "--latency", "20ms"]);
    home.write("in.jsonl", prompts(1..=12));
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "4", "--retries", "0"];
    home.run(&server, &args).code(0);
    answered(&home.read("out.jsonl"), 1..=12);
    assert_eq!(server.paid_again(), 0);
}

#[test]
fn server_that_queues_is_not_swamped() {
    let home = Home::new();
    let server = Server::start(&["--slots", "2", "--latency", "20ms"]);
    home.write("in.jsonl", prompts(1..=300));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json"]).code(0);
    answered(&home.read("out.jsonl"), 1..=300);
    assert_eq!(http(&home), [300, 0, 0]);
    let peak = server.stats()["peak_in_flight"].as_u64().unwrap();
    assert!((2..=64).contains(&peak), "{peak} in flight for two slots");
}

#[test]
fn requests_in_parallel_are_limited_without_slowing_down() {
    for concurrency in ["auto", "8"] {
        let home = Home::new();
        let server = Server::start(&["--parallel", "2", "--latency", "50ms"]);
        home.write("in.jsonl", prompts(1..=60));
        let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", concurrency];
        home.run(&server, &args).code(0);
        answered(&home.read("out.jsonl"), 1..=60);
        let [sent, _, refused] = http(&home);
        assert!(refused > 0 && refused <= 8 && sent == 60 + refused, "{concurrency}: {refused} refused of {sent}");
    }
}

#[test]
fn window_without_a_word_before_its_end_is_waited_for() {
    let home = Home::new();
    let server = Server::start(&["--window", "10/5s"]);
    home.write("in.jsonl", prompts(1..=25));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json"]).code(0);
    answered(&home.read("out.jsonl"), 1..=25);
    let [sent, _, refused] = http(&home);
    assert!(refused > 0 && refused <= 5 && sent == 25 + refused, "{refused} refused of {sent}");
}

#[test]
fn timeouts_end_with_words_that_name_the_concurrency() {
    let home = Home::new();
    let server = Server::start(&["--slots", "1", "--latency", "700ms"]);
    home.write("in.jsonl", prompts(1..=4));
    let args = ["in.jsonl", "-o", "out.jsonl", "--request-timeout", "1s", "--retries", "0", "--concurrency", "4"];
    let run = home.run(&server, &[&args[..], &["--summary", "s.json"]].concat());
    run.code(3);
    let reason = home.json("s.json")["exit"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("had no answer within 1s while up to 4 were in flight"), "{reason}");
    assert!(reason.contains("--concurrency"), "{reason}");
}

#[test]
fn hanging_request_ends_at_its_timeout() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", lines(&[&row("hang"), &row("stall"), &row("delay=10ms")]));
    let started = Instant::now();
    let args = ["in.jsonl", "-o", "out.jsonl", "--request-timeout", "1s", "--retries", "0", "--concurrency", "3"];
    home.run(&server, &args).code(3);
    assert!(started.elapsed() < Duration::from_secs(10));
    let seen: Vec<_> = codes(&home.read("out.jsonl")).into_iter().map(|(_, code)| code).collect();
    assert_eq!(seen, ["timeout", "timeout", "ok"]);
}

#[test]
fn key_repeated_by_the_service_is_stored_nowhere() {
    let home = Home::new();
    let server = Server::start(&["--fault", "echo-key,nth=1"]);
    home.write("in.jsonl", prompts(1..=8));
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "1", "-vv"];
    home.run(&server, &args).code(4);
    home.llbatch(&["status", "--json"]).code(0);
    home.llbatch(&["report", "last"]).code(0);
    assert_eq!(home.files_with(KEY), Vec::<String>::new(), "the key is in these files");

    // The same in an answer that only fails its row.
    let echo = |request: &crate::support::Recorded| {
        let line = request.head.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization"));
        let body = serde_json::json!({"error": {"message": format!("bad header: {}", line.unwrap())}});
        ("422 Unprocessable Entity", String::new(), body.to_string())
    };
    let recorder = Recorder::answering(echo);
    home.finish(home.run_command(&recorder.url, &["in.jsonl", "-o", "row.jsonl", "-vv"])).code(3);
    assert_eq!(home.files_with(KEY), Vec::<String>::new(), "the key is in these files");
}

#[test]
fn redirect_is_not_followed() {
    let home = Home::new();
    let other = Recorder::start();
    let target = format!("location: {}/chat/completions\r\n", other.url);
    let recorder = Recorder::answering(move |_| ("307 Temporary Redirect", target.clone(), "{}".to_owned()));
    home.write("in.jsonl", prompts(1..=1));
    home.finish(home.run_command(&recorder.url, &["in.jsonl", "-o", "out.jsonl", "--retries", "0"])).code(3);
    assert_eq!(codes(&home.read("out.jsonl"))[0].1, "bad_response");
    assert_eq!(other.bodies(), Vec::<String>::new(), "prompts went to another place");
}

#[test]
fn model_that_no_list_has_is_named_before_it_is_sent() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2) + &prompts(3..=9).replace(MODEL, "llama3.2"));
    let near =
        "no list of models has \"llama3.2\", so the service may refuse its rows; near names: meta-llama/Llama-3.2";
    let out = home.llbatch(&["check", "in.jsonl", "--sandbox"]).code(0);
    assert!(out.stdout.contains(near) && !out.stdout.contains(&format!("\"{MODEL}\"")), "{}", out.stdout);
    for command in [&["run", "in.jsonl", "-o", "out.jsonl"][..], &["submit", "in.jsonl"]] {
        let out = home.llbatch(&[command, &["--sandbox"]].concat());
        assert_eq!(out.stderr.matches(&format!("warning: {near}")).count(), 1, "{}", out.stderr);
    }
    // Of another service's models llbatch knows nothing until it has listed them.
    let recorder = Recorder::answering(|request| {
        let list = r#"[{"id":"local/one","object":"model"},{"id":"local/two","object":"model"}]"#;
        let body = if request.head.starts_with("GET") { list.to_owned() } else { Recorder::chat("\"ok\"") };
        ("200 OK", String::new(), body)
    });
    home.write("in.jsonl", prompts(1..=2).replace(MODEL, "local/one"));
    let check = || home.at(&recorder.url, &["check", "in.jsonl"]).code(0).stdout;
    assert!(!check().contains("no list"), "{}", check());
    let listed = home.at(&recorder.url, &["models", "local", "--refresh"]).code(0).stdout;
    assert!(listed.contains("local/two"), "{listed}");
    assert!(!check().contains("no list"), "{}", check());
    home.write("in.jsonl", prompts(1..=2).replace(MODEL, "local/three"));
    assert!(check().contains("no list of models has \"local/three\""), "{}", check());
}

#[test]
fn unserved_model_is_asked_for_only_a_few_times() {
    let home = Home::new();
    let server = Server::start(&[]);
    let good = prompts(1..=3);
    let none = prompts(4..=40).replace(MODEL, "x/no-such-model");
    home.write("in.jsonl", good + &none);
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "1"]).code(3);
    let codes = codes(&home.read("out.jsonl"));
    assert!(codes[..3].iter().all(|(_, code)| code == "ok"));
    assert!(codes[3..].iter().all(|(_, code)| code == "not_found"), "{codes:?}");
    assert_eq!(server.requests(), 3 + 5);
}

#[test]
fn rows_that_wait_are_not_sent_once_their_model_is_refused() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=600).replace(MODEL, "gpt-4o"));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(3);
    assert!(codes(&home.read("out.jsonl")).iter().all(|(_, code)| code == "not_found"));
    // Five that teach it, and those in flight at the time.
    assert!((5..=8).contains(&server.requests()), "{}", server.requests());
}

#[test]
fn compressed_answers_are_unpacked() {
    let home = Home::new();
    let server = Server::start(&["--gzip"]);
    home.write("in.jsonl", prompts(1..=5));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    answered(&home.read("out.jsonl"), 1..=5);
    let body: &Value = &rows(&home.read("out.jsonl"))[0].line["response"]["body"];
    assert_eq!(body["object"], "chat.completion");
}
