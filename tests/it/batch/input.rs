//! Inputs of `submit`: `fetch` returns each row beside its own answer.

use super::{POLL, fetch, submit};
use crate::support::{Home, MODEL, Server, answered, csv_rows, lines, paid_hash, prompts, rows};

#[test]
fn long_ids_travel_under_another_name() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let (long, edge, wide) = ("l".repeat(65), "e".repeat(64), "ü".repeat(65));
    let all = ["row-2".to_owned(), long, edge, wide, "row-4".to_owned()];
    let line = |(i, id): (usize, &String)| {
        format!(r#"{{"id":"{id}","prompt":"question {}","model":"{MODEL}","max_tokens":16}}"#, i + 1)
    };
    home.write("in.jsonl", all.iter().enumerate().map(line).fold(String::new(), |all, line| all + &line + "\n"));
    let id = submit(&home, &server, &["in.jsonl"]);
    let sent = server.file(&server.batches()[0]["input_file_id"]);
    let sent: Vec<serde_json::Value> = sent.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut wire: Vec<&str> = sent.iter().map(|line| line["custom_id"].as_str().unwrap()).collect();
    assert!(wire.iter().all(|id| id.chars().count() <= 64), "{wire:?}");
    assert_eq!((wire[0], wire[2], wire[4]), ("row-2", all[2].as_str(), "row-4"), "own ids that fit stay");
    wire.sort_unstable();
    wire.dedup();
    assert_eq!(wire.len(), 5, "no two rows travel under one id");
    fetch(&home, &server, &id, &[]).code(0);
    for (i, row) in rows(&home.read("out.jsonl")).iter().enumerate() {
        assert_eq!(row.id, all[i]);
        assert!(row.content().contains(&paid_hash(&format!("question {}", i + 1))), "{}", row.line);
    }
}

#[test]
fn table_comes_back_with_its_own_columns() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,on=row,contains=third"]));
    home.write("in.csv", "id,text,note\na,\"first, with comma\",1\nb,\"second\nline\",2\nc,third,=3\n");
    let args = ["in.csv", "--prompt", "Classify: {{ text }}", "-m", MODEL, "--max-tokens", "16"];
    let id = submit(&home, &server, &args);
    std::fs::remove_file(home.path("in.csv")).unwrap();
    let out = ["fetch", &id, "--wait", "-o", "out.csv", "--errors", "bad.csv"];
    home.at(&server.url, &[&out[..], &POLL].concat()).code(3);
    let (header, found) = csv_rows(&home.read("out.csv"), b',');
    let own = ["text", "note", "custom_id", "model", "content", "finish_reason"];
    assert_eq!(header.iter().filter(|name| own.contains(&name.as_str())).count(), 6, "{header:?}");
    assert_eq!(found.len(), 2);
    let column = |name: &str| header.iter().position(|column| column == name).unwrap();
    for (row, (id, text)) in found.iter().zip([("a", "first, with comma"), ("b", "second\nline")]) {
        assert_eq!((row[column("custom_id")].as_str(), row[column("text")].as_str()), (id, text));
        assert!(row[column("content")].contains(&paid_hash(&format!("Classify: {text}"))), "{row:?}");
        // Half of $0.06 per million tokens.
        assert!(row[column("cost_usd")].parse::<f64>().unwrap() > 0.0, "{row:?}");
        assert_eq!((row[column("model")].as_str(), row[column("error")].as_str()), (MODEL, ""));
    }
    let (_, bad) = csv_rows(&home.read("bad.csv"), b',');
    assert_eq!(bad.len(), 1);
    assert_eq!((bad[0][column("custom_id")].as_str(), bad[0][column("text")].as_str()), ("c", "third"));
    assert!(!bad[0][column("error")].is_empty());
}

#[test]
fn submitted_stdin_is_kept_with_the_job() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let submit = |args: &[&str]| {
        home.write("stdin", prompts(1..=4));
        let mut command = home.command_at(&server.url, &[&["submit", "-"], args].concat());
        command.stdin(std::fs::File::open(home.path("stdin")).unwrap());
        home.start(command).wait().code(0).stdout
    };
    let id = submit(&[]);
    assert_eq!(submit(&[]), id, "the same through the pipe again");
    home.write("same.jsonl", prompts(1..=4));
    assert_eq!(home.at(&server.url, &["submit", "same.jsonl"]).code(0).stdout, id, "and out of a file");
    for name in ["stdin", "same.jsonl"] {
        std::fs::remove_file(home.path(name)).unwrap();
    }
    fetch(&home, &server, id.trim_end(), &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=4);
    assert_eq!(server.batches().len(), 1);
}

#[test]
fn bodies_come_back_as_the_service_wrote_them() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let odd = r#"{"custom_id":"é \"q\"","body":{"model":"M","messages":[{"role":"user","content":"a\u0000é\u00e9\n"}],"x":1E400,"y":{"b":1,"a":-0.0}}}"#
        .replace('M', MODEL);
    home.write("in.jsonl", lines(&[&odd]));
    let id = submit(&home, &server, &["in.jsonl"]);
    assert!(server.file(&server.batches()[0]["input_file_id"]).contains(r#""x":1E400,"y":{"b":1,"a":-0.0}"#));
    fetch(&home, &server, &id, &[]).code(0);
    let text = home.read("out.jsonl");
    assert_eq!(rows(&text)[0].id, "é \"q\"");
    let job = server.ask(&format!("/v1/batches/{}", server.batches()[0]["id"].as_str().unwrap()));
    let answers = server.file(&job["output_file_id"]);
    let (_, body) = text.split_once("\"body\":").unwrap();
    assert!(answers.contains(body.strip_suffix("},\"error\":null}\n").unwrap()), "{text}\n{answers}");
}
