//! The summary: its shape, its costs, its text.

use serde_json::Value;

use crate::support::{Home, MODEL, Recorder, Server, prompts, questions, rows};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn summary_has_the_members_of_the_contract() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=4).replace("question 2", "[[sandbox:status=400]]"));
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--json"]).code(3);
    let summary = home.json("s.json");
    for name in [
        "version",
        "job",
        "transport",
        "state",
        "rows",
        "tokens",
        "cost",
        "models",
        "latency_ms",
        "duration_s",
        "http",
        "errors",
        "exit",
    ] {
        assert!(summary.get(name).is_some(), "{name} is missing: {summary}");
    }
    assert_eq!(
        keys(&summary["rows"]),
        ["total", "succeeded", "failed", "pending", "truncated", "truncated_empty", "fenced", "reused"]
    );
    assert_eq!(keys(&summary["tokens"]), ["prompt", "completion", "total", "cached", "reasoning"]);
    for name in ["usd", "realtime_usd", "saved_usd", "estimated", "upper_bound", "cache_saved_usd", "unpriced_models"] {
        assert!(summary["cost"].get(name).is_some(), "cost.{name} is missing: {summary}");
    }
    assert_eq!(keys(&summary["models"][0]), ["model", "rows", "tokens", "usd", "via"]);
    assert_eq!(keys(&summary["latency_ms"]), ["p50", "p90", "p99", "max"]);
    assert_eq!(keys(&summary["http"]), ["sent", "retried", "rate_limited"]);
    assert_eq!(keys(&summary["errors"][0]), ["code", "count", "example"]);
    assert_eq!(keys(&summary["exit"]), ["code", "reason", "next"]);
    assert_eq!((&summary["version"], &summary["transport"]), (&1.into(), &"realtime".into()));
    assert_eq!((&summary["state"], &summary["exit"]["code"]), (&"partial".into(), &3.into()));
    assert!(summary["job"].as_str().unwrap().starts_with("j-"));
    assert_eq!(summary["job"].as_str().unwrap().len(), 10);
    assert!(summary["errors"][0]["example"].as_str().unwrap().contains("q2"));
    // --json prints the same document, and nothing else, on stdout; people are spared their table.
    assert_eq!(serde_json::from_str::<Value>(&out.stdout).unwrap(), summary);
}

