//! The most that a request may cost: one figure in the check, in real time and in batches.

use serde_json::{Value, json};

use super::TURBO;
use crate::support::{Home, Server};

fn check(home: &Home, code: i32) -> Value {
    serde_json::from_str(&home.llbatch(&["check", "in.jsonl", "--json"]).code(code).stdout).unwrap()
}

/// The amounts that a budget reserves for the input, as `check` spells them: in real time and in batches.
fn reserved(home: &Home) -> [String; 2] {
    let cost = check(home, 0)["cost"]["set_aside_usd"].clone();
    ["realtime", "batch"].map(|way| cost[way].to_string())
}

/// Writes a row whose message has these parts.
fn write_parts(home: &Home, model: &str, parts: &[Value]) {
    let body = json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": parts}]});
    home.write("in.jsonl", json!({"custom_id": "a", "body": body}).to_string());
}

fn image(bytes: usize) -> Value {
    json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", "A".repeat(bytes))}})
}

#[test]
fn image_costs_its_tokens_and_not_its_bytes() {
    let home = Home::new();
    let server = Server::quick(&[]);
    write_parts(&home, TURBO, &[json!({"type": "text", "text": "Compare."}), image(1 << 20)]);
    let [realtime, batch] = reserved(&home);
    // 6,404 tokens for the image, 100 for the answer, and at most 200 for the text around them.
    let usd: f64 = realtime.parse().unwrap();
    assert!((6504.0..6704.0).contains(&(usd * 1e6 / 0.06)), "{realtime}");
    // The refusal names the sum that would do, and that sum does.
    let run = |usd: &str| home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--max-cost", usd]);
    run("0.0001").code(5).says(&["0.0004 would do for the rest"]);
    run(&realtime).code(0);
    let submit = |usd: &str| home.at(&server.url, &["submit", "in.jsonl", "--again", "--max-cost", usd]);
    submit("0.0001").code(5).says(&["this may cost up to $0.0002, but only"]);
    submit(&batch).code(0);
}

#[test]
fn image_is_not_too_long_for_its_model() {
    let home = Home::new();
    write_parts(&home, "Qwen/Qwen2.5-VL-72B-Instruct", &[image(4 << 20), image(5 << 20)]);
    assert_eq!(check(&home, 0)["problem_count"], 0);
}

#[test]
fn part_without_a_known_bound_is_refused_under_a_budget() {
    let home = Home::new();
    let server = Server::quick(&[]);
    for kind in ["input_audio", "video_url", "file"] {
        write_parts(&home, TURBO, &[json!({"type": kind})]);
        for command in ["run", "submit"] {
            let words = format!("row `a` has a part of type `{kind}`, whose tokens have no known bound");
            home.at(&server.url, &[command, "in.jsonl", "--max-cost", "5"]).code(2).says(&[&words, "--allow-unpriced"]);
        }
    }
    assert_eq!(server.bill(), 0);
}

#[test]
fn number_of_choices_counts_in_every_spelling() {
    let home = Home::new();
    let row = |more: &str| {
        let text = format!(r#"{{"id":"a","messages":[{{"role":"user","content":"x"}}],"model":"{TURBO}",{more}}}"#);
        home.write("in.jsonl", text);
    };
    let cost = |more: &str| {
        row(more);
        check(&home, 0)["tokens"]["completion_max"].clone()
    };
    for n in [r#""n":100"#, r#""n":100.0"#, r#""n":1e2"#, r#""\u006e":100"#, r#""n":1,"n":100"#, r#""best_of":1E+2"#] {
        assert_eq!(cost(&format!(r#""max_tokens":40,{n}"#)), 4000, "{n}");
    }
    for bound in [r#""max_tokens":4e1"#, r#""max_tokens":40.0"#, r#""max_completion_tokens":40,"max_tokens":5"#] {
        assert_eq!(cost(bound), 40, "{bound}");
    }
    assert_eq!(cost(r#""max_tokens":40,"n":null"#), 40);
    for bad in [r#""n":"100""#, r#""\u006e":"100""#, r#""n":0"#, r#""n":-1"#, r#""n":1.5"#, r#""best_of":[2]"#] {
        row(&format!(r#""max_tokens":40,{bad}"#));
        let problem = &check(&home, 65)["problems"][0];
        assert!(problem["message"].as_str().unwrap().contains("must be a positive whole number"), "{bad}: {problem}");
    }
}

#[test]
fn users_figure_for_an_image_holds_in_every_estimate() {
    let home = Home::new();
    let server = Server::quick(&[]);
    write_parts(&home, TURBO, &[json!({"type": "text", "text": "Compare."}), image(1 << 10), image(10)]);
    let tokens = |of: &Value| of["tokens"]["prompt"].as_u64().unwrap();
    let (before, built_in) = (tokens(&check(&home, 0)), reserved(&home));
    home.config(format!("[models.\"{TURBO}\"]\nimage_tokens = 500\n"));
    let document = check(&home, 0);
    assert_eq!(before - tokens(&document), 2 * (1601 - 500));
    let [realtime, batch] = reserved(&home);
    let usd = |text: &str| text.parse::<f64>().unwrap();
    let less = (usd(&built_in[0]) - usd(&realtime)) * 1e6 / 0.06;
    assert!((less - 2.0 * (6404.0 - 500.0)).abs() < 0.01, "{less}");
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--max-cost", &realtime]).code(0);
    home.at(&server.url, &["submit", "in.jsonl", "--max-cost", &batch]).code(0);
    let shown: Value =
        serde_json::from_str(&home.llbatch(&["models", "Llama-3.2-3B-Instruct-Turbo", "--json"]).code(0).stdout)
            .unwrap();
    assert_eq!(shown["models"][0]["image_tokens"], 500);
    // Text and answer are about 112 tokens.
    for (context, near) in [(6200, None), (6100, Some(1))] {
        home.config(format!("[models.\"{TURBO}\"]\nimage_tokens = 3000\ncontext = {context}\n"));
        assert_eq!(check(&home, 0)["models"][0]["near_context"].as_u64(), near, "{context}");
    }
}
