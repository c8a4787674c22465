//! Invalid input: all problems at once, each with its place and a remedy. Nothing is sent.

use crate::support::{Home, MODEL, Server, codes, csv_rows, lines, prompts, rows};

/// Line 1 and 5 are good.
fn bad_rows() -> String {
    let good = format!(r#"{{"id":"good","prompt":"x","model":"{MODEL}"}}"#);
    let same = format!(r#"{{"id":"good","prompt":"y","model":"{MODEL}"}}"#);
    let last = format!(r#"{{"id":"last","prompt":"z","model":"{MODEL}"}}"#);
    lines(&[
        &good,
        r#"{"id":"torn","prompt":"x""#,
        r#"{"id":"no-model","prompt":"x"}"#,
        r#"{"id":"shape","messages":"hello","model":"m/x"}"#,
        &last,
        &same,
        r#"{"id":"nothing","text":"x","model":"m/x"}"#,
        r#"["no object"]"#,
        r#"{"custom_id":"url","url":"/v1/embeddings","body":{"model":"m/x","messages":[{"role":"user","content":"x"}]}}"#,
    ])
}

#[test]
fn misspelled_file_is_answered_with_the_near_one() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("prompts.jsonl", prompts(1..=1));
    std::fs::create_dir(home.path("day")).unwrap();
    home.write("day/answers.csv", "id,text\n");
    home.run(&server, &["promts.jsonl", "-o", "out.jsonl"]).code(66).says(&["did you mean prompts.jsonl?"]);
    home.run(&server, &["day/answer.csv", "-o", "out.jsonl"]).code(66).says(&["did you mean day/answers.csv?"]);
    home.run(&server, &["other.jsonl", "-o", "out.jsonl"]).code(66).says(&["check the name and the directory"]);
}

#[test]
fn remedy_for_rows_that_are_all_invalid_is_not_to_skip_them() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.csv", "id,text\na,x\nb,y\n");
    let out = home.run(&server, &["in.csv", "-m", MODEL, "--prompt", "{{ txt }}", "-o", "out.jsonl"]).code(65);
    let out = out.says(&["2 of 2 rows cannot be sent", "fix the rows, or the flags"]);
    assert!(!out.stderr.contains("--skip-invalid"), "{}", out.stderr);
}

#[test]
fn every_problem_is_listed_with_its_place_and_nothing_is_sent() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", bad_rows());
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(65);
    for line in [2, 3, 4, 6, 7, 8, 9] {
        assert_eq!(out.stderr.matches(&format!(" in.jsonl:{line}:")).count(), 1, "line {line}:\n{}", out.stderr);
    }
    for line in [1, 5] {
        assert!(!out.stderr.contains(&format!(" in.jsonl:{line}: ")), "line {line} is good:\n{}", out.stderr);
    }
    // The second row with an id names both, fields that a row has are listed, and what to do is said.
    let out = out.says(&["first at in.jsonl:1, again at in.jsonl:6", "its fields are: id, text, model", "-m MODEL"]);
    let out = out.says(&["--endpoint embeddings", "7 of 9 rows", "nothing was sent", "--skip-invalid"]);
    assert_eq!(out.stdout, "");
    assert_eq!((server.requests(), server.bill()), (0, 0));
    assert!(!home.exists("out.jsonl"));
}

#[test]
fn many_problems_are_counted_after_the_first_ones() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", (1..=30).map(|n| format!("nonsense{n}\n")).collect::<Vec<_>>().concat());
    let out = home.run(&server, &["in.jsonl"]).code(65).says(&["in.jsonl:20:", "10 more", "30 of 30 rows"]);
    assert!(!out.stderr.contains("in.jsonl:21:"), "{}", out.stderr);
    let out = home.run(&server, &["in.jsonl", "--max-problems", "2"]).code(65).says(&["in.jsonl:2:", "28 more"]);
    assert!(!out.stderr.contains("in.jsonl:3:"), "{}", out.stderr);
}

