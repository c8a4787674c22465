//! Refusals and odd answers of single rows among good ones.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{Canned, Fault, FaultServer, Home, Recorder, prompts, raw_codes};

/// Runs three rows one after the other; the second one gets this response. Returns the home and the requests that it took.
fn second(status: &'static str, body: &'static str, code: i32) -> (Home, usize) {
    let home = Home::new();
    let service = Recorder::answering(move |request| {
        let odd = request.body.contains("question 2");
        let good = || Recorder::chat("\"fine\"");
        if odd { (status, String::new(), body.to_owned()) } else { ("200 OK", String::new(), good()) }
    });
    home.write("in.jsonl", prompts(1..=3));
    let args = ["in.jsonl", "--concurrency", "1", "-o", "out.jsonl"];
    home.finish(home.run_command(&service.url, &args)).code(code);
    (home, service.requests().len())
}

#[test]
fn refusal_of_one_row_among_good_ones_is_that_rows_error() {
    for (status, body, code) in [
        ("403 Forbidden", r#"{"error":{"code":403,"message":"the input was flagged"}}"#, "auth"),
        ("402 Payment Required", r#"{"error":{"code":402,"message":"more credits, or fewer max_tokens"}}"#, "payment"),
        ("451 Unavailable For Legal Reasons", r#"{"error":"blocked here"}"#, "invalid_request"),
    ] {
        let (home, requests) = second(status, body, 3);
        assert_eq!(raw_codes(&home.read("out.jsonl")), ["ok", code, "ok"], "{status}");
        assert_eq!(requests, 3, "{status}");
    }
}

#[test]
fn complete_choice_is_an_answer_however_it_is_wrapped() {
    for (status, body) in [
        ("201 Created", r#"{"choices":[{"message":{"content":"fine"},"finish_reason":"stop"}],"error":{}}"#),
        (
            "200 OK",
            "\u{feff}{\"choices\":[{\"message\":{\"content\":\"fine\",\"content\":\"fine\",\"tool_calls\":{}}}]}",
        ),
        (
            "200 OK",
            ": PROCESSING\n\n{\"choices\":[{\"message\":{\"content\":\"fine\"}}],\"error\":{\"code\":0,\"message\":\"\"}}",
        ),
    ] {
        let (home, requests) = second(status, body, 0);
        assert_eq!((raw_codes(&home.read("out.jsonl")), requests), (vec!["ok".to_owned(); 3], 3), "{body}");
    }
}

#[test]
fn finished_answer_without_text_is_bought_once_and_says_why() {
    for (body, code, words) in [
        (
            r#"{"choices":[{"message":{"content":null},"finish_reason":"content_filter"}]}"#,
            "filtered",
            "content_filter",
        ),
        (r#"{"choices":[{"message":{"content":null},"finish_reason":"length"}]}"#, "truncated", "max_tokens"),
        ("data: {\"choices\":[]}\n\ndata: [DONE]\n\n", "bad_response", "an event stream"),
        (r#"{"error":{"code":400,"message":"Input validation error"}}"#, "invalid_request", "Input validation error"),
    ] {
        let (home, requests) = second("200 OK", body, 3);
        let text = home.read("out.jsonl");
        assert_eq!(
            (raw_codes(&text), requests),
            (vec!["ok".to_owned(), code.to_owned(), "ok".to_owned()], 3),
            "{body}"
        );
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn account_without_money_ends_a_run_with_5_and_the_next_one_goes_on() {
    let home = Home::new();
    let credit = Arc::new(AtomicI64::new(10));
    let left = Arc::clone(&credit);
    let service = Recorder::answering(move |_| {
        if left.fetch_sub(1, Ordering::Relaxed) > 0 {
            return ("200 OK", String::new(), Recorder::chat("\"fine\""));
        }
        ("402 Payment Required", String::new(), r#"{"error":{"message":"no credits"}}"#.to_owned())
    });
    home.write("in.jsonl", prompts(1..=60));
    let args = ["in.jsonl", "--concurrency", "1", "-o", "out.jsonl", "--summary", "s.json"];
    home.finish(home.run_command(&service.url, &args)).code(5).says(&["no credits"]);
    assert_eq!(service.requests().len(), 10 + 20 + 3, "twenty refusals in a row, and three from further down");
    let codes = raw_codes(&home.read("out.jsonl.partial"));
    assert_eq!((&codes[..10], &codes[10..]), (&vec!["ok".to_owned(); 10][..], &vec!["payment".to_owned(); 50][..]));
    assert_eq!(home.json("s.json")["state"], "interrupted");
    home.finish(home.run_command(&service.url, &args)).code(5).says(&["no credits"]);
    assert_eq!(service.requests().len(), 10 + 23 + 23, "also where earlier answers show that the key is good");
    credit.store(1000, Ordering::Relaxed);
    home.finish(home.run_command(&service.url, &args)).code(0);
    assert_eq!(raw_codes(&home.read("out.jsonl")), vec!["ok"; 60]);
    assert_eq!(service.requests().len(), 10 + 23 + 23 + 50);
}

/// Runs this many rows at the default concurrency against a service that answers five and then refuses all. Returns its home
/// and the requests that came.
fn walled(rows: u32, status: &'static str, code: i32) -> (Home, usize) {
    let home = Home::new();
    let left = AtomicI64::new(5);
    let service = Recorder::answering(move |_| {
        if left.fetch_sub(1, Ordering::Relaxed) > 0 {
            return ("200 OK", String::new(), Recorder::chat("\"fine\""));
        }
        (status, String::new(), r#"{"error":{"message":"no more of that"}}"#.to_owned())
    });
    home.write("in.jsonl", prompts(1..=rows));
    home.finish(home.run_command(&service.url, &["in.jsonl", "-o", "out.jsonl"])).code(code).says(&["no more of that"]);
    (home, service.requests().len())
}

#[test]
fn rows_that_wait_are_not_sent_once_every_row_is_refused() {
    for (rows, status, code, error) in [
        (300, "402 Payment Required", 5, "payment"),
        (300, "403 Forbidden", 4, "auth"),
        (3000, "402 Payment Required", 5, "payment"),
    ] {
        let (home, requests) = walled(rows, status, code);
        // Twenty refusals and three probes beside the answers, and those in flight at the time.
        assert!((5 + 20 + 3..=5 + 20 + 3 + 12).contains(&requests), "{requests} requests: {rows} {status}");
        let codes = raw_codes(&home.read("out.jsonl.partial"));
        assert_eq!(codes.iter().filter(|code| *code == "ok").count(), 5);
        assert!(codes.iter().all(|code| code == "ok" || code == error || code == "interrupted"), "{codes:?}");
    }
}

#[test]
fn rows_that_wait_are_not_sent_while_a_refused_key_is_asked_again() {
    for rows in [300, 3000] {
        let (_home, requests) = walled(rows, "401 Unauthorized", 4);
        // The row that was refused first, twice, and those in flight at the time.
        assert!((5 + 2..=5 + 2 + 12).contains(&requests), "{requests} requests");
    }
}

#[test]
fn rows_that_were_held_back_are_sent_once_a_probe_is_answered() {
    let home = Home::new();
    let service = Recorder::answering(|request| {
        if request.body.contains("refused") {
            return ("403 Forbidden", String::new(), r#"{"error":{"message":"blocked"}}"#.to_owned());
        }
        ("200 OK", String::new(), Recorder::chat("\"fine\""))
    });
    let refused = |n: u32| (6..60).contains(&n);
    let row = |n: u32| {
        let text = if refused(n) { "refused" } else { "fine" };
        format!("{{\"id\":\"q{n}\",\"prompt\":\"{text} {n}\",\"model\":\"m/a\"}}\n")
    };
    home.write("in.jsonl", (1..=150).map(row).collect::<String>());
    home.finish(home.run_command(&service.url, &["in.jsonl", "-o", "out.jsonl"])).code(3);
    let expected: Vec<&str> = (1..=150).map(|n| if refused(n) { "auth" } else { "ok" }).collect();
    assert_eq!(raw_codes(&home.read("out.jsonl")), expected);
    assert_eq!(service.requests().len(), 150);
}

#[test]
fn rows_that_were_held_back_are_sent_once_a_refused_key_is_accepted_again() {
    let home = Home::new();
    let asked = AtomicI64::new(0);
    let service = Recorder::answering(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        5 => ("401 Unauthorized", String::new(), r#"{"error":{"message":"bad key"}}"#.to_owned()),
        _ => ("200 OK", String::new(), Recorder::chat("\"fine\"")),
    });
    home.write("in.jsonl", prompts(1..=100));
    home.finish(home.run_command(&service.url, &["in.jsonl", "-o", "out.jsonl"])).code(0);
    assert_eq!((raw_codes(&home.read("out.jsonl")), service.requests().len()), (vec!["ok".to_owned(); 100], 101));
}

#[test]
fn model_that_is_refused_every_time_is_given_up_and_the_others_go_on() {
    let home = Home::new();
    let service = Recorder::answering(|request| {
        if request.body.contains("m/forbidden") {
            return ("403 Forbidden", String::new(), r#"{"error":{"message":"not your model"}}"#.to_owned());
        }
        ("200 OK", String::new(), Recorder::chat("\"fine\""))
    });
    let row = |n: u32| {
        let model = if n.is_multiple_of(2) { "m/forbidden" } else { "m/allowed" };
        format!("{{\"id\":\"q{n}\",\"prompt\":\"question {n}\",\"model\":\"{model}\"}}\n")
    };
    home.write("in.jsonl", (1..=30).map(row).collect::<String>());
    let args = ["in.jsonl", "--concurrency", "1", "-o", "out.jsonl"];
    home.finish(home.run_command(&service.url, &args)).code(3).says(&["not your model"]);
    assert_eq!(raw_codes(&home.read("out.jsonl")), ["ok", "auth"].repeat(15));
    assert_eq!(service.requests().len(), 15 + 5);
}

#[test]
fn key_that_is_refused_once_among_answers_is_asked_once_more() {
    let home = Home::new();
    let asked = AtomicI64::new(0);
    let service = Recorder::answering(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        1 => ("401 Unauthorized", String::new(), r#"{"error":{"message":"bad key"}}"#.to_owned()),
        _ => ("200 OK", String::new(), Recorder::chat("\"fine\"")),
    });
    home.write("in.jsonl", prompts(1..=3));
    home.finish(home.run_command(&service.url, &["in.jsonl", "--concurrency", "1", "-o", "out.jsonl"])).code(0);
    assert_eq!((raw_codes(&home.read("out.jsonl")), service.requests().len()), (vec!["ok".to_owned(); 3], 4));
}

#[test]
fn model_that_a_proxy_does_not_know_costs_five_requests() {
    let home = Home::new();
    let service = Recorder::answering(|request| {
        if request.body.contains("m/unknown") {
            let words =
                "/chat/completions: Invalid model name passed in model=m/unknown. Call `/v1/models` to view models.";
            let body = format!(r#"{{"error":{{"message":"{words}","type":"None","param":"None","code":"400"}}}}"#);
            return ("400 Bad Request", String::new(), body);
        }
        ("200 OK", String::new(), Recorder::chat("\"fine\""))
    });
    let row = |n: u32| {
        let model = if n.is_multiple_of(2) { "m/unknown" } else { "m/known" };
        format!("{{\"id\":\"q{n}\",\"prompt\":\"question {n}\",\"model\":\"{model}\"}}\n")
    };
    home.write("in.jsonl", (1..=30).map(row).collect::<String>());
    let args = ["in.jsonl", "--concurrency", "1", "-o", "out.jsonl"];
    home.finish(home.run_command(&service.url, &args)).code(3);
    assert_eq!(raw_codes(&home.read("out.jsonl")), ["ok", "invalid_request"].repeat(15));
    assert!(home.read("out.jsonl").contains("not sent, because the service refused this model 5 times"));
    assert_eq!(service.requests().len(), 15 + 5);
}

#[test]
fn neighbours_that_a_firewall_refuses_do_not_end_a_run() {
    for concurrency in ["1", "8"] {
        let home = Home::new();
        let service = Recorder::answering(|request| {
            if request.body.contains("refused") {
                return (
                    "403 Forbidden",
                    "content-type: text/html\r\n".to_owned(),
                    "<title>blocked</title>".to_owned(),
                );
            }
            ("200 OK", String::new(), Recorder::chat("\"fine\""))
        });
        let row = |n: u32| {
            let text = if (6..46).contains(&n) { "refused" } else { "fine" };
            format!("{{\"id\":\"q{n}\",\"prompt\":\"{text} {n}\",\"model\":\"m/a\"}}\n")
        };
        home.write("in.jsonl", (1..=80).map(row).collect::<String>());
        let args = ["in.jsonl", "--concurrency", concurrency, "-o", "out.jsonl"];
        home.finish(home.run_command(&service.url, &args)).code(3);
        let expected: Vec<&str> = (1..=80).map(|n| if (6..46).contains(&n) { "auth" } else { "ok" }).collect();
        assert_eq!(raw_codes(&home.read("out.jsonl")), expected);
        assert_eq!(service.requests().len(), 80);
    }
}

#[test]
fn refusal_of_the_row_that_probes_an_outage_does_not_prolong_it_for_ever() {
    let (away, refused) = (Mutex::new(None), AtomicI64::new(0));
    let service = FaultServer::start(move |asked| {
        let mut away = away.lock().unwrap();
        if asked.number == 4 {
            *away = Some(Instant::now());
            return Fault::Away(Duration::from_secs(1));
        }
        // The first request after it is back.
        let is_back = away.is_some_and(|at: Instant| at.elapsed() > Duration::from_millis(900));
        if is_back && refused.fetch_add(1, Ordering::Relaxed) == 0 {
            return Fault::Instead(Canned::status(403));
        }
        Fault::None
    });
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=12));
    let args = ["in.jsonl", "--concurrency", "4", "-o", "out.jsonl", "--give-up-after", "20s"];
    let out = home.finish(home.run_command(&service.url, &args)).code(3);
    let codes = raw_codes(&home.read("out.jsonl"));
    assert_eq!(codes.iter().filter(|code| *code == "auth").count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| *code == "ok").count(), 11, "{codes:?}");
    out.says(&["the service is unreachable"]);
}

#[test]
fn wait_that_the_probing_row_alone_is_asked_for_does_not_prolong_an_outage_for_ever() {
    const OTHERS: usize = 12;
    // The row's requests; those of them that were refused while others were answered; answers to others before the last.
    let row = Arc::new(Mutex::new((0, 0, 0)));
    let (others, seen) = (AtomicUsize::new(0), Arc::clone(&row));
    let service = FaultServer::start(move |asked| {
        if asked.prompt != "question 1" {
            others.fetch_add(1, Ordering::Relaxed);
            return Fault::None;
        }
        let (answered, mut row) = (others.load(Ordering::Relaxed), row.lock().unwrap());
        let (phase, alone, before) = &mut *row;
        if *alone < 4 || answered < OTHERS {
            *alone += usize::from(std::mem::replace(before, answered) < answered);
            return Fault::Instead(Canned::status(429));
        }
        *phase += 1;
        match *phase {
            1 => Fault::Away(Duration::from_secs(8)),
            2 => Fault::Instead(Canned::status(429)),
            _ => Fault::None,
        }
    });
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=13));
    let args = ["in.jsonl", "--concurrency", "2", "-o", "out.jsonl", "--give-up-after", "40s"];
    let out = home.finish(home.run_command(&service.url, &args)).code(0);
    assert_eq!(seen.lock().unwrap().0, 3, "the first probe is refused, and the second one is answered");
    out.says(&["the service is unreachable"]);
}
