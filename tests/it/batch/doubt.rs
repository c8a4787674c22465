//! Creating a batch, the one request that costs money. The reply may be lost, the command killed, the list late. Each shard
//! still becomes one batch.

use std::time::Duration;

use serde_json::json;

use super::{ends, fetch, side_by_side, state, status, submit, until_said};
use crate::support::{Canned, Fault, FaultServer, Home, MODEL, Server, answered, prompts, request, until};

/// With `settle_after`, the time after which a list that lacks a batch is believed.
fn home(settle_after: &str) -> Home {
    let home = Home::new();
    std::fs::create_dir_all(home.path("home/config/llbatch")).unwrap();
    home.write("home/config/llbatch/config.toml", format!("[submit]\nsettle_after = \"{settle_after}\"\n"));
    home
}

/// Its creation is in doubt, and its process dead.
fn in_doubt(home: &Home, server: &Server, args: &[&str]) {
    let run = home.start(home.command_at(&server.url, &[&["submit"], args].concat()));
    until_said(&run, "does not know whether it was created");
    assert_eq!(run.kill(), None);
}

#[test]
fn lost_create_reply_is_looked_up() {
    side_by_side(
        &["status=500", "status=503", "status=524,shape=html", "reset", "close", "html", "empty-body", "truncate"],
        |fault| {
            let (home, server) = (home("1h"), Server::quick(&["--fault", &format!("{fault},on=create,after,times=1")]));
            home.write("in.jsonl", prompts(1..=3));
            let out = home.at(&server.url, &["submit", "in.jsonl"]).code(0);
            let batches = server.batches();
            assert_eq!(batches.len(), 1, "{fault}");
            let out = out.says(&["does not know", "after all", batches[0]["id"].as_str().unwrap()]);
            fetch(&home, &server, out.stdout.trim_end(), &[]).code(0);
            answered(&home.read("out.jsonl"), 1..=3);
            assert_eq!((server.bill(), server.paid_again()), (3, 0), "{fault}");
        },
    );
}

#[test]
fn failed_create_is_repeated_once_that_is_certain() {
    let (home, server) = (home("700ms"), Server::quick(&["--fault", "status=500,on=create,nth=1"]));
    home.write("in.jsonl", prompts(1..=3));
    let started = std::time::Instant::now();
    submit(&home, &server, &["in.jsonl"]);
    assert!(started.elapsed() >= Duration::from_millis(700), "not before the list can be believed");
    assert_eq!(server.batches().len(), 1);
    assert_eq!((server.count("/v1/batches (POST)", 500), server.count("/v1/batches (POST)", 201)), (1, 1));
}

#[test]
fn lagging_list_is_waited_for() {
    let args = ["--list-lag", "1500ms", "--fault", "reset,on=create,after,times=1"];
    let (home, server) = (home("1h"), Server::quick(&args));
    home.write("in.jsonl", prompts(1..=3));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.batches().len(), server.paid_again()), (1, 0));
}

#[test]
fn next_command_settles_a_create_in_doubt() {
    side_by_side(&["submit", "wait", "fetch", "retry", "cancel"], |&command| {
        let server = Server::quick(&["--list-lag", "1s", "--fault", "reset,on=create,after,times=1"]);
        let home = home("1h");
        home.write("in.jsonl", prompts(1..=3));
        in_doubt(&home, &server, &["in.jsonl", "--name", "night"]);
        assert_eq!(state(&home, "night"), "interrupted");
        let known = status(&home, &server, &["night"]);
        assert_eq!(known["jobs"][0]["batches"][0]["status"], "IN DOUBT");
        assert_eq!(known["jobs"][0]["batches"][0]["id"], json!(null));
        let out = match command {
            "submit" => home.at(&server.url, &["submit", "in.jsonl"]).code(0),
            "wait" => home.at(&server.url, &["wait", "night", "--poll", "50ms"]).code(0),
            "fetch" => fetch(&home, &server, "night", &[]).code(0),
            // Nothing to send again, nothing to cancel: it is in doubt no more.
            "retry" => home.at(&server.url, &["retry", "night"]),
            _ => home.at(&server.url, &["cancel", "night"]),
        };
        assert_eq!(server.batches().len(), 1, "{command}: {}", out.stderr);
        let known = status(&home, &server, &["night"]);
        assert_eq!(known["jobs"][0]["batches"][0]["id"], server.batches()[0]["id"], "{command}: {}", out.stderr);
        fetch(&home, &server, "night", &[]).code(0);
        answered(&home.read("out.jsonl"), 1..=3);
        assert_eq!(server.paid_again(), 0, "{command}");
    });
}

