//! `merge` and `report` on parts at URLs: found by pattern, in any order, each in one version.

use crate::support::{Home, ObjectServer, Out, Server, answered, prompts};

/// `llbatch ARGS` with this store as S3.
fn on_store(home: &Home, store: &ObjectServer, args: &[&str]) -> Out {
    home.finish(store.s3(home.command(args)))
}

/// The results of `in.jsonl`, which has four rows.
fn results(home: &Home, server: &Server) -> Vec<String> {
    home.write("in.jsonl", prompts(1..=4));
    home.run(server, &["in.jsonl", "-o", "whole.jsonl"]).code(0);
    home.read("whole.jsonl").lines().map(|line| format!("{line}\n")).collect()
}

#[test]
fn parts_below_a_prefix_are_merged_and_reported() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    let lines = results(&home, &server);
    store.put("/bucket/parts/1.jsonl", lines[..2].concat());
    store.put("/bucket/parts/2.jsonl", lines[2..].concat());
    store.put("/bucket/parts/_tmp/3.jsonl", "no result");
    for parts in ["s3://bucket/parts/", "s3://bucket/parts/*.jsonl"] {
        on_store(&home, &store, &["merge", "in.jsonl", parts, "-o", "all.jsonl"]).code(0);
        assert_eq!(home.read("all.jsonl"), lines.concat());
        let report = on_store(&home, &store, &["report", parts, "--json"]).code(0).stdout;
        assert!(report.contains("\"succeeded\": 4"), "{report}");
    }
    let twice = ["merge", "in.jsonl", "s3://bucket/parts/", "s3://bucket/parts/1.jsonl", "-o", "all.jsonl"];
    on_store(&home, &store, &twice).code(2).says(&["s3://bucket/parts/1.jsonl: this part is named twice"]);
}

#[test]
fn parts_in_another_order_are_merged_into_an_object() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    let lines = results(&home, &server);
    store.put("/bucket/part.jsonl", lines.iter().rev().map(String::as_str).collect::<String>());
    on_store(&home, &store, &["merge", "in.jsonl", "s3://bucket/part.jsonl", "-o", "s3://bucket/d/all.jsonl"]).code(0);
    answered(&store.text("/bucket/d/all.jsonl").unwrap(), 1..=4);
}

#[test]
fn part_that_is_replaced_between_two_passes_is_an_error() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    let lines = results(&home, &server);
    let other =
        lines.iter().rev().map(|line| line.replace("\"content\":\"", "\"content\":\"other ")).collect::<String>();
    assert_ne!(other.len(), lines.concat().len());
    // One look at its first row, then the pass that finds the order.
    for (reads, output) in [(1, None), (2, None), (1, Some("all.jsonl"))] {
        store.put("/bucket/part.jsonl", lines.concat());
        store.state().replace = Some(("/bucket/part.jsonl".to_owned(), other.clone().into_bytes(), reads));
        let to = output.map_or_else(Vec::new, |output| vec!["-o", output]);
        let out =
            on_store(&home, &store, &[&["merge", "in.jsonl", "s3://bucket/part.jsonl"], &to[..]].concat()).code(1);
        assert!(out.stderr.contains("changed while llbatch read it"), "{}", out.stderr);
        assert!(!out.stdout.contains("other") && !home.exists("all.jsonl"), "{}", out.stdout);
    }
}
