//! Batches of a service that takes files and batches in `OpenAI`'s dialect.

use serde_json::{Value, json};

use super::{POLL, ends, side_by_side, until_said};
use crate::support::{Home, MODEL, Out, Running, Server, answered, codes, prompts};

/// A server of `OpenAI`'s dialect whose batches are quick.
fn server(args: &[&str]) -> Server {
    Server::quick(&[&["--dialect", "openai"], args].concat())
}

/// A home whose config file has the server as service `box`, with these further lines.
fn home_with(server: &Server, lines: &str) -> Home {
    let home = Home::new();
    home.config(format!(
        "[submit]\nsettle_after = \"1h\"\n[services.box]\nbase_url = \"{}\"\ndialect = \"openai\"\n\
         api_key_env = \"TOGETHER_API_KEY\"\n{lines}",
        server.url
    ));
    home.write("in.jsonl", prompts(1..=3));
    home
}

fn home(server: &Server) -> Home {
    home_with(server, "")
}

/// `llbatch ARGS --service box`.
fn at_box(home: &Home, args: &[&str]) -> Out {
    home.llbatch(&[args, &["--service", "box"]].concat())
}

#[track_caller]
fn submit(home: &Home, args: &[&str]) -> String {
    at_box(home, &[&["submit"], args].concat()).code(0).stdout.trim_end().to_owned()
}

fn fetch(home: &Home, job: &str) -> Out {
    at_box(home, &[&["fetch", job, "--wait", "-o", "out.jsonl", "--summary", "s.json"], &POLL[..]].concat())
}

/// The first batch of the job, as `status` shows it.
#[track_caller]
fn batch(home: &Home, job: &str) -> Value {
    let out = at_box(home, &["status", job, "--json"]).code(0);
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    document["jobs"][0]["batches"][0].clone()
}

/// A `submit` whose creation is in doubt, and whose process is dead.
fn in_doubt(home: &Home, args: &[&str]) {
    let run: Running = home.start(home.command(&[&["submit", "in.jsonl", "--service", "box"], args].concat()));
    until_said(&run, "does not know whether it was created");
    assert_eq!(run.kill(), None);
}

#[test]
fn a_job_lives_from_submit_to_retry() {
    let server = server(&["--fault", "status=500,on=row,contains=question 2,times=1"]);
    let home = home(&server);
    let job = submit(&home, &["in.jsonl"]);
    let made = server.ask("/v1/batches");
    let made = &made["data"][0];
    assert_eq!((&made["metadata"]["llbatch_job"], &made["metadata"]["llbatch_batch"]), (&json!(job), &json!("1")));
    let sent: Vec<Value> =
        server.file(&made["input_file_id"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(sent.iter().all(|line| line["method"] == "POST" && line["url"] == "/v1/chat/completions"), "{sent:?}");
    at_box(&home, &["wait", &job, "--poll", "50ms"]).code(3);
    let seen = batch(&home, &job);
    assert_eq!((&seen["status"], &seen["id"]), (&json!("COMPLETED"), &made["id"]));
    assert!(seen["deadline"].as_str().is_some_and(|at| at.ends_with('Z')), "{seen}");
    fetch(&home, &job).code(3);
    assert_eq!(codes(&home.read("out.jsonl"))[1], ("q2".to_owned(), "server_error".to_owned()));
    at_box(&home, &["retry", &job]).code(0);
    fetch(&home, &job).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.batches().len(), server.bill(), server.paid_again()), (2, 3, 0));
}

#[test]
fn lost_create_reply_is_found_by_its_label() {
    let faults =
        ["status=500", "status=503", "status=524,shape=html", "reset", "close", "html", "empty-body", "truncate"];
    side_by_side(&faults, |fault| {
        let server = server(&["--list-page", "1", "--fault", &format!("{fault},on=create,after,nth=1")]);
        let home = home(&server);
        let out = at_box(&home, &["submit", "in.jsonl"]).code(0);
        let batches = server.batches();
        assert_eq!(batches.len(), 1, "{fault}");
        let out = out.says(&["does not know", "after all", batches[0]["id"].as_str().unwrap()]);
        fetch(&home, out.stdout.trim_end()).code(0);
        answered(&home.read("out.jsonl"), 1..=3);
        assert_eq!((server.bill(), server.paid_again()), (3, 0), "{fault}");
    });
}

