//! `submit --dedupe`: only the first of equal requests travels, and `fetch` gives its outcome to the others.

use super::{POLL, ends, fetch, submit};
use crate::support::{Home, MODEL, Server, answered_once, csv_rows};

/// Rows that ask `keys` questions in turn.
fn input(home: &Home, rows: u32, keys: u32) {
    let row = |n| {
        let question = (n - 1) % keys + 1;
        format!("{{\"id\":\"q{n}\",\"prompt\":\"question {question}\",\"model\":\"{MODEL}\",\"max_tokens\":16}}\n")
    };
    home.write("in.jsonl", (1..=rows).map(row).collect::<String>());
}

#[test]
fn only_leaders_travel_and_fetch_answers_all_rows_without_the_input() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    input(&home, 50, 5);
    let out = home.at(&server.url, &["submit", "in.jsonl", "--dedupe"]).code(0);
    let out = out
        .says(&["5 of 50 rows in 1 batch, 45 of them repeat an earlier one and are not sent, which saves about $0.00"]);
    let id = out.stdout.trim_end().to_owned();
    assert_eq!(server.batches()[0]["rows"], 5);
    std::fs::remove_file(home.path("in.jsonl")).unwrap();
    fetch(&home, &server, &id, &[]).code(0);
    answered_once(&home.read("out.jsonl"), 50, 5);
    let summary = home.json("s.json");
    assert_eq!((&summary["rows"]["succeeded"], &summary["rows"]["reused"]), (&50.into(), &45.into()));
    assert_eq!(summary["tokens"]["prompt"], server.stats()["bill"]["prompt_tokens"]);
    assert_eq!((server.bill(), summary["state"].clone()), (5, "completed".into()));
    home.at(&server.url, &["fetch", &id, "-o", "out.csv"]).code(0);
    let (header, table) = csv_rows(&home.read("out.csv"), b',');
    assert_eq!((header.last().unwrap().as_str(), table[49].last().unwrap().as_str()), ("reused", "true"));
}

#[test]
fn repeats_of_a_failed_row_fail_alike_and_one_retry_answers_them() {
    let faults = ["--fault", "status=500,on=row,contains=question 2,times=2"];
    for via in ["batch", "realtime"] {
        let (home, server) = (Home::new(), Server::quick(&faults));
        input(&home, 12, 4);
        let id = submit(&home, &server, &["in.jsonl", "--dedupe"]);
        fetch(&home, &server, &id, &[]).code(3);
        let expected = ["ok", "server_error", "ok", "ok"];
        assert_eq!(ends(&home), [expected, expected, expected].concat());
        std::fs::remove_file(home.path("in.jsonl")).unwrap();
        // The second try of the batch fails too.
        if via == "batch" {
            home.at(&server.url, &["retry", &id]).code(0).says(&["3 rows to send again, about <$0.000001"]);
            fetch(&home, &server, &id, &[]).code(3);
            assert_eq!((server.batches().len(), server.batches()[1]["rows"].clone()), (2, 1.into()));
        }
        home.at(&server.url, &["retry", &id, "--via", via]).code(0);
        fetch(&home, &server, &id, &[]).code(0);
        answered_once(&home.read("out.jsonl"), 12, 4);
        assert_eq!((server.bill(), server.paid_again()), (4, 0), "{via}");
    }
}

#[test]
fn killed_submission_sends_no_repeat() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "300ms"]));
    input(&home, 40, 4);
    let args = [&["submit", "in.jsonl", "--dedupe", "--wait", "-o", "out.jsonl"], &POLL[..]].concat();
    for files in [0, 1] {
        let run = home.start(home.command_at(&server.url, &args));
        crate::support::until("an upload", || {
            server.count("/v1/files/upload (POST)", 200) >= files || server.batches().len() as u64 >= files
        });
        run.kill();
    }
    home.at(&server.url, &args).code(0);
    answered_once(&home.read("out.jsonl"), 40, 4);
    assert_eq!((server.batches().len(), server.bill()), (1, 4));
}

#[test]
fn rows_of_both_transports_have_one_leader_each() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let row = |n: u32| {
        let model = if n.is_multiple_of(2) { MODEL } else { "deepseek-ai/DeepSeek-R1" };
        format!("{{\"id\":\"q{n}\",\"prompt\":\"question {}\",\"model\":\"{model}\",\"max_tokens\":16}}\n", n % 4)
    };
    home.write("in.jsonl", (1..=24).map(row).collect::<String>());
    let args = ["submit", "in.jsonl", "--dedupe", "--via", "auto", "--wait", "-o", "out.jsonl", "--summary", "s.json"];
    home.at(&server.url, &[&args[..], &POLL].concat()).code(0);
    let summary = home.json("s.json");
    assert_eq!((&summary["rows"]["succeeded"], &summary["rows"]["reused"]), (&24.into(), &20.into()));
    assert_eq!((server.bill(), server.batches()[0]["rows"].clone()), (4, 2.into()));
}

#[test]
fn changed_rules_change_the_verdict_on_a_batch_and_the_cost_of_no_repeat() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    input(&home, 6, 2);
    let args =
        [&["submit", "in.jsonl", "--dedupe", "--wait", "-o", "out.jsonl", "--summary", "s.json"], &POLL[..]].concat();
    home.at(&server.url, &args).code(0);
    let paid = home.json("s.json")["cost"]["usd"].clone();
    // The sandbox cuts every answer off.
    let resumed = [&args[..], &["--complete", "--resume"]].concat();
    home.at(&server.url, &resumed).code(3).says(&["6 answers that passed fail now"]);
    assert_eq!(ends(&home), ["truncated"; 6]);
    let cost = home.json("s.json")["cost"].clone();
    assert_eq!((&cost["usd"], &cost["wasted_usd"], &cost["at_risk_usd"]), (&paid, &paid, &0.into()));
    home.at(&server.url, &[&args[..], &["--resume"]].concat()).code(0);
    answered_once(&home.read("out.jsonl"), 6, 2);
    assert_eq!((home.json("s.json")["cost"]["usd"].clone(), server.bill()), (paid, 2));
}

#[test]
fn dry_run_prices_and_reserves_only_what_would_be_sent() {
    let home = Home::new();
    let set_aside = |args: &[&str]| -> (f64, u64) {
        let out = home.llbatch(&[&["submit", "in.jsonl", "--sandbox", "--dry-run", "--json"], args].concat()).code(0);
        let document: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
        (document["cost"]["set_aside_usd"]["batch"].as_f64().unwrap(), document["rows"].as_u64().unwrap())
    };
    input(&home, 4, 4);
    let four = set_aside(&[]).0;
    input(&home, 40, 4);
    assert_eq!((set_aside(&["--dedupe"]), set_aside(&[]).0 > 9.0 * four), ((four, 40), true));
    // A limit that four rows keep is no reason to refuse forty that repeat them.
    let limit = format!("{:.9}", four * 1.5);
    let dry = ["submit", "in.jsonl", "--sandbox", "--dry-run", "--max-cost", &limit];
    home.llbatch(&dry).code(5);
    home.llbatch(&[&dry[..], &["--dedupe"]].concat()).code(0);
}
