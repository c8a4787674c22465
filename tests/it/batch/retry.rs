//! `llbatch retry`: unanswered rows are sent again within their job.

use serde_json::json;

use super::{ends, fetch, submit};
use crate::support::{Home, MODEL, Server, answered, prompts, questions};

#[test]
fn only_retryable_rows_are_sent_again() {
    let faults = [
        "--fault",
        "status=500,on=row,contains=question 2,times=1",
        "--fault",
        "status=400,on=row,contains=question 3,times=1",
    ];
    let (home, server) = (Home::new(), Server::quick(&faults));
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(3);
    assert_eq!(ends(&home), ["ok", "server_error", "invalid_request", "ok"]);
    std::fs::remove_file(home.path("in.jsonl")).unwrap();

    let before = server.requests();
    let out = home.at(&server.url, &["retry", &id, "--dry-run"]).code(0).says(&[
        "1 row to send again",
        "$",
        "batch price",
        "--all",
    ]);
    assert_eq!((out.stdout.as_str(), server.batches().len()), ("", 1));
    assert!(server.requests() <= before + 2, "nothing was sent");

    let out = home.at(&server.url, &["retry", &id]).code(0).says(&["1 row to send again"]);
    assert_eq!(out.stdout, format!("{id}\n"));
    assert_eq!(server.batches()[1]["rows"], 1);
    fetch(&home, &server, &id, &[]).code(3);
    assert_eq!(ends(&home), ["ok", "ok", "invalid_request", "ok"]);

    home.at(&server.url, &["retry", &id]).code(3).says(&["no rows to send again", "--all"]);
    assert_eq!(server.batches().len(), 2);
    home.at(&server.url, &["retry", &id, "--all"]).code(0);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=4);
    assert_eq!((server.batches().len(), server.bill(), server.paid_again()), (3, 4, 0));
    let out = home.at(&server.url, &["retry", &id]).code(0).says(&["no rows to send again"]);
    assert_eq!(out.stdout, format!("{id}\n"));
}

#[test]
fn realtime_retry_joins_the_job_at_its_own_price() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=500,on=row,contains=question 2"]));
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(3);
    std::fs::remove_file(home.path("in.jsonl")).unwrap();
    let out =
        home.at(&server.url, &["retry", &id, "--via", "realtime"]).code(0).says(&["realtime price", "llbatch fetch"]);
    assert_eq!(out.stdout, format!("{id}\n"));
    let fetched = fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=4);
    assert_eq!((server.batches().len(), server.bill(), server.paid_again()), (1, 4, 0));
    // It names both ways, each with its rows, money and time.
    let report = home.llbatch(&["report", &id]).code(0);
    for text in [&fetched.stderr, &report.stdout] {
        for part in [
            ", batch and realtime: completed\n",
            "  by way    3 rows  $0.000002  in batches\n             1 row  $0.000002  in real time\n",
            " in batches, ",
            " in real time\n",
            "  requests  1 sent in real time\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert_eq!(
        home.json("s.json")["transports"],
        json!([
            {"transport": "batch", "rows": 3, "usd": 0.000_002_34},
            {"transport": "realtime", "rows": 1, "usd": 0.000_001_56}
        ])
    );
    // Three rows of 26 tokens at half of $0.06 a million, one at the whole.
    let cost = &home.json("s.json")["cost"];
    assert_eq!((&cost["usd"], &cost["realtime_usd"]), (&json!(0.000_003_9), &json!(0.000_006_24)));
    assert_eq!(
        super::status(&home, &server, &[&id])["jobs"][0]["rows"],
        json!({"total": 4, "succeeded": 4, "failed": 0, "pending": 0})
    );
    home.at(&server.url, &["retry", &id, "--concurrency", "3"]).code(2);
}

#[test]
fn job_whose_batch_answered_nothing_still_names_both_ways() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h", "--batch-cancel", "100ms"]));
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl"]);
    home.at(&server.url, &["cancel", &id]).code(0);
    home.at(&server.url, &["retry", &id, "--via", "realtime"]).code(0);
    let fetched = fetch(&home, &server, &id, &[]).code(0);
    let report = home.llbatch(&["report", &id]).code(0);
    for text in [&fetched.stderr, &report.stdout] {
        assert!(text.contains(", batch and realtime: completed\n"), "{text}");
        let ways = "  by way    0 rows  $0.000000  in batches\n            4 rows  $0.000006  in real time\n";
        assert!(text.contains(ways), "{text}");
    }
    assert_eq!(home.json("s.json")["transports"][1]["rows"], 4);
}

#[test]
fn realtime_retry_counts_permanent_failures_as_failed() {
    let faults = ["status=500,on=row,contains=question 2,times=1", "status=400,on=row,contains=question 3"];
    let (home, server) = (Home::new(), Server::quick(&["--fault", faults[0], "--fault", faults[1]]));
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(3);
    let out = home.at(&server.url, &["retry", &id, "--via", "realtime"]).code(3);
    out.says(&["2 answered before, 1 failed before, 1 to go", "3 answered, 2 of them earlier, 1 failed"]);
}

