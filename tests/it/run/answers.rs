//! `--answers`: tasks of one job on several machines, which share nothing but a directory.

use std::path::{Path, PathBuf};

use crate::support::{Home, MODEL, Out, Server, answered, csv_rows, prompts, questions, until};

/// Answers of a part that are sealed together.
const PART: u64 = 1_000;

/// The flags of a task that begins on a new machine: with a state directory of its own.
fn on(machine: &str) -> Vec<String> {
    let flags = ["in.jsonl", "-o", "out.jsonl", "--answers", "shared", "--summary", "s.json", "--state-dir", machine];
    flags.map(str::to_owned).to_vec()
}

fn run(home: &Home, server: &Server, machine: &str, more: &[&str]) -> Out {
    let flags = on(machine);
    home.run(server, &[&flags.iter().map(String::as_str).collect::<Vec<_>>(), more].concat())
}

/// The parts in the shared directory.
fn parts(home: &Home) -> Vec<PathBuf> {
    let jobs = std::fs::read_dir(home.path("shared")).unwrap().flatten();
    let mut parts: Vec<PathBuf> =
        jobs.flat_map(|job| std::fs::read_dir(job.path()).unwrap().flatten()).map(|entry| entry.path()).collect();
    // A part that is being written has a name with a dot in front.
    parts.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".part.jsonl") && !name.starts_with('.')
    });
    parts.sort();
    parts
}

/// The answers in a part.
fn answers(part: &Path) -> u64 {
    // The first line tells the job, the last one has the checksum.
    std::fs::read_to_string(part).map_or(0, |text| text.lines().count() as u64 - 2)
}

#[test]
fn tasks_that_are_killed_and_start_elsewhere_pay_again_only_for_what_was_not_sealed() {
    const ROWS: u32 = 3_300;
    const KILLS: usize = 2;
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=ROWS));
    std::fs::create_dir(home.path("shared")).unwrap();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut lost, mut sealed) = (0, 0);
    for kill in 0..KILLS {
        let (before, machine) = (server.bill(), format!("machine-{kill}"));
        let flags = on(&machine);
        let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--concurrency", "16"]).collect();
        let mut task = home.spawn(&server, &flags);
        until("a part", || parts(&home).iter().map(|part| answers(part)).sum::<u64>() > sealed || !task.is_running());
        let more = server.bill() + random.u64(..300);
        until("some answers more", || server.bill() >= more || !task.is_running());
        assert_eq!(task.kill(), None, "it was done before the kill (seed {seed})");
        std::fs::remove_dir_all(home.path(&machine)).unwrap();
        assert!(!home.exists("out.jsonl"));
        let now = parts(&home).iter().map(|part| answers(part)).sum::<u64>();
        let unsealed = (server.bill() - before) - (now - sealed);
        assert!(unsealed < 2 * PART, "{unsealed} were not sealed at kill {kill} (seed {seed})");
        (lost, sealed) = (lost + unsealed, now);
    }
    assert!(sealed >= PART * KILLS as u64);
    run(&home, &server, "last", &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=ROWS);
    let again = server.paid_again();
    assert!(again <= lost, "{again} of {ROWS} paid again, {lost} were not sealed (seed {seed})");
    // A task on yet another machine sends nothing, and reports what all of them got.
    let paid = server.bill();
    let out = run(&home, &server, "other", &[]).code(0);
    out.says(&["3,300 rows answered by other tasks of this job", "0 to go"]);
    answered(&home.read("out.jsonl"), 1..=ROWS);
    assert_eq!(server.bill(), paid);
}

/// Ends the task of the state directory `a` once the server has answered ten rows. The first signal seals what is answered.
fn stop_after_ten(home: &Home, server: &Server) {
    let flags = on("a");
    let task = home.spawn(server, &flags.iter().map(String::as_str).chain(["--concurrency", "2"]).collect::<Vec<_>>());
    until("some answers", || server.bill() >= 10);
    task.signal("TERM");
    task.wait().code(143);
}

