//! `--shard I/N`: one input divided among tasks.

use serde_json::Value;

use crate::support::{Home, MODEL, Server, codes, prompts, rows};

/// Runs shard `part` of the input with these flags, each task with a state directory of its own.
#[track_caller]
fn run(home: &Home, server: &Server, part: &str, flags: &[&str]) -> crate::support::Out {
    let name = part.replace('/', "-");
    let (out, state) = (format!("part-{name}.jsonl"), format!("state-{name}"));
    let base = ["run", "in.jsonl", "--shard", part, "-o", &out, "--state-dir", &state];
    home.at(&server.url, &[&base[..], flags].concat())
}

#[test]
fn shards_share_out_the_rows_under_the_ids_of_the_whole() {
    let (home, server) = (Home::new(), Server::start(&[]));
    let input: Vec<String> = (1..=10).map(|n| format!("{{\"prompt\":\"text {n}\",\"model\":\"{MODEL}\"}}\n")).collect();
    home.write("in.jsonl", input.concat());
    for part in 1..=4 {
        let out = run(&home, &server, &format!("{part}/4"), &["--summary", "s.json"]).code(0);
        let rows_of = [3, 3, 2, 2][part - 1];
        out.says(&[&format!(" (shard {part}/4): {rows_of} rows")]);
        let expected: Vec<String> = (part..=10).step_by(4).map(|n| format!("row-{n}")).collect();
        let found: Vec<String> =
            rows(&home.read(&format!("part-{part}-4.jsonl"))).into_iter().map(|row| row.id).collect();
        assert_eq!(found, expected);
        assert_eq!(home.json("s.json")["rows"]["total"], rows_of);
    }
    assert_eq!(server.paid().len(), 10, "every row was sent");
    assert_eq!(server.paid_again(), 0);

    let check = home.llbatch(&["check", "in.jsonl", "--shard", "2/4", "--json", "--limit", "9"]).code(0);
    let check: Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!((&check["rows"], &check["total_rows"], &check["shard"]), (&2.into(), &9.into(), &"2/4".into()));
    assert_eq!(check["models"][0]["rows"], 2);
    let status = home.llbatch(&["status", "--json", "--state-dir", "state-3-4"]).code(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((&status["jobs"][0]["shard"], &status["jobs"][0]["rows"]["total"]), (&"3/4".into(), &2.into()));
    let status = home.llbatch(&["status", "--state-dir", "state-3-4"]).code(0);
    assert!(status.stdout.contains("3/4 of in.jsonl"), "{}", status.stdout);
    home.llbatch(&["prepare", "in.jsonl", "--shard", "4/4", "-o", "p.jsonl"]).code(0);
    let prepared = home.read("p.jsonl");
    assert!(prepared.lines().count() == 2 && prepared.starts_with(r#"{"custom_id":"row-4","#), "{prepared}");
}

#[test]
fn shard_is_a_part_of_the_identity_of_a_job() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=6));
    let run = |part: &str, flags: &[&str]| {
        home.run(&server, &[&["in.jsonl", "-o", "o.jsonl", "--resume", "--shard", part], flags].concat())
    };
    run("1/2", &[]).code(0);
    run("2/2", &[]).code(0);
    assert_eq!(server.requests(), 6);
    let again = run("1/2", &[]).code(0);
    again.says(&["resuming job", "3 answered before"]);
    assert_eq!(server.requests(), 6, "the same shard is the same job");
    run("1/3", &[]).code(0);
    assert_eq!(server.requests(), 8, "another division is another job");
    // Two shards in batches are two jobs too, and each keeps its part.
    let server = Server::quick(&[]);
    for part in ["1/2", "2/2", "1/2"] {
        let submit = ["submit", "in.jsonl", "--shard", part, "--wait", "--poll", "50ms", "-o", "b.jsonl", "--resume"];
        home.at(&server.url, &submit).code(0);
        let first = if part == "1/2" { "q1" } else { "q2" };
        assert_eq!(rows(&home.read("b.jsonl"))[0].id, first);
    }
    assert_eq!(server.batches().iter().map(|batch| batch["rows"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 3]);
}

#[test]
fn every_shard_refuses_the_same_rows_or_fails_its_own() {
    let (home, server) = (Home::new(), Server::start(&[]));
    // Rows 3 (no JSON), 4 (the id of row 1) and 6 (no prompt) are invalid.
    let good = |id: &str| format!("{{\"id\":\"{id}\",\"prompt\":\"a\",\"model\":\"{MODEL}\"}}\n");
    let input = good("a") + &good("b") + "{\"id\":\"c\"\n" + &good("a") + &good("e") + "{\"id\":\"f\"}\n";
    home.write("in.jsonl", input);
    let mut refusals: Vec<String> = Vec::new();
    for part in ["1/2", "2/2", "5/8"] {
        refusals.push(run(&home, &server, part, &[]).code(65).says(&["3 of 6 rows cannot be sent"]).stderr);
    }
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:#?}");
    assert_eq!(server.requests(), 0);
    for (part, ids, failed) in [
        ("1/2", vec!["a", "c", "e"], vec!["c"]),
        ("2/2", vec!["b", "a#4", "f"], vec!["a#4", "f"]),
        ("5/8", vec!["e"], vec![]),
    ] {
        let exit = if failed.is_empty() { 0 } else { 3 };
        run(&home, &server, part, &["--skip-invalid"]).code(exit);
        let results = home.read(&format!("part-{}.jsonl", part.replace('/', "-")));
        assert_eq!(rows(&results).into_iter().map(|row| row.id).collect::<Vec<_>>(), ids);
        let bad: Vec<String> =
            codes(&results).into_iter().filter(|(_, code)| code == "invalid_request").map(|(id, _)| id).collect();
        assert_eq!(bad, failed);
    }
}

#[test]
fn a_shard_without_rows_is_done() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=2));
    let empty = run(&home, &server, "3/3", &[]).code(0);
    empty.says(&["(shard 3/3): 0 rows"]);
    assert_eq!(home.read("part-3-3.jsonl"), "");
    home.llbatch(&["check", "in.jsonl", "--shard", "3/3"]).code(0);
    home.at(&server.url, &["submit", "in.jsonl", "--shard", "3/3", "--wait", "-o", "b.csv"]).code(0);
    assert_eq!(home.read("b.csv").lines().count(), 1, "the header of the table");
    home.write("none.jsonl", "");
    home.run(&server, &["none.jsonl", "--shard", "3/3", "-o", "o.jsonl"]).code(65);
}

