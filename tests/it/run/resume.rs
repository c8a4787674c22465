//! Running the same command again: answered rows are reused, only the others are sent.

use crate::support::{Home, MODEL, Server, answered, codes, lines, paid_hash, prompts, questions, rows};

const ARGS: [&str; 7] = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "4"];

/// In flight at the kill, and as many again whose answers were not yet committed.
const LOST: u64 = 8;

/// Runs `in.jsonl` of 40 rows and kills it in the middle; returns what was paid by then.
fn killed(home: &Home, server: &Server) -> u64 {
    home.write("in.jsonl", prompts(1..=40));
    let run = home.spawn(server, &ARGS);
    server.until_billed(12);
    assert_eq!(run.kill(), None, "killed in the middle");
    let paid = server.bill();
    assert!(paid < 40, "killed in the middle, not at the end");
    paid
}

fn sent(home: &Home) -> u64 {
    home.json("s.json")["http"]["sent"].as_u64().unwrap()
}

#[test]
fn killed_run_resumes_where_it_stopped() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    let paid = killed(&home, &server);
    let out = home.run(&server, &ARGS).code(0);
    answered(&home.read("out.jsonl"), 1..=40);
    assert!(server.paid_again() <= LOST, "{} prompts were paid twice", server.paid_again());
    assert!(sent(&home) <= 40 - paid + LOST, "{} were sent after {paid}", sent(&home));
    assert_eq!(server.bill(), paid + sent(&home));
    // Every row that was paid twice is named.
    let paid_twice = server.paid().into_iter().filter(|(_, count)| *count > 1).map(|(hash, _)| hash);
    let twice: Vec<String> = paid_twice.collect();
    let named = |n: &u32| twice.contains(&paid_hash(&format!("question {n}")));
    let warning = out.stderr.lines().find(|line| line.contains("billed twice")).unwrap_or_default().to_owned();
    let words: Vec<&str> = warning.split([' ', ',', ':']).collect();
    for n in (1..=40).filter(named) {
        assert!(words.contains(&format!("q{n}").as_str()), "q{n} is not named in {warning:?}");
    }
    assert!(words.iter().filter(|word| word.starts_with('q')).count() > 0, "{}", out.stderr);
    // The money at risk stays visible.
    assert!(home.json("s.json")["cost"]["at_risk_usd"].as_f64().unwrap() > 0.0);
    assert_eq!(home.json("s.json")["rows"]["succeeded"], 40);
}

#[test]
fn only_the_edited_row_is_sent_again() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    let paid = killed(&home, &server);
    home.write("in.jsonl", prompts(1..=40).replace("question 2\"", "question two\""));
    home.run(&server, &ARGS).code(0).says(&["changed"]);
    let results = rows(&home.read("out.jsonl"));
    assert_eq!(results.len(), 40);
    assert!(results[1].content().contains(&paid_hash("question two")), "the answer to the new question");
    assert!(results[0].content().contains(&paid_hash("question 1")));
    assert!(sent(&home) <= 40 - paid + 1 + LOST);
    assert_eq!(server.paid()[&paid_hash("question 1")], 1);
}

#[test]
fn moved_added_and_removed_rows_keep_their_answers() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    let paid = killed(&home, &server);
    // A new row in front, row 3 gone, the last two swapped: every answer must follow its row.
    let old = prompts(1..=40);
    let mut now: Vec<&str> = old.lines().collect();
    let new = format!(r#"{{"id":"new","prompt":"question 0","model":"{MODEL}","max_tokens":16}}"#);
    now.remove(2);
    now.swap(37, 38);
    now.insert(0, &new);
    home.write("in.jsonl", lines(&now));
    home.run(&server, &ARGS).code(0).says(&["changed"]);
    let results = rows(&home.read("out.jsonl"));
    let seen: Vec<&str> = results.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(seen[..4], ["new", "q1", "q2", "q4"]);
    assert_eq!(seen[38..], ["q40", "q39"]);
    assert_eq!(seen.len(), 40);
    for row in &results[1..] {
        assert!(row.content().contains(&paid_hash(&format!("question {}", &row.id[1..]))), "{}", row.line);
    }
    assert!(sent(&home) <= 40 - paid + 2 + LOST, "{} sent after {paid}", sent(&home));
    for done in ["question 1", "question 2", "question 4"] {
        assert_eq!(server.paid()[&paid_hash(done)], 1, "{done}");
    }
}

#[test]
fn changed_id_keeps_its_answer() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    killed(&home, &server);
    home.write("in.jsonl", prompts(1..=40).replace("\"q1\"", "\"renamed\""));
    home.run(&server, &ARGS).code(0);
    let first = &rows(&home.read("out.jsonl"))[0];
    assert_eq!(first.id, "renamed");
    assert!(first.content().contains(&paid_hash("question 1")));
    assert_eq!(server.paid()[&paid_hash("question 1")], 1);
}

