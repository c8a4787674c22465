//! Simultaneous starts of one command: one job, one payment, and a clear message for each.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Home, Out, Running, Server, answered, codes, paid_hash, prompts, until};

const STARTS: usize = 50;

/// Starts `llbatch ARGS` as often as a broken crontab might.
fn start(home: &Home, server: &Server, args: &[&str]) -> Vec<Running> {
    start_some(STARTS, home, server, args)
}

fn start_some(count: usize, home: &Home, server: &Server, args: &[&str]) -> Vec<Running> {
    (0..count).map(|_| home.start(home.command_at(&server.url, args))).collect()
}

/// Waits until so many of them have come to their end.
fn until_ended(starts: &mut [Running], count: usize) {
    until(&format!("{count} ends"), || {
        starts.iter_mut().map(|start| usize::from(!start.is_running())).sum::<usize>() >= count
    });
}

/// Waits until all but one have said that they wait.
fn until_waiting(starts: &[Running]) {
    until("all but one to wait", || {
        starts.iter().filter(|start| start.stderr().contains("waiting for it")).count() == starts.len() - 1
    });
}

/// The ends of all of them, by exit code.
fn ends(starts: Vec<Running>, code: i32) -> (Vec<Out>, Vec<Out>) {
    starts.into_iter().map(Running::wait).partition(|out| out.code == code)
}

fn jobs(home: &Home) -> Vec<Value> {
    let text = home.llbatch(&["status", "--json", "--offline"]).code(0).stdout;
    serde_json::from_str::<Value>(&text).unwrap()["jobs"].as_array().unwrap().clone()
}

#[test]
fn fifty_starts_of_a_run_make_one_job_and_one_payment() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=5));
    // No answer comes before all others have given up.
    server.freeze();
    let mut starts = start(&home, &server, &["run", "in.jsonl", "-o", "out.jsonl"]);
    until_ended(&mut starts, STARTS - 1);
    assert!(!home.exists("out.jsonl"));
    server.thaw();
    let (done, refused) = ends(starts, 0);
    assert_eq!((done.len(), refused.len(), server.bill(), jobs(&home).len()), (1, STARTS - 1, 5, 1));
    let job = jobs(&home)[0]["job"].as_str().unwrap().to_owned();
    let mut named = 0;
    for out in refused {
        let out =
            out.code(75).says(&["another llbatch (process ", "is already working on the same command", "--wait-lock"]);
        named += usize::from(out.stderr.contains(&job));
    }
    // All but those that gave up before there was a job.
    assert!(named > 0, "nobody named {job}");
    answered(&home.read("out.jsonl"), 1..=5);
}

#[test]
fn fifty_waiting_runs_pay_once_and_all_get_the_results() {
    let (home, server) = (Home::new(), Server::start(&["--fault", "status=400,contains=question 3,times=always"]));
    home.write("in.jsonl", prompts(1..=5));
    server.freeze();
    let starts = start(&home, &server, &["run", "in.jsonl", "-o", "out.jsonl", "--wait-lock"]);
    until_waiting(&starts);
    server.thaw();
    // 3: a row failed; for whoever waited too, and it is not sent again by each of them.
    let (done, others) = ends(starts, 3);
    for out in others {
        out.code(3);
    }
    let waited = done.iter().filter(|out| out.stderr.contains("another llbatch finished the job")).count();
    assert_eq!((waited, server.bill(), jobs(&home).len()), (STARTS - 1, 4, 1));
    assert_eq!(server.count("/v1/chat/completions", 400), 1);
    let ends: Vec<String> = codes(&home.read("out.jsonl")).into_iter().map(|(_, code)| code).collect();
    assert_eq!(ends, ["ok", "ok", "invalid_request", "ok", "ok"]);
    // Nobody had to be waited for: the same command is a new job.
    home.at(&server.url, &["run", "in.jsonl", "-o", "out.jsonl", "--wait-lock"]).code(3);
    assert_eq!((server.bill(), jobs(&home).len()), (8, 2));
}

/// A start that waits for the process that worked on the only job; `meanwhile` happens before it gets its turn.
fn takes_over(home: &Home, command: std::process::Command, meanwhile: impl FnOnce()) -> Out {
    let mut locks = std::fs::read_dir(home.state().join("locks")).unwrap().map(|entry| entry.unwrap());
    let others = ["j-", "requests-"];
    let of_command = locks.find(|entry| {
        let name = entry.file_name().into_string().unwrap();
        !others.iter().any(|prefix| name.starts_with(prefix))
    });
    let of_command = of_command.unwrap();
    // The killed process still holds the lock of the command, which names its job.
    let lock = std::fs::File::open(of_command.path()).unwrap();
    lock.lock().unwrap();
    let waiting = home.start(command);
    until("it to wait", || waiting.stderr().contains("waiting for it"));
    meanwhile();
    drop(lock);
    waiting.wait()
}

