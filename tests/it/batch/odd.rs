//! Replies that the sandbox never gives: statuses, shapes and lists that a service may send all the same.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{POLL, ends, side_by_side};
use crate::support::{Canned, Fault, FaultServer, Home, Out, Recorder, Server, prompts, request, rows};

pub(super) const ID: &str = "b-odd-00000001";

/// A service that answers `script(REQUEST LINE WITHOUT VERSION, how often it came before)`, or what is usual.
pub(super) fn service(
    script: impl Fn(&str, usize) -> Option<(&'static str, Value)> + Send + Sync + 'static,
) -> Recorder {
    let asked = [(); 4].map(|()| AtomicUsize::new(0));
    Recorder::answering(move |request| {
        let line = request.head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        let kinds = [&format!("GET /v1/batches/{ID}")[..], "GET /v1/batches", "POST /v1/batches"];
        let kind = kinds.iter().position(|kind| *kind == line).unwrap_or(3);
        let before = asked[kind].fetch_add(1, Ordering::Relaxed);
        if let Some((status, body)) = script(&line, before) {
            let text = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
            return (status, String::new(), text);
        }
        let file = |id: &str| json!({"id": id}).to_string();
        let head = "location: /put\r\nx-together-file-id: file-in\r\n".to_owned();
        match line.as_str() {
            "POST /v1/files" => ("302 Found", head, String::new()),
            "PUT /put" => ("200 OK", String::new(), String::new()),
            "POST /v1/batches" => ("201 Created", String::new(), json!({"job": batch("VALIDATING")}).to_string()),
            "GET /v1/batches" => ("200 OK", String::new(), "null".to_owned()),
            "GET /v1/files/file-out/content" => ("200 OK", String::new(), answers(&["q1", "q2", "q3"])),
            "GET /v1/files/file-out" => ("200 OK", String::new(), file("file-out")),
            line if line.contains("file-in") => ("200 OK", String::new(), file("file-in")),
            _ => ("200 OK", String::new(), batch("COMPLETED").to_string()),
        }
    })
}

pub(super) fn batch(status: &str) -> Value {
    let output = if status == "COMPLETED" { json!("file-out") } else { json!(null) };
    json!({"id": ID, "status": status, "input_file_id": "file-in", "output_file_id": output})
}

/// Lines of an output file.
pub(super) fn answers(ids: &[&str]) -> String {
    ids.iter().fold(String::new(), |all, id| {
        let chat = Recorder::chat(&format!("\"{id}\""));
        all + &format!("{{\"custom_id\":\"{id}\",\"response\":{{\"status_code\":200,\"body\":{chat}}}}}\n")
    })
}

/// The whole of it: `submit --wait` of three rows.
pub(super) fn night(home: &Home, service: &Recorder) -> Out {
    night_of("30s", home, service)
}

/// The same within `timeout`.
fn night_of(timeout: &str, home: &Home, service: &Recorder) -> Out {
    home.write("in.jsonl", prompts(1..=3));
    let args = ["submit", "in.jsonl", "--wait", "--timeout", timeout, "-o", "out.jsonl"];
    home.at(&service.url, &[&args[..], &POLL].concat())
}

#[test]
fn unknown_status_is_not_an_end() {
    let words = ["QUEUED", "validating", "", "FINALIZING", "completed"];
    let service = service(move |line, before| {
        let word = words[before.min(4)];
        let mut batch = batch(&word.to_uppercase());
        batch["status"] = json!(word);
        (line == format!("GET /v1/batches/{ID}")).then_some(("200 OK", batch))
    });
    let home = Home::new();
    night(&home, &service).code(0).says(&["QUEUED", "FINALIZING", "COMPLETED"]);
    assert_eq!(ends(&home), ["ok"; 3]);
    assert!(rows(&home.read("out.jsonl")).iter().all(|row| row.content() == row.id));
    assert_eq!(service.count("POST /v1/batches "), 1);
}

#[test]
fn null_empty_or_mistyped_fields_are_ignored() {
    for nothing in [json!(null), json!(""), json!({}), json!([])] {
        let service = service(move |line, before| {
            let mut batch = batch(if before > 0 { "COMPLETED" } else { "IN_PROGRESS" });
            for name in ["error_file_id", "error", "progress", "job_deadline", "completed_at", "model_id"] {
                batch[name] = nothing.clone();
            }
            (line == format!("GET /v1/batches/{ID}")).then_some(("200 OK", batch))
        });
        let home = Home::new();
        night(&home, &service).code(0);
        assert_eq!(ends(&home), ["ok"; 3]);
    }
}

#[test]
fn errors_are_read_in_any_shape() {
    for error in [
        json!("no quota"),
        json!({"message": "no quota", "code": "quota"}),
        json!({"error": {"message": "no quota"}}),
        json!([{"message": "no quota", "line": 3}]),
    ] {
        let sent = error.clone();
        let service = service(move |line, _| {
            let mut batch = batch("FAILED");
            batch["error"] = error.clone();
            (line == format!("GET /v1/batches/{ID}")).then_some(("200 OK", batch))
        });
        let home = Home::new();
        night(&home, &service).code(3);
        for row in rows(&home.read("out.jsonl")) {
            let message = row.line["error"]["message"].as_str().unwrap();
            assert!(message.contains("no quota"), "{sent}: {message}");
        }
    }
}

#[test]
fn created_batch_is_read_bare_or_wrapped() {
    let bare = |line: &str, _| (line == "POST /v1/batches").then(|| ("201 Created", batch("VALIDATING")));
    let home = Home::new();
    night(&home, &service(bare)).code(0);
    let ok = |line: &str, _| {
        (line == "POST /v1/batches").then(|| ("200 OK", json!({"job": batch("IN_PROGRESS"), "warning": "slow today"})))
    };
    let home = Home::new();
    night(&home, &service(ok)).code(0).says(&["slow today"]);
}

#[test]
fn empty_list_is_believed_only_after_the_settle_time() {
    let service = service(|line, before| {
        (line == "POST /v1/batches" && before == 0).then(|| ("500 Internal Server Error", json!({"error": "oh"})))
    });
    let home = Home::new();
    std::fs::create_dir_all(home.path("home/config/llbatch")).unwrap();
    home.write("home/config/llbatch/config.toml", "[submit]\nsettle_after = \"500ms\"\n");
    night(&home, &service).code(0);
    assert_eq!(ends(&home), ["ok"; 3]);
    assert_eq!(service.count("POST /v1/batches "), 2);
}

#[test]
fn unreadable_list_never_settles_a_create() {
    side_by_side(&[json!([{"status": "VALIDATING"}]), json!("<html>"), json!({"error": "no"}), json!([1])], |list| {
        let (shown, list) = (list, list.clone());
        let service = service(move |line, _| match line {
            "POST /v1/batches" => Some(("500 Internal Server Error", json!({"error": "oh"}))),
            "GET /v1/batches" => Some(("200 OK", list.clone())),
            _ => None,
        });
        let home = Home::new();
        std::fs::create_dir_all(home.path("home/config/llbatch")).unwrap();
        home.write("home/config/llbatch/config.toml", "[submit]\nsettle_after = \"100ms\"\n");
        night_of("1s", &home, &service).code(75);
        assert_eq!(service.count("POST /v1/batches "), 1, "{shown}");
        assert!(!home.exists("out.jsonl"));
    });
}

#[test]
fn batch_unknown_for_a_while_is_not_given_up() {
    let service = service(|line, before| {
        (line == format!("GET /v1/batches/{ID}") && before < 5)
            .then(|| ("404 Not Found", json!({"error": {"message": "none"}})))
    });
    let home = Home::new();
    night(&home, &service).code(0);
    assert_eq!(ends(&home), ["ok"; 3]);
    assert_eq!(service.count("POST /v1/batches "), 1);
}

#[test]
fn files_may_end_without_a_line_feed_and_hold_blank_lines() {
    let text = format!("\r\n{}\n\n", answers(&["q3", "q1", "q2"]).replace('\n', "\r\n").trim_end());
    for text in [text.clone(), text.trim_end().to_owned()] {
        let service =
            service(move |line, _| (line == "GET /v1/files/file-out/content").then(|| ("200 OK", json!(text))));
        let home = Home::new();
        night(&home, &service).code(0);
        assert!(rows(&home.read("out.jsonl")).iter().all(|row| row.content() == row.id));
    }
}

#[test]
fn hostile_ids_never_become_paths() {
    let evil = |line: &str, _| {
        (line == "POST /v1/batches")
            .then(|| ("201 Created", json!({"job": {"id": "../files/x", "status": "COMPLETED"}})))
    };
    let (home, service) = (Home::new(), service(evil));
    night_of("1s", &home, &service).code(75);
    assert!(service.requests().iter().all(|request| !request.head.contains("..")));
}

/// The server's own answer to this GET, changed.
fn changed(address: &str, path: &str, change: impl FnOnce(&mut Value)) -> Fault {
    let mut body = request(address, "GET", path, "authorization: Bearer any\r\n", "").json();
    change(&mut body);
    Fault::Instead(Canned { status: "200 OK".into(), headers: String::new(), body: body.to_string() })
}

#[test]
fn rows_cut_off_an_expired_batch_without_any_length_are_at_risk() {
    for cut in [true, false] {
        let server = Server::quick(&["--expires-at", "0.5"]);
        let address = server.address();
        let front = FaultServer::before(&server.address(), move |asked| {
            let Some(path) = asked.line.strip_prefix("GET ").filter(|path| path.starts_with("/v1/files/")) else {
                return Fault::None;
            };
            match path.ends_with("/content") {
                true if cut => Fault::EofLines,
                false if cut => changed(&address, path, |file| _ = file.as_object_mut().unwrap().remove("bytes")),
                _ => Fault::None,
            }
        });
        let home = Home::new();
        home.write("in.jsonl", prompts(1..=12));
        // The upload needs no length either.
        let args = ["submit", "in.jsonl", "--wait", "-o", "out.jsonl", "--summary", "s.json"];
        let out = home.at(&front.url, &[&args[..], &POLL].concat()).code(3);
        let risk = home.json("s.json")["cost"]["at_risk_usd"].as_f64().unwrap();
        let answered = home.json("s.json")["rows"]["succeeded"].as_u64().unwrap();
        if cut {
            assert!(answered < 6 && risk > 0.0, "{answered} answered, {risk} at risk");
            out.says(&["rows without a result, and the service gave no length", "llbatch retry"]);
        } else {
            assert!(answered == 6 && risk == 0.0, "{answered} answered, {risk} at risk");
            out.says(&["6 rows without a result; `llbatch retry`"]);
        }
    }
}

#[test]
fn foreign_figures_are_shown_within_their_bounds_or_not_at_all() {
    let server = Server::quick(&["--batch-run", "400ms"]);
    let address = server.address();
    let front = FaultServer::before(&server.address(), move |asked| {
        let batch = asked.line.strip_prefix("GET ").filter(|path| path.starts_with("/v1/batches/"));
        batch.map_or(Fault::None, |path| {
            changed(&address, path, |batch| {
                let ended = batch["status"] == "COMPLETED";
                batch["progress"] = if ended { (-5).into() } else { 120.into() };
                if ended {
                    batch["error_file_id"] = "file-nor-this".into();
                }
            })
        })
    });
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2));
    let args = ["submit", "in.jsonl", "--wait", "--timeout", "3s", "-o", "out.jsonl", "-v"];
    let out = home.at(&front.url, &[&args[..], &POLL].concat());
    assert!(!out.stderr.contains("120%") && !out.stderr.contains("-5%"), "{}", out.stderr);
    assert!(!out.stderr.contains("any more") && !out.stderr.contains("no longer"), "{}", out.stderr);
    let shown = home.at(&front.url, &["status", "last", "--json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let progress = shown["jobs"][0]["batches"][0]["progress"].as_f64();
    assert!(progress.is_none_or(|percent| (0.0..=100.0).contains(&percent)), "{shown}");
}
