//! `--limit`, `--sample` and `--preview`: a part of the rows, which keep their numbers.

use std::io::Write as _;

use serde_json::Value;

use crate::support::{Home, MODEL, Server, answered, csv_rows, prompts, rows};

/// A table of `count` texts without ids.
fn texts(count: u32) -> String {
    let texts: Vec<String> = (1..=count).map(|n| format!("text {n}\n")).collect();
    format!("text\n{}", texts.concat())
}

/// The numbers of rows named `row-N`.
fn numbers(ids: impl Iterator<Item = String>) -> Vec<u32> {
    ids.map(|id| id.strip_prefix("row-").unwrap().parse().unwrap()).collect()
}

#[test]
fn sampled_rows_keep_their_order_and_their_numbers() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.csv", texts(3000));
    let base = ["in.csv", "-m", MODEL, "--prompt", "{{ text }}", "--max-tokens", "4"];
    let run = |out: &str, flags: &[&str]| {
        let out = home.run(&server, &[&base[..], &["-o", out, "--fresh"], flags].concat()).code(0);
        out.says(&["using 40 of 2,000 rows, chosen at random (--sample-seed "])
    };
    run("a.jsonl", &["--limit", "2000", "--sample", "40"]);
    let chosen = numbers(rows(&home.read("a.jsonl")).into_iter().map(|row| row.id));
    assert_eq!(chosen.len(), 40);
    assert!(chosen.is_sorted() && chosen.iter().all(|n| (1..=2000).contains(n)), "{chosen:?}");
    assert!(chosen[39] > 1000 && chosen[0] < 1000, "{chosen:?}");
    // The same rows again, as a table too: each beside its own text.
    run("b.csv", &["--limit", "2000", "--sample", "40", "--sample-seed", "0"]);
    let (header, cells) = csv_rows(&home.read("b.csv"), b',');
    assert_eq!(header[..2], ["text", "custom_id"]);
    assert_eq!(numbers(cells.iter().map(|row| row[1].clone())), chosen);
    assert!(cells.iter().zip(&chosen).all(|(row, n)| row[0] == format!("text {n}")), "{cells:?}");
    run("c.jsonl", &["--limit", "2000", "--sample", "40", "--sample-seed", "7"]);
    assert_ne!(numbers(rows(&home.read("c.jsonl")).into_iter().map(|row| row.id)), chosen);
    // In batches too, from the copy that the job keeps.
    let submit = ["submit", "--limit", "2000", "--sample", "40", "--wait", "--poll", "50ms", "-o", "d.jsonl"];
    let server = Server::quick(&[]);
    home.at(&server.url, &[&submit[..], &base].concat()).code(0);
    assert_eq!(numbers(rows(&home.read("d.jsonl")).into_iter().map(|row| row.id)), chosen);
    let check = home.llbatch(&[&["check", "--json", "--limit", "2000", "--sample", "40"], &base[..]].concat()).code(0);
    assert_eq!(serde_json::from_str::<Value>(&check.stdout).unwrap()["rows"], 40);
    home.llbatch(&[&["prepare", "--limit", "25", "-o", "p.jsonl"], &base[..]].concat()).code(0);
    let prepared = home.read("p.jsonl");
    assert_eq!(prepared.lines().count(), 25);
    assert!(prepared.lines().last().unwrap().starts_with(r#"{"custom_id":"row-25","#), "{prepared}");
}

#[test]
fn rows_behind_the_limit_are_not_looked_at() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=3) + "not JSON\n" + &prompts(1..=1));
    home.run(&server, &["in.jsonl", "-o", "o.jsonl"]).code(65);
    home.run(&server, &["in.jsonl", "-o", "o.jsonl", "--limit", "3"]).code(0);
    assert_eq!(rows(&home.read("o.jsonl")).len(), 3);
    // More than there are: all, without a word of a sample.
    let all = home.run(&server, &["in.jsonl", "-o", "o.jsonl", "--sample", "9", "--limit", "3", "--fresh"]).code(0);
    assert!(!all.stderr.contains("random"), "{}", all.stderr);
    for wrong in [["--limit", "0"], ["--sample", "x"], ["--sample-seed", "1"]] {
        home.run(&server, &[&["in.jsonl"], &wrong[..]].concat()).code(2);
    }
}

#[test]
fn invalid_row_of_a_sample_fails_under_its_own_number() {
    let (home, server) = (Home::new(), Server::start(&[]));
    let line = |n: u32| format!("{{\"text\":\"t {n}\"{}\n", if n.is_multiple_of(2) { "}" } else { "" });
    home.write("in.jsonl", (1..=200).map(line).collect::<String>());
    let args = ["in.jsonl", "-m", MODEL, "--prompt", "{{ text }}", "--sample", "20", "--skip-invalid", "-o", "o.jsonl"];
    home.run(&server, &args).code(3);
    let results = rows(&home.read("o.jsonl"));
    assert_eq!(results.len(), 20);
    let odd: Vec<bool> = results.iter().map(|row| row.code.is_some()).collect();
    let chosen = numbers(results.into_iter().map(|row| row.id));
    assert!(chosen.iter().zip(&odd).all(|(n, failed)| *failed == (n % 2 == 1)), "{chosen:?} {odd:?}");
}

