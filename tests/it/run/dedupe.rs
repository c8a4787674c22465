//! `--dedupe`: equal requests are sent once, and every row gets its outcome.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{Home, MODEL, Out, Row, Server, answered_once, csv_rows, rows, until};

const FILES: [&str; 6] = ["in.jsonl", "--dedupe", "-o", "out.jsonl", "--summary", "s.json"];

/// Row `n` of `keys` different questions. The same question is spelled in several ways.
fn row(n: u32, keys: u32) -> String {
    let question = (n - 1) % keys + 1;
    match n % 3 {
        0 => {
            format!("{{\"id\":\"q{n}\",\"prompt\":\"question {question}\",\"model\":\"{MODEL}\",\"max_tokens\":16}}\n")
        }
        1 => format!(
            "{{ \"max_tokens\" :16, \"model\":\"{MODEL}\",\"messages\":[{{\"content\":\"qu\\u0065stion {question}\",\"role\":\"user\"}}], \"id\":\"q{n}\"}}\n"
        ),
        _ => format!(
            "{{\"custom_id\":\"q{n}\",\"body\":{{\"model\":\"{MODEL}\",\"max_tokens\":16,\"messages\":[{{\"role\":\"user\",\"content\":\"question {question}\"}}]}}}}\n"
        ),
    }
}

fn input(rows: u32, keys: u32) -> String {
    (1..=rows).map(|n| row(n, keys)).collect()
}

fn run(home: &Home, server: &Server, args: &[&str]) -> Out {
    home.run(server, &[&FILES, args].concat())
}

fn reused(row: &Row) -> bool {
    row.line["reused"] == true
}

#[test]
fn equal_requests_are_sent_and_paid_once() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", input(60, 5));
    let check = home.at(&server.url, &["check", "in.jsonl"]).code(0);
    assert!(
        check.stdout.contains("55 of 60 rows repeat an earlier request: --dedupe sends each once and saves about $0.0")
    );
    let out = run(&home, &server, &["--concurrency", "4"]).code(0);
    let out = out.says(&["60 rows, 55 of them repeat an earlier one and are not sent, which saves about $0.0000"]);
    assert!(!out.stderr.contains("temperature"), "{}", out.stderr);
    answered_once(&home.read("out.jsonl"), 60, 5);
    assert_eq!(server.bill(), 5);
    let summary = home.json("s.json");
    assert_eq!((&summary["rows"]["succeeded"], &summary["rows"]["reused"]), (&60.into(), &55.into()));
    assert_eq!(summary["http"]["sent"], 5);
    let bill = &server.stats()["bill"];
    assert_eq!(summary["tokens"]["prompt"], bill["prompt_tokens"]);
    assert_eq!(summary["tokens"]["completion"], bill["completion_tokens"]);
    // The report on the job and on its results count the same.
    let cost = |args: &[&str]| {
        let report: serde_json::Value = serde_json::from_str(&home.at(&server.url, args).code(0).stdout).unwrap();
        (report["rows"]["reused"].clone(), report["cost"]["usd"].clone(), report["cost"]["estimated"].clone())
    };
    let expected = (55.into(), summary["cost"]["usd"].clone(), false.into());
    assert_eq!(cost(&["report", "last", "--json"]), expected);
    assert_eq!(cost(&["report", "out.jsonl", "--json"]), expected);
}

#[test]
fn one_changed_byte_is_another_request() {
    let home = Home::new();
    let server = Server::start(&[]);
    let body = |rest: &str| format!("{{\"prompt\":\"question\",\"model\":\"{MODEL}\",\"max_tokens\":16{rest}}}\n");
    let bodies = ["", ",\"seed\":1", ",\"seed\":2", ",\"temperature\":0", ",\"temperature\":0.0", ""];
    home.write("in.jsonl", bodies.map(body).concat() + &body("").replace("question\"", "question \""));
    run(&home, &server, &[]).code(0).says(&["7 rows, 1 of them repeats an earlier one and is not sent"]);
    assert_eq!(server.bill(), 6);
}

#[test]
fn without_the_flag_every_row_is_sent() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", input(20, 2));
    // Requests that are spelled alike are seen, and nothing more.
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    out.says(&["20 rows, 14 of them repeat an earlier one (--dedupe sends each once)"]);
    assert_eq!(server.bill(), 20);
    assert!(rows(&home.read("out.jsonl")).iter().all(|row| !reused(row)));
}

