//! A state directory on a network file system (`--state-mode network`): rollback journals, and one host at a time.
//! `tests/crash/run.sh` kills commands in this mode too.

use std::path::PathBuf;

use crate::support::{Home, Server, answered, prompts, until};

const ROWS: u32 = 60;
const ARGS: [&str; 7] = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "3", "--state-mode", "network"];

fn lock(home: &Home) -> PathBuf {
    home.state().join("host.lock")
}

/// Files of the state directory with this ending.
fn with_ending(home: &Home, ending: &str) -> Vec<PathBuf> {
    let dirs = [home.state(), home.state().join("jobs")];
    let paths = dirs.into_iter().flat_map(|dir| std::fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

#[test]
fn killed_run_goes_on_without_memory_that_processes_share() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "100ms"]));
    home.write("in.jsonl", prompts(1..=ROWS));
    let run = home.spawn(&server, &ARGS);
    until("some answers", || server.bill() >= 9);
    let text = std::fs::read_to_string(lock(&home)).unwrap();
    for line in ["host ", "process ", "boot "] {
        assert!(text.lines().any(|said| said.starts_with(line)), "{text}");
    }
    // Other processes of this host work there too.
    assert!(home.llbatch(&["status", "--state-mode", "network"]).code(0).stdout.contains("running"));
    assert_eq!((with_ending(&home, "-wal").len(), with_ending(&home, "-shm").len()), (0, 0));
    run.kill();
    assert!(lock(&home).exists(), "it stays after a kill");
    let mut command = home.run_command(&server.url, &ARGS[..5]);
    command.env("LLBATCH_STATE_MODE", "network");
    home.finish(command).code(0);
    assert!(!lock(&home).exists(), "the last process makes room for other hosts");
    answered(&home.read("out.jsonl"), 1..=ROWS);
    assert!(server.paid_again() <= 3, "{} rows were paid again", server.paid_again());
}

#[test]
fn another_host_is_refused_and_told_what_to_do() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=2));
    home.run(&server, &ARGS).code(0);
    let other = "host node8\nprocess 42\nboot 0f0e0d0c\nmachine 1234\n";
    std::fs::write(lock(&home), other).unwrap();
    let before = server.requests();
    let host = &["host node8 works in it (process 42)", "host.lock", "llbatch help scale"];
    home.run(&server, &ARGS).code(75).says(host);
    home.llbatch(&["status", "--state-mode", "network"]).code(75).says(&["node8"]);
    assert_eq!(server.requests(), before);
    assert_eq!(std::fs::read_to_string(lock(&home)).unwrap(), other);
    std::fs::remove_file(lock(&home)).unwrap();
    home.run(&server, &ARGS).code(0);
}

#[test]
fn reboot_of_this_machine_frees_the_directory() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "100ms"]));
    home.write("in.jsonl", prompts(1..=ROWS));
    let run = home.spawn(&server, &ARGS);
    until("some answers", || server.bill() >= 3);
    run.kill();
    let line = |text: &str, name: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
        values.next().unwrap().trim().to_owned()
    };
    let text = std::fs::read_to_string(lock(&home)).unwrap();
    std::fs::write(lock(&home), text.replace(&line(&text, "boot "), "0f0e0d0c-0000")).unwrap();
    // A container does not know its machine, so that another one of its name may be alive.
    let code = if line(&text, "machine ").is_empty() { 75 } else { 0 };
    home.run(&server, &ARGS).code(code);
}

#[test]
fn state_of_a_local_disk_moves_to_a_network_and_back() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "50ms"]));
    home.write("in.jsonl", prompts(1..=ROWS));
    let mut kills = 0;
    for mode in ["local", "network", "auto", "network"] {
        let run = home.spawn(&server, &[&ARGS[..6], &[mode]].concat());
        let some = server.bill() + 9;
        until("more answers", || server.bill() >= some);
        run.kill();
        kills += 1;
    }
    // A log that a kill left is merged.
    home.run(&server, &ARGS).code(0);
    answered(&home.read("out.jsonl"), 1..=ROWS);
    assert!(with_ending(&home, "-wal").is_empty());
    assert!(server.paid_again() <= 3 * kills, "{} rows were paid again", server.paid_again());
}

#[test]
fn two_commands_of_one_host_share_the_directory() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "150ms"]));
    home.write("in.jsonl", prompts(1..=ROWS));
    home.write("other.jsonl", prompts(ROWS + 1..=2 * ROWS));
    let first = home.spawn(&server, &ARGS);
    let second = home.spawn(&server, &["other.jsonl", "-o", "out2.jsonl", "--state-mode", "network"]);
    until("some answers", || server.bill() >= 6);
    home.run(&server, &ARGS).code(75).says(&["another llbatch"]);
    first.wait().code(0);
    second.wait().code(0);
    answered(&home.read("out.jsonl"), 1..=ROWS);
    answered(&home.read("out2.jsonl"), ROWS + 1..=2 * ROWS);
    assert!(!lock(&home).exists());
}

#[test]
fn batches_are_collected_in_this_mode() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=ROWS));
    let args = ["submit", "in.jsonl", "--wait", "--poll", "50ms", "-o", "out.jsonl", "--state-mode", "network"];
    home.at(&server.url, &args).code(0);
    answered(&home.read("out.jsonl"), 1..=ROWS);
    assert!(!lock(&home).exists());
}
