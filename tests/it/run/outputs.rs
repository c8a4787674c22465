//! Outputs: formats, files that appear whole or not at all, standard output in order.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{
    Home, MODEL, Recorder, Server, answered, codes, csv_rows, ids, lines, prompts, questions, rows, until,
};

const FATAL: &str = "[[sandbox:status=400]]";

#[test]
fn format_follows_the_ending_or_the_flag() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", questions(1..=3));
    let run = |args: &[&str]| home.run(&server, &[&["in.jsonl", "-m", MODEL], args].concat()).code(0);
    run(&["-o", "out.csv"]);
    run(&["-o", "out.tsv"]);
    run(&["-o", "out.txt", "--format", "csv"]);
    let (header, rows) = csv_rows(&home.read("out.csv"), b',');
    assert_eq!(header[..4], ["id", "prompt", "max_tokens", "custom_id"]);
    assert_eq!(rows.len(), 3);
    let (tab_header, tab_rows) = csv_rows(&home.read("out.tsv"), b'\t');
    assert_eq!(tab_header, header);
    let cells = |row: &Vec<String>| row[..6].to_vec();
    assert_eq!(tab_rows.iter().map(cells).collect::<Vec<_>>(), rows.iter().map(cells).collect::<Vec<_>>());
    assert_eq!(csv_rows(&home.read("out.txt"), b',').0, header);
}

#[test]
fn flat_lines_carry_the_record_and_llbatch_columns() {
    let home = Home::new();
    let recorder = Recorder::answering(|_| ("200 OK", String::new(), Recorder::chat(r#""say \"hi\"\n""#)));
    home.write("in.jsonl", lines(&[r#"{"id":"a","prompt":"x","n":1E400,"deep":{"a":[1]},"none":null}"#]));
    let args = ["in.jsonl", "-m", MODEL, "--flat", "-o", "out.jsonl"];
    home.finish(home.run_command(&recorder.url, &args)).code(0);
    let text = home.read("out.jsonl");
    let start = format!(
        r#"{{"id":"a","prompt":"x","n":1E400,"deep":{{"a":[1]}},"none":null,"custom_id":"a","model":"{MODEL}","content":"say \"hi\"\n","finish_reason":"stop","prompt_tokens":1000,"completion_tokens":10,"cost_usd":0.0000606,"attempts":1,"latency_ms":"#
    );
    assert!(text.starts_with(&start), "{text}\n{start}");
    assert!(text.ends_with(",\"error\":null}\n"), "{text}");
}

#[test]
fn taken_column_is_named_with_a_remedy() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.csv", format!("id,prompt,content,error,model\na,x,mine,mine too,{MODEL}\n"));
    let out = home.run(&server, &["in.csv", "-o", "out.csv"]);
    assert_ne!(out.code, 0);
    let out = out.says(&["--prefix", "content", "error"]);
    assert!(matches!(out.code, 2 | 65), "exit {}", out.code);
    assert_eq!(server.requests(), 0, "said before anything is sent");
    home.run(&server, &["in.csv", "-o", "out.csv", "--prefix", "llm_"]).code(0);
    let (header, rows) = csv_rows(&home.read("out.csv"), b',');
    assert_eq!(header[..7], ["id", "prompt", "content", "error", "model", "llm_custom_id", "llm_model"]);
    assert_eq!(rows[0][2..4], ["mine", "mine too"]);
}

#[test]
fn errors_flag_moves_failed_rows_to_its_file() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=4).replace("question 2", FATAL));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--errors", "err.jsonl"]).code(3);
    let seen: Vec<_> = rows(&home.read("out.jsonl")).into_iter().map(|row| row.id).collect();
    assert_eq!(seen, ["q1", "q3", "q4"]);
    assert_eq!(codes(&home.read("err.jsonl")), [("q2".to_owned(), "invalid_request".to_owned())]);
    home.write("in.jsonl", questions(1..=4).replace("question 2", FATAL));
    home.run(&server, &["in.jsonl", "-m", MODEL, "-o", "out.csv", "--errors", "err.csv"]).code(3);
    let (header, failed) = csv_rows(&home.read("err.csv"), b',');
    assert_eq!(header, csv_rows(&home.read("out.csv"), b',').0);
    assert_eq!(failed.len(), 1);
    assert!(failed[0].last().unwrap().starts_with("invalid_request: "), "{failed:?}");
}

#[test]
fn one_file_cannot_take_both_results_and_errors() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=3).replace("question 2", FATAL));
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--errors", "./out.jsonl"]);
    assert_eq!((out.code, server.requests()), (2, 0), "paid rows would be overwritten:\n{}", out.stderr);
}

#[test]
fn output_that_is_the_input_is_refused() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=3));
    let out = home.run(&server, &["in.jsonl", "-o", "in.jsonl"]);
    assert_eq!((out.code, server.requests()), (2, 0), "the only copy of the input is gone:\n{}", out.stderr);
    assert_eq!(home.read("in.jsonl"), prompts(1..=3));
    // A complete command removes the partial file of a stopped one.
    home.write("out.jsonl.partial", prompts(1..=3));
    home.run(&server, &["out.jsonl.partial", "--input-format", "jsonl", "-o", "out.jsonl"]).code(2);
    assert_eq!((home.read("out.jsonl.partial"), server.requests()), (prompts(1..=3), 0));
}

