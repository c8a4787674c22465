//! The record's own fields in tables, however the input is packed and read, and in whatever order rows are answered.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::{Home, MODEL, Recorder, Server, csv_rows, lines};

const ROWS: usize = 900;
/// The row from which on records have one more field.
const LATE: usize = 600;

/// The columns of [`records`], in order.
const OWN: [&str; 7] = ["id", "nested", "prompt", "n°", "max_tokens", "gone", "late"];

/// Records of some 700 bytes, so that they fill several blocks, with the cells that a table has to show for them.
fn records() -> (Vec<String>, Vec<[String; 7]>) {
    let text = |n: usize| format!("Zeile {n}, \"quoted\"\\{}\n{}", "é".repeat(n % 7), "words and ".repeat(60));
    let record = |n: usize| {
        let (prompt, nested) = (text(n), format!(r#"{{"a": [{n}, 1E400],  "b":"x\ny"}}"#));
        let quoted = serde_json::to_string(&prompt).unwrap();
        let late = if n >= LATE { format!(r#","late":{n}.50"#) } else { String::new() };
        let gone = if n.is_multiple_of(3) { "" } else { r#","gone":null"# };
        // Some records have their fields in another order.
        let (head, tail) = (format!(r#""id":"r{n}","nested":{nested}"#), format!(r#""prompt":{quoted},"n°":{n}"#));
        let (first, second) = if n % 10 == 5 { (&tail, &head) } else { (&head, &tail) };
        let line = format!(r#"{{{first},{second},"max_tokens":4{gone}{late}}}"#);
        let late = if n >= LATE { format!("{n}.50") } else { String::new() };
        (line, [format!("r{n}"), nested, prompt, n.to_string(), "4".to_owned(), String::new(), late])
    };
    (1..=ROWS).map(record).unzip()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// Compares the own columns of a table with the cells of the records at these places.
#[track_caller]
fn assert_own(table: &str, expected: &[[String; 7]]) {
    let (header, cells) = csv_rows(table, b',');
    assert_eq!(header[..8], [&OWN[..], &["custom_id"]].concat());
    assert_eq!(cells.len(), expected.len());
    for (row, own) in cells.iter().zip(expected) {
        assert_eq!(row[..7], own[..]);
        assert_eq!(row[7], own[0], "the answer stands beside its own record");
    }
}

#[test]
fn tables_are_the_same_however_the_input_is_packed() {
    let (home, service) = (Home::new(), Recorder::start());
    let (records, cells) = records();
    let text = records.join("\n") + "\n";
    home.write("in.jsonl", &text);
    home.write("in.jsonl.gz", gzip(text.as_bytes()));
    home.write("in.jsonl.zst", zstd::encode_all(text.as_bytes(), 1).unwrap());
    let flags = ["-m", MODEL, "--concurrency", "16", "-o", "out.csv"];
    for input in ["in.jsonl", "in.jsonl.gz", "in.jsonl.zst"] {
        home.finish(home.run_command(&service.url, &[&[input, "--fresh"], &flags[..]].concat())).code(0);
        assert_own(&home.read("out.csv"), &cells);
    }
    home.run_with_stdin(&service.url, &[&["-"], &flags[..]].concat(), text.as_bytes()).code(0);
    assert_own(&home.read("out.csv"), &cells);
    let some = ["--limit", "700", "--fresh"];
    home.finish(home.run_command(&service.url, &[&["in.jsonl.gz"][..], &some, &flags].concat())).code(0);
    assert_own(&home.read("out.csv"), &cells[..700]);
    // Flat lines have each record's members as they stand there.
    let flat = ["-m", MODEL, "--flat", "-o", "flat.jsonl", "--fresh"];
    home.finish(home.run_command(&service.url, &[&["in.jsonl.gz"][..], &flat].concat())).code(0);
    let flat = home.read("flat.jsonl");
    assert_eq!(flat.lines().count(), ROWS);
    for (line, record) in flat.lines().zip(&records) {
        let own = record.strip_suffix('}').unwrap();
        assert!(line.starts_with(&format!("{own},\"custom_id\":")), "{line}\n{record}");
    }
}

#[test]
fn batches_and_repeated_fetches_show_the_same_own_fields() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let (records, cells) = records();
    let (records, cells) = (&records[LATE - 20..LATE + 20], &cells[LATE - 20..LATE + 20]);
    let text = records.join("\n") + "\n";
    home.write("in.jsonl.gz", gzip(text.as_bytes()));
    let submit = ["submit", "in.jsonl.gz", "-m", MODEL, "--wait", "--poll", "50ms", "-o", "batch.csv"];
    home.at(&server.url, &submit).code(0);
    assert_own(&home.read("batch.csv"), cells);
    std::fs::remove_file(home.path("in.jsonl.gz")).unwrap();
    home.at(&server.url, &["fetch", "last", "-o", "again.csv"]).code(0);
    assert_eq!(home.read("again.csv"), home.read("batch.csv"));
}

#[test]
fn a_slow_row_leaves_every_answer_beside_its_own_record() {
    const ROWS: usize = 260;
    // The others have 26 MB, more than is kept of the input for them.
    let (home, answered) = (Home::new(), Arc::new((Mutex::new(0), Condvar::new())));
    let count = Arc::clone(&answered);
    let service = Recorder::answering(move |request| {
        let (answered, changed) = &*count;
        let mut answered = answered.lock().unwrap();
        if request.body.contains("row 1 of") {
            let wait = changed.wait_timeout_while(answered, Duration::from_mins(1), |answered| *answered < ROWS - 1);
            assert!(!wait.unwrap().1.timed_out(), "the other rows are not held up");
        } else {
            *answered += 1;
            changed.notify_all();
        }
        let row = request.body.split("row ").nth(1).unwrap().split(' ').next().unwrap();
        ("200 OK", String::new(), Recorder::chat(&format!("\"answer {row}\"")))
    });
    let filler = "x".repeat(100_000);
    let record = |n: usize| format!(r#"{{"k":{n},"prompt":"row {n} of {ROWS} {filler}","max_tokens":4}}"#);
    home.write("in.jsonl", (1..=ROWS).map(|n| record(n) + "\n").collect::<String>());
    let args = ["in.jsonl", "-m", MODEL, "--concurrency", "4", "-o", "out.csv"];
    home.finish(home.run_command(&service.url, &args)).code(0);
    let (header, cells) = csv_rows(&home.read("out.csv"), b',');
    let content = header.iter().position(|name| name == "content").unwrap();
    assert_eq!(cells.len(), ROWS);
    for (n, row) in (1..).zip(&cells) {
        assert_eq!((row[0].clone(), row[content].clone()), (n.to_string(), format!("answer {n}")));
        assert!(row[1].starts_with(&format!("row {n} of ")));
    }
}

#[test]
fn a_retry_completes_the_table() {
    let (home, broken) = (Home::new(), Arc::new(AtomicBool::new(true)));
    let fails = Arc::clone(&broken);
    let service = Recorder::answering(move |request| {
        if request.body.contains("Zeile 3,") && fails.load(Ordering::SeqCst) {
            return ("500 Internal Server Error", String::new(), "{}".to_owned());
        }
        ("200 OK", String::new(), Recorder::chat("\"ok\""))
    });
    let (records, cells) = records();
    home.write("in.jsonl", records[LATE - 5..LATE + 5].join("\n"));
    let broken_row = records[LATE - 3].replace("Zeile 598", "Zeile 3");
    home.write("in.jsonl", home.read("in.jsonl").replace(&records[LATE - 3], &broken_row));
    let mut expected = cells[LATE - 5..LATE + 5].to_vec();
    expected[2][2] = expected[2][2].replace("Zeile 598", "Zeile 3");
    let run = ["in.jsonl", "-m", MODEL, "--retries", "0", "-o", "out.csv"];
    home.finish(home.run_command(&service.url, &run)).code(3);
    assert_own(&home.read("out.csv"), &expected);
    broken.store(false, Ordering::SeqCst);
    home.at(&service.url, &["retry", "last"]).code(0);
    home.at(&service.url, &["fetch", "last", "-o", "out.csv"]).code(0);
    assert_own(&home.read("out.csv"), &expected);
    assert!(!home.read("out.csv").contains("server_error"));
}

#[test]
fn skipped_rows_keep_their_own_fields_too() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write(
        "in.jsonl",
        lines(&[
            r#"{"id":"a","prompt":"x","note":"first"}"#,
            r#"{"id":"b","note":"no prompt","only":"here"}"#,
            r#"{"id":"c","prompt":"not JSON""#,
            r#"{"id":"a","prompt":"x","note":"the same id"}"#,
            r#"{"id":"d","prompt":"x","note":"last","note":"of two"}"#,
        ]),
    );
    home.run(&server, &["in.jsonl", "-m", MODEL, "--skip-invalid", "-o", "out.csv"]).code(3);
    let (header, cells) = csv_rows(&home.read("out.csv"), b',');
    assert_eq!(header[..5], ["id", "prompt", "note", "only", "custom_id"]);
    let own: Vec<_> = cells.iter().map(|row| row[..5].to_vec()).collect();
    assert_eq!(own[0], ["a", "x", "first", "", "a"]);
    assert_eq!(own[1], ["b", "", "no prompt", "here", "b"]);
    assert_eq!(own[2], ["", "", "", "", "c"]);
    assert_eq!(own[3][..4], ["a", "x", "the same id", ""]);
    assert_eq!(own[4], ["d", "x", "of two", "", "d"]);
    let errors: Vec<bool> = cells.iter().map(|row| row.last().unwrap().is_empty()).collect();
    assert_eq!(errors, [true, false, false, false, true]);
}

#[test]
fn a_killed_run_writes_the_whole_table_when_it_resumes() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "50ms"]));
    let cell = |n: usize| format!("line {n}\r\nand \"{n}\"\n, more");
    let quoted = |n: usize| cell(n).replace('"', "\"\"");
    let rows = (1..=40).map(|n| format!("{n},\"{}\",keep {n}\n", quoted(n))).collect::<Vec<_>>().concat();
    home.write("in.csv", format!("id,text,note\n{rows}"));
    let args = ["in.csv", "-m", MODEL, "--prompt", "{{ text }}", "--concurrency", "4", "-o", "out.csv"];
    let run = home.spawn(&server, &args);
    server.until_billed(12);
    assert_eq!(run.kill(), None, "killed in the middle");
    home.run(&server, &args).code(0).says(&["resuming"]);
    let first = home.read("out.csv");
    let (header, cells) = csv_rows(&first, b',');
    assert_eq!(header[..4], ["id", "text", "note", "custom_id"]);
    assert_eq!(cells.len(), 40);
    for (n, row) in (1..).zip(&cells) {
        assert_eq!(row[..4], [n.to_string(), cell(n), format!("keep {n}"), n.to_string()]);
    }
    // All rows come from the store and the input.
    home.run(&server, &[&args[..], &["--resume"]].concat()).code(0);
    assert_eq!(home.read("out.csv"), first);
}
