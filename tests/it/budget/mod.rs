//! Budgets: nothing is sent that could exceed them, and the spending is known afterwards.

mod bounds;
mod cached;
mod estimates;
mod named;
mod prices;
mod removed;
mod shared;

use serde_json::Value;

use crate::support::{Home, Server};

const TURBO: &str = "meta-llama/Llama-3.2-3B-Instruct-Turbo";

/// Rows of a known model with a bound on their answers.
fn rows(count: u32, max_tokens: u32) -> String {
    let row = |n| {
        format!("{{\"id\":\"q{n}\",\"prompt\":\"question {n}\",\"model\":\"{TURBO}\",\"max_tokens\":{max_tokens}}}\n")
    };
    (1..=count).map(row).collect::<Vec<_>>().concat()
}

/// The bill of the server in USD, at the realtime price.
fn billed(server: &Server) -> f64 {
    let bill = &server.stats()["bill"];
    (bill["prompt_tokens"].as_f64().unwrap() + bill["completion_tokens"].as_f64().unwrap()) * 0.06 / 1e6
}

#[test]
fn run_stops_before_max_cost_and_resumes_with_more() {
    let home = Home::new();
    let server = Server::start(&["--latency", "5ms"]);
    home.write("in.jsonl", rows(60, 50));
    // A row costs up to about 100 tokens: $0.000006.
    let out =
        home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "4", "--max-cost", "0.00005"]).code(5);
    let out = out.says(&["--max-cost $0.00005; $0.0000", "spent or at risk"]);
    // The same limit would stop it at once, and the user decides on a higher one.
    assert!(out.stderr.contains("--concurrency 4 --max-cost USD\n"), "{}", out.stderr);
    assert!(billed(&server) <= 0.00005, "{}", billed(&server));
    let first = server.bill();
    assert!((2..60).contains(&first), "{first}");
    let text = home.read("out.jsonl.partial");
    assert_eq!(text.lines().count(), 60);
    assert_eq!(text.matches("\"code\":\"budget\"").count() as u64, 60 - first, "{text}");
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "4", "--max-cost", "1"]).code(0);
    assert_eq!((server.bill(), server.paid_again()), (60, 0));
}

#[test]
fn unreached_row_keeps_its_error_after_a_retry() {
    let home = Home::new();
    let server = Server::start(&["--fault", "status=500,contains=question 7,times=always"]);
    home.write("in.jsonl", rows(9, 50));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--retries", "0"]).code(3);
    let error = |file: &str| {
        let text = home.read(file);
        let line: Value = serde_json::from_str(text.lines().nth(6).unwrap()).unwrap();
        line["error"]["code"].clone()
    };
    assert_eq!(error("out.jsonl"), "server_error");
    // Too little for a single row: it stays as it was, in the results and in the store.
    home.run(&server, &["in.jsonl", "-o", "again.jsonl", "--resume", "--max-cost", "0.000001"]).code(5);
    assert_eq!(error("again.jsonl.partial"), "server_error");
    let status: Value = serde_json::from_str(&home.llbatch(&["status", "last", "--json"]).code(0).stdout).unwrap();
    assert_eq!(status["jobs"][0]["rows"], serde_json::json!({"total": 9, "succeeded": 8, "failed": 1, "pending": 0}));
}

#[test]
fn unknown_price_is_refused_under_a_budget() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", rows(3, 5).replace(TURBO, "nobody/knows-this"));
    // One more model, which batches serve for less: its batch must not be on its way when the other one is refused.
    home.write(
        "both.jsonl",
        [rows(3, 5).replace(TURBO, "nobody/knows-this"), rows(3, 5).replace("\"q", "\"r")].concat(),
    );
    let limited = ["--base-url", &server.url, "--max-cost", "5"];
    for args in [
        &["run", "in.jsonl"][..],
        &["submit", "in.jsonl"],
        &["submit", "both.jsonl", "--via", "auto"],
        &["submit", "both.jsonl", "--deadline", "1h", "--rescue", "-o", "out.jsonl"],
    ] {
        home.llbatch(&[args, &limited].concat()).code(2).says(&["nobody/knows-this", "--allow-unpriced"]);
    }
    assert_eq!(server.requests(), 0);
    assert!(home.llbatch(&["status", "--offline"]).code(0).stderr.contains("no jobs yet"));
    // A job that failed without a budget is not tried again under one.
    let failing = Server::quick(&["--fault", "status=500,times=always", "--fault", "status=500,on=row"]);
    let at = |args: &[&str]| home.at(&failing.url, args);
    at(&["run", "in.jsonl", "-o", "out.jsonl", "--retries", "0"]).code(3);
    for via in ["realtime", "batch"] {
        let before = failing.bill();
        at(&["retry", "last", "--via", via, "--max-cost", "5"])
            .code(2)
            .says(&["nobody/knows-this", "--allow-unpriced"]);
        assert_eq!((failing.bill(), failing.batches().len()), (before, 0), "{via}");
    }
    at(&["retry", "last", "--via", "batch", "--max-cost", "5", "--allow-unpriced"]).code(0);
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--max-cost", "5", "--allow-unpriced"]).code(0);
}

