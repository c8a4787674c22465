//! Batch commands that were cut short: the second run must not mistake this for the end. The crash loops in `tests/crash`
//! found these cases; here each happens every time.

use serde_json::Value;

use crate::support::{Home, Out, Server, answered, codes, lines, post, prompts, request, until};

/// The job's id, after `submit`.
fn submitted(home: &Home, server: &Server) -> String {
    home.write("in.jsonl", prompts(1..=40));
    home.llbatch(&["submit", "in.jsonl", "--base-url", &server.url]).code(0).stdout.trim().to_owned()
}

/// The ids of the server's batches.
fn batches(server: &Server) -> Vec<String> {
    let stats = server.stats();
    let jobs = stats["batches"]["jobs"].as_array().unwrap();
    jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn second_cancel_keeps_the_answers() {
    let server = Server::start(&["--batch-validation", "0s", "--batch-run", "4s", "--batch-cancel", "0s"]);
    let home = Home::new();
    submitted(&home, &server);
    let (address, id) = (server.address(), batches(&server).remove(0));
    until("some progress", || {
        let batch = request(&address, "GET", &format!("/v1/batches/{id}"), "authorization: Bearer k\r\n", "").json();
        batch["progress"].as_f64().unwrap() >= 20.0
    });
    // As by a first cancel that was killed before it could write down that there was one.
    assert_eq!(post(&address, &format!("/v1/batches/{id}/cancel"), Some("k"), "").0, 200);
    // This one gets CANCELLED at once, and not yet in which file the answers are.
    home.llbatch(&["cancel", "last", "--base-url", &server.url]).code(0);
    home.llbatch(&["fetch", "last", "-o", "out.jsonl", "--base-url", &server.url]).code(3);
    let found = codes(&home.read("out.jsonl"));
    let answers = found.iter().filter(|(_, code)| code == "ok").count();
    assert_eq!(found.len(), 40);
    assert!((1..40).contains(&answers), "{found:?}");
    assert_eq!(answers as u64, server.bill(), "what was paid for is kept: {found:?}");
    assert!(found.iter().all(|(_, code)| code == "ok" || code == "cancelled"), "{found:?}");
}

#[test]
fn batch_that_ended_in_its_create_reply_has_results() {
    let server = Server::start(&["--batch-validation", "0s", "--batch-run", "0s"]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=5));
    let args = ["submit", "in.jsonl", "--wait", "--poll", "100ms", "-o", "out.jsonl", "--base-url", &server.url];
    home.llbatch(&args).code(0);
    answered(&home.read("out.jsonl"), 1..=5);
}

#[test]
fn job_killed_before_planning_says_so_and_can_be_cleaned() {
    let server = Server::start(&["--batch-validation", "0s", "--batch-run", "1m"]);
    let home = Home::new();
    let job = submitted(&home, &server);
    let db = rusqlite::Connection::open(home.state().join(format!("jobs/{job}.db"))).unwrap();
    db.execute_batch("DELETE FROM batch; DELETE FROM request;").unwrap();
    drop(db);
    let base = ["--base-url", server.url.as_str()];
    for command in [&["wait", "last"][..], &["fetch", "last", "-o", "out.jsonl"], &["retry", "last"]] {
        let out = home.llbatch(&[command, &base].concat()).code(1);
        out.says(&[&job, "nothing was sent", "`llbatch submit` again", "`llbatch cancel"]);
    }
    assert!(!home.exists("out.jsonl"));
    home.llbatch(&[&["cancel", "last"][..], &base].concat()).code(0).says(&[&job, "the job is removed"]);
    home.llbatch(&["status", "--offline"]).code(0).says(&["no jobs"]);
    assert!(!home.state().join(format!("jobs/{job}")).exists());
}

/// A job whose run was killed with eight requests in flight, all of them billed.
struct Killed {
    home: Home,
    server: Server,
    /// The input of the killed run.
    input: String,
}

