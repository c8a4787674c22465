//! Disks that fail: nothing is sent that cannot be stored, and a run that fails half-way is resumable.
//! `tests/crash/points.sh` fails every single write, sync and rename.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Home, Out, Server, answered, answered_once, prompts};

const NOBODY: u32 = 65_534;

/// Everything below `path`, and itself.
fn each(path: &Path, act: &impl Fn(&Path)) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            each(&entry.unwrap().path(), act);
        }
    }
    act(path);
}

fn writable(path: &Path, is: bool) {
    let modes = if is { (0o700, 0o600) } else { (0o500, 0o400) };
    each(path, &|path| {
        let mode = if path.is_dir() { modes.0 } else { modes.1 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    });
}

/// Runs it as somebody whom permissions bind: root becomes nobody, and what is in `home` becomes nobody's.
fn run_bound(home: &Home, server: &Server, args: &[&str]) -> Out {
    bound(home, home.run_command(&server.url, args))
}

fn bound(home: &Home, mut command: Command) -> Out {
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        each(&home.path(""), &|path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap());
        command.uid(NOBODY).gid(NOBODY);
    }
    home.finish(command)
}

/// Runs it with files of so many KiB at most.
fn run_limited(home: &Home, server: &Server, args: &[&str], kib: u32) -> Out {
    let plain = home.run_command(&server.url, args);
    let mut command = Command::new("sh");
    // In units of 512 bytes.
    command.args(["-c", &format!("ulimit -f {}; exec \"$@\"", 2 * kib), "sh"]);
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(home.path("")).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    home.finish(command)
}

#[test]
fn nothing_is_sent_that_cannot_be_stored() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=3));
    std::fs::create_dir(home.path("results")).unwrap();
    writable(&home.path("results"), false);
    run_bound(&home, &server, &["in.jsonl", "-o", "results/out.jsonl"])
        .code(74)
        .says(&["results/out.jsonl", "permission"]);
    assert_eq!(server.requests(), 0);
    run_bound(&home, &server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    // A state directory that was used before, and one that never was.
    writable(&home.state(), false);
    run_bound(&home, &server, &["in.jsonl", "-o", "out.jsonl"]).code(74).says(&["state directory", "--state-dir"]);
    std::fs::create_dir(home.path("new")).unwrap();
    writable(&home.path("new"), false);
    run_bound(&home, &server, &["in.jsonl", "--state-dir", "new"]).code(74).says(&["new", "--state-dir"]);
    assert_eq!(server.bill(), 3);
    writable(&home.state(), true);
    run_bound(&home, &server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
}

#[test]
fn state_directory_that_can_only_be_read_is_read() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=3));
    home.write("other.jsonl", prompts(11..=13));
    let batch = home.at(&server.url, &["submit", "in.jsonl"]).code(0).stdout.trim_end().to_owned();
    home.at(&server.url, &["fetch", &batch, "--wait", "--poll", "50ms", "-o", "batch.jsonl"]).code(0);
    home.run(&server, &["other.jsonl", "-o", "run.jsonl", "--name", "night"]).code(0);
    let at = |args: &[&str]| bound(&home, home.command_at(&server.url, args));
    let listed = at(&["status", "--json"]).code(0).stdout;
    let report = at(&["report", &batch]).code(0).stdout;
    std::fs::create_dir(home.path("results")).unwrap();
    writable(&home.state(), false);
    assert_eq!(at(&["status", "--json"]).code(0).stdout, listed);
    assert_eq!(at(&["report", &batch]).code(0).stdout, report);
    for (job, range) in [(batch.as_str(), 1..=3), ("night", 11..=13)] {
        let out = format!("results/{job}.jsonl");
        at(&["fetch", job, "-o", &out]).code(0);
        answered(&home.read(&out), range);
        at(&["retry", job, "--dry-run"]).code(0);
    }
    at(&["status", "--cost"]).code(0);
    let requests = server.bill();
    for args in [&["run", "in.jsonl"][..], &["submit", "in.jsonl"], &["clean", "night"], &["cancel", "night"]] {
        at(args).code(74).says(&["state directory", "--state-dir"]);
    }
    assert_eq!(server.bill(), requests);
    writable(&home.state(), true);
}

#[test]
fn full_disk_stops_with_74_resumably() {
    const CONCURRENCY: u64 = 8;
    let (home, server) = (Home::new(), Server::start(&["--latency", "25ms"]));
    home.write("in.jsonl", prompts(1..=400));
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", &CONCURRENCY.to_string()];
    // Not even the job can be written down.
    run_limited(&home, &server, &args, 8).code(74);
    assert_eq!(server.requests(), 0);
    // The answers of some rows can.
    run_limited(&home, &server, &args, 600).code(74).says(&["next", "ulimit -f"]);
    let paid = server.bill();
    assert!((1..400).contains(&paid), "it stopped half-way: {paid}");
    assert!(!home.exists("out.jsonl"));
    let out = home.run(&server, &args).code(0);
    answered(&home.read("out.jsonl"), 1..=400);
    let again = server.paid_again();
    assert!(again <= CONCURRENCY, "{again} rows were paid twice");
    assert!(again == 0 || out.stderr.contains("may be billed twice"), "{again} rows were paid twice:\n{}", out.stderr);
}

#[test]
fn full_disk_ends_a_run_with_many_waiting_repeats() {
    const ROWS: u32 = 20_000;
    let (home, server) = (Home::new(), Server::start(&[]));
    let input = |rows| (1..=rows).map(|n| prompts(1..=1).replace("q1", &format!("q{n}"))).collect::<String>();
    home.write("in.jsonl", input(1));
    let args = ["in.jsonl", "--dedupe", "-o", "out.jsonl"];
    home.run(&server, &args).code(0);
    home.write("in.jsonl", input(ROWS));
    let args = [&args[..], &["--resume=last"]].concat();
    // Some thousands of outcomes fit.
    run_limited(&home, &server, &args, 2000).code(74).says(&["next", "ulimit -f"]);
    home.run(&server, &args).code(0);
    answered_once(&home.read("out.jsonl"), ROWS, 1);
    assert_eq!(server.bill(), 1);
}
