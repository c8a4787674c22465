//! Batch commands that were cut short: the second run must not mistake this for the end. The crash loops in `tests/crash`
//! found these cases; here each happens every time.

use crate::support::{Home, Server, answered, codes, post, prompts, request, until};

/// The job's id, after `submit`.
fn submitted(home: &Home, server: &Server) -> String {
    home.write("in.jsonl", prompts(1..=40));
    home.llbatch(&["submit", "in.jsonl", "--base-url", &server.url]).code(0).stdout.trim().to_owned()
}

/// The ids of the server's batches.
fn batches(server: &Server) -> Vec<String> {
    let stats = server.stats();
    let jobs = stats["batches"]["jobs"].as_array().unwrap();
    jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn second_cancel_keeps_the_answers() {
    let server = Server::start(&["--batch-validation", "0s", "--batch-run", "4s", "--batch-cancel", "0s"]);
    let home = Home::new();
    submitted(&home, &server);
    let (address, id) = (server.address(), batches(&server).remove(0));
    until("some progress", || {
        let batch = request(&address, "GET", &format!("/v1/batches/{id}"), "authorization: Bearer k\r\n", "").json();
        batch["progress"].as_f64().unwrap() >= 20.0
    });
    // As by a first cancel that was killed before it could write down that there was one.
    assert_eq!(post(&address, &format!("/v1/batches/{id}/cancel"), Some("k"), "").0, 200);
    // This one gets CANCELLED at once, and not yet in which file the answers are.
    home.llbatch(&["cancel", "last", "--base-url", &server.url]).code(0);
    home.llbatch(&["fetch", "last", "-o", "out.jsonl", "--base-url", &server.url]).code(3);
    let found = codes(&home.read("out.jsonl"));
    let answers = found.iter().filter(|(_, code)| code == "ok").count();
    assert_eq!(found.len(), 40);
    assert!((1..40).contains(&answers), "{found:?}");
    assert_eq!(answers as u64, server.bill(), "what was paid for is kept: {found:?}");
    assert!(found.iter().all(|(_, code)| code == "ok" || code == "cancelled"), "{found:?}");
}

#[test]
fn batch_that_ended_in_its_create_reply_has_results() {
    let server = Server::start(&["--batch-validation", "0s", "--batch-run", "0s"]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=5));
    let args = ["submit", "in.jsonl", "--wait", "--poll", "100ms", "-o", "out.jsonl", "--base-url", &server.url];
    home.llbatch(&args).code(0);
    answered(&home.read("out.jsonl"), 1..=5);
}

#[test]
fn job_killed_before_planning_says_so_and_can_be_cleaned() {
    let server = Server::start(&["--batch-validation", "0s", "--batch-run", "1m"]);
    let home = Home::new();
    let job = submitted(&home, &server);
    let db = rusqlite::Connection::open(home.state().join(format!("jobs/{job}.db"))).unwrap();
    db.execute_batch("DELETE FROM batch; DELETE FROM request;").unwrap();
    drop(db);
    let base = ["--base-url", server.url.as_str()];
    for command in [&["wait", "last"][..], &["fetch", "last", "-o", "out.jsonl"], &["retry", "last"]] {
        let out = home.llbatch(&[command, &base].concat()).code(1);
        out.says(&[&job, "nothing was sent", "`llbatch submit` again", "`llbatch cancel"]);
    }
    assert!(!home.exists("out.jsonl"));
    home.llbatch(&[&["cancel", "last"][..], &base].concat()).code(0).says(&[&job, "the job is removed"]);
    home.llbatch(&["status", "--offline"]).code(0).says(&["no jobs"]);
    assert!(!home.state().join(format!("jobs/{job}")).exists());
}
