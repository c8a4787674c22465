//! `--group-by-prefix`: rows whose prompts begin alike are sent near each other, and nothing else changes.

use crate::support::{Home, MODEL, Out, Server, answered, answered_once, ids, paid_hash, prompts, rows};

const GROUPED: [&str; 6] = ["in.jsonl", "--group-by-prefix", "-o", "out.jsonl", "--summary", "s.json"];

/// Question `n` about one of `documents`, each of 6,400 bytes: about 1,600 tokens.
fn question(n: u32, documents: u32) -> String {
    format!("document {:03} {} question {n}", n % documents, "of many words ".repeat(457))
}

fn input(count: u32, documents: u32) -> String {
    let line = |n| {
        let prompt = question(n, documents);
        format!("{{\"id\":\"q{n}\",\"prompt\":\"{prompt}\",\"model\":\"{MODEL}\",\"max_tokens\":16}}\n")
    };
    (1..=count).map(line).collect()
}

/// Asserts that the results are the answers to the first `count` questions, in order.
#[track_caller]
fn in_order(results: &str, count: u32, documents: u32) {
    let found = rows(results);
    assert!(found.iter().map(|row| row.id.clone()).eq(ids(1..=count)), "ids in input order");
    for (n, row) in (1..).zip(&found) {
        assert!(row.content().contains(&paid_hash(&question(n, documents))), "{}", row.line);
    }
}

fn grouped(home: &Home, server: &Server, args: &[&str]) -> Out {
    home.run(server, &[&GROUPED, args].concat())
}

#[test]
fn equal_beginnings_are_cached_and_results_keep_the_order() {
    let home = Home::new();
    // 60 documents have 96,000 tokens, and the server keeps 65,536.
    home.write("in.jsonl", input(300, 60));
    let cached = |args: &[&str]| {
        let server = Server::start(&["--prefix-cache", "60s"]);
        home.at(&server.url, &["models", "--refresh"]).code(0);
        home.run(
            &server,
            &[&["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "4"], args].concat(),
        )
        .code(0);
        in_order(&home.read("out.jsonl"), 300, 60);
        assert_eq!((server.bill(), server.paid_again()), (300, 0));
        let summary = home.json("s.json");
        let tokens = &summary["tokens"];
        assert_eq!(tokens["cached"], server.stats()["bill"]["cached_tokens"]);
        tokens["cached"].as_f64().unwrap() / tokens["prompt"].as_f64().unwrap()
    };
    assert!(cached(&[]) < 0.01, "another document each time");
    let share = cached(&["--group-by-prefix", "--fresh"]);
    // Of five questions about a document, four find it in the cache, unless they leave at the same time as the first.
    assert!(share > 0.7, "{share}");
}

#[test]
fn killed_runs_name_the_rows_in_flight_and_pay_for_no_others() {
    let home = Home::new();
    let server = Server::start(&["--latency", "15ms"]);
    home.write("in.jsonl", input(240, 12));
    let mut risked = 0;
    for kill in [1, 30, 70, 140, 200] {
        let run = home.spawn(&server, &[&GROUPED[..], &["--concurrency", "4"]].concat());
        server.until_billed(kill);
        if run.kill().is_none() {
            risked += 4;
        }
    }
    // The flag is no part of the job: without it, the same command resumes.
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json"]).code(0);
    in_order(&home.read("out.jsonl"), 240, 12);
    assert!(server.paid_again() <= risked, "{} of {risked}", server.paid_again());
    // Rows that the order left out so far were not in flight.
    let named = out.says(&["may have been sent without an answer"]);
    let named = named.stderr.lines().find(|line| line.contains("billed twice")).unwrap();
    assert!(named.matches(", q").count() < 16, "{named}");
}

#[test]
fn repeats_and_invalid_rows_need_no_turn() {
    let home = Home::new();
    let server = Server::start(&[]);
    let line = |n: u32| {
        let question = (n - 1) % 7 + 1;
        format!("{{\"id\":\"q{n}\",\"prompt\":\"question {question}\",\"model\":\"{MODEL}\",\"max_tokens\":16}}\n")
    };
    home.write("in.jsonl", (1..=200).map(line).collect::<String>());
    grouped(&home, &server, &["--dedupe", "--concurrency", "2"]).code(0);
    answered_once(&home.read("out.jsonl"), 200, 7);
    assert_eq!(server.bill(), 7);
    home.write("in.jsonl", prompts(1..=50) + "{\"id\":\"bad\"}\n");
    grouped(&home, &server, &["--skip-invalid"]).code(3);
    let results = home.read("out.jsonl");
    let good: String = results.lines().take(50).flat_map(|line| [line, "\n"]).collect();
    answered(&good, 1..=50);
    assert_eq!(rows(&results)[50].code.as_deref(), Some("invalid_request"));
}

#[test]
fn stopped_run_resumes_and_streams_in_order() {
    let home = Home::new();
    let server = Server::start(&["--latency", "5ms"]);
    home.write("in.jsonl", input(200, 10));
    // The budget stops the run in the middle of the order.
    let args = ["in.jsonl", "--group-by-prefix", "--concurrency", "2", "--max-cost"];
    home.run(&server, &[&args[..], &["0.005"]].concat()).code(5);
    let out = home.run(&server, &[&args[..], &["1"]].concat()).code(0);
    in_order(&out.stdout, 200, 10);
    assert_eq!((server.bill(), server.paid_again()), (200, 0));
}
