//! A later price changes no past figure.

use serde_json::Value;

use super::TURBO;
use crate::support::{Home, Server};

/// Sets the price of the model, in USD per million tokens.
fn set_price(home: &Home, usd: u32) {
    let text = format!("[models.\"{TURBO}\"]\ninput = {usd}\noutput = {usd}\n");
    home.config(text);
}

fn document(home: &Home, args: &[&str]) -> Value {
    serde_json::from_str(&home.llbatch(args).code(0).stdout).unwrap()
}

/// The figures of the last job, and of all days, in every view of them.
fn figures(home: &Home) -> [Value; 4] {
    home.llbatch(&["fetch", "last", "-o", "again.jsonl", "--summary", "again.json"]).code(0);
    [
        document(home, &["report", "last", "--json"])["cost"]["usd"].clone(),
        home.json("again.json")["cost"]["usd"].clone(),
        document(home, &["status", "last", "--json"])["jobs"][0]["cost"]["usd"].clone(),
        document(home, &["status", "--cost", "--json"]),
    ]
}

#[test]
fn new_price_changes_no_past_figure() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", super::rows(3, 40));
    set_price(&home, 1);
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json"]).code(0);
    let cost = home.json("s.json")["cost"]["usd"].as_f64().unwrap();
    let before = figures(&home);
    assert_eq!(before[..3], [&before[0]; 3].map(Value::clone), "one figure in every view");
    assert!((before[0].as_f64().unwrap() - cost).abs() < 1e-12, "{before:?}");
    for usd in [10, 0] {
        set_price(&home, usd);
        assert_eq!(figures(&home), before, "at a price of {usd}");
    }
    // Rows that are added to the job cost the new price, and the others what they did cost.
    set_price(&home, 10);
    home.write("in.jsonl", super::rows(6, 40));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--resume", "--summary", "more.json"]).code(0);
    let tokens = |name: &str| home.json(name)["tokens"]["total"].as_f64().unwrap();
    let expected = cost + (tokens("more.json") - tokens("s.json")) * 10.0 / 1e6;
    let found = home.json("more.json")["cost"]["usd"].as_f64().unwrap();
    assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
    assert_eq!(server.bill(), 6);
}

#[test]
fn batch_costs_the_price_at_which_it_was_submitted() {
    let home = Home::new();
    let server = Server::quick(&[]);
    home.write("in.jsonl", super::rows(3, 40));
    set_price(&home, 1);
    let id = home.at(&server.url, &["submit", "in.jsonl"]).code(0).stdout.trim_end().to_owned();
    set_price(&home, 10);
    let fetch = ["fetch", &id, "--wait", "--poll", "50ms", "-o", "out.jsonl", "--summary", "s.json"];
    home.at(&server.url, &fetch).code(0);
    let summary = home.json("s.json");
    let usd = summary["tokens"]["total"].as_f64().unwrap() * 0.5 / 1e6;
    assert!((summary["cost"]["usd"].as_f64().unwrap() - usd).abs() < 1e-12, "{summary}");
    let before = figures(&home);
    set_price(&home, 1);
    assert_eq!(figures(&home), before);
}

#[test]
fn batch_left_unsent_costs_the_price_at_which_it_is_created() {
    let home = Home::new();
    let server = Server::quick(&["--fault", "status=401,on=register,nth=1"]);
    home.write("in.jsonl", super::rows(3, 40));
    set_price(&home, 1);
    home.at(&server.url, &["submit", "in.jsonl"]).code(4);
    set_price(&home, 10);
    // The budget of the second command counts the new price too.
    home.at(&server.url, &["submit", "in.jsonl", "--max-cost", "0.0004"]).code(5);
    let id = home.at(&server.url, &["submit", "in.jsonl"]).code(0).stdout.trim_end().to_owned();
    let fetch = ["fetch", &id, "--wait", "--poll", "50ms", "-o", "out.jsonl", "--summary", "s.json"];
    home.at(&server.url, &fetch).code(0);
    let summary = home.json("s.json");
    let usd = summary["tokens"]["total"].as_f64().unwrap() * 5.0 / 1e6;
    assert!((summary["cost"]["usd"].as_f64().unwrap() - usd).abs() < 1e-12, "{summary}");
}