impl Killed {
    const RUN: [&str; 7] = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "8", "--summary", "sum.json"];

    /// The answers of the rows up to `answered` are stored, and the next eight are in flight.
    fn run(answered: u32) -> Self {
        let (home, server) = (Home::new(), Server::start(&["--fault", "hang,after,times=1,contains=hard"]));
        let hard = prompts(answered + 1..=answered + 8).replace("question", "hard question");
        let before = if answered > 0 { prompts(1..=answered) } else { String::new() };
        let input = before + &hard + &prompts(answered + 9..=40);
        home.write("in.jsonl", &input);
        let run = home.spawn(&server, &Self::RUN);
        // A stored answer gives its place back. When eight requests hang, no other one is in flight.
        server.until_billed(u64::from(answered) + 8);
        assert_eq!(run.kill(), None, "the run has ended");
        assert_eq!(server.bill(), u64::from(answered) + 8);
        Self { home, server, input }
    }

    /// Runs the command again, with `input`.
    fn resume(&self, input: &str) -> Out {
        self.home.write("in.jsonl", input);
        self.home.run(&self.server, &Self::RUN).code(0)
    }

    /// Asserts that the cost and the money at risk in `summary` bracket the bill. An unknown risk is `None`.
    #[track_caller]
    fn brackets_the_bill(&self, summary: &Value) -> Option<u64> {
        let nanos = |name: &str| summary["cost"][name].as_f64().map(|usd| (usd * 1e9).round() as u64);
        let billed = self.server.stats()["bill"]["nano_usd"].as_u64().unwrap();
        let (settled, at_risk) = (nanos("usd").unwrap(), nanos("at_risk_usd"));
        assert!(
            settled < billed,
            "eight answers were billed and not delivered: {billed} nano-USD, {}",
            summary["cost"]
        );
        assert!(at_risk.is_none_or(|risk| billed <= settled + risk), "billed {billed} nano-USD: {}", summary["cost"]);
        at_risk
    }
}

/// The first rows of `all`.
fn first(rows: usize, all: &str) -> String {
    lines(&all.lines().take(rows).collect::<Vec<_>>())
}

#[test]
fn requests_of_rows_that_left_the_input_stay_at_risk() {
    let others = |all: &str| all.replace("hard ", "").replace("question", "problem");
    let cheap = |all: &str| others(all).replace(r#""max_tokens":16"#, r#""max_tokens":1"#);
    for what in ["shorter", "other rows", "cheaper requests"] {
        let killed = Killed::run(8);
        let all = &killed.input;
        let out = killed.resume(&match what {
            "shorter" => first(3, all),
            "other rows" => others(all),
            _ => cheap(all),
        });
        let warning = "rows of the earlier input may have been sent without an answer, and may be billed\n";
        let out = out.says(&["warning: the last run was cut short: ", warning, "more for "]);
        assert!(!out.stderr.contains("billed twice"), "{what}: the ids of those rows are not known:\n{}", out.stderr);
        let at_risk = killed.brackets_the_bill(&killed.home.json("sum.json"));
        assert!(at_risk.is_some_and(|risk| risk > 0), "{what}: {at_risk:?}");
    }
}

#[test]
fn requests_of_unknown_size_cost_an_unknown_amount() {
    let killed = Killed::run(0);
    let report = || {
        let out = killed.home.llbatch(&["report", "last", "--json"]).code(0);
        serde_json::from_str::<Value>(&out.stdout).unwrap()
    };
    let shorter = first(3, &killed.input);
    killed.home.write("in.jsonl", &shorter);
    assert_eq!(report()["cost"]["at_risk_usd"], Value::Null, "before the job is resumed");
    killed.resume(&shorter).says(&["of the earlier input", "an unknown amount more for"]);
    assert_eq!(killed.brackets_the_bill(&killed.home.json("sum.json")), None);
    let report = report();
    assert_eq!(killed.brackets_the_bill(&report), None);
    assert_eq!(report["models"].as_array().unwrap().len(), 1, "an unknown model has no line: {report}");
    assert_eq!(report["details"]["models"].as_array().unwrap().len(), 1, "an unknown model has no line: {report}");
}

#[test]
fn requests_of_an_unchanged_input_are_named() {
    let killed = Killed::run(8);
    let names = "may have been sent without an answer, and may be billed twice: q9, q10, q11, q12";
    let out = killed.resume(&killed.input).says(&[names]);
    assert!(!out.stderr.contains("earlier input"), "{}", out.stderr);
    killed.brackets_the_bill(&killed.home.json("sum.json"));
}
