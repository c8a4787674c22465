//! Reasons to stop a run before its end: the key, money, time, an unreachable service, a disk, another run.

use std::time::{Duration, Instant};

use crate::support::{Home, MODEL, Server, answered, codes, prompts, until};

#[test]
fn refused_key_stops_at_once_with_4() {
    let home = Home::new();
    let server = Server::start(&["--key", "another-key"]);
    home.write("in.jsonl", prompts(1..=30));
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "1"]).code(4);
    assert_eq!(server.requests(), 1, "nobody knocks thirty times");
    assert!(!home.exists("out.jsonl"), "nothing was answered, nothing is written");
    let summary = home.json("s.json");
    assert_eq!((&summary["exit"]["code"], &summary["state"]), (&4.into(), &"interrupted".into()));
    assert!(summary["exit"]["next"].as_str().unwrap().starts_with("llbatch run "));
    drop(out.says(&["key"]));
    // With the right key the same command goes on.
    let server = Server::start(&[]);
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "4"]).code(0);
}

#[test]
fn deadline_stops_with_5_resumably() {
    let home = Home::new();
    let server = Server::start(&["--latency", "200ms"]);
    home.write("in.jsonl", prompts(1..=40));
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "2"];
    let started = Instant::now();
    home.run(&server, &[&args[..], &["--deadline", "1s"]].concat()).code(5).says(&["deadline"]);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let paid = server.bill();
    let seen = codes(&home.read("out.jsonl.partial"));
    let answered_rows = seen.iter().filter(|(_, code)| code == "ok").count() as u64;
    assert_eq!(answered_rows, paid, "what was in flight was finished");
    assert!(seen.iter().all(|(_, code)| code == "ok" || code == "deadline"), "{seen:?}");
    assert_eq!(seen.len(), 40);
    let fast = [&args[..4], &["s.json", "--concurrency", "20"]].concat();
    home.run(&server, &fast).code(0);
    answered(&home.read("out.jsonl"), 1..=40);
    assert_eq!((server.bill(), server.paid_again()), (40, 0));
    assert_eq!(home.json("s.json")["http"]["sent"], 40 - paid);
}

#[test]
fn deadline_does_not_wait_for_a_hanging_peer_directory() {
    let home = Home::new();
    let server = Server::start(&["--latency", "100ms"]);
    home.write("in.jsonl", prompts(1..=200));
    // Opening a FIFO to read waits for a writer.
    let place = home.state().join("limits");
    home.write("one.jsonl", prompts(1000..=1000));
    home.run(&server, &["one.jsonl", "-o", "one-out.jsonl"]).code(0);
    let place = std::fs::read_dir(place).unwrap().next().unwrap().unwrap().path();
    assert!(std::process::Command::new("mkfifo").arg(place.join("1-00000000")).status().unwrap().success());
    let started = Instant::now();
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "2", "--deadline", "2s"];
    home.run(&server, &args).code(5).says(&["deadline"]);
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    let seen = codes(&home.read("out.jsonl.partial"));
    assert!(seen[0].1 == "ok" && seen.len() == 200, "{seen:?}");
}

#[test]
fn unreachable_service_is_given_up_with_75() {
    let home = Home::new();
    let address = Server::free_address();
    let base = format!("http://{address}/v1");
    home.write("in.jsonl", prompts(1..=5));
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--give-up-after", "2s"];
    let started = Instant::now();
    home.finish(home.run_command(&base, &args)).code(75).says(&["--give-up-after"]);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(15), "{took:?}");
    assert!(!home.exists("out.jsonl"));
    assert_eq!(home.json("s.json")["exit"]["code"], 75);
    let jobs: serde_json::Value = serde_json::from_str(&home.llbatch(&["status", "--json"]).code(0).stdout).unwrap();
    assert_eq!(jobs["jobs"][0]["state"], "interrupted");
    // The service comes back at the same place.
    let _server = Server::start(&["--listen", &address]);
    home.finish(home.run_command(&base, &args)).code(0);
    answered(&home.read("out.jsonl"), 1..=5);
}

