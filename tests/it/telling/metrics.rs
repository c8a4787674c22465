//! `--metrics`, and `status --format prom`.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Home, MODEL, Server, answered, prompts, until};

/// The samples of a file of metrics: name and labels but `job`, and the value. All have the label `job` with `job`.
#[track_caller]
fn samples(text: &str, job: &str) -> BTreeMap<String, String> {
    let label = format!("job=\"{job}\"");
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.contains(&label), "{label}: {line}");
        let name = name.replace(&format!("{label},"), "").replace(&format!("{{{label}}}"), "");
        (name.trim_start_matches("llbatch_").to_owned(), value.to_owned())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn id(home: &Home) -> String {
    let out = home.llbatch(&["status", "last", "--json", "--offline"]).code(0);
    let document: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    document["jobs"][0]["job"].as_str().unwrap().to_owned()
}

#[test]
fn figures_at_the_end_are_those_of_the_summary() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=6).replace("question 2", "[[sandbox:status=400]]"));
    let args = ["in.jsonl", "-o", "out.jsonl", "--metrics", "night.prom", "--summary", "s.json"];
    home.run(&server, &args).code(3);
    let (job, summary) = (id(&home), home.json("s.json"));
    let seen = samples(&home.read("night.prom"), &job);
    let of = |name: &str| seen.get(name).unwrap_or_else(|| panic!("{name}: {seen:#?}")).as_str();
    let number = |name: &str| of(name).parse::<f64>().ok();
    assert_eq!(
        ["succeeded", "failed", "pending"].map(|state| of(&format!("rows{{state=\"{state}\"}}"))),
        ["5", "1", "0"]
    );
    for (kind, member) in [("prompt", "prompt"), ("completion", "completion")] {
        let tokens = number(&format!("tokens_total{{model=\"{MODEL}\",kind=\"{kind}\"}}"));
        assert_eq!(tokens, summary["tokens"][member].as_f64());
    }
    assert_eq!(number(&format!("cost_usd_total{{model=\"{MODEL}\"}}")), summary["cost"]["usd"].as_f64());
    assert_eq!(
        ["answered", "rate_limited", "failed"].map(|outcome| of(&format!("requests_total{{outcome=\"{outcome}\"}}"))),
        ["5", "0", "1"]
    );
    assert_eq!((of("in_flight"), of("job_exit_code")), ("0", "3"));
    assert!(number("job_end_timestamp_seconds") > Some(1.7e9));
    // What is stored gives the same figures.
    let shown = home.llbatch(&["status", "--format", "prom"]).code(0).stdout;
    let mut stored = samples(&shown, &job);
    assert!(stored.remove("job_end_timestamp_seconds").is_some(), "{shown}");
    let mut seen = seen;
    seen.remove("job_end_timestamp_seconds");
    assert_eq!(stored, seen);
    // The failed row again: the figures are those of the whole job.
    home.write("in.jsonl", prompts(1..=6));
    home.run(&server, &[&args[..], &["--resume"]].concat()).code(0);
    let seen = samples(&home.read("night.prom"), &job);
    assert_eq!([&seen["rows{state=\"succeeded\"}"], &seen["rows{state=\"failed\"}"]], ["6", "0"], "{seen:#?}");
    assert_eq!([&seen["requests_total{outcome=\"answered\"}"], &seen["job_exit_code"]], ["6", "0"], "{seen:#?}");
    assert_eq!(seen["requests_total{outcome=\"failed\"}"], "1", "a counter never falls: {seen:#?}");
}

#[test]
fn figures_come_while_the_run_works_and_survive_a_kill() {
    let home = Home::new();
    let server = Server::start(&["--latency", "100ms"]);
    home.write("in.jsonl", prompts(1..=40));
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "4", "--metrics", "live.prom"];
    let run = home.spawn(&server, &args);
    until("the first figures", || home.exists("live.prom"));
    server.until_billed(8);
    let seen = samples(&home.read("live.prom"), &id(&home));
    assert!(seen["rows{state=\"pending\"}"] != "0" && seen.contains_key("in_flight"), "{seen:#?}");
    assert!(!seen.contains_key("job_exit_code"), "it has not ended: {seen:#?}");
    run.kill();
    home.run(&server, &args).code(0);
    answered(&home.read("out.jsonl"), 1..=40);
    let seen = samples(&home.read("live.prom"), &id(&home));
    assert_eq!([&seen["rows{state=\"succeeded\"}"], &seen["job_exit_code"]], ["40", "0"], "{seen:#?}");
    let left: Vec<_> = std::fs::read_dir(home.path("")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".live.prom")), "{left:?}");
}

#[test]
fn interrupted_run_has_its_exit_code_in_the_figures() {
    let home = Home::new();
    let server = Server::start(&["--latency", "100ms"]);
    home.write("in.jsonl", prompts(1..=60));
    let run = home.spawn(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "2", "--metrics", "m.prom"]);
    server.until_billed(3);
    run.signal("INT");
    run.wait().code(130);
    let seen = samples(&home.read("m.prom"), &id(&home));
    assert_eq!([&seen["job_exit_code"], &seen["in_flight"]], ["130", "0"]);
    assert_ne!(seen["rows{state=\"pending\"}"], "0", "{seen:#?}");
}