#[test]
fn a_batch_in_doubt_is_found_on_a_later_page() {
    let server = server(&["--list-page", "1", "--batch-run", "3s", "--fault", "reset,on=create,after,nth=1"]);
    let home = home(&server);
    in_doubt(&home, &["--name", "first"]);
    // Newer batches stand before it in the list; one is of the same rows.
    for name in ["second", "third"] {
        submit(&home, &["in.jsonl", "--again", "--name", name]);
    }
    let ids = ["first", "second", "third"].map(|name| {
        fetch(&home, name).code(0);
        answered(&home.read("out.jsonl"), 1..=3);
        batch(&home, name)["id"].clone()
    });
    let made: Vec<Value> = server.batches().iter().map(|batch| batch["id"].clone()).collect();
    assert_eq!(ids.to_vec(), made, "each job has its own batch");
}

#[test]
fn next_command_settles_a_create_in_doubt() {
    side_by_side(&["submit", "wait", "fetch", "retry", "cancel"], |&command| {
        let server = server(&["--list-lag", "1s", "--fault", "reset,on=create,after,nth=1"]);
        let home = home(&server);
        in_doubt(&home, &["--name", "night"]);
        assert_eq!(batch(&home, "night")["status"], "IN DOUBT");
        let out = match command {
            "submit" => at_box(&home, &["submit", "in.jsonl"]).code(0),
            "wait" => at_box(&home, &["wait", "night", "--poll", "50ms"]).code(0),
            "fetch" => fetch(&home, "night").code(0),
            _ => at_box(&home, &[command, "night"]),
        };
        assert_eq!(server.batches().len(), 1, "{command}: {}", out.stderr);
        assert_eq!(batch(&home, "night")["id"], server.batches()[0]["id"], "{command}: {}", out.stderr);
        fetch(&home, "night").code(0);
        answered(&home.read("out.jsonl"), 1..=3);
        assert_eq!(server.paid_again(), 0, "{command}");
    });
}

#[test]
fn kills_at_any_instant_make_one_batch() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let server = server(&["--fault", "delay=60ms,on=any,times=always", "--list-lag", "200ms"]);
    let home = home(&server);
    home.config(home.read("home/config/llbatch/config.toml").replace("1h", "1500ms"));
    let mut kills = 0;
    for _ in 0..8 {
        let run = home.start(home.command(&["submit", "in.jsonl", "--service", "box"]));
        std::thread::sleep(std::time::Duration::from_micros(random.u64(3_000..400_000)));
        kills += u32::from(run.kill().is_none());
    }
    let job = submit(&home, &["in.jsonl"]);
    fetch(&home, &job).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert!(kills > 0, "seed {seed}");
    assert_eq!((server.batches().len(), server.bill(), server.paid_again()), (1, 3, 0), "seed {seed}, {kills} kills");
}

#[test]
fn cancelled_and_expired_batches_keep_their_answers() {
    let server = server(&["--batch-run", "600s"]);
    let home = home(&server);
    let job = submit(&home, &["in.jsonl"]);
    at_box(&home, &["cancel", &job]).code(0);
    fetch(&home, &job).code(3);
    assert_eq!(ends(&home), ["cancelled"; 3]);
    assert_eq!(batch(&home, &job)["status"], "CANCELLED");

    let server = self::server(&["--expires-at", "0.5"]);
    let home = self::home(&server);
    let job = submit(&home, &["in.jsonl"]);
    fetch(&home, &job).code(3);
    let mut found = ends(&home);
    found.sort();
    assert_eq!(found, ["expired", "expired", "ok"]);
    assert_eq!((batch(&home, &job)["status"].clone(), server.bill()), (json!("EXPIRED"), 1));
}

