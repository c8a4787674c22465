//! Leaks: prompts and key go to no other place, and the key is stored nowhere.

use super::{before, ends, home};
use crate::support::{Canned, Fault, FaultServer, KEY, Recorder, Server, side_by_side};

fn redirect(code: u16, to: &str) -> Canned {
    Canned::with(code, &[("location", to)])
}

#[test]
fn no_redirect_is_followed_with_a_prompt() {
    side_by_side(&[301, 302, 303, 307, 308], |code| {
        let other = Recorder::start();
        let canned = redirect(*code, &format!("{}/chat/completions", other.url));
        let server = FaultServer::start(move |_| Fault::Instead(canned.clone()));
        let home = home(2);
        let args = ["in.jsonl", "-o", "out.jsonl", "--retries", "1"];
        home.finish(home.run_command(&server.url, &args)).code(3);
        assert_eq!(ends(&home), ["bad_response"; 2]);
        assert_eq!((server.counts().requests, other.requests().len()), (4, 0), "{code}");
    });
}

#[test]
fn no_redirect_is_followed_with_the_key() {
    // Every call but the bytes of files, which may lie elsewhere and get no key.
    let lines = ["POST /v1/batches", "GET /v1/batches", "GET /v1/batches/", "POST /v1/files/"];
    side_by_side(&lines, |line: &&'static str| {
        let line = *line;
        let other = Recorder::start();
        let (sandbox, canned) = (Server::quick(&[]), redirect(307, &format!("{}/elsewhere", other.url)));
        let proxy = FaultServer::before(&sandbox.address(), move |asked| match asked.line {
            // A create whose reply is lost brings the list into play.
            "POST /v1/batches" if line != "POST /v1/batches" && line.ends_with("batches") => Fault::Reset,
            l if l == line || (line.ends_with('/') && l.starts_with(line)) => Fault::Instead(canned.clone()),
            _ => Fault::None,
        });
        let home = home(2);
        let args = ["submit", "in.jsonl", "--wait", "--timeout", "1s", "--poll", "100ms"];
        let mut run = home.start(home.command_at(&proxy.url, &args));
        crate::support::until("a redirect", || proxy.counts().faults.contains_key("instead=307"));
        // Some of these are tried for a while; what matters has been seen then.
        crate::support::until("the end, or another try", || {
            !run.is_running() || proxy.counts().faults["instead=307"] > 1 || line == "POST /v1/batches"
        });
        assert_eq!(other.requests().len(), 0, "{line}");
        drop(run);
        assert!(sandbox.batches().len() <= 1);
    });
}

#[test]
fn redirected_file_is_fetched_without_key_or_referer() {
    let (sandbox, other) = (Server::quick(&[]), Recorder::start());
    let moved = Fault::Instead(redirect(302, &format!("{}/bucket/out?signature=abc", other.url)));
    let proxy = before(&sandbox, &moved, |asked| asked.line.ends_with("/content"));
    let home = home(2);
    home.at(&proxy.url, &["submit", "in.jsonl"]).code(0);
    crate::support::until("the batch's end", || sandbox.batches()[0]["status"] == "COMPLETED");
    // The redirect leads to a file that is no results file.
    home.at(&proxy.url, &["fetch", "last", "--wait", "--timeout", "1s", "-o", "out.jsonl"]).code(75);
    assert!(!home.exists("out.jsonl"));
    let seen = other.requests();
    assert!(!seen.is_empty());
    for request in seen {
        let head = request.head.to_ascii_lowercase();
        assert!(head.starts_with("get /v1/bucket/out?signature=abc "), "{head}");
        assert!(!head.contains("authorization") && !head.contains("referer") && !head.contains(KEY), "{head}");
    }
}

#[test]
fn key_in_an_answer_is_stored_nowhere() {
    let canned = |code: u16, body: &str| Canned { body: body.to_owned(), ..Canned::status(code) };
    let page = Canned { body: "<html><title>{key}</title>".to_owned(), ..Canned::page() };
    let chat = Recorder::chat("\"your {key}\"");
    let answers = [
        canned(400, r#"{"error":{"message":"bad {key}"}}"#),
        canned(500, r#"{"error":"{key}"}"#),
        canned(524, "error at {key}"),
        canned(404, r#"{"message":{"message":"{key}"}}"#),
        canned(200, &chat),
        canned(200, r#"{"choices":[],"x":"{key}"}"#),
        page,
        canned(307, "{key}"),
    ];
    let server = FaultServer::start(move |asked| Fault::Instead(answers[super::number(asked.prompt) - 1].clone()));
    let home = home(8);
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--retries", "1", "-vv"];
    home.finish(home.run_command(&server.url, &args)).code(3);
    home.llbatch(&["report", "last"]);
    home.llbatch(&["status", "--json"]).code(0);
    assert!(home.read("out.jsonl").contains("your Bearer [key]"), "{}", home.read("out.jsonl"));
    assert_eq!(home.files_with(KEY), Vec::<String>::new(), "the key is in these files");
}

#[test]
fn key_in_an_answer_about_a_batch_is_stored_nowhere() {
    let echo = |code: u16, body: &str| Canned { body: body.to_owned(), ..Canned::status(code) };
    let cases = [
        ("POST /v1/batches", echo(400, r#"{"error":"bad {key}"}"#)),
        ("POST /v1/batches", echo(500, r#"{"error":{"message":"{key}"}}"#)),
        ("GET /v1/batches/", echo(403, r#"{"error":"{key}"}"#)),
        ("GET /v1/batches/", echo(200, r#"{"id":"{key}","status":"COMPLETED","error":"{key}"}"#)),
        ("/content", echo(401, "{key}")),
        ("/content", echo(500, r#"{"error":{"message":"{key}"}}"#)),
    ];
    side_by_side(&cases, |(part, canned)| {
        let (server, part) = (Server::quick(&[]), *part);
        let proxy = before(&server, &Fault::Instead(canned.clone()), move |asked| {
            asked.line == part || (part != "POST /v1/batches" && asked.line.contains(part))
        });
        let home = home(2);
        let waiting = ["--wait", "--timeout", "1s", "--poll", "50ms", "-o", "out.jsonl", "-vv"];
        let command = if part == "/content" {
            home.at(&proxy.url, &["submit", "in.jsonl"]).code(0);
            crate::support::until("the batch's end", || server.batches()[0]["status"] == "COMPLETED");
            ["fetch", "last"]
        } else {
            ["submit", "in.jsonl"]
        };
        let out = home.at(&proxy.url, &[&command[..], &waiting].concat());
        assert_ne!(out.code, 0, "{part}: {}", out.stderr);
        assert!(!proxy.counts().faults.is_empty(), "{part}");
        home.llbatch(&["status", "--json", "--offline"]).code(0);
        assert_eq!(home.files_with(KEY), Vec::<String>::new(), "{part}: the key is in these files");
    });
}