#[test]
fn the_same_problem_of_many_rows_is_told_once() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", "{\"text\":\"x\"}\n".repeat(600));
    let args = ["in.jsonl", "-m", MODEL, "--prompt", "{{ title }}"];
    let out = home.run(&server, &args).code(65).says(&["600 of 600 rows"]);
    assert_eq!(out.stderr.matches("warning: ").count(), 1, "{}", out.stderr);
    let once = "has: text (and 599 more rows: in.jsonl:2, in.jsonl:3, in.jsonl:4 …)";
    assert!(out.stderr.contains(once), "{}", out.stderr);
    let check = home.llbatch(&[&["check"], &args[..]].concat()).code(65).stdout;
    assert_eq!(check.matches("`title`").count(), 1, "{check}");
    let json = home.llbatch(&[&["check", "--json"], &args[..]].concat()).code(65).stdout;
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["problems"].as_array().unwrap().len(), 20, "an entry for each row");
}

#[test]
fn header_without_a_prompt_is_one_error() {
    let home = Home::new();
    let server = Server::start(&[]);
    let rows: Vec<String> = (1..=600).map(|n| format!("{n},text {n}\n")).collect();
    home.write("in.csv", format!("sep=,\nid,text\n{}", rows.concat()));
    for command in [&["run"][..], &["submit"], &["prepare", "-o", "shards"]] {
        let out = home.at(&server.url, &[command, &["in.csv", "-m", MODEL]].concat()).code(65);
        assert!(
            out.stderr
                .starts_with("error: in.csv:2: there is no column `prompt` or `messages`; the columns are: id, text\n")
        );
        assert_eq!(out.stderr.lines().count(), 2, "the error and its remedy:\n{}", out.stderr);
    }
    let check = home.llbatch(&["check", "in.csv", "-m", MODEL]).code(65).stdout;
    assert_eq!(check.matches("no column `prompt`").count(), 1, "{check}");
    assert!(check.starts_with("in.csv:2: there is no column") && !check.contains("more row"), "{check}");
    assert!(check.contains("600 rows") && check.contains("; 1 problem\n"), "{check}");
    let json = home.llbatch(&["check", "in.csv", "-m", MODEL, "--json"]).code(65).stdout;
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((document["problem_count"].as_u64(), document["rows"].as_u64()), (Some(1), Some(600)));
    assert_eq!((&document["problems"][0]["line"], &document["problems"][1]), (&2.into(), &serde_json::Value::Null));
    let out = home.run(&server, &["in.csv", "-m", MODEL, "--json", "-o", "o.jsonl"]).code(65);
    let document: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(document["error"]["problems"][0]["code"], "no_prompt");
    home.run(&server, &["in.csv", "-m", MODEL, "--skip-invalid", "-o", "o.jsonl"]).code(3);
    assert_eq!(codes(&home.read("o.jsonl")).len(), 600);
    assert_eq!(server.requests(), 0);
}

#[test]
fn skip_invalid_sends_the_others_and_loses_no_row() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", bad_rows());
    home.run(&server, &["in.jsonl", "--skip-invalid", "-o", "out.jsonl", "--summary", "s.json"])
        .code(3)
        .says(&["in.jsonl:2:", "in.jsonl:9:"]);
    let bad = "invalid_request".to_owned();
    let ok = "ok".to_owned();
    let codes = codes(&home.read("out.jsonl"));
    let kinds: Vec<_> = codes.iter().map(|(_, code)| code.clone()).collect();
    assert_eq!(kinds, [&ok, &bad, &bad, &bad, &ok, &bad, &bad, &bad, &bad].map(Clone::clone));
    assert_eq!(codes[0].0, "good");
    assert_eq!(codes[4].0, "last");
    assert_eq!(server.requests(), 2);
    let row = &rows(&home.read("out.jsonl"))[2];
    assert!(row.line["error"]["message"].as_str().unwrap().contains("no model"), "{}", row.line);
    assert!(row.line["response"].is_null());
    let summary = home.json("s.json");
    assert!(summary["exit"]["next"].is_null(), "they would fail again: {}", summary["exit"]);
    assert_eq!(
        summary["rows"],
        serde_json::json!({"total": 9, "succeeded": 2, "failed": 7, "pending": 0, "truncated": 0, "truncated_empty": 0, "fenced": 0, "reused": 0})
    );
}

