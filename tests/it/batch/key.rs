//! The key is in no file below the home, the output of the commands included.

use super::{POLL, ends, fetch, side_by_side, submit};
use crate::support::{Home, KEY, Server, prompts};

#[test]
fn key_is_stored_nowhere() {
    let (home, server) = (Home::new(), Server::quick(&["--content-redirect", "--fault", "status=500,on=row,nth=2"]));
    home.write("in.jsonl", prompts(1..=4));
    let run = |args: &[&str]| home.at(&server.url, &[args, &["-vv"]].concat());
    let id = run(&["submit", "in.jsonl"]).code(0).stdout.trim_end().to_owned();
    run(&["status", "--remote", "--json"]).code(0);
    run(&["wait", &id, "--poll", "50ms"]).code(3);
    fetch(&home, &server, &id, &["--errors", "bad.jsonl", "-vv"]).code(3);
    run(&["retry", &id]).code(0);
    run(&["cancel", &id]).code(0);
    fetch(&home, &server, &id, &["-vv"]);
    assert_eq!(home.files_with(KEY), Vec::<String>::new(), "the key is in these files");
    run(&["clean", &id, "--remote"]).code(0);
    assert_eq!(home.files_with(KEY), Vec::<String>::new(), "the key is in these files");
}

#[test]
fn key_in_batch_results_is_redacted() {
    // The built-in server repeats the model's name in every answer.
    let (home, server) = (Home::new(), Server::quick(&[]));
    let row = |id: &str| format!("{{\"id\":\"{id}\",\"prompt\":\"?\",\"model\":\"org/{KEY}\",\"max_tokens\":5}}\n");
    home.write("in.jsonl", row("a") + &row("b"));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(0);
    assert_eq!(home.read("out.jsonl").matches("\"org/[key]\"").count(), 2, "{}", home.read("out.jsonl"));
    let kept = format!("state/jobs/{id}/batch-1.output.jsonl");
    assert!(!home.read("out.jsonl").contains(KEY) && !home.read(&kept).contains(KEY));
    // A user whose ids contain the key loses no answer.
    home.write("own.jsonl", row(&format!("{KEY}-1")));
    let id = submit(&home, &server, &["own.jsonl"]);
    fetch(&home, &server, &id, &[]).code(0);
    assert_eq!(ends(&home), ["ok"]);
}

#[test]
fn key_repeated_by_the_service_is_stored_nowhere() {
    side_by_side(&["register", "preprocess", "files", "create", "batch", "list", "cancel", "content"], |scope| {
        // Results are downloaded of what ended; only what runs is cancelled.
        let run = if *scope == "content" { "100ms" } else { "1h" };
        let fault = format!("echo-key,on={scope},times=1");
        let (home, server) = (Home::new(), Server::quick(&["--batch-run", run, "--fault", &fault]));
        home.write("in.jsonl", prompts(1..=4));
        let mut refused = 0;
        for args in [
            &["submit", "in.jsonl"][..],
            &["submit", "in.jsonl"],
            &["status", "--remote"],
            &["cancel", "last"],
            &["cancel", "last"],
            &["fetch", "last", "--wait", "-o", "out.jsonl", POLL[0], POLL[1]],
            &["fetch", "last", "--wait", "-o", "out.jsonl", POLL[0], POLL[1]],
        ] {
            let out = home.at(&server.url, &[args, &["-vv"]].concat());
            refused += u32::from(out.code == 4);
        }
        assert!(refused > 0, "{scope}: a 401 is exit 4");
        assert!(home.exists("out.jsonl"), "{scope}: the next command goes on");
        assert_eq!(home.files_with(KEY), Vec::<String>::new(), "{scope}: the key is in these files");
    });
}
