//! The documents of `--json` follow the schemas of `docs/schema`, which is what scripts rely on.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Home, MODEL, Out, prompts, until};

fn schema(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Panics unless `document` follows the schema of that name.
#[track_caller]
fn follows(name: &str, document: &Value) {
    let validator = jsonschema::validator_for(&schema(name)).unwrap();
    let broken: Vec<String> =
        validator.iter_errors(document).map(|e| format!("{} at {}", e, e.instance_path())).collect();
    assert!(broken.is_empty(), "docs/schema/{name}.json: {}\n{document:#}", broken.join("\n"));
}

/// The one document that a command printed.
#[track_caller]
fn document(out: &Out) -> Value {
    serde_json::from_str(&out.stdout).unwrap_or_else(|e| panic!("{e}:\n{}\n{}", out.stdout, out.stderr))
}

/// A home with `in.jsonl` (four rows), `two.jsonl` (two models) and `bad.jsonl`.
fn home() -> Home {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=4));
    home.write("two.jsonl", prompts(5..=6) + &prompts(7..=8).replace(MODEL, "deepseek-ai/DeepSeek-V3.1"));
    home.write("bad.jsonl", prompts(1..=1) + "nonsense\n");
    home
}

/// Runs `llbatch LINE --json` on the sandbox, whose settings are `script`, and holds what it prints against the schema.
fn check(home: &Home, script: &str, name: &str, line: &str) {
    let words: Vec<&str> = line.split(' ').chain(["--json"]).collect();
    let mut command = home.command(&words);
    command.env_remove("TOGETHER_BASE_URL").env("LLBATCH_SANDBOX", format!("validation=0s,run=0s,cancel=0s{script}"));
    follows(name, &document(&home.finish(command)));
}

#[test]
fn documents_of_jobs_follow_their_schemas() {
    let home = home();
    let say = |name, line| check(&home, "", name, line);
    say("summary", "run in.jsonl --sandbox -o out.jsonl --summary summary.json");
    follows("summary", &home.json("summary.json"));
    for line in home.read("out.jsonl").lines() {
        follows("result", &serde_json::from_str(line).unwrap());
    }
    say("summary", "report last");
    say("summary", "report out.jsonl");
    say("summary", "merge in.jsonl out.jsonl -o merged.jsonl --part-summaries summary.json");
    check(&home, ";fault=status=400,nth=2", "summary", "run in.jsonl --sandbox --fresh -o failed.jsonl");
    for line in home.read("failed.jsonl").lines() {
        follows("result", &serde_json::from_str(line).unwrap());
    }
    say("summary", "run in.jsonl --endpoint images --files made --set n=2 -m a/b --sandbox -o images.jsonl");
    for line in home.read("images.jsonl").lines() {
        follows("result", &serde_json::from_str(line).unwrap());
    }
    say("jobs", "submit in.jsonl --sandbox");
    say("jobs", "status");
    say("jobs", "status --remote --sandbox");
    say("jobs", "wait last");
    say("summary", "fetch last -o batch.jsonl");
    say("jobs", "retry last");
    say("jobs", "cancel last");
    say("summary", "submit two.jsonl --sandbox --via auto --wait -o two.out.jsonl");
    let keep = "cp \"$LLBATCH_SUMMARY\" told.json";
    let told = |words: &[&str]| {
        let mut command = home.command(&[words, &["--on-done", keep]].concat());
        command.env_remove("TOGETHER_BASE_URL").env("LLBATCH_SANDBOX", "validation=0s,run=0s,cancel=0s");
        home.finish(command);
        home.json("told.json")
    };
    say("jobs", "submit in.jsonl --sandbox --again --name one");
    say("jobs", "submit in.jsonl --sandbox --again --name other");
    follows("summary", &told(&["wait", "one", "--poll", "100ms"]));
    follows("summaries", &told(&["wait", "one", "other", "--poll", "100ms"]));
    follows("error", &told(&["run", "bad.jsonl", "--sandbox"]));
    say("spending", "status --cost --sandbox");
    say("spending", "status --cost --by tag --sandbox");
    say("clean", "clean last");
}

#[test]
fn other_documents_follow_their_schemas() {
    let home = home();
    let say = |name, line| check(&home, "", name, line);
    say("check", "check two.jsonl");
    say("check", "check bad.jsonl");
    say("check", "submit two.jsonl --via auto --dry-run");
    say("preview", "run in.jsonl --preview");
    say("prepare", "prepare in.jsonl -o shards");
    say("models", "models llama");
    say("doctor", "doctor");
    for line in ["completions bash", "man", "help money", "help run", "--version", "--help"] {
        say("text", line);
    }
    say("error", "run bad.jsonl -o out.jsonl");
    say("error", "run none.jsonl -o out.jsonl");
    say("error", "run --nonsense");
    let serving = home.start(home.command(&["serve", "--json"]));
    until("the address of the server", || serving.stdout().ends_with("}\n"));
    follows("serve", &serde_json::from_str(&serving.stdout()).unwrap());
}

/// Each section of `docs/json.md` that shows a document is named like its schema.
#[test]
fn examples_of_the_manual_follow_their_schemas() {
    let page = include_str!("../../docs/json.md");
    let mut shown = 0;
    for section in page.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap().to_lowercase();
        let examples = section.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
        for example in examples {
            follows(&name, &serde_json::from_str(example).unwrap_or_else(|e| panic!("{name}: {e}")));
            shown += 1;
        }
    }
    assert!(shown >= 2, "{shown}");
}

#[test]
fn schemas_ask_for_what_they_describe() {
    let page = include_str!("../../docs/json.md");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        assert!(page.contains(&format!("(schema/{name}.json)")), "docs/json.md does not link schema/{name}.json");
        let schema = schema(&name);
        assert!(!schema["required"].as_array().unwrap().is_empty(), "{name}");
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(!validator.is_valid(&serde_json::json!({})) && !validator.is_valid(&serde_json::json!({"version": 2})));
    }
}
