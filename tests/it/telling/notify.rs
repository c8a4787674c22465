//! `--notify`: a POST of the summary to a receiver that fails, hangs and repeats.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ring::hmac;

use crate::support::{Fault, FaultServer, Home, Recorded, Recorder, Server, answered, prompts};

/// The value of a header; panics without it.
#[track_caller]
fn header<'a>(request: &'a Recorded, name: &str) -> &'a str {
    let value = |line: &'a str| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name));
    request.head.lines().find_map(value).unwrap_or_else(|| panic!("no {name}:\n{}", request.head)).1.trim()
}

/// A receiver whose answers are these statuses, the last one again and again. 0: it answers after 12 seconds.
fn receiver(statuses: &'static [u16]) -> Recorder {
    let asked = Mutex::new(0);
    Recorder::answering(move |_| {
        let number = {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            *asked
        };
        let (status, headers) = match statuses[statuses.len().min(number) - 1] {
            0 => {
                std::thread::sleep(Duration::from_secs(12));
                ("200 OK", String::new())
            }
            200 => ("200 OK", String::new()),
            302 => ("302 Found", "location: /elsewhere\r\n".to_owned()),
            404 => ("404 Not Found", String::new()),
            429 => ("429 Too Many Requests", "retry-after: 3600\r\n".to_owned()),
            _ => ("500 Internal Server Error", String::new()),
        };
        (status, headers, "x".repeat(1000))
    })
}

fn home() -> Home {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    home
}

fn notify(home: &Home, server: &Server, url: &str) -> crate::support::Out {
    home.run(server, &["in.jsonl", "-o", "out.jsonl", "--fresh", "--summary", "s.json", "--notify", url])
}

#[test]
fn summary_arrives_signed_although_the_receiver_fails_and_hangs() {
    let (home, server) = (home(), Server::start(&[]));
    home.write("secret", "whsec_canary\n");
    std::fs::set_permissions(home.path("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    home.config(format!("[notify]\nsecret_file = {:?}\n", home.path("secret")));
    let receiver = receiver(&[500, 429, 0, 200]);
    let out = notify(&home, &server, &format!("{}/hook?token=canary", receiver.url)).code(0);
    assert!(!out.stderr.contains("--notify") || out.stderr.contains("waiting for --notify"), "{}", out.stderr);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 4, "it stops with the first success");
    for request in &requests {
        assert!(request.head.starts_with("POST /v1/hook?token=canary HTTP/1.1"), "{}", request.head);
        assert_eq!(request.body, requests[0].body);
        assert_eq!(header(request, "Idempotency-Key"), header(&requests[0], "Idempotency-Key"));
        assert_eq!(header(request, "content-type"), "application/json");
        let signed = format!("{}.{}", header(request, "X-Llbatch-Timestamp"), request.body);
        let signature = header(request, "X-Llbatch-Signature").strip_prefix("sha256=").unwrap();
        let tag: Vec<u8> =
            (0..signature.len()).step_by(2).map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap()).collect();
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, b"whsec_canary"), signed.as_bytes(), &tag).unwrap();
        assert!(!request.head.contains("canary-key"), "the key of the service goes to nobody else");
    }
    let body: serde_json::Value = serde_json::from_str(&requests[0].body).unwrap();
    assert_eq!(body, home.json("s.json"));
    assert!(home.files_with("whsec_canary").iter().all(|file| file == "secret"), "{:?}", home.files_with("whsec"));
    // Another end of a command has a key of its own.
    notify(&home, &server, &receiver.url).code(0);
    let requests = receiver.requests();
    assert_ne!(header(&requests[4], "Idempotency-Key"), header(&requests[0], "Idempotency-Key"));
}