#[test]
fn outage_costs_no_row_its_tries() {
    for (rows, args) in [(1, &["--retries", "0"][..]), (2, &[]), (3, &["--concurrency", "1"]), (6, &[])] {
        let home = Home::new();
        let address = Server::free_address();
        let base = format!("http://{address}/v1");
        home.write("in.jsonl", prompts(1..=rows));
        let args = [&["in.jsonl", "-o", "out.jsonl", "--summary", "s.json"], args].concat();
        let run = home.start(home.run_command(&base, &args));
        until("the warning", || run.stderr().contains("the service is unreachable"));
        assert!(run.stderr().contains("Connection refused"), "{}", run.stderr());
        let _server = Server::start(&["--listen", &address]);
        run.wait().code(0);
        answered(&home.read("out.jsonl"), 1..=rows);
        let http = &home.json("s.json")["http"];
        assert_eq!((&http["sent"], &http["retried"]), (&u64::from(rows).into(), &0.into()), "{rows} rows");
    }
}

#[test]
fn retry_in_real_time_waits_for_an_outage_too() {
    let home = Home::new();
    let address = Server::free_address();
    let server = Server::start(&["--listen", &address, "--fault", "status=500,times=2"]);
    home.write("in.jsonl", prompts(1..=2));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--retries", "0"]).code(3);
    let url = server.url.clone();
    drop(server);
    let retry = home.start(home.command_at(&url, &["retry", "last", "--via", "realtime", "--retries", "0"]));
    until("the warning", || retry.stderr().contains("the service is unreachable"));
    let _server = Server::start(&["--listen", &address]);
    retry.wait().code(0);
    home.llbatch(&["fetch", "last", "-o", "out.jsonl", "--base-url", &url]).code(0);
    answered(&home.read("out.jsonl"), 1..=2);
}

#[test]
fn name_that_does_not_resolve_is_no_row_failure() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2));
    let args = ["in.jsonl", "-o", "out.jsonl", "--retries", "0", "--give-up-after", "3s", "--summary", "s.json"];
    home.finish(home.run_command("https://no-such-host.invalid/v1", &args)).code(75);
    let summary = home.json("s.json");
    assert_eq!((&summary["rows"]["failed"], &summary["http"]["sent"]), (&0.into(), &0.into()));
}

#[test]
fn early_end_of_an_outage_names_its_cause() {
    for (signal, deadline, code) in [(Some("INT"), "1h", 130), (None, "1s", 5)] {
        let home = Home::new();
        home.write("in.jsonl", prompts(1..=20));
        let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--deadline", deadline];
        let run = home.start(home.run_command("http://127.0.0.1:9/v1", &args));
        if let Some(signal) = signal {
            until("the warning", || run.stderr().contains("the service is unreachable"));
            run.signal(signal);
        }
        run.wait().code(code);
        let reason = home.json("s.json")["exit"]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("cannot connect to 127.0.0.1:9"), "{reason}");
    }
}

#[test]
fn run_without_a_key_exits_4() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    // Together is not even asked.
    let mut command = home.command(&["run", "in.jsonl"]);
    command.env_remove("TOGETHER_API_KEY").env_remove("TOGETHER_BASE_URL");
    home.finish(command).code(4).says(&["TOGETHER_API_KEY", "--api-key-file", "--sandbox"]);
    let mut command = home.run_command(&server.url, &["in.jsonl"]);
    command.env("TOGETHER_API_KEY", "");
    home.finish(command).code(4).says(&["none was sent"]);
    assert_eq!(server.bill(), 0);
}

#[test]
fn unusable_state_directory_exits_74() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    home.write("file", "");
    home.run(&server, &["in.jsonl", "--state-dir", "file/state"]).code(74).says(&["file/state", "--state-dir"]);
    std::fs::create_dir(home.path("damaged")).unwrap();
    home.write("damaged/ledger.db", "this is no database, however long it may be");
    home.run(&server, &["in.jsonl", "--state-dir", "damaged"]).code(74).says(&["ledger.db"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn state_directory_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let server = Server::start(&[]);
    home.run_with_stdin(&server.url, &["-"], prompts(1..=2).as_bytes()).code(0);
    let mut left = vec![home.state()];
    let mut files = 0;
    while let Some(path) = left.pop() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
            files += 1;
        }
    }
    assert!(files >= 3, "ledger, rows and input at least");
}