#[test]
fn reserved_amount_is_shown_before_sending() {
    let home = Home::new();
    home.write("in.jsonl", rows(60, 50));
    let out = home.llbatch(&["check", "in.jsonl", "--json"]).code(0);
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    let most = document["cost"]["set_aside_usd"]["batch"].as_f64().unwrap();
    assert!(most >= document["cost"]["batch_usd"]["max"].as_f64().unwrap(), "{}", out.stdout);
    assert!(
        home.llbatch(&["submit", "in.jsonl", "--dry-run", "--max-cost", "1"]).code(0).stdout.contains("reserves up to")
    );
    // The same figure decides, tried or done.
    let server = Server::quick(&[]);
    for (limit, code) in [(most * 0.99, 5), (most * 1.01, 0)] {
        let limit = format!("{limit:.9}");
        let args = ["submit", "in.jsonl", "--max-cost", &limit];
        home.at(&server.url, &[&args[..], &["--dry-run"]].concat()).code(code);
        home.at(&server.url, &args).code(code);
    }
}

#[test]
fn submission_over_budget_is_refused_whole() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", rows(20, 1000));
    let submit = |limit: &str| home.llbatch(&["submit", "in.jsonl", "--base-url", &server.url, "--max-cost", limit]);
    // 20 × 1,000 tokens at half of $0.06 a million: $0.0006 and the prompts.
    submit("0.0005").code(5).says(&["may cost up to $0.0006", "nothing was sent"]);
    assert_eq!(server.requests(), 0);
    let none = home.llbatch(&["status", "--offline"]).code(0);
    assert!(none.stderr.contains("no jobs yet"), "{}{}", none.stdout, none.stderr);
    submit("0.01").code(0);
}

#[test]
fn unsent_batches_stay_reserved_until_cancelled() {
    let home = Home::new();
    // It never takes a file, and wants to be left alone for longer than anybody waits.
    let server = Server::quick(&["--fault", "status=503,retry-after=600,on=register,times=always"]);
    home.write("c.toml", "[budget]\nper_day = 0.001\n");
    home.write("in.jsonl", rows(20, 1400));
    home.write("other.jsonl", rows(20, 1401));
    let config = ["--config", "c.toml", "--base-url", &server.url];
    let args = ["submit", "in.jsonl", "--wait", "--poll", "400ms", "-o", "out.jsonl"];
    let run = home.start(home.command(&[&args[..], &config].concat()));
    crate::support::until("it waits", || run.stderr().contains("still trying"));
    // Each could be sent alone: $0.00084.
    let other = || home.llbatch(&[&["submit", "other.jsonl"][..], &config].concat());
    for _ in 0..3 {
        other().code(5).says(&["up to $0.000", "in flight", "nothing was sent"]);
    }
    let state = || {
        let out = home.llbatch(&["status", "last", "--json", "--offline"]).code(0);
        serde_json::from_str::<Value>(&out.stdout).unwrap()["jobs"][0]["state"].clone()
    };
    assert_eq!(state(), "preparing");
    home.llbatch(&[&["wait", "last", "--timeout", "100ms"][..], &config].concat()).code(75).says(&["another llbatch"]);
    home.llbatch(&[&["cancel", "last"][..], &config].concat()).code(0).says(&["cancelled"]);
    run.wait().code(3);
    assert_eq!(home.read("out.jsonl").matches("\"code\":\"cancelled\"").count(), 20);
    assert_eq!(state(), "cancelled");
    // The reservation is released: now only the service refuses.
    other().code(75);
}

#[test]
fn daily_budget_counts_all_jobs_and_batches_in_flight() {
    let home = Home::new();
    let server = Server::start(&["--batch-run", "60s"]);
    home.write("c.toml", "[budget]\nper_day = 0.001\n");
    home.write("small.jsonl", rows(20, 50));
    home.write("large.jsonl", rows(20, 1400));
    let command = |args: &[&str]| home.llbatch(&[args, &["--config", "c.toml", "--base-url", &server.url]].concat());
    command(&["run", "small.jsonl", "-o", "small.out.jsonl"]).code(0);
    command(&["submit", "large.jsonl"]).code(0);
    // Up to $0.00085 of the batch are in flight now.
    command(&["submit", "large.jsonl", "--again"]).code(5).says(&[
        "may cost up to $0.000",
        "is left of the config file's budget of $0.001",
        "for today",
        "reserved for requests in flight; renewed at midnight, in ",
        "nothing was sent",
        "[budget] per_day = 0.0",
        "would do",
    ]);
    command(&["cancel", "last"]).code(0);
    let text = command(&["status", "--cost", "--json"]).code(0).stdout;
    let document: Value = serde_json::from_str(&text).unwrap();
    let days = document["days"].as_array().unwrap();
    assert_eq!((days.len(), &days[0]["model"], &days[0]["rows"]), (1, &TURBO.into(), &40.into()), "{text}");
    let spent = days[0]["usd"].to_string().parse::<f64>().unwrap();
    let run = home.llbatch(&["report", "small.jsonl"]);
    assert!(spent > 0.0 && (spent - billed(&server)).abs() < 1e-9, "{spent} {} {}", billed(&server), run.stdout);
    let csv = command(&["status", "--cost", "--csv"]).code(0).stdout;
    assert!(csv.starts_with("day,model,rows,prompt_tokens,completion_tokens,usd\n") && csv.contains(TURBO), "{csv}");
}

