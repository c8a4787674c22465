//! The summaries of a job's typical ends.

use std::time::Duration;

use super::mask::hide_digits;
use super::{Story, assert_story};
use crate::support::{Server, prompts, until};

/// One row after the other, so that the same rows are answered every time.
const RUN: &str = "run in.jsonl -o out.jsonl --concurrency 1";

/// The story of a single run against a server with `faults`.
fn run_against(faults: &[&str], line: &str) -> Story {
    let server = Server::start(faults);
    let mut story = Story::of(&server);
    story.tell(line);
    story
}

#[test]
fn rows_that_failed_are_counted_by_their_error() {
    let some = ["--fault", "status=400,contains=question 2", "--fault", "status=500,contains=question 3,times=always"];
    let story = run_against(&some, &format!("{RUN} --retries 1"));
    assert_story!("some_failed", story);
    let all = run_against(&["--fault", "status=400"], RUN);
    assert_story!("all_failed", all);
}

#[test]
fn one_interrupt_finishes_what_is_in_flight() {
    let server = Server::start(&["--fault", "delay=12s,contains=question 3"]);
    let mut story = Story::of(&server);
    let run = story.start(RUN);
    until("row 3 in flight", || server.stats()["faults"] == 1);
    run.signal("INT");
    let out = run.wait();
    story.note(RUN, &out);
    story.tell_all(&["status last --json", RUN]);
    assert_story!("interrupted", story);
}

#[test]
fn two_interrupts_leave_a_request_in_doubt() {
    let server = Server::start(&["--fault", "hang,contains=question 3"]);
    let mut story = Story::of(&server);
    let mut run = story.start(RUN);
    until("row 3 in flight", || server.stats()["faults"] == 1);
    until("the end", || {
        // Two signals at the same moment would count as one.
        run.signal("INT");
        std::thread::sleep(Duration::from_millis(500));
        !run.is_running()
    });
    let out = run.wait();
    story.note(RUN, &out);
    assert_story!("interrupted_twice", story);
}

#[test]
fn limits_of_time_and_money_stop_a_run() {
    let deadline = run_against(&["--fault", "delay=20s,contains=question 3"], &format!("{RUN} --deadline 12s"));
    assert_story!("deadline", deadline);
    let cost = run_against(&[], &format!("{RUN} --max-cost 0.000008"));
    assert_story!("max_cost", cost);
    let payment = run_against(&["--fault", "status=402,nth=1"], RUN);
    assert_story!("payment", payment);
}

#[test]
fn a_refused_key_stops_a_run() {
    let server = Server::start(&["--key", "another-key"]);
    let mut story = Story::of(&server);
    story.tell_all(&[RUN, "submit in.jsonl", "doctor --online"]);
    assert_story!("key_refused", story);
}

#[test]
fn a_service_that_is_away_is_given_up() {
    let mut story = Story::offline();
    story.tell_all(&["run in.jsonl -o out.jsonl --give-up-after 1s -q", "doctor --online"]);
    // The number of attempts within a second depends on the machine.
    story.tell_edited("run in.jsonl -o out.jsonl --give-up-after 1s", |text| hide_digits(&text, "  requests"));
    assert_story!("unreachable", story);
}

/// The story of a batch job of four rows on a server with `args`.
fn batch_on(args: &[&str]) -> Story {
    let server = Server::quick(&[args, &["--batch-run", "0s"]].concat());
    let mut story = Story::of(&server);
    story.home.write("in.jsonl", prompts(1..=4));
    story.tell("submit in.jsonl --wait --poll 50ms -o out.jsonl");
    story.tell("report last");
    story
}

#[test]
fn batches_end_in_several_ways() {
    assert_story!("batch_partial", batch_on(&["--fault", "status=400,on=row,contains=question 2"]));
    assert_story!("batch_all_rows_failed", batch_on(&["--fault", "status=500,on=row"]));
    assert_story!("batch_expired", batch_on(&["--expires-at", "0.5"]));
    assert_story!("batch_failed", batch_on(&["--batch-fails", "no room today"]));
    assert_story!("batch_refused", batch_on(&["--fault", "status=400,on=create"]));
    assert_story!("batch_row_missing", batch_on(&["--fault", "missing,on=row,contains=question 2"]));
}

#[test]
fn a_cancelled_batch_says_what_is_missing() {
    let server = Server::quick(&["--batch-run", "1h"]);
    let mut story = Story::of(&server);
    story.tell_all(&["submit in.jsonl", "cancel last", "fetch last -o out.jsonl", "retry last", "cancel last"]);
    assert_story!("batch_cancelled", story);
}