#[test]
fn auto_takes_the_shard_of_the_scheduler() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=6));
    let run = |shard: &str, variables: &[(&str, &str)]| {
        let mut command = home.run_command(&server.url, &["in.jsonl", "--shard", shard, "-o", "o.jsonl", "--fresh"]);
        home.finish({
            command.envs(variables.iter().copied());
            command
        })
    };
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "4"),
        ("SLURM_ARRAY_TASK_MIN", "2"),
        ("SLURM_ARRAY_TASK_COUNT", "3"),
        ("SLURM_ARRAY_TASK_STEP", "2"),
    ];
    run("auto", &slurm).code(0).says(&["--shard auto: 2/3, by SLURM_ARRAY_TASK_ID=4 ", "(shard 2/3): 2 rows"]);
    run("auto/3", &[("JOB_COMPLETION_INDEX", "0")]).code(0).says(&["1/3, by JOB_COMPLETION_INDEX=0"]);
    run("auto", &[]).code(2).says(&["SLURM_ARRAY_TASK_ID", "is set"]);
    let both = [&slurm[..], &[("JOB_COMPLETION_INDEX", "2")]].concat();
    run("auto", &both).code(2).says(&["disagree"]);
}

#[test]
fn max_cost_is_divided_by_the_shards() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.config(format!("[models.\"{MODEL}\"]\ninput = 1000\noutput = 1000\n"));
    home.write("in.jsonl", prompts(1..=40));
    let out = run(&home, &server, "1/2", &["--max-cost", "0.3", "--max-tokens", "10"]).code(5);
    out.says(&[
        "--max-cost 0.3 is divided by 2 shards: this one may cost up to 0.15 USD",
        "could exceed --max-cost $0.15",
    ]);
    let answered = rows(&home.results("part-1-2.jsonl")).len();
    assert!(answered > 0, "{answered}");
}

#[test]
fn tolerated_failures_are_no_failure_of_the_command() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=3) + "no JSON\n");
    let base = ["in.jsonl", "-o", "o.jsonl", "--skip-invalid", "--fresh", "--summary", "s.json"];
    home.run(&server, &base).code(3);
    home.run(&server, &[&base[..], &["--tolerate-failures"]].concat()).code(0).says(&["1 failed"]);
    let summary = home.json("s.json");
    assert_eq!((&summary["exit"]["code"], &summary["rows"]["failed"]), (&0.into(), &1.into()));
    // Another reason than failed rows stays one.
    home.run(&server, &["in.jsonl", "-o", "o.jsonl", "--tolerate-failures"]).code(65);
}
