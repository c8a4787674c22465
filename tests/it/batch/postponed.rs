//! Batches that the service does not begin, because its queue is full: they are made again while somebody waits.

use serde_json::Value;

use super::{POLL, ends, fetch, state, status, submit, until_said};
use crate::support::{Canned, Fault, FaultServer, Home, MODEL, Server, answered, prompts};

const FULL: &str = "token_limit_exceeded: Enqueued token limit reached for this model. Please try again once some \
                    in_progress batches have been completed.";

/// A queue for one batch, which a batch of another job fills for so long.
fn full_queue(home: &Home, run: &str) -> Server {
    let server = Server::quick(&["--batch-queue", "1", "--batch-run", run]);
    home.write("other.jsonl", prompts(901..=901));
    submit(home, &server, &["other.jsonl", "--name", "other"]);
    home.write("in.jsonl", prompts(1..=3));
    server
}

/// The first `times` creations are refused in these words. The others reach a server with `args`.
fn refuses(times: u64, words: &str, args: &[&str]) -> (FaultServer, Server) {
    let server = Server::quick(args);
    let body = serde_json::json!({"error": words}).to_string();
    let refusal = Canned { status: "400 Bad Request".into(), headers: String::new(), body };
    let front = FaultServer::before(&server.address(), move |asked| {
        let create = asked.line == "POST /v1/batches" && asked.time <= times;
        if create { Fault::Instead(refusal.clone()) } else { Fault::None }
    });
    (front, server)
}

/// Batches of the server by their status.
fn statuses(server: &Server) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for batch in server.batches() {
        *counts.entry(batch["status"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

#[test]
fn batch_that_meets_a_full_queue_is_made_again_from_the_same_file() {
    let home = Home::new();
    let server = full_queue(&home, "1s");
    let args = ["submit", "in.jsonl", "--wait", "-o", "out.jsonl", "--summary", "s.json"];
    let out = home.at(&server.url, &[&args[..], &POLL].concat()).code(0);
    out.says(&["did not begin it (token_limit_exceeded", "making it again in"]);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.bill(), server.paid_again()), (4, 0));
    assert_eq!(server.count("/v1/files (POST)", 302), 2, "each file is uploaded once");
    assert_eq!(server.count("/v1/chat/completions", 200), 0);
    let live = statuses(&server).into_iter().find(|(status, _)| status == "COMPLETED");
    assert_eq!(live.unwrap().1, 2, "one of each job");
}

#[test]
fn wait_and_fetch_make_a_refused_batch_again() {
    for command in ["wait", "fetch"] {
        let home = Home::new();
        let server = full_queue(&home, "4s");
        let id = submit(&home, &server, &["in.jsonl"]);
        home.at(&server.url, &["status", &id]).code(0);
        assert_eq!(status(&home, &server, &[&id])["jobs"][0]["batches"][0]["status"], "POSTPONED");
        assert_eq!(state(&home, &id), "interrupted");
        match command {
            "wait" => home.at(&server.url, &[&["wait", &id][..], &POLL].concat()).code(0),
            _ => fetch(&home, &server, &id, &[]).code(0),
        };
        fetch(&home, &server, &id, &[]).code(0);
        answered(&home.read("out.jsonl"), 1..=3);
        assert_eq!(server.paid_again(), 0);
    }
}

#[test]
fn refused_creation_without_a_wait_exits_75_and_is_resumable() {
    for next in ["submit", "wait", "retry"] {
        let (front, server) = refuses(1, FULL, &[]);
        let home = Home::new();
        home.write("in.jsonl", prompts(1..=3));
        let out = home.at(&front.url, &["submit", "in.jsonl"]).code(75);
        let id = out.stdout.trim_end().to_owned();
        out.says(&[
            "did not begin 1 batch",
            "Enqueued token limit",
            "llbatch wait",
            "--via realtime",
            "llbatch cancel",
        ]);
        match next {
            "submit" => assert_eq!(home.at(&front.url, &["submit", "in.jsonl"]).code(0).stdout.trim_end(), id),
            "wait" => drop(home.at(&front.url, &[&["wait", &id][..], &POLL].concat()).code(0)),
            // It has not ended yet, and that is what a retry says.
            _ => drop(home.at(&front.url, &["retry", &id]).code(75)),
        }
        home.at(&front.url, &[&["fetch", &id, "--wait", "-o", "out.jsonl"][..], &POLL].concat()).code(0);
        answered(&home.read("out.jsonl"), 1..=3);
        assert_eq!((server.batches().len(), server.paid_again()), (1, 0), "{next}");
        assert_eq!(server.count("/v1/files (POST)", 302), 1, "{next}: the file was there");
    }
}

#[test]
fn refusal_that_does_not_pass_is_not_repeated() {
    let (front, server) = refuses(u64::MAX, "line 2: invalid request, correct it and try again", &[]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2));
    let args = ["submit", "in.jsonl", "--wait", "-o", "out.jsonl"];
    home.at(&front.url, &[&args[..], &POLL].concat()).code(3).says(&["was refused"]);
    assert_eq!(ends(&home), ["server_error", "server_error"]);
    assert_eq!(server.batches().len(), 0);
}

