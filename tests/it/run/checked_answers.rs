//! Answers that are held against the user's rules: `--json-schema`, `--choices`, `--complete`, `--recheck`.

use serde_json::Value;

use crate::support::{Home, MODEL, Out, Recorder, questions, raw_codes};

const PERSON: &str = r#"{"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}"#;

/// A server that gives the n-th row of `answers` its texts in turn, the last one again and again. A text that ends with `…` is
/// cut off.
fn server(answers: &'static [&'static [&'static str]]) -> Recorder {
    let asked = std::sync::Mutex::new(vec![0_usize; answers.len()]);
    Recorder::answering(move |request| {
        let row = (0..answers.len()).find(|row| request.body.contains(&format!("question {}\"", row + 1))).unwrap();
        let mut asked = asked.lock().unwrap();
        let text = answers[row][asked[row].min(answers[row].len() - 1)];
        asked[row] += 1;
        let body = Recorder::chat(&serde_json::to_string(text.trim_end_matches('…')).unwrap());
        let body = if text.ends_with('…') { body.replace("\"stop\"", "\"length\"") } else { body };
        ("200 OK", String::new(), body)
    })
}

fn run(home: &Home, recorder: &Recorder, rows: u32, args: &[&str]) -> Out {
    home.write("in.jsonl", questions(1..=rows));
    home.write("person.json", PERSON);
    let usual = ["in.jsonl", "-m", MODEL, "-o", "out.jsonl", "--summary", "s.json"];
    home.finish(home.run_command(&recorder.url, &[&usual[..], args].concat()))
}

#[test]
fn answers_that_break_the_schema_fail_and_are_paid_for() {
    let recorder = server(&[
        &["{\"name\": \"Ann\"}"],
        &["```json\n{\"name\": \"Bob\"}\n```"],
        &["{\"name\": 7}"],
        &["I am sorry"],
        &["{\"name\": \"Ca…"],
    ]);
    let home = Home::new();
    let out = run(&home, &recorder, 5, &["--json-schema", "person.json"]).code(3);
    let found = home.read("out.jsonl");
    assert_eq!(raw_codes(&found), ["ok", "ok", "invalid_answer", "invalid_answer", "invalid_answer"]);
    let third: Value = serde_json::from_str(found.lines().nth(2).unwrap()).unwrap();
    assert_eq!(
        third["error"]["message"],
        "the answer breaks the schema at /name: value is not of type \"string\" (rule /properties/name/type)"
    );
    assert_eq!(third["error"]["rule"], "--json-schema: /properties/name/type");
    // The answer stays in the response, and what it cost is part of the bill.
    assert_eq!(third["response"]["body"]["choices"][0]["message"]["content"], "{\"name\": 7}");
    let summary: Value = home.json("s.json");
    assert_eq!(summary["tokens"]["total"], 5 * 1010);
    assert_eq!(summary["rows"]["failed"], 3);
    assert_eq!(summary["errors"][0]["code"], "invalid_answer");
    assert_eq!(recorder.count("POST"), 5, "{}", out.stderr);
    let report: Value = serde_json::from_str(&home.llbatch(&["report", "last", "--json"]).code(0).stdout).unwrap();
    let rules = report["details"]["rules"].as_array().unwrap();
    let rule = |at: usize| (rules[at]["rule"].as_str().unwrap(), rules[at]["count"].as_u64().unwrap());
    assert_eq!([rule(0), rule(1)], [("--json-schema: JSON", 2), ("--json-schema: /properties/name/type", 1)]);
    assert_eq!((&rules[1]["example"]["id"], &rules[1]["example"]["answer"]), (&"q3".into(), &"{\"name\": 7}".into()));
    let shown = home.llbatch(&["report", "last"]).code(0).stdout;
    assert!(shown.contains("rules     2  --json-schema: JSON"), "{shown}");
    // The results name the rules too.
    let files: Value = serde_json::from_str(&home.llbatch(&["report", "out.jsonl", "--json"]).code(0).stdout).unwrap();
    for part in ["/details/rules/0/count", "/rows/failed", "/tokens", "/errors"] {
        assert_eq!(files.pointer(part), report.pointer(part), "{part}");
    }
    // So do flat results.
    for flat in ["flat.csv", "flat.jsonl"] {
        home.llbatch(&["fetch", "last", "-o", flat, "--flat"]).code(3);
        let files: Value = serde_json::from_str(&home.llbatch(&["report", flat, "--json"]).code(0).stdout).unwrap();
        for part in
            ["/details/rules/0/rule", "/details/rules/1/rule", "/details/rules/1/count", "/rows/failed", "/errors"]
        {
            assert_eq!(files.pointer(part), report.pointer(part), "{part} of {flat}");
        }
    }
    // The service is asked for the schema.
    assert!(recorder.bodies()[0].contains(r#""response_format":{"type":"json_schema""#));
}

#[test]
fn fences_are_taken_off_and_properties_unpacked() {
    let recorder = server(&[&["{\"name\": \"Ann\"}"], &["```json\n{\"name\": \"Bob\"}\n```"], &["{}"]]);
    let home = Home::new();
    let args = ["--json-schema", "person.json", "--flat", "--unpack"];
    let out = run(&home, &recorder, 3, &args).code(3);
    let rows: Vec<Value> = home.read("out.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&rows[1]["content"], &rows[1]["name"]), (&"{\"name\": \"Bob\"}".into(), &"Bob".into()));
    assert_eq!((&rows[0]["name"], &rows[2]["name"]), (&"Ann".into(), &Value::Null));
    assert_eq!(home.json("s.json")["rows"]["fenced"], 1);
    assert!(out.stderr.contains("fenced    1 of 2 are JSON in a Markdown fence"), "{}", out.stderr);
    // The response stays as it was sent, and a later report counts alike.
    home.llbatch(&["fetch", "last", "-o", "again.jsonl"]).code(3);
    assert!(home.read("again.jsonl").contains("\"content\":\"```json\\n{\\\"name\\\": \\\"Bob\\\"}\\n```\""));
    let report: Value = serde_json::from_str(&home.llbatch(&["report", "last", "--json"]).code(0).stdout).unwrap();
    assert_eq!(report["rows"]["fenced"], 1);
    let args = ["run", "in.jsonl", "-m", MODEL, "--sandbox", "--flat", "--unpack"];
    home.llbatch(&args).code(2).says(&["--unpack", "--json-schema FILE"]);
}

#[test]
fn a_rejected_answer_is_asked_for_again_as_often_as_the_user_says() {
    let recorder = server(&[&["no", "{\"name\": \"Ann\"}"], &["no"]]);
    let home = Home::new();
    run(&home, &recorder, 2, &["--json-schema", "person.json", "--recheck", "2", "--flat"]).code(3);
    let rows: Vec<Value> = home.read("out.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&rows[0]["attempts"], &rows[1]["attempts"]), (&2.into(), &3.into()));
    assert_eq!(rows[0]["error"], Value::Null);
    assert_eq!(recorder.count("POST"), 5);
    assert_eq!(home.json("s.json")["tokens"]["total"], 5 * 1010);
}

#[test]
fn rows_that_a_budget_stops_between_rechecks_are_still_to_do() {
    let recorder = server(&[&["no"], &["no"], &["no"], &["no"]]);
    let home = Home::new();
    let args = ["--json-schema", "person.json", "--recheck", "9", "--concurrency", "2", "--max-cost"];
    let out = run(&home, &recorder, 4, &[&args[..], &["0.0004"]].concat()).code(5);
    let asked = recorder.count("POST");
    assert!((4..9).contains(&asked), "{asked}");
    let rows = serde_json::json!({"total": 4, "succeeded": 0, "failed": 0, "pending": 4});
    let summary = home.json("s.json");
    for name in ["total", "succeeded", "failed", "pending"] {
        assert_eq!(summary["rows"][name], rows[name], "{name}: {}", out.stderr);
    }
    assert_eq!((&summary["state"], &summary["errors"]), (&"interrupted".into(), &Value::Array(Vec::new())));
    assert!(summary["exit"]["next"].as_str().unwrap().ends_with("--max-cost USD"), "{summary}");
    assert_eq!(summary["tokens"]["total"], asked * 1010);
    let status: Value = serde_json::from_str(&home.llbatch(&["status", "last", "--json"]).code(0).stdout).unwrap();
    assert_eq!(status["jobs"][0]["rows"], rows);
    let report: Value = serde_json::from_str(&home.llbatch(&["report", "last", "--json"]).code(0).stdout).unwrap();
    assert_eq!((&report["rows"]["pending"], &report["exit"]["code"]), (&4.into(), &75.into()));
    // The rejected answers were paid for, and are there to be looked at.
    assert!(!home.exists("out.jsonl"));
    let found = home.read("out.jsonl.partial");
    assert_eq!(raw_codes(&found).iter().filter(|code| *code == "interrupted" || *code == "budget").count(), 4);
    assert!(found.contains("the run was stopped; before that: the answer") && found.contains("\"content\":\"no\""));
    let files = home.llbatch(&["report", "out.jsonl.partial"]).code(0);
    assert!(!files.stdout.contains("bug") && !files.stderr.contains("bug"), "{}{}", files.stdout, files.stderr);
    run(&home, &recorder, 4, &[&args[..], &["1"]].concat()).code(3);
    assert_eq!(raw_codes(&home.read("out.jsonl")), ["invalid_answer"; 4]);
    assert_eq!(home.json("s.json")["tokens"]["total"], recorder.count("POST") * 1010);
    assert!(!home.exists("out.jsonl.partial"));
}

#[test]
fn choices_are_held_against_the_answer_and_asked_for_only_on_together() {
    let recorder = server(&[&[" yes\n"], &["perhaps"]]);
    let home = Home::new();
    run(&home, &recorder, 2, &["--choices", "yes,no"]).code(3);
    assert_eq!(raw_codes(&home.read("out.jsonl")), ["ok", "invalid_answer"]);
    assert!(recorder.bodies().iter().all(|body| !body.contains("response_format")));
    let shown =
        home.llbatch(&["run", "in.jsonl", "--sandbox", "-m", MODEL, "--choices", "a.b,c", "--preview", "1", "--json"]);
    let shown: Value = serde_json::from_str(&shown.code(0).stdout).unwrap();
    let format = &shown["requests"][0]["body"]["response_format"];
    assert_eq!(format, &serde_json::json!({"type": "regex", "pattern": "(a\\.b|c)"}), "{shown}");
}

#[test]
fn cut_off_answers_fail_only_where_whole_ones_are_asked_for() {
    let answers: &[&[&str]] = &[&["whole"], &["cut…"]];
    for (args, codes, exit) in [
        (&["--complete"][..], ["ok", "truncated"], 3),
        (&["--complete", "--recheck", "3"], ["ok", "truncated"], 3),
        (&[], ["ok", "ok"], 0),
    ] {
        let recorder = server(answers);
        let home = Home::new();
        run(&home, &recorder, 2, args).code(exit);
        assert_eq!(raw_codes(&home.read("out.jsonl")), codes, "{args:?}");
        assert_eq!(recorder.count("POST"), 2, "{args:?}");
        assert_eq!(home.json("s.json")["rows"]["truncated"], u64::from(exit == 0), "{args:?}");
    }
}

#[test]
fn cut_off_answers_are_asked_for_again_with_a_larger_bound() {
    const TWICE: &[&[&str]] = &[&["cut…", "still cut…", "whole"]];
    // Nothing but reasoning.
    const EMPTY: &[&[&str]] = &[&["…", "whole"]];
    const ALWAYS: &[&[&str]] = &[&["cut…"]];
    let bounds = |recorder: &Recorder| {
        let bound = |body: &String| serde_json::from_str::<Value>(body).unwrap()["max_tokens"].as_u64().unwrap();
        recorder.bodies().iter().map(bound).collect::<Vec<_>>()
    };
    let usual = ["--complete", "--recheck", "3", "--flat"];
    for (answers, growth, code, asked) in [
        (TWICE, "2", 0, &[16, 32, 64][..]),
        (EMPTY, "2", 0, &[16, 32]),
        (ALWAYS, "2,40", 3, &[16, 32, 40]),
        (ALWAYS, "1.5", 3, &[16, 24, 36, 54]),
    ] {
        let recorder = server(answers);
        let home = Home::new();
        let out = run(&home, &recorder, 1, &[&usual[..], &["--grow-max-tokens", growth]].concat()).code(code);
        assert_eq!(bounds(&recorder), asked, "{}", out.stderr);
        let row: Value = serde_json::from_str(&home.read("out.jsonl")).unwrap();
        assert_eq!(row["attempts"].as_u64().unwrap() as usize, asked.len());
        assert_eq!(row["error"].is_null(), code == 0);
        // Every answer is part of the bill.
        let summary = home.json("s.json");
        assert_eq!(summary["tokens"]["total"], 1010 * asked.len());
        assert!(summary["cost"]["wasted_usd"].as_f64().unwrap() > 0.0);
    }
    // The larger bound is reserved, and does not fit into what is left.
    let recorder = server(&[&["cut…", "whole"]]);
    let home = Home::new();
    let limit = ["--grow-max-tokens", "100000", "--max-cost", "0.001"];
    run(&home, &recorder, 1, &[&usual[..], &limit].concat()).code(5);
    assert_eq!(bounds(&recorder), [16]);
    home.llbatch(&["run", "in.jsonl", "--grow-max-tokens", "2"]).code(2).says(&["--recheck"]);
}

#[test]
fn schema_that_cannot_be_used_stops_before_anything_is_sent() {
    let recorder = Recorder::start();
    for (schema, expected) in [
        (r#"{"type": "strnig"}"#, "--json-schema: the schema is invalid at \"/type\""),
        (r#"{"$ref": "https://example.com/a.json"}"#, "the schema refers to something outside of itself"),
        (r##"{"$ref": "#/$defs/nope"}"##, "a `$ref` of the schema leads nowhere: Pointer '/$defs/nope' does not exist"),
    ] {
        let home = Home::new();
        home.write("bad.json", schema);
        let out = run(&home, &recorder, 1, &["--json-schema", "bad.json"]).code(2);
        assert!(out.stderr.contains(expected), "{}", out.stderr);
    }
    assert_eq!(recorder.count("POST"), 0);
}

#[test]
fn the_sandbox_answers_with_one_of_the_choices() {
    let home = Home::new();
    home.write("in.jsonl", questions(1..=20));
    let run =
        ["run", "in.jsonl", "--sandbox", "-m", MODEL, "--choices", "yes,no (really)", "--flat", "-o", "out.jsonl"];
    home.llbatch(&run).code(0);
    let found = home.read("out.jsonl");
    let given = |text: &str| found.matches(&format!("\"content\":\"{text}\"")).count();
    assert!(given("yes") > 0 && given("no (really)") > 0, "{found}");
    assert_eq!(given("yes") + given("no (really)"), 20);
}

#[test]
fn batches_are_held_against_the_rules_when_they_are_fetched() {
    let home = Home::new();
    home.write("in.jsonl", questions(1..=4));
    let submit = ["submit", "in.jsonl", "--sandbox", "-m", MODEL, "--max-tokens", "1", "--complete"];
    let submit = [&submit[..], &["--wait", "-o", "out.jsonl"]].concat();
    home.llbatch(&submit).code(3);
    assert_eq!(raw_codes(&home.read("out.jsonl")), ["truncated"; 4]);
    let summary: Value = serde_json::from_str(&home.llbatch(&["report", "last", "--json"]).code(0).stdout).unwrap();
    assert_eq!(summary["rows"]["failed"], 4);
    assert!(summary["tokens"]["total"].as_u64().unwrap() > 0, "{summary}");
}

#[test]
fn a_resume_holds_stored_answers_against_its_own_rules() {
    let recorder = server(&[&["a"], &["b"], &["c"], &["a…"]]);
    let home = Home::new();
    // A service that does not take patterns: the requests are the same under all rules.
    home.config(format!(
        "[services.box]\nbase_url = \"{}\"\nkey = \"none\"\n[services.box.models.\"{MODEL}\"]\ninput = 1\noutput = 1\n",
        recorder.url
    ));
    home.write("in.jsonl", questions(1..=4));
    let run = |args: &[&str], code: i32| {
        let usual = ["run", "in.jsonl", "--service", "box", "-m", MODEL, "-o", "out.jsonl", "--summary", "s.json"];
        let out = home.llbatch(&[&usual[..], args].concat()).code(code);
        (out, raw_codes(&home.read("out.jsonl")), recorder.count("POST"), home.json("s.json")["cost"]["usd"].clone())
    };
    let (_, ends, asked, _) = run(&["--choices", "a,b"], 3);
    assert_eq!((ends, asked), (["ok", "ok", "invalid_answer", "ok"].map(str::to_owned).to_vec(), 4));
    // Paid again: the row that failed before under the same rules alone.
    let (_, _, asked, paid) = run(&["--choices", "a,b", "--resume"], 3);
    assert_eq!(asked, 5);
    // Paid earlier: three answers that count, and one that was thrown away.
    let resumed = home.json("s.json")["cost"]["resumed_usd"].as_f64().unwrap();
    assert!((resumed / paid.as_f64().unwrap() - 0.8).abs() < 1e-9, "{resumed} of {paid}");
    // A rejected answer that passes now is not bought again.
    let (out, ends, asked, same) = run(&["--choices", "a,b,c", "--resume"], 0);
    drop(out.says(&["the rules for answers have changed", "1 answer that failed passes"]));
    assert_eq!((ends, asked, &same), (vec!["ok".to_owned(); 4], 5, &paid));
    // One that passed and fails now is sent again, and fails again.
    let (out, ends, asked, _) = run(&["--choices", "a,c", "--complete", "--resume"], 3);
    drop(out.says(&["2 answers that passed fail now"]));
    assert_eq!((ends, asked), (["ok", "invalid_answer", "ok", "truncated"].map(str::to_owned).to_vec(), 7));
    // Without rules, all count.
    let (_, ends, asked, _) = run(&["--resume"], 0);
    assert_eq!((ends, asked), (vec!["ok".to_owned(); 4], 7));
}

#[test]
fn flags_that_cannot_work_are_refused_and_idle_ones_are_said() {
    let home = Home::new();
    home.write("in.jsonl", questions(1..=1));
    home.write("texts.jsonl", "{\"input\": \"one\"}\n");
    let run = |args: &[&str], code: i32| home.llbatch(&[&["run", "--sandbox", "-m", MODEL], args].concat()).code(code);
    for (args, words) in [
        (&["--choices", "a,b"][..], "--choices needs answers of a language model"),
        (&["--complete"], "--complete needs answers of a language model"),
        (&["--recheck", "1"], "--recheck: no rule applies"),
    ] {
        drop(run(&[&["texts.jsonl", "--endpoint", "embeddings"], args].concat(), 2).says(&[words]));
    }
    for (args, words) in [
        (&["--stream", "--stall-timeout", "0s"][..], "--stall-timeout 0s: no request"),
        (&["--stream", "--first-token-timeout", "0s"], "--first-token-timeout 0s"),
        (&["--request-timeout", "0"], "--request-timeout 0s"),
        (&["--reuse=0s"], "no answer is so young"),
        (&["--reuse=30"], "write --reuse=30d"),
        (&["--reuse", "30d"], "write --reuse=30d, with an equals sign"),
        (&["--recheck", "1", "--grow-max-tokens", "1e308"], "expected a factor"),
    ] {
        drop(run(&[&["in.jsonl"], args].concat(), 2).says(&[words]));
    }
    drop(run(&["in.jsonl", "--recheck", "1"], 0).says(&["no rule rejects an answer"]));
    let small = ["in.jsonl", "--fresh", "--max-tokens", "9", "--recheck", "1", "--grow-max-tokens", "2,8"];
    drop(run(&small, 0).says(&["is not above --max-tokens 9"]));
}

#[test]
fn choices_come_from_a_file_and_a_wrapper_keeps_its_name() {
    let home = Home::new();
    home.write("in.jsonl", questions(1..=1));
    home.write("labels.txt", "yes, sir\n\n  no \n");
    home.write("wrapper.json", r#"{"name": "mood", "schema": {"type": "object"}}"#);
    let preview = |args: &[&str]| -> Value {
        let usual = ["run", "in.jsonl", "--sandbox", "-m", MODEL, "--preview", "1", "--json"];
        let out = home.llbatch(&[&usual[..], args].concat()).code(0);
        serde_json::from_str::<Value>(&out.stdout).unwrap()["requests"][0]["body"]["response_format"].clone()
    };
    assert_eq!(preview(&["--choices", "@labels.txt"])["pattern"], "(yes, sir|no)");
    assert_eq!(preview(&["--json-schema", "wrapper.json"])["json_schema"]["name"], "mood");
}