#[test]
fn interrupted_sample_resumes_and_another_sample_reuses_nothing_by_itself() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "50ms"]));
    home.write("in.jsonl", prompts(1..=400));
    let args = ["in.jsonl", "-o", "out.jsonl", "--sample", "40", "--concurrency", "4", "--summary", "s.json"];
    let named = [&args[..], &["--name", "small"]].concat();
    let run = home.spawn(&server, &named);
    server.until_billed(12);
    assert_eq!(run.kill(), None, "killed in the middle");
    home.run(&server, &[&args[..], &["--sample-seed", "3"]].concat()).code(0);
    let paid = server.bill();
    home.run(&server, &named).code(0).says(&["resuming job", "answered before"]);
    let results = rows(&home.read("out.jsonl"));
    assert_eq!(results.len(), 40);
    assert!(server.bill() - paid < 40, "answers were reused");
    // A larger sample of the same seed holds the smaller one, and takes its answers.
    let larger = ["in.jsonl", "-o", "more.jsonl", "--sample", "50", "--resume=small"];
    let paid = server.bill();
    home.run(&server, &larger).code(0);
    let more: Vec<String> = rows(&home.read("more.jsonl")).into_iter().map(|row| row.id).collect();
    assert_eq!((more.len(), server.bill() - paid), (50, 10));
    assert!(results.iter().all(|row| more.contains(&row.id)));
}

#[test]
fn sample_from_standard_input_is_kept_with_its_job() {
    let (home, server) = (Home::new(), Server::start(&[]));
    let args = ["-", "--sample", "5", "-o", "out.jsonl", "--name", "piped"];
    home.run_with_stdin(&server.url, &args, prompts(1..=100).as_bytes()).code(0);
    let first: Vec<String> = rows(&home.read("out.jsonl")).into_iter().map(|row| row.id).collect();
    assert_eq!(first.len(), 5);
    home.run(&server, &["--resume=piped", "-o", "again.jsonl"]).code(0);
    let again: Vec<String> = rows(&home.read("again.jsonl")).into_iter().map(|row| row.id).collect();
    assert_eq!((again, server.bill()), (first, 5));
    home.run(&server, &["--resume=piped", "--sample", "6", "-o", "x.jsonl"]).code(2).says(&["would change them"]);
}

#[test]
fn preview_shows_requests_and_sends_nothing() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.csv", texts(9));
    let base = ["in.csv", "-m", MODEL, "--prompt", "Say {{ text }}", "--base-url", &server.url];
    for command in ["run", "submit", "check", "prepare"] {
        let mut shown = home.command(&[&[command], &base[..], &["--preview"]].concat());
        shown.env_remove("TOGETHER_API_KEY");
        let out = home.finish(shown).code(0).says(&["row-1 (in.csv:2), for /chat/completions:", "row-3 (in.csv:4)"]);
        let mut bodies = serde_json::Deserializer::from_str(&out.stdout).into_iter::<Value>();
        let first = bodies.next().unwrap().unwrap();
        assert_eq!((&first["model"], &first["messages"][0]["content"]), (&MODEL.into(), &"Say text 1".into()));
        assert_eq!(bodies.count(), 2, "{command}: {}", out.stdout);
        assert!(out.stdout.lines().count() > 12, "a line for each member: {}", out.stdout);
    }
    let out = home.llbatch(&[&["run", "--preview", "1", "--json"], &base[..], &["--limit", "2"]].concat()).code(0);
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(document["requests"].as_array().unwrap().len(), 1);
    assert_eq!(document["requests"][0]["body"]["messages"][0]["content"], "Say text 1");
    assert!(!home.state().join("jobs").exists(), "nothing is left behind");
    assert_eq!(server.requests(), 0);

    home.write("bad.jsonl", prompts(1..=2) + "nonsense\n");
    let bad = home.llbatch(&["check", "bad.jsonl", "--preview"]).code(65).says(&["bad.jsonl:3:", "1 of 3 rows"]);
    assert_eq!(bad.stdout.matches("question").count(), 2, "{}", bad.stdout);
    home.llbatch(&["check", "bad.jsonl", "--preview", "2"]).code(0);
    home.llbatch(&["check", "--preview", "bad.jsonl"]).code(2).says(&["--preview=3"]);
}

#[test]
fn limit_ends_the_reading_of_a_pipe_that_goes_on() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = home.run_command(&server.url, &["-", "--limit", "3"]);
    command.stdin(reader);
    let running = home.start(command);
    writer.write_all(prompts(1..=5).as_bytes()).unwrap();
    // The pipe stays open.
    answered(&running.wait().code(0).stdout, 1..=3);
    drop(writer);
}
