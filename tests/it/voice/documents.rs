//! The JSON document of every command that has one.

use super::{Story, assert_story};
use crate::support::{Server, prompts};

#[test]
fn documents_of_realtime_commands() {
    let server = Server::start(&["--fault", "status=400,contains=question 3"]);
    let mut story = Story::of(&server);
    story.tell_all(&[
        "run in.jsonl -o out.jsonl --json --concurrency 1",
        "status last --json",
        "status --cost --json",
        "check in.jsonl --json",
        "prepare in.jsonl -o shards --json",
        "models 3.2-3B --json",
        "doctor --json",
        "clean last --json",
    ]);
    assert_story!("realtime", story);
}

#[test]
fn documents_of_batch_commands() {
    let server = Server::quick(&["--batch-run", "0s", "--fault", "status=400,on=row,contains=question 3"]);
    let mut story = Story::of(&server);
    story.tell("submit in.jsonl --json");
    story.quietly("status last --offline");
    story.tell_all(&["wait last --json --poll 50ms", "fetch last -o out.jsonl --json", "report last --json"]);
    story.tell_all(&["report out.jsonl --json", "retry last --json", "cancel last --json"]);
    assert_story!("batch", story);
}

#[test]
fn errors_are_documents_too() {
    let mut story = Story::offline();
    story.home.write("bad.jsonl", prompts(1..=1) + "nonsense\n");
    story.tell_all(&[
        "run none.jsonl --json",
        "run bad.jsonl -o out.jsonl --json",
        "check bad.jsonl --json",
        "fetch last --json -o out.jsonl",
        "run in.jsonl --json --retries many",
    ]);
    assert_story!("errors", story);
}
