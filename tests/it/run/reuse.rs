//! `--reuse` and `--reuse-from`: answers of earlier jobs to the same requests.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Home, MODEL, Out, Recorder, Server, codes, paid_hash, rows};

/// A row whose answer is not cut off.
fn line(n: u32) -> String {
    format!("{{\"id\":\"q{n}\",\"prompt\":\"question {n}\",\"model\":\"{MODEL}\",\"max_tokens\":900}}\n")
}

/// The same request, spelled in another way and under another id.
fn respelled(n: u32) -> String {
    format!(
        "{{\"max_tokens\": 900,\"messages\":[{{\"content\":\"qu\\u0065stion {n}\",\"role\":\"user\"}}],\"model\":\"{MODEL}\",\"id\":\"other {n}\"}}\n"
    )
}

fn run(home: &Home, server: &Server, args: &[&str]) -> Out {
    home.run(server, &[&["-o", "out.jsonl", "--summary", "s.json"], args].concat())
}

/// Asserts that the results are those of these questions, in order, and that `reused` of them were not sent.
#[track_caller]
fn answered(home: &Home, questions: &[u32], reused: u64) {
    let found = rows(&home.read("out.jsonl"));
    for (n, row) in questions.iter().zip(&found) {
        assert!(row.content().contains(&paid_hash(&format!("question {n}"))), "{}", row.line);
    }
    assert_eq!(found.iter().filter(|row| row.line["reused"] == true).count() as u64, reused);
    let summary = home.json("s.json");
    assert_eq!(summary["rows"]["reused"], reused);
    assert_eq!((found.len(), &summary["rows"]["succeeded"]), (questions.len(), &questions.len().into()));
}

#[test]
fn answers_of_earlier_jobs_are_not_paid_again() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("a.jsonl", (1..=6).map(line).collect::<String>());
    run(&home, &server, &["a.jsonl"]).code(0);
    home.write("b.jsonl", (7..=9).map(line).collect::<String>());
    home.at(&server.url, &["submit", "b.jsonl", "--wait", "-o", "b.out.jsonl", "--poll", "50ms"]).code(0);
    assert_eq!(server.bill(), 9);
    let questions: Vec<u32> = (1..=12).rev().collect();
    home.write("c.jsonl", questions.iter().map(|n| respelled(*n)).collect::<String>());
    run(&home, &server, &["c.jsonl", "--reuse"]).code(0).says(&["answers of 2 earlier jobs are reused"]);
    answered(&home, &questions, 9);
    assert_eq!((server.bill(), server.paid_again()), (12, 0));
    // The taken answers are this job's own: the others may go. The input of the first job has changed since it was read.
    home.llbatch(&["clean", "--older-than", "0s", "--force"]).code(0);
    run(&home, &server, &["c.jsonl", "--reuse", "--fresh"]).code(0).says(&["no earlier job has answers"]);
    answered(&home, &questions, 0);
    assert_eq!(server.bill(), 24);
    home.write("c.jsonl", (1..=3).map(line).collect::<String>());
    run(&home, &server, &["c.jsonl", "--reuse-from", "last"]).code(0);
    assert_eq!(server.bill(), 27, "of a changed input only requests that are spelled alike are found");
}

#[test]
fn answers_of_an_edited_and_resumed_job_are_found() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let write = |name: &str, questions: &[u32]| {
        home.write(name, questions.iter().map(|n| line(*n)).collect::<String>());
    };
    write("a.jsonl", &[1, 2, 3, 4]);
    run(&home, &server, &["a.jsonl"]).code(0);
    write("b.jsonl", &[1, 5]);
    run(&home, &server, &["b.jsonl", "--reuse"]).code(0);
    // One row at the top is new, and the last one is gone: the counts stay.
    write("a.jsonl", &[6, 1, 2, 3]);
    run(&home, &server, &["a.jsonl", "--resume"]).code(0);
    assert_eq!(server.bill(), 6);
    write("c.jsonl", &[2, 3, 6]);
    run(&home, &server, &["c.jsonl", "--reuse"]).code(0);
    answered(&home, &[2, 3, 6], 3);
    assert_eq!(server.bill(), 6);
}

