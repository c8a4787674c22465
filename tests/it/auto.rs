//! `submit --via auto`: each model goes where it costs less, and the results are one set.

use serde_json::Value;

use crate::support::{Home, Server};

const BATCHED: &str = "meta-llama/Llama-3.2-3B-Instruct-Turbo";
const REFUSED: &str = "deepseek-ai/DeepSeek-R1";
const FULL_PRICE: &str = "Qwen/Qwen2.5-7B-Instruct-Turbo";

fn rows() -> String {
    let row = |n: usize| {
        let model = [BATCHED, REFUSED, FULL_PRICE][n % 3];
        format!("{{\"id\":\"q{n}\",\"prompt\":\"question {n}\",\"model\":\"{model}\",\"max_tokens\":5}}\n")
    };
    (1..=12).map(row).collect::<Vec<_>>().concat()
}

#[test]
fn every_model_goes_where_it_costs_least() {
    let home = Home::new();
    let server = Server::start(&["--batch-validation", "0s", "--batch-run", "100ms"]);
    home.write("in.jsonl", rows());
    let args =
        ["submit", "in.jsonl", "--via", "auto", "--wait", "--poll", "50ms", "-o", "out.jsonl", "--summary", "s.json"];
    let out = home.llbatch(&[&args[..], &["--base-url", &server.url]].concat()).code(0);
    let whys = [
        (BATCHED, "batch", "a batch saves 50%"),
        (REFUSED, "realtime", "the batch API refuses this model"),
        (FULL_PRICE, "realtime", "a batch would cost the same"),
    ];
    for (model, via, why) in whys {
        let how = if via == "batch" { "in batches" } else { "in real time" };
        // Beforehand, and in the receipt.
        assert!(out.stderr.contains(&format!("{model}: 4 rows {how}: {why}")), "{}", out.stderr);
        assert!(out.stderr.contains(&format!("{via}: {why}")), "{}", out.stderr);
    }
    let ids: Vec<Value> = home
        .read("out.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["custom_id"].clone())
        .collect();
    assert_eq!(ids, (1..=12).map(|n| Value::from(format!("q{n}"))).collect::<Vec<_>>());
    let stats = server.stats();
    assert_eq!(stats["batches"]["created"], 1, "{stats}");
    assert_eq!(stats["batches"]["jobs"][0]["rows"], 4);
    assert_eq!((server.bill(), server.paid_again()), (12, 0));
    let summary = home.json("s.json");
    let with = |args: &[&str]| home.llbatch(&[args, &["--base-url", &server.url]].concat()).code(0);
    with(&["fetch", "last", "-o", "again.jsonl", "--summary", "again.json"]);
    with(&["report", "last", "--summary", "report.json"]);
    for receipt in ["s.json", "again.json", "report.json"] {
        let receipt = home.json(receipt);
        for (model, via, why) in whys {
            let line = receipt["models"].as_array().unwrap().iter().find(|m| m["model"] == model).unwrap();
            assert_eq!((&line["via"], &line["why"]), (&via.into(), &why.into()), "{receipt}");
        }
    }
    let report = with(&["report", "last"]).stdout;
    assert!(report.contains("via       ") && report.contains("realtime: the batch API refuses this model"), "{report}");
    assert_eq!((&summary["rows"]["succeeded"], &summary["http"]["sent"]), (&12.into(), &8.into()));
    let usd = |name: &str| summary["cost"][name].to_string().parse::<f64>().unwrap();
    let halved =
        summary["models"].as_array().unwrap().iter().find(|m| m["model"] == BATCHED).unwrap()["usd"].to_string();
    assert!(
        (usd("saved_usd") - halved.parse::<f64>().unwrap()).abs() < 1e-12,
        "half of what the batch would cost: {summary}"
    );
    assert!((usd("usd") + usd("saved_usd") - usd("realtime_usd")).abs() < 1e-12, "{summary}");
}

#[test]
fn without_wait_realtime_rows_are_answered_and_the_batch_continues() {
    let home = Home::new();
    let server = Server::start(&["--batch-validation", "0s", "--batch-run", "400ms"]);
    home.write("in.jsonl", rows());
    let with = |args: &[&str]| home.llbatch(&[args, &["--base-url", &server.url]].concat());
    let id = with(&["submit", "in.jsonl", "--via", "auto"]).code(0).stdout;
    let status: Value = serde_json::from_str(&with(&["status", "last", "--json", "--offline"]).code(0).stdout).unwrap();
    assert_eq!(status["jobs"][0]["rows"]["succeeded"], 8, "{status}");
    assert_eq!(status["jobs"][0]["state"], "running");
    // The expected total, not the payments so far.
    let table = with(&["status", "--offline"]).code(0).stdout;
    assert!(table.contains("~$"), "{table}");
    // The same command is the same job, and sends nothing again.
    assert_eq!(with(&["submit", "in.jsonl", "--via", "auto"]).code(0).stdout, id);
    // Rows that the batch will answer are not sent beside it.
    with(&["run", "--resume=last", "-o", "run.jsonl"]).code(75).says(&["batches"]);
    with(&["fetch", "last", "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(0);
    assert_eq!((home.read("out.jsonl").lines().count(), server.bill(), server.paid_again()), (12, 12, 0));
}

#[test]
fn dry_run_shows_the_transport_of_each_model() {
    let home = Home::new();
    let unknown = r#"{"id":"u","prompt":"?","model":"nobody/knows-this","max_tokens":5}"#;
    home.write("in.jsonl", rows() + unknown + "\n");
    let dry = ["submit", "in.jsonl", "--via", "auto", "--dry-run"];
    let text = home.llbatch(&dry).code(0).stdout;
    let json: Value = serde_json::from_str(&home.llbatch(&[&dry[..], &["--json"]].concat()).code(0).stdout).unwrap();
    let line = |model: &str| json["models"].as_array().unwrap().iter().find(|m| m["model"] == model).unwrap();
    for (model, via, how, why) in [
        (BATCHED, "batch", "in batches", "a batch saves 50%"),
        (REFUSED, "realtime", "in real time", "the batch API refuses this model"),
        (FULL_PRICE, "realtime", "in real time", "a batch would cost the same"),
    ] {
        assert!(text.contains(&format!("{model}: 4 rows {how}: {why}")), "{text}");
        assert_eq!((&line(model)["via"], &line(model)["why"]), (&via.into(), &why.into()));
    }
    assert!(text.contains("(4 rows in batches, 9 in real time)"), "{text}");
    let usd = |value: &Value| value.as_f64().unwrap();
    let cost = &json["cost"];
    let auto =
        usd(&line(BATCHED)["batch_usd"]) + usd(&line(REFUSED)["realtime_usd"]) + usd(&line(FULL_PRICE)["realtime_usd"]);
    assert!((usd(&cost["auto_usd"]["max"]) - auto).abs() < 1e-12, "{json}");
    // Totals are of what has a price; what has none is named.
    let all = auto + usd(&line(BATCHED)["realtime_usd"]) - usd(&line(BATCHED)["batch_usd"]);
    assert!((usd(&cost["realtime_usd"]["max"]) - all).abs() < 1e-12, "{json}");
    assert_eq!(json["batches"], 1, "only what goes into batches makes some: {json}");
    assert_eq!(cost["unpriced_models"], serde_json::json!(["nobody/knows-this"]));
    assert!(cost["set_aside_usd"]["realtime"].is_null(), "no bound without a part of it: {json}");
    // Without the flag nothing is divided.
    let plain: Value = serde_json::from_str(&home.llbatch(&["check", "in.jsonl", "--json"]).code(0).stdout).unwrap();
    assert!(plain["cost"].get("auto_usd").is_none() && plain["models"][0].get("via").is_none(), "{plain}");
}

#[test]
fn known_part_of_the_price_is_shown_and_report_repeats_the_duration() {
    let (home, server) = (Home::new(), Server::quick(&["--latency", "50ms"]));
    let unknown = r#"{"id":"u","prompt":"?","model":"nobody/knows-this","max_tokens":5}"#;
    home.write("in.jsonl", rows() + unknown + "\n");
    let with = |args: &[&str]| home.llbatch(&[args, &["--base-url", &server.url]].concat()).code(0);
    let args =
        ["submit", "in.jsonl", "--via", "auto", "--wait", "--poll", "50ms", "-o", "out.jsonl", "--summary", "s.json"];
    with(&args).says(&["about $0.000", "and the rows of 1 model without a known price (nobody/knows-this)"]);
    with(&["report", "last", "--summary", "report.json"]);
    let seconds = |name: &str| home.json(name)["duration_s"].as_f64().unwrap();
    assert!(seconds("s.json") > 0.1, "{}", seconds("s.json"));
    assert!((seconds("report.json") - seconds("s.json")).abs() < 1e-9, "{}", seconds("report.json"));
}

#[test]
fn dry_run_sends_nothing() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", rows());
    for command in ["run", "submit", "check"] {
        let dry: &[&str] = if command == "check" { &[] } else { &["--dry-run"] };
        let out = home.llbatch(&[&[command, "in.jsonl", "--base-url", &server.url], dry].concat()).code(0);
        assert!(out.stdout.contains("12 rows") && out.stdout.contains("batches save up to"), "{}", out.stdout);
    }
    assert_eq!(server.requests(), 0);
}