#[test]
fn two_runs_of_one_command_do_not_both_pay() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    home.write("in.jsonl", prompts(1..=40));
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "2"];
    let first = home.spawn(&server, &args);
    server.until_billed(1);
    home.run(&server, &args).code(75).says(&["--fresh"]);
    let id: serde_json::Value = serde_json::from_str(&home.llbatch(&["status", "--json"]).code(0).stdout).unwrap();
    let job = id["jobs"][0]["job"].as_str().unwrap().to_owned();
    home.run(&server, &[&format!("--resume={job}"), "-o", "other.jsonl"]).code(75);
    // Another command is nobody's business.
    home.write("other.jsonl", prompts(1..=1).replace("question", "another"));
    home.run(&server, &["other.jsonl", "-m", MODEL]).code(0);
    first.wait().code(0);
    answered(&home.read("out.jsonl"), 1..=40);
    assert_eq!((server.bill(), server.paid_again()), (41, 0));
}

#[test]
fn endless_429_or_503_is_given_up_with_75() {
    for fault in ["status=503", "status=429,retry-after=0.2"] {
        let home = Home::new();
        let server = Server::start(&["--fault", fault]);
        home.write("in.jsonl", prompts(1..=5));
        let started = Instant::now();
        home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--give-up-after", "2s"]).code(75);
        assert!(started.elapsed() < Duration::from_secs(15), "{fault}: {:?}", started.elapsed());
        assert!(!home.exists("out.jsonl"));
    }
}

#[test]
fn deadline_and_signal_cut_a_retry_after_wait() {
    for (args, signal, code) in [(&["--deadline", "1s"][..], None, 5), (&[], Some("INT"), 130)] {
        let home = Home::new();
        let server = Server::start(&["--fault", "status=429,retry-after=50,contains=question 3"]);
        home.write("in.jsonl", prompts(1..=5));
        let started = Instant::now();
        let all = [&["in.jsonl", "-o", "out.jsonl", "--concurrency", "1"], args].concat();
        let run = home.spawn(&server, &all);
        until("the hint", || server.stats()["faults"] == 1);
        if let Some(signal) = signal {
            run.signal(signal);
        }
        run.wait().code(code);
        assert!(started.elapsed() < Duration::from_secs(10), "{args:?}: {:?}", started.elapsed());
        let seen = codes(&home.read("out.jsonl.partial"));
        assert_eq!(seen.len(), 5);
        assert!(seen[..2].iter().all(|(_, code)| code == "ok"), "{seen:?}");
    }
}

#[test]
fn other_403_counts_as_a_refused_key() {
    let home = Home::new();
    let server = Server::start(&["--fault", "status=403,shape=empty"]);
    home.write("in.jsonl", prompts(1..=5));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "1"]).code(4);
    assert_eq!(server.requests(), 1);
}

#[test]
fn single_throttled_row_does_not_delay_the_others() {
    let home = Home::new();
    let server = Server::start(&["--latency", "20ms", "--fault", "status=503,contains=POISON"]);
    home.write("in.jsonl", prompts(1..=300).replace("question 3\"", "question 3 POISON\""));
    let run = home.spawn(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "10"]);
    // All but one, in a few seconds.
    server.until_billed(299);
    run.signal("INT");
    run.wait().code(130);
    assert_eq!(home.json("s.json")["rows"]["succeeded"], 299);
}

#[test]
fn small_job_that_fails_wholly_ends_with_its_errors() {
    let home = Home::new();
    let server = Server::start(&["--fault", "status=500"]);
    home.write("in.jsonl", prompts(1..=30));
    let args = ["in.jsonl", "-o", "out.jsonl", "--retries", "1", "--concurrency", "10"];
    home.run(&server, &args).code(3);
    let seen = codes(&home.read("out.jsonl"));
    assert_eq!(seen.len(), 30);
    assert!(seen.iter().all(|(_, code)| code == "server_error"), "{seen:?}");
}

#[test]
fn input_written_during_the_run_makes_no_results() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    home.write("in.jsonl", prompts(1..=60));
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "4"];
    let run = home.spawn(&server, &args);
    server.until_billed(8);
    // Same size, same number of rows.
    home.write("in.jsonl", prompts(1..=60).replace("question 5", "question 6"));
    run.wait().code(1).says(&["the input changed", "next"]);
    assert!(!home.exists("out.jsonl"));
    home.run(&server, &args).code(0);
    assert_eq!(codes(&home.read("out.jsonl")).len(), 60);
}

