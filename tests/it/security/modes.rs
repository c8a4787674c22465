//! Files and directories of the state are private under any umask. Results follow the umask like any new file.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::{Home, MODEL, Server, answered, prompts, questions, until};

/// `llbatch ARGS` with this umask.
fn command(home: &Home, umask: &str, args: &[&str]) -> Command {
    let plain = home.command(args);
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("umask {umask}; exec \"$0\" \"$@\"")).arg(plain.get_program()).args(plain.get_args());
    command.env_clear().current_dir(home.path("."));
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The number of files. All must be 0600, in directories of 0700.
#[track_caller]
fn private(dir: &Path) -> usize {
    let (mut left, mut files) = (vec![dir.to_owned()], 0);
    while let Some(path) = left.pop() {
        // A temporary file may be gone by now.
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            left.extend(std::fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
            files += 1;
        }
    }
    files
}

#[test]
fn state_is_private_and_results_follow_the_umask() {
    let server = Server::quick(&[]);
    for (umask, result) in [("000", 0o666), ("027", 0o640), ("077", 0o600)] {
        let home = Home::new();
        home.write("in.jsonl", questions(1..=4));
        let run = |args: &[&str]| {
            let args = [args, &["--base-url", &server.url]].concat();
            home.finish(command(&home, umask, &args)).code(0);
        };
        run(&["run", "in.jsonl", "-m", MODEL, "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "4"]);
        run(&["models", "--refresh"]);
        run(&["submit", "in.jsonl", "--wait", "--poll", "50ms", "-m", MODEL, "-o", "batch.csv"]);
        run(&["report", "last", "--html", "report.html"]);
        run(&["prepare", "in.jsonl", "-m", MODEL, "-o", "shard.jsonl"]);
        assert!(private(&home.state()) >= 6, "ledger, rows, models, locks, the copy of the input, answers");
        for file in ["out.jsonl", "s.json", "batch.csv", "report.html", "shard.jsonl"] {
            assert_eq!(mode(&home.path(file)), result, "{file} under umask {umask}");
        }
    }
}

#[test]
fn files_of_a_running_command_are_private_too() {
    let server = Server::start(&["--latency", "300ms"]);
    let home = Home::new();
    home.write("stdin.bytes", prompts(1..=40));
    let args = ["run", "-", "--concurrency", "2", "--base-url", &server.url, "-o", "out.jsonl"];
    let mut command = command(&home, "000", &args);
    command.stdin(std::fs::File::open(home.path("stdin.bytes")).unwrap());
    let running = home.start(command);
    server.until_billed(2);
    until("the log of the rows", || {
        let jobs = std::fs::read_dir(home.state().join("jobs")).unwrap();
        jobs.flatten().any(|entry| entry.path().extension().is_some_and(|ending| ending == "db-wal"))
    });
    assert!(private(&home.state()) >= 4, "ledger, rows, their log, the input");
    assert_eq!(running.kill(), None);
    assert!(private(&home.state()) >= 4);
}

#[test]
fn private_result_stays_private_while_it_is_replaced() {
    let server = Server::start(&["--latency", "300ms"]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=20));
    home.write("out.jsonl", "");
    std::fs::set_permissions(home.path("out.jsonl"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let args = ["run", "in.jsonl", "--concurrency", "2", "--base-url", &server.url, "-o", "out.jsonl"];
    let running = home.start(command(&home, "000", &args));
    server.until_billed(2);
    let temporary = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".out.jsonl.llbatch-");
    let found: Vec<_> = std::fs::read_dir(home.path(".")).unwrap().flatten().filter(temporary).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(mode(&found[0].path()), 0o600);
    drop(running);
}

#[test]
fn only_links_of_the_user_are_followed() {
    let server = Server::start(&[]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    home.write("victim", "untouched");
    home.write("private-target.jsonl", "old");
    symlink("private-target.jsonl", home.path("out.jsonl")).unwrap();
    // A name such as our temporary files have, laid out in the hope that it will be written to.
    for guess in
        [".out.jsonl.llbatch-AAAAAA.tmp", ".private-target.jsonl.llbatch-AAAAAA.tmp", ".out.jsonl.tmp", "out.jsonl.tmp"]
    {
        symlink("victim", home.path(guess)).unwrap();
    }
    home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    assert!(std::fs::symlink_metadata(home.path("out.jsonl")).unwrap().is_symlink());
    answered(&home.read("private-target.jsonl"), 1..=3);
    assert_eq!(home.read("victim"), "untouched");

    // A state directory may be elsewhere; what it holds is as private there.
    std::fs::create_dir(home.path("disk")).unwrap();
    std::fs::set_permissions(home.path("disk"), std::fs::Permissions::from_mode(0o700)).unwrap();
    symlink("disk", home.path("linked")).unwrap();
    home.run(&server, &["in.jsonl", "-o", "again.jsonl", "--state-dir", "linked"]).code(0);
    assert!(private(&home.path("disk")) >= 2);

    // A file in the middle of it that is a link to a device of others writes nothing there.
    let before = std::fs::metadata("/dev/null").unwrap().mode();
    std::fs::create_dir(home.path("odd")).unwrap();
    symlink("/dev/null", home.path("odd/ledger.db")).unwrap();
    home.run(&server, &["in.jsonl", "-o", "odd.jsonl", "--state-dir", "odd"]).code(74);
    assert_eq!(std::fs::metadata("/dev/null").unwrap().mode(), before);
}

#[test]
fn state_of_the_user_is_closed_to_others() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=2));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    let chmod =
        |name: &str, mode| std::fs::set_permissions(home.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    chmod("state", 0o777);
    chmod("state/ledger.db", 0o666);
    home.llbatch(&["status"]).code(0);
    assert_eq!((mode(&home.path("state")), mode(&home.path("state/ledger.db"))), (0o755, 0o600));
    assert!(!home.at(&server.url, &["doctor"]).code(0).stderr.contains("warning"));
    // A directory that many users share, and an index that is a link.
    std::fs::create_dir(home.path("shared")).unwrap();
    chmod("shared", 0o1777);
    std::fs::rename(home.path("state/ledger.db"), home.path("elsewhere.db")).unwrap();
    chmod("elsewhere.db", 0o666);
    symlink(home.path("elsewhere.db"), home.path("shared/ledger.db")).unwrap();
    let doctor = home.at(&server.url, &["doctor", "--state-dir", "shared"]).code(0);
    doctor.says(&["shared is open to other users (mode 1777)", "shared/ledger.db is a link to", "one owner"]);
    assert_eq!((mode(&home.path("shared")), mode(&home.path("elsewhere.db"))), (0o1777, 0o600));
}