#[test]
fn what_other_tasks_answered_counts_as_if_one_task_had_done_all() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "30ms"]));
    home.write("in.jsonl", prompts(1..=40));
    stop_after_ten(&home, &server);
    let paid = server.bill();
    assert!(paid < 40, "{paid}");
    run(&home, &server, "b", &[]).code(0).says(&["answered by other tasks of this job"]);
    assert_eq!((server.bill(), server.paid_again()), (40, 0));
    answered(&home.read("out.jsonl"), 1..=40);
    let (taken, results) = (home.json("s.json"), home.read("out.jsonl"));
    let calm = Server::start(&[]);
    home.run(&calm, &["in.jsonl", "-o", "calm.jsonl", "--summary", "calm.json", "--state-dir", "c"]).code(0);
    assert_eq!(results, home.read("calm.jsonl"));
    let whole = home.json("calm.json");
    for figure in ["rows", "tokens", "models"] {
        assert_eq!(taken[figure], whole[figure], "{figure}");
    }
    assert_eq!(taken["cost"]["usd"], whole["cost"]["usd"]);
    // Where this state directory has recorded the cost already, the answers cost nothing more.
    run(&home, &server, "b", &[]).code(0).says(&["40 rows answered by other tasks"]);
    assert_eq!((server.bill(), &home.json("s.json")["cost"]["usd"]), (40, &0.into()));
    assert_eq!(home.json("s.json")["rows"]["reused"], 40);
}

#[test]
fn damaged_part_is_named_and_its_rows_are_sent() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=1_500));
    run(&home, &server, "a", &[]).code(0);
    let found = parts(&home);
    assert!(found.len() >= 2, "{found:?}");
    let name = found[0].file_name().unwrap().to_str().unwrap();
    let process = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(name.contains(&process[..8]) && name.ends_with(".part.jsonl"), "{name}");
    let mut bytes = std::fs::read(&found[0]).unwrap();
    let rows = answers(&found[0]);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&found[0], &bytes).unwrap();
    run(&home, &server, "b", &[]).code(0).says(&[name, "it is damaged; its answers are not taken"]);
    assert_eq!(server.bill(), 1_500 + rows);
    // What was sent again is sealed again. The torn end of a copy is found too.
    std::fs::write(&found[0], &bytes[..middle]).unwrap();
    run(&home, &server, "c", &[]).code(0).says(&[name, "it is cut short"]);
    assert_eq!(server.bill(), 1_500 + rows);
    answered(&home.read("out.jsonl"), 1..=1_500);
}

#[test]
fn answers_that_a_killed_task_had_committed_are_sealed_by_the_next_one() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "20ms"]));
    home.write("in.jsonl", prompts(1..=30));
    let flags = on("a");
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--concurrency", "1"]).collect();
    let task = home.spawn(&server, &flags);
    until("some answers", || server.bill() >= 10);
    task.kill();
    assert!(parts(&home).is_empty());
    // On the same machine its state directory has them.
    let task = home.spawn(&server, &flags);
    until("one more", || server.bill() >= 12);
    task.signal("INT");
    task.wait().code(130);
    let paid = server.bill();
    assert!(paid < 30, "{paid}");
    run(&home, &server, "b", &[]).code(0);
    assert!(server.paid_again() <= 1, "{}", server.paid_again());
    answered(&home.read("out.jsonl"), 1..=30);
}

#[test]
fn shards_repeats_and_streams_are_taken_like_other_rows() {
    let (home, server) = (Home::new(), Server::start(&[]));
    let line = |n: u32| format!("{{\"id\":\"q{n}\",\"prompt\":\"question {}\",\"model\":\"{MODEL}\"}}\n", n % 7);
    home.write("in.jsonl", (1..=40).map(line).collect::<String>());
    let cases: [&[&str]; 4] = [&["--shard", "1/2"], &["--shard", "2/2"], &["--dedupe"], &["--stream"]];
    for (at, more) in cases.into_iter().enumerate() {
        run(&home, &server, &format!("first-{at}"), more).code(0);
        let (paid, results) = (server.bill(), home.read("out.jsonl"));
        run(&home, &server, &format!("second-{at}"), more).code(0).says(&["answered by other tasks of this job"]);
        assert_eq!(server.bill(), paid, "{more:?}");
        assert_eq!(home.read("out.jsonl"), results, "{more:?}");
    }
}

/// Money in a summary.
fn usd(home: &Home) -> f64 {
    home.json("s.json")["cost"]["usd"].as_f64().unwrap()
}

