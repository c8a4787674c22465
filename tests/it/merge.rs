//! `llbatch merge`: results of shards, put together.

use serde_json::Value;

use crate::support::{Home, MODEL, Server, codes, csv_rows, rows};

/// Prompts without ids, of which the fourth is no JSON.
fn input(rows: u32) -> String {
    let line = |n: u32| match n {
        4 => "no JSON\n".to_owned(),
        _ => format!("{{\"text\":\"t, {n}\",\"prompt\":\"text {n}\",\"model\":\"{MODEL}\"}}\n"),
    };
    (1..=rows).map(line).collect()
}

/// Answers `in.jsonl` in shards. Returns the parts, the last one first.
fn shards(home: &Home, server: &Server, count: u32, ending: &str, flags: &[&str]) -> Vec<String> {
    let parts = (1..=count).rev().map(|index| {
        let (shard, part) = (format!("{index}/{count}"), format!("part-{index}.{ending}"));
        let summary = format!("summary-{index}.json");
        let run = ["run", "in.jsonl", "--shard", &shard, "-o", &part, "--skip-invalid", "--summary", &summary];
        let out = home.at(&server.url, &[&run[..], flags].concat());
        assert!(matches!(out.code, 0 | 3), "{}", out.stderr);
        part
    });
    parts.collect()
}

fn merge(home: &Home, parts: &[String], flags: &[&str]) -> crate::support::Out {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    home.llbatch(&[&["merge", "in.jsonl"], &parts[..], flags].concat())
}

/// Results without the times and the ids that differ from run to run.
fn lasting(results: &str) -> String {
    let mut text = String::new();
    for line in results.lines() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if let Some(body) = line.pointer_mut("/response/body").and_then(Value::as_object_mut) {
            body.remove("id");
            body.remove("created");
        }
        if let Some(flat) = line.as_object_mut().filter(|flat| flat.contains_key("latency_ms")) {
            flat.remove("latency_ms");
        }
        text.push_str(&line.to_string());
        text.push('\n');
    }
    text
}

#[test]
fn merged_shards_are_the_results_of_one_run() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", input(11));
    for (ending, flags) in [("jsonl", &[][..]), ("jsonl", &["--flat"])] {
        home.run(&server, &[&["in.jsonl", "-o", "whole.jsonl", "--skip-invalid", "--fresh"], flags].concat()).code(3);
        let parts = shards(&home, &server, 3, ending, &[flags, &["--fresh"]].concat());
        let out = merge(&home, &parts, &["-o", "out.jsonl"]).code(3);
        out.says(&["10 answered", "1 failed", "invalid_request", "→ out.jsonl"]);
        assert_eq!(lasting(&home.read("out.jsonl")), lasting(&home.read("whole.jsonl")));
        let streamed = merge(&home, &parts, &[]).code(3);
        assert_eq!(streamed.stdout, home.read("out.jsonl"), "standard output gets the same");
    }
    let parts = shards(&home, &server, 3, "csv", &["--fresh"]);
    home.run(&server, &["in.jsonl", "-o", "whole.csv", "--skip-invalid", "--fresh"]).code(3);
    merge(&home, &parts, &["-o", "out.csv", "--errors", "bad.csv"]).code(3);
    let (header, whole) = csv_rows(&home.read("whole.csv"), b',');
    let latency = header.iter().position(|name| name == "latency_ms").unwrap();
    let without = |rows: Vec<Vec<String>>| -> Vec<Vec<String>> {
        rows.into_iter().map(|row| [&row[..latency], &row[latency + 1..]].concat()).collect()
    };
    let (good, bad) = (csv_rows(&home.read("out.csv"), b','), csv_rows(&home.read("bad.csv"), b','));
    assert_eq!((&good.0, &bad.0), (&header, &header));
    let mut all = without(whole);
    assert_eq!(without(bad.1), [all.remove(3)]);
    assert_eq!(without(good.1), all);
    // A table in another format, and as lines: the records come from the input.
    merge(&home, &parts, &["-o", "out.tsv"]).code(3);
    let tsv = csv_rows(&home.read("out.tsv"), b'\t');
    assert_eq!((&tsv.0, tsv.1.len()), (&header, 11));
    let whole = home.read("whole.csv");
    home.write("mixed.csv", whole.split_inclusive('\n').take(2).collect::<String>());
    home.run(&server, &["in.jsonl", "--limit", "2", "-o", "two.jsonl", "--fresh"]).code(0);
    home.llbatch(&["merge", "in.jsonl", "mixed.csv", "two.jsonl", "--limit", "2", "-o", "two.csv"]).code(0);
    let (_, two) = csv_rows(&home.read("two.csv"), b',');
    assert_eq!(two.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["t, 1", "t, 2"]);
    home.llbatch(&["merge", "in.jsonl", "mixed.csv", "--limit", "1", "--format", "jsonl"]).code(0);
    home.llbatch(&["merge", "in.jsonl", "two.jsonl", "mixed.csv", "--limit", "2"])
        .code(2)
        .says(&["mixed.csv holds columns"]);
}

