//! A batch that the service shows and no job here knows: its state directory is lost, or lies elsewhere.

use super::{fetch, submit};
use crate::support::{Home, Server, answered, prompts, until};

fn lose_state(home: &Home) {
    std::fs::remove_dir_all(home.state()).unwrap();
}

#[test]
fn live_batch_of_a_lost_state_directory_is_taken_over() {
    let (home, server) = (Home::new(), Server::start(&["--batch-validation", "0s", "--batch-run", "2s"]));
    home.write("in.jsonl", prompts(1..=3));
    submit(&home, &server, &["in.jsonl"]);
    lose_state(&home);
    let out = home.at(&server.url, &["submit", "in.jsonl"]).code(0);
    let job = out.stdout.trim_end().to_owned();
    drop(out.says(&["already has these rows in batch", "--again creates another"]));
    assert_eq!(server.batches().len(), 1);
    fetch(&home, &server, &job, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.batches().len(), server.paid_again()), (1, 0));
}

#[test]
fn completed_batch_of_a_lost_state_directory_is_taken_over_unless_again_is_given() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=3));
    submit(&home, &server, &["in.jsonl"]);
    until("the batch's end", || server.batches()[0]["status"] == "COMPLETED");
    lose_state(&home);
    let job = submit(&home, &server, &["in.jsonl"]);
    fetch(&home, &server, &job, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.batches().len(), server.paid_again()), (1, 0));
    // A job here owns it now, so the same content is a new order.
    submit(&home, &server, &["in.jsonl"]);
    assert_eq!(server.batches().len(), 2);
    lose_state(&home);
    submit(&home, &server, &["in.jsonl", "--again"]);
    assert_eq!(server.batches().len(), 3);
}

#[test]
fn cancelled_batch_is_not_taken_over() {
    let (home, server) =
        (Home::new(), Server::start(&["--batch-validation", "0s", "--batch-run", "600s", "--batch-cancel", "0s"]));
    home.write("in.jsonl", prompts(1..=3));
    let job = submit(&home, &server, &["in.jsonl"]);
    home.at(&server.url, &["cancel", &job]).code(0);
    lose_state(&home);
    submit(&home, &server, &["in.jsonl"]);
    assert_eq!(server.batches().len(), 2);
}