#[test]
fn a_failed_batch_shows_the_words_of_its_errors() {
    let server = server(&["--batch-fails", "The organization may not use this model"]);
    let home = home(&server);
    let job = submit(&home, &["in.jsonl"]);
    fetch(&home, &job).code(3);
    assert_eq!(batch(&home, &job)["error"], "The organization may not use this model");
    assert!(home.read("out.jsonl").contains("the batch failed: The organization may not use this model"));
}

#[test]
fn a_body_that_is_a_string_is_an_answer() {
    let server = server(&["--body-text", "--fault", "status=400,on=row,contains=question 3"]);
    let home = home(&server);
    let job = submit(&home, &["in.jsonl"]);
    fetch(&home, &job).code(3);
    assert_eq!(ends(&home), ["ok", "ok", "invalid_request"]);
    let first: Value = serde_json::from_str(home.read("out.jsonl").lines().next().unwrap()).unwrap();
    assert_eq!(first["response"]["body"]["object"], "chat.completion");
    assert_eq!(home.json("s.json")["rows"]["succeeded"], 2);
    // A second fetch reads the same from the store.
    let whole = home.read("out.jsonl");
    fetch(&home, &job).code(3);
    assert_eq!(home.read("out.jsonl"), whole);
}

#[test]
fn clean_deletes_the_files_of_the_service() {
    let server = server(&[]);
    let home = home(&server);
    let job = submit(&home, &["in.jsonl"]);
    fetch(&home, &job).code(0);
    let files = || server.ask("/v1/files")["data"].as_array().unwrap().len();
    assert_eq!(files(), 2);
    at_box(&home, &["clean", &job, "--remote"]).code(0);
    assert_eq!(files(), 0);
}

#[test]
fn a_batch_is_fetched_by_its_id_at_the_service() {
    let server = server(&[]);
    let home = home(&server);
    submit(&home, &["in.jsonl"]);
    let id = server.batches()[0]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("batch_"), "{id}");
    std::fs::remove_dir_all(home.state()).unwrap();
    fetch(&home, &id).code(0).says(&["created elsewhere"]);
    answered(&home.read("out.jsonl"), 1..=3);
    let out = fetch(&home, "batch_7de3b0f2a9c14d55").code(2);
    assert!(server.count("/v1/batches/{id}", 404) > 0, "it was asked for: {}", out.stderr);
}

#[test]
fn batch_of_a_lost_state_directory_is_taken_over() {
    let server = server(&[]);
    let home = home(&server);
    submit(&home, &["in.jsonl"]);
    std::fs::remove_dir_all(home.state()).unwrap();
    let job = submit(&home, &["in.jsonl"]);
    fetch(&home, &job).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.batches().len(), server.paid_again()), (1, 0));
    std::fs::remove_dir_all(home.state()).unwrap();
    submit(&home, &["in.jsonl", "--again"]);
    assert_eq!(server.batches().len(), 2);
}

#[test]
fn an_account_without_money_ends_with_5() {
    let server = server(&["--fault", "status=402,on=create,nth=1", "--fault", "status=402,on=chat,nth=1"]);
    let home = home(&server);
    let out = at_box(&home, &["submit", "in.jsonl"]).code(5).says(&["HTTP 429"]);
    assert_eq!((submit(&home, &["in.jsonl"]), server.batches().len()), (out.stdout.trim_end().to_owned(), 1));
    at_box(&home, &["run", "in.jsonl", "-o", "out.jsonl"]).code(5).says(&["asks for payment: HTTP 429"]);
}

#[test]
fn a_service_without_files_is_named_with_the_way_on() {
    let server = server(&["--fault", "status=404,on=register,times=always"]);
    let home = home(&server);
    at_box(&home, &["submit", "in.jsonl"]).code(1).says(&["has no /files", "llbatch run"]);
    assert_eq!(server.batches().len(), 0);
    // A service of OpenAI's dialect that is not said to be one.
    let server = self::server(&[]);
    let home = self::home(&server);
    home.config(format!("[services.box]\nbase_url = \"{}\"\nkey = \"none\"\n", server.url));
    let out = home.llbatch(&["submit", "in.jsonl", "--base-url", &server.url]).code(1);
    out.says(&["takes files in another form", "dialect = \"openai\""]);
}

