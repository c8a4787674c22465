//! `llbatch submit`: its output, its requests and its refusals.

use serde_json::{Value, json};

use super::{POLL, ends, fetch, status, submit};
use crate::support::{Home, MODEL, Server, answered, ids, prompts, questions, rows};

const WELL_KNOWN: &str = "meta-llama/Llama-3.3-70B-Instruct-Turbo";

#[test]
fn stdout_is_only_the_job_id() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=3));
    let out = home.at(&server.url, &["submit", "in.jsonl", "--name", "nightly"]).code(0);
    let id = out.stdout.strip_suffix('\n').unwrap().to_owned();
    let id = id.as_str();
    assert!(id.len() == 10 && id.starts_with("j-") && !id.contains('\n'), "{id:?}");
    let batches = server.batches();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0]["rows"], 3);
    let out = out.says(&[batches[0]["id"].as_str().unwrap(), "3 rows"]);
    // The notice about the price comes before anything is sent.
    let at = |text: &str| out.stderr.find(text).unwrap_or_else(|| panic!("no {text:?}: {}", out.stderr));
    assert!(at("2025-07") < at("created"), "{}", out.stderr);
    for name in [id, &id[..7], "nightly", "last", batches[0]["id"].as_str().unwrap()] {
        assert_eq!(status(&home, &server, &[name])["jobs"][0]["job"], id, "{name}");
    }
    fetch(&home, &server, "nightly", &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
}

#[test]
fn upload_equals_the_prepared_file() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=3));
    home.llbatch(&["prepare", "in.jsonl", "-o", "shard.jsonl"]).code(0);
    submit(&home, &server, &["in.jsonl"]);
    let batch = &server.batches()[0];
    assert_eq!(server.file(&batch["input_file_id"]), home.read("shard.jsonl"));
    let file = server.ask(&format!("/v1/files/{}", batch["input_file_id"].as_str().unwrap()));
    assert_eq!((&file["purpose"], &file["Processed"]), (&json!("batch-api"), &json!(true)));
}

#[test]
fn submit_json_equals_status_json() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h"]));
    home.write("in.jsonl", prompts(1..=2));
    let out = home.at(&server.url, &["submit", "in.jsonl", "--json"]).code(0);
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    let job = &document["jobs"][0];
    assert_eq!((&document["version"], &job["state"]), (&json!(1), &json!("running")));
    assert_eq!(job["batches"][0]["id"], server.batches()[0]["id"]);
    assert_eq!(job["rows"], json!({"total": 2, "succeeded": 0, "failed": 0, "pending": 2}));
}

#[test]
fn submit_wait_writes_results_in_one_command() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=20));
    let args = ["submit", "in.jsonl", "--wait", "--poll", "50ms", "--summary", "s.json"];
    let out = home.at(&server.url, &[&args[..], &["-o", "out.jsonl"]].concat()).code(0);
    answered(&home.read("out.jsonl"), 1..=20);
    let summary = home.json("s.json");
    assert_eq!(format!("{}\n", summary["job"].as_str().unwrap()), out.stdout);
    // Without -o the results have stdout to themselves.
    home.write("in.jsonl", prompts(21..=25));
    let out = home.at(&server.url, &args).code(0);
    answered(&out.stdout, 21..=25);
    home.at(&server.url, &["submit", "in.jsonl", "-o", "x.jsonl"]).code(2).says(&["--wait", "llbatch fetch"]);
    assert_eq!(server.batches().len(), 2);
}

#[test]
fn unwritable_output_sends_nothing() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=2));
    let out = home.at(&server.url, &["submit", "in.jsonl", "--wait", "-o", "no/such/dir/out.jsonl"]);
    assert_ne!(out.code, 0);
    assert_eq!(server.requests(), 0, "{}", out.stderr);
}

#[test]
fn invalid_input_sends_nothing() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("bad.jsonl", prompts(1..=2) + "nonsense\n" + &prompts(2..=3));
    home.at(&server.url, &["submit", "bad.jsonl"]).code(65).says(&["bad.jsonl:3:", "bad.jsonl:4", "nothing was sent"]);
    home.at(&server.url, &["submit", "none.jsonl"]).code(66).says(&["none.jsonl"]);
    home.at(&server.url, &["submit"]).code(2).says(&["INPUT"]);
    assert_eq!(server.requests(), 0);
    assert_eq!(status(&home, &server, &[])["jobs"], json!([]), "no job is left behind");

    home.write("empty.jsonl", "");
    home.at(&server.url, &["submit", "empty.jsonl"]).code(65).says(&["empty.jsonl: the input has no rows"]);
    let id = submit(&home, &server, &["bad.jsonl", "--skip-invalid"]);
    fetch(&home, &server, &id, &[]).code(3);
    assert_eq!(ends(&home), ["ok", "ok", "invalid_request", "invalid_request", "ok"]);
    assert_eq!(server.bill(), 3);
}

#[test]
fn input_without_a_valid_row_is_all_results_by_either_command() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", "nonsense\n{}\n");
    home.run(&server, &["in.jsonl", "--skip-invalid", "-o", "out.jsonl"]).code(3);
    let run = home.read("out.jsonl");
    let out = home.at(&server.url, &["submit", "in.jsonl", "--skip-invalid"]).code(3).says(&["llbatch fetch"]);
    fetch(&home, &server, out.stdout.trim_end(), &[]).code(3);
    assert_eq!(home.read("out.jsonl"), run);
    let args = ["submit", "in.jsonl", "--skip-invalid", "--again", "--wait", "-o", "waited.jsonl"];
    home.at(&server.url, &args).code(3);
    assert_eq!(home.read("waited.jsonl"), run);
    assert_eq!(server.bill(), 0);
}

