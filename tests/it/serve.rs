//! `llbatch serve`.

use serde_json::Value;

use crate::support::{Home, MODEL, Server, get, paid_hash, post, until};

fn chat(prompt: &str) -> String {
    serde_json::json!({"model": MODEL, "messages": [{"role": "user", "content": prompt}]}).to_string()
}

#[test]
fn it_answers_as_together_would() {
    let server = Server::start(&[]);
    let (status, body) = post(&server.address(), "/v1/chat/completions", Some("any"), &chat("hello"));
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().contains(&paid_hash("hello")));
    assert_eq!(
        answer["usage"]["total_tokens"].as_u64().unwrap(),
        answer["usage"]["prompt_tokens"].as_u64().unwrap() + answer["usage"]["completion_tokens"].as_u64().unwrap()
    );
    let (_, again) = post(&server.address(), "/v1/chat/completions", Some("other"), &chat("hello"));
    assert_eq!(again, body, "the same prompt, the same answer");
    let (status, body) = post(&server.address(), "/v1/chat/completions", None, &chat("hello"));
    assert_eq!(status, 401);
    assert!(serde_json::from_str::<Value>(&body).unwrap()["error"]["message"].is_string(), "{body}");
    assert_eq!(get(&server.address(), "/v1/models").0, 401, "models want a key too");
    assert_eq!(post(&server.address(), "/v1/chat/completions", Some("any"), "{}").0, 400);
    assert_eq!(server.bill(), 2);
}

#[test]
fn only_its_own_key_is_taken_when_one_is_named() {
    let server = Server::start(&["--key", "right"]);
    for (key, status) in [("right", 200), ("wrong", 401)] {
        assert_eq!(post(&server.address(), "/v1/chat/completions", Some(key), &chat("x")).0, status, "{key}");
    }
}

#[test]
fn the_rate_is_a_limit() {
    let server = Server::start(&["--rps", "1", "--burst", "2"]);
    let ask = || post(&server.address(), "/v1/chat/completions", Some("k"), &chat("x")).0;
    let statuses = [ask(), ask(), ask(), ask()];
    assert_eq!(statuses[..2], [200, 200]);
    assert!(statuses[2..].contains(&429), "{statuses:?}");
}

#[test]
fn a_signal_stops_it_with_its_code() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let home = Home::new();
        let run = home.start(home.command(&["serve"]));
        until("its address", || run.stdout().ends_with("/v1\n"));
        run.signal(signal);
        run.wait().code(code);
    }
}

#[test]
fn what_it_cannot_do_is_said() {
    let home = Home::new();
    home.llbatch(&["serve", "--fault", "explode"]).code(2).says(&["explode"]);
    home.llbatch(&["serve", "--listen", "nowhere"]).code(2).says(&["nowhere"]);
    let out = home.llbatch(&["serve", "--listen", "0.0.0.0:0"]);
    assert_ne!(out.code, 0);
    drop(out.says(&["127.0.0.1"]));
    let server = Server::start(&[]);
    let out = home.llbatch(&["serve", "--listen", &server.address()]);
    assert_ne!(out.code, 0);
    drop(out.says(&[&server.address()]));
}