#[test]
fn outage_is_reported_with_its_reason() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=200));
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "50", "--give-up-after", "4s", "--retries", "100"];
    let out = home.finish(home.run_command("http://127.0.0.1:9/v1", &args)).code(75);
    assert!(out.stderr.contains("cannot connect to 127.0.0.1:9"), "{}", out.stderr);
    assert!(out.stderr.contains("refused"), "{}", out.stderr);
    assert!(out.stderr.contains("tries again after 2 s, 4 s, 8 s …, then once a minute"), "{}", out.stderr);
}

#[test]
fn wait_of_a_day_ends_a_run_that_has_less_time() {
    for (limit, code, pending) in [("--give-up-after", 75, "interrupted"), ("--deadline", 5, "deadline")] {
        let home = Home::new();
        let server = Server::start(&["--fault", "status=429,retry-after=18720,contains=question 3"]);
        home.write("in.jsonl", prompts(1..=5));
        let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "1", limit, "10m"];
        home.run(&server, &args).code(code).says(&["no request can be sent for 5h", limit]);
        let seen = codes(&home.read("out.jsonl.partial"));
        let expected = ["ok", "ok", pending, "ok", "ok"];
        assert!(seen.iter().map(|(_, code)| code.as_str()).eq(expected), "it holds one row: {seen:?}");
    }
}

#[test]
fn wait_of_a_day_holds_its_model_and_no_other() {
    let home = Home::new();
    let server = Server::start(&["--fault", "status=429,retry-after=86400,contains=other question"]);
    let other = prompts(21..=40)
        .replace("question", "other question")
        .replace(MODEL, "meta-llama/Llama-3.3-70B-Instruct-Turbo");
    home.write("in.jsonl", format!("{}{}{other}", prompts(1..=20), ""));
    let mixed: Vec<String> = {
        let text = home.read("in.jsonl");
        let lines: Vec<&str> = text.lines().collect();
        (0..20).flat_map(|n| [lines[n].to_owned(), lines[n + 20].to_owned()]).collect()
    };
    home.write("in.jsonl", mixed.join("\n"));
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "1"];
    home.run(&server, &args).code(75);
    let summary = home.json("s.json");
    assert_eq!(summary["rows"]["succeeded"], 20);
    let refused = summary["http"]["rate_limited"].as_u64().unwrap();
    assert!((3..=6).contains(&refused), "{refused} rows of the held model were tried");
}

#[test]
fn stopped_process_reads_what_has_arrived_before_it_gives_up() {
    let home = Home::new();
    let server = Server::start(&["--latency", "1500ms"]);
    home.write("in.jsonl", prompts(1..=10));
    let args =
        ["in.jsonl", "-o", "out.jsonl", "--concurrency", "10", "--request-timeout", "4s", "--give-up-after", "5s"];
    let run = home.spawn(&server, &args);
    until("ten in flight", || server.stats()["in_flight"].as_u64().is_none_or(|n| n == 10));
    std::thread::sleep(Duration::from_millis(500));
    run.signal("STOP");
    server.until_billed(10);
    // The process must sleep beyond its own timeouts.
    std::thread::sleep(Duration::from_secs(7));
    run.signal("CONT");
    run.wait().code(0);
    answered(&home.read("out.jsonl"), 1..=10);
    assert_eq!((server.bill(), server.paid_again()), (10, 0));
}

#[test]
fn deadline_is_said_with_its_zone_and_a_missing_zone_is_refused() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    let args = ["in.jsonl", "-o", "out.jsonl", "--fresh", "--deadline", "06:00"];
    let mut command = home.run_command(&server.url, &args);
    command.env("TZ", "CET-1");
    home.finish(command).code(0).says(&["06:00 CET (UTC+01:00), in "]);
    let mut command = home.run_command(&server.url, &args);
    command.env("TZ", "No/Such_Zone");
    home.finish(command).code(2).says(&["TZ=No/Such_Zone cannot be found", "tzdata"]);
}