#[test]
fn unpriced_row_hides_no_spending_from_the_daily_budget() {
    let home = Home::new();
    let server = Server::start(&["--latency", "5ms"]);
    home.write("c.toml", "[budget]\nper_day = 0.00005\n");
    let unpriced = rows(1, 5).replace(TURBO, "nobody/knows-this").replace("\"q", "\"r");
    home.write("in.jsonl", unpriced + &rows(60, 50));
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "4", "--allow-unpriced", "--config", "c.toml"];
    home.run(&server, &args).code(5).says(&["the config file's budget of", "$0.000050"]);
    // The row without a price is in the server's bill as well.
    assert!(billed(&server) <= 0.00005 + 0.000_002, "{}", billed(&server));
}

#[test]
fn settled_batches_release_their_reservation() {
    let home = Home::new();
    let server = Server::quick(&[]);
    home.write("c.toml", "[budget]\nper_day = 0.0015\n");
    let beside = rows(2, 5).replace(TURBO, "Qwen/Qwen2.5-7B-Instruct-Turbo").replace("\"q", "\"r");
    // The batch may cost $0.00085, and will cost far less.
    home.write("both.jsonl", rows(20, 1400) + &beside);
    home.write("more.jsonl", rows(20, 1400).replace("\"q", "\"s"));
    let command = |args: &[&str]| home.llbatch(&[args, &["--config", "c.toml", "--base-url", &server.url]].concat());
    command(&["submit", "both.jsonl", "--via", "auto", "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(0);
    command(&["submit", "more.jsonl"]).code(0);
}

#[test]
fn resumed_run_keeps_counting_and_names_the_next_command() {
    let home = Home::new();
    let server = Server::start(&["--latency", "5ms"]);
    home.write("in.jsonl", rows(60, 50));
    let run = |limit| home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "4", "--max-cost", limit]);
    run("0.00005").code(5).says(&[
        "--max-cost $0.00005",
        "spent or at risk",
        "; --max-cost 0.00",
        "would do for the rest",
    ]);
    let first = server.bill();
    // The same again: what was spent is not spent anew.
    run("0.00005").code(5).says(&["--max-cost $0.00005", "spent or at risk"]);
    assert!(server.bill() <= first + 1, "{} after {first}", server.bill());
    run("0.0001").code(5);
    assert!(billed(&server) <= 0.0001 && server.bill() > first, "{} {}", billed(&server), server.bill());
    // Killed, too: what was in flight counts at its worst.
    let running = home.spawn(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "2", "--max-cost", "0.00017"]);
    server.until_billed(server.bill() + 3);
    running.kill();
    run("0.00017").code(5);
    assert!(billed(&server) <= 0.00017, "{}", billed(&server));
    run("1").code(0);
    assert_eq!(home.read("out.jsonl").lines().count(), 60);
}

/// `status --cost` must know what the report of the last job says.
#[track_caller]
fn spending_is_known(home: &Home, server: &Server) {
    let json = |args: &[&str]| -> Value { serde_json::from_str(&home.at(&server.url, args).code(0).stdout).unwrap() };
    let ledger = json(&["status", "--cost", "--json"]);
    let report = json(&["report", "last", "--json"]);
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&report["cost"]["usd"]) > 0.0, "{report}");
    let known = number(&ledger["usd"]) + number(&ledger["unrecorded_usd"]);
    assert!((known - number(&report["cost"]["usd"])).abs() < 1e-12, "{ledger} {report}");
}

#[test]
fn spending_of_a_killed_run_is_known_without_running_it_again() {
    let home = Home::new();
    let server = Server::start(&["--latency", "30ms"]);
    home.write("in.jsonl", rows(60, 50));
    let run = home.spawn(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "4"]);
    // Sooner than the index is updated.
    server.until_billed(12);
    assert_eq!(run.kill(), None);
    spending_is_known(&home, &server);
}

#[test]
fn spending_of_a_killed_wait_is_known_without_running_it_again() {
    let home = Home::new();
    let server = Server::quick(&["--batch-run", "0s"]);
    home.write("in.jsonl", rows(6, 50));
    home.at(&server.url, &["submit", "in.jsonl", "--wait", "--poll", "100ms", "-o", "out.jsonl"]).code(0);
    // As a kill between the commit of the results and the record of their cost leaves it.
    let index = rusqlite::Connection::open(home.state().join("ledger.db")).unwrap();
    index.execute_batch("DELETE FROM spend; UPDATE job SET state = 'running', delivered = 0, nanos = NULL").unwrap();
    spending_is_known(&home, &server);
}
