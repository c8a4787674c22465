//! Every file in `samples/` works as the README says: without a key, every row answered, in order.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Home, MODEL, csv_rows, rows};

fn samples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("samples")
}

/// The ids that the rows of a sample have by the contract.
fn expected_ids(name: &str, text: &str) -> Vec<String> {
    if Path::new(name).extension().is_some_and(|ending| ending == "csv") {
        let (header, rows) = csv_rows(text, b',');
        let at = header.iter().position(|column| column == "id").unwrap();
        return rows.into_iter().map(|row| row[at].clone()).collect();
    }
    let id = |(n, line): (usize, &str)| {
        let record: Value = serde_json::from_str(line).unwrap();
        let given = record["custom_id"].as_str().or(record["id"].as_str()).map(str::to_owned);
        given.unwrap_or_else(|| format!("row-{}", n + 1))
    };
    text.lines().enumerate().map(id).collect()
}

#[test]
fn every_sample_is_answered_in_order_without_a_key() {
    let home = Home::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(samples()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        home.write(&name, std::fs::read(samples().join(&name)).unwrap());
        let mut args = vec!["run", &name, "--sandbox", "-o", "out.jsonl", "--concurrency", "8"];
        match name.as_str() {
            "prompts.jsonl" | "prompts.csv" | "batch.jsonl" => {}
            // By tests/it/nightly.rs and tests/it/recipes.rs.
            "nightly.sh" | "slurm.sh" | "kubernetes.yaml" => continue,
            // By tests/engines/run.sh.
            "parallel.sh" | "tasks.mk" | "airflow_dag.py" | "ray_data.py" | "spark.py" => continue,
            "reviews.csv" => args.extend(["-m", MODEL, "--prompt", "Positive or negative? {{ text }}"]),
            other => panic!("samples/{other} is run by no test: add it here"),
        }
        let mut command = home.command(&args);
        command.env_remove("TOGETHER_API_KEY").env_remove("TOGETHER_BASE_URL");
        home.finish(command).code(0).says(&["sandbox"]);
        let rows = rows(&home.read("out.jsonl"));
        let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
        assert_eq!(ids, expected_ids(&name, &home.read(&name)), "{name}");
        assert!(rows.iter().all(|row| row.code.is_none() && !row.content().is_empty()), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 4, "the samples that the README speaks of");
}

#[test]
fn first_readme_command_answers_and_summarises() {
    let home = Home::new();
    std::fs::create_dir(home.path("samples")).unwrap();
    home.write("samples/prompts.jsonl", std::fs::read(samples().join("prompts.jsonl")).unwrap());
    let mut command = home.command(&["run", "samples/prompts.jsonl", "--sandbox", "-o", "out.jsonl"]);
    command.env_remove("TOGETHER_API_KEY").env_remove("TOGETHER_BASE_URL");
    let out = home.finish(command).code(0).says(&["20 answered", "cost", "tokens"]);
    assert_eq!(out.stdout, "", "results are in the file, talk is on stderr");
    assert_eq!(rows(&home.read("out.jsonl")).len(), 20);
}

#[test]
fn table_in_gives_table_out() {
    let home = Home::new();
    home.write("reviews.csv", std::fs::read(samples().join("reviews.csv")).unwrap());
    let args =
        ["run", "reviews.csv", "--sandbox", "-m", MODEL, "--prompt", "Sentiment of: {{ text }}", "-o", "out.csv"];
    home.llbatch(&[&args[..], &["--concurrency", "8"]].concat()).code(0);
    let (header, answers) = csv_rows(&home.read("out.csv"), b',');
    let own = ["custom_id", "model", "content", "finish_reason", "prompt_tokens", "completion_tokens"];
    let rest = ["cost_usd", "attempts", "latency_ms", "error"];
    // The record's own fields come first, in their order.
    assert_eq!(header, [&["id", "product", "stars", "text"][..], &own, &rest].concat());
    let (_, records) = csv_rows(&home.read("reviews.csv"), b',');
    assert_eq!(answers.len(), records.len());
    for (answer, record) in answers.iter().zip(&records) {
        assert_eq!(answer[..4], record[..], "the record's own cells, line breaks and quotes included");
        assert_eq!(answer[4], record[0], "its id");
        assert_eq!(answer[5], MODEL);
        let hash = crate::support::paid_hash(&format!("Sentiment of: {}", record[3]));
        assert!(answer[6].contains(&hash), "its own answer: {answer:?}");
        assert_eq!((answer[11].as_str(), answer[13].as_str()), ("1", ""), "one attempt, no error");
    }
}
