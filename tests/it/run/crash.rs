//! SIGKILL at random moments, again and again: in the end the results are those of an undisturbed run.

use std::time::Duration;

use crate::support::{Home, Server, answered, lines, paid_hash, prompts, rows, until};

const ROWS: u32 = 90;
const KILLS: u64 = 20;
const CONCURRENCY: u64 = 3;

#[test]
fn twenty_kills_leave_the_results_of_an_undisturbed_run() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let server = Server::start(&["--latency", "70ms", "--jitter", "0.6"]);
    let home = Home::new();
    let concurrency = CONCURRENCY.to_string();
    let args = |out| ["in.jsonl", "-o", out, "--concurrency", &concurrency];
    home.write("in.jsonl", prompts(1..=ROWS));

    let mut kills = 0;
    while kills < KILLS {
        let mut run = home.spawn(&server, &args("out.jsonl"));
        // From before the first byte of the database to the middle of some rows, however slow the machine is.
        if kills % 2 == 1 {
            let some = server.bill() + random.u64(1..4);
            until("some answers", || server.bill() >= some || !run.is_running());
        }
        std::thread::sleep(Duration::from_micros(random.u64(5_000..90_000)));
        if run.kill().is_some() {
            break;
        }
        kills += 1;
        assert!(!home.exists("out.jsonl"), "a killed run leaves no results (seed {seed}, kill {kills})");
    }
    let paid = server.bill();
    if !home.exists("out.jsonl") {
        home.run(&server, &args("out.jsonl")).code(0);
    }
    answered(&home.read("out.jsonl"), 1..=ROWS);
    assert!(kills >= KILLS / 2, "only {kills} kills before it was done: give it more rows (seed {seed})");
    assert!(paid > 0, "it was killed too early every time (seed {seed})");
    // In flight at each kill: an answer keeps its place until it is on the disk.
    let again = server.paid_again();
    assert!(again <= kills * CONCURRENCY, "{again} prompts paid again in {kills} kills (seed {seed})");

    let calm = Home::new();
    calm.write("in.jsonl", prompts(1..=ROWS));
    calm.run(&server, &args("out.jsonl")).code(0);
    assert_eq!(home.read("out.jsonl"), calm.read("out.jsonl"), "seed {seed}");
}

#[test]
fn reader_takes_nothing_from_a_resumed_run() {
    let server = Server::start(&["--latency", "100ms"]);
    let home = Home::new();
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "3"];
    home.write("in.jsonl", prompts(1..=60));
    let cut_after = |rows: u64| {
        let run = home.spawn(&server, &args);
        until("some answers", || server.bill() >= rows);
        run
    };
    cut_after(6).kill();
    let run = cut_after(18);
    // The last process that closes a database removes its log. This one is not the last.
    home.llbatch(&["report", "last"]).code(0);
    let log = std::fs::read_dir(home.state().join("jobs")).unwrap().flatten();
    assert!(log.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|ending| ending == "db-wal")));
    until("more answers", || server.bill() >= 36);
    run.kill();
    home.run(&server, &args).code(0);
    answered(&home.read("out.jsonl"), 1..=60);
    let again = server.paid_again();
    assert!(again <= 2 * CONCURRENCY, "{again} rows were paid again");
}

#[test]
fn kills_while_the_input_keeps_changing_misattribute_nothing() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let server = Server::start(&["--latency", "40ms", "--jitter", "0.9"]);
    let home = Home::new();
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "3"];
    let (old, mut now) = (prompts(1..=50), Vec::new());
    for _ in 0..8 {
        // Another choice of the rows in another order each time.
        now = old.lines().filter(|_| random.u8(..10) > 0).collect::<Vec<_>>();
        random.shuffle(&mut now);
        home.write("in.jsonl", lines(&now));
        let run = home.spawn(&server, &args);
        std::thread::sleep(Duration::from_micros(random.u64(5_000..200_000)));
        let _ = run.kill();
    }
    home.run(&server, &args).code(0);
    let results = rows(&home.read("out.jsonl"));
    assert_eq!(results.len(), now.len(), "seed {seed}");
    for (row, line) in results.iter().zip(now) {
        let number = &row.id[1..];
        assert!(line.contains(&format!("\"id\":\"{}\"", row.id)), "seed {seed}: {} is not {line}", row.id);
        assert!(row.content().contains(&paid_hash(&format!("question {number}"))), "seed {seed}: {}", row.line);
    }
}

#[test]
fn kill_while_reading_stdin_leaves_nothing_behind() {
    let home = Home::new();
    let server = Server::start(&[]);
    let mut command = home.run_command(&server.url, &["-"]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    command.stdin(reader);
    let run = home.start(command);
    std::io::Write::write_all(&mut writer, prompts(1..=5).as_bytes()).unwrap();
    let spool = || std::fs::read_dir(home.state().join("jobs")).map_or(0, Iterator::count);
    until("the spool file", || spool() > 0);
    assert_eq!(run.kill(), None);
    drop(writer);
    assert_eq!(server.requests(), 0);
    let out = home.llbatch(&["status"]).code(0);
    assert!(out.stderr.contains("no jobs"), "{}{}", out.stdout, out.stderr);
    home.run_with_stdin(&server.url, &["-"], prompts(1..=5).as_bytes()).code(0);
}
