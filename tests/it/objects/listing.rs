//! Inputs that stand for several objects: which of them are read, and that none is lost.

use std::process::Command;

use crate::support::{Home, ObjectServer, Out, Server, answered, prompts};

fn command(home: &Home, server: &Server, store: &ObjectServer, args: &[&str]) -> Command {
    let mut command = store.s3(home.run_command(&server.url, args));
    command.env("HF_ENDPOINT", &store.url);
    command
}

fn run(home: &Home, server: &Server, store: &ObjectServer, args: &[&str]) -> Out {
    home.finish(command(home, server, store, args))
}

#[test]
fn leftovers_of_spark_delta_and_hive_are_no_rows() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    for (n, key) in [
        (1, "_day=1/part-0.jsonl"),
        (2, "part-0.jsonl"),
        (8, "_temporary/0/task_1/part-0.jsonl"),
        (8, "_delta_log/0000.jsonl"),
        (8, ".hive-staging_1/part-0.jsonl"),
        (8, "sub/_tmp/part-0.jsonl"),
    ] {
        store.put(&format!("/bucket/out/{key}"), prompts(n..=n));
    }
    for url in ["s3://bucket/out/", "s3://bucket/out/**", "s3://bucket/**/*.jsonl", "s3://bucket/"] {
        answered(&run(&home, &server, &store, &[url, "--fresh"]).code(0).stdout, 1..=2);
    }
    for url in ["s3://bucket/out/_temporary/", "s3://bucket/out/_temporary/**", "s3://bucket/out/_t*/*/*/*.jsonl"] {
        answered(&run(&home, &server, &store, &[url, "--fresh"]).code(0).stdout, 8..=8);
    }
}

#[test]
fn object_with_the_signs_of_a_pattern_in_its_key_is_the_one_that_is_read() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    store.put("/bucket/in1.jsonl", prompts(1..=1));
    answered(&run(&home, &server, &store, &["s3://bucket/in[1].jsonl"]).code(0).stdout, 1..=1);
    store.put("/bucket/in%5B1%5D.jsonl", prompts(2..=2));
    answered(&run(&home, &server, &store, &["s3://bucket/in[1].jsonl"]).code(0).stdout, 2..=2);
}

#[test]
fn key_that_a_request_would_change_is_refused_and_no_object_is_written_over() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    store.put("/bucket/in.jsonl", prompts(1..=1));
    let outputs = ["s3://bucket//in.jsonl", "s3://bucket/x/../in.jsonl", "s3://bucket/./in.jsonl"];
    for output in outputs {
        let out = run(&home, &server, &store, &["s3://bucket/in.jsonl", "-o", output]).code(2);
        drop(out.says(&[output, "the key has an empty part"]));
        run(&home, &server, &store, &[output]).code(2);
    }
    assert_eq!(store.text("/bucket/in.jsonl").unwrap(), prompts(1..=1));
}

#[test]
fn pattern_of_one_folder_lists_that_folder_alone() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    store.put("/bucket/in/a-1.jsonl", prompts(1..=1));
    store.put("/bucket/in/a-1/b.jsonl", prompts(8..=8));
    answered(&run(&home, &server, &store, &["s3://bucket/in/a-*.jsonl"]).code(0).stdout, 1..=1);
    let lists = |store: &ObjectServer| {
        let state = store.state();
        state.heads.iter().filter(|head| head.contains("list-type")).cloned().collect::<String>()
    };
    assert!(lists(&store).contains("delimiter=") && lists(&store).contains("prefix=in%2Fa-"), "{}", lists(&store));
    // Such an object cannot be read, so it is named.
    store.put("/bucket/in/x//y.jsonl", prompts(9..=9));
    let out = run(&home, &server, &store, &["s3://bucket/in/**/*.jsonl"]).code(66);
    drop(out.says(&["the key \"in/x//y.jsonl\" has an empty part"]));
}

/// A page of a dataset's listing.
fn page(paths: &[&str]) -> String {
    let entry = |path: &&str| format!(r#"{{"type":"file","path":"{path}","size":9}}"#);
    format!("[{}]", paths.iter().map(entry).collect::<Vec<_>>().join(","))
}

const API: &str = "/api/datasets/own/set";

#[test]
fn listing_of_a_dataset_is_read_to_its_end_through_a_mirror_and_at_one_commit() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    store.put(&format!("{API}/revision/main"), r#"{"sha":"c0ffee"}"#);
    store.put(&format!("{API}/tree/c0ffee/d"), page(&["d/a.jsonl", "d/_meta.jsonl"]));
    store.put(&format!("{API}/more"), page(&["d/b.jsonl"]));
    let next = format!("link: <https://huggingface.co{API}/more?cursor=x>; rel=\"next\"\r\n");
    store.state().headers_at.insert(format!("{API}/tree/c0ffee/d"), next);
    for (n, name) in [(1, "a"), (2, "b")] {
        store.put(&format!("/datasets/own/set/resolve/c0ffee/d/{name}.jsonl"), prompts(n..=n));
        store.put(&format!("/datasets/own/set/resolve/main/d/{name}.jsonl"), prompts(8..=8));
    }
    answered(&run(&home, &server, &store, &["hf://datasets/own/set/d/"]).code(0).stdout, 1..=2);
    answered(&run(&home, &server, &store, &["hf://datasets/own/set/d/*.jsonl", "--fresh"]).code(0).stdout, 1..=2);
}

#[test]
fn listing_without_an_end_is_an_error() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    store.put(&format!("{API}/tree/main/d"), page(&["d/a.jsonl"]));
    store.put("/datasets/own/set/resolve/main/d/a.jsonl", prompts(1..=1));
    let next = format!("link: <{}{API}/tree/main/d>; rel=\"next\"\r\n", store.url);
    store.state().headers_at.insert(format!("{API}/tree/main/d"), next);
    run(&home, &server, &store, &["hf://datasets/own/set/d/"]).code(66).says(&["more than a million files"]);
    assert_eq!(server.requests(), 0);
}
