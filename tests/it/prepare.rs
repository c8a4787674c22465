//! `llbatch prepare`.

use std::fmt::Write as _;

use serde_json::Value;

use crate::support::{Home, MODEL, Server, lines, prompts};

/// The names in a directory, sorted.
#[track_caller]
fn names(home: &Home, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(home.path(dir)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn ids(text: &str) -> Vec<String> {
    let id = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["body"]["messages"].is_array(), "{line}");
        line["custom_id"].as_str().unwrap().to_owned()
    };
    text.lines().map(id).collect()
}

/// Two models in turn, `a/x` and `b/y`, ids `q1` and so on.
fn two_models(rows: u32) -> String {
    (1..=rows).fold(String::new(), |mut all, n| {
        let model = if n % 2 == 1 { "a/x" } else { "b/y" };
        writeln!(all, r#"{{"id":"q{n}","model":"{model}","prompt":"question {n}"}}"#).unwrap();
        all
    })
}

#[test]
fn directory_gets_one_file_per_model() {
    let home = Home::new();
    home.write("in.jsonl", two_models(5));
    let out = home.llbatch(&["prepare", "in.jsonl", "-o", "new/shards", "--json"]).code(0);
    assert_eq!(names(&home, "new/shards"), ["a-x-001.jsonl", "b-y-002.jsonl"]);
    let (first, second) = (home.read("new/shards/a-x-001.jsonl"), home.read("new/shards/b-y-002.jsonl"));
    assert_eq!(
        (ids(&first), ids(&second)),
        (["q1", "q3", "q5"].map(String::from).into(), vec!["q2".into(), "q4".into()])
    );
    let expected = serde_json::json!({
        "version": 1,
        "shards": [
            {"file": "new/shards/a-x-001.jsonl", "model": "a/x", "rows": 3, "bytes": first.len()},
            {"file": "new/shards/b-y-002.jsonl", "model": "b/y", "rows": 2, "bytes": second.len()},
        ],
        "rows": 5,
        "bad_rows": 0,
    });
    assert_eq!(serde_json::from_str::<Value>(&out.stdout).unwrap(), expected);

    let out = home.llbatch(&["prepare", "in.jsonl", "-o", "new/shards"]).code(0);
    assert_eq!(out.stdout, "", "what people read goes to stderr");
    out.says(&["FILE ", "new/shards/a-x-001.jsonl  a/x ", "new/shards/b-y-002.jsonl  b/y "]);
    assert!(!home.state().exists(), "nothing is kept");
    assert!(home.files_with("canary").is_empty());
}

#[test]
fn prepared_bodies_equal_realtime_bodies() {
    let home = Home::new();
    let recorder = crate::support::Recorder::start();
    let body = r#"{"messages": [{"role":"user","content":"é \u00e9"}],"x":1E400,"stream":true}"#;
    home.write("in.jsonl", lines(&[&format!(r#"{{"custom_id":"a","body":{body}}}"#)]));
    let flags = ["in.jsonl", "-m", MODEL, "--max-tokens", "7", "--system", "Be brief.", "--set", "top_k=40"];
    home.llbatch(&[&["prepare", "-o", "out.jsonl"], &flags[..]].concat()).code(0).says(&["llbatch removed `stream`"]);
    home.finish(home.run_command(&recorder.url, &flags)).code(0);
    let posted = recorder.bodies().remove(0);
    assert_eq!(home.read("out.jsonl"), format!("{{\"custom_id\":\"a\",\"body\":{posted}}}\n"));
}

#[test]
fn single_file_holds_only_a_single_batch() {
    let home = Home::new();
    home.write("one.jsonl", prompts(1..=3));
    home.write("two.jsonl", two_models(4));
    home.write("out.jsonl", "old\n");
    home.llbatch(&["prepare", "two.jsonl", "-o", "out.jsonl"]).code(65).says(&["2 batches", "-o out/"]);
    assert_eq!(home.read("out.jsonl"), "old\n", "untouched");
    home.llbatch(&["prepare", "one.jsonl", "-o", "out.jsonl"]).code(0);
    assert_eq!(ids(&home.read("out.jsonl")), ["q1", "q2", "q3"]);
    let out = home.llbatch(&["prepare", "one.jsonl", "-o", "/dev/stdout"]).code(0);
    assert_eq!(out.stdout, home.read("out.jsonl"));
    assert_eq!(names(&home, ".").iter().filter(|name| name.contains("llbatch-")).count(), 0);
}

#[test]
fn batch_ends_at_fifty_thousand_rows() {
    let home = Home::new();
    home.write("in.txt", "x\n".repeat(100_001));
    home.llbatch(&["prepare", "in.txt", "-m", "m", "-o", "out.jsonl"]).code(65).says(&["3 batches"]);
    home.llbatch(&["prepare", "in.txt", "-m", "m", "-o", "out"]).code(0).says(&["50,000"]);
    assert_eq!(names(&home, "out"), ["m-001.jsonl", "m-002.jsonl", "m-003.jsonl"]);
    let read = |n: u32| ids(&home.read(&format!("out/m-00{n}.jsonl")));
    assert_eq!((read(1).len(), read(2).len(), read(3)), (50_000, 50_000, vec!["row-100001".to_owned()]));
    assert_eq!(read(2)[0], "row-50001");
}

#[test]
fn invalid_input_writes_nothing() {
    let home = Home::new();
    let good = |n: u32| format!(r#"{{"id":"q{n}","model":"m","prompt":"x"}}"#);
    // The last is valid, but larger than a batch.
    let large = format!(r#"{{"id":"large","model":"m","prompt":"{}"}}"#, "x".repeat(100_000_000));
    home.write("bad.jsonl", lines(&[&good(1), "nonsense", &good(2), &good(1)]));
    home.write("large.jsonl", lines(&[&good(1), &large, &good(2)]));
    let prepare = |file: &str, more: &[&str]| home.llbatch(&[&["prepare", file, "-o", "out/"], more].concat());
    prepare("bad.jsonl", &[]).code(65).says(&["bad.jsonl:2:", "bad.jsonl:4", "2 of 4 rows", "nothing was written"]);
    prepare("large.jsonl", &[]).code(65).says(&["large.jsonl:2: ", "100000", "llbatch run", "nothing was written"]);
    assert!(!home.exists("out"));
    prepare("bad.jsonl", &["--skip-invalid"]).code(3).says(&["2 invalid rows will be left out"]);
    assert_eq!(ids(&home.read("out/m-001.jsonl")), ["q1", "q2"]);
    let out = prepare("large.jsonl", &["--skip-invalid", "--json"]).code(3);
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(
        (&document["rows"], &document["bad_rows"], &document["shards"][0]["rows"]),
        (&3.into(), &1.into(), &2.into())
    );
    home.write("all.jsonl", "nonsense\n");
    let names_before = names(&home, "out");
    prepare("all.jsonl", &["--skip-invalid"]).code(3).says(&["every row is invalid; no file was written"]);
    assert_eq!(names(&home, "out"), names_before);
    home.write("none.jsonl", "\n");
    prepare("none.jsonl", &[]).code(65).says(&["no rows"]);
    prepare("missing.jsonl", &[]).code(66);
}

#[test]
fn unusable_output_path_is_a_usage_error() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2));
    home.write("notes.txt", "dear diary\n");
    for (args, part) in [
        (&["in.jsonl"][..], "--output"),
        (&["-o", "x.jsonl"], "INPUT"),
        (&["in.jsonl", "-o", "-"], "/dev/stdout"),
        (&["in.jsonl", "-o", "notes.txt"], "notes.txt"),
        (&["in.jsonl", "-o", "in.jsonl"], "is an input"),
        (&["in.jsonl", "-o", "./home/../in.jsonl"], "is an input"),
        (&["in.jsonl", "-o", "x", "--endpoint", "embeddings"], "llbatch run"),
        (&["in.jsonl", "-o", "x", "--endpoint", "completions"], "llbatch run"),
        (&["in.jsonl", "-o", "x", "--endpoint", "translations", "--prompt", "{{ text }}"], "--prompt"),
    ] {
        let out = home.llbatch(&[&["prepare"], args].concat()).code(2);
        assert!(out.stderr.contains(part), "{args:?}: {}", out.stderr);
    }
    // Prepared twice into one directory, the first time's file is the second time's input.
    home.llbatch(&["prepare", "in.jsonl", "-o", "."]).code(0);
    let shard = names(&home, ".").into_iter().find(|name| name.ends_with("-001.jsonl")).unwrap();
    let before = home.read(&shard);
    home.llbatch(&["prepare", &shard, "-o", "."]).code(2).says(&["is an input"]);
    assert_eq!(home.read(&shard), before);
    assert_eq!(home.read("in.jsonl"), prompts(1..=2));
    assert!(!home.exists("x"));
}

#[test]
fn files_of_an_earlier_input_are_reported() {
    let home = Home::new();
    home.write("in.jsonl", two_models(2));
    home.llbatch(&["prepare", "in.jsonl", "-o", "out"]).code(0);
    home.write("in.jsonl", two_models(1));
    let out = home.llbatch(&["prepare", "in.jsonl", "-o", "out"]).code(0);
    out.says(&["1 other .jsonl file that this command did not write, such as out/b-y-002.jsonl"]);
    assert_eq!(names(&home, "out"), ["a-x-001.jsonl", "b-y-002.jsonl"]);
}

#[test]
fn batch_notices_come_before_the_table() {
    let home = Home::new();
    let row = |model: &str| format!(r#"{{"model":"{model}","prompt":"x"}}"#);
    let models =
        ["zai-org/GLM-5", "nobody/knows", MODEL, "meta-llama/Llama-3.3-70B-Instruct-Turbo", "zai-org/GLM-5"].map(row);
    home.write("in.jsonl", lines(&models.each_ref().map(String::as_str)));
    let out = home.llbatch(&["prepare", "in.jsonl", "-o", "out"]).code(0).says(&[
        "warning: zai-org/GLM-5: not served in batches (Together batch skill, 2026)",
        "(2 rows)",
        "nobody/knows: counted at full price in batches, because no discount of this service is known",
        "later lists leave it out",
    ]);
    assert!(!out.stderr.contains("Llama-3.3-70B-Instruct-Turbo:"), "its discount is known: {}", out.stderr);
}

#[test]
fn long_ids_travel_as_row_numbers_and_stdin_is_read() {
    let home = Home::new();
    let row = |id: &str| format!(r#"{{"id":"{id}","model":"m","prompt":"x"}}"#);
    let long = "x".repeat(65);
    let text = lines(&[&row(&long), &row("row-1"), &row("row-1-1"), &row(&"é".repeat(64)), &row("last")]);
    home.write("in", &text);
    let mut command = home.command(&["prepare", "-", "-o", "out.jsonl"]);
    command.stdin(std::fs::File::open(home.path("in")).unwrap());
    home.start(command).wait().code(0);
    assert_eq!(ids(&home.read("out.jsonl")), ["row-1-2", "row-1", "row-1-1", &"é".repeat(64), "last"]);
    let kept = home.files_with("row-1-1");
    assert_eq!(kept.len(), 2, "the input and its batch, no copy of it: {kept:?}");
}

#[test]
fn audio_endpoints_are_prepared_for_batches() {
    let home = Home::new();
    let server = Server::start(&[]);
    let line = r#"{"custom_id":"a","method":"FILE","url":"/v1/audio/transcriptions","body":{"file":"https://x/a.wav","model":"w"}}"#;
    home.write("in.jsonl", lines(&[line]));
    home.llbatch(&["prepare", "in.jsonl", "-o", "out.jsonl", "--endpoint", "transcriptions"]).code(0);
    let expected = r#"{"custom_id":"a","method":"FILE","body":{"file":"https://x/a.wav","model":"w"}}"#;
    assert_eq!(home.read("out.jsonl"), lines(&[expected]));
    home.llbatch(&["prepare", "in.jsonl", "-o", "out.jsonl"]).code(65).says(&["`method` must be \"POST\""]);
    let wrong = home.llbatch(&["prepare", "in.jsonl", "-o", "out.jsonl", "--endpoint", "translations"]);
    wrong.code(65).says(&["--endpoint transcriptions"]);
    // The sandbox has no model of this name, but the same file is sent in real time too.
    home.run(&server, &["in.jsonl", "--endpoint", "transcriptions", "-o", "answers.jsonl"]).code(3);
    assert_eq!(server.count("/v1/audio/transcriptions", 404), 1);
}