#[test]
fn taken_answer_costs_nothing_only_if_this_machine_has_recorded_its_cost() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "30ms"]));
    home.write("in.jsonl", prompts(1..=40));
    stop_after_ten(&home, &server);
    let (own, cost) = (home.json("s.json")["rows"]["succeeded"].clone(), usd(&home));
    run(&home, &server, "b", &[]).code(0);
    let whole = usd(&home);
    assert!(own.as_u64() < Some(40) && cost > 0.0 && cost < whole, "{own} rows cost {cost} of {whole}");
    // A second job of the first machine has the rows that it had recorded before, and pays for those of the other.
    let out = run(&home, &server, "a", &["--fresh"]).code(0).says(&["40 rows answered by other tasks"]);
    assert!((usd(&home) - (whole - cost)).abs() < 1e-9, "{} of {whole}, {cost} before\n{}", usd(&home), out.stderr);
    assert_eq!((&home.json("s.json")["rows"]["reused"], server.bill()), (&own, 40));
    // A third one finds all of it recorded.
    run(&home, &server, "a", &["--fresh"]).code(0);
    assert_eq!((usd(&home), &home.json("s.json")["rows"]["reused"]), (0.0, &40.into()));
}

#[test]
fn answers_of_earlier_jobs_are_shared_as_well_and_cost_no_task_anything() {
    let (home, server) = (Home::new(), Server::start(&[]));
    // An answer that is not cut off.
    let rows = |range| prompts(range).replace("\"max_tokens\":16", "\"max_tokens\":900");
    home.write("in.jsonl", rows(1..=3));
    home.run(&server, &["in.jsonl", "-o", "early.jsonl", "--state-dir", "a"]).code(0);
    home.write("in.jsonl", rows(1..=5));
    run(&home, &server, "a", &["--reuse"]).code(0);
    let (paid, cost) = (server.bill(), usd(&home));
    assert_eq!((paid, parts(&home).iter().map(|part| answers(part)).sum::<u64>()), (5, 5));
    run(&home, &server, "b", &[]).code(0).says(&["5 rows answered by other tasks", "0 to go"]);
    assert_eq!((server.bill(), usd(&home), &home.json("s.json")["rows"]["reused"]), (5, cost, &3.into()));
    answered(&home.read("out.jsonl"), 1..=5);
}

#[test]
fn table_of_a_job_with_shared_answers_tells_which_rows_cost_nothing() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", questions(1..=3));
    let args = ["in.jsonl", "-o", "out.csv", "--answers", "shared", "-m", MODEL];
    for (more, reused) in [("--resume", "false"), ("--fresh", "true")] {
        home.run(&server, &[&args[..], &[more]].concat()).code(0);
        let (header, rows) = csv_rows(&home.read("out.csv"), b',');
        assert_eq!(header.last().map(String::as_str), Some("reused"));
        assert!(rows.iter().all(|row| row.last().map(String::as_str) == Some(reused)), "{rows:?}");
    }
    assert_eq!(server.bill(), 3);
}

#[test]
fn run_that_goes_on_with_a_batch_job_keeps_its_own_flags() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=4).replace("question 2", "[[sandbox:status=400]]"));
    home.at(&server.url, &["submit", "in.jsonl", "--wait", "--poll", "50ms", "-o", "b.jsonl"]).code(3);
    let flags = ["--resume", "--answers", "shared", "--tag", "team=ads", "--concurrency", "3"];
    home.run(&server, &[&["in.jsonl", "-o", "out.jsonl"][..], &flags].concat()).code(3);
    let status = home.llbatch(&["status", "--json", "--offline"]).code(0).stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let jobs = status["jobs"].as_array().unwrap();
    assert_eq!((jobs.len(), &jobs[0]["transport"]), (1, &"batch".into()), "{status}");
    assert_eq!(jobs[0]["tags"], serde_json::json!({"team": "ads"}));
    assert_eq!(parts(&home).iter().map(|part| answers(part)).sum::<u64>(), 3);
    let report = home.llbatch(&["report", "last", "--json"]).code(0).stdout;
    assert!(report.contains("\"concurrency\":\"3\"") || report.contains("\"concurrency\": \"3\""), "{report}");
}

#[test]
fn shared_directory_that_cannot_be_written_stops_before_anything_is_sent() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=3));
    home.write("file", "");
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--answers", "file"]).code(74).says(&["file"]);
    assert_eq!(server.requests(), 0);
}
