//! `llbatch clean`.

use serde_json::{Value, json};

use super::{fetch, status, submit};
use crate::support::{Home, Server, prompts, until};

/// Entries below the state directory's `jobs`.
fn kept(home: &Home) -> usize {
    std::fs::read_dir(home.state().join("jobs")).unwrap().count()
}

fn files(server: &Server) -> usize {
    server.ask("/v1/files")["data"].as_array().unwrap().len()
}

#[test]
fn running_and_unfetched_jobs_are_kept() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "500ms"]));
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl"]);
    home.at(&server.url, &["clean", &id]).code(75).says(&["have not ended"]);
    home.at(&server.url, &["clean", &id, "--force"]).code(75).says(&["have not ended"]);
    until("its end", || server.batches()[0]["status"] == "COMPLETED");
    home.at(&server.url, &["clean", &id]).code(75);
    home.at(&server.url, &["wait", &id, "--poll", "50ms"]).code(0);
    home.at(&server.url, &["clean", &id]).code(75).says(&["llbatch fetch", "--force"]);
    fetch(&home, &server, &id, &[]).code(0);
    home.at(&server.url, &["clean", &id, "--dry-run"]).code(0).says(&["would remove", &id]);
    assert_ne!(kept(&home), 0);
    home.at(&server.url, &["clean", &id]).code(0).says(&["removed", &id]);
    assert_eq!((kept(&home), files(&server)), (0, 2), "the service keeps its files");
    assert_eq!(status(&home, &server, &[])["jobs"], json!([]));
    home.at(&server.url, &["fetch", &id]).code(2);
    // The content can be submitted as if it never had been.
    assert_ne!(submit(&home, &server, &["in.jsonl"]), id);
}

#[test]
fn remote_flag_deletes_the_uploaded_files() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,on=row,contains=question 2"]));
    home.write("in.jsonl", prompts(1..=4));
    let id = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &id, &[]).code(3);
    assert_eq!(files(&server), 3, "input, answers, failures");
    let out = home.at(&server.url, &["clean", &id, "--remote", "--json"]).code(0);
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(document, json!({"version": 1, "removed": [id], "kept": []}));
    assert_eq!((files(&server), kept(&home)), (0, 0));
}

#[test]
fn older_than_removes_only_fetched_jobs() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "0s"]));
    for n in 1..=3 {
        home.write("in.jsonl", prompts(n..=n + 1));
        let id = submit(&home, &server, &["in.jsonl"]);
        if n < 3 {
            fetch(&home, &server, &id, &[]).code(0);
        }
    }
    home.at(&server.url, &["clean", "--older-than", "30d"]).code(0).says(&["nothing to remove"]);
    assert_eq!(status(&home, &server, &["--offline"])["jobs"].as_array().unwrap().len(), 3);
    let just_now = ["clean", "--older-than", "0.001"];
    home.at(&server.url, &just_now).code(0).says(&["removed", "kept"]);
    assert_eq!(
        status(&home, &server, &["--offline"])["jobs"].as_array().unwrap().len(),
        1,
        "the one that was not fetched"
    );
    home.at(&server.url, &["clean"]).code(2);
}

#[test]
fn clean_of_nothing_needs_no_key() {
    let home = Home::new();
    let mut command = home.command(&["clean", "--remote", "--older-than", "30d"]);
    home.finish({
        command.env_remove("TOGETHER_API_KEY");
        command
    })
    .code(0)
    .says(&["nothing to remove"]);
}
