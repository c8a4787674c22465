//! `llbatch fetch`: the same results every time, whatever happens to the download.

use serde_json::json;

use super::{POLL, ends, fetch, side_by_side, submit};
use crate::support::{Home, MODEL, Server, answered, codes, prompts, questions, until};

#[test]
fn second_fetch_gives_the_same_bytes_without_input_or_service() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,on=row,contains=question 7"]));
    home.write("in.jsonl", questions(1..=30));
    let id = submit(&home, &server, &["in.jsonl", "-m", MODEL]);
    fetch(&home, &server, &id, &[]).code(3);
    let url = server.url.clone();
    let downloads = server.count("/v1/files/{id}/content", 200);
    assert_eq!(downloads, 2, "answers and failures, once each");
    drop(server);
    std::fs::remove_file(home.path("in.jsonl")).unwrap();
    for name in ["two.jsonl", "two.csv", "three.csv"] {
        home.at(&url, &["fetch", &id, "-o", name]).code(3);
    }
    assert_eq!(home.read("two.jsonl"), home.read("out.jsonl"));
    assert_eq!(home.read("two.csv"), home.read("three.csv"));
    assert_eq!(home.at(&url, &["fetch", &id]).code(3).stdout, home.read("out.jsonl"));
    assert_eq!(codes(&home.read("out.jsonl"))[6], ("q7".to_owned(), "invalid_request".to_owned()));
}

#[test]
fn fetch_of_a_running_batch_exits_75() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h", "--fault", "status=400,on=create,nth=1"]));
    let text = prompts(1..=2).replace(MODEL, "a/x") + &prompts(3..=4).replace(MODEL, "b/y");
    home.write("in.jsonl", text);
    let id = home.at(&server.url, &["submit", "in.jsonl"]).code(3).stdout.trim_end().to_owned();
    home.at(&server.url, &["fetch", &id, "-o", "out.jsonl"]).code(75).says(&["not finished", "--wait", "--partial"]);
    assert!(!home.exists("out.jsonl"));
    let wait = ["fetch", &id, "-o", "out.jsonl", "--wait", "--timeout", "300ms"];
    home.at(&server.url, &[&wait[..], &POLL].concat()).code(75);
    assert!(!home.exists("out.jsonl"));
    let partial = ["fetch", &id, "-o", "out.jsonl", "--partial", "--summary", "s.json"];
    home.at(&server.url, &partial).code(75).says(&["out.jsonl.partial"]);
    assert!(!home.exists("out.jsonl"));
    let mut seen = ends(&home);
    assert_eq!(seen.len(), 4);
    seen.sort();
    assert_eq!(seen, ["interrupted", "interrupted", "server_error", "server_error"]);
    let summary = home.json("s.json");
    assert_eq!(
        summary["rows"],
        json!({"total": 4, "succeeded": 0, "failed": 2, "pending": 2, "truncated": 0, "truncated_empty": 0, "fenced": 0, "reused": 0})
    );
    assert_eq!((&summary["state"], &summary["exit"]["code"]), (&json!("running"), &json!(75)));
    home.at(&server.url, &["fetch", &id, "--timeout", "1s"]).code(2);
    home.at(&server.url, &["fetch", "j-zzzzzzzz"]).code(2).says(&["j-zzzzzzzz"]);
}

#[test]
fn time_of_a_batch_job_is_the_jobs_not_the_commands() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "2s"]));
    home.write("in.jsonl", prompts(1..=2));
    let id = submit(&home, &server, &["in.jsonl"]);
    let out = fetch(&home, &server, &id, &[]).code(0).says(&[" from creation to end\n"]);
    let seconds = |name: &str| home.json(name)["duration_s"].clone();
    let first = seconds("s.json");
    assert!(first.as_f64().unwrap() >= 1.0, "{first}: {}", out.stderr);
    // A command that downloads nothing says the same.
    home.at(&server.url, &["fetch", &id, "-o", "again.jsonl", "--summary", "again.json"]).code(0);
    home.at(&server.url, &["report", &id, "--summary", "report.json"]).code(0);
    assert_eq!([seconds("again.json"), seconds("report.json")], [first.clone(), first]);
}

