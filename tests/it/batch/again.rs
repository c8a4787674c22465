//! Submitting the same content again: it is the same job while that job is active.

use super::{fetch, status, submit};
use crate::support::{Home, Server, answered, prompts};

#[test]
fn same_content_is_the_same_active_job() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=3));
    let id = submit(&home, &server, &["in.jsonl"]);
    // By its content, whatever the file is called and however its lines end.
    home.write("other.jsonl", prompts(1..=3).replace('\n', "\r\n"));
    for name in ["in.jsonl", "other.jsonl"] {
        let out = home.at(&server.url, &["submit", name]).code(0);
        assert_eq!(out.stdout, format!("{id}\n"));
        drop(out.says(&[&id, "already", "--again"]));
    }
    assert_eq!(server.batches().len(), 1);
    // Another order, or another row, is other content.
    home.write("other.jsonl", prompts(1..=3).lines().rev().fold(String::new(), |all, line| all + line + "\n"));
    assert_ne!(submit(&home, &server, &["other.jsonl"]), id);
    home.write("other.jsonl", prompts(1..=4));
    assert_ne!(submit(&home, &server, &["other.jsonl"]), id);
    // So are other flags.
    assert_ne!(submit(&home, &server, &["in.jsonl", "--temperature", "0.5"]), id);
    assert_eq!(server.batches().len(), 4);
}

#[test]
fn finished_job_stays_active_until_it_is_fetched() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=3));
    let id = submit(&home, &server, &["in.jsonl"]);
    home.at(&server.url, &["wait", &id, "--poll", "50ms"]).code(0);
    assert_eq!(submit(&home, &server, &["in.jsonl"]), id, "paid for, and not looked at");
    let wait = ["submit", "in.jsonl", "--wait", "--poll", "50ms", "-o", "wait.jsonl"];
    assert_eq!(home.at(&server.url, &wait).code(0).stdout, format!("{id}\n"));
    answered(&home.read("wait.jsonl"), 1..=3);
    assert_eq!(server.batches().len(), 1);
    let second = submit(&home, &server, &["in.jsonl"]);
    assert_ne!(second, id);
    home.at(&server.url, &["wait", &second, "--poll", "50ms"]).code(0);
    fetch(&home, &server, &id, &[]).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!((server.batches().len(), server.paid_again()), (2, 3));
}

#[test]
fn again_flag_makes_a_second_job() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=3));
    let first = submit(&home, &server, &["in.jsonl"]);
    let second = submit(&home, &server, &["in.jsonl", "--again"]);
    assert_ne!(first, second);
    let batches = |job: &str| status(&home, &server, &[job])["jobs"][0]["batches"][0]["id"].clone();
    assert_ne!(batches(&first), batches(&second), "each has a batch of its own");
    for job in [&first, &second] {
        fetch(&home, &server, job, &[]).code(0);
        answered(&home.read("out.jsonl"), 1..=3);
    }
    assert_eq!((server.batches().len(), server.paid_again()), (2, 3));
}

#[test]
fn older_active_job_survives_a_newer_fetched_one() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=3));
    let first = submit(&home, &server, &["in.jsonl"]);
    let second = submit(&home, &server, &["in.jsonl", "--again"]);
    fetch(&home, &server, &second, &[]).code(0);
    assert_eq!(submit(&home, &server, &["in.jsonl"]), first, "its answers are still to be taken");
    assert_eq!(server.batches().len(), 2);
}

#[test]
fn two_submits_at_once_make_one_job() {
    let (home, server) = (Home::new(), Server::quick(&["--latency", "50ms"]));
    home.write("in.jsonl", prompts(1..=30));
    let started: Vec<_> = (0..4).map(|_| home.start(home.command_at(&server.url, &["submit", "in.jsonl"]))).collect();
    let ended: Vec<_> = started.into_iter().map(crate::support::Running::wait).collect();
    let id = submit(&home, &server, &["in.jsonl"]);
    for out in &ended {
        match out.code {
            0 => assert_eq!(out.stdout, format!("{id}\n")),
            75 => assert!(out.stderr.contains("another llbatch"), "{}", out.stderr),
            code => panic!("{code}: {}", out.stderr),
        }
    }
    assert!(ended.iter().any(|out| out.code == 0));
    assert_eq!(server.batches().len(), 1);
    assert_eq!(status(&home, &server, &[])["jobs"].as_array().unwrap().len(), 1);
}

#[test]
fn overlapping_cron_jobs_pay_once() {
    let (home, server) = (Home::new(), Server::quick(&["--batch-run", "2s"]));
    home.write("in.jsonl", prompts(1..=5));
    let start = |n: u32| {
        let out = format!("out-{n}.jsonl");
        home.start(home.command_at(&server.url, &["submit", "in.jsonl", "--wait", "--poll", "50ms", "-o", &out]))
    };
    let first = start(1);
    crate::support::until("the batch", || server.batches().len() == 1);
    // Both wait for the one job, and both write its results.
    start(2).wait().code(0).says(&["nothing is sent again"]);
    first.wait().code(0);
    for out in ["out-1.jsonl", "out-2.jsonl"] {
        answered(&home.read(out), 1..=5);
    }
    assert_eq!((server.batches().len(), server.bill()), (1, 5));
}
