//! Inference over TCP: answers, limits and faults.

use super::*;

#[test]
fn an_answer_carries_the_hash_of_its_prompt() {
    let server = scripted(&[]);
    let seen = chat(&server, "What is a lamp?");
    assert_eq!(seen.status, 200);
    assert!(content(&seen).starts_with(&format!("[{}]", digest("What is a lamp?"))));
    assert_eq!(seen.body, chat(&server, "What is a lamp?").body);

    let body = br#"{"model":"a/b","prompt":"once"}"#;
    let seen = send(&server, "POST", "/v1/completions", KEY, body);
    assert!(seen.json()["choices"][0]["text"].as_str().unwrap().contains(&digest("once")));

    let body = br#"{"model":"intfloat/multilingual-e5-large-instruct","input":["x","y"]}"#;
    let seen = send(&server, "POST", "/v1/embeddings", KEY, body);
    assert_eq!(seen.json()["data"].as_array().unwrap().len(), 2);
}

#[test]
fn the_bill_counts_every_generated_answer() {
    let server = scripted(&["status=500,contains=unpaid", "status=500,contains=paid,after"]);
    for prompt in ["one", "one", "two", "unpaid", "paid"] {
        chat(&server, prompt);
    }
    let stats = server.stats();
    assert_eq!(stats.bill.requests, 4);
    assert_eq!(stats.paid[&hash_of("one")], 2);
    assert_eq!(stats.paid[&hash_of("paid")], 1);
    assert!(!stats.paid.contains_key(&hash_of("unpaid")));
    assert_eq!(stats.paid_again, 1);
    assert_eq!(stats.by_path["/v1/chat/completions"][&500], 2);
    let served = send(&server, "GET", "/sandbox/stats", "", b"").json();
    assert_eq!(served["bill"]["requests"], 4);
}

#[test]
fn a_refusal_has_its_status_and_code() {
    let server = start(SandboxConfig { key: Some("right".to_owned()), ..SandboxConfig::default() }).unwrap();
    let right = "authorization: bearer right\r\n";
    let ok = chat_body("x");
    let unknown = ok.replace("Qwen/Qwen2.5-7B-Instruct-Turbo", "a/no-such-model");
    let dedicated = ok.replace("Qwen/Qwen2.5-7B-Instruct-Turbo", "meta-llama/Llama-3-8b-hf");
    let long = ok.replace("{\"model\"", "{\"max_tokens\":99999,\"model\"");
    let chat = "/v1/chat/completions";
    let cases = [
        ("POST", chat, right, ok.as_str(), 200, ""),
        ("POST", chat, "", &ok, 401, "invalid_api_key"),
        ("POST", chat, KEY, &ok, 401, "invalid_api_key"),
        ("POST", chat, right, &unknown, 404, "model_not_available"),
        ("POST", chat, right, &dedicated, 400, "model_not_available"),
        ("POST", chat, right, &long, 403, ""),
        ("POST", chat, right, "{\"model\":\"a/b\"}", 400, ""),
        ("POST", "/v1/nothing", right, &ok, 404, "not_found"),
        ("GET", chat, right, "", 405, ""),
    ];
    for (method, path, headers, body, status, code) in cases {
        let seen = send(&server, method, path, headers, body.as_bytes());
        assert_eq!(seen.status, status, "{method} {path} {body}: {}", seen.text());
        if status != 200 {
            let error = &seen.json()["error"];
            assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
            assert_eq!(error["code"].as_str().unwrap_or(""), code);
        }
    }
    assert_eq!(server.stats().bill.requests, 1);
}

#[test]
fn a_body_that_is_too_large_or_not_text_is_refused() {
    let server = start(SandboxConfig { max_body: 1000, ..SandboxConfig::default() }).unwrap();
    let large = chat(&server, &"x".repeat(1000));
    assert_eq!((large.status, server.stats().bill.requests), (413, 0));
    assert_eq!(chat(&server, &"x".repeat(800)).status, 200);
    assert_eq!(send(&server, "POST", "/v1/chat/completions", KEY, b"{\"model\": \"\xff\"}").status, 400);
}

#[test]
fn a_server_starts_and_fails_within_another_runtime() {
    let outer = tokio::runtime::Builder::new_current_thread().build().unwrap();
    outer.block_on(async {
        let server = start(SandboxConfig::default()).unwrap();
        let taken = SandboxConfig { listen: address(&server).parse().unwrap(), ..SandboxConfig::default() };
        assert!(start(taken).unwrap_err().to_string().contains("cannot listen"));
        assert_eq!(chat(&server, "x").status, 200);
    });
}

