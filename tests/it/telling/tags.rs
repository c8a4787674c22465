//! `--tag`, and `status --cost --by tag`.

use serde_json::{Value, json};

use crate::support::{Home, Server, prompts};

fn document(home: &Home, args: &[&str]) -> Value {
    serde_json::from_str(&home.llbatch(&[args, &["--json"]].concat()).code(0).stdout).unwrap()
}

#[test]
fn tags_stay_with_the_job_and_divide_the_spending() {
    let home = Home::new();
    let server = Server::quick(&[]);
    for (name, rows) in [("a", 1..=3), ("b", 4..=5), ("c", 6..=6)] {
        home.write(&format!("{name}.jsonl"), prompts(rows));
    }
    let tags = |home: &Home| document(home, &["status", "last", "--offline"])["jobs"][0]["tags"].clone();
    home.run(&server, &["a.jsonl", "-o", "a.out.jsonl", "--tag", "team=search", "--tag", "run=1"]).code(0);
    assert_eq!(tags(&home), json!({"run": "1", "team": "search"}));
    // A later command on the job adds its own, and replaces the values of equal names.
    home.run(&server, &["a.jsonl", "-o", "a.out.jsonl", "--resume", "--tag", "run=2"]).code(0);
    assert_eq!(tags(&home), json!({"run": "2", "team": "search"}));
    home.run(&server, &["a.jsonl", "-o", "a.out.jsonl", "--resume"]).code(0);
    assert_eq!(tags(&home), json!({"run": "2", "team": "search"}));
    home.at(&server.url, &["submit", "b.jsonl", "--tag", "team=ads"]).code(0);
    home.at(&server.url, &["submit", "b.jsonl", "--tag", "q=a=b,\"c\""]).code(0);
    assert_eq!(tags(&home), json!({"q": "a=b,\"c\"", "team": "ads"}));
    home.at(&server.url, &["fetch", "last", "--wait", "--poll", "100ms", "-o", "b.out.jsonl"]).code(0);
    home.run(&server, &["c.jsonl", "-o", "c.out.jsonl"]).code(0);
    // The history outlives the jobs.
    let all: Vec<String> = document(&home, &["status"])["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["job"].as_str().unwrap().to_owned())
        .collect();
    home.llbatch(&[&["clean"][..], &all.iter().map(String::as_str).collect::<Vec<_>>()].concat()).code(0);
    let spent = document(&home, &["status", "--cost", "--by", "tag"]);
    let lines: Vec<(Value, Value, Value)> = spent["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["tag"].clone(), line["value"].clone(), line["rows"].clone()))
        .collect();
    assert_eq!(
        lines,
        [
            (json!("q"), json!("a=b,\"c\""), json!(2)),
            (json!("run"), json!("2"), json!(3)),
            (json!("team"), json!("ads"), json!(2)),
            (json!("team"), json!("search"), json!(3)),
            (Value::Null, Value::Null, json!(1)),
        ]
    );
    assert_eq!(spent["usd"], document(&home, &["status", "--cost"])["usd"]);
    let out = home.llbatch(&["status", "--cost", "--by", "tag"]).code(0);
    assert!(out.stdout.contains("team=search") && out.stdout.contains("(no tag)"), "{}", out.stdout);
    let csv = home.llbatch(&["status", "--cost", "--by", "tag", "--csv"]).code(0).stdout;
    assert!(
        csv.starts_with("tag,value,jobs,rows,prompt_tokens,completion_tokens,usd\nq,\"a=b,\"\"c\"\"\",1,2,"),
        "{csv}"
    );
}

#[test]
fn invalid_tags_are_refused() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=1));
    for (tags, words) in [
        (&["--tag", "team"][..], "expected K=V"),
        (&["--tag", "=x"], "expected K=V"),
        (&["--tag", "a=1", "--tag", "a=2"], "a is given twice"),
    ] {
        home.llbatch(&[&["run", "in.jsonl", "--sandbox"], tags].concat()).code(2).says(&[words]);
        home.llbatch(&[&["submit", "in.jsonl", "--sandbox"], tags].concat()).code(2).says(&[words]);
    }
}
