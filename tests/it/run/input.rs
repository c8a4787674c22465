//! Inputs: record forms, formats, compression, standard input, flags. A recorder shows the requests.

use std::io::Write as _;

use crate::support::{Home, KEY, MODEL, Recorder, Server, answered, codes, lines, prompts, rows};

/// Runs `args` against a recorder, one request at a time, and returns the bodies in the order of the rows.
fn sent(home: &Home, args: &[&str]) -> Vec<String> {
    // An answer that also follows a schema of an object.
    let recorder = Recorder::answering(|_| ("200 OK", String::new(), Recorder::chat("\"{}\"")));
    let mut all = vec!["--concurrency", "1", "-o", "out.jsonl"];
    all.extend(args);
    home.finish(home.run_command(&recorder.url, &all)).code(0);
    recorder.bodies()
}

#[test]
fn every_form_of_a_record_becomes_its_request() {
    let home = Home::new();
    home.write(
        "in.jsonl",
        lines(&[
            r#"{"custom_id": "batch", "method": "POST", "url": "/v1/chat/completions", "body": {"model":"m/a","messages":[{"role":"user","content":"one"}]}}"#,
            r#"{"id": "body", "model":"m/a", "messages":[{"role":"user","content":"two"}], "x": 1}"#,
            r#"{"id": 7, "prompt": "three", "system": "be short", "model": "m/a", "max_tokens": 5, "note": "stays here"}"#,
            r#"{"prompt": "four", "model": "m/b"}"#,
        ]),
    );
    assert_eq!(
        sent(&home, &["in.jsonl"]),
        [
            r#"{"model":"m/a","messages":[{"role":"user","content":"one"}]}"#,
            r#"{"model":"m/a", "messages":[{"role":"user","content":"two"}], "x": 1}"#,
            r#"{"messages":[{"role":"system","content":"be short"},{"role":"user","content":"three"}],"model":"m/a","max_tokens":5}"#,
            r#"{"messages":[{"role":"user","content":"four"}],"model":"m/b"}"#,
        ]
    );
    let ids: Vec<_> = rows(&home.read("out.jsonl")).into_iter().map(|row| row.id).collect();
    assert_eq!(ids, ["batch", "body", "7", "row-4"]);
}

