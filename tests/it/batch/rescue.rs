//! `submit --deadline --rescue`: the results are complete at the deadline, within a budget.

use serde_json::{Value, json};

use super::{ends, state};
use crate::support::{Home, Out, Server, answered, prompts, until};

fn night(home: &Home, server: &Server, rows: u32, args: &[&str]) -> Out {
    home.write("in.jsonl", prompts(1..=rows));
    let all = ["submit", "in.jsonl", "--poll", "50ms", "-o", "out.jsonl", "--summary", "s.json"];
    home.at(&server.url, &[&all[..], args].concat())
}

fn money(value: &Value) -> i64 {
    // To hundredths of a microdollar: every amount here is a multiple of that.
    (value.as_f64().unwrap() * 1e8).round() as i64
}

/// Rows of 26 tokens, at $0.06 a million and half of that.
#[track_caller]
fn receipt(home: &Home, batch: u64, realtime: u64) {
    let summary = home.json("s.json");
    let cost = &summary["cost"];
    let (batch, realtime) = (i64::try_from(batch).unwrap(), i64::try_from(realtime).unwrap());
    let list = (batch + realtime) * 156;
    assert_eq!(money(&cost["realtime_usd"]), list, "{cost}");
    assert_eq!(money(&cost["usd"]), batch * 78 + realtime * 156, "{cost}");
    assert_eq!(money(&cost["usd"]) + money(&cost["saved_usd"]), list, "{cost}");
}

#[test]
fn rows_unanswered_at_the_deadline_finish_in_real_time() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "3s"]));
    night(&home, &server, 60, &["--deadline", "1s", "--rescue", "--max-cost", "1"])
        .code(0)
        .says(&["deadline", "realtime"]);
    answered(&home.read("out.jsonl"), 1..=60);
    let realtime = server.count("/v1/chat/completions", 200);
    let batch = server.stats()["batches"]["bill"]["requests"].as_u64().unwrap();
    assert!(batch > 0 && realtime > 0, "{batch} and {realtime}");
    assert_eq!((batch + realtime, server.paid_again()), (60, 0));
    assert_eq!(server.batches()[0]["status"], "CANCELLED");
    receipt(&home, batch, realtime);
    assert_eq!(
        home.json("s.json")["rows"],
        json!({"total": 60, "succeeded": 60, "failed": 0, "pending": 0, "truncated": 60, "truncated_empty": 0, "fenced": 0, "reused": 0})
    );
    // It is one job, and what is known of it stays.
    let id = home.json("s.json")["job"].as_str().unwrap().to_owned();
    home.at(&server.url, &["fetch", &id, "-o", "again.jsonl"]).code(0);
    assert_eq!(home.read("again.jsonl"), home.read("out.jsonl"));
    assert_eq!(state(&home, &id), "completed");
}

#[test]
fn a_cancel_that_fails_once_at_the_deadline_is_repeated() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h", "--fault", "status=503,on=cancel,nth=1"]));
    night(&home, &server, 3, &["--deadline", "300ms", "--rescue", "--max-cost", "1"]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.batches()[0]["status"].as_str(), server.paid_again()), (Some("CANCELLED"), 0));
}

#[test]
fn rows_expired_before_the_deadline_are_rescued() {
    let (home, server) = (Home::new(), Server::quick(&["--expires-at", "0.5"]));
    night(&home, &server, 10, &["--deadline", "30s", "--rescue", "--max-cost", "1"]).code(0);
    answered(&home.read("out.jsonl"), 1..=10);
    receipt(&home, 5, 5);
    assert_eq!((server.bill(), server.paid_again()), (10, 0));
}

#[test]
fn rows_failed_before_the_deadline_are_rescued() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-fails", "no room today"]));
    night(&home, &server, 5, &["--deadline", "30s", "--rescue", "--max-cost", "1"]).code(0).says(&["no room today"]);
    answered(&home.read("out.jsonl"), 1..=5);
    receipt(&home, 0, 5);
}

