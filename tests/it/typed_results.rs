//! Results in Parquet: every value fits, whatever the answers, the flags and the destination.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::parquet::{column, read, schema};
use crate::support::{Home, MODEL, Recorder, Server, prompts};

/// A service of embeddings: as many vectors as inputs, each of `vector`.
fn embeddings(vector: &Value) -> Recorder {
    let vector = vector.clone();
    Recorder::answering(move |asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        let inputs = body["input"].as_array().map_or(1, Vec::len);
        let data: Vec<Value> =
            (0..inputs).map(|index| json!({"object": "embedding", "index": index, "embedding": vector})).collect();
        let usage = json!({"prompt_tokens": 2, "total_tokens": 2});
        ("200 OK", String::new(), json!({"object": "list", "model": "m", "data": data, "usage": usage}).to_string())
    })
}

#[test]
fn several_vectors_of_a_row_are_a_json_list() {
    let (home, service) = (Home::new(), embeddings(&json!([0.5, 1])));
    let run = |args: &[&str]| {
        let embed = ["--endpoint", "embeddings", "-m", "m"];
        home.finish(home.run_command(&service.url, &[args, &embed].concat())).code(0)
    };
    home.write("in.jsonl", "{\"input\":\"a\"}\n{\"input\":[\"a\",\"b\"]}\n");
    drop(run(&["in.jsonl", "-o", "out.parquet"]));
    assert_eq!(column(&read(&home.path("out.parquet")), "content"), ["\"[0.5,1]\"", "\"[[0.5,1],[0.5,1]]\""]);
    home.write("body.jsonl", "{\"custom_id\":\"1\",\"body\":{\"model\":\"m\",\"input\":[\"a\",\"b\"]}}\n");
    drop(run(&["body.jsonl", "-o", "body.parquet"]));
    assert_eq!(column(&read(&home.path("body.parquet")), "content"), ["\"[[0.5,1],[0.5,1]]\""]);
    // The tokens of one input, and a field of a template, make one vector.
    home.write("one.jsonl", "{\"input\":[1,2]}\n");
    home.write("field.jsonl", "{\"input\":[\"a\",\"b\"]}\n");
    drop(run(&["field.jsonl", "-o", "field.parquet", "--prompt", "{{ input[0] }}"]));
    assert!(schema(&home.path("field.parquet")).contains("OPTIONAL FLOAT element;"));
}

#[test]
fn answer_that_no_column_holds_loses_nothing() {
    let (home, service) = (Home::new(), embeddings(&json!([[0.5], [1]])));
    home.write("in.jsonl", "{\"input\":\"a\",\"model\":\"m\"}\n{\"input\":\"b\",\"model\":\"m\"}\n");
    let run = |args: &[&str]| {
        home.finish(home.run_command(&service.url, &[&["in.jsonl", "--endpoint", "embeddings"], args].concat()))
    };
    drop(
        run(&["-o", "out.parquet"]).code(74).says(&["the column `content` cannot hold", "--resume and -o FILE.jsonl"]),
    );
    assert!(!home.exists("out.parquet"));
    drop(run(&["--resume", "--flat", "-o", "out.jsonl"]).code(0));
    assert_eq!((service.requests().len(), home.read("out.jsonl").lines().count()), (2, 2), "no row is paid twice");
    assert!(home.read("out.jsonl").contains("[[0.5], [1]]") || home.read("out.jsonl").contains("[[0.5],[1]]"));
}

#[test]
fn retried_rows_take_their_places() {
    let broken = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&broken);
    let service = Recorder::answering(move |asked| {
        if fails.load(Ordering::SeqCst) && asked.body.contains("question 2") {
            return ("500 Internal Server Error", String::new(), "{}".to_owned());
        }
        ("200 OK", String::new(), Recorder::chat("\"ok\""))
    });
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    let run = ["in.jsonl", "--retries", "0", "-o", "out.parquet"];
    home.finish(home.run_command(&service.url, &run)).code(3);
    assert_eq!(column(&read(&home.path("out.parquet")), "content"), ["\"ok\"", "null", "\"ok\""]);
    broken.store(false, Ordering::SeqCst);
    home.at(&service.url, &["retry", "last"]).code(0);
    home.at(&service.url, &["fetch", "last", "-o", "out.parquet"]).code(0);
    let found = read(&home.path("out.parquet"));
    assert_eq!(column(&found, "content"), ["\"ok\""; 3]);
    assert_eq!(column(&found, "error"), ["null"; 3]);
    home.at(&service.url, &["retry", "last", "--all"]).code(0);
    home.at(&service.url, &["fetch", "last", "-o", "again.parquet"]).code(0);
    assert_eq!(column(&read(&home.path("again.parquet")), "content"), ["\"ok\""; 3]);
}

#[test]
fn properties_of_answers_are_columns() {
    let answer = json!({"name": "Ann", "age": 7, "tags": ["a"]}).to_string();
    let service = Recorder::answering(move |_| ("200 OK", String::new(), Recorder::chat(&json!(answer).to_string())));
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=1));
    let of = |ty: &str| json!({"type": ty});
    let schema_of_answers =
        json!({"type": "object", "properties": {"name": of("string"), "age": of("integer"), "tags": of("array")}});
    home.write("schema.json", schema_of_answers.to_string());
    let run = ["in.jsonl", "--json-schema", "schema.json", "--unpack", "-o", "out.parquet"];
    home.finish(home.run_command(&service.url, &run)).code(0);
    let found = read(&home.path("out.parquet"));
    let of = |name| column(&found, name).concat();
    assert_eq!(
        (of("name"), of("age"), of("tags")),
        ("\"Ann\"".to_owned(), "\"7\"".to_owned(), "\"[\"a\"]\"".to_owned())
    );
}

#[test]
fn repeated_rows_are_marked_and_standard_output_gets_the_whole_file() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=2) + &prompts(1..=2).replace("\"id\":\"q", "\"id\":\"r"));
    let mut command = home.run_command(&server.url, &["in.jsonl", "--dedupe", "--format", "parquet"]);
    command.stdout(std::fs::File::create(home.path("piped.parquet")).unwrap());
    command.stdin(std::process::Stdio::null());
    assert!(command.status().unwrap().success());
    let found = read(&home.path("piped.parquet"));
    assert_eq!(found.len(), 4);
    let reused = column(&found, "reused");
    assert!(reused[..2].iter().all(|reused| reused != "true") && reused[2..] == ["true", "true"], "{reused:?}");
    assert!(schema(&home.path("piped.parquet")).contains("OPTIONAL BOOLEAN reused;"));
    assert_eq!(server.requests(), 2);
    // It is read back as any other file.
    home.llbatch(&["report", "piped.parquet"]).code(0);
    let text = home.llbatch(&["merge", "in.jsonl", "piped.parquet", "--format", "csv"]).code(0).stdout;
    assert_eq!(text.lines().count(), 5);
    assert_eq!(MODEL, column(&found, "model")[0].trim_matches('"'));
}