#[test]
fn rows_that_no_part_has_are_missing_and_the_part_is_named() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", input(3) + &input(9).split_inclusive('\n').skip(4).collect::<String>());
    let mut parts = shards(&home, &server, 2, "csv", &[]);
    let whole = home.read("part-1.csv");
    home.write("part-1.csv", &whole[..whole.len() - 3]);
    let out = merge(&home, &parts, &["-o", "out.csv", "--json"]).code(3);
    out.says(&["part-1.csv:5: the file ends within this line", "part-1.csv, shard 1/2, lacks 1 row (row 7)"]);
    let (header, found) = csv_rows(&home.read("out.csv"), b',');
    assert_eq!((found.len(), found[6].len()), (8, header.len()));
    assert_eq!((found[6][0].as_str(), found[6][3].as_str()), ("t, 8", "row-7"));
    assert_eq!(found[6][header.len() - 1], "missing: no part has this row");
    parts.remove(0);
    merge(&home, &parts, &["-o", "out.csv", "--tolerate-failures"])
        .code(0)
        .says(&["no part has rows of shard 2/2: 4 rows (row 2, 4, 6 …)", "5 missing"]);
    // Parts that contradict each other, or the input, leave the results as they are.
    let before = home.read("out.csv");
    home.write("part-3.csv", home.read("part-1.csv").replace("part", "other").replace("row-3", "row-30"));
    merge(&home, &["part-3.csv".to_owned()], &["-o", "out.csv"]).code(76).says(&["\"row-30\" that the input lacks"]);
    assert_eq!(home.read("out.csv"), before);
    merge(&home, &["in.jsonl".to_owned()], &["-o", "out.jsonl"]).code(65).says(&["in.jsonl:1: not a result"]);
    merge(&home, &["none.csv".to_owned()], &["-o", "out.csv"]).code(66);
    merge(&home, &["part-1.csv".to_owned(), "./part-1.csv".to_owned()], &[]).code(2).says(&["named twice"]);
    merge(&home, &parts, &["-o", "part-1.csv"]).code(2);
}

#[test]
fn figures_are_those_of_the_parts_added_up() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", input(9));
    let parts = shards(&home, &server, 4, "csv", &["--max-tokens", "7"]);
    let summaries: Vec<String> = (1..=4).map(|n| format!("summary-{n}.json")).collect();
    let names: Vec<&str> = summaries.iter().map(String::as_str).collect();
    let flags = [&["-o", "out.csv", "--summary", "all.json", "--part-summaries"], &names[..]].concat();
    merge(&home, &parts, &flags).code(3);
    let added = home.json("all.json");
    merge(&home, &parts, &["-o", "out.csv", "--summary", "rows.json"]).code(3);
    let of_rows = home.json("rows.json");
    assert_eq!((&added["from"], &of_rows["from"]), (&"summaries".into(), &"rows".into()));
    let nanos = |document: &Value| -> u64 {
        format!("{:.0}", document["cost"]["usd"].as_f64().unwrap() * 1e9).parse().unwrap()
    };
    let each: Vec<Value> = names.iter().map(|name| home.json(name)).collect();
    assert_eq!(nanos(&added), each.iter().map(nanos).sum::<u64>());
    assert_eq!(added["http"]["sent"], 8);
    for path in ["/cost/usd", "/tokens", "/rows/succeeded", "/rows/failed", "/rows/total", "/errors"] {
        assert_eq!(added.pointer(path), of_rows.pointer(path), "{path}");
    }
    assert_eq!(added["parts"].as_array().unwrap().len(), 4);
    assert_eq!(added["parts"][0], serde_json::json!({"part": "part-4.csv", "rows": 2, "succeeded": 1, "failed": 1}));
    merge(&home, &parts, &["-o", "out.csv", "--part-summaries", "summary-1.json"])
        .code(3)
        .says(&["the summaries are of 3 rows"]);
    merge(&home, &parts, &["-o", "out.csv", "--part-summaries", "in.jsonl"]).code(65);
    // A report reads the parts as the whole.
    let report = |files: &[&str]| -> Value {
        let out = home.llbatch(&[&["report", "--json"], files].concat()).code(0);
        let mut report: Value = serde_json::from_str(&out.stdout).unwrap();
        report["details"]["source"] = Value::Null;
        report
    };
    let (whole, of_parts) = (report(&["out.csv"]), report(&parts.iter().map(String::as_str).collect::<Vec<_>>()));
    for path in ["/rows", "/tokens", "/cost", "/models", "/latency_ms"] {
        assert_eq!(whole.pointer(path), of_parts.pointer(path), "{path}");
    }
}

