//! SIGKILL after a job has ended, and before its command has: the same command delivers it again, and nothing is paid twice.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{FaultServer, Home, Out, Server, answered, codes, prompts, until};

/// Kills `command` when its job has ended and only the last document is still to be written: nobody reads its stdout.
#[track_caller]
fn cut(home: &Home, mut command: Command, out: &str) {
    const PIPE: usize = 1 << 16;
    let (_reader, mut full) = std::io::pipe().unwrap();
    full.write_all(&vec![b' '; PIPE]).unwrap();
    let files = [out, "sum.json"];
    let remove = || files.iter().for_each(|name| drop(std::fs::remove_file(home.path(name))));
    remove();
    command.args(["-o", out, "--summary", "sum.json", "--json"]);
    let mut child = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::null()).spawn().unwrap();
    until("the summary", || home.exists("sum.json") || child.try_wait().unwrap().is_some());
    assert!(home.exists(out) && child.try_wait().unwrap().is_none(), "it has not ended");
    child.kill().unwrap();
    child.wait().unwrap();
    remove();
}

/// A server that refuses one row of five, and an input.
fn set() -> (Home, Server) {
    let times = ["--batch-validation", "20ms", "--batch-run", "20ms"];
    let refuses = ["--fault", "status=400,contains=question 3,times=always"];
    let (home, server) = (Home::new(), Server::start(&[&times[..], &refuses].concat()));
    home.write("in.jsonl", prompts(1..=5));
    (home, server)
}

/// `command` again: the results of the job, its summary and its exit code.
#[track_caller]
fn again(home: &Home, server: &Server, args: &[&str]) -> Out {
    let out = home.at(&server.url, &[args, &["-o", "out.jsonl", "--summary", "sum.json"]].concat()).code(3);
    let ends: Vec<String> = codes(&home.read("out.jsonl")).into_iter().map(|(_, code)| code).collect();
    assert_eq!(ends, ["ok", "ok", "invalid_request", "ok", "ok"]);
    let summary = home.json("sum.json");
    assert_eq!((&summary["rows"]["succeeded"], &summary["exit"]["code"]), (&4.into(), &3.into()));
    out
}

#[cfg(target_os = "linux")]
#[test]
fn run_that_was_killed_at_its_end_is_delivered_again() {
    for args in [&["run", "in.jsonl"][..], &["run", "in.jsonl", "--resume"]] {
        let (home, server) = set();
        let refused = || server.count("/v1/chat/completions", 400);
        for _ in 0..2 {
            cut(&home, home.command_at(&server.url, args), "out.jsonl");
        }
        drop(again(&home, &server, args).says(&["has ended", "killed", "nothing is sent"]));
        assert_eq!((server.bill(), refused()), (4, 1), "{args:?}");
        // That end was told: the command begins anew, or sends the failed row again.
        drop(again(&home, &server, args));
        assert_eq!((server.bill(), refused()), (if args.len() == 2 { 8 } else { 4 }, 2), "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn killed_run_is_delivered_to_another_command_with_the_same_requests_and_to_fetch() {
    let (home, server) = set();
    cut(&home, home.command_at(&server.url, &["run", "in.jsonl"]), "out.jsonl");
    home.write("copy.jsonl", prompts(1..=5));
    drop(again(&home, &server, &["run", "copy.jsonl"]).says(&["nothing is sent"]));
    cut(&home, home.command_at(&server.url, &["run", "copy.jsonl"]), "out.jsonl");
    drop(again(&home, &server, &["fetch", "last"]));
    assert_eq!(server.bill(), 8);
    // The user has the results, and `--fresh` is as before.
    drop(again(&home, &server, &["run", "copy.jsonl"]));
    cut(&home, home.command_at(&server.url, &["run", "copy.jsonl"]), "out.jsonl");
    drop(again(&home, &server, &["run", "copy.jsonl", "--fresh"]));
    assert_eq!(server.bill(), 20);
}

/// A command of `--on-done` and a receiver of `--notify`, both of which begin and do not end.
const HANGS: &str = "echo >begun; sleep 1000";

#[test]
fn command_that_was_killed_while_it_told_others_is_delivered_again() {
    let receiver = FaultServer::deaf();
    for transport in [&["run", "in.jsonl"][..], &["submit", "in.jsonl", "--wait", "--poll", "50ms"]] {
        for telling in [&["--on-done", HANGS][..], &["--on-done", HANGS, "--notify", &receiver]] {
            let (home, server) = (Home::new(), Server::quick(&[]));
            home.write("in.jsonl", prompts(1..=5));
            let args = [transport, &["-o", "out.jsonl"]].concat();
            for _ in 0..2 {
                let mut command = home.command_at(&server.url, &[&args[..], telling].concat());
                let mut child =
                    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
                until("others are told", || home.exists("begun"));
                child.kill().unwrap();
                child.wait().unwrap();
                for name in ["begun", "out.jsonl"] {
                    std::fs::remove_file(home.path(name)).unwrap();
                }
            }
            let again = || home.at(&server.url, &[&args[..], &["--on-done", "echo >>told"]].concat()).code(0);
            drop(again().says(&["killed", "nothing is sent"]));
            answered(&home.read("out.jsonl"), 1..=5);
            assert_eq!((server.bill(), home.read("told").as_str()), (5, "\n"), "{args:?}");
            // Everybody has been told.
            drop(again());
            assert_eq!(server.bill(), 10, "{args:?}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn submission_that_was_killed_at_its_end_is_delivered_again() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=5));
    let args = ["submit", "in.jsonl", "--wait", "--poll", "50ms"];
    for _ in 0..2 {
        cut(&home, home.command_at(&server.url, &args), "out.jsonl");
    }
    let ends = |out: &str| home.at(&server.url, &[&args[..], &["-o", out]].concat()).code(0);
    let first = ends("out.jsonl").says(&["already has this content", "killed", "nothing is sent"]).stdout;
    answered(&home.read("out.jsonl"), 1..=5);
    assert_eq!((server.bill(), server.batches().len()), (5, 1));
    assert_ne!(ends("out.jsonl").stdout, first, "that end was told");
    assert_eq!(server.batches().len(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn script_whose_fetch_was_killed_at_its_end_goes_on_with_its_job() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=5));
    let submit = || home.at(&server.url, &["submit", "in.jsonl"]).code(0).stdout;
    let job = submit();
    home.at(&server.url, &["wait", "last", "--poll", "50ms"]).code(0);
    cut(&home, home.command_at(&server.url, &["fetch", "last"]), "out.jsonl");
    assert_eq!(submit(), job);
    home.at(&server.url, &["fetch", "last", "-o", "out.jsonl"]).code(0);
    answered(&home.read("out.jsonl"), 1..=5);
    assert_ne!(submit(), job);
    assert_eq!(server.batches().len(), 2);
}
