//! `--endpoint rerank`: documents in the order of their relevance to a query.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::{Home, Recorder, Server, codes, csv_rows, lines, rows};

const MODEL: &str = "Salesforce/Llama-Rank-v1";

/// Rows with the ids `r1` to `rN`, each with a query of its own and three documents.
fn questions(count: u32) -> String {
    let mut out = String::new();
    for n in 1..=count {
        let documents = json!([format!("one {n}"), {"title": format!("two {n}")}, "three"]);
        writeln!(out, r#"{{"id":"r{n}","query":"which is {n}?","documents":{documents},"model":"{MODEL}"}}"#).unwrap();
    }
    out
}

fn priced() -> Home {
    let home = Home::new();
    home.config(format!("[models.\"{MODEL}\"]\ninput = 0.1\noutput = 0.1\n"));
    home
}

fn run(home: &Home, url: &str, args: &[&str]) -> crate::support::Out {
    home.at(url, &[&["run", "in.jsonl", "--endpoint", "rerank"], args].concat())
}

#[test]
fn rankings_come_back_with_their_usage_and_their_cost() {
    let (home, server) = (priced(), Server::start(&[]));
    home.write("in.jsonl", questions(20));
    run(&home, &server.url, &["-o", "out.jsonl", "--summary", "s.json"]).code(0);
    assert_eq!((server.bill(), server.paid_again()), (20, 0));
    let results = rows(&home.read("out.jsonl"));
    let usage: u64 = results
        .iter()
        .map(|row| {
            let body = &row.line["response"]["body"];
            assert_eq!((&body["object"], &body["model"]), (&json!("rerank"), &json!(MODEL)));
            let ranks = body["results"].as_array().unwrap();
            let mut indexes: Vec<u64> = ranks.iter().map(|rank| rank["index"].as_u64().unwrap()).collect();
            indexes.sort_unstable();
            assert_eq!(indexes, [0, 1, 2]);
            body["usage"]["prompt_tokens"].as_u64().unwrap()
        })
        .sum();
    let bill = &server.stats()["bill"];
    assert_eq!(bill["prompt_tokens"], usage);
    let summary = home.json("s.json");
    assert_eq!(summary["tokens"]["prompt"], usage);
    assert_eq!((summary["cost"]["usd"].as_f64().unwrap() * 1e9).round() as u64, usage * 100);
    assert_eq!(summary["cost"]["estimated"], false, "{summary}");
}

#[test]
fn flat_results_have_the_list_of_ranks_as_content() {
    let (home, server) = (priced(), Server::start(&[]));
    home.write("in.jsonl", questions(3));
    run(&home, &server.url, &["-o", "out.csv"]).code(0);
    run(&home, &server.url, &["--fresh", "-o", "out.parquet"]).code(0);
    let (header, cells) = csv_rows(&home.read("out.csv"), b',');
    let content = header.iter().position(|name| name == "content").unwrap();
    let best: Value = serde_json::from_str(&cells[0][content]).unwrap();
    assert_eq!(best.as_array().unwrap().len(), 3);
    assert!(best[0]["relevance_score"].as_f64() >= best[1]["relevance_score"].as_f64());
    home.llbatch(&["report", "out.parquet"]).code(0);
}

#[test]
fn budget_holds_for_queries_that_are_read_with_every_document() {
    let (home, server) = (priced(), Server::start(&[]));
    let query = "long ".repeat(400);
    let documents = vec!["d"; 100];
    home.write("in.jsonl", format!("{}\n", json!({"query": query, "documents": documents, "model": MODEL})));
    // 400 tokens for each of 100 documents cost 0.004 USD; the body by itself is a tenth of that.
    let out = run(&home, &server.url, &["--max-cost", "0.001", "-o", "out.jsonl"]);
    assert_eq!((out.code, server.requests()), (5, 0), "{}", out.stderr);
}

#[test]
fn rows_without_a_query_or_documents_are_input_problems_and_batches_are_refused() {
    let (home, server) = (priced(), Server::start(&[]));
    home.write("in.jsonl", lines(&[r#"{"query":"q","model":"a/b"}"#, r#"{"documents":["x"],"model":"a/b"}"#]));
    run(&home, &server.url, &["-o", "out.jsonl"]).code(65).says(&[
        "in.jsonl:1",
        "`documents`",
        "in.jsonl:2",
        "`query`",
    ]);
    home.write("in.jsonl", questions(1));
    home.at(&server.url, &["submit", "in.jsonl", "--endpoint", "rerank"]).code(2).says(&["rerank", "llbatch run"]);
    home.write("t.csv", "query\nq\n");
    home.at(&server.url, &["run", "t.csv", "--endpoint", "rerank", "-m", MODEL]).code(65).says(&["JSONL only"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn answers_that_rank_nothing_fail_their_row() {
    let home = priced();
    home.write("in.jsonl", questions(1));
    for (results, words) in
        [("[]", "no ranked documents"), (r#"[{"index":0}]"#, "no ranked document"), ("7", "neither")]
    {
        let body =
            format!(r#"{{"object":"rerank","results":{results},"usage":{{"prompt_tokens":3,"total_tokens":3}}}}"#);
        let server = Recorder::answering(move |_| ("200 OK", String::new(), body.clone()));
        run(&home, &format!("{}/v1", server.url), &["--fresh", "--retries", "0", "-o", "out.jsonl"]).code(3);
        assert_eq!(codes(&home.read("out.jsonl")), [("r1".to_owned(), "bad_response".to_owned())]);
        assert!(home.read("out.jsonl").contains(words), "{}", home.read("out.jsonl"));
    }
}

#[test]
fn killed_server_and_faults_cost_no_second_ranking() {
    let (home, server) = (priced(), Server::start(&["--fault", "status=503,on=rerank,times=1,every=3"]));
    home.write("in.jsonl", questions(12));
    run(&home, &server.url, &["-o", "out.jsonl"]).code(0);
    assert_eq!((server.bill(), server.paid_again()), (12, 0));
}