#[test]
fn missing_template_field_lists_the_existing_ones() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.csv", "id,text\na,x\nb,y\n");
    let args = ["in.csv", "-m", MODEL, "--prompt", "{{ txet }}"];
    home.run(&server, &args).code(65).says(&["in.csv:2", "in.csv:3", "`txet`", "id, text"]);
    // One that does not parse is the command line's fault, not the input's.
    home.run(&server, &["in.csv", "-m", MODEL, "--prompt", "{{ text"]).code(2).says(&["--prompt"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn ids_must_differ_over_all_files_and_from_generated_ones() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("a.jsonl", prompts(1..=3));
    home.write("b.jsonl", prompts(3..=4));
    home.run(&server, &["a.jsonl", "b.jsonl"]).code(65).says(&["\"q3\"", "a.jsonl:3", "b.jsonl:1"]);
    let line = |id: &str| format!(r#"{{{id}"prompt":"x","model":"{MODEL}"}}"#);
    home.write("c.jsonl", lines(&[&line(r#""id":"row-2","#), &line("")]));
    home.run(&server, &["c.jsonl"]).code(65).says(&["\"row-2\"", "c.jsonl:1", "c.jsonl:2"]);
    home.run(&server, &["a.jsonl", "--id", "nr"]).code(65).says(&["`nr`", "id, prompt, model, max_tokens"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn invalid_utf_8_is_named() {
    let home = Home::new();
    let server = Server::start(&[]);
    let mut bytes = prompts(1..=2).into_bytes();
    bytes.extend(b"{\"id\":\"x\",\"prompt\":\"caf\xe9\",\"model\":\"m/x\"}\n");
    home.write("in.jsonl", &bytes);
    home.run(&server, &["in.jsonl"]).code(65).says(&["in.jsonl:3", "UTF-8"]);
    home.write("in.csv", b"id,prompt,model\na,caf\xe9,m/x\n");
    home.run(&server, &["in.csv"]).code(65).says(&["in.csv:2", "UTF-8"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn table_rows_that_do_not_fit_the_header_are_named() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.csv", "id,prompt,note\na,x,y\nb,x\nc,x,y,more\n");
    home.run(&server, &["in.csv", "-m", MODEL]).code(65).says(&["in.csv:3", "in.csv:4", "2 of 3 rows"]);
    assert_eq!(server.requests(), 0);
    home.run(&server, &["in.csv", "-m", MODEL, "--skip-invalid", "-o", "out.csv"]).code(3);
    let (_, rows) = csv_rows(&home.read("out.csv"), b',');
    assert_eq!(rows.len(), 3, "N rows in, N rows out");
}

#[test]
fn input_without_rows_is_refused() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", "\n\n");
    home.write("in.csv", "id,prompt\n");
    for file in ["in.jsonl", "in.csv"] {
        home.run(&server, &[file, "-m", MODEL, "-o", "out.jsonl"]).code(65).says(&["no rows"]);
        assert!(!home.exists("out.jsonl"));
    }
    home.run_with_stdin(&server.url, &["-"], b"").code(65);
}

#[test]
fn unreadable_input_exits_66() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.run(&server, &["none.jsonl"]).code(66).says(&["none.jsonl"]);
    home.run(&server, &["home"]).code(66).says(&["home"]);
    home.write("in.jsonl", prompts(1..=2));
    home.run(&server, &["in.jsonl", "none.jsonl"]).code(66).says(&["none.jsonl"]);
    home.run(&server, &["in.jsonl", "--json-schema", "none.json"]).code(66).says(&["none.json"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn truncated_compressed_file_is_refused() {
    let home = Home::new();
    let server = Server::start(&[]);
    let packed = zstd::encode_all(prompts(1..=200).as_bytes(), 1).unwrap();
    home.write("cut.jsonl.zst", &packed[..packed.len() - 20]);
    home.run(&server, &["cut.jsonl.zst"]).code(65).says(&["cut.jsonl.zst", "cut off"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn skipped_duplicate_gets_an_id_of_its_own() {
    let home = Home::new();
    let server = Server::start(&[]);
    let row = |id: &str, prompt: &str| format!("{{\"id\":\"{id}\",\"model\":\"{MODEL}\",\"prompt\":\"{prompt}\"}}\n");
    home.write("in.jsonl", row("row-2", "a") + &row("row-2", "b") + &row("row-3", "c"));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--skip-invalid", "--concurrency", "2"]).code(3);
    let mut ids: Vec<String> = codes(&home.read("out.jsonl")).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 3);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
}
