//! `submit --reuse` on its other ways: after a kill, with `--resume` and with `--via auto`.

use super::{POLL, fetch, submit};
use crate::support::{Home, MODEL, Server, paid_hash, rows, until};

/// A row whose answer is not cut off.
fn line(n: u32, model: &str) -> String {
    format!("{{\"id\":\"q{n}\",\"prompt\":\"question {n}\",\"model\":\"{model}\",\"max_tokens\":900}}\n")
}

/// Answers these questions in a job of their own.
fn answer(home: &Home, server: &Server, lines: &str) {
    home.write("earlier.jsonl", lines);
    home.run(server, &["earlier.jsonl", "-o", "earlier.out.jsonl"]).code(0);
}

/// Asserts that the results answer questions 1 to `count`, `reused` of them without a request.
#[track_caller]
fn answered(home: &Home, count: u32, reused: usize) {
    let found = rows(&home.read("out.jsonl"));
    assert_eq!(found.len(), count as usize);
    for (n, row) in (1..).zip(&found) {
        assert!(row.content().contains(&paid_hash(&format!("question {n}"))), "{}", row.line);
    }
    assert_eq!(found.iter().filter(|row| row.line["reused"] == true).count(), reused);
}

#[test]
fn submission_killed_before_its_plan_still_reuses() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    answer(&home, &server, &(1..=5).map(|n| line(n, MODEL)).collect::<String>());
    // Between the job's entry and its plan lies the copy of its input.
    home.write("in.jsonl", (1..=3000).map(|n| line(n, MODEL)).collect::<String>());
    let args = ["submit", "in.jsonl", "--reuse", "-o", "out.jsonl", "--wait", POLL[0], POLL[1]];
    let run = home.start(home.command_at(&server.url, &args));
    let entered = |jobs: std::fs::ReadDir| jobs.flatten().any(|file| file.path().is_dir());
    until("the copy", || std::fs::read_dir(home.state().join("jobs")).is_ok_and(entered));
    assert_eq!(run.kill(), None);
    assert!(server.batches().is_empty());
    home.at(&server.url, &args).code(0);
    answered(&home, 3000, 5);
    assert_eq!((server.bill(), server.batches().len()), (3000, 1));
}

#[test]
fn resumed_submission_takes_answers_that_other_jobs_have_by_now() {
    let faults = ["--fault", "status=500,on=row,contains=question 2,times=1"];
    let (home, server) = (Home::new(), Server::quick(&faults));
    home.write("in.jsonl", (1..=4).map(|n| line(n, MODEL)).collect::<String>());
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(3);
    answer(&home, &server, &line(2, MODEL));
    assert_eq!((server.bill(), server.batches().len()), (4, 1));
    let args = ["submit", "in.jsonl", "--resume", "--reuse", "-o", "out.jsonl", "--wait", POLL[0], POLL[1]];
    home.at(&server.url, &args).code(0).says(&["answers of 1 earlier job are reused"]);
    answered(&home, 4, 1);
    assert_eq!((server.bill(), server.batches().len()), (4, 1));
}

#[test]
fn rows_in_real_time_beside_batches_reuse_too() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let lines = |numbers: &[u32]| {
        let model = |n: u32| if n.is_multiple_of(2) { MODEL } else { "deepseek-ai/DeepSeek-R1" };
        numbers.iter().map(|n| line(*n, model(*n))).collect::<String>()
    };
    answer(&home, &server, &lines(&[1, 2, 3]));
    home.write("in.jsonl", lines(&[1, 2, 3, 4, 5, 6]));
    let args = ["submit", "in.jsonl", "--via", "auto", "--reuse", "-o", "out.jsonl", "--wait", POLL[0], POLL[1]];
    let out = home.at(&server.url, &args).code(0);
    assert_eq!(out.stderr.matches("answers of 1 earlier job are reused").count(), 1, "{}", out.stderr);
    answered(&home, 6, 3);
    assert_eq!((server.bill(), server.batches()[0]["rows"].clone()), (6, 2.into()));
}