#[test]
fn printed_next_command_works() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=500,on=row,contains=question 2,times=1"]));
    home.write("in.jsonl", prompts(1..=3));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(3);
    for from in
        [home.json("s.json"), serde_json::from_str(&home.at(&server.url, &["report", &id, "--json"]).stdout).unwrap()]
    {
        let next = from["exit"]["next"].as_str().unwrap().to_owned();
        let words: Vec<&str> = next.split(' ').skip(1).collect();
        // Dry, so that it can be typed twice.
        home.llbatch(&[&words[..], &["--dry-run"]].concat()).code(0).says(&["1 row to send again"]);
    }
}

#[test]
fn realtime_job_continues_in_a_batch() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=500,on=chat,contains=question 2"]));
    home.write("in.jsonl", prompts(1..=4));
    home.run(&server, &["in.jsonl", "-o", "first.jsonl", "--retries", "0"]).code(3);
    let id = home.at(&server.url, &["retry", "last", "--via", "batch"]).code(0).stdout.trim_end().to_owned();
    assert_eq!(server.batches()[0]["rows"], 1);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=4);
    let cost = &home.json("s.json")["cost"];
    // Three at the whole price, one at half of it.
    assert_eq!(cost["usd"], 0.000_005_46);
}

#[test]
fn changed_input_of_a_realtime_job_mixes_up_nothing() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=500,on=chat,contains=question 2"]));
    home.write("in.jsonl", prompts(1..=4));
    home.run(&server, &["in.jsonl", "-o", "first.jsonl", "--retries", "0"]).code(3);
    home.write("in.jsonl", prompts(2..=5));
    home.at(&server.url, &["retry", "last", "--via", "batch"]).code(65).says(&["has changed since it ran"]);
    std::fs::remove_file(home.path("in.jsonl")).unwrap();
    home.at(&server.url, &["retry", "last", "--via", "batch"]).code(66);
    assert_eq!(server.batches().len(), 0);
}

#[test]
fn nothing_is_sent_while_a_batch_may_still_answer() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h"]));
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl"]);
    for via in ["batch", "realtime"] {
        home.at(&server.url, &["retry", &id, "--via", via]).code(75).says(&["llbatch wait", "llbatch cancel"]);
    }
    assert_eq!((server.batches().len(), server.bill()), (1, 0));
}

#[test]
fn expired_rows_are_sent_again() {
    let (home, server) = (Home::new(), Server::quick(&["--expires-at", "0.5"]));
    home.write("in.jsonl", prompts(1..=8));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(3);
    // Half of what is left each time.
    for left in [2, 1] {
        home.at(&server.url, &["retry", &id]).code(0);
        fetch(&home, &server, &id, &[]).code(3);
        assert_eq!(ends(&home).iter().filter(|code| *code == "expired").count(), left);
    }
    home.at(&server.url, &["retry", &id, "--via", "realtime"]).code(0);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=8);
    assert_eq!((server.bill(), server.paid_again()), (8, 0));
    let sizes: Vec<_> = server.batches().iter().map(|batch| batch["rows"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [8, 4, 2]);
}

#[test]
fn killed_retry_pays_nothing_twice() {
    let server = Server::quick(&["--latency", "30ms", "--fault", "status=500,on=row,contains=question 2,times=1"]);
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let home = Home::new();
    std::fs::create_dir_all(home.path("home/config/llbatch")).unwrap();
    home.write("home/config/llbatch/config.toml", "[submit]\nsettle_after = \"500ms\"\n");
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(3);
    for _ in 0..5 {
        let run = home.start(home.command_at(&server.url, &["retry", &id]));
        std::thread::sleep(std::time::Duration::from_micros(random.u64(5_000..250_000)));
        let _ = run.kill();
    }
    let _ = home.at(&server.url, &["retry", &id]);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=4);
    assert_eq!((server.bill(), server.paid_again(), server.batches().len()), (4, 0, 2), "seed {seed}");
}

#[test]
fn realtime_retry_does_not_end_by_a_broken_batch_before_it() {
    let conflict = "conflict,on=row,contains=question 2";
    let refused = "status=500,on=row,contains=question 4,times=1";
    let (home, server) = (Home::new(), Server::quick(&["--fault", conflict, "--fault", refused]));
    home.write("in.jsonl", questions(1..=5));
    home.at(&server.url, &["submit", "in.jsonl", "-m", MODEL, "--wait", "--poll", "100ms", "-o", "out.jsonl"]).code(76);
    home.at(&server.url, &["retry", "last", "--via", "realtime"]).code(0).says(&["1 row to send again"]);
    fetch(&home, &server, "last", &[]);
    // The batch stays broken, so the results stay beside the file.
    answered(&home.read("out.jsonl.partial"), 1..=5);
}
