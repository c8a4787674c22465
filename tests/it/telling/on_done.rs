//! `--on-done`: a command of the user's, run once at the end.

use std::time::{Duration, Instant};

use crate::support::{Home, Server, answered, prompts, until};

/// A command that keeps what it is told in `told` (one line each time) and the file in `told.json`.
const KEEP: &str = "echo \"[$LLBATCH_JOB] [$LLBATCH_STATE] [$LLBATCH_EXIT]\" >>told; cp \"$LLBATCH_SUMMARY\" told.json";

/// The files of summaries that are left.
fn left(home: &Home) -> usize {
    let files = std::fs::read_dir(home.path("tmp")).unwrap().flatten();
    files.filter(|file| file.file_name().to_string_lossy().starts_with("llbatch-")).count()
}

#[test]
fn command_learns_how_the_run_ended() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=4).replace("question 2", "[[sandbox:status=400]]"));
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--on-done", KEEP];
    home.run(&server, &args).code(3);
    let (summary, told) = (home.json("s.json"), home.json("told.json"));
    assert_eq!(told, summary);
    let job = summary["job"].as_str().unwrap();
    assert_eq!(home.read("told"), format!("[{job}] [partial] [3]\n"), "it runs once");
    assert_eq!(left(&home), 0);
    // The exit code is the one that the shell gets.
    home.write("told", "");
    home.run(&server, &[&args[..], &["--fresh", "--tolerate-failures"]].concat()).code(0);
    assert!(home.read("told").ends_with("[partial] [0]\n"), "{}", home.read("told"));
}

#[test]
fn words_of_the_command_are_no_results() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    let out = home.run(&server, &["in.jsonl", "--on-done", "echo loud; echo louder >&2"]).code(0);
    answered(&out.stdout, 1..=2);
    assert!(out.stderr.ends_with("loud\nlouder\n"), "{}", out.stderr);
}

#[test]
fn failure_of_the_command_is_a_warning() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    let run = |command| home.run(&server, &["in.jsonl", "-o", "out.jsonl", "-q", "--on-done", command]).code(0).stderr;
    assert_eq!(run("exit 7"), "warning: --on-done: the command ended with exit code 7\n");
    assert_eq!(run("kill -TERM $$"), "warning: --on-done: signal 15 ended the command\n");
    assert!(run("no-such-program").ends_with("warning: --on-done: the command ended with exit code 127\n"));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--on-done", " "]).code(2).says(&["--on-done", "empty"]);
    home.at(&server.url, &["submit", "in.jsonl", "--on-done", "true"]).code(2).says(&["need --wait"]);
}

#[test]
fn command_that_hangs_ends_with_a_signal() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    let hang = "echo $$ >shell; (sleep 1000 & echo $! >child; wait)";
    let run = home.spawn(&server, &["in.jsonl", "-o", "out.jsonl", "--on-done", hang]);
    until("the command works", || home.exists("child") && home.read("child").ends_with('\n'));
    let started = Instant::now();
    run.signal("TERM");
    let out = run.wait().code(0).says(&["warning: --on-done: ended by a signal"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{}", out.stderr);
    answered(&home.read("out.jsonl"), 1..=2);
    for name in ["shell", "child"] {
        let process = format!("/proc/{}/status", home.read(name).trim());
        let is_gone = || std::fs::read_to_string(&process).is_ok_and(|status| status.contains("State:\tZ"));
        until("the processes of the command end", || !std::path::Path::new(&process).exists() || is_gone());
    }
    assert_eq!(left(&home), 0);
}

#[test]
fn interrupted_command_tells_too() {
    let home = Home::new();
    let server = Server::start(&["--latency", "100ms"]);
    home.write("in.jsonl", prompts(1..=60));
    let run = home.spawn(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "2", "--on-done", KEEP]);
    server.until_billed(3);
    run.signal("INT");
    run.wait().code(130);
    let told = home.json("told.json");
    assert_eq!((&told["exit"]["code"], &told["state"]), (&130.into(), &"interrupted".into()));
    assert!(home.read("told").ends_with("[interrupted] [130]\n"), "{}", home.read("told"));
    // A wait has no summary of its own.
    home.write("night.jsonl", prompts(100..=103));
    let slow = Server::start(&["--batch-run", "1h"]);
    home.at(&slow.url, &["submit", "night.jsonl", "--name", "night"]).code(0);
    home.write("told", "");
    let wait = home.start(home.command_at(&slow.url, &["wait", "night", "--poll", "100ms", "--on-done", KEEP]));
    until("the wait polls", || slow.count("/v1/batches/{id}", 200) > 1);
    wait.signal("TERM");
    wait.wait().code(143);
    assert!(home.read("told").ends_with("] [running] [143]\n"), "{}", home.read("told"));
    assert_eq!(home.json("told.json")["exit"]["code"], 143);
}

#[test]
fn command_before_it_has_a_job_tells_its_error() {
    let home = Home::new();
    home.write("bad.jsonl", "nonsense\n");
    home.llbatch(&["run", "bad.jsonl", "--sandbox", "-o", "out.jsonl", "--on-done", KEEP]).code(65);
    assert_eq!(home.read("told"), "[] [] [65]\n");
    assert_eq!(home.json("told.json")["error"]["exit"], 65);
    home.llbatch(&["wait", "nosuch", "--on-done", KEEP]).code(2);
    assert!(home.read("told").ends_with("[] [] [2]\n"), "{}", home.read("told"));
}

#[test]
fn batch_commands_tell_of_their_jobs() {
    let home = Home::new();
    let server = Server::quick(&[]);
    home.write("a.jsonl", prompts(1..=3));
    home.write("b.jsonl", prompts(4..=5).replace("question 5", "[[sandbox:row=400]]"));
    let at = |args: &[&str]| home.at(&server.url, &[args, &["--on-done", KEEP]].concat());
    at(&["submit", "a.jsonl", "--wait", "--poll", "100ms", "-o", "a.out.jsonl"]).code(0);
    let first = home.json("told.json")["job"].as_str().unwrap().to_owned();
    assert_eq!(home.read("told"), format!("[{first}] [completed] [0]\n"));
    let out = home.at(&server.url, &["submit", "b.jsonl"]).code(0);
    let second = out.stdout.trim();
    home.write("told", "");
    at(&["wait", &first, second, "--poll", "100ms"]).code(3);
    assert_eq!(home.read("told"), format!("[{first} {second}] [completed partial] [3]\n"));
    let told = home.json("told.json");
    assert_eq!((&told["version"], &told["exit"]["code"]), (&1.into(), &3.into()));
    assert_eq!([&told["summaries"][0]["job"], &told["summaries"][1]["job"]], [&*first, second]);
    home.write("told", "");
    at(&["retry", second, "--all", "--via", "realtime"]);
    assert!(home.read("told").starts_with(&format!("[{second}] [")), "{}", home.read("told"));
    assert_eq!(home.json("told.json")["job"], second);
    home.write("told", "");
    at(&["retry", second, "--all"]);
    assert!(home.read("told").starts_with(&format!("[{second}] [")), "{}", home.read("told"));
}