#[test]
fn together_form_of_the_specification_is_tried_where_the_usual_one_is_unknown() {
    let server = Server::quick(&["--fault", "status=404,on=register,nth=1"]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let job = super::submit(&home, &server, &["in.jsonl"]);
    super::fetch(&home, &server, &job, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.count("/v1/files/upload", 200), server.batches().len()), (1, 1));
}

#[test]
fn a_discount_counts_once_the_config_names_it() {
    let server = server(&[]);
    let priced = format!("[services.box.models.\"{MODEL}\"]\ninput = 2\noutput = 4\n");
    let dear = home_with(&server, &priced);
    let half = home_with(&server, &format!("batch_discount = 0.5\n{priced}"));
    let checked = |home: &Home| {
        let out = at_box(home, &["check", "in.jsonl", "--json"]).code(0);
        serde_json::from_str::<Value>(&out.stdout).unwrap()
    };
    let (dear, half) = (checked(&dear), checked(&half));
    assert_eq!((&dear["models"][0]["batch"], &half["models"][0]["batch"]), (&json!("unknown"), &json!("discounted")));
    let cost = |document: &Value, name: &str| document["cost"][name]["min"].as_f64().unwrap();
    assert!((cost(&dear, "batch_usd") - cost(&dear, "realtime_usd")).abs() < 1e-9, "nothing is assumed: {dear}");
    assert!((cost(&half, "batch_usd") * 2.0 - cost(&half, "realtime_usd")).abs() < 1e-9, "{half}");
}

#[test]
fn the_sandbox_follows_its_script() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let run = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("LLBATCH_SANDBOX", "dialect=openai,validation=0s,run=100ms");
        home.finish(command)
    };
    run(&["submit", "in.jsonl", "--sandbox", "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    let kept = std::fs::read_dir(home.state().join("sandbox/batches")).unwrap().count();
    assert_eq!(kept, 1);
}

#[test]
fn answers_of_batches_are_held_against_the_rules_of_the_last_submission() {
    let server = server(&[]);
    let prices = format!("batch_discount = 0.5\n[services.box.models.\"{MODEL}\"]\ninput = 1\noutput = 2\n");
    let home = home_with(&server, &prices);
    let wait = |args: &[&str], code: i32| {
        let usual = ["submit", "in.jsonl", "--wait", "-o", "out.jsonl"];
        at_box(&home, &[&usual[..], &POLL[..], args].concat()).code(code)
    };
    let ends = || codes(&home.read("out.jsonl")).into_iter().map(|(_, code)| code).collect::<Vec<_>>();
    let job = submit(&home, &["in.jsonl", "--choices", "nothing"]);
    at_box(&home, &[&["wait", &job], &POLL[..]].concat()).code(3);
    // Nothing is sent: the answers are there, and pass without rules.
    let out = wait(&["--resume"], 0).says(&["3 answers that failed pass"]);
    assert_eq!((out.stdout.trim_end(), ends()), (&*job, vec!["ok".to_owned(); 3]));
    assert_eq!((server.batches().len(), server.bill()), (1, 3));
    // Answers that fail now are sent again.
    drop(wait(&["--choices", "nothing", "--resume"], 3).says(&["3 answers that passed fail now"]));
    assert_eq!((server.batches().len(), server.bill()), (2, 6));
    fetch(&home, &job).code(3);
    assert_eq!(ends(), vec!["invalid_answer".to_owned(); 3]);
    // Rejected answers and earlier ones would have cost twice as much in real time, too.
    let cost = |name: &str| home.json("s.json")["cost"][name].as_f64().unwrap();
    assert!(cost("usd") > 0.0 && (cost("realtime_usd") - 2.0 * cost("usd")).abs() < 1e-12);
    assert!((cost("saved_usd") - cost("usd")).abs() < 1e-12);
}