#[test]
fn later_answers_of_failed_rows_and_parts_in_another_order_are_found() {
    let (home, server) = (Home::new(), Server::start(&["--fault", "status=400,contains=text 2"]));
    home.write("in.jsonl", input(3) + &input(9).split_inclusive('\n').skip(4).collect::<String>());
    home.run(&server, &["in.jsonl", "-o", "first.jsonl", "--fresh"]).code(3);
    let failed = codes(&home.read("first.jsonl")).iter().filter(|(_, code)| code != "ok").count();
    assert!(failed > 0);
    let server = Server::start(&[]);
    home.run(&server, &["in.jsonl", "-o", "second.jsonl", "--resume"]).code(0);
    // In reverse, and packed.
    let second = home.read("second.jsonl");
    let reversed: String = second.split_inclusive('\n').rev().collect();
    home.write("second.jsonl.zst", zstd::encode_all(reversed.as_bytes(), 1).unwrap());
    let parts = ["first.jsonl".to_owned(), "second.jsonl.zst".to_owned()];
    merge(&home, &parts, &["-o", "out.jsonl"]).code(0);
    assert_eq!(home.read("out.jsonl"), second);
    assert_eq!(rows(&second).len(), 8);
    let streamed = merge(&home, &parts, &[]).code(0);
    assert_eq!(streamed.stdout, second);
}

#[test]
fn rows_with_a_repeated_id_keep_their_own_records_and_ends() {
    let (home, server) = (Home::new(), Server::start(&["--fault", "status=400,contains=bad,times=always"]));
    home.write("in.csv", "custom_id,prompt\na,bad one\na,two\nb,three\n");
    for ending in ["csv", "jsonl", "parquet"] {
        let run = |args: &[&str]| {
            let all = [&["run", "in.csv", "-m", MODEL, "--skip-invalid", "--fresh", "--flat"], args].concat();
            home.at(&server.url, &all).code(3);
        };
        let [one, two, out] = ["one", "two", "out"].map(|name| format!("{name}.{ending}"));
        run(&["--shard", "1/2", "-o", &one]);
        run(&["--shard", "2/2", "-o", &two]);
        run(&["-o", "whole.csv"]);
        for parts in [[&two, &one], [&one, &two]] {
            home.llbatch(&["merge", "in.csv", parts[0], parts[1], "--flat", "-o", &out]).code(3);
            home.llbatch(&["merge", "in.csv", &out, "-o", "again.csv"]).code(3);
            let shown = |name: &str| -> Vec<[String; 3]> {
                let (columns, rows) = csv_rows(&home.read(name), b',');
                let of = |row: &Vec<String>, name| row[columns.iter().position(|own| own == name).unwrap()].clone();
                rows.iter().map(|row| [of(row, "custom_id"), of(row, "prompt"), of(row, "error")]).collect()
            };
            assert_eq!(shown("again.csv"), shown("whole.csv"), "{parts:?}");
        }
    }
    // Each part has one of two rows, and neither says which.
    home.write("in.csv", "custom_id,prompt\na,one\na,two\na,three\n");
    for shard in ["1/2", "2/2"] {
        let out = format!("{}.csv", &shard[..1]);
        let args = ["run", "in.csv", "-m", MODEL, "--skip-invalid", "--fresh", "--shard", shard, "-o", &out];
        home.at(&server.url, &args).code(3);
    }
    home.llbatch(&["merge", "in.csv", "1.csv", "2.csv", "-o", "out.csv"]).code(65).says(&[
        "\"a\"",
        "several rows",
        "jsonl",
    ]);
}