#[test]
fn row_larger_than_a_batch_is_invalid() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let large = format!("{{\"id\":\"large\",\"model\":\"{MODEL}\",\"prompt\":\"{}\"}}\n", "x".repeat(100_000_000));
    home.write("in.jsonl", prompts(1..=1) + &large + &prompts(2..=2));
    drop(large);
    // A model that would read it all.
    home.write("c.toml", format!("[models.\"{MODEL}\"]\ncontext = 1000000000\n"));
    home.at(&server.url, &["submit", "in.jsonl", "--config", "c.toml"]).code(65).says(&[
        "in.jsonl:2",
        "llbatch run",
        "nothing was sent",
    ]);
    assert_eq!(server.requests(), 0);
    assert_eq!(status(&home, &server, &[])["jobs"], json!([]), "no job is left behind");
    let id = submit(&home, &server, &["in.jsonl", "--skip-invalid", "--config", "c.toml"]);
    fetch(&home, &server, &id, &[]).code(3);
    assert_eq!(ends(&home), ["ok", "invalid_request", "ok"]);
}

#[test]
fn models_without_a_discount_are_reported_or_refused() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "1h"]));
    let model =
        |name: &str| questions(1..=2).replace("\"max_tokens\"", &format!("\"model\":\"{name}\",\"max_tokens\""));
    let require = |home: &Home| home.at(&server.url, &["submit", "in.jsonl", "--require-discount"]);
    home.write("in.jsonl", model("nobody/nothing"));
    require(&home).code(2).says(&["--require-discount", "2 rows", "nothing was sent", "batch_discount"]);
    home.write("in.jsonl", model("deepseek-ai/DeepSeek-V3.1"));
    require(&home).code(2).says(&["not served in batches", "llbatch run"]);
    assert_eq!(server.requests(), 0);
    home.at(&server.url, &["submit", "in.jsonl"]).code(0).says(&["not served in batches", "2026"]);
    for name in [MODEL, WELL_KNOWN] {
        home.write("in.jsonl", model(name));
        let out = require(&home).code(0);
        assert_eq!(out.stderr.contains("2025-07"), name == MODEL, "{}", out.stderr);
    }
    // A price in the config file takes precedence.
    home.write("config.toml", "[models.\"nobody/nothing\"]\ninput = 1\noutput = 1\nbatch_discount = 0.5\n");
    home.write("in.jsonl", model("nobody/nothing"));
    let args = ["submit", "in.jsonl", "--require-discount", "--config", "config.toml"];
    home.at(&server.url, &args).code(0);
}

#[test]
fn each_model_is_a_batch_and_rows_keep_their_order() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let text: String = prompts(1..=9)
        .lines()
        .enumerate()
        .map(|(i, line)| line.replace(MODEL, [MODEL, WELL_KNOWN, "arcee-ai/trinity-mini"][i % 3]) + "\n")
        .collect();
    home.write("in.jsonl", text);
    let id = submit(&home, &server, &["in.jsonl"]);
    assert_eq!(server.batches().iter().map(|batch| &batch["rows"]).collect::<Vec<_>>(), [&json!(3); 3]);
    let known = status(&home, &server, &[&id]);
    let models: Vec<_> = known["jobs"][0]["batches"].as_array().unwrap().iter().map(|b| &b["model"]).collect();
    assert_eq!(models, [MODEL, WELL_KNOWN, "arcee-ai/trinity-mini"]);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=9);
    let summary = home.json("s.json");
    assert_eq!(summary["models"].as_array().unwrap().len(), 3);
    for (row, model) in rows(&home.read("out.jsonl")).iter().zip([MODEL, WELL_KNOWN, "arcee-ai/trinity-mini"]) {
        assert_eq!(row.line["response"]["body"]["model"], model);
    }
}

#[test]
fn batch_ends_at_fifty_thousand_rows() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let text = (1..=50_001).fold(String::new(), |all, n| all + &format!("w{n}\n"));
    home.write("in.txt", text);
    let args = ["submit", "in.txt", "-m", MODEL, "--max-tokens", "1", "--wait", "-o", "out.csv", "--summary", "s.json"];
    home.at(&server.url, &[&args[..], &POLL].concat()).code(0);
    let mut sizes: Vec<_> = server.batches().iter().map(|b| b["rows"].as_u64().unwrap()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 50_000]);
    let (header, found) = crate::support::csv_rows(&home.read("out.csv"), b',');
    assert_eq!((header[0].as_str(), found.len()), ("line", 50_001));
    assert!(found.iter().enumerate().all(|(i, row)| row[0] == format!("w{}", i + 1)), "in input order");
    assert_eq!(home.json("s.json")["rows"]["succeeded"], 50_001);
    assert_eq!((server.bill(), server.paid_again()), (50_001, 0));
}

#[test]
fn refused_batch_fails_its_rows() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,on=create,nth=1"]));
    home.write("in.jsonl", prompts(1..=2));
    let out = home.at(&server.url, &["submit", "in.jsonl"]).code(3).says(&["refused"]);
    let id = out.stdout.trim_end().to_owned();
    assert_eq!(status(&home, &server, &[])["jobs"][0]["batches"][0]["status"], "REFUSED");
    fetch(&home, &server, &id, &[]).code(3);
    assert_eq!(ends(&home), ["server_error", "server_error"]);
    assert_eq!(home.json("s.json")["cost"]["usd"], 0);
    // It failed as a whole: the same command makes a new job.
    assert_ne!(submit(&home, &server, &["in.jsonl"]), id);
    assert_eq!(ids(1..=2).len() as u64, server.batches()[0]["rows"].as_u64().unwrap());
}
