//! Prompt tokens that the service had in its cache, and tokens of reasoning.

use serde_json::{Value, json};

use crate::support::{Home, Recorder, csv_rows, questions};

const MODEL: &str = "my/model";

/// Sets the prices of the model, in USD per million tokens.
fn set_prices(home: &Home, more: &str) {
    let text = format!("[models.\"{MODEL}\"]\ninput = 1\noutput = 2\n{more}\n");
    home.config(text);
}

/// Answers without cached tokens, with them in both shapes, and in a response that is no answer.
fn service() -> Recorder {
    Recorder::answering(|request| {
        let flat = r#","cached_tokens":900,"reasoning_tokens":4"#;
        let nested =
            r#","prompt_tokens_details":{"cached_tokens":900},"completion_tokens_details":{"reasoning_tokens":4}"#;
        let asks = |number: u8| request.body.contains(&format!("question {number}\""));
        let more = if asks(2) || asks(4) {
            flat
        } else if asks(3) {
            nested
        } else {
            ""
        };
        let choices = if asks(4) { "" } else { r#"{"message":{"content":"fine"},"finish_reason":"stop"}"# };
        let usage = format!(r#"{{"prompt_tokens":1000,"completion_tokens":10{more}}}"#);
        ("200 OK", String::new(), format!(r#"{{"choices":[{choices}],"usage":{usage}}}"#))
    })
}

fn cost(document: &Value) -> [Value; 4] {
    ["usd", "cache_saved_usd", "upper_bound", "estimated"].map(|name| document["cost"][name].clone())
}

fn report(home: &Home, source: &str) -> Value {
    serde_json::from_str(&home.llbatch(&["report", source, "--json"]).code(0).stdout).unwrap()
}

#[test]
fn cached_tokens_cost_their_own_price() {
    let (home, service) = (Home::new(), service());
    home.write("in.jsonl", questions(1..=4));
    set_prices(&home, "cached_input = 0.1");
    let args = ["in.jsonl", "-m", MODEL, "--retries", "0", "--concurrency", "1", "-o", "out.csv", "--usage-columns"];
    let out = home.finish(home.run_command(&service.url, &[&args[..], &["--summary", "s.json"]].concat())).code(3);
    out.says(&["4,040: 4,000 prompt (2,700 cached) + 40 completion (12 reasoning)", "$0.00243 saved by cached tokens"]);
    let summary = home.json("s.json");
    // 1,000 + 20 for the first row, 100 + 90 + 20 for each of the others, in millionths of a dollar.
    let expected = [json!(0.001_65), json!(0.002_43), json!(false), json!(false)];
    assert_eq!(cost(&summary), expected);
    assert_eq!((&summary["tokens"]["cached"], &summary["tokens"]["reasoning"]), (&json!(2700), &json!(12)));
    let (header, rows) = csv_rows(&home.read("out.csv"), b',');
    let cells = |name: &str| {
        let at = header.iter().position(|column| column == name).unwrap();
        rows.iter().map(|row| row[at].clone()).collect::<Vec<_>>()
    };
    assert_eq!(header[header.len() - 3..], ["error", "cached_tokens", "reasoning_tokens"]);
    assert_eq!(cells("cached_tokens"), ["0", "900", "900", ""]);
    assert_eq!(cells("reasoning_tokens"), ["0", "4", "4", ""]);
    assert_eq!(cells("cost_usd"), ["0.00102", "0.00021", "0.00021", "0.00021"]);
    assert_eq!(cost(&report(&home, "last")), expected);
    // A table of results does not hold what was paid for a failed row.
    assert_eq!(cost(&report(&home, "out.csv"))[..2], [json!(0.001_44), json!(0.001_62)]);
    home.llbatch(&["report", "last", "--html", "page.html"]).code(0);
    assert!(home.read("page.html").contains("4,000 prompt (2,700 cached), 40 completion (12 reasoning)"));
    // A later price changes no past figure, and a response that was thrown away keeps its own.
    set_prices(&home, "cached_input = 0.5");
    assert_eq!(cost(&report(&home, "last")), expected);
    let more = ["--resume", "--summary", "more.json"];
    home.finish(home.run_command(&service.url, &[&args[..], &more].concat())).code(3);
    let expected = [json!(0.002_22), json!(0.002_88), json!(false), json!(false)];
    assert_eq!(cost(&home.json("more.json")), expected);
    assert_eq!(cost(&report(&home, "last")), expected);
}

#[test]
fn cached_tokens_without_a_price_make_the_cost_an_upper_bound() {
    let (home, service) = (Home::new(), service());
    home.write("in.jsonl", questions(1..=3));
    set_prices(&home, "");
    let args = ["in.jsonl", "-m", MODEL, "-o", "out.jsonl", "--summary", "s.json"];
    let said = "at most $0.0031, 1,800 cached tokens counted at full price";
    let out = home.finish(home.run_command(&service.url, &args)).code(0);
    assert!(out.stderr.split_whitespace().collect::<Vec<_>>().join(" ").contains(said), "{}", out.stderr);
    let expected = [json!(0.003_06), Value::Null, json!(true), json!(true)];
    assert_eq!(cost(&home.json("s.json")), expected);
    assert_eq!(cost(&report(&home, "last")), expected);
    home.llbatch(&["report", "last", "--html", "page.html"]).code(0).says(&[]);
    assert!(home.read("page.html").contains("at most $0.0031"));
    assert!(home.llbatch(&["report", "last"]).code(0).stdout.contains("at most $0.0031"));
}

#[test]
fn usage_columns_need_a_flat_form() {
    let (home, service) = (Home::new(), service());
    home.write("in.jsonl", questions(1..=1));
    let args = ["in.jsonl", "-m", MODEL, "--usage-columns", "-o", "out.jsonl"];
    home.finish(home.run_command(&service.url, &args)).code(2).says(&["--usage-columns", "--flat"]);
    assert_eq!(service.requests().len(), 0);
    home.finish(home.run_command(&service.url, &[&args[..], &["--flat"]].concat())).code(0);
    assert!(home.read("out.jsonl").ends_with("\"error\":null,\"cached_tokens\":0,\"reasoning_tokens\":0}\n"));
}
