//! Bodies and answers keep their bytes.

use crate::support::{Home, Recorder, lines, rows};

/// JSON that libraries like to repair: long and infinite numbers, duplicate keys, escapes, white space.
const ODD: &str = r#"{"model":"m/x" , "messages":[{"role":"user","content":"caf\u00e9 \ud83d\ude00 \/ \u2028 é"}],"big":123456789012345678901234567890,"huge":1E400,"exact":1.10,"dup":1,"dup":2, "z":[ 1 ,2 ],"b":{"y":0,"a":-0.0}}"#;

#[test]
fn body_is_sent_byte_for_byte() {
    let home = Home::new();
    let recorder = Recorder::start();
    home.write("in.jsonl", format!("{{\"custom_id\": \"a\", \"body\": {ODD}}}\n{ODD}\n"));
    home.finish(home.run_command(&recorder.url, &["in.jsonl", "-o", "out.jsonl"])).code(0);
    assert_eq!(recorder.bodies(), [ODD, ODD]);
}

#[test]
fn flag_adds_its_field_and_touches_nothing_else() {
    let home = Home::new();
    let recorder = Recorder::start();
    home.write("in.jsonl", format!("{ODD}\n"));
    home.finish(home.run_command(&recorder.url, &["in.jsonl", "-o", "out.jsonl", "--max-tokens", "7"])).code(0);
    let expected = format!("{},\"max_tokens\":7}}", ODD.strip_suffix('}').unwrap());
    assert_eq!(recorder.bodies(), [expected]);
}

#[test]
fn stream_is_removed_with_one_notice() {
    let home = Home::new();
    let recorder = Recorder::start();
    home.write(
        "in.jsonl",
        lines(&[
            r#"{"stream":true,"model":"m/x","messages":[{"role":"user","content":"1"}],"n":1E0}"#,
            r#"{"custom_id":"b","body":{"model":"m/x","stream_options":{"include_usage":true},"messages":[{"role":"user","content":"2"}],"stream":false}}"#,
            r#"{"model":"m/x","messages":[{"role":"user","content":"3"}]}"#,
        ]),
    );
    let out = home.finish(home.run_command(&recorder.url, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "1"]));
    let out = out.code(0);
    assert_eq!(
        recorder.bodies(),
        [
            r#"{"model":"m/x","messages":[{"role":"user","content":"1"}],"n":1E0}"#,
            r#"{"model":"m/x","messages":[{"role":"user","content":"2"}]}"#,
            r#"{"model":"m/x","messages":[{"role":"user","content":"3"}]}"#,
        ]
    );
    assert_eq!(out.stderr.matches("stream").count(), 1, "{}", out.stderr);
    assert!(out.stderr.contains("2 rows"), "{}", out.stderr);
}

#[test]
fn answer_is_kept_byte_for_byte_on_one_line() {
    let home = Home::new();
    let body = "{\n  \"choices\": [\n    {\"message\": {\"content\": \"caf\\u00e9 \\/ \u{e9} \\u001b[31m\", \"role\": \"assistant\"}}\n  ],\n  \"big\": 123456789012345678901234567890, \"huge\":1E400, \"dup\": 1, \"dup\": 2\n}";
    let recorder = Recorder::answering(move |_| ("200 OK", String::new(), body.to_owned()));
    home.write("in.jsonl", lines(&[r#"{"id":"a","prompt":"x","model":"m/x"}"#]));
    home.finish(home.run_command(&recorder.url, &["in.jsonl", "-o", "out.jsonl"])).code(0);
    let results = home.read("out.jsonl");
    assert_eq!(results.lines().count(), 1);
    for part in ["\"caf\\u00e9 \\/ \u{e9} \\u001b[31m\"", "123456789012345678901234567890", "1E400"] {
        assert!(results.contains(part), "{part} is not in {results}");
    }
    assert_eq!(results.matches("\"dup\"").count(), 2, "{results}");
}

#[test]
fn unusual_characters_of_ids_survive() {
    let home = Home::new();
    let recorder = Recorder::start();
    home.write("in.jsonl", lines(&[r#"{"id":"ü/\"\\ 名 \u00e9","prompt":"x","model":"m/x"}"#]));
    home.finish(home.run_command(&recorder.url, &["in.jsonl", "-o", "out.jsonl"])).code(0);
    assert_eq!(rows(&home.read("out.jsonl"))[0].id, "ü/\"\\ 名 é");
}
