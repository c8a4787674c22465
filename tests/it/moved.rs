//! Jobs of a service that has moved, and of a key that has been replaced.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::support::{Home, Out, Recorder, Server, answered, prompts};

/// Answers two rows, and refuses the key from then on.
fn answers_twice() -> Recorder {
    let asked = AtomicU32::new(0);
    Recorder::answering(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => ("200 OK", String::new(), Recorder::chat("\"ok\"")),
        _ => ("401 Unauthorized", String::new(), r#"{"error":{"message":"this key was replaced"}}"#.to_owned()),
    })
}

/// A home whose config file has the service `box` at `url`.
fn home_at(url: &str) -> Home {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=4));
    move_to(&home, url);
    home
}

fn move_to(home: &Home, url: &str) {
    home.config(format!("[services.box]\nbase_url = \"{url}\"\napi_key_env = \"OWN_KEY\"\n"));
}

fn with_key(home: &Home, key: &str, args: &[&str]) -> Out {
    let mut command = home.command(args);
    command.env("OWN_KEY", key);
    home.finish(command)
}

const RUN: [&str; 8] = ["run", "in.jsonl", "-o", "out.jsonl", "--service", "box", "--concurrency", "1"];
const OLD: &str = "the-key-of-yesterday";
const NEW: &str = "the-key-of-today";

fn job(home: &Home) -> String {
    let out = home.llbatch(&["status", "--offline", "--json"]).code(0);
    serde_json::from_str::<Value>(&out.stdout).unwrap()["jobs"][0]["job"].as_str().unwrap().to_owned()
}

#[test]
fn run_goes_on_at_the_new_url_of_its_service() {
    let (old, new) = (answers_twice(), Recorder::start());
    let home = home_at(&old.url);
    with_key(&home, OLD, &RUN).code(4);
    move_to(&home, &new.url);
    let out = with_key(&home, OLD, &RUN).code(0);
    out.says(&["2 answered before", &format!("box was at {} and is at {} now", old.url, new.url), "--fresh"]);
    answered_rows(&home);
    assert_eq!(new.requests().len(), 2, "answered rows were sent again");
    // It is said once.
    let again = format!("--resume={}", job(&home));
    let out = with_key(&home, OLD, &["run", &again, "-o", "again.jsonl"]).code(0);
    assert!(!out.stderr.contains("was at"), "{}", out.stderr);
    assert_eq!(home.read("again.jsonl"), home.read("out.jsonl"));
}

fn answered_rows(home: &Home) {
    assert_eq!(home.read("out.jsonl").lines().filter(|line| line.contains("\"error\":null")).count(), 4);
}

#[test]
fn batches_go_on_at_the_new_url_of_their_service() {
    let dir = tempfile::tempdir().unwrap();
    let kept = ["--keep", dir.path().to_str().unwrap(), "--listen"];
    let old = Server::quick(&[&kept[..], &[&Server::own_address()]].concat());
    let home = home_at(&old.url);
    with_key(&home, OLD, &["submit", "in.jsonl", "--service", "box"]).code(0);
    let (id, url) = (job(&home), old.url.clone());
    drop(old);
    // Another server has the name now. It knows nothing of the batch, and that is no reason to give up rows.
    let other = Server::quick(&[]);
    move_to(&home, &other.url);
    let fetch = ["fetch", &id, "--wait", "--poll", "50ms", "-o", "out.jsonl"];
    for args in [&fetch[..], &["status", &id], &["wait", &id]] {
        let out = with_key(&home, OLD, args).code(2);
        out.says(&["does not have it", &format!("box was at {url}"), "set base_url"]);
    }
    let moved = Server::quick(&[&kept[..], &[&Server::own_address()]].concat());
    move_to(&home, &moved.url);
    with_key(&home, OLD, &fetch).code(0).says(&[&format!("box was at {url} and is at {} now", moved.url)]);
    answered(&home.read("out.jsonl"), 1..=4);
    let out = with_key(&home, OLD, &fetch).code(0);
    assert!(!out.stderr.contains("was at"), "{}", out.stderr);
}

#[test]
fn replaced_key_goes_on_with_the_job_and_is_said() {
    let service = answers_twice();
    let home = home_at(&service.url);
    with_key(&home, OLD, &RUN).code(4);
    let out = with_key(&home, OLD, &RUN).code(4);
    assert!(!out.stderr.contains("another key"), "{}", out.stderr);
    let new = Recorder::start();
    move_to(&home, &new.url);
    let fingerprint = |key| {
        let out = with_key(&home, key, &["doctor", "--service", "box"]).code(0).stdout;
        out.split_once("fingerprint ").unwrap().1[..8].to_owned()
    };
    let said = format!("was worked on with another key (fingerprint {}, now {})", fingerprint(OLD), fingerprint(NEW));
    let out = with_key(&home, NEW, &RUN).code(0).says(&["2 answered before", &said]);
    assert!(!out.stderr.contains(OLD) && !out.stderr.contains(NEW), "{}", out.stderr);
    answered_rows(&home);
    assert_eq!(new.requests().len(), 2, "answered rows were sent again");
    let out = with_key(&home, NEW, &["run", &format!("--resume={}", job(&home)), "-o", "again.jsonl"]).code(0);
    assert!(!out.stderr.contains("another key"), "{}", out.stderr);
}

#[test]
fn batches_of_a_replaced_key_are_fetched_and_not_made_again() {
    let server = Server::quick(&[]);
    let home = home_at(&server.url);
    let submit = ["submit", "in.jsonl", "--service", "box"];
    with_key(&home, OLD, &submit).code(0);
    let out = with_key(&home, NEW, &submit).code(0);
    out.says(&[&job(&home), "was worked on with another key", "--again"]);
    assert_eq!(server.batches().len(), 1);
    with_key(&home, NEW, &["fetch", "last", "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(0);
    answered(&home.read("out.jsonl"), 1..=4);
}

#[test]
fn what_a_service_teaches_moves_with_its_name() {
    let list = |_: &_| {
        (
            "200 OK",
            String::new(),
            r#"[{"id":"own/model","type":"chat","pricing":{"input":1.5,"output":2.5}}]"#.to_owned(),
        )
    };
    let (old, new) = (Recorder::answering(list), Recorder::answering(list));
    let home = home_at(&old.url);
    with_key(&home, OLD, &["models", "--refresh", "--service", "box"]).code(0);
    move_to(&home, &new.url);
    let out = with_key(&home, OLD, &["models", "--service", "box"]).code(0);
    assert!(out.stdout.contains("own/model") && out.stdout.contains("1.5"), "{}", out.stdout);
    // Another name at the same place is another account, which may have other prices.
    home.config(format!("[services.other]\nbase_url = \"{}\"\nkey = \"none\"\n", old.url));
    let out = home.llbatch(&["models", "--service", "other"]).code(0);
    assert!(!out.stdout.contains("own/model"), "{}", out.stdout);
}
