//! `llbatch cancel`.

use super::{POLL, ends, fetch, side_by_side, state, submit, until_said};
use crate::support::{Home, Server, answered, prompts, until};

#[test]
fn cancel_keeps_the_answered_rows() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "3s", "--batch-cancel", "300ms"]));
    home.write("in.jsonl", prompts(1..=50));
    let id = submit(&home, &server, &["in.jsonl"]);
    let batch = server.batches()[0]["id"].as_str().unwrap().to_owned();
    until("some answers", || server.ask(&format!("/v1/batches/{batch}"))["progress"].as_f64().unwrap() > 10.0);
    let said = home.at(&server.url, &["cancel", &id]).code(0).stderr;
    assert_eq!(server.batches()[0]["status"], "CANCELLED");
    assert_eq!(state(&home, &id), "cancelled");
    let fetched = fetch(&home, &server, &id, &[]).code(3).stderr;
    let seen = ends(&home);
    let ok = seen.iter().filter(|code| *code == "ok").count();
    // What was cancelled has not failed.
    let left = 50 - ok;
    assert!(said.contains(&format!("{id} cancelled: {ok} of 50 rows answered, {left} cancelled\n")), "{said}");
    let listed = home.llbatch(&["status", &id, "--offline"]).code(0).stdout;
    assert!(listed.contains(&format!("{left} cancelled")), "{listed}");
    for line in [format!("50: {ok} answered, {left} cancelled"), format!("✗ {ok} of 50 answered ({left} cancelled)")]
    {
        assert!(fetched.contains(&line), "{line}: {fetched}");
    }
    assert_eq!(home.json("s.json")["exit"]["reason"], format!("{left} rows cancelled"));
    assert!(ok > 0 && ok < 50, "{ok}");
    assert_eq!(seen.iter().filter(|code| *code == "cancelled").count(), 50 - ok);
    assert_eq!(server.bill(), ok as u64);
    // Once more is no harm, nor is another.
    home.at(&server.url, &["cancel", &id, &id]).code(0).says(&["nothing to cancel"]);
    assert_eq!(server.count("/v1/batches/{id}/cancel", 200), 1);
    home.at(&server.url, &["cancel", "j-zzzzzzzz"]).code(2);
    home.at(&server.url, &["cancel"]).code(2);
}

#[test]
fn batches_never_created_are_cancelled_at_once() {
    let home = Home::new();
    let gone = Server::quick(&["--listen", &Server::own_address()]);
    let (address, url) = (gone.address(), gone.url.clone());
    drop(gone);
    home.write("in.jsonl", prompts(1..=4));
    let run = home.start(home.command_at(&url, &["submit", "in.jsonl", "-v"]));
    until_said(&run, "again in");
    assert_eq!(run.kill(), None);
    // Without a service: there is nothing to ask it.
    home.at(&url, &["cancel", "last"]).code(0);
    assert_eq!(state(&home, "last"), "cancelled");
    let server = Server::quick(&["--listen", &address]);
    fetch(&home, &server, "last", &[]).code(3);
    assert_eq!(ends(&home), ["cancelled"; 4]);
    assert_eq!(server.requests(), 0);
    // It lives no more: the same content is a new job.
    submit(&home, &server, &["in.jsonl"]);
    assert_eq!(server.batches().len(), 1);
}

#[test]
fn cancel_of_a_batch_that_just_ended_is_no_error() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,on=cancel"]));
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl"]);
    until("its end", || server.batches()[0]["status"] == "COMPLETED");
    home.at(&server.url, &["cancel", &id]).code(0);
    assert_eq!(state(&home, &id), "completed");
    fetch(&home, &server, &id, &[]).code(0);
}

#[test]
fn killed_run_is_interrupted_and_not_cancelled() {
    let (home, server) = (Home::new(), Server::quick(&["--latency", "100ms"]));
    home.write("in.jsonl", prompts(1..=40));
    let run = home.spawn(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "2"]);
    server.until_billed(3);
    assert_eq!(run.kill(), None);
    let out = home.at(&server.url, &["cancel", "last"]).code(0).says(&["is in flight", "--resume=j-", "interrupted"]);
    assert!(!out.stderr.contains("has ended"), "{}", out.stderr);
    assert_eq!(state(&home, "last"), "interrupted");
}

#[test]
fn killed_run_still_writes_its_answers_after_cancel() {
    // An earlier run of the job may have written its results, and another command may have recorded its end.
    for (state_before, delivered, shown) in
        [("running", 0, "interrupted"), ("running", 1, "interrupted"), ("completed", 1, "completed")]
    {
        let (home, server) = (Home::new(), Server::quick(&[]));
        home.write("in.jsonl", prompts(1..=5));
        let args = ["in.jsonl", "-o", "out.jsonl"];
        home.run(&server, &args).code(0);
        // As a kill between the last commit and the rename leaves it.
        std::fs::remove_file(home.path("out.jsonl")).unwrap();
        let index = rusqlite::Connection::open(home.state().join("ledger.db")).unwrap();
        let killed = "UPDATE job SET state = ?1, delivered = ?2, exit = NULL";
        assert_eq!(index.execute(killed, rusqlite::params![state_before, delivered]).unwrap(), 1);
        assert_eq!(state(&home, "last"), shown);
        home.at(&server.url, &["status", "--cost"]).code(0);
        home.at(&server.url, &["cancel", "last"]).code(0).says(&[shown]);
        home.run(&server, &args).code(0).says(&["5 answered before"]);
        answered(&home.read("out.jsonl"), 1..=5);
        assert_eq!(server.bill(), 5, "nothing is paid again");
    }
}