#[test]
fn finished_command_starts_a_new_job() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=5));
    home.run(&server, &ARGS).code(0);
    let first = home.json("s.json")["job"].clone();
    home.run(&server, &ARGS).code(0);
    assert_ne!(home.json("s.json")["job"], first);
    assert_eq!((server.bill(), server.paid_again()), (10, 5));
}

#[test]
fn resume_sends_failed_rows_only() {
    let home = Home::new();
    // Rows 2 and 5 fail once.
    let server = Server::start(&["--fault", "status=400,times=1,contains=fragile"]);
    let input = prompts(1..=6).replace("question 2", "fragile 2").replace("question 5", "fragile 5");
    home.write("in.jsonl", input);
    let out = home.run(&server, &ARGS).code(3);
    let failed: Vec<_> = codes(&home.read("out.jsonl")).into_iter().filter(|(_, code)| code != "ok").collect();
    assert_eq!(failed.len(), 2);
    // Refused for good: no command is offered, as `retry` and `fetch` offer none. Asked for by name it sends them all the same.
    assert!(home.json("s.json")["exit"]["next"].is_null(), "{}", out.stderr);
    let job = home.json("s.json")["job"].clone();
    home.run(&server, &[&ARGS[..], &["--resume"]].concat()).code(0);
    assert!(rows(&home.read("out.jsonl")).iter().all(|row| row.code.is_none()));
    assert_eq!(home.json("s.json")["job"], job);
    assert_eq!((sent(&home), server.paid_again()), (2, 0));
    assert_eq!(home.json("s.json")["rows"]["succeeded"], 6);
}

#[test]
fn fresh_sends_and_pays_again() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    let paid = killed(&home, &server);
    home.run(&server, &[&ARGS[..], &["--fresh"]].concat()).code(0);
    answered(&home.read("out.jsonl"), 1..=40);
    assert_eq!(sent(&home), 40);
    assert_eq!(server.bill(), 40 + paid);
}

#[test]
fn resume_of_an_unknown_id_is_a_usage_error() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    home.run(&server, &["--resume=j-nothing", "-o", "out.jsonl"]).code(2).says(&["j-nothing", "llbatch status"]);
    home.run(&server, &[&ARGS[..], &["--resume", "--fresh"]].concat()).code(2);
    assert_eq!(server.requests(), 0);
}

#[test]
fn stdin_is_kept_with_its_job() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    let args = ["-", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "4", "--name", "piped"];
    home.write("pipe", prompts(1..=40));
    let mut command = home.run_command(&server.url, &args);
    command.stdin(std::fs::File::open(home.path("pipe")).unwrap());
    let run = home.start(command);
    server.until_billed(12);
    assert_eq!(run.kill(), None);
    let paid = server.bill();
    std::fs::remove_file(home.path("pipe")).unwrap();
    // By name, without any input and without the flags of then.
    let again = ["--resume=piped", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "8"];
    home.run(&server, &again).code(0);
    answered(&home.read("out.jsonl"), 1..=40);
    assert!(sent(&home) <= 40 - paid + LOST);
    // The same bytes through the pipe are the same command; it has finished, so this is a new job.
    let last = home.json("s.json")["job"].clone();
    home.run_with_stdin(&server.url, &args, prompts(1..=40).as_bytes()).code(0);
    assert_ne!(home.json("s.json")["job"], last);
}

#[test]
fn repeated_piped_command_resumes() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    let args = ["-", "-o", "out.jsonl", "--summary", "s.json", "--concurrency", "4"];
    home.write("pipe", prompts(1..=40));
    let mut command = home.run_command(&server.url, &args);
    command.stdin(std::fs::File::open(home.path("pipe")).unwrap());
    let run = home.start(command);
    server.until_billed(12);
    run.signal("INT");
    run.wait().code(130);
    let paid = server.bill();
    let next = home.json("s.json")["exit"]["next"].as_str().unwrap().to_owned();
    assert!(next.contains("--resume=j-"), "without its input it can only go on by name: {next}");
    home.run_with_stdin(&server.url, &args, prompts(1..=40).as_bytes()).code(0);
    answered(&home.read("out.jsonl"), 1..=40);
    assert_eq!((sent(&home), server.paid_again()), (40 - paid, 0));
}

#[test]
fn different_request_flags_make_another_job() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    killed(&home, &server);
    let before = server.bill();
    home.run(&server, &[&ARGS[..], &["--temperature", "1"]].concat()).code(0);
    assert_eq!(sent(&home), 40);
    assert_eq!(server.bill() - before, 40);
}