#[test]
fn rows_done_in_time_cost_only_the_batch_price() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    night(&home, &server, 10, &["--deadline", "30s", "--rescue", "--max-cost", "1"]).code(0);
    answered(&home.read("out.jsonl"), 1..=10);
    receipt(&home, 10, 0);
    assert_eq!(server.count("/v1/chat/completions", 200), 0);
}

#[test]
fn too_small_a_budget_rescues_nothing() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h"]));
    let out = night(&home, &server, 6, &["--deadline", "500ms", "--rescue", "--max-cost", "0.0000001"]);
    assert_eq!(out.code, 5, "{}", out.stderr);
    assert!(!home.exists("out.jsonl"));
    assert_eq!(server.requests(), 0);
}

#[test]
fn budget_for_part_rescues_part_of_the_rows() {
    let (home, server) = (Home::new(), Server::quick(&["--expires-at", "0"]));
    home.write("in.jsonl", prompts(1..=60));
    let id = super::submit(&home, &server, &["in.jsonl"]);
    super::fetch(&home, &server, &id, &[]).code(3);
    // Each may cost up to its bound; a few fit, the others stay expired.
    let retry = ["retry", &id, "--via", "realtime", "--max-cost"];
    let out = home.at(&server.url, &[&retry[..], &["0.00003", "--json"]].concat()).code(5);
    let summary: Value = serde_json::from_str(&out.stdout).unwrap();
    let next = summary["exit"]["next"].as_str().unwrap();
    assert!(next.starts_with("llbatch retry j-"), "a command that exists: {next}");
    super::fetch(&home, &server, &id, &[]).code(3);
    let ok = ends(&home).iter().filter(|code| *code == "ok").count() as u64;
    assert!(ok > 0 && ok < 60, "{ok}");
    assert!(ends(&home).iter().all(|code| code == "ok" || code == "expired"), "{:?}", ends(&home));
    assert_eq!(server.bill(), ok);
    assert!(money(&home.json("s.json")["cost"]["usd"]) <= 3000);
    // With more money the job goes on.
    home.at(&server.url, &[&retry[..], &["1"]].concat()).code(0);
    super::fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=60);
    assert_eq!((server.bill(), server.paid_again()), (60, 0));
}

#[test]
fn deadline_alone_ends_the_wait() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1500ms"]));
    let out =
        night(&home, &server, 4, &["--deadline", "300ms"]).code(5).says(&["deadline", "keeps working", "llbatch wait"]);
    assert!(!home.exists("out.jsonl"));
    let id = out.stdout.trim_end().to_owned();
    super::fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=4);
    for args in [
        &["--rescue"][..],
        &["--max-cost", "1"],
        &["--deadline", "soon"],
        &["--deadline", "1s", "--rescue", "--max-cost", "0"],
    ] {
        assert_eq!(night(&home, &server, 4, args).code, 2, "{args:?}");
    }
    for (given, said) in
        [("25:00", "`25:00` is not a time of day"), ("soon", "`soon` is neither a duration nor a time of day")]
    {
        let out = night(&home, &server, 4, &["--deadline", given]).code(2);
        out.says(&[
            &format!("--deadline: {said}"),
            "hint: pass a duration such as 2h or 90m, or a time of day such as 06:00",
        ]);
    }
}

#[test]
fn a_wait_for_another_command_at_the_deadline_can_be_interrupted() {
    let server = Server::quick(&["--batch-run", "1h", "--fault", "status=400,on=batch,times=always"]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2));
    let args = ["submit", "in.jsonl", "--wait", "--deadline", "6s", "--rescue", "--max-cost", "1", "-o", "out.jsonl"];
    let run = home.start(home.command_at(&server.url, &[&args[..], &["--poll", "50ms"]].concat()));
    until("the first look", || server.count("/v1/batches/{id}", 400) > 0);
    let job = run.stderr();
    let job = &job[job.find("j-").unwrap()..][..10];
    // Another command works on the job from here on.
    let lock = std::fs::File::open(home.state().join(format!("locks/{job}.lock"))).unwrap();
    lock.lock().unwrap();
    // It waits for the other command until the deadline, and then to begin the rescue.
    until("the deadline", || run.stderr().matches("another llbatch is working on").count() == 2);
    run.signal("INT");
    run.wait().code(130);
}
