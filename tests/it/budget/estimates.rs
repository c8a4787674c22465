//! The estimate of a job is one figure: in `check`, in `submit`, in `status`, and for a retry.

use serde_json::Value;

use super::{TURBO, rows};
use crate::support::{Home, Server};

fn document(home: &Home, server: &Server, args: &[&str]) -> Value {
    let out = home.at(&server.url, args);
    serde_json::from_str(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", out.stdout, out.stderr))
}

/// The estimate of the last job.
fn estimate(home: &Home, server: &Server) -> Value {
    document(home, server, &["status", "last", "--json"])["jobs"][0]["cost"]["estimated_usd"].clone()
}

#[test]
fn check_and_submit_agree() {
    let home = Home::new();
    let server = Server::quick(&[]);
    let long = rows(30, 40).replace("question", &"A longer question, with «unusual» characters: ".repeat(20));
    let unbounded = rows(3, 40).replace(",\"max_tokens\":40", "");
    let beside = rows(4, 9).replace(TURBO, "Qwen/Qwen2.5-7B-Instruct-Turbo").replace("\"q", "\"r");
    let invalid =
        "{\"id\":\"bad\"}\n{\"id\":\"q1\",\"prompt\":\"a second q1\",\"max_tokens\":5000,\"model\":\"m/n\"}\n";
    let twice =
        "{\"id\":\"q2\",\"prompt\":\"a second q2\",\"max_tokens\":5000,\"model\":\"".to_owned() + TURBO + "\"}\n";
    for (input, flags) in [
        (long.clone(), &[][..]),
        (unbounded, &[]),
        (long.clone() + &beside, &["--via", "auto"]),
        (long + invalid + &twice, &["--skip-invalid"]),
    ] {
        home.write("in.jsonl", input);
        let dry = document(&home, &server, &[&["submit", "in.jsonl", "--dry-run", "--json"], flags].concat());
        let whole = if flags.contains(&"auto") { "auto_usd" } else { "batch_usd" };
        let expected = dry["cost"][whole]["max"].clone();
        let out = home.at(&server.url, &[&["submit", "in.jsonl", "--again"], flags].concat()).code(0);
        assert_eq!(estimate(&home, &server), expected, "{flags:?}: {dry}\n{}", out.stderr);
    }
}

#[test]
fn duplicates_are_not_priced() {
    let home = Home::new();
    let server = Server::quick(&[]);
    let cost =
        |home: &Home| document(home, &server, &["check", "in.jsonl", "--skip-invalid", "--json"])["cost"].clone();
    home.write("in.jsonl", rows(3, 40));
    let alone = cost(&home);
    home.write("in.jsonl", rows(3, 40) + &rows(2, 900));
    assert_eq!(cost(&home), alone);
}

#[test]
fn retry_prices_the_rows_that_it_sends() {
    let home = Home::new();
    let server = Server::quick(&["--fault", "status=400,on=row,contains=question 2"]);
    let row = rows(2, 40).lines().nth(1).unwrap().to_owned();
    home.write("one.jsonl", row);
    let check = document(&home, &server, &["check", "one.jsonl", "--json"]);
    let [realtime, batch] = ["realtime_usd", "batch_usd"].map(|way| {
        let usd: f64 = check["cost"][way]["max"].to_string().parse().unwrap();
        format!("about ${usd:.6}")
    });
    home.write("in.jsonl", rows(3, 40) + "{\"id\":\"bad\"}\n" + &rows(1, 9000));
    let args = ["submit", "in.jsonl", "--skip-invalid", "--wait", "--poll", "50ms", "-o", "out.jsonl"];
    home.at(&server.url, &args).code(3);
    for (via, cost) in [("realtime", realtime), ("batch", batch)] {
        let dry = home.at(&server.url, &["retry", "last", "--all", "--dry-run", "--via", via]).code(0);
        dry.says(&["1 row to send again", &cost, "; 2 rows have no valid request"]);
    }
}

#[test]
fn unsent_batches_are_no_retry() {
    let home = Home::new();
    let server = Server::quick(&["--fault", "status=401,on=register,times=always"]);
    home.write("in.jsonl", rows(3, 40));
    home.at(&server.url, &["submit", "in.jsonl"]).code(4);
    let dry = home.at(&server.url, &["retry", "last", "--dry-run"]).code(0);
    dry.says(&["3 rows in 1 batch are not sent yet, about $0.0000", "at the batch price; a retry sends them first"]);
}