#[test]
fn the_models_list_has_a_401_of_its_own() {
    let server = scripted(&[]);
    let list = get(&server, "/v1/models");
    assert!(list.json().as_array().unwrap().len() > 10);
    let refused = send(&server, "GET", "/v1/models", "authorization: Bearer bad-key\r\n", b"");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json(), json!({"error": {"message": "Unauthorized"}}));
}

#[test]
fn a_connection_breaks_as_scripted() {
    let server = scripted(&[
        "reset,contains=A",
        "close,contains=B",
        "reset-late,contains=C",
        "truncate,contains=D",
        "stall,contains=E",
        "hang,contains=F",
        "short,contains=G",
    ]);
    let whole = chat(&server, "0").body.len();
    let cases: [(&str, u16, Option<ErrorKind>, bool); 7] = [
        ("A", 0, Some(ErrorKind::ConnectionReset), false),
        ("B", 0, None, false),
        ("C", 200, Some(ErrorKind::ConnectionReset), true),
        ("D", 200, None, true),
        ("E", 200, Some(ErrorKind::WouldBlock), true),
        ("F", 0, Some(ErrorKind::WouldBlock), false),
        ("G", 200, None, true),
    ];
    for (prompt, status, end, some_body) in cases {
        let seen = chat(&server, prompt);
        assert_eq!((seen.status, seen.end), (status, end), "{prompt}");
        assert_eq!(!seen.body.is_empty(), some_body, "{prompt}");
        assert!(seen.body.len() < whole, "{prompt}");
        if some_body {
            let announced: usize = seen.header("content-length").unwrap().parse().unwrap();
            assert_eq!(announced == seen.body.len(), prompt == "G", "{prompt}");
        }
    }
    // Those that broke within the body had been generated.
    let paid = server.stats().paid;
    for (prompt, paid_for) in [("A", false), ("B", false), ("C", true), ("D", true), ("E", true), ("F", false)] {
        assert_eq!(paid.contains_key(&hash_of(prompt)), paid_for, "{prompt}");
    }
}

#[test]
fn a_wrong_200_is_wrong_as_scripted() {
    let server = scripted(&[
        "html,contains=A",
        "empty-body,contains=B",
        "wrong-shape,contains=C",
        "empty-choices,contains=D",
        "null-content,contains=E",
        "no-usage,contains=F",
        "huge=3,contains=G",
        "bad-gzip,contains=H",
        "echo-key,contains=I",
    ]);
    assert!(chat(&server, "A").text().contains("<html>"));
    assert!(chat(&server, "B").body.is_empty());
    assert!(chat(&server, "C").json().get("choices").is_none());
    assert_eq!(chat(&server, "D").json()["choices"], json!([]));
    assert!(chat(&server, "E").json()["choices"][0]["message"]["content"].is_null());
    assert!(chat(&server, "F").json().get("usage").is_none());
    assert!(content(&chat(&server, "G")).len() > 3 << 20);
    assert_eq!(chat(&server, "H").header("content-encoding"), Some("gzip"));
    let echoed = chat(&server, "I");
    assert_eq!(echoed.status, 401);
    assert!(echoed.text().contains("test-key"));
}

#[test]
fn a_request_fails_the_scripted_number_of_times() {
    let server = scripted(&["status=503,times=2,retry-after=3"]);
    let statuses: Vec<_> = (0..3).map(|_| chat(&server, "x")).collect();
    assert_eq!(statuses.iter().map(|seen| seen.status).collect::<Vec<_>>(), [503, 503, 200]);
    assert_eq!(statuses[0].header("retry-after"), Some("3"));
    assert_eq!(chat(&server, "[[sandbox:status=418]]").status, 418, "a prompt's own directive comes first");
    assert_eq!(chat(&server, "[[sandbox:nonsense]]").status, 400);
    assert_eq!(server.stats().faults, 3);
}