#[test]
fn rescue_of_a_full_queue_begins_at_the_deadline() {
    let home = Home::new();
    let server = full_queue(&home, "1h");
    let args = ["submit", "in.jsonl", "--deadline", "3s", "--rescue", "-o", "out.jsonl", "--summary", "s.json"];
    let run = home.start(home.command_at(&server.url, &[&args[..], &POLL].concat()));
    until_said(&run, "making it again");
    assert_eq!(server.count("/v1/chat/completions", 200), 0, "not before the deadline");
    let out = run.wait().code(0);
    let said = out.says(&["the deadline was reached", "sent in real time now: 3"]).stderr.clone();
    assert!(said.find("making it again").unwrap() < said.find("the deadline was reached").unwrap(), "{said}");
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.count("/v1/chat/completions", 200), server.paid_again()), (3, 0));
}

#[test]
fn failing_polls_do_not_begin_a_rescue_before_the_deadline() {
    let server = Server::quick(&["--batch-run", "700ms", "--fault", "status=400,on=batch,times=3"]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let args = ["submit", "in.jsonl", "--deadline", "1m", "--rescue", "-o", "out.jsonl"];
    home.at(&server.url, &[&args[..], &POLL].concat()).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!(server.count("/v1/chat/completions", 200), 0);
}

#[test]
fn timeout_of_a_wait_for_room_says_who_does_not_work() {
    let home = Home::new();
    let server = full_queue(&home, "1h");
    let args = ["submit", "in.jsonl", "--wait", "--timeout", "700ms", "-o", "out.jsonl"];
    let out = home.at(&server.url, &[&args[..], &POLL].concat()).code(75).says(&["1 not begun by the service"]);
    assert!(!out.stderr.contains("keeps working"), "{}", out.stderr);
    let realtime = "--via realtime` sends the rows now";
    out.says(&[realtime]);
    for _ in 0..2 {
        let wait = home.at(&server.url, &["wait", "last", "--timeout", "500ms"]).code(75);
        wait.says(&["did not begin it (token_limit_exceeded", "the next wait makes it again in", realtime]);
    }
    let id = home.at(&server.url, &["fetch", "last", "-o", "out.jsonl"]).code(75);
    id.says(&["did not begin 1 batch"]);
    // Each of the ways on ends the job.
    let dry = home.at(&server.url, &["retry", "last", "--via", "realtime", "--dry-run"]).code(0);
    dry.says(&["3 rows to send again, ", "at the realtime price"]);
    let dry = home.at(&server.url, &["retry", "last", "--via", "batch", "--dry-run"]).code(0);
    let dry = dry.says(&["3 rows in 1 batch are not sent yet, ", "at the batch price; a retry sends them first"]);
    assert!(!dry.stderr.contains("no rows"), "{}", dry.stderr);
    home.at(&server.url, &["retry", "last", "--via", "realtime"]).code(0);
    home.at(&server.url, &["fetch", "last", "-o", "out.jsonl"]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    home.write("in.jsonl", prompts(11..=13));
    home.at(&server.url, &[&args[..], &POLL].concat()).code(75);
    home.at(&server.url, &["cancel", "last"]).code(0);
    home.at(&server.url, &["fetch", "last", "-o", "out.jsonl"]).code(3);
    assert_eq!(ends(&home), ["cancelled", "cancelled", "cancelled"]);
}

#[test]
fn job_of_ten_batches_that_loses_nine_ends_whole() {
    let server = Server::quick(&["--batch-queue", "2", "--batch-run", "100ms"]);
    let home = Home::new();
    let text = prompts(1..=20)
        .lines()
        .enumerate()
        .fold(String::new(), |all, (i, line)| all + &line.replace(MODEL, &format!("org/model-{}", i % 10)) + "\n");
    home.write("in.jsonl", text);
    let args = ["submit", "in.jsonl", "--wait", "-o", "out.jsonl", "--summary", "s.json"];
    home.at(&server.url, &[&args[..], &POLL].concat()).code(0);
    answered(&home.read("out.jsonl"), 1..=20);
    assert_eq!((server.bill(), server.paid_again()), (20, 0));
    assert_eq!(server.count("/v1/files (POST)", 302), 10);
    assert_eq!(home.json("s.json")["cost"]["estimated"], Value::Bool(false));
}

#[test]
fn lost_reply_to_a_second_creation_is_looked_up() {
    // The service refuses the first creation and does the second, whose reply is lost.
    let (front, server) = refuses(1, FULL, &["--fault", "reset,on=create,after,nth=1"]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let args = ["submit", "in.jsonl", "--wait", "-o", "out.jsonl"];
    home.at(&front.url, &[&args[..], &["--poll", "1s"]].concat())
        .code(0)
        .says(&["making it again", "does not know whether it was created"]);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.bill(), server.paid_again()), (3, 0));
}