#[test]
fn summary_shows_cost_and_savings() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,on=row,contains=question 2"]));
    home.write("in.jsonl", prompts(1..=5));
    let id = submit(&home, &server, &["in.jsonl", "--name", "night"]);
    let out = fetch(&home, &server, &id, &["--errors", "bad.jsonl", "--json"]).code(3);
    let summary = home.json("s.json");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out.stdout).unwrap(), summary);
    assert_eq!((&summary["transport"], &summary["state"]), (&json!("batch"), &json!("partial")));
    assert_eq!(
        summary["rows"],
        json!({"total": 5, "succeeded": 4, "failed": 1, "pending": 0, "truncated": 4, "truncated_empty": 0, "fenced": 0, "reused": 0})
    );
    // 4 x (10 + 16) tokens at $0.06 a million, and half of that.
    assert_eq!(summary["tokens"], json!({"prompt": 40, "completion": 64, "total": 104, "cached": 0, "reasoning": 0}));
    let cost = &summary["cost"];
    for (name, usd) in [("usd", 0.000_003_12), ("realtime_usd", 0.000_006_24), ("saved_usd", 0.000_003_12)] {
        assert_eq!(cost[name], usd, "{name}");
    }
    assert_eq!((&cost["estimated"], &cost["at_risk_usd"]), (&json!(false), &json!(0)));
    assert_eq!(summary["errors"][0]["code"], "invalid_request");
    assert_eq!(summary["exit"]["code"], 3);
    assert!(summary["exit"]["next"].is_null(), "it would be refused again: {summary}");
    assert_eq!(codes(&home.read("bad.jsonl")), [("q2".to_owned(), "invalid_request".to_owned())]);
    assert_eq!(ends(&home), ["ok"; 4]);
    let status = super::status(&home, &server, &["night"]);
    assert_eq!(status["jobs"][0]["cost"]["usd"], cost["usd"]);
}

#[test]
fn broken_downloads_are_resumed() {
    let cases = [
        ("truncate", "--content-redirect"),
        ("truncate", "--no-ranges"),
        ("reset-late", ""),
        ("reset-late", "--no-ranges"),
        ("reset", ""),
        ("close", "--content-redirect"),
        ("status=503", ""),
        ("short", ""),
        ("short", "--no-ranges"),
        ("empty-body", ""),
        ("html", "--content-redirect"),
    ];
    side_by_side(&cases, |(fault, flag)| {
        let fault = format!("{fault},on=content,times=2");
        let flags: Vec<&str> = Some(*flag).into_iter().filter(|flag| !flag.is_empty()).collect();
        let (home, server) = (Home::new(), Server::quick(&[&["--fault", fault.as_str()], &flags[..]].concat()));
        home.write("in.jsonl", prompts(1..=60));
        let id = submit(&home, &server, &["in.jsonl"]);
        fetch(&home, &server, &id, &[]).code(0);
        answered(&home.read("out.jsonl"), 1..=60);
        assert!(server.stats()["faults"].as_u64().unwrap() > 0, "{fault} {flag}");
    });
}

#[test]
fn download_from_storage_carries_no_key() {
    let (home, server) = (Home::new(), Server::quick(&["--content-redirect"]));
    home.write("in.jsonl", prompts(1..=5));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=5);
    let stats = server.stats();
    // Storage refuses whoever brings a key.
    assert_eq!(stats["by_path"]["/storage/{id}"], json!({"200": 1}), "{stats}");
}

#[test]
fn closed_stdout_of_fetch_loses_nothing() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=3000));
    let id = submit(&home, &server, &["in.jsonl"]);
    home.at(&server.url, &["wait", &id, "--poll", "50ms"]).code(0);
    let mut fetch = home.command_at(&server.url, &["fetch", &id]);
    let mut fetch = fetch
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::with_capacity(100, fetch.stdout.take().unwrap()), &mut line)
        .unwrap();
    assert!(line.contains("\"q1\""), "{line}");
    let out = fetch.wait_with_output().unwrap();
    assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).contains("panic")), (Some(141), false));
    super::fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=3000);
}

#[test]
fn partial_fetch_of_an_uncollected_batch_leaves_its_job_open() {
    let faults = ["--batch-run", "0s", "--fault", "status=500,on=content,times=always"];
    let (home, server) = (Home::new(), Server::quick(&faults));
    home.write("in.jsonl", prompts(1..=5));
    submit(&home, &server, &["in.jsonl"]);
    until("the batch has ended", || server.batches()[0]["status"] == "COMPLETED");
    home.at(&server.url, &["fetch", "last", "--partial", "-o", "out.jsonl"]).code(75);
    let index = rusqlite::Connection::open(home.state().join("ledger.db")).unwrap();
    let delivered: bool = index.query_row("SELECT delivered FROM job", [], |row| row.get(0)).unwrap();
    assert!(!delivered, "the batch still holds results");
    home.at(&server.url, &["submit", "in.jsonl"]).says(&["nothing is sent again"]);
    assert_eq!(server.batches().len(), 1);
}