#[test]
fn several_jobs_are_cancelled_at_once() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h"]));
    let jobs: Vec<String> = (1..=3)
        .map(|n| {
            home.write("in.jsonl", prompts(n..=n + 2));
            submit(&home, &server, &["in.jsonl"])
        })
        .collect();
    home.at(&server.url, &["cancel", &jobs[0], &jobs[1]]).code(0);
    let states: Vec<String> = jobs.iter().map(|job| state(&home, job)).collect();
    assert_eq!(states, ["cancelled", "cancelled", "running"]);
}

#[test]
fn waiting_command_blocks_no_other() {
    let slow = ["--batch-run", "1h", "--batch-cancel", "100ms"];
    side_by_side(&["wait", "fetch", "submit"], |how| {
        let (home, server) = (Home::new(), Server::quick(&slow));
        home.write("in.jsonl", prompts(1..=4));
        let begin = |args: &[&str]| home.start(home.command_at(&server.url, &[args, &POLL].concat()));
        let waits = if *how == "submit" {
            begin(&["submit", "in.jsonl", "--wait", "-o", "out.jsonl"])
        } else {
            submit(&home, &server, &["in.jsonl"]);
            match *how {
                "wait" => begin(&["wait", "last"]),
                _ => begin(&["fetch", "last", "--wait", "-o", "out.jsonl"]),
            }
        };
        let asked = || server.count("/v1/batches/{id}", 200);
        until("the first question", || asked() > 0);
        // From other terminals, as often as one likes.
        for _ in 0..3 {
            home.at(&server.url, &["fetch", "last", "--partial", "-o", "part.jsonl"])
                .code(75)
                .says(&["not finished yet"]);
        }
        let before = asked();
        until("it goes on asking", || asked() > before);
        home.at(&server.url, &["cancel", "last"]).code(0).says(&["cancelled"]);
        waits.wait().code(3);
        assert_eq!(state(&home, "last"), "cancelled");
        if *how != "wait" {
            assert_eq!(ends(&home), ["cancelled"; 4]);
        }
        assert_eq!(server.count("/v1/batches/{id}/cancel", 200), 1);
    });
}

#[test]
fn removed_job_ends_the_wait() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h"]));
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl"]);
    let wait = home.start(home.command_at(&server.url, &[&["wait", &id][..], &["--poll", "6s"]].concat()));
    until("the first question", || server.count("/v1/batches/{id}", 200) > 0);
    home.at(&server.url, &["cancel", &id]).code(0);
    home.at(&server.url, &["clean", &id, "--force"]).code(0);
    wait.wait().code(1).says(&["was removed by another llbatch"]);
}

#[test]
fn batch_that_is_cancelled_for_ever_can_be_given_up() {
    let server = Server::quick(&["--batch-run", "1h", "--batch-cancel", "1h"]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let id = submit(&home, &server, &["in.jsonl"]);
    home.at(&server.url, &["cancel", &id]).code(0).says(&["is being cancelled since", "--abandon"]);
    for args in [
        &["retry", &id, "--via", "realtime"][..],
        &["wait", &id, "--timeout", "100ms", "--poll", "50ms"],
        &["fetch", &id, "-o", "out.jsonl"],
        &["fetch", &id, "--wait", "--timeout", "100ms", "-o", "out.jsonl"],
    ] {
        let out = home.at(&server.url, args).code(75);
        out.says(&["is being cancelled since", &format!("llbatch cancel {id}"), "--abandon"]);
    }
    home.at(&server.url, &["status", &id]).code(0).says(&["is being cancelled since", "--abandon"]);
    let since = || super::status(&home, &server, &[&id])["jobs"][0]["batches"][0]["cancelling_since"].clone();
    assert!(since().as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{}", since());
    home.at(&server.url, &["cancel", &id, "--abandon"])
        .code(0)
        .says(&["1 batch given up", "3 rows may have been billed"]);
    assert!(since().is_null(), "it is over");
    fetch(&home, &server, &id, &[]).code(3);
    assert_eq!(ends(&home), ["missing", "missing", "missing"]);
    let cost = home.json("s.json")["cost"].clone();
    assert!(cost["at_risk_usd"].as_f64().unwrap() > 0.0, "{cost}");
    // Both ways on are open.
    home.at(&server.url, &["retry", &id, "--via", "realtime"]).code(0);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_ne!(submit(&home, &server, &["in.jsonl"]), id);
}

#[test]
fn job_can_be_given_up_while_the_service_is_away() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let server = Server::quick(&["--batch-run", "1h"]);
    let (url, id) = (server.url.clone(), submit(&home, &server, &["in.jsonl"]));
    drop(server);
    home.at(&url, &["cancel", &id, "--abandon"]).code(0).says(&["1 batch given up"]);
    home.at(&url, &["fetch", &id, "-o", "out.jsonl"]).code(3);
    assert_eq!(ends(&home), ["missing", "missing", "missing"]);
}

#[test]
fn cancel_waits_for_a_command_that_is_creating_batches() {
    // The other command holds the job while it waits for room, for longer than others wait for a job.
    let server = Server::quick(&["--batch-run", "1h", "--fault", "status=429,retry-after=6,on=create,nth=1"]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let args = ["submit", "in.jsonl", "--wait", "--poll", "100ms", "-o", "out.jsonl"];
    let submit = home.start(home.command_at(&server.url, &args));
    until("the first try", || server.count("/v1/batches (POST)", 429) > 0);
    home.at(&server.url, &["cancel", "last"]).code(0).says(&["is working on", "waiting for it", "cancelled"]);
    submit.wait().code(3);
    assert_eq!(ends(&home), ["cancelled", "cancelled", "cancelled"]);
}