#[test]
fn create_in_doubt_exits_75_and_sends_nothing() {
    let server = Server::quick(&["--list-lag", "1h", "--fault", "reset,on=create,after,times=1"]);
    let home = home("1h");
    home.write("in.jsonl", prompts(1..=3));
    in_doubt(&home, &server, &["in.jsonl", "--name", "night"]);
    home.at(&server.url, &["wait", "night", "--timeout", "1s", "--poll", "50ms"]).code(75);
    home.at(&server.url, &["fetch", "night", "--wait", "--timeout", "1s", "--poll", "50ms", "-o", "o.jsonl"]).code(75);
    let args = ["submit", "in.jsonl", "--wait", "--timeout", "1s", "--poll", "50ms", "-o", "o.jsonl"];
    home.at(&server.url, &args).code(75);
    assert_eq!(server.batches().len(), 1);
    assert_eq!(
        server.stats()["by_path"]["/v1/batches (POST)"]
            .as_object()
            .unwrap()
            .values()
            .map(|n| n.as_u64().unwrap())
            .sum::<u64>(),
        1
    );
    assert!(!home.exists("o.jsonl"));
}

#[test]
fn job_with_several_creates_in_doubt_is_given_up_in_one_time() {
    let server = Server::quick(&["--fault", "status=503,on=create,times=always"]);
    let home = home("1h");
    let text = prompts(1..=6)
        .lines()
        .enumerate()
        .fold(String::new(), |all, (i, line)| all + &line.replace(MODEL, ["a/x", "b/y", MODEL][i % 3]) + "\n");
    home.write("in.jsonl", text);
    let run = home.start(home.command_at(&server.url, &["submit", "in.jsonl", "--name", "night"]));
    until("three creations", || server.count("/v1/batches (POST)", 503) == 3);
    assert_eq!(run.kill(), None);
    let (began, lists) = (std::time::Instant::now(), server.count("/v1/batches", 200));
    home.at(&server.url, &["cancel", "night", "--abandon"]).code(0).says(&["3 batches given up"]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let looked = server.count("/v1/batches", 200) - lists;
    assert!((3..10).contains(&looked), "{looked} looks");
    fetch(&home, &server, "night", &[]).code(3);
    assert_eq!(ends(&home), ["missing"; 6]);
}

#[test]
fn interrupt_during_doubt_is_resumable() {
    let server = Server::quick(&["--list-lag", "4s", "--fault", "reset,on=create,after,times=1"]);
    let home = home("1h");
    home.write("in.jsonl", prompts(1..=3));
    let run = home.start(home.command_at(&server.url, &["submit", "in.jsonl"]));
    until_said(&run, "does not know");
    run.signal("INT");
    let out = run.wait().code(130);
    assert_eq!(format!("{}\n", submit(&home, &server, &["in.jsonl"])), out.stdout);
    assert_eq!(server.batches().len(), 1);
}

#[test]
fn second_job_never_adopts_the_batch_of_a_first_in_doubt() {
    // Both are made from the same file, as the service keeps the same bytes once.
    let server = Server::quick(&["--list-lag", "1s", "--batch-run", "6s", "--fault", "reset,on=create,after,times=1"]);
    let home = home("1h");
    home.write("in.jsonl", prompts(1..=3));
    in_doubt(&home, &server, &["in.jsonl", "--name", "first"]);
    submit(&home, &server, &["in.jsonl", "--again", "--name", "second"]);
    each_has_its_own(&home, &server);
}

#[test]
fn second_job_in_doubt_never_adopts_the_batch_of_the_first() {
    let server = Server::quick(&["--list-lag", "1s", "--batch-run", "6s", "--fault", "reset,on=create,after,nth=2"]);
    let home = home("1h");
    home.write("in.jsonl", prompts(1..=3));
    submit(&home, &server, &["in.jsonl", "--name", "first"]);
    in_doubt(&home, &server, &["in.jsonl", "--again", "--name", "second"]);
    each_has_its_own(&home, &server);
}

#[test]
fn two_jobs_in_doubt_share_no_batch() {
    let server = Server::quick(&["--list-lag", "1s", "--batch-run", "6s", "--fault", "reset,on=create,after,times=2"]);
    let home = home("1h");
    home.write("in.jsonl", prompts(1..=3));
    in_doubt(&home, &server, &["in.jsonl", "--name", "first"]);
    in_doubt(&home, &server, &["in.jsonl", "--again", "--name", "second"]);
    each_has_its_own(&home, &server);
}

#[track_caller]
fn each_has_its_own(home: &Home, server: &Server) {
    let ids = ["first", "second"].map(|job| {
        fetch(home, server, job, &[]).code(0);
        answered(&home.read("out.jsonl"), 1..=3);
        status(home, server, &[job])["jobs"][0]["batches"][0]["id"].clone()
    });
    assert_ne!(ids[0], ids[1]);
    let batches = server.batches();
    assert_eq!(batches.len(), 2);
    assert!(batches.iter().all(|batch| batch["status"] == "COMPLETED"), "{batches:?}");
}

#[test]
fn create_reply_without_a_batch_is_a_refusal() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "null-job,on=create,nth=1"]));
    home.write("in.jsonl", prompts(1..=2));
    let out = home.at(&server.url, &["submit", "in.jsonl"]).code(3).says(&["refused"]);
    let id = out.stdout.trim_end();
    fetch(&home, &server, id, &[]).code(3);
    assert_eq!(home.json("s.json")["rows"]["failed"], 2);
    home.at(&server.url, &["retry", id]).code(0);
    fetch(&home, &server, id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=2);
    assert_eq!(server.batches().len(), 1);
}

