//! Services with several base URLs: rows go to the servers that answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Asked, Canned, Fault, FaultServer, Home, Out, Server, answered, codes, prompts, until};

/// A server that takes a while for each answer, and works on many at once.
fn slow(time: Duration) -> FaultServer {
    FaultServer::start(move |_| {
        std::thread::sleep(time);
        Fault::None
    })
}

/// No key is sent.
const NO_KEY: &str = "key = \"none\"\n";
/// The sandbox wants a key.
const KEY: &str = "api_key_env = \"TOGETHER_API_KEY\"\n";

/// A home whose config file has the service `pool` at these URLs, with these further lines.
fn home_with(urls: &[&str], lines: &str) -> Home {
    let home = Home::new();
    configure(&home, urls, lines);
    home
}

fn configure(home: &Home, urls: &[&str], lines: &str) {
    home.config(format!("[services.pool]\nbase_url = {urls:?}\n{lines}"));
}

fn run_args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "in.jsonl", "--service", "pool", "-o", "out.jsonl", "--summary", "sum.json"], more].concat()
}

/// The rows of each base URL in a summary, and of them the failed ones.
fn by_url(summary: &Value) -> BTreeMap<String, (u64, u64)> {
    let urls = summary["urls"].as_array().unwrap_or_else(|| panic!("no urls: {summary}"));
    let number = |url: &Value, name: &str| url[name].as_u64().unwrap();
    urls.iter()
        .map(|url| (url["url"].as_str().unwrap().to_owned(), (number(url, "rows"), number(url, "failed"))))
        .collect()
}

fn report(home: &Home) -> Value {
    serde_json::from_str(&home.llbatch(&["report", "last", "--json"]).code(0).stdout).unwrap()
}

