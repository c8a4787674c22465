//! `llbatch report`.

use serde_json::Value;

use crate::support::{Home, Server, prompts};

#[test]
fn the_summary_comes_again() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=5).replace("question 2", "[[sandbox:status=400]]"));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json"]).code(3);
    let out = home.llbatch(&["report", "last", "--json", "--summary", "again.json"]).code(0);
    let (mut first, mut again) = (home.json("s.json"), home.json("again.json"));
    assert_eq!(serde_json::from_str::<Value>(&out.stdout).unwrap(), again);
    assert_eq!(first["exit"]["code"], again["exit"]["code"]);
    assert!(again["exit"]["next"].as_str().unwrap().contains("--resume=j-"), "{again}");
    for document in [&mut first, &mut again] {
        // Measured by another clock, and worded for another moment.
        document["duration_s"] = Value::Null;
        document["exit"] = Value::Null;
    }
    assert_eq!(first, again);
    let table = home.llbatch(&["report", "last"]).code(0).stdout;
    assert!(table.contains("5: 4 answered"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

#[test]
fn a_killed_job_is_reported_as_far_as_it_came() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    home.write("in.jsonl", prompts(1..=40));
    let run = home.spawn(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "4"]);
    server.until_billed(12);
    assert_eq!(run.kill(), None);
    let report: Value = serde_json::from_str(&home.llbatch(&["report", "last", "--json"]).code(0).stdout).unwrap();
    assert_eq!((&report["state"], &report["exit"]["code"]), (&"interrupted".into(), &75.into()));
    let [total, good, failed, pending] =
        ["total", "succeeded", "failed", "pending"].map(|name| report["rows"][name].as_u64().unwrap());
    assert_eq!((total, failed, good + pending), (40, 0, 40));
    assert!((4..40).contains(&good), "{report}");
    let next = report["exit"]["next"].as_str().unwrap().replace("FILE", "out.jsonl");
    let words: Vec<&str> = next.split(' ').skip(2).collect();
    home.run(&server, &words).code(0);
}

#[test]
fn a_job_that_is_not_there_is_a_usage_error() {
    let home = Home::new();
    home.llbatch(&["report", "last"]).code(2).says(&["no job"]);
    home.llbatch(&["report", "nobody"]).code(2).says(&["nobody", "llbatch status"]);
    home.llbatch(&["report"]).code(2);
}