/// A job of three rows that is complete.
fn completed() -> (Home, Server) {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=3));
    home.at(&server.url, &["run", "in.jsonl", "-o", "out.jsonl"]).code(0);
    (home, server)
}

#[cfg(target_os = "linux")]
#[test]
fn adopted_job_stays_finished_if_its_output_fails() {
    let (home, server) = completed();
    let before = jobs(&home);
    let plain = home.command_at(&server.url, &["run", "in.jsonl", "--summary", "s.json", "--wait-lock"]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$@\" > /dev/full", "sh"]).arg(plain.get_program()).args(plain.get_args());
    command.current_dir(home.path("")).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    takes_over(&home, command, || {}).code(74);
    assert_eq!(jobs(&home), before);
    let next = home.json("s.json")["exit"]["next"].as_str().unwrap().to_owned();
    assert!(next.ends_with("--resume"), "{next}");
    home.at(&server.url, &["run", "in.jsonl", "--resume"]).code(0);
    assert_eq!((server.bill(), jobs(&home).len()), (3, 1));
}

#[test]
fn new_rows_of_an_adopted_job_must_fit_the_budget() {
    let (home, server) = completed();
    let command =
        home.command_at(&server.url, &["run", "in.jsonl", "-o", "out.jsonl", "--max-cost", "1", "--wait-lock"]);
    let out = takes_over(&home, command, || {
        let row =
            r#"{"custom_id":"new","body":{"model":"nobody/knows-it","messages":[{"role":"user","content":"x"}]}}"#;
        home.write("in.jsonl", format!("{}{row}\n", prompts(1..=3)));
    });
    out.code(2).says(&["nobody/knows-it", "--allow-unpriced"]);
    let job = &jobs(&home)[0];
    assert_eq!((job["state"].as_str(), job["rows"]["total"].as_u64(), server.bill()), (Some("completed"), Some(3), 3));
}

#[test]
fn killed_lock_holder_frees_the_next_at_once() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "100ms"]));
    home.write("in.jsonl", prompts(1..=20));
    let args = ["run", "in.jsonl", "-o", "out.jsonl", "--concurrency", "2", "--wait-lock"];
    let first = home.start(home.command_at(&server.url, &args));
    server.until_billed(4);
    let second = home.start(home.command_at(&server.url, &args));
    until("the second to wait", || second.stderr().contains("waiting for it"));
    assert_eq!(first.kill(), None);
    let killed = std::time::Instant::now();
    until("the second to go on", || second.stderr().contains("resuming job"));
    // 200 ms between two looks, and a loaded machine.
    assert!(killed.elapsed().as_secs() < 5, "{:?}", killed.elapsed());
    second.wait().code(0);
    answered(&home.read("out.jsonl"), 1..=20);
    assert!(server.paid_again() <= 4, "{}", server.paid_again());
    assert_eq!(jobs(&home).len(), 1);
}

#[test]
fn fifty_submissions_make_one_job_and_one_batch() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "60s"]));
    home.write("in.jsonl", prompts(1..=5));
    server.freeze();
    let mut starts = start(&home, &server, &["submit", "in.jsonl"]);
    until_ended(&mut starts, STARTS - 1);
    server.thaw();
    let (done, refused) = ends(starts, 0);
    assert_eq!((done.len(), server.batches().len(), jobs(&home).len()), (1, 1, 1));
    for out in refused {
        out.code(75).says(&["another llbatch (process ", "--wait-lock"]);
    }
    // The waiting commands find the job.
    let starts = start(&home, &server, &["submit", "in.jsonl", "--wait-lock"]);
    let (known, others) = ends(starts, 0);
    assert!(others.is_empty(), "{}", others[0].stderr);
    assert!(known.iter().all(|out| out.stdout == done[0].stdout), "{} {}", known[0].stdout, done[0].stdout);
    assert_eq!(server.batches().len(), 1);
}

