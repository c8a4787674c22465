//! Servers other than Together, such as llama.cpp's and gateways: what they answer, and what is said of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::support::{Home, Recorder, prompts, rows, until};

/// A home with `rows` prompts whose config file has the service `box` at `url`, without a key.
fn home_with(url: &str, rows: u32) -> Home {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=rows));
    home.config(format!("[services.box]\nbase_url = \"{url}\"\nkey = \"none\"\n"));
    home
}

#[test]
fn endpoint_that_a_server_lacks_is_asked_once() {
    let server = Recorder::answering(|_| {
        let body = r#"{"error":{"code":501,"message":"This server does not support embeddings. Start it with `--embeddings`","type":"not_supported_error"}}"#;
        ("501 Not Implemented", String::new(), body.to_owned())
    });
    let home = home_with(&server.url, 2);
    let args = ["run", "in.jsonl", "--service", "box", "-o", "out.jsonl", "--summary", "sum.json"];
    let out = home.llbatch(&args).code(3).says(&["HTTP 501"]);
    assert_eq!(server.requests().len(), 2, "{}", out.stderr);
    assert!(!out.stderr.contains("may have been billed"), "{}", out.stderr);
    assert!(rows(&home.read("out.jsonl")).iter().all(|row| row.code.as_deref() == Some("invalid_request")));
}

#[test]
fn killed_run_names_at_most_what_was_in_flight() {
    // It answers a dozen, and then no more until the run is killed.
    let (came, killed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (arrived, released) = (Arc::clone(&came), Arc::clone(&killed));
    let server = Recorder::answering(move |_| {
        if arrived.fetch_add(1, Ordering::SeqCst) >= 12 {
            until("the kill", || released.load(Ordering::SeqCst));
        }
        ("200 OK", String::new(), Recorder::chat("\"ok\""))
    });
    let home = home_with(&server.url, 60);
    let args = ["run", "in.jsonl", "--service", "box", "-o", "out.jsonl", "--concurrency", "4"];
    let run = home.start(home.command(&args));
    until("a dozen answers and four more in flight", || came.load(Ordering::SeqCst) == 16);
    run.kill();
    killed.store(true, Ordering::SeqCst);
    let out = home.llbatch(&args).code(0);
    let named: u32 = out
        .stderr
        .split_once("the last run was cut short: ")
        .map_or(0, |(_, rest)| rest.split_whitespace().next().unwrap().parse().unwrap());
    assert!(named <= 4, "{named} rows named, and four were in flight:\n{}", out.stderr);
}

#[test]
fn name_below_localhost_is_this_machine_whatever_a_resolver_says() {
    let server = Recorder::start();
    let url = server.url.replace("127.0.0.1", "box.localhost");
    let home = home_with(&url, 1);
    home.llbatch(&["run", "in.jsonl", "--service", "box", "-o", "out.jsonl", "--give-up-after", "1s"]).code(0);
    home.llbatch(&["models", "--refresh", "--service", "box"]);
    assert_eq!((server.count("POST /v1/chat/completions"), server.count("GET /v1/models")), (1, 1));
}

#[test]
fn unknown_price_names_the_table_of_the_service() {
    let server = Recorder::start();
    let home = home_with(&server.url, 2);
    home.write("in.jsonl", "{\"prompt\": \"one\"}\n");
    let out = home.llbatch(&["check", "in.jsonl", "--service", "box", "-m", "gemma"]).code(0);
    assert!(out.stdout.contains("set [services.box.models.\"gemma\"] input and output"), "{}", out.stdout);
    assert!(!(out.stdout + &out.stderr).contains("--refresh"), "a list of llama.cpp has no prices");
    let run = ["run", "in.jsonl", "-m", "gemma", "--max-cost", "1"];
    let out = home.llbatch(&[&run[..], &["--service", "box"]].concat()).code(2);
    let out = out.says(&["price of gemma is unknown", "set [services.box.models.\"gemma\"]"]);
    assert!(!out.stderr.contains("--refresh"), "{}", out.stderr);
    home.at(&server.url, &run).code(2).says(&["hint: set [models.\"gemma\"] input and output"]);
}

#[test]
fn speed_leaves_interrupted_rows_out() {
    let (asked, ended) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (came, released) = (Arc::clone(&asked), Arc::clone(&ended));
    let server = Recorder::answering(move |_| {
        // The first row is answered; the others hang until the run has ended.
        if came.fetch_add(1, Ordering::SeqCst) > 0 {
            until("the end of the run", || released.load(Ordering::SeqCst));
        }
        ("200 OK", String::new(), Recorder::chat("\"ok\""))
    });
    let home = home_with(&server.url, 9);
    let args = ["run", "in.jsonl", "--service", "box", "-o", "out.jsonl", "--concurrency", "9", "--grace", "1s"];
    let run = home.start(home.command(&args));
    until("nine requests", || asked.load(Ordering::SeqCst) == 9);
    run.signal("INT");
    let out = run.wait().code(130).says(&["1 answered, 8 still to do"]);
    ended.store(true, Ordering::SeqCst);
    let speed = out.stderr.split_once("  time ").unwrap().1.lines().next().unwrap().to_owned();
    assert!(speed.contains("0.") && speed.ends_with("rows/s"), "one row in more than a second: {speed}");
}

#[test]
fn list_of_another_server_names_its_own_models_only() {
    let server = Recorder::answering(|request| {
        if request.head.starts_with("POST ") {
            return ("404 Not Found", String::new(), r#"{"error":{"message":"File Not Found"}}"#.to_owned());
        }
        ("200 OK", String::new(), r#"{"object":"list","data":[{"id":"gemma-3-270m","object":"model"}]}"#.to_owned())
    });
    let home = home_with("http://127.0.0.1:9/v1", 1);
    home.write("in.jsonl", "{\"prompt\": \"one\"}\n");
    let check = ["check", "in.jsonl", "-m", "gemma-3-270"];
    let out = home.at(&server.url, &check).code(0).stdout;
    assert!(!out.contains("Together"), "a guide of Together is not about another server's models: {out}");
    let out = home.at(&server.url, &["models", "--refresh"]).code(0).stdout;
    assert!(out.contains("gemma-3-270m") && !out.contains("meta-llama"), "{out}");
    let out = home.at(&server.url, &check).code(0).stdout;
    assert!(out.contains("near names: gemma-3-270m"), "{out}");
    let out = home.at(&server.url, &["submit", "in.jsonl", "-m", "gemma-3-270"]);
    assert!(!out.stderr.contains("Together"), "{}", out.stderr);
}