#[test]
fn answers_never_become_spreadsheet_formulas() {
    let home = Home::new();
    let recorder = Recorder::answering(|_| ("200 OK", String::new(), Recorder::chat("\"=HYPERLINK(1)\"")));
    home.write("in.jsonl", questions(1..=1));
    let run = |args: &[&str]| {
        let args = [&["in.jsonl", "-m", MODEL], args].concat();
        home.finish(home.run_command(&recorder.url, &args)).code(0);
    };
    run(&["-o", "out.csv"]);
    let (header, rows) = csv_rows(&home.read("out.csv"), b',');
    let at = header.iter().position(|name| name == "content").unwrap();
    assert_eq!(rows[0][at], "'=HYPERLINK(1)");
    run(&["-o", "raw.csv", "--csv-raw"]);
    assert_eq!(csv_rows(&home.read("raw.csv"), b',').1[0][at], "=HYPERLINK(1)");
}

#[test]
fn output_file_appears_only_when_complete() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    home.write("in.jsonl", prompts(1..=40));
    home.write("old.jsonl", "yesterday's results\n");
    let leftovers = |home: &Home| {
        let names = std::fs::read_dir(home.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(".llbatch-")).count()
    };
    let run = home.spawn(&server, &["in.jsonl", "-o", "old.jsonl", "--concurrency", "2"]);
    server.until_billed(6);
    assert_eq!(run.kill(), None, "killed in the middle");
    assert_eq!(home.read("old.jsonl"), "yesterday's results\n");
    let run = home.spawn(&server, &["in.jsonl", "-o", "new.jsonl", "--concurrency", "2", "--fresh"]);
    server.until_billed(12);
    assert_eq!(run.kill(), None);
    assert!(!home.exists("new.jsonl"));
    // The next run removes temporary files left beside them.
    home.run(&server, &["in.jsonl", "-o", "old.jsonl", "--concurrency", "8"]).code(0);
    home.run(&server, &["in.jsonl", "-o", "new.jsonl", "--concurrency", "8", "--fresh"]).code(0);
    answered(&home.read("old.jsonl"), 1..=40);
    answered(&home.read("new.jsonl"), 1..=40);
    assert_eq!(leftovers(&home), 0);
}

#[test]
fn unwritable_output_is_refused_before_sending() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    home.write("file", "");
    for args in [
        ["-o", "none/out.jsonl"],
        ["-o", "file/out.jsonl"],
        ["--errors", "none/err.jsonl"],
        ["--summary", "none/summary.json"],
    ] {
        let out = home.run(&server, &[&["in.jsonl"], &args[..]].concat());
        assert_eq!((out.code, server.requests()), (74, 0), "{args:?}\n{}", out.stderr);
        assert!(out.stderr.contains(args[1].split('/').next().unwrap()), "{}", out.stderr);
    }
    home.run(&server, &["in.jsonl", "-o", "home"]).code(2).says(&["directory"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn stdout_streams_rows_in_input_order() {
    let home = Home::new();
    // The first row takes longer than all others together.
    let server = Server::start(&["--fault", "delay=700ms,contains=question 2."]);
    home.write("in.jsonl", prompts(1..=30).replace("question 2\"", "question 2.\""));
    let run = home.spawn(&server, &["in.jsonl", "--concurrency", "8"]);
    until("the first row", || !run.stdout().is_empty());
    server.until_billed(30);
    assert_eq!(run.stdout().lines().count(), 1, "row 1 at once, row 3 not before row 2:\n{}", run.stdout());
    let out = run.wait().code(0);
    let seen: Vec<_> = rows(&out.stdout).into_iter().map(|row| row.id).collect();
    assert_eq!(seen, ids(1..=30));
    let dash = home.run(&server, &["in.jsonl", "--concurrency", "8", "-o", "-"]).code(0);
    assert_eq!(dash.stdout, out.stdout);
}

#[test]
fn closed_stdout_ends_quietly_and_loses_nothing() {
    let home = Home::new();
    let server = Server::start(&["--latency", "30ms"]);
    home.write("in.jsonl", prompts(1..=60));
    let args = ["in.jsonl", "--concurrency", "4", "--progress", "never"];
    let mut command = home.run_command(&server.url, &args);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    // `| head -1`
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(141), "{said}");
    for word in ["error", "panic", "pipe"] {
        assert!(!said.to_lowercase().contains(word), "{said}");
    }
    let paid = server.bill();
    assert!(paid < 60, "it stopped");
    let out = home.run(&server, &[&args[..], &["--summary", "s.json"]].concat()).code(0);
    answered(&out.stdout, 1..=60);
    assert_eq!(server.paid_again(), 0, "what was in flight was kept");
    assert_eq!(home.json("s.json")["http"]["sent"], 60 - paid);
}