#[test]
fn throttled_create_is_not_in_doubt() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=429,on=create,times=2,retry-after-ms=50"]));
    home.write("in.jsonl", prompts(1..=2));
    let out = home.at(&server.url, &["submit", "in.jsonl"]).code(0);
    assert!(!out.stderr.contains("does not know"), "{}", out.stderr);
    assert_eq!((server.batches().len(), server.count("/v1/batches (POST)", 429)), (1, 2));
}

#[test]
fn refused_key_or_payment_stops_submit_resumably() {
    for (fault, code) in [("status=401", 4), ("status=402", 5)] {
        let (home, server) = (Home::new(), Server::quick(&["--fault", &format!("{fault},on=create,nth=1")]));
        home.write("in.jsonl", prompts(1..=2));
        let id = home.at(&server.url, &["submit", "in.jsonl"]).code(code).stdout;
        assert_eq!(format!("{}\n", submit(&home, &server, &["in.jsonl"])), id);
        assert_eq!((server.batches().len(), server.count("/v1/files (POST)", 302)), (1, 1));
    }
}

#[test]
fn half_failed_uploads_are_repeated() {
    side_by_side(
        &[
            "reset,on=put",
            "status=503,on=put",
            "status=500,on=register",
            "reset,on=register,after",
            "status=500,on=preprocess",
            "reset,on=preprocess,after",
            "reset,on=put,after",
            "status=500,on=files",
        ],
        |fault| {
            let (home, server) = (Home::new(), Server::quick(&["--fault", &format!("{fault},nth=1")]));
            home.write("in.jsonl", prompts(1..=3));
            let id = submit(&home, &server, &["in.jsonl"]);
            fetch(&home, &server, &id, &[]).code(0);
            answered(&home.read("out.jsonl"), 1..=3);
            assert_eq!((server.batches().len(), server.paid_again()), (1, 0), "{fault}");
        },
    );
}

#[test]
fn each_step_of_an_upload_is_repeated_by_itself() {
    side_by_side(&[("preprocess", 1), ("put", 1), ("register", 2)], |(step, registered)| {
        let server = Server::quick(&["--fault", &format!("status=500,on={step},nth=1")]);
        let home = Home::new();
        home.write("in.jsonl", prompts(1..=3));
        submit(&home, &server, &["in.jsonl"]);
        let all = |path: &str| -> u64 {
            server.stats()["by_path"][path].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
        };
        assert_eq!(all("/v1/files (POST)"), *registered, "{step}");
        assert_eq!(server.count("/v1/files (POST)", 409), 0, "{step}");
    });
}