#[test]
fn refusal_and_redirect_are_not_tried_again() {
    let (home, server) = (home(), Server::start(&[]));
    let cases: [(&'static [u16], &str); 2] =
        [(&[404], "HTTP 404"), (&[302], "HTTP 302, and redirects are not followed")];
    for (statuses, words) in cases {
        let receiver = receiver(statuses);
        let url = format!("{}/T0/canary-path", receiver.url);
        let out = notify(&home, &server, &url).code(0);
        let warning = format!("warning: --notify: http://{}: {words}\n", receiver.address());
        assert!(out.stderr.ends_with(&warning), "{}", out.stderr);
        assert_eq!(receiver.requests().len(), 1);
        let requests = receiver.requests();
        assert!(!requests[0].head.to_lowercase().contains("signature"), "{}", requests[0].head);
        assert!(!out.stderr.contains("canary-path"), "the path of the URL may be a secret: {}", out.stderr);
    }
}

#[test]
fn receiver_that_never_answers_well_gets_five_tries() {
    let (home, server) = (home(), Server::start(&[]));
    let receiver = receiver(&[500]);
    let started = Instant::now();
    let out = notify(&home, &server, &receiver.url).code(0).says(&["HTTP 500, after 5 tries"]);
    assert!(started.elapsed() > Duration::from_secs(9), "{:?}\n{}", started.elapsed(), out.stderr);
    assert_eq!(receiver.requests().len(), 5);
    answered(&home.read("out.jsonl"), 1..=3);
    // Nobody listens there, and then somebody who cuts every connection.
    let out = notify(&home, &server, "http://127.0.0.1:9/x").code(0);
    out.says(&["warning: --notify: http://127.0.0.1:9: ", "after 5 tries"]);
    let cutting = FaultServer::start(|_| Fault::ResetEarly);
    notify(&home, &server, &cutting.url).code(0).says(&["after 5 tries"]);
    assert_eq!(cutting.counts().requests, 5);
    let torn = FaultServer::start(|_| Fault::ResetInHead);
    notify(&home, &server, &torn.url).code(0).says(&["after 5 tries"]);
}

#[test]
fn receiver_that_hangs_is_left_after_a_signal() {
    let (home, server) = (home(), Server::start(&[]));
    let deaf = FaultServer::deaf();
    let run = home.spawn(&server, &["in.jsonl", "-o", "out.jsonl", "--notify", &deaf]);
    crate::support::until("the user learns of the wait", || run.stderr().contains("waiting for --notify"));
    run.signal("INT");
    run.wait().code(0).says(&["warning: --notify: ended by a signal"]);
    answered(&home.read("out.jsonl"), 1..=3);
}

#[test]
fn interrupted_run_and_failed_command_are_notified() {
    let home = home();
    let server = Server::start(&["--latency", "100ms"]);
    home.write("many.jsonl", prompts(1..=60));
    let receiver = receiver(&[200]);
    let args = ["many.jsonl", "-o", "out.jsonl", "--concurrency", "2", "--notify", &receiver.url];
    let run = home.spawn(&server, &args);
    server.until_billed(3);
    run.signal("INT");
    let out = run.wait().code(130);
    let shown = format!("--notify 'http://{}/…'", receiver.address());
    assert!(out.stderr.contains(&shown), "the next command shows no secret: {}", out.stderr);
    home.write("bad.jsonl", "nonsense\n");
    home.run(&server, &["bad.jsonl", "-o", "o.jsonl", "--notify", &receiver.url]).code(65);
    let bodies: Vec<HashMap<String, serde_json::Value>> =
        receiver.bodies().iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    assert_eq!(bodies[0]["exit"]["code"], 130);
    assert_eq!(bodies[1]["error"]["exit"], 65);
}

#[test]
fn url_that_would_leak_and_bad_secret_are_refused_before_anything_is_sent() {
    let (home, server) = (home(), Server::start(&[]));
    for (url, words) in [
        ("http://hooks.example/canary-path", "plain http would send the summary unencrypted"),
        ("ftp://hooks.example/canary-path", "the scheme ftp is not https"),
        ("hooks.example/canary-path", "the URL is invalid"),
    ] {
        let out = notify(&home, &server, url).code(2).says(&["--notify: ", words, "pass an https URL"]);
        assert!(!out.stderr.contains("canary-path"), "{}", out.stderr);
    }
    home.write("secret", "whsec_canary\n");
    std::fs::set_permissions(home.path("secret"), std::fs::Permissions::from_mode(0o644)).unwrap();
    home.config(format!("[notify]\nsecret_file = {:?}\n", home.path("secret")));
    let url = "https://hooks.example/x";
    notify(&home, &server, url).code(2).says(&[
        "[notify] secret_file",
        "can be read or written by others",
        "chmod 600",
    ]);
    home.write("home/config/llbatch/config.toml", "[notify]\nsecret_file = \"none\"\n");
    notify(&home, &server, url).code(2).says(&["[notify] secret_file", "home/config/llbatch/none", "cannot be read"]);
    assert_eq!(server.requests(), 0);
}
