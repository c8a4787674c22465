//! One good run of every command.

use std::time::Duration;

use super::{Story, assert_story};
use crate::support::{MODEL, Server, prompts};

/// Long enough for every age in the table of `status` to be whole seconds.
const AGED: Duration = Duration::from_millis(1100);

#[test]
fn a_run_to_stdout_and_a_run_to_a_file() {
    let server = Server::start(&[]);
    let mut story = Story::of(&server);
    story.tell_all(&[
        "run in.jsonl",
        "run in.jsonl -o out.jsonl",
        "run in.jsonl -o out.csv --prefix llm_ -q",
        "run in.jsonl -o out.jsonl --name nightly -v --concurrency 1",
        "run in.jsonl -o out.jsonl --resume",
        "run in.jsonl --sandbox -o out.jsonl",
    ]);
    assert_story!("run", story);
}

#[test]
fn a_batch_job_from_submit_to_clean() {
    let server = Server::quick(&["--batch-run", "0s"]);
    let mut story = Story::of(&server);
    story.tell_all(&["submit in.jsonl --name night", "submit in.jsonl", "wait night --poll 50ms"]);
    std::thread::sleep(AGED);
    story.tell_all(&[
        "status",
        "status night",
        "status --cost",
        "fetch night",
        "fetch night -o out.jsonl",
        "report night",
        "report out.jsonl",
        "retry night",
        "cancel night",
        "clean night --dry-run",
        "clean night",
        "status",
    ]);
    assert_story!("batch", story);
}

#[test]
fn a_batch_job_in_one_command() {
    let server = Server::quick(&["--batch-run", "0s"]);
    let mut story = Story::of(&server);
    story.tell("submit in.jsonl --wait --poll 50ms -o out.jsonl");
    let other = prompts(5..=6).replace(MODEL, "deepseek-ai/DeepSeek-V3.1");
    story.home.write("two.jsonl", prompts(1..=4) + &other);
    story.tell("submit two.jsonl --via auto --wait --poll 50ms -o out.jsonl");
    assert_story!("submit_wait", story);
}

#[test]
fn a_batch_that_still_runs() {
    let server = Server::quick(&["--batch-run", "1h"]);
    let mut story = Story::of(&server);
    story.tell_all(&["submit in.jsonl", "wait last --timeout 300ms --poll 50ms"]);
    std::thread::sleep(AGED);
    story.tell_all(&[
        "status last",
        "status --offline",
        "fetch last",
        "fetch last --partial",
        "retry last",
        "clean last",
        "cancel last",
    ]);
    assert_story!("running", story);
}

#[test]
fn a_check_shows_rows_prices_and_batches() {
    let mut story = Story::offline();
    let other = prompts(5..=6).replace(MODEL, "deepseek-ai/DeepSeek-V3.1");
    let unknown = prompts(7..=7).replace(MODEL, "nobody/knows-this");
    story.home.write("three.jsonl", prompts(1..=4) + &other + &unknown);
    story.tell_all(&[
        "check in.jsonl",
        "check three.jsonl",
        "submit three.jsonl --via auto --dry-run",
        "run three.jsonl --dry-run",
        "prepare in.jsonl -o shard.jsonl",
        "prepare three.jsonl -o shards",
    ]);
    assert_story!("check", story);
}

#[test]
fn a_report_of_a_realtime_job() {
    let server = Server::start(&[]);
    let mut story = Story::of(&server);
    // Each row takes so long that their order by time is certain.
    let slow = [1, 2, 3]
        .map(|n| prompts(n..=n).replace(&format!("question {n}"), &format!("[[sandbox:delay={}ms]]", 900 / n)));
    story.home.write("in.jsonl", slow.concat());
    story.quietly("run in.jsonl -o out.jsonl --concurrency 1");
    story.tell_all(&["report last", "report last --html page.html"]);
    assert_story!("report", story);
}

#[test]
fn the_models_that_are_known() {
    let mut story = Story::offline();
    story.tell_all(&["models", "models 3.2-3B", "models nothing-like-this"]);
    assert_story!("models", story);
}

#[test]
fn doctor_names_the_settings() {
    let server = Server::start(&["--latency", "1ms"]);
    let mut story = Story::of(&server);
    story.tell_all(&["doctor", "doctor --online"]);
    assert_story!("doctor", story);
}

#[test]
fn the_surroundings_of_the_commands() {
    let mut story = Story::offline();
    story.tell_start("completions bash", 3);
    story.tell_start("man", 12);
    story.tell_start("man run", 12);
    story.tell("--version");
    story.tell_start("", 8);
    story.tell("status");
    story.tell("status --cost");
    let serve = story.start("serve");
    crate::support::until("the base URL", || serve.stdout().ends_with('\n') && serve.stderr().ends_with('\n'));
    serve.signal("TERM");
    let out = serve.wait();
    story.note("serve", &out);
    assert_story!("surroundings", story);
}

#[test]
fn a_log_gets_a_line_of_progress_now_and_then() {
    // Lines are 30 s apart: the last row is answered after the first line.
    let server = Server::start(&["--fault", "delay=32s,contains=question 4"]);
    let mut story = Story::of(&server);
    story.tell("run in.jsonl -o out.jsonl --progress always --concurrency 1");
    assert_story!("progress", story);
}