#[test]
fn resumed_run_that_stops_early_leaves_the_figures_that_are_stored() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    let failing = prompts(1..=40).replace("\"question 3", "\"[[sandbox:status=400]] question 3");
    home.write("in.jsonl", failing);
    let args = ["in.jsonl", "-o", "out.jsonl", "--metrics", "m.prom", "--concurrency", "1"];
    home.run(&server, &args).code(3);
    let before = server.requests();
    let run = home.spawn(&server, &[&args[..], &["--resume"]].concat());
    until("a request", || server.requests() > before);
    run.signal("INT");
    run.wait().code(130);
    assert!(server.requests() < before + 11, "all failed rows were sent");
    let job = id(&home);
    let (mut seen, mut stored) = (
        samples(&home.read("m.prom"), &job),
        samples(&home.llbatch(&["status", "--format", "prom"]).code(0).stdout, &job),
    );
    assert!([&mut seen, &mut stored].iter_mut().all(|set| set.remove("job_end_timestamp_seconds").is_some()));
    assert_eq!(seen, stored);
}

#[test]
fn run_that_is_ended_by_a_second_signal_has_its_exit_code_in_the_figures() {
    let home = Home::new();
    let server = Server::start(&[]);
    // More than a pipe holds, so that a reader that takes nothing holds up the end.
    home.write("in.jsonl", prompts(1..=2000).replace("\"max_tokens\":16", "\"max_tokens\":400"));
    let mut command = home.run_command(&server.url, &["in.jsonl", "--concurrency", "8", "--metrics", "m.prom"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    server.until_billed(30);
    for pause in [300, 0] {
        let kill = format!("kill -TERM {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(pause));
    }
    let mut ended = None;
    until("it has gone", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(143));
    let seen = samples(&home.read("m.prom"), &id(&home));
    assert_eq!([&seen["job_exit_code"], &seen["in_flight"]], ["143", "0"]);
}

#[test]
fn job_that_is_named_twice_is_shown_once() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--name", "night"]).code(0);
    let job = id(&home);
    let names = ["status", &job, "night", "last", &job[..6]];
    let shown = home.llbatch(&[&names[..], &["--format", "prom"]].concat()).code(0).stdout;
    let series: Vec<&str> = shown.lines().filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series).collect();
    assert_eq!(series.iter().collect::<std::collections::BTreeSet<_>>().len(), series.len(), "{shown}");
    let document = home.llbatch(&[&names[..], &["--json"]].concat()).code(0).stdout;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["jobs"].as_array().map(Vec::len), Some(1), "{document}");
    let removed = home.llbatch(&["clean", &job, "night", "--json"]).code(0).stdout;
    let removed: serde_json::Value = serde_json::from_str(&removed).unwrap();
    assert_eq!(removed["removed"], serde_json::json!([job]));
}

#[test]
fn batch_commands_keep_the_figures_of_their_jobs() {
    let home = Home::new();
    let server = Server::quick(&[]);
    home.write("in.jsonl", prompts(1..=5));
    home.write("more.jsonl", prompts(6..=8));
    let wait = ["submit", "in.jsonl", "--wait", "--poll", "100ms", "-o", "out.jsonl", "--metrics", "m.prom"];
    home.at(&server.url, &wait).code(0);
    let first = id(&home);
    let seen = samples(&home.read("m.prom"), &first);
    assert_eq!([&seen["rows{state=\"succeeded\"}"], &seen["job_exit_code"]], ["5", "0"], "{seen:#?}");
    assert_ne!(seen[&format!("tokens_total{{model=\"{MODEL}\",kind=\"completion\"}}")], "0", "{seen:#?}");
    home.at(&server.url, &["submit", "more.jsonl"]).code(0);
    let second = id(&home);
    home.at(&server.url, &["wait", &first, &second, "--poll", "100ms", "--metrics", "both.prom"]).code(0);
    let both = home.read("both.prom");
    let of = |job: &str| both.lines().filter(|line| line.contains(job)).collect::<Vec<_>>().join("\n");
    assert_eq!(samples(&of(&first), &first)["rows{state=\"succeeded\"}"], "5");
    assert_eq!(samples(&of(&second), &second)["rows{state=\"succeeded\"}"], "3");
    assert_eq!(both.matches("# TYPE llbatch_rows gauge\n").count(), 1, "{both}");
}

#[test]
fn failure_to_write_figures_is_a_warning() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    let out = home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--metrics", "none/m.prom"]).code(0);
    assert!(out.stderr.contains("warning: --metrics: none/m.prom: there is no directory none"), "{}", out.stderr);
    answered(&home.read("out.jsonl"), 1..=2);
    home.run(&server, &["in.jsonl", "--metrics", "m.txt"]).code(2).says(&["must end in .prom", "node_exporter"]);
    home.at(&server.url, &["submit", "in.jsonl", "--metrics", "m.prom"])
        .code(2)
        .says(&["--metrics, --on-done and --notify need --wait"]);
    home.llbatch(&["status", "--format", "prom", "--json"]).code(2).says(&["two forms"]);
    // A command without a job has an end too.
    home.write("bad.jsonl", "nonsense\n");
    home.run(&server, &["bad.jsonl", "-o", "out.jsonl", "--metrics", "m.prom"]).code(65);
    assert!(home.read("m.prom").contains("llbatch_job_exit_code 65\n"), "{}", home.read("m.prom"));
}
