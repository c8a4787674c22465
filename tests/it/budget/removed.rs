//! Money of jobs that `clean` removes.

use serde_json::Value;

use super::{billed, rows};
use crate::support::{Home, Server};

/// The known part of the history, in USD.
fn spent(home: &Home) -> f64 {
    let document = home.llbatch(&["status", "--cost", "--json"]).code(0).stdout;
    serde_json::from_str::<Value>(&document).unwrap()["usd"].as_f64().unwrap()
}

#[test]
fn removed_job_of_a_killed_run_keeps_its_cost_and_its_budget() {
    let home = Home::new();
    let server = Server::start(&["--latency", "100ms"]);
    home.write("c.toml", "[budget]\nper_day = 0.00008\n");
    home.write("in.jsonl", rows(60, 50));
    let args = ["run", "in.jsonl", "-o", "out.jsonl", "--fresh", "--concurrency", "4", "--config", "c.toml"];
    let running = home.start(home.command_at(&server.url, &args));
    server.until_billed(9);
    assert_eq!(running.kill(), None);
    let first = billed(&server);
    home.llbatch(&["clean", "last", "--force"]).code(0);
    let known = spent(&home);
    // Up to four requests were in flight, and one of them costs up to $0.000006.
    assert!(known > 0.0 && known <= first + 1e-12 && first - known <= 0.000_025, "{known} of {first}");
    for _ in 0..3 {
        home.at(&server.url, &args).code(5);
        // Nothing is there to be removed if nothing was sent.
        home.llbatch(&["clean", "last", "--force"]);
    }
    assert!(billed(&server) <= 0.000_08, "{}", billed(&server));
    assert!((spent(&home) - billed(&server)).abs() <= 0.000_025, "{} {}", spent(&home), billed(&server));
}

#[test]
fn removed_job_that_cannot_be_read_keeps_what_the_index_knows() {
    let home = Home::new();
    let server = Server::quick(&[]);
    home.write("in.jsonl", rows(6, 50));
    home.at(&server.url, &["run", "in.jsonl", "-o", "out.jsonl"]).code(0);
    let (before, bill) = (spent(&home), billed(&server));
    assert!((before - bill).abs() < 1e-12, "{before} {bill}");
    // The index knows a cost that the history lacks, and the job's own database is gone.
    let index = rusqlite::Connection::open(home.state().join("ledger.db")).unwrap();
    index.execute_batch("DELETE FROM spend; UPDATE job SET state = 'running'").unwrap();
    let id: String = index.query_row("SELECT id FROM job", [], |row| row.get(0)).unwrap();
    super::shared::damage(&home, &id);
    home.llbatch(&["clean", &id, "--force"]).code(0);
    assert!((spent(&home) - bill).abs() < 1e-12, "{} {bill}", spent(&home));
}