#[test]
fn the_rate_limit_is_real() {
    let config = SandboxConfig { rps: Some(5.0), burst: Some(2.0), rate_headers: true, ..SandboxConfig::default() };
    let server = start(config).unwrap();
    let statuses: Vec<_> = (0..4).map(|i| chat(&server, &i.to_string())).collect();
    assert_eq!(statuses.iter().map(|seen| seen.status).collect::<Vec<_>>(), [200, 200, 429, 429]);
    let (passed, refused) = (&statuses[0], &statuses[2]);
    assert_eq!(passed.header("x-ratelimit-limit"), Some("5"));
    assert_eq!(passed.header("x-ratelimit-remaining"), Some("1"));
    assert_eq!(passed.header("retry-after"), Some("2"), "recorded on 200 too");
    assert_eq!(refused.header("x-ratelimit"), Some("true"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["error"]["type"], "dynamic_request_limited");
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(chat(&server, "later").status, 200);
    assert_eq!((server.stats().refused, server.stats().bill.requests), (2, 3));
}

#[test]
fn the_token_limit_is_real() {
    let config = SandboxConfig { tokens_per_second: Some(20.0), rate_headers: true, ..SandboxConfig::default() };
    let server = start(config).unwrap();
    let first = chat(&server, &"long ".repeat(40));
    assert_eq!((first.status, first.header("x-ratelimit-remaining-tokens")), (200, Some("20")));
    let second = chat(&server, "x");
    assert_eq!((second.status, second.header("x-ratelimit-remaining-tokens")), (429, Some("0")));
    assert_eq!(second.json()["error"]["type"], "dynamic_token_limited");
    assert!(second.header("retry-after").unwrap().parse::<u64>().unwrap() >= 2, "the debt takes seconds to pay");
}

#[test]
fn too_many_at_once_is_a_503() {
    let config = SandboxConfig { capacity: Some(1), latency: Duration::from_millis(300), ..SandboxConfig::default() };
    let server = start(config).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| chat(&server, "a").status);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(chat(&server, "b").status, 503);
        assert_eq!(first.join().unwrap(), 200);
    });
    assert_eq!(chat(&server, "c").status, 200);
}

#[test]
fn too_many_in_parallel_is_a_429_that_says_so() {
    let config = SandboxConfig { parallel: Some(1), latency: Duration::from_millis(300), ..SandboxConfig::default() };
    let server = start(config).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| chat(&server, "a").status);
        std::thread::sleep(Duration::from_millis(100));
        let refused = chat(&server, "b");
        assert_eq!((refused.status, refused.header("rate_limit_type")), (429, Some("max_parallel_requests")));
        assert_eq!(refused.header("x-ratelimit-api_key-limit-max_parallel_requests"), Some("1"));
        assert_eq!(first.join().unwrap(), 200);
    });
    assert_eq!(server.stats().refused, 1);
}

#[test]
fn a_slot_works_on_one_request_and_others_wait() {
    let config = SandboxConfig { slots: Some(1), latency: Duration::from_millis(150), ..SandboxConfig::default() };
    let server = start(config).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let asked = ["a", "b", "c"].map(|prompt| scope.spawn(|| chat(&server, prompt).status));
        assert_eq!(asked.map(|asked| asked.join().unwrap()), [200; 3]);
    });
    assert!(begun.elapsed() >= Duration::from_millis(450), "one after the other");
    assert_eq!(server.stats().peak_in_flight, 3);
}

#[test]
fn a_used_window_refuses_until_its_end() {
    let config = SandboxConfig { window: Some("2/1h".parse().unwrap()), ..SandboxConfig::default() };
    let server = start(config).unwrap();
    assert_eq!(["a", "b", "c"].map(|prompt| chat(&server, prompt).status), [200, 200, 429]);
    let wait: u64 = chat(&server, "d").header("retry-after").unwrap().parse().unwrap();
    assert!((3590..=3600).contains(&wait), "{wait}");
    assert_eq!(server.stats().refused, 2);
}

#[test]
fn latency_is_kept_and_a_lost_client_is_billed() {
    let config = SandboxConfig { latency: Duration::from_millis(200), track: true, ..SandboxConfig::default() };
    let server = start(config).unwrap();
    let begun = Instant::now();
    chat(&server, "slow");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    {
        let body = chat_body("gone");
        let mut stream = TcpStream::connect(address(&server)).unwrap();
        let head =
            format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{KEY}\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    {
        // Half a request costs nothing.
        let mut stream = TcpStream::connect(address(&server)).unwrap();
        stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{").unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(server.stats().bill.requests, 2);
    assert_eq!(server.stats().paid[&hash_of("gone")], 1);
}

#[test]
fn only_a_client_that_accepts_gzip_gets_it() {
    let server = start(SandboxConfig { gzip: true, ..SandboxConfig::default() }).unwrap();
    let plain = chat(&server, "x");
    assert_eq!(plain.header("content-encoding"), None);
    let headers = format!("{KEY}accept-encoding: br, gzip\r\n");
    let packed = send(&server, "POST", "/v1/chat/completions", &headers, chat_body("x").as_bytes());
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text.as_bytes(), plain.body);
}

#[test]
fn a_server_is_on_loopback_only_and_stops_when_dropped() {
    let open = SandboxConfig { listen: "0.0.0.0:0".parse().unwrap(), ..SandboxConfig::default() };
    assert_eq!(start(open).unwrap_err().kind(), ErrorKind::InvalidInput);
    let server = scripted(&["hang"]);
    let address = address(&server);
    let mut stream = TcpStream::connect(&address).unwrap();
    let body = chat_body("x");
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{KEY}\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).unwrap();
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(3), "a hanging request must not keep the server");
    assert!(TcpStream::connect(&address).is_err());
}