#[test]
fn only_good_answers_that_pass_the_rules_are_taken() {
    let (home, server) = (Home::new(), Server::start(&["--fault", "status=422,contains=question 2,times=1"]));
    home.write("a.jsonl", (1..=4).map(|n| line(n).replace("900", "16")).collect::<String>());
    run(&home, &server, &["a.jsonl", "--name", "first"]).code(3);
    let sent = |args: &[&str]| {
        let before = server.bill();
        let out = run(&home, &server, args);
        (server.bill() - before, out)
    };
    // One failed, and the sandbox cuts every answer off at 16 tokens.
    assert_eq!(sent(&["a.jsonl", "--fresh", "--reuse"]).0, 4);
    home.write("long.jsonl", (1..=4).map(line).collect::<String>());
    assert_eq!(sent(&["long.jsonl"]).0, 4);
    assert_eq!(sent(&["long.jsonl", "--fresh", "--reuse"]).0, 0);
    assert_eq!(sent(&["long.jsonl", "--fresh", "--reuse=1ms"]).0, 4);
    assert_eq!(sent(&["long.jsonl", "--fresh", "--reuse-from", "first"]).0, 4);
    sent(&["long.jsonl", "--reuse-from", "nobody"]).1.code(2).says(&["nobody"]);
    let url = sent(&["long.jsonl", "--reuse-from", "s3://bucket/answers"]).1.code(2);
    url.says(&["--reuse-from s3://bucket/answers", "copy the objects to a directory", "--answers URL"]);
    sent(&["long.jsonl", "--reuse=soon"]).1.code(2).says(&["--reuse"]);
    assert!(codes(&home.read("out.jsonl")).iter().all(|(_, code)| code == "ok"));
}

#[test]
fn good_answer_is_taken_although_an_earlier_row_has_a_bad_one_to_the_same_request() {
    let answers = AtomicUsize::new(0);
    let service = Recorder::answering(move |_| {
        let reason = if answers.fetch_add(1, Ordering::Relaxed) == 0 { "length" } else { "stop" };
        let body = Recorder::chat("\"fine\"").replace("\"stop\"", &format!("\"{reason}\""));
        ("200 OK", String::new(), body)
    });
    let home = Home::new();
    let row = |id: &str| format!("{{\"id\":\"{id}\",\"prompt\":\"the same\",\"model\":\"{MODEL}\"}}\n");
    home.write("a.jsonl", row("cut off") + &row("whole"));
    home.write("b.jsonl", row("again"));
    let run =
        |input| home.at(&service.url, &["run", input, "-o", "out.jsonl", "--concurrency", "1", "--reuse"]).code(0);
    run("a.jsonl");
    run("b.jsonl");
    assert_eq!(rows(&home.read("out.jsonl"))[0].line["reused"], true);
    assert_eq!(service.requests().len(), 2);
}

#[test]
fn batches_carry_no_row_that_an_earlier_job_has_answered() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("a.jsonl", (1..=4).map(line).collect::<String>());
    run(&home, &server, &["a.jsonl"]).code(0);
    let submit = |args: &[&str]| {
        let all = ["--wait", "-o", "out.jsonl", "--summary", "s.json", "--poll", "50ms"];
        home.at(&server.url, &[&["submit", "b.jsonl"], args, &all].concat())
    };
    // Twice each.
    home.write(
        "b.jsonl",
        (3..=6)
            .chain(3..=6)
            .map(line)
            .enumerate()
            .map(|(at, row)| row.replace("\"id\":\"", &format!("\"id\":\"{at}")))
            .collect::<String>(),
    );
    submit(&["--reuse", "--dedupe"])
        .code(0)
        .says(&["2 of 8 rows in 1 batch, 4 of them repeat", "2 rows answered by earlier jobs"]);
    answered(&home, &[3, 4, 5, 6, 3, 4, 5, 6], 6);
    assert_eq!((server.bill(), server.batches()[0]["rows"].clone()), (6, 2.into()));
    // Every row is answered.
    submit(&["--reuse", "--again"]).code(0);
    answered(&home, &[3, 4, 5, 6, 3, 4, 5, 6], 8);
    assert_eq!((server.bill(), server.batches().len()), (6, 1));
}

#[test]
fn killed_runs_pay_for_no_answer_of_an_earlier_job() {
    for flag in ["--reuse", "--reuse-from=earlier"] {
        let (home, server) = (Home::new(), Server::start(&["--latency", "15ms"]));
        home.write("a.jsonl", (1..=60).map(|n| line(2 * n)).collect::<String>());
        run(&home, &server, &["a.jsonl", "--name", "earlier"]).code(0);
        let questions: Vec<u32> = (1..=240).collect();
        home.write("b.jsonl", questions.iter().map(|n| respelled(*n)).collect::<String>());
        let args = ["run", "b.jsonl", flag, "--concurrency", "4", "-o", "out.jsonl", "--summary", "s.json"];
        let mut risked = 0;
        for kill in [61, 90, 130, 170, 220] {
            let killed = home.start(home.command_at(&server.url, &args));
            server.until_billed(kill);
            if killed.kill().is_none() {
                risked += 4;
            }
        }
        home.at(&server.url, &args).code(0);
        answered(&home, &questions, 60);
        assert!(server.paid_again() <= risked, "{} of {risked}", server.paid_again());
        let paid = server.paid();
        let again = (1..=60).filter(|n| paid[&paid_hash(&format!("question {}", 2 * n))] > 1).count();
        assert_eq!(again, 0, "answers of the earlier job");
    }
}

