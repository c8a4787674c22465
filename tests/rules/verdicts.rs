//! llbatch's verdicts on answers, for scripts.
//!
//! `verdicts`: each line of standard input is `{"schema": …, "answers": […]}`. Each line of the output is
//! `{"valid": [true, …]}`, or `{"refused": "the words of the usage error"}`.
//!
//! `verdicts --time`: prints the time of one verdict on a small answer, for each kind of rule.
#![expect(clippy::unwrap_used, reason = "a script that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "the output of a program for scripts")]

use std::hint::black_box;
use std::io::BufRead as _;
use std::time::{Duration, Instant};

use llbatch::door::{AnswerRules, RuleSpec, Schema};
use serde_json::{Value, json};

/// Verdicts that are timed together.
const TURNS: u32 = 20_000;
/// Times of which the least counts: chance only adds to them.
const TRIES: u32 = 20;

const SCHEMA: &str = r#"{"type": "object", "required": ["label", "score", "reason"], "additionalProperties": false, "properties":
    {"label": {"enum": ["positive", "negative", "neutral"]}, "score": {"type": "number", "minimum": 0, "maximum": 1},
    "reason": {"type": "string", "maxLength": 200}}}"#;
const ANSWER: &str = r#"{"label": "positive", "score": 0.93, "reason": "The guest praises the room and the food."}"#;

fn main() {
    if std::env::args().nth(1).is_some_and(|word| word == "--time") {
        return time();
    }
    for line in std::io::stdin().lock().lines() {
        let mut case: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let verdict = match Schema::new(&case["schema"].take().to_string()) {
            Ok(schema) => {
                let valid = |answer: &Value| schema.broken_by(&answer.to_string()).is_none();
                json!({"valid": case["answers"].as_array().unwrap().iter().map(valid).collect::<Vec<_>>()})
            }
            Err(error) => json!({"refused": error.to_string()}),
        };
        println!("{verdict}");
    }
}

fn time() {
    let body = |content: &str| {
        json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 200, "completion_tokens": 30, "total_tokens": 230}})
        .to_string()
    };
    let schema = || RuleSpec { schema: Some(SCHEMA.to_owned()), ..RuleSpec::default() };
    let choices = RuleSpec { choices: vec!["yes".to_owned(), "no".to_owned()], ..RuleSpec::default() };
    for (name, spec, answer) in [
        ("--json-schema", schema(), ANSWER.to_owned()),
        ("--json-schema, in a fence", schema(), format!("```json\n{ANSWER}\n```")),
        ("--json-schema, broken", schema(), ANSWER.replace("0.93", "93")),
        ("--choices", choices, "yes".to_owned()),
        ("--complete", RuleSpec { complete: true, ..RuleSpec::default() }, ANSWER.to_owned()),
    ] {
        let (rules, body) = (AnswerRules::new(&spec).unwrap(), body(&answer));
        let turns = || {
            let begun = Instant::now();
            for _ in 0..TURNS {
                black_box(rules.violation(black_box(&body)));
            }
            begun.elapsed() / TURNS
        };
        let least = (0..TRIES).map(|_| turns()).min().unwrap_or(Duration::ZERO);
        println!("{:>6.2} µs  {name}", least.as_secs_f64() * 1e6);
    }
}