#[test]
fn repeats_of_a_failed_row_fail_alike_and_are_retried_once() {
    let home = Home::new();
    let server = Server::start(&["--fault", "status=422,contains=question 1,times=1"]);
    home.write("in.jsonl", input(30, 3));
    run(&home, &server, &[]).code(3);
    for (n, row) in (1..).zip(rows(&home.read("out.jsonl"))) {
        let failed = n % 3 == 1;
        assert_eq!(row.code.as_deref(), failed.then_some("invalid_request"), "{}", row.line);
        assert_eq!(reused(&row), n > 3);
    }
    assert_eq!((server.bill(), server.count("/v1/chat/completions", 422)), (2, 1));
    // The job remembers the flag.
    home.at(&server.url, &["retry", "last", "--all"]).code(0);
    home.at(&server.url, &["fetch", "last", "-o", "out.jsonl"]).code(0);
    answered_once(&home.read("out.jsonl"), 30, 3);
    assert_eq!(server.bill(), 3);
}

#[test]
fn killed_runs_pay_for_no_repeat() {
    let home = Home::new();
    let server = Server::start(&["--latency", "15ms"]);
    home.write("in.jsonl", input(400, 40));
    let mut risked = 0;
    for kill in [1, 9, 17, 26, 38] {
        let run = home.spawn(&server, &[&FILES[..], &["--concurrency", "4"]].concat());
        server.until_billed(kill);
        if run.kill().is_none() {
            risked += 4;
        }
    }
    let out = run(&home, &server, &["--concurrency", "4"]).code(0);
    answered_once(&home.read("out.jsonl"), 400, 40);
    assert!(server.paid_again() <= risked, "{} of {risked}", server.paid_again());
    // Repeats that waited when the run was killed were not in flight.
    let named = out.stderr.lines().filter(|line| line.contains("billed twice"));
    assert!(named.clone().all(|line| line.matches(", q").count() < 16), "{}", out.stderr);
    let summary = home.json("s.json");
    assert_eq!((&summary["rows"]["succeeded"], &summary["rows"]["reused"]), (&400.into(), &360.into()));
}

#[test]
fn closed_pipe_ends_a_run_with_many_waiting_repeats() {
    const ROWS: u32 = 15_000;
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", input(1, 1));
    run(&home, &server, &[]).code(0);
    home.write("in.jsonl", input(ROWS, 1));
    let mut command = home.run_command(&server.url, &["in.jsonl", "--dedupe", "--resume=last"]);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // The leader has its outcome, so more repeats arrive than are written. `| head -3000`
    assert_eq!(BufReader::new(child.stdout.take().unwrap()).lines().take(3000).count(), 3000);
    let mut ended = None;
    until("it has gone", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(141));
    run(&home, &server, &["--resume=last"]).code(0);
    answered_once(&home.read("out.jsonl"), ROWS, 1);
    assert_eq!(server.bill(), 1);
}

#[test]
fn nothing_is_set_aside_for_repeats() {
    let home = Home::new();
    let server = Server::start(&["--latency", "5ms"]);
    home.write("in.jsonl", input(200, 4));
    // A row costs up to about 70 tokens: $0.0000042.
    run(&home, &server, &["--max-cost", "0.00003"]).code(0);
    answered_once(&home.read("out.jsonl"), 200, 4);
}

#[test]
fn flat_results_tell_repeats_in_a_column() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.csv", "text\nsame\nother\nsame\n");
    let args = ["in.csv", "--prompt", "{{ text }}", "-m", MODEL, "--max-tokens", "8", "-o", "out.csv", "--dedupe"];
    let out = home.run(&server, &[&args[..], &["--temperature", "0.7"]].concat()).code(0);
    out.says(&["1 row with a temperature above 0 and without a seed repeats an earlier request"]);
    let (header, found) = csv_rows(&home.read("out.csv"), b',');
    assert_eq!(header.last().unwrap(), "reused");
    let cell = |row: &[String], name: &str| row[header.iter().position(|column| column == name).unwrap()].clone();
    assert_eq!(found.iter().map(|row| cell(row, "reused")).collect::<Vec<_>>(), ["false", "false", "true"]);
    let repeat = ["content", "cost_usd", "attempts", "prompt_tokens"].map(|name| cell(&found[2], name));
    assert_eq!(repeat, [cell(&found[0], "content"), "0".to_owned(), "0".to_owned(), String::new()]);
    // A column of the input may have the name.
    home.write("taken.csv", "text,reused\na,b\n");
    let args = ["taken.csv", "--prompt", "{{ text }}", "-m", MODEL, "-o", "out2.csv"];
    home.run(&server, &args).code(0);
    home.run(&server, &[&args[..], &["--dedupe", "--fresh"]].concat()).code(65).says(&["`reused`", "--prefix"]);
}
