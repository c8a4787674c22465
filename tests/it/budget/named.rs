//! A refusal for money names the sum that would do, and that sum does.

use super::{TURBO, rows};
use crate::support::{Home, Out, Server};

/// The sum that a refusal names after `what`.
#[track_caller]
fn named(out: &Out, what: &str) -> String {
    let text = out.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    let would = text.rfind(" would do").unwrap_or_else(|| panic!("no sum in:\n{}", out.stderr));
    let at = text[..would].rfind(what).unwrap_or_else(|| panic!("no {what} in:\n{}", out.stderr));
    text[at + what.len()..].split_whitespace().next().unwrap().to_owned()
}

/// A server that fails the rows with this text once, and fails no other.
fn failing(text: &str) -> Server {
    Server::quick(&["--fault", &format!("status=500,on=row,contains={text},times=1")])
}

#[test]
fn run_names_the_limit_that_does_for_all_its_rows() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", rows(40, 50));
    let run = |limit: &str| home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--max-cost", limit]);
    let refused = run("0.00005").code(5);
    assert!(server.bill() > 0);
    run(&named(&refused, "--max-cost ")).code(0);
    assert_eq!((server.bill(), server.paid_again()), (40, 0));
}

#[test]
fn submission_and_its_retries_name_the_limit_that_does() {
    let home = Home::new();
    let server = failing("question 1");
    home.write("in.jsonl", rows(20, 500));
    let submit = |limit: &str| home.at(&server.url, &["submit", "in.jsonl", "--max-cost", limit]);
    let refused = submit("0.0001").code(5);
    let job = submit(&named(&refused, "--max-cost ")).code(0).stdout.trim_end().to_owned();
    home.at(&server.url, &["fetch", &job, "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(3);
    let retry = |limit: &str| home.at(&server.url, &["retry", &job, "--max-cost", limit]);
    let refused = retry("0.0000001").code(5);
    retry(&named(&refused, "--max-cost ")).code(0);
}

#[test]
fn realtime_retry_names_the_limit_that_does() {
    let home = Home::new();
    let server = failing("question 1");
    home.write("in.jsonl", rows(20, 500));
    let job = home.at(&server.url, &["submit", "in.jsonl"]).code(0).stdout.trim_end().to_owned();
    home.at(&server.url, &["fetch", &job, "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(3);
    let retry = |limit: &str| {
        home.at(&server.url, &["retry", &job, "--via", "realtime", "--max-cost", limit, "--retries", "0"])
    };
    let refused = retry("0.0000001").code(5);
    retry(&named(&refused, "--max-cost ")).code(0);
}

#[test]
fn submission_of_both_ways_names_the_limit_that_does() {
    let home = Home::new();
    let server = Server::quick(&[]);
    let beside = rows(9, 300).replace(TURBO, "Qwen/Qwen2.5-7B-Instruct-Turbo").replace("\"q", "\"r");
    home.write("in.jsonl", rows(20, 100) + &beside);
    let submit = |limit: &str| {
        let args = ["submit", "in.jsonl", "--via", "auto", "--max-cost", limit];
        home.at(&server.url, &[&args[..], &["--wait", "--poll", "50ms", "-o", "out.jsonl"]].concat())
    };
    // Too little for the batches, then too little for the rows beside them.
    let first = submit("0.000001").code(5);
    let whole = named(&first, "--max-cost ");
    let second = submit("0.0001").code(5);
    assert!(server.bill() < 29, "{}", second.stderr);
    submit(&named(&second, "--max-cost ")).code(0);
    assert_eq!((server.bill(), server.paid_again()), (29, 0));
    let fresh = Home::new();
    fresh.write("in.jsonl", home.read("in.jsonl"));
    let server = Server::quick(&[]);
    let args = ["submit", "in.jsonl", "--via", "auto", "--max-cost", &whole];
    fresh.at(&server.url, &[&args[..], &["--wait", "--poll", "50ms", "-o", "out.jsonl"]].concat()).code(0);
}

#[test]
fn budgets_of_the_config_file_name_what_does() {
    for command in ["run", "submit"] {
        let home = Home::new();
        let server = Server::quick(&[]);
        home.write("in.jsonl", rows(20, 300));
        let go = |day: &str, month: &str| {
            home.config(format!("[budget]\nper_day = {day}\nper_month = {month}\n"));
            match command {
                "run" => home.run(&server, &["in.jsonl", "-o", "out.jsonl"]),
                _ => home.at(&server.url, &["submit", "in.jsonl"]),
            }
        };
        let refused = go("0.00003", "0.00004").code(5);
        let [day, month] = ["per_day = ", "per_month = "].map(|key| named(&refused, key));
        go(&day, &month).code(0);
        // Nothing is left of it: the next command names what does as well.
        let spent = "0.000000001";
        home.write("in.jsonl", rows(10, 300).replace("\"q", "\"s"));
        let refused = go(spent, "5").code(5);
        let day = named(&refused, "per_day = ");
        go(&day, "5").code(0);
    }
}