#[test]
fn cut_off_answers_are_counted_as_the_report_counts_them() {
    let home = Home::new();
    let recorder = Recorder::answering(|request| {
        let reasoning = r#""reasoning":"hm","content":null"#;
        let (message, reason) = match () {
            () if request.body.contains("question 1\"") => (reasoning, "length"),
            () if request.body.contains("question 2\"") => (r#""content":"""#, "length"),
            () if request.body.contains("question 3\"") => (r#""content":"{\"a\": ""#, "length"),
            () => (r#""content":"\"length\"""#, "stop"),
        };
        let choice = format!(r#"{{"message":{{{message}}},"finish_reason":"{reason}"}}"#);
        (
            "200 OK",
            String::new(),
            format!(r#"{{"choices":[{choice}],"usage":{{"prompt_tokens":9,"completion_tokens":9}}}}"#),
        )
    });
    let counts = |rows: &Value| (rows["truncated"].as_u64(), rows["truncated_empty"].as_u64());
    let expected = (Some(3), Some(2));
    home.write("in.jsonl", prompts(1..=5));
    let files = ["-o", "out.jsonl", "--summary", "s.json"];
    let line = "  truncated 3 of 5 cut off by max_tokens, 2 of them empty\n";
    home.finish(home.run_command(&recorder.url, &[&["in.jsonl"], &files[..]].concat())).code(0).says(&[line]);
    assert_eq!(counts(&home.json("s.json")["rows"]), expected);
    // A command that reads all answers back says the same.
    home.at(&recorder.url, &[&["fetch", "last"], &files[..]].concat()).code(0).says(&[line]);
    assert_eq!(counts(&home.json("s.json")["rows"]), expected);
    for source in ["last", "out.jsonl"] {
        let report: Value = serde_json::from_str(&home.llbatch(&["report", source, "--json"]).code(0).stdout).unwrap();
        assert_eq!(
            (counts(&report["rows"]), &report["details"]["truncated"]["count"]),
            (expected, &3.into()),
            "{source}"
        );
    }
    let table = home.llbatch(&["report", "last"]).code(0).stdout;
    assert!(table.contains(line) && table.contains("  cut off   q1, q2, q3\n"), "{table}");
}

#[test]
fn cut_off_answers_of_a_batch_are_counted() {
    let home = Home::new();
    let server = Server::quick(&[]);
    // The sandbox's sentences are longer than 3 tokens.
    home.write("in.jsonl", prompts(1..=3).replace(r#""max_tokens":16"#, r#""max_tokens":3"#));
    let submit = ["submit", "in.jsonl", "--wait", "--poll", "50ms", "--summary", "s.json", "-o", "out.jsonl"];
    home.at(&server.url, &submit).code(0).says(&["  truncated 3 of 3 cut off by max_tokens\n"]);
    assert_eq!(home.json("s.json")["rows"]["truncated"], 3);
}

#[test]
fn json_and_results_do_not_share_stdout() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    home.run(&server, &["in.jsonl", "--json"]).code(2).says(&["-o", "--summary"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn cost_is_usage_times_price_to_the_last_digit() {
    let home = Home::new();
    // 1,010 tokens an answer at $0.06 a million: 60.6 millionths of a dollar.
    let recorder = Recorder::start();
    home.write("in.jsonl", questions(1..=7));
    let args = ["in.jsonl", "-m", MODEL, "-o", "out.csv", "--summary", "s.json", "--concurrency", "4"];
    let out = home.finish(home.run_command(&recorder.url, &args)).code(0);
    let text = home.read("s.json");
    assert!(text.contains("\"usd\": 0.0004242,"), "{text}");
    let summary = home.json("s.json");
    let tokens = serde_json::json!({"prompt": 7000, "completion": 70, "total": 7070, "cached": 0, "reasoning": 0});
    assert_eq!(summary["tokens"], tokens);
    assert_eq!(summary["cost"]["estimated"], false);
    assert_eq!(summary["cost"]["saved_usd"], 0);
    assert_eq!(summary["cost"]["unpriced_models"], serde_json::json!([]));
    let (header, rows) = crate::support::csv_rows(&home.read("out.csv"), b',');
    let at = header.iter().position(|name| name == "cost_usd").unwrap();
    assert!(rows.iter().all(|row| row[at] == "0.0000606"), "{rows:?}");
    assert!(out.stderr.contains("$0.00042"), "{}", out.stderr);
}

#[test]
fn summary_tokens_equal_the_servers_count() {
    let home = Home::new();
    let server = Server::start(&["--fault", "empty-choices,times=1,contains=question 3"]);
    home.write("in.jsonl", prompts(1..=5));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "2"]).code(0);
    let (summary, bill) = (home.json("s.json"), server.stats()["bill"].clone());
    // An answer that was paid for and thrown away counts.
    assert_eq!(bill["requests"], 6);
    assert_eq!(summary["tokens"]["prompt"], bill["prompt_tokens"]);
    assert_eq!(summary["tokens"]["completion"], bill["completion_tokens"]);
    let total = summary["tokens"]["total"].as_f64().unwrap();
    let usd = format!("{:.8}", total * 0.06e-6);
    let usd = format!("\"usd\": {},", usd.trim_end_matches('0'));
    assert!(home.read("s.json").contains(&usd), "{usd} is not in {summary}");
}

#[test]
fn unknown_price_is_shown_as_unknown_never_as_zero() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", questions(1..=2));
    let args = ["in.jsonl", "-m", "acme/unheard-of", "-o", "out.csv", "--summary", "s.json"];
    let out = home.run(&server, &args).code(0);
    let summary = home.json("s.json");
    assert!(summary["cost"]["usd"].is_null(), "{summary}");
    assert!(summary["models"][0]["usd"].is_null(), "{summary}");
    assert_eq!(summary["cost"]["unpriced_models"], serde_json::json!(["acme/unheard-of"]));
    assert!(out.stderr.contains("unknown"), "{}", out.stderr);
    let (header, rows) = crate::support::csv_rows(&home.read("out.csv"), b',');
    let at = header.iter().position(|name| name == "cost_usd").unwrap();
    assert_eq!(rows[0][at], "");
    let jobs: Value = serde_json::from_str(&home.llbatch(&["status", "--json"]).code(0).stdout).unwrap();
    assert!(jobs["jobs"][0]["cost"]["usd"].is_null(), "{jobs}");

    // The config file may know it.
    home.write("config.toml", "[models.\"acme/unheard-of\"]\ninput = 1\noutput = 2.5\n");
    home.run(&server, &[&args[..], &["--config", "config.toml"]].concat()).code(0);
    let summary = home.json("s.json");
    let tokens = |name: &str| summary["tokens"][name].as_f64().unwrap();
    let usd = tokens("prompt") * 1e-6 + tokens("completion") * 2.5e-6;
    assert!((summary["cost"]["usd"].as_f64().unwrap() - usd).abs() < 1e-12, "{summary}");
}

#[test]
fn answer_without_usage_makes_the_cost_an_estimate() {
    let home = Home::new();
    let server = Server::start(&["--fault", "no-usage,contains=question 2"]);
    home.write("in.jsonl", prompts(1..=2));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json"]).code(0);
    let summary = home.json("s.json");
    assert_eq!(rows(&home.read("out.jsonl")).iter().filter(|row| row.code.is_none()).count(), 2);
    assert_eq!(summary["cost"]["estimated"], true, "{summary}");
    assert_eq!(summary["cost"]["unpriced_models"], serde_json::json!([]), "the price is known, the usage is not");
}

#[test]
fn summary_table_fits_eighty_columns() {
    let home = Home::new();
    let server = Server::start(&[]);
    let long = format!("acme/{}", "a-very-long-name-of-a-model-".repeat(5));
    let more = prompts(1..=3).replace("question 2", "[[sandbox:status=400]]");
    let unpriced = prompts(4..=5).replace(MODEL, &long);
    home.write("in.jsonl", more + &unpriced);
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "4"]).code(3);
    let at = out.stderr.find("  rows ").unwrap_or_else(|| panic!("no table:\n{}", out.stderr));
    for line in out.stderr[at..].lines().take_while(|line| line.starts_with("  ")) {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    let quiet = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "-q", "--fresh"]).code(3);
    assert!(!quiet.stderr.contains("  rows "), "{}", quiet.stderr);
    let lines: Vec<&str> = quiet.stderr.lines().filter(|line| !line.starts_with("warning: ")).collect();
    assert_eq!(lines.len(), 1, "a failure is said in one line: {}", quiet.stderr);
    assert!(lines[0].starts_with("✗ 4 of 5 answered (1 failed) in "), "{}", lines[0]);
}

#[test]
fn last_line_says_how_it_ended_and_names_every_file() {
    let home = Home::new();
    let server = Server::quick(&[]);
    home.write("in.jsonl", prompts(1..=3).replace("question 2", "[[sandbox:status=400]]"));
    let files = ["-o", "out.jsonl", "--errors", "bad.jsonl", "--summary", "s.json"];
    let last = |out: &crate::support::Out| out.stderr.lines().last().unwrap().to_owned();
    let out = home.run(&server, &[&["in.jsonl"], &files[..]].concat()).code(3);
    let line = last(&out);
    assert!(line.starts_with("✗ 2 of 3 answered (1 failed) in "), "{line}");
    assert!(line.ends_with(" for $0.000003 → out.jsonl, bad.jsonl, s.json"), "{line}");
    // The opening line names the job and its model; nothing repeats them.
    let job = home.json("s.json")["job"].as_str().unwrap().to_owned();
    for once in [job.as_str(), MODEL] {
        assert_eq!(out.stderr.matches(once).count(), 1, "{once}:\n{}", out.stderr);
    }
    home.write("in.jsonl", prompts(1..=3));
    let submit = ["submit", "in.jsonl", "--wait", "--poll", "50ms"];
    let out = home.at(&server.url, &[&submit[..], &files].concat()).code(0);
    let line = last(&out);
    assert!(line.starts_with("✓ 3 of 3 answered in "), "{line}");
    assert!(line.ends_with(" → out.jsonl, bad.jsonl, s.json"), "{line}");
    assert!(!out.stderr.contains("too high"), "nobody asked for an estimate:\n{}", out.stderr);
    let line = last(&home.at(&server.url, &["fetch", "last", "-o", "fetched.csv"]).code(0));
    assert!(line.ends_with(" → fetched.csv"), "{line}");
    let out = home.llbatch(&["report", "out.jsonl", "--html", "page.html", "--summary", "r.json"]).code(0);
    assert_eq!(last(&out), "✓ report → page.html, r.json");
}

#[test]
fn server_text_is_escaped_in_the_summary() {
    let home = Home::new();
    let body = serde_json::json!({"error": {"message": "no \u{1b}[2J\u{1b}]0;title\u{7} \u{202e}txet"}}).to_string();
    let recorder = Recorder::answering(move |_| ("400 Bad Request", String::new(), body.clone()));
    home.write("in.jsonl", prompts(1..=1));
    // Colour is what a terminal would have; the file keeps the bytes.
    let args = ["in.jsonl", "-o", "out.jsonl", "--color", "always"];
    home.finish(home.run_command(&recorder.url, &args)).code(3);
    let message = rows(&home.read("out.jsonl"))[0].line["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("\u{1b}[2J"), "{message:?}");
}
