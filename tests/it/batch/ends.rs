//! The ends of a batch. Each of them accounts for every row.

use super::{ends, fetch, side_by_side, state, submit};
use crate::support::{Home, MODEL, Server, answered, ids, prompts, rows};

/// The flags of the server, the exit code of `fetch`, the state of the job, and the number of rows by error code.
type Case<'a> = (&'a [&'a str], i32, &'a str, &'a [(&'a str, usize)]);

#[test]
fn every_end_accounts_for_every_row() {
    let cases: &[Case<'_>] = &[
        (&[], 0, "completed", &[("ok", 10)]),
        (&["--fault", "status=400,on=row,nth=3"], 3, "partial", &[("invalid_request", 1), ("ok", 9)]),
        // No output file at all.
        (&["--fault", "status=500,on=row"], 3, "failed", &[("server_error", 10)]),
        (&["--fault", "status=429,on=row,nth=1"], 3, "partial", &[("ok", 9), ("rate_limited", 1)]),
        (&["--batch-fails", "no room today"], 3, "failed", &[("server_error", 10)]),
        (&["--expires-at", "0.5"], 3, "partial", &[("expired", 5), ("ok", 5)]),
        (&["--expires-at", "0.5", "--list-undone"], 3, "partial", &[("expired", 5), ("ok", 5)]),
        (&["--expires-at", "0"], 3, "expired", &[("expired", 10)]),
        (&["--expires-at", "1"], 0, "completed", &[("ok", 10)]),
    ];
    let cases: Vec<_> = cases.iter().enumerate().collect();
    side_by_side(&cases, |(i, (args, code, wanted, counts))| {
        let unset = ["omit", "null", "empty"][i % 3];
        let (home, server) = (Home::new(), Server::quick(&[args, &["--unset", unset][..]].concat()));
        home.write("in.jsonl", prompts(1..=10));
        let id = submit(&home, &server, &["in.jsonl"]);
        fetch(&home, &server, &id, &[]).code(*code);
        let mut seen = ends(&home);
        assert_eq!(rows(&home.read("out.jsonl")).iter().map(|row| row.id.clone()).collect::<Vec<_>>(), ids(1..=10));
        seen.sort();
        let expected: Vec<&str> = counts.iter().flat_map(|(code, n)| std::iter::repeat_n(*code, *n)).collect();
        assert_eq!(seen, expected, "{args:?}");
        assert_eq!(state(&home, &id), *wanted, "{args:?}");
        let paid = seen.iter().filter(|code| *code == "ok").count() as u64;
        assert_eq!(server.bill(), paid, "{args:?}");
        assert_eq!(home.json("s.json")["rows"]["succeeded"], paid);
        // `wait` agrees with `fetch`.
        home.at(&server.url, &["wait", &id]).code(*code);
    });
}

#[test]
fn failed_batch_gives_each_row_its_message() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-fails", "no room today"]));
    home.write("in.jsonl", prompts(1..=2));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(3).says(&["no room today"]);
    for row in rows(&home.read("out.jsonl")) {
        assert!(row.line["error"]["message"].as_str().unwrap().contains("no room today"), "{}", row.line);
        assert!(row.line["response"].is_null());
    }
    assert_eq!(home.json("s.json")["cost"]["usd"], 0, "rows that failed are not billed");
    assert_eq!(super::status(&home, &server, &[&id])["jobs"][0]["batches"][0]["error"], "no room today");
    // A job that failed does not live: the same command is a new attempt.
    assert_ne!(submit(&home, &server, &["in.jsonl"]), id);
}

#[test]
fn rows_of_several_batches_with_different_ends_stay_in_order() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,on=create,nth=1"]));
    let text = prompts(1..=8)
        .lines()
        .enumerate()
        .fold(String::new(), |all, (i, line)| all + &line.replace(MODEL, ["a/x", "b/y"][i % 2]) + "\n");
    home.write("in.jsonl", text);
    let id = home.at(&server.url, &["submit", "in.jsonl"]).code(3).stdout.trim_end().to_owned();
    fetch(&home, &server, &id, &[]).code(3);
    let seen = ends(&home);
    assert_eq!(seen.iter().filter(|code| *code == "ok").count(), 4);
    assert!((0..8).all(|i| (seen[i] == "ok") == (seen[i % 2] == "ok")), "{seen:?}");
    // Only the refused rows are sent again.
    home.at(&server.url, &["retry", &id]).code(0);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=8);
    assert_eq!((server.bill(), server.paid_again()), (8, 0));
}
