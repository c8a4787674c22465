//! One line of a scheduler, started again and again, under any name of its input.

use crate::support::{Home, MODEL, Server, answered, codes, lines, prompts};

const RUN: [&str; 6] = ["-o", "out.jsonl", "--summary", "s.json", "--concurrency", "3"];

/// A row that the service refuses each time.
fn bad_row() -> String {
    lines(&[&format!(r#"{{"id":"bad","prompt":"[[sandbox:status=400]]","model":"{MODEL}"}}"#)])
}

/// Interrupts a run of `in.jsonl` in the middle; returns its job and what was paid by then.
fn interrupted(home: &Home, server: &Server) -> (String, u64) {
    home.write("in.jsonl", prompts(1..=40));
    let run = home.spawn(server, &[&["in.jsonl"], &RUN[..]].concat());
    server.until_billed(12);
    run.signal("INT");
    run.wait().code(130);
    assert!(server.bill() < 40, "interrupted in the middle");
    (home.json("s.json")["job"].as_str().unwrap().to_owned(), server.bill())
}

#[test]
fn resumed_run_starts_anew_and_later_sends_failed_rows_only() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=9) + &bad_row());
    let line = [&["in.jsonl", "--resume"], &RUN[..]].concat();
    for (start, sent) in [(1, 10), (2, 1), (3, 1)] {
        home.run(&server, &line).code(3);
        assert_eq!(home.json("s.json")["http"]["sent"], sent, "start {start}");
        assert_eq!(codes(&home.read("out.jsonl")).len(), 10);
    }
    assert_eq!((server.bill(), server.paid_again()), (9, 0));
    // The same content under another name is the same job.
    home.write("copy.jsonl", home.read("in.jsonl"));
    home.run(&server, &[&["copy.jsonl", "--resume"], &RUN[..]].concat()).code(3);
    assert_eq!((home.json("s.json")["http"]["sent"].clone(), server.bill()), (1.into(), 9));
}

#[test]
fn resumed_submission_starts_anew_and_later_sends_failed_rows_only() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=500,on=row,contains=question 2,times=1"]));
    home.write("in.jsonl", prompts(1..=9) + &bad_row());
    let submit = |input: &str| {
        home.at(&server.url, &["submit", input, "--resume", "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(3)
    };
    let first = submit("in.jsonl");
    assert_eq!((server.batches().len(), server.bill()), (1, 8));
    // The row that may be answered is sent again, the refused one is not.
    let second = submit("in.jsonl").says(&["8 answered before, 1 failed for good, 1 to send again in 1 batch"]);
    assert_eq!(second.stdout, first.stdout, "the same job");
    let batches = server.batches();
    assert_eq!((batches.len(), server.bill(), server.paid_again()), (2, 9, 0));
    home.write("copy.jsonl", home.read("in.jsonl"));
    for input in ["in.jsonl", "copy.jsonl"] {
        assert_eq!(submit(input).stdout, first.stdout);
        let failed: Vec<_> =
            codes(&home.read("out.jsonl")).into_iter().filter(|(_, code)| code != "ok").map(|(id, _)| id).collect();
        assert_eq!(failed, ["bad"]);
    }
    assert_eq!((server.batches().len(), server.bill()), (2, 9));
}

#[test]
fn failed_rows_and_earlier_answers_are_named_before_they_are_paid_again() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", prompts(1..=9) + &bad_row());
    let run = [&["in.jsonl"], &RUN[..]].concat();
    let first = home.run(&server, &run).code(3);
    assert!(!first.stderr.contains("has answers"), "{}", first.stderr);
    let job = home.json("s.json")["job"].as_str().unwrap().to_owned();
    home.run(&server, &run)
        .code(3)
        .says(&[&format!("{job} (partial) has the answers to 9 of 10 requests; --resume takes them")]);
    // Other content with some of the same requests.
    home.write("more.jsonl", prompts(5..=12));
    let last = home.json("s.json")["job"].as_str().unwrap().to_owned();
    home.run(&server, &[&["more.jsonl"], &RUN[..]].concat()).code(0).says(&[&format!(
        "{last} (partial) has the answers to 5 of 8 requests; --reuse-from={last} takes the good ones"
    )]);
    home.run(&server, &[&["more.jsonl", "--fresh"], &RUN[..]].concat()).code(0);
    home.write("some.jsonl", prompts(1..=3));
    let submit = ["submit", "some.jsonl", "--wait", "--poll", "50ms", "-o", "some"];
    home.at(&server.url, &submit).code(0).says(&[&format!("--reuse-from={last} takes the good ones")]);
    home.at(&server.url, &submit).code(0).says(&["has the answers to 3 of 3 requests; --resume takes them"]);
    // A run takes the answers of a batch job of the same content.
    let paid = server.bill();
    home.run(&server, &[&["some.jsonl", "--resume"], &RUN[..]].concat()).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
    assert_eq!(server.bill(), paid);
}