/// Answers these questions on another machine, whose answers are sealed in `shared`.
fn seal(home: &Home, server: &Server, questions: std::ops::RangeInclusive<u32>) {
    home.write("sealed.jsonl", questions.map(line).collect::<String>());
    let args = ["sealed.jsonl", "-o", "sealed.out.jsonl", "--answers", "shared", "--state-dir", "other-machine"];
    home.run(server, &args).code(0);
}

#[test]
fn sealed_answers_of_another_machine_are_not_paid_again() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    seal(&home, &server, 1..=4);
    seal(&home, &server, 7..=8);
    assert_eq!(server.bill(), 6);
    let questions: Vec<u32> = (1..=9).rev().collect();
    home.write("c.jsonl", questions.iter().map(|n| respelled(*n)).collect::<String>());
    run(&home, &server, &["c.jsonl", "--reuse-from", "shared"])
        .code(0)
        .says(&["answers in shared are reused where the request is the same"]);
    answered(&home, &questions, 6);
    assert_eq!((server.bill(), server.paid_again()), (9, 0));
    assert_eq!(home.json("s.json")["http"]["sent"], 3);
    // More was sealed since, also for a batch, and in the directory of one job.
    seal(&home, &server, 5..=5);
    let submit = ["submit", "c.jsonl", "--wait", "-o", "out.jsonl", "--summary", "s.json", "--poll", "50ms", "--again"];
    home.at(&server.url, &[&submit[..], &["--reuse-from", "shared"]].concat())
        .code(0)
        .says(&["2 of 9 rows in 1 batch", "7 rows answered by earlier jobs"]);
    answered(&home, &questions, 7);
    assert_eq!(server.bill(), 9 + 1 + 2);
    let jobs = std::fs::read_dir(home.path("shared")).unwrap().flatten().map(|job| job.path());
    let sealed: Vec<u64> = jobs
        .map(|job| {
            run(&home, &server, &["c.jsonl", "--fresh", "--reuse-from", job.to_str().unwrap()]).code(0);
            home.json("s.json")["rows"]["reused"].as_u64().unwrap()
        })
        .collect();
    assert_eq!((sealed.len(), sealed.iter().sum::<u64>()), (3, 7));
}

#[test]
fn only_parts_that_are_whole_and_of_the_service_are_reused() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    seal(&home, &server, 1..=3);
    home.write("c.jsonl", (1..=4).map(line).collect::<String>());
    let other = Server::quick(&[]);
    run(&home, &other, &["c.jsonl", "--fresh", "--reuse-from", "shared"])
        .code(0)
        .says(&["shared has no answers of this service to reuse"]);
    assert_eq!(other.bill(), 4);
    // It is changed behind the index, and then gone.
    let job = std::fs::read_dir(home.path("shared")).unwrap().flatten().next().unwrap().path();
    // The record of the task that owned the rows lies beside it.
    let mut files = std::fs::read_dir(&job).unwrap().map(|entry| entry.unwrap().path());
    let part = files.find(|path| path.is_file()).unwrap();
    let whole = std::fs::read(&part).unwrap();
    let sent = |found: &[&str]| {
        let before = server.bill();
        let out = run(&home, &server, &["c.jsonl", "--fresh", "--reuse-from", "shared"]).code(0);
        out.says(found);
        answered(&home, &[1, 2, 3, 4], 4 - (server.bill() - before));
        server.bill() - before
    };
    assert_eq!(sent(&["answers in shared are reused"]), 1);
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&part, damaged).unwrap();
    assert_eq!(sent(&[]), 4);
    std::fs::write(job.join("torn.part.jsonl"), &whole[..whole.len() / 2]).unwrap();
    std::fs::remove_file(&part).unwrap();
    assert_eq!(sent(&["torn.part.jsonl", "its answers are not reused", "has no answers of this service"]), 4);
    std::fs::write(&part, &whole).unwrap();
    assert_eq!(sent(&["torn.part.jsonl", "its answers are not reused"]), 1);
    run(&home, &server, &["c.jsonl", "--fresh", "--reuse-from", "nowhere"])
        .code(2)
        .says(&["no such job, and no such directory", "llbatch status"]);
    run(&home, &server, &["c.jsonl", "--fresh", "--reuse-from", "s3://bucket/x"]).code(2).says(&["--reuse-from"]);
}

#[test]
fn job_of_the_name_comes_before_the_directory() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    seal(&home, &server, 1..=3);
    home.write("a.jsonl", (4..=5).map(line).collect::<String>());
    run(&home, &server, &["a.jsonl", "--name", "shared"]).code(0);
    home.write("c.jsonl", (1..=5).map(line).collect::<String>());
    run(&home, &server, &["c.jsonl", "--fresh", "--reuse-from", "shared"]).code(0);
    answered(&home, &[1, 2, 3, 4, 5], 2);
    run(&home, &server, &["c.jsonl", "--fresh", "--reuse-from", "./shared"]).code(0);
    answered(&home, &[1, 2, 3, 4, 5], 3);
}