#[test]
fn file_that_another_command_left_unprocessed_is_processed() {
    let server = Server::quick(&["--fault", "status=400,on=preprocess,nth=1"]);
    let address = server.address();
    // The service does not say whether a file was processed.
    let front = FaultServer::before(&server.address(), move |asked| {
        let Some(path) = asked.line.strip_prefix("GET ").filter(|path| path.starts_with("/v1/files/file-")) else {
            return Fault::None;
        };
        let mut file = request(&address, "GET", path, "authorization: Bearer any\r\n", "").json();
        file.as_object_mut().unwrap().remove("Processed");
        Fault::Instead(Canned { status: "200 OK".into(), headers: String::new(), body: file.to_string() })
    });
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    home.at(&front.url, &["submit", "in.jsonl"]).code(1);
    home.at(&front.url, &["submit", "in.jsonl"]).code(0);
    assert!(server.count("/v1/files/{id}/preprocess", 200) > 0, "{}", server.stats()["by_path"]);
    assert_eq!(server.batches().len(), 1);
}

#[test]
fn refused_job_does_not_hold_its_content() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,on=create,nth=1"]));
    home.write("in.jsonl", prompts(1..=2));
    let id = home.at(&server.url, &["submit", "in.jsonl"]).code(3).stdout;
    let again = home.at(&server.url, &["submit", "in.jsonl"]).code(0);
    assert_eq!(again.stdout, id, "the same job");
    again.says(&["1 of 1 batch to submit"]);
    fetch(&home, &server, id.trim_end(), &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=2);
    assert_eq!((server.batches().len(), server.paid_again()), (1, 0));
}

#[test]
fn kills_at_any_instant_make_one_batch_of_each_shard() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    // A submission takes six such delays. Once it is through, nothing is left to kill.
    let server = Server::quick(&["--fault", "delay=60ms,on=any,times=always", "--list-lag", "200ms"]);
    let home = home("1500ms");
    let text = prompts(1..=60)
        .lines()
        .enumerate()
        .fold(String::new(), |all, (i, line)| all + &line.replace(MODEL, ["a/x", "b/y", MODEL][i % 3]) + "\n");
    home.write("in.jsonl", text);
    let mut kills = 0;
    for _ in 0..10 {
        let run = home.start(home.command_at(&server.url, &["submit", "in.jsonl"]));
        let latest = if kills == 0 { 200_000 } else { 400_000 };
        std::thread::sleep(Duration::from_micros(random.u64(3_000..latest)));
        kills += u32::from(run.kill().is_none());
    }
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=60);
    assert!(kills > 0, "seed {seed}");
    assert_eq!((server.batches().len(), server.bill(), server.paid_again()), (3, 60, 0), "seed {seed}, {kills} kills");
    assert_eq!(status(&home, &server, &[])["jobs"].as_array().unwrap().len(), 1, "seed {seed}");
}

#[test]
fn kills_at_any_instant_lose_no_answer() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let server = Server::quick(&["--latency", "10ms", "--batch-run", "300ms"]);
    let home = home("1500ms");
    home.write("in.jsonl", prompts(1..=40));
    let whole = ["submit", "in.jsonl", "--wait", "--poll", "50ms", "-o", "out.jsonl"];
    let fetch = ["fetch", "last", "--wait", "--poll", "50ms", "-o", "out.jsonl"];
    let mut kills = 0;
    for n in 0..12 {
        let run = home.start(home.command_at(&server.url, if n % 3 == 2 { &fetch } else { &whole }));
        std::thread::sleep(Duration::from_micros(random.u64(3_000..300_000)));
        kills += u32::from(run.kill().is_none());
        if home.exists("out.jsonl") {
            break;
        }
    }
    if !home.exists("out.jsonl") {
        home.at(&server.url, &whole).code(0);
    }
    answered(&home.read("out.jsonl"), 1..=40);
    assert!(kills > 0, "seed {seed}");
    assert_eq!((server.batches().len(), server.bill(), server.paid_again()), (1, 40, 0), "seed {seed}, {kills} kills");
}