#[test]
fn job_without_any_answer_is_named_too() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", bad_row());
    let run = [&["in.jsonl"], &RUN[..]].concat();
    home.run(&server, &run).code(3);
    let job = home.json("s.json")["job"].as_str().unwrap().to_owned();
    home.run(&server, &run).code(3).says(&[&format!("{job} asked the same, and 1 row failed")]);
}

#[test]
fn interrupted_job_resumes_under_another_name_of_the_same_content() {
    for change in ["name", "flag", "address", "pipe"] {
        let home = Home::new();
        let server = Server::start(&["--latency", "50ms"]);
        let (job, paid) = interrupted(&home, &server);
        home.write("copy.jsonl", prompts(1..=40));
        let out = match change {
            "name" => home.run(&server, &[&["copy.jsonl"], &RUN[..]].concat()),
            // Every row says so itself.
            "flag" => home.run(&server, &[&["in.jsonl", "--max-tokens", "50"], &RUN[..]].concat()),
            "address" => {
                let url = server.url.replace("127.0.0.1", "localhost");
                home.finish(home.run_command(&url, &[&["copy.jsonl"], &RUN[..]].concat()))
            }
            _ => home.run_with_stdin(&server.url, &[&["-"], &RUN[..]].concat(), prompts(1..=40).as_bytes()),
        };
        out.code(0).says(&[&format!("resuming job {job}: {paid} answered before, {} to go", 40 - paid)]);
        answered(&home.read("out.jsonl"), 1..=40);
        assert_eq!((server.bill(), server.paid_again()), (40, 0), "{change}");
    }
}

#[test]
fn interrupted_job_of_similar_content_is_named_with_its_share() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    let (job, paid) = interrupted(&home, &server);
    home.write("more.jsonl", prompts(1..=41));
    let notice = format!("{job} (interrupted) has the answers to {paid} of 41 requests; --resume={job} takes them");
    home.run(&server, &[&["more.jsonl"], &RUN[..]].concat()).code(0).says(&[&notice]);
    let before = server.bill();
    home.run(&server, &["more.jsonl", &format!("--resume={job}"), "-o", "out.jsonl"]).code(0);
    assert_eq!(server.bill(), before + 41 - paid, "its answers are taken");
}

#[test]
fn name_of_a_first_start_is_no_error() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=4));
    let line = [&["in.jsonl", "--name", "nightly", "--resume=nightly"], &RUN[..]].concat();
    home.run(&server, &line).code(0);
    home.run(&server, &line).code(0);
    assert_eq!((server.bill(), server.paid_again()), (4, 0));
    home.run(&server, &["in.jsonl", "--resume=j-zzzzzzzz"]).code(2).says(&["no job `j-zzzzzzzz`"]);
    home.at(&server.url, &["submit", "in.jsonl", "--resume=j-zzzzzzzz"]).code(2).says(&["no job `j-zzzzzzzz`"]);
}