#[test]
fn resume_of_a_job_reads_its_table() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    home.write("in.jsonl", questions(1..=40));
    let run = home.spawn(&server, &[&ARGS[..], &["-m", MODEL]].concat());
    server.until_billed(12);
    assert_eq!(run.kill(), None);
    home.run(&server, &["--resume=last", "-o", "out.csv", "--concurrency", "8"]).code(0);
    let (header, rows) = crate::support::csv_rows(&home.read("out.csv"), b',');
    assert_eq!(header[1], "prompt");
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().enumerate().all(|(n, row)| row[1] == format!("question {}", n + 1)));
}

#[test]
fn identical_requests_keep_their_own_ids() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    let same = |ids: &[&str]| {
        let line = |id: &&str| format!(r#"{{"id":"{id}","prompt":"the same","model":"{MODEL}"}}"#);
        lines(&ids.iter().map(line).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>())
    };
    let old: Vec<String> = (1..=30).map(|n| format!("s{n}")).collect();
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    home.write("in.jsonl", same(&old));
    let run = home.spawn(&server, &ARGS);
    server.until_billed(12);
    assert_eq!(run.kill(), None);
    let paid = server.bill();
    let now = [&["new"], &old[..]].concat();
    home.write("in.jsonl", same(&now));
    home.run(&server, &ARGS).code(0);
    let seen = codes(&home.read("out.jsonl"));
    assert_eq!(seen.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), now);
    assert!(seen.iter().all(|(_, code)| code == "ok"));
    assert!(sent(&home) <= 31 - paid + LOST, "{} sent after {paid}", sent(&home));
}

#[test]
fn resume_of_a_complete_job_rewrites_results_for_free() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=5));
    home.run(&server, &ARGS).code(0);
    let first = home.read("out.jsonl");
    std::fs::remove_file(home.path("out.jsonl")).unwrap();
    home.run(&server, &[&ARGS[..], &["--resume"]].concat()).code(0);
    assert_eq!(home.read("out.jsonl"), first);
    assert_eq!((sent(&home), server.bill()), (0, 5));
    // The earlier cost of the answers stays in the total and is shown apart.
    let cost = &home.json("s.json")["cost"];
    assert_eq!(cost["usd"], cost["resumed_usd"]);
    assert!(cost["usd"].as_f64().unwrap() > 0.0);
}

#[test]
fn vanished_input_exits_66() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    killed(&home, &server);
    std::fs::remove_file(home.path("in.jsonl")).unwrap();
    home.run(&server, &["--resume=last", "-o", "out.jsonl"]).code(66).says(&["in.jsonl"]);
    assert!(!home.exists("out.jsonl"));
}

#[test]
fn answer_is_never_reused_for_another_request() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=6));
    home.run(&server, &["in.jsonl", "-o", "one.jsonl", "--concurrency", "4"]).code(0);
    assert_eq!(server.bill(), 6);
    // The same file under other parameters: nothing fits any more.
    let other = [
        "in.jsonl",
        "--resume=last",
        "-o",
        "two.jsonl",
        "--concurrency",
        "4",
        "--prompt",
        "Again: {{ prompt }}",
        "-m",
        MODEL,
    ];
    home.run(&server, &other).code(0).says(&["changed"]);
    assert_eq!(server.bill(), 12);
    assert!(rows(&home.read("two.jsonl"))[0].content().contains(&paid_hash("Again: question 1")));
    // Without the input the job's own requests stand, and flags that would change them are refused.
    home.run(&server, &["--resume=last", "-o", "two.jsonl", "--system", "Be brief."]).code(2).says(&["INPUT"]);
    home.run(&server, &["--resume=last", "-o", "three.jsonl"]).code(0);
    assert_eq!(home.read("three.jsonl"), home.read("two.jsonl"));
    assert_eq!(server.bill(), 12);
}

#[test]
fn resume_killed_while_rearranging_answers_loses_nothing() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    killed(&home, &server);
    let before = prompts(1..=40);
    home.write("in.jsonl", format!("{}{before}", prompts(99..=99)));
    // Killed at every instant from its start to its first requests.
    for pause in 0..12 {
        let run = home.spawn(&server, &ARGS);
        std::thread::sleep(std::time::Duration::from_millis(4 * pause));
        run.kill();
    }
    home.run(&server, &ARGS).code(0);
    let results = rows(&home.read("out.jsonl"));
    let ids: Vec<&str> = results.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids.len(), 41);
    assert_eq!(ids[..3], ["q99", "q1", "q2"]);
    for (row, n) in results.iter().zip(std::iter::once(99).chain(1..=40)) {
        assert!(row.content().contains(&paid_hash(&format!("question {n}"))), "{}", row.id);
    }
}
