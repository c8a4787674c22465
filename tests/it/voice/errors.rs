//! The errors of inputs, outputs and the command line.

use std::os::unix::fs::PermissionsExt;

use super::{Story, assert_story};
use crate::support::{MODEL, prompts};

#[test]
fn inputs_that_cannot_be_used() {
    let mut story = Story::offline();
    let home = &story.home;
    home.write("empty.jsonl", "");
    home.write("header.csv", "id,prompt\n");
    home.write("data.xyz", "x\n");
    home.write("packed.jsonl.gz", "this is no gzip");
    std::fs::create_dir(home.path("folder")).unwrap();
    story.tell_all(&[
        "run",
        "run none.jsonl",
        "run folder",
        "run empty.jsonl",
        "run header.csv",
        "run data.xyz",
        "run packed.jsonl.gz",
        "run in.jsonl -",
        "submit none.jsonl",
        "check none.jsonl",
    ]);
    assert_story!("inputs", story);
}

#[test]
fn rows_that_cannot_be_sent() {
    let mut story = Story::offline();
    let row = |fields: &str| format!("{{{fields},\"model\":\"{MODEL}\"}}\n");
    let rows = [
        "nonsense\n".to_owned(),
        "[\"no object\"]\n".to_owned(),
        row(r#""id":"a","text":"no prompt""#),
        row(r#""id":"b","messages":"hello""#),
        row(r#""id":"c","prompt":"x""#),
        row(r#""id":"c","prompt":"the id is taken""#),
        "{\"id\":\"d\",\"prompt\":\"no model\"}\n".to_owned(),
        row(r#""id":"e","prompt":"x","max_tokens":-1"#),
        "{\"id\":\"f\",\"prompt\":\"torn\n".to_owned(),
    ];
    story.home.write("bad.jsonl", rows.concat());
    story.home.write("latin.jsonl", b"{\"id\":\"x\",\"prompt\":\"caf\xe9\",\"model\":\"m/x\"}\n");
    story.home.write("one.jsonl", prompts(1..=1));
    story.tell_all(&[
        "run bad.jsonl -o out.jsonl",
        "run bad.jsonl --max-problems 2",
        "submit bad.jsonl",
        "check bad.jsonl",
        "run latin.jsonl",
        "run one.jsonl one.jsonl",
        "run one.jsonl --id nr",
    ]);
    assert_story!("rows", story);
}

#[test]
fn tables_that_do_not_fit() {
    let mut story = Story::offline();
    let home = &story.home;
    home.write("ragged.csv", "id,prompt,note\na,x,y\nb,x\nc,x,y,more\n");
    home.write("twice.csv", "id,prompt,prompt\na,x,y\n");
    home.write("noprompt.csv", "id,text\na,x\n");
    home.write("taken.csv", "id,prompt,content\na,x,y\n");
    story.tell_all(&[
        &format!("run ragged.csv -m {MODEL}"),
        &format!("run twice.csv -m {MODEL}"),
        &format!("run noprompt.csv -m {MODEL}"),
        &format!("run taken.csv -m {MODEL} -o out.csv"),
        &format!("run noprompt.csv -m {MODEL} --prompt '{{{{ txet }}}}'"),
        &format!("run noprompt.csv -m {MODEL} --prompt '{{{{ text'"),
        "run noprompt.csv --prompt '{{ text }}'",
    ]);
    assert_story!("tables", story);
}

#[test]
fn outputs_that_cannot_be_written() {
    let mut story = Story::offline();
    std::fs::create_dir(story.home.path("folder")).unwrap();
    story.tell_all(&[
        "run in.jsonl -o in.jsonl",
        "run in.jsonl -o out.jsonl --errors out.jsonl",
        "run in.jsonl -o no/such/out.jsonl",
        "run in.jsonl -o folder",
        "run in.jsonl -o out.jsonl.gz",
        "run in.jsonl --format xlsx",
        "run in.jsonl --json",
        "submit in.jsonl -o out.jsonl",
        "prepare in.jsonl -o -",
    ]);
    assert_story!("outputs", story);
}

#[test]
fn flags_with_a_mistake() {
    let mut story = Story::offline();
    story.home.write("schema.json", "not json");
    story.tell_all(&[
        "rnu",
        "run in.jsonl --modle x",
        "run in.jsonl --max-tokens many",
        "run in.jsonl --max-tokens 0",
        "run in.jsonl --temperature warm",
        "run in.jsonl --concurrency 0",
        "run in.jsonl --rpm fast",
        "run in.jsonl --request-timeout soon",
        "run in.jsonl --deadline 25:00",
        "run in.jsonl --max-cost free",
        "run in.jsonl --set top_k",
        "run in.jsonl --set top_k=fourty",
        "run in.jsonl --set stream=true",
        "run in.jsonl --endpoint videos",
        "run in.jsonl --json-schema none.json",
        "run in.jsonl --json-schema schema.json",
        "run in.jsonl --resume --fresh",
        "submit in.jsonl --timeout 1h",
        "wait",
        "completions tcsh",
    ]);
    assert_story!("flags", story);
}

#[test]
fn config_files_with_a_mistake() {
    let mut story = Story::offline();
    story.home.write("unknown.toml", "[run]\nmodle = \"x\"\n");
    story.home.write("torn.toml", "[run\n");
    story.home.write("price.toml", "[models.\"a/b\"]\ninput = -1\noutput = 1\n");
    story.tell_all(&[
        "run in.jsonl --config none.toml",
        "run in.jsonl --config unknown.toml",
        "run in.jsonl --config torn.toml",
        "run in.jsonl --config price.toml",
    ]);
    assert_story!("config", story);
}

#[test]
fn state_directories_that_cannot_be_used() {
    let mut story = Story::offline();
    story.home.write("file", "");
    std::fs::create_dir(story.home.path("damaged")).unwrap();
    story.home.write("damaged/ledger.db", "this is no database, however long it may be");
    story.tell_all(&[
        "run in.jsonl --state-dir file/state",
        "status --state-dir file/state",
        "run in.jsonl --state-dir damaged",
    ]);
    assert_story!("state", story);
}

#[test]
fn keys_and_urls_that_are_refused() {
    let mut story = Story::offline();
    story.home.write("open.key", "the-key\n");
    story.home.write("two.key", "two\nlines\n");
    let mode = |name: &str, bits| {
        std::fs::set_permissions(story.home.path(name), std::fs::Permissions::from_mode(bits)).unwrap();
    };
    mode("open.key", 0o644);
    mode("two.key", 0o600);
    story.tell_all(&[
        "run in.jsonl --api-key-file none.key",
        "run in.jsonl --api-key-file open.key",
        "run in.jsonl --api-key-file two.key",
        "run in.jsonl --base-url api.example.org/v1",
        "run in.jsonl --base-url http://api.example.org/v1",
        "run in.jsonl --base-url https://user:pass@api.example.org/v1",
        "run in.jsonl --base-url ftp://api.example.org",
    ]);
    for command in ["run in.jsonl", "submit in.jsonl", "doctor"] {
        let mut without = story.command(command);
        without.env_remove("TOGETHER_API_KEY").env_remove("TOGETHER_BASE_URL");
        let out = story.home.finish(without);
        story.note(&format!("{command}   (no TOGETHER_API_KEY)"), &out);
    }
    assert_story!("keys_and_urls", story);
}
