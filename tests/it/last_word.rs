//! What every command leaves behind: one document on stdout with `--json`, and a line on stderr if it fails.

use serde_json::Value;

use crate::support::{Home, Server, prompts};

/// The one document that stdout holds.
#[track_caller]
fn document(stdout: &str, line: &str) -> Value {
    let document: Value = serde_json::from_str(stdout).unwrap_or_else(|e| panic!("{line}: {e}\n{stdout}"));
    assert_eq!(document["version"], 1, "{line}");
    document
}

#[test]
fn failed_command_leaves_one_document_with_its_error() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2));
    home.write("bad.jsonl", prompts(1..=1) + "nonsense\n");
    for (line, exit, code) in [
        ("run none.jsonl -o out.jsonl", 66, "unreadable_input"),
        ("run in.jsonl", 2, "usage"),
        ("run in.jsonl -o out.jsonl --retries many", 2, "usage"),
        ("run in.jsonl -o out.jsonl --num-workers 4", 2, "usage"),
        ("list", 2, "usage"),
        ("submit none.jsonl", 66, "unreadable_input"),
        ("fetch last -o out.jsonl", 2, "usage"),
        ("retry last", 2, "usage"),
        ("wait last", 2, "usage"),
        ("cancel last", 2, "usage"),
        ("report last", 2, "usage"),
        ("clean last", 2, "usage"),
        ("man nonsense", 2, "usage"),
    ] {
        let words: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        let out = home.llbatch(&words).code(exit);
        let error = &document(&out.stdout, line)["error"];
        assert_eq!((&error["exit"], &error["code"]), (&exit.into(), &code.into()), "{line}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains("error:"), "{line}: {message}");
        assert!(error["problems"].as_array().unwrap().is_empty(), "{line}");
    }
    for line in ["run bad.jsonl -o out.jsonl", "submit bad.jsonl", "prepare bad.jsonl -o shards"] {
        let words: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        let out = home.llbatch(&words).code(65);
        let error = &document(&out.stdout, line)["error"];
        let problem = &error["problems"][0];
        assert_eq!((&problem["file"], &problem["line"]), (&"bad.jsonl".into(), &2.into()), "{line}: {error}");
    }
}

#[test]
fn command_that_succeeds_leaves_one_document() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    for line in [
        "run in.jsonl -o out.jsonl --errors failed.jsonl --name nightly",
        "run in.jsonl --dry-run",
        "retry last",
        "retry last --dry-run",
        "completions bash",
        "man",
        "man run",
    ] {
        let words: Vec<&str> = line.split(' ').chain(["--json", "--base-url", &server.url]).collect();
        let out = home.llbatch(&words).code(0);
        let document = document(&out.stdout, line);
        if line.contains("nightly") {
            assert_eq!(
                (&document["output"], &document["errors_output"]),
                (&"out.jsonl".into(), &"failed.jsonl".into())
            );
            assert_eq!(
                (&document["name"], &document["llbatch"]),
                (&"nightly".into(), &env!("CARGO_PKG_VERSION").into())
            );
            let started = document["started_at"].as_str().unwrap();
            assert!(started.parse::<jiff::Timestamp>().is_ok(), "{started}");
        }
    }
}

#[test]
fn failure_is_never_silent() {
    let home = Home::new();
    let server = Server::start(&["--fault", "status=400,contains=question 2,times=always"]);
    home.write("in.jsonl", prompts(1..=2));
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "-q"]).code(3);
    assert!(out.stderr.starts_with("✗ 1 of 2 answered (1 failed)"), "{}", out.stderr);
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "-q", "--fresh", "--max-cost", "0.0000001"]).code(5);
    assert!(out.stderr.contains("✗ 0 of 2 answered"), "{}", out.stderr);
    let out = home.llbatch(&["wait", "last", "-q"]);
    assert!(out.code != 0 && out.stderr.contains(&format!("exit {}", out.code)), "{} {}", out.code, out.stderr);
}

#[test]
fn summary_that_cannot_be_written_ends_document_and_process_alike() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "/dev/full", "--json"]).code(74);
    let document = document(&out.stdout, "run --summary /dev/full");
    assert_eq!((&document["state"], &document["exit"]["code"]), (&"completed".into(), &74.into()), "{document}");
    let reason = document["exit"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("/dev/full: cannot"), "{reason}");
}

#[test]
fn version_is_a_command_too() {
    let out = Home::new().llbatch(&["version"]).code(0);
    assert_eq!(out.stdout, concat!("llbatch ", env!("CARGO_PKG_VERSION"), "\n"));
}