#[test]
fn fifty_waiting_nights_make_one_batch_and_all_get_the_results() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=5));
    server.freeze();
    let args = ["submit", "in.jsonl", "--wait", "--poll", "50ms", "-o", "out.jsonl"];
    let starts = start(&home, &server, &[&args[..], &["--wait-lock"]].concat());
    until_waiting(&starts);
    server.thaw();
    let (done, others) = ends(starts, 0);
    assert!(others.is_empty(), "{} {}", others[0].code, others[0].stderr);
    assert!(done.iter().all(|out| out.stdout == done[0].stdout), "one job");
    assert_eq!((server.batches().len(), server.paid_again(), jobs(&home).len()), (1, 0, 1));
    answered(&home.read("out.jsonl"), 1..=5);

    // The others exit with 75.
    server.freeze();
    let mut starts = start(&home, &server, &args);
    until_ended(&mut starts, STARTS - 1);
    server.thaw();
    let (done, refused) = ends(starts, 0);
    assert_eq!((done.len(), server.batches().len(), jobs(&home).len()), (1, 2, 2), "a second night");
    for out in refused {
        out.code(75).says(&["another llbatch (process "]);
    }
}

#[test]
fn fetches_and_retries_take_turns() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "300ms"]));
    home.write("in.jsonl", prompts(1..=5));
    let job = home.at(&server.url, &["submit", "in.jsonl"]).code(0).stdout.trim().to_owned();
    for args in [&["fetch", &job, "--wait", "--poll", "50ms", "-o", "out.jsonl"][..], &["retry", &job, "--wait-lock"]] {
        let (done, others) = ends(start_some(12, &home, &server, args), 0);
        assert!(others.is_empty(), "{args:?} {} {}", others[0].code, others[0].stderr);
        assert_eq!(done.len(), 12);
    }
    answered(&home.read("out.jsonl"), 1..=5);
    assert_eq!((server.batches().len(), server.paid_again()), (1, 0));
}

#[test]
fn two_runs_share_a_learned_limit() {
    const LIMIT: f64 = 20.0;
    let rate = LIMIT.to_string();
    let (home, server) = (Home::new(), Server::start(&["--rps", &rate, "--retry-after", "none", "--latency", "20ms"]));
    let refused = || server.stats()["refused"].as_u64().unwrap();
    home.write("a.jsonl", prompts(1..=600));
    home.write("b.jsonl", prompts(1001..=1600));
    let start = |input| home.start(home.command_at(&server.url, &["run", input]));
    let a = start("a.jsonl");
    until("a refusal", || refused() > 0);
    std::thread::sleep(Duration::from_secs(1));
    let _b = start("b.jsonl");
    // The answers of each run: results keep the input order, so a refused row delays those behind it.
    let hashes = |range: std::ops::RangeInclusive<u32>| -> HashSet<String> {
        range.map(|n| paid_hash(&format!("question {n}"))).collect()
    };
    let (of_a, of_b) = (hashes(1..=600), hashes(1001..=1600));
    let count = || {
        let paid = server.paid();
        let of = |hashes: &HashSet<String>| paid.keys().filter(|hash| hashes.contains(*hash)).count() as f64;
        (of(&of_a), of(&of_b), refused() as f64)
    };
    until("the second run's answers", || count().1 > 2.0);
    std::thread::sleep(Duration::from_millis(500));

    let (before, began) = (count(), Instant::now());
    std::thread::sleep(Duration::from_secs(4));
    let (after, allowed) = (count(), LIMIT * began.elapsed().as_secs_f64());
    let (first, second, refused) = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
    let seen = format!("{first} + {second} answered, {refused} refused of {allowed:.0}");
    assert!(first + second >= 0.7 * allowed, "{seen}");
    assert!(refused <= 0.05 * allowed, "{seen}");
    assert!(first.min(second) >= 0.3 * (first + second), "{seen}");
    // Nobody reads the key off the disk, and nobody but the user anything.
    let limits = std::fs::read_dir(home.state().join("limits")).unwrap().next().unwrap().unwrap();
    assert_eq!((limits.file_name().len(), std::fs::read_dir(limits.path()).unwrap().count()), (16, 2));
    assert_eq!(home.files_with(crate::support::KEY), [""; 0]);
    // A dead one is forgotten: the other has all of the limit again.
    assert_eq!(a.kill(), None);
    std::thread::sleep(Duration::from_secs(1));
    let (before, began) = (count().1, Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let alone = count().1 - before;
    let allowed = LIMIT * began.elapsed().as_secs_f64();
    assert!(alone >= 0.7 * allowed, "{alone} of {allowed:.0} once it was alone");
    assert_eq!(std::fs::read_dir(limits.path()).unwrap().count(), 1);
}

#[test]
fn run_without_a_peer_directory_works_alone() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=3));
    std::fs::create_dir(home.state()).unwrap();
    std::fs::write(home.state().join("limits"), "in the way").unwrap();
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    assert!(!out.stderr.contains("limits"), "{}", out.stderr);
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "-v"]).code(0).says(&["limits: cannot be used"]);
}
