//! Batches whose requests have images of local files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{ends, fetch, submit};
use crate::support::{Home, MODEL, Server};

fn png(content: &str, bytes: usize) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n", content.as_bytes(), &vec![b'.'; bytes]].concat()
}

fn url(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    line["body"]["messages"][0]["content"][1]["image_url"]["url"].as_str().unwrap().to_owned()
}

const TABLE: &str = "id,prompt,photo\n1,look,a.png\n2,question 2,b.png\n3,look,a.png\n";

#[test]
fn lines_of_batch_files_hold_the_images_and_the_job_keeps_none() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=500,on=row,contains=question 2,times=1"]));
    std::fs::create_dir(home.path("data")).unwrap();
    home.write("data/a.png", png("a", 3_000));
    home.write("data/b.png", png("b", 3_000));
    home.write("data/in.csv", TABLE);
    let ask = ["data/in.csv", "--image", "photo", "-m", MODEL];
    home.llbatch(&[&["prepare"], &ask[..], &["-o", "shards"]].concat()).code(0);
    let shard = std::fs::read_dir(home.path("shards")).unwrap().next().unwrap().unwrap().path();
    let shard = std::fs::read_to_string(shard).unwrap();
    let [a, b] = ["a", "b"].map(|name| format!("data:image/png;base64,{}", STANDARD.encode(png(name, 3_000))));
    assert_eq!(shard.lines().map(url).collect::<Vec<_>>(), [a.clone(), b, a.clone()]);

    let id = submit(&home, &server, &ask);
    fetch(&home, &server, &id, &[]).code(3);
    assert_eq!(ends(&home), ["ok", "server_error", "ok"]);
    std::fs::remove_dir_all(home.path("shards")).unwrap();
    assert_eq!(home.files_with(&a[..200]), [""; 0], "the job keeps no image");
    // The kept input has the path as it was typed, and the directory is no longer the same.
    std::fs::create_dir(home.path("elsewhere")).unwrap();
    let mut retry = home.command(&["retry", &id, "--base-url", &server.url]);
    retry.current_dir(home.path("elsewhere"));
    home.finish(retry).code(0);
    fetch(&home, &server, &id, &[]).code(0);
    assert_eq!((server.bill(), server.paid_again()), (3, 1), "two rows have the same text");
}

#[test]
fn bytes_of_images_count_for_the_size_of_a_batch() {
    let home = Home::new();
    home.write("a.png", png("a", 9_900_000));
    home.write("in.csv", format!("prompt,photo\n{}", "look,a.png\n".repeat(8)));
    let ask = ["in.csv", "--image", "photo", "-m", MODEL];
    let check = home.llbatch(&[&["check"], &ask[..], &["--json"]].concat()).code(0);
    assert_eq!(serde_json::from_str::<Value>(&check.stdout).unwrap()["batches"], 2);
    home.llbatch(&[&["prepare"], &ask[..], &["-o", "shards"]].concat()).code(0);
    let sizes: Vec<u64> =
        std::fs::read_dir(home.path("shards")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().all(|bytes| *bytes <= 100_000_000), "{sizes:?}");
}

#[test]
fn bad_images_are_problems_before_anything_is_uploaded() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("a.png", png("a", 10));
    home.write("in.csv", TABLE);
    let ask = ["submit", "in.csv", "--image", "photo", "-m", MODEL];
    home.at(&server.url, &ask).code(65).says(&["in.csv:3: `photo`: ", "b.png does not exist"]);
    assert_eq!((server.batches().len(), server.bill()), (0, 0));
    home.at(&server.url, &[&ask[..], &["--skip-invalid", "--wait", "-o", "out.jsonl"]].concat()).code(3);
    assert_eq!(ends(&home), ["ok", "invalid_request", "ok"]);
}
