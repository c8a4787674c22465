//! Text of a server is never a path, at the service or on this machine.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::service::{ok, service};
use crate::support::side_by_side;
use crate::support::{Home, Recorder, prompts, until};

/// Ids that would lead elsewhere, if they were believed.
fn evil() -> Vec<String> {
    let mut ids: Vec<String> = [
        "../evil",
        "..",
        "/evil",
        "a/../../evil",
        "%2e%2e%2fevil",
        "evil?x=1",
        "evil#x",
        "evil x",
        "-evil",
        "\u{e9}vil",
    ]
    .map(str::to_owned)
    .into();
    ids.push("evil".repeat(2560));
    ids
}

/// A service that gives this id to things of one kind.
fn naming(kind: &'static str, id: &str) -> Recorder {
    let id = id.to_owned();
    service(move |_, line| {
        let named = |what: &str, otherwise: &str| if what == kind { id.clone() } else { otherwise.to_owned() };
        let batch = json!({
            "id": named("batch", "batch-1"), "status": "COMPLETED", "input_file_id": "file-1",
            "output_file_id": named("output", "file-out"), "error_file_id": named("errors", "file-err"),
        });
        match line {
            "POST /v1/files" => {
                let headers = format!("location: /put\r\nx-together-file-id: {}\r\n", named("file", "file-1"));
                Some(("302 Found", headers, String::new()))
            }
            "POST /v1/batches" => Some(("201 Created", String::new(), json!({ "job": batch }).to_string())),
            "GET /v1/batches/batch-1" => Some(ok(&batch.to_string())),
            _ => None,
        }
    })
}

fn files(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        found.insert(entry.path().to_string_lossy().into_owned());
        if entry.path().is_dir() {
            files(&entry.path(), found);
        }
    }
}

#[test]
fn server_ids_never_become_paths() {
    side_by_side(&["file", "batch", "output", "errors"], |kind| {
        for id in evil() {
            let (home, service) = (Home::new(), naming(kind, &id));
            home.write("in.jsonl", prompts(1..=1));
            let args = ["submit", "in.jsonl", "--wait", "-o", "out.jsonl", "--poll", "50ms", "--timeout", "300ms"];
            let mut running = home.start(home.command_at(&service.url, &args));
            // It may keep asking for a while. What it asks for once it has the id is the point.
            let (next, times) = match *kind {
                "file" => ("POST /v1/files ", 2),
                "batch" => ("GET /v1/batches ", 1),
                _ => ("GET /v1/batches/batch-1 ", 2),
            };
            until(next, || service.count(next) >= times || !running.is_running());
            drop(running);
            for request in service.requests() {
                let line = request.head.lines().next().unwrap();
                assert!(
                    !line.contains("evil") && !line.contains("..") && !line.contains("%2e"),
                    "{kind} {id:.40}: {line}"
                );
            }
            let mut found = BTreeSet::new();
            files(&home.path("."), &mut found);
            assert!(!found.iter().any(|name| name.contains("evil")), "{kind} {id:.40}: {found:?}");
        }
    });
}