#[test]
fn templates_see_the_fields_of_any_record() {
    let home = Home::new();
    home.write("in.jsonl", lines(&[r#"{"text": "a\"b\nc", "n": 12345678901234567890, "tags": ["x", "y"]}"#]));
    let bodies = sent(
        &home,
        &["in.jsonl", "-m", "m/a", "--prompt", "{{ text }}|{{ tags | join('+') }}", "--system", "For {{ tags[0] }}"],
    );
    assert_eq!(
        bodies,
        [r#"{"model":"m/a","messages":[{"role":"system","content":"For x"},{"role":"user","content":"a\"b\nc|x+y"}]}"#]
    );
}

#[test]
fn flags_fill_what_a_row_does_not_set() {
    let home = Home::new();
    home.write("schema.json", r#"{"type": "object"}"#);
    home.write(
        "in.jsonl",
        lines(&[
            r#"{"prompt": "bare"}"#,
            r#"{"custom_id": "own", "body": {"messages": [{"role":"user","content":"x"}], "model": "m/own", "max_tokens": 9, "temperature": 0.10, "top_p": 1, "seed": 1, "stop": ["own"], "top_k": 1, "response_format": {"type":"text"}}}"#,
        ]),
    );
    let bodies = sent(
        &home,
        &[
            "in.jsonl",
            "-m",
            "m/flag",
            "--max-tokens",
            "5",
            "--temperature",
            "0.70",
            "--top-p",
            "0.9",
            "--seed",
            "-4",
            "--stop",
            "END",
            "--stop",
            "\n",
            "--set",
            "top_k=40",
            "--set",
            r#"logit_bias={"50": 1}"#,
            "--json-schema",
            "schema.json",
        ],
    );
    let bare: serde_json::Value = serde_json::from_str(&bodies[0]).unwrap();
    assert_eq!(bare["model"], "m/flag");
    assert_eq!((&bare["max_tokens"], &bare["seed"], &bare["top_k"]), (&5.into(), &(-4).into(), &40.into()));
    assert_eq!(bare["stop"], serde_json::json!(["END", "\n"]));
    assert_eq!(bare["logit_bias"]["50"], 1);
    assert_eq!(bare["response_format"]["type"], "json_schema");
    assert_eq!(bare["response_format"]["json_schema"]["schema"], serde_json::json!({"type": "object"}));
    assert!(bodies[0].contains(r#""temperature":0.70"#), "the number as it was spelled: {}", bodies[0]);
    // Fields of the row keep their bytes; missing fields are added behind them.
    let own = r#"{"messages": [{"role":"user","content":"x"}], "model": "m/own", "max_tokens": 9, "temperature": 0.10, "top_p": 1, "seed": 1, "stop": ["own"], "top_k": 1, "response_format": {"type":"text"},"logit_bias":"#;
    assert!(bodies[1].starts_with(own), "{}", bodies[1]);
}

#[test]
fn tables_and_lines_are_read() {
    let home = Home::new();
    home.write(
        "a.csv",
        "id,prompt,max_tokens,temperature,note\r\nc1,\"with, comma\nand break\",3,0.50,n\r\nc2,plain,,,\r\n",
    );
    home.write("b.tsv", "prompt\tsystem\nsays \"hi\"\tbe kind\n");
    home.write("c.txt", "first line\nsecond, line\n");
    assert_eq!(
        sent(&home, &["a.csv", "-m", "m/a"]),
        [
            r#"{"model":"m/a","messages":[{"role":"user","content":"with, comma\nand break"}],"max_tokens":3,"temperature":0.50}"#,
            r#"{"model":"m/a","messages":[{"role":"user","content":"plain"}]}"#,
        ]
    );
    assert_eq!(
        sent(&home, &["b.tsv", "-m", "m/a"]),
        [
            r#"{"model":"m/a","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"says \"hi\""}]}"#
        ]
    );
    let one = r#"{"model":"m/a","messages":[{"role":"user","content":"first line"}]}"#;
    let two = r#"{"model":"m/a","messages":[{"role":"user","content":"second, line"}]}"#;
    assert_eq!(sent(&home, &["c.txt", "-m", "m/a"]), [one, two]);
    // The type that the ending does not tell.
    home.write("c.dat", "first line\nsecond, line\n");
    assert_eq!(sent(&home, &["c.dat", "--input-format", "lines", "-m", "m/a"]), [one, two]);
    assert_eq!(
        sent(&home, &["c.txt", "-m", "m/a", "--prompt", "Say {{ line }}"])[0],
        r#"{"model":"m/a","messages":[{"role":"user","content":"Say first line"}]}"#
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_files_pipes_and_several_files_are_read_as_one() {
    let home = Home::new();
    let server = Server::start(&[]);
    // Two members in one gzip file, as `cat a.gz b.gz` makes them.
    home.write("a.jsonl.gz", [gzip(prompts(1..=3).as_bytes()), gzip(prompts(4..=5).as_bytes())].concat());
    home.write("b.jsonl.zst", zstd::encode_all(prompts(6..=8).as_bytes(), 1).unwrap());
    // A byte order mark and Windows line ends; no line end at the end.
    let windows = prompts(9..=10).replace('\n', "\r\n");
    home.write("c.jsonl", format!("\u{feff}{}", windows.trim_end()));
    let files = ["a.jsonl.gz", "b.jsonl.zst", "c.jsonl"];
    home.run(&server, &[&files[..], &["-o", "out.jsonl", "--concurrency", "4"]].concat()).code(0);
    answered(&home.read("out.jsonl"), 1..=10);

    let out = home.run_with_stdin(&server.url, &["-", "--concurrency", "4"], prompts(1..=4).as_bytes()).code(0);
    answered(&out.stdout, 1..=4);
}

#[test]
fn generated_ids_count_over_all_files() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("a.txt", "one\ntwo\n");
    home.write("b.txt", "three\n");
    home.run(&server, &["a.txt", "b.txt", "-m", MODEL, "-o", "out.jsonl"]).code(0);
    let ids: Vec<_> = rows(&home.read("out.jsonl")).into_iter().map(|row| row.id).collect();
    assert_eq!(ids, ["row-1", "row-2", "row-3"]);
}

#[test]
fn id_of_any_length_comes_back_unchanged() {
    let home = Home::new();
    let server = Server::start(&[]);
    let long = "ä".repeat(65);
    home.write("in.jsonl", format!("{{\"name\":\"{long}\",\"prompt\":\"x\",\"model\":\"{MODEL}\"}}\n"));
    home.run(&server, &["in.jsonl", "--id", "name", "-o", "out.jsonl"]).code(0);
    assert_eq!(codes(&home.read("out.jsonl")), [(long, "ok".to_owned())]);
}

#[test]
fn other_endpoints_get_their_bodies_unchanged() {
    let home = Home::new();
    let server = Server::start(&[]);
    let model = "intfloat/multilingual-e5-large-instruct";
    home.write("e.jsonl", format!("{{\"id\":\"e\",\"input\":[\"a\",\"b\"],\"model\":\"{model}\"}}\n"));
    home.run(&server, &["e.jsonl", "--endpoint", "embeddings", "-o", "e.out.jsonl"]).code(0);
    let row = &rows(&home.read("e.out.jsonl"))[0];
    assert_eq!(row.line["response"]["body"]["data"].as_array().unwrap().len(), 2);

    home.write("c.jsonl", format!("{{\"id\":\"c\",\"prompt\":\"Once upon\",\"model\":\"{MODEL}\"}}\n"));
    home.run(&server, &["c.jsonl", "--endpoint", "completions", "-o", "c.out.jsonl"]).code(0);
    let row = &rows(&home.read("c.out.jsonl"))[0];
    assert!(row.line["response"]["body"]["choices"][0]["text"].as_str().unwrap().contains(" The "));
    let paths = server.stats()["by_path"].clone();
    assert_eq!(paths["/v1/embeddings"]["200"], 1);
    assert_eq!(paths["/v1/completions"]["200"], 1);
}

#[test]
fn request_carries_key_and_user_agent() {
    let home = Home::new();
    let recorder = Recorder::start();
    home.write("in.jsonl", prompts(1..=1));
    // With or without the final /v1.
    let base = recorder.url.trim_end_matches("/v1");
    home.finish(home.run_command(base, &["in.jsonl", "-o", "out.jsonl"])).code(0);
    let head = recorder.requests()[0].head.clone();
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains(&format!("authorization: bearer {KEY}\r\n")), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    assert!(head.contains(&format!("user-agent: llbatch/{}\r\n", env!("CARGO_PKG_VERSION"))), "{head}");
}

#[test]
fn what_waits_on_standard_input_needs_no_dash() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let out = home.run_with_stdin(&server.url, &[], prompts(1..=3).as_bytes()).code(0);
    answered(&out.says(&["no INPUT is named: reading standard input"]).stdout, 1..=3);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = home.command(&["check", "-m", MODEL]);
    command.stdin(reader);
    let running = home.start(command);
    writer.write_all(prompts(1..=3).as_bytes()).unwrap();
    drop(writer);
    assert!(running.wait().code(0).stdout.contains("3 rows"));
    // Schedulers give /dev/null.
    for command in [&["run"][..], &["submit"], &["check"], &["prepare", "-o", "shards"]] {
        home.llbatch(command).code(2).says(&["no INPUT, and nothing is on standard input"]);
    }
    home.run_with_stdin(&server.url, &[], b"").code(2).says(&["nothing is on standard input"]);
}

#[test]
fn job_that_is_resumed_by_name_leaves_standard_input_alone() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=2));
    home.run(&server, &["in.jsonl", "--name", "night"]).code(0);
    let out = home.run_with_stdin(&server.url, &["--resume=night"], prompts(5..=9).as_bytes()).code(0);
    answered(&out.stdout, 1..=2);
}

#[test]
fn line_ends_of_spreadsheets_become_plain_ones() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.csv", "id,text,note\r\n1,\"two\r\nlines\",last\r\n");
    home.run(&server, &["in.csv", "-m", MODEL, "--prompt", "{{ text }}", "-o", "out.csv"]).code(0);
    let text = home.read("out.csv");
    assert!(text.starts_with("id,text,note,custom_id,") || text.starts_with("id,text,note,"), "{text}");
    assert!(text.contains("1,\"two\r\nlines\",last,"), "{text:?}");
    assert_eq!(text.matches("\r\n").count(), 1, "{text:?}");
}
