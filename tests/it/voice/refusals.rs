//! The errors of jobs, prices and resumes.

use super::mask::hide_after;
use super::{Story, assert_story};
use crate::support::{MODEL, Server, prompts, until};

#[test]
fn jobs_that_are_not_there() {
    let mut story = Story::offline();
    for command in ["status", "wait", "fetch", "retry", "cancel", "clean", "report"] {
        story.tell(&format!("{command} j-zzzzzzzz"));
    }
    story.tell_all(&["fetch last", "status nightly", "fetch 00000000-0000-4000-8000-000000000000"]);
    assert_story!("unknown_jobs", story);
}

#[test]
fn names_that_are_taken_or_fit_several() {
    let server = Server::quick(&["--batch-run", "1h"]);
    let mut story = Story::of(&server);
    story.home.write("other.jsonl", prompts(5..=6));
    story.quietly("submit in.jsonl --name night");
    story.quietly("submit other.jsonl");
    story.tell_all(&["submit other.jsonl --again --name night", "submit other.jsonl --again --name j-abcdefgh"]);
    // The ids stand in their own order, which is drawn anew each time.
    story.tell_edited("status j-", |text| hide_after(&text, "several jobs: ", "\n"));
    assert_story!("names", story);
}

#[test]
fn jobs_that_are_in_use_or_changed() {
    let server = Server::start(&["--fault", "hang,contains=question 3,times=1"]);
    let mut story = Story::of(&server);
    let line = "run in.jsonl -o out.jsonl --concurrency 1";
    let run = story.start(line);
    until("row 3 in flight", || server.stats()["faults"] == 1);
    story.tell_all(&[line, "run --resume=last -o other.jsonl", "clean last", "cancel last", "retry last"]);
    assert_eq!(run.kill(), None);
    story.tell("run --resume=last -o out.jsonl --max-tokens 5");
    assert_story!("in_use", story);
}

#[test]
fn resumes_that_find_nothing() {
    let server = Server::quick(&["--batch-run", "0s"]);
    let mut story = Story::of(&server);
    story.tell_all(&["run in.jsonl --resume -o out.jsonl", "run --resume=j-zzzzzzzz -o out.jsonl"]);
    story.tell_all(&["run in.jsonl --resume -o out.jsonl", "retry last", "wait last"]);
    assert_story!("resume", story);
}

#[test]
fn prices_and_discounts_that_are_unknown() {
    let mut story = Story::offline();
    story.home.write("unknown.jsonl", prompts(1..=2).replace(MODEL, "nobody/knows-this"));
    story.home.write("refused.jsonl", prompts(1..=2).replace(MODEL, "deepseek-ai/DeepSeek-V3.1"));
    story.home.write("budget.toml", "[budget]\nper_day = 0.000001\n");
    story.tell_all(&[
        "run unknown.jsonl --max-cost 1",
        "submit unknown.jsonl --max-cost 1",
        "submit unknown.jsonl --require-discount",
        "submit refused.jsonl --require-discount",
        "submit in.jsonl --max-cost 0.000001",
    ]);
    let budget = "run in.jsonl -o out.jsonl --config budget.toml";
    story.tell_edited(budget, |text| hide_after(&text, "renewed at midnight", ")"));
    assert_story!("prices", story);
}

#[test]
fn services_that_do_not_answer_in_time() {
    let server = Server::quick(&["--batch-run", "0s"]);
    let mut story = Story::of(&server);
    story.quietly("submit in.jsonl");
    story.url = "http://127.0.0.1:9/v1".to_owned();
    story.tell("status last --json");
    story.url = server.url.clone();
    let address = server.address();
    drop(server);
    story.tell_all(&["wait last --timeout 1s --poll 50ms", "fetch last --wait --timeout 1s --poll 50ms -o out.jsonl"]);
    assert!(story.url.contains(&address));
    assert_story!("unreachable", story);
}

#[test]
fn batches_that_break_the_contract() {
    let submit = "submit in.jsonl --wait --poll 50ms -o out.jsonl --state-dir kept";
    let foreign = Server::quick(&["--batch-run", "0s", "--fault", "foreign,on=row,contains=question 2"]);
    let mut story = Story::of(&foreign);
    story.tell(submit);
    assert_story!("contract_foreign", story);
    let conflict = Server::quick(&["--batch-run", "0s", "--fault", "conflict,on=row,contains=question 2"]);
    let mut story = Story::of(&conflict);
    story.tell(submit);
    assert_story!("contract_conflict", story);
}
