//! Result files with missing, duplicate, contradictory, foreign and invalid lines.

use super::{ends, fetch, side_by_side, submit};
use crate::support::{Home, Server, answered, codes, prompts, rows};

#[test]
fn strange_lines_cost_only_their_own_rows() {
    let cases = [
        ("missing", 3, "missing", "without a result"),
        ("duplicate", 0, "ok", ""),
        ("conflict", 76, "ok", "two different answers"),
        ("foreign", 76, "ok", "not in the batch"),
        ("garble", 76, "", "1 invalid line"),
    ];
    side_by_side(&cases, |&(fault, code, second, say)| {
        let (home, server) = (Home::new(), Server::quick(&["--fault", &format!("{fault},on=row,contains=question 2")]));
        home.write("in.jsonl", prompts(1..=5));
        let id = submit(&home, &server, &["in.jsonl"]);
        fetch(&home, &server, &id, &[]).code(code).says(&[say]);
        let file = if code == 76 { "out.jsonl.partial" } else { "out.jsonl" };
        let seen = codes(&home.read(file));
        assert_eq!(seen.len(), 5, "{fault}");
        if !second.is_empty() {
            assert_eq!(seen[1].1, second, "{fault}");
        }
        for row in [0, 2, 3, 4] {
            assert_eq!(seen[row].1, "ok", "{fault}");
        }
        assert_eq!(home.json("s.json")["exit"]["code"], code, "{fault}");
        // The same, bytes and verdict, without asking anybody.
        let first = home.read(file);
        fetch(&home, &server, &id, &[]).code(code);
        assert_eq!(home.read(file), first, "{fault}");
        home.at(&server.url, &["wait", &id]).code(code);
    });
}

#[test]
fn failed_rows_are_read_in_every_shape() {
    side_by_side(&["string", "object", "empty"], |&shape| {
        let fault = format!("status=422,on=row,contains=question 2,shape={shape}");
        let (home, server) = (Home::new(), Server::quick(&["--fault", &fault]));
        home.write("in.jsonl", prompts(1..=3));
        let id = submit(&home, &server, &["in.jsonl"]);
        fetch(&home, &server, &id, &[]).code(3);
        let seen = rows(&home.read("out.jsonl"));
        assert_eq!((seen[0].code.as_deref(), seen[2].code.as_deref()), (None, None), "{shape}");
        assert!(seen[1].code.is_some() && !seen[1].line["error"]["message"].as_str().unwrap().is_empty(), "{shape}");
        if shape == "string" {
            assert_eq!(seen[1].code.as_deref(), Some("invalid_request"));
        }
    });
}

#[test]
fn missing_rows_are_answered_by_a_retry() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "missing,on=row,contains=question 2,times=1"]));
    home.write("in.jsonl", prompts(1..=3));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(3);
    assert_eq!(ends(&home), ["ok", "missing", "ok"]);
    home.at(&server.url, &["retry", &id]).code(0);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!(server.batches()[1]["rows"], 1);
}