#[test]
fn server_that_dies_loses_no_row_and_only_what_was_in_flight_is_paid_twice() {
    // 5,000 rows by `LLBATCH_ROWS=5000 cargo test --test it several_urls`.
    let total: u32 = std::env::var("LLBATCH_ROWS").map_or(1000, |rows| rows.parse().unwrap());
    let end = u64::from(total) / 5;
    let dies = FaultServer::start(move |asked| {
        std::thread::sleep(Duration::from_millis(4));
        if asked.number == end { Fault::Away(Duration::from_hours(1)) } else { Fault::None }
    });
    let lives = slow(Duration::from_millis(4));
    let home = home_with(&[&dies.url, &lives.url], NO_KEY);
    home.write("in.jsonl", prompts(1..=total));
    let out = home.llbatch(&run_args(&["--concurrency", "16"])).code(0);
    answered(&home.read("out.jsonl"), 1..=total);
    let mut paid = dies.counts().paid;
    lives.counts().paid.into_iter().for_each(|(prompt, times)| *paid.entry(prompt).or_default() += times);
    assert_eq!(paid.len(), total as usize);
    let twice: u64 = paid.values().map(|times| times - 1).sum();
    assert!(twice <= 8, "{twice} rows were paid twice, and 8 were in flight there\n{}", out.stderr);
    let summary = home.json("sum.json");
    let urls = by_url(&summary);
    assert_eq!(
        urls.values().map(|(rows, failed)| (rows - failed, *failed)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (total.into(), 0)
    );
    // Those that were in flight when it died may have been answered, or not.
    assert!(urls[&dies.url].0.abs_diff(end) <= 16, "{urls:?}");
    let latency = &summary["urls"][1]["latency_ms"];
    assert!(latency["p50"].as_u64() >= Some(4) && latency["max"].is_u64(), "{latency}");
    let out = out.says(&[&format!("{} gets no rows for now", dies.url), &lives.url]);
    assert!(!out.stderr.contains("service is unreachable"), "{}", out.stderr);
}

#[test]
fn server_that_comes_back_gets_rows_again() {
    let back = FaultServer::start(|asked| {
        std::thread::sleep(Duration::from_millis(20));
        if asked.number == 20 { Fault::Away(Duration::from_millis(100)) } else { Fault::None }
    });
    let other = slow(Duration::from_millis(20));
    let home = home_with(&[&other.url, &back.url], NO_KEY);
    home.write("in.jsonl", prompts(1..=600));
    let out = home.llbatch(&run_args(&["--concurrency", "8"])).code(0);
    answered(&home.read("out.jsonl"), 1..=600);
    out.says(&[&format!("{} gets no rows for now", back.url), &format!("{} gets rows again", back.url)]);
    assert!(back.counts().paid.len() > 40, "{}", back.counts().paid.len());
}

#[test]
fn resumed_run_and_report_tell_the_rows_of_each_url() {
    let servers = [slow(Duration::from_millis(20)), slow(Duration::from_millis(20))];
    let urls: Vec<&str> = servers.iter().map(|server| server.url.as_str()).collect();
    let home = home_with(&urls, NO_KEY);
    home.write("in.jsonl", prompts(1..=40));
    let args = run_args(&["--concurrency", "4"]);
    let run = home.start(home.command(&args));
    until("some answers", || servers.iter().all(|server| server.counts().requests >= 8));
    run.kill();
    // The first one is gone, and another one is there.
    let third = slow(Duration::from_millis(1));
    configure(&home, &[urls[1], &third.url], NO_KEY);
    home.llbatch(&args).code(0);
    answered(&home.read("out.jsonl"), 1..=40);
    let rows = by_url(&home.json("sum.json"));
    assert_eq!(rows.values().map(|(rows, _)| rows).sum::<u64>(), 40, "{rows:?}");
    assert!(rows[urls[0]].0 > 0 && rows[urls[1]].0 > rows[urls[0]].0 && rows[&third.url].0 > 0, "{rows:?}");
    assert_eq!(by_url(&report(&home)), rows);
    assert!(home.llbatch(&["report", "last"]).code(0).stdout.contains(urls[0]));
}

#[test]
fn rows_of_a_server_without_capacity_go_to_the_others() {
    let loading = FaultServer::start(|_| Fault::Instead(Canned::status(503)));
    let ready = slow(Duration::from_millis(1));
    let home = home_with(&[&loading.url, &ready.url], NO_KEY);
    home.write("in.jsonl", prompts(1..=60));
    home.llbatch(&run_args(&["--concurrency", "4"])).code(0);
    answered(&home.read("out.jsonl"), 1..=60);
    let rows = by_url(&home.json("sum.json"));
    assert_eq!((rows[&loading.url], rows[&ready.url]), ((0, 0), (60, 0)));
}

#[test]
fn equal_beginnings_go_to_one_server() {
    let asked = Arc::new(AtomicU64::new(0));
    let server = || {
        let asked = Arc::clone(&asked);
        FaultServer::start(move |_| {
            asked.fetch_add(1, Ordering::Relaxed);
            Fault::None
        })
    };
    let servers = [server(), server()];
    let home = home_with(&[&servers[0].url, &servers[1].url], "affinity = \"prefix\"\nkey = \"none\"\n");
    let prompt = |document: u32, question: u32| format!("{}{question}", format!("word{document} ").repeat(250));
    let rows: String = (0..5)
        .flat_map(|question| (0..12).map(move |document| (document, question)))
        .map(|(document, question)| serde_json::json!({"prompt": prompt(document, question)}).to_string() + "\n")
        .collect();
    home.write("in.jsonl", rows);
    home.llbatch(&run_args(&["-m", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "--concurrency", "1"])).code(0);
    for document in 0..12 {
        let paid =
            [0, 1].map(|at: usize| (0..5).map(|question| servers[at].paid(&prompt(document, question))).sum::<u64>());
        assert!(paid == [5, 0] || paid == [0, 5], "document {document}: {paid:?}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 60);
}

#[test]
fn batches_stay_with_the_url_that_took_them() {
    let servers = [Server::quick(&[]), Server::quick(&[])];
    let home = home_with(&[&servers[0].url, &servers[1].url], KEY);
    home.write("in.jsonl", prompts(1..=3));
    home.llbatch(&["submit", "in.jsonl", "--service", "pool"]).code(0);
    configure(&home, &[&servers[1].url, &servers[0].url], KEY);
    let out = home.llbatch(&["fetch", "last", "--wait", "-o", "out.jsonl"]).code(0);
    assert!(!out.stderr.contains("goes on there"), "{}", out.stderr);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!([0, 1].map(|at: usize| servers[at].batches().len()), [1, 0]);
}

#[test]
fn doctor_tries_each_url() {
    let server = Server::start(&[]);
    let home = home_with(&[&server.url, "http://127.0.0.1:9/v1"], KEY);
    let out = home.llbatch(&["doctor", "--service", "pool", "--online"]).code(75);
    for url in [&*server.url, "http://127.0.0.1:9/v1"] {
        assert_eq!(out.stdout.matches(url).count(), 2, "{}", out.stdout);
    }
    assert!(out.stdout.contains("models listed") && out.stdout.contains("no usable answer"), "{}", out.stdout);
}

/// A server that answers everything with this status at once.
fn always(status: u16) -> FaultServer {
    FaultServer::start(move |_| Fault::Instead(Canned::status(status)))
}

#[test]
fn server_that_fails_fast_attracts_no_rows() {
    let fails = always(502);
    let works = slow(Duration::from_millis(5));
    let home = home_with(&[&fails.url, &works.url], NO_KEY);
    home.write("in.jsonl", prompts(1..=200));
    home.llbatch(&run_args(&["--concurrency", "4"])).code(0);
    answered(&home.read("out.jsonl"), 1..=200);
    // Three that leave it out, those in flight meanwhile, and a probe after 1, 2, 4 … s.
    let asked = fails.counts().requests;
    assert!((3..=20).contains(&asked), "{asked} requests went to the server that fails");
}

#[test]
fn rows_of_a_server_that_lacks_their_model_go_to_the_others() {
    let lacks = always(404);
    let serves = slow(Duration::from_millis(25));
    let home = home_with(&[&lacks.url, &serves.url], NO_KEY);
    home.write("in.jsonl", prompts(1..=80));
    let out = home.llbatch(&run_args(&["--concurrency", "4"])).code(0);
    answered(&home.read("out.jsonl"), 1..=80);
    let asked = lacks.counts().requests;
    assert!((1..=20).contains(&asked), "{asked} requests went to the server without the model");
    out.says(&[&format!("{} gets no rows of ", lacks.url), "scripted 404"]);
}

#[test]
fn model_that_every_server_lacks_is_given_up() {
    let servers = [always(404), always(404)];
    let home = home_with(&[&servers[0].url, &servers[1].url], NO_KEY);
    home.write("in.jsonl", prompts(1..=40));
    let out = home.llbatch(&run_args(&["--concurrency", "1"])).code(3);
    let text = home.read("out.jsonl");
    assert_eq!((text.lines().count(), text.matches("refused this model 5 times").count()), (40, 35), "{}", out.stderr);
    let asked: u64 = servers.iter().map(|server| server.counts().requests).sum();
    assert!((6..=20).contains(&asked), "{asked} requests");
}

#[test]
fn rows_sent_one_after_the_other_take_turns() {
    let servers = [slow(Duration::ZERO), slow(Duration::ZERO)];
    let home = home_with(&[&servers[0].url, &servers[1].url], NO_KEY);
    home.write("in.jsonl", prompts(1..=10));
    home.llbatch(&run_args(&["--concurrency", "1"])).code(0);
    assert_eq!([0, 1].map(|at: usize| servers[at].counts().requests), [5, 5]);
}

#[test]
fn streams_of_a_server_that_dies_go_to_the_others() {
    let dies = FaultServer::start(|asked| match asked.number {
        3 => Fault::Away(Duration::from_hours(1)),
        _ => Fault::None,
    });
    let lives = Server::start(&[]);
    let home = home_with(&[&dies.url, &lives.url], KEY);
    home.write("in.jsonl", prompts(1..=40));
    home.llbatch(&run_args(&["--stream", "--concurrency", "4"])).code(0);
    answered(&home.read("out.jsonl"), 1..=40);
    let urls = by_url(&home.json("sum.json"));
    assert!(urls[&lives.url].0 >= 34, "{urls:?}");
    assert!(home.json("sum.json")["first_token_ms"]["p50"].is_u64(), "streams were asked for");
}

/// A server that answers with this status for this reason, except for some prompts.
fn refusing(status: u16, refused: fn(&str) -> bool) -> FaultServer {
    FaultServer::start(move |asked| {
        if refused(asked.prompt) {
            return Fault::Instead(Canned::status(status));
        }
        std::thread::sleep(Duration::from_millis(25));
        Fault::None
    })
}

#[test]
fn rows_of_a_server_that_refuses_the_key_or_wants_payment_go_to_the_others() {
    for status in [401, 402, 403] {
        let refuses = always(status);
        let serves = slow(Duration::from_millis(25));
        let home = home_with(&[&refuses.url, &serves.url], NO_KEY);
        home.write("in.jsonl", prompts(1..=80));
        let out = home.llbatch(&run_args(&["--concurrency", "4"])).code(0);
        answered(&home.read("out.jsonl"), 1..=80);
        // Three that leave it out, those in flight meanwhile, and a probe after 1, 2, 4 … s.
        let asked = refuses.counts().requests;
        assert!((3..=20).contains(&asked), "{status}: {asked} requests went to the server that refuses");
        out.says(&[&format!("{} gets no rows", refuses.url), &format!("scripted {status}")]);
    }
}

#[test]
fn refusal_by_every_server_stops_the_run() {
    for (status, exit) in [(401, 4), (402, 5), (403, 4)] {
        let servers = [always(status), always(status)];
        let home = home_with(&[&servers[0].url, &servers[1].url], NO_KEY);
        home.write("in.jsonl", prompts(1..=80));
        home.llbatch(&run_args(&["--concurrency", "4"])).code(exit);
        let asked: u64 = servers.iter().map(|server| server.counts().requests).sum();
        assert!((2..=30).contains(&asked), "{status}: {asked} requests");
    }
}

#[test]
fn row_that_every_server_refuses_fails_alone() {
    let forbidden = |prompt: &str| matches!(prompt, "question 20" | "question 40");
    let servers = [refusing(403, forbidden), refusing(403, forbidden)];
    let home = home_with(&[&servers[0].url, &servers[1].url], NO_KEY);
    home.write("in.jsonl", prompts(1..=60));
    let out = home.llbatch(&run_args(&["--concurrency", "4"])).code(3);
    let failed: Vec<_> = codes(&home.read("out.jsonl")).into_iter().filter(|(_, code)| code != "ok").collect();
    assert_eq!(failed, [("q20".to_owned(), "auth".to_owned()), ("q40".to_owned(), "auth".to_owned())]);
    let refused: u64 = servers.iter().map(|server| server.counts().faults["instead=403"]).sum();
    assert_eq!(refused, 4, "each of the two rows was sent to each server once");
    assert!(!out.stderr.contains("gets no rows"), "{}", out.stderr);
}

#[test]
fn web_pages_of_one_server_stop_no_run_that_another_answers() {
    let page = || FaultServer::start(|_| Fault::Instead(Canned::page()));
    let (pages, serves) = (page(), slow(Duration::from_millis(300)));
    let home = home_with(&[&pages.url, &serves.url], NO_KEY);
    home.write("in.jsonl", prompts(1..=12));
    // One after the other, while the first answer of the other server is still to come.
    home.llbatch(&run_args(&["--concurrency", "2"])).code(0);
    answered(&home.read("out.jsonl"), 1..=12);
    assert!((3..=12).contains(&pages.counts().requests), "{} pages", pages.counts().requests);
    let other = page();
    configure(&home, &[&pages.url, &other.url], NO_KEY);
    let out = home.llbatch(&run_args(&["--concurrency", "4", "--fresh"])).code(76);
    out.says(&["a web page answers instead of the API"]);
}

/// Answers rows of two models by one server that has both, and whose first answer is this fault, and one that lacks a model.
fn one_server_has_the_model(fault: fn(&Asked<'_>) -> Fault) -> (String, Home, Out) {
    let has = FaultServer::start(fault);
    let serves = FaultServer::start(|asked| {
        std::thread::sleep(Duration::from_millis(20));
        let lacks = asked.prompt.starts_with("rare");
        if lacks { Fault::Instead(Canned::status(404)) } else { Fault::None }
    });
    let home = home_with(&[&has.url, &serves.url], NO_KEY);
    let row = |n: u32| match n % 10 {
        0 => serde_json::json!({"id": format!("q{n}"), "prompt": format!("rare {n}"), "model": "rare"}),
        _ => serde_json::json!({"id": format!("q{n}"), "prompt": format!("question {n}"), "model": "common"}),
    };
    home.write("in.jsonl", (1..=200).map(|n| row(n).to_string() + "\n").collect::<String>());
    let out = home.llbatch(&run_args(&["--concurrency", "4", "-v"])).code(0);
    assert!(codes(&home.read("out.jsonl")).iter().all(|(_, code)| code == "ok"));
    assert!(by_url(&home.json("sum.json"))[&has.url].0 >= 20, "rows of the rare model came back to it");
    (has.url.clone(), home, out)
}

#[test]
fn dead_server_and_one_without_the_model_do_not_stop_rows_of_other_models() {
    let (_, _, out) = one_server_has_the_model(|asked| match asked.number {
        1 => Fault::Away(Duration::from_secs(3)),
        _ => Fault::None,
    });
    assert!(!out.stderr.contains("service is unreachable"), "{}", out.stderr);
}

#[test]
fn server_that_is_full_and_one_without_the_model_do_not_hold_up_rows_of_other_models() {
    let (full, home, _) = one_server_has_the_model(|asked| match asked.number {
        1..=3 => Fault::Instead(Canned::with(503, &[("retry-after", "3")])),
        _ => Fault::None,
    });
    // Rows of the common model went on meanwhile at the other one.
    let rows = by_url(&home.json("sum.json"));
    assert!(rows[&full].0 < 60, "{rows:?}");
}
