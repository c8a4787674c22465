//! Streamed answers over TCP: put together they are the answers at once, and they break as scripted.

use super::*;

/// A stream as it came.
struct SeenStream {
    /// The data of each event that ended with an empty line.
    events: Vec<String>,
    comments: usize,
    /// The pieces of the body.
    chunks: usize,
    /// The body ended as HTTP wants it.
    complete: bool,
    end: Option<ErrorKind>,
}

impl SeenStream {
    fn of(seen: &RawResponse) -> Self {
        assert_eq!(seen.status, 200, "{}", seen.text());
        assert!(seen.header("content-type").unwrap().starts_with("text/event-stream"), "{}", seen.head);
        let (mut body, mut chunks, mut rest) = (Vec::new(), 0, &seen.body[..]);
        let complete = loop {
            let Some(line) = rest.windows(2).position(|pair| pair == b"\r\n") else { break false };
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            if size == 0 {
                break true;
            }
            let chunk = &rest[line + 2..rest.len().min(line + 2 + size)];
            body.extend_from_slice(chunk);
            chunks += 1;
            rest = rest.get(line + 4 + size..).unwrap_or_default();
        };
        let text = String::from_utf8(body).unwrap().replace("\r\n", "\n").replace('\r', "\n");
        let (whole, _) = text.rsplit_once("\n\n").unwrap_or_default();
        let blocks: Vec<_> = whole.split("\n\n").filter(|block| !block.is_empty()).collect();
        let events = blocks.iter().filter_map(|block| block.strip_prefix("data: ")).map(str::to_owned).collect();
        let comments = blocks.iter().filter(|block| block.starts_with(": ")).count();
        Self { events, comments, chunks, complete, end: seen.end }
    }

    fn is_done(&self) -> bool {
        self.events.last().is_some_and(|last| last == "[DONE]")
    }

    fn values(&self) -> Vec<Value> {
        self.events.iter().filter_map(|data| serde_json::from_str(data).ok()).collect()
    }

    /// The parts of each choice, put together.
    fn choices(&self) -> BTreeMap<u64, BTreeMap<String, Value>> {
        let mut choices: BTreeMap<u64, BTreeMap<String, Value>> = BTreeMap::new();
        for event in self.values() {
            for part in event["choices"].as_array().unwrap_or(&Vec::new()) {
                add_part(choices.entry(part["index"].as_u64().unwrap()).or_default(), part);
            }
        }
        choices
    }

    fn usages(&self) -> Vec<Value> {
        self.values().into_iter().filter(|event| event["usage"].is_object()).collect()
    }
}

/// Adds a part of a choice to what is there of it.
fn add_part(choice: &mut BTreeMap<String, Value>, part: &Value) {
    if let Some(reason) = part["finish_reason"].as_str() {
        assert!(choice.insert("finish_reason".to_owned(), json!(reason)).is_none(), "one end: {part}");
    }
    let delta = &part["delta"];
    for (more, name) in [(&delta["content"], "content"), (&part["text"], "text"), (&delta["reasoning"], "reasoning")] {
        if let Some(more) = more.as_str() {
            let text = choice.entry(name.to_owned()).or_insert_with(|| json!(""));
            *text = json!(text.as_str().unwrap().to_owned() + more);
        }
    }
    for call in delta["tool_calls"].as_array().unwrap_or(&Vec::new()) {
        let calls = choice.entry("tool_calls".to_owned()).or_insert_with(|| json!([]));
        let calls = calls.as_array_mut().unwrap();
        let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
        if index == calls.len() {
            calls.push(call.clone());
        } else {
            let arguments = calls[index]["function"]["arguments"].as_str().unwrap().to_owned();
            calls[index]["function"]["arguments"] = json!(arguments + call["function"]["arguments"].as_str().unwrap());
        }
    }
    if let Some(entries) = part["logprobs"]["content"].as_array() {
        let all = choice.entry("logprobs".to_owned()).or_insert_with(|| json!([]));
        all.as_array_mut().unwrap().extend(entries.iter().cloned());
    }
}

fn streamed(body: &str, extra: &str) -> String {
    body.replacen('{', &format!("{{\"stream\":true,{extra}"), 1)
}

fn stream_of(server: &Sandbox, prompt: &str) -> SeenStream {
    SeenStream::of(&post(server, "/v1/chat/completions", &streamed(&chat_body(prompt), "")))
}

/// The parts of a choice of an answer at once that a stream must give too.
fn at_once(choice: &Value) -> BTreeMap<String, Value> {
    let message = &choice["message"];
    let mut parts = BTreeMap::from([("finish_reason".to_owned(), choice["finish_reason"].clone())]);
    for (part, name) in
        [(&message["content"], "content"), (&choice["text"], "text"), (&message["reasoning"], "reasoning")]
    {
        if part.is_string() {
            parts.insert(name.to_owned(), part.clone());
        }
    }
    let mut calls = message["tool_calls"].clone();
    for (index, call) in calls.as_array_mut().into_iter().flatten().enumerate() {
        call["index"] = json!(index);
        parts.insert("tool_calls".to_owned(), Value::Null);
    }
    if parts.contains_key("tool_calls") {
        parts.insert("tool_calls".to_owned(), calls);
    }
    if choice["logprobs"]["content"].is_array() {
        parts.insert("logprobs".to_owned(), choice["logprobs"]["content"].clone());
    }
    parts
}

/// Requests of every form, with their paths.
fn requests() -> Vec<(&'static str, String)> {
    let chat = |extra: &str| {
        let body = chat_body("What is a lamp? get_time get_weather").replacen('{', &format!("{{{extra}"), 1);
        ("/v1/chat/completions", body)
    };
    let tools = r#""tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object",
        "properties":{"city":{"type":"string"}}}}},{"type":"function","function":{"name":"get_time"}}],"#;
    vec![
        chat(""),
        chat("\"n\":3,"),
        chat("\"max_tokens\":5,"),
        chat("\"stop\":\" \","),
        chat("\"response_format\":{\"type\":\"json_object\"},"),
        chat("\"logprobs\":true,\"top_logprobs\":2,\"n\":2,"),
        chat("\"reasoning\":{\"enabled\":true},"),
        chat("\"reasoning_effort\":\"high\",\"max_tokens\":9,"),
        chat(tools),
        chat(&format!("{tools}\"n\":2,\"max_tokens\":4,")),
        ("/v1/completions", json!({"model": "a/b", "prompt": "once", "n": 2}).to_string()),
    ]
}

#[test]
fn a_stream_put_together_is_the_answer_at_once() {
    for dialect in [ServedDialect::Together, ServedDialect::Openai] {
        let server = start(SandboxConfig { dialect, ..quick() }).unwrap();
        for (path, body) in requests() {
            let whole = post(&server, path, &body).json();
            let expected: Vec<_> = whole["choices"].as_array().unwrap().iter().map(at_once).collect();
            for extra in ["", "\"stream_options\":{\"include_usage\":true},"] {
                let seen = SeenStream::of(&post(&server, path, &streamed(&body, extra)));
                assert!(seen.complete && seen.is_done() && seen.chunks > 2, "{body}");
                let mut choices = seen.choices();
                for choice in choices.values_mut() {
                    // Together repeats the text in both places, and an end has an empty one.
                    choice.remove(if path == "/v1/chat/completions" { "text" } else { "content" });
                    if choice.contains_key("tool_calls") {
                        assert!(choice.remove("content").is_none_or(|text| text == ""));
                    }
                }
                assert_eq!(choices.into_values().collect::<Vec<_>>(), expected, "{dialect:?} {extra} {body}");
                let values = seen.values();
                assert!(values.iter().all(|event| event["id"] == whole["id"] && event["model"] == whole["model"]));
                let usages = seen.usages();
                if dialect == ServedDialect::Openai && extra.is_empty() {
                    assert!(values.iter().all(|event| event.get("usage").is_none()));
                    continue;
                }
                assert_eq!((usages.len(), &usages[0]["usage"]), (1, &whole["usage"]), "{body}");
                // The usage of its own comes last, or it stands beside the last finish reason.
                assert_eq!(usages[0]["choices"] == json!([]), !extra.is_empty(), "{}", usages[0]);
                assert_eq!(usages.last(), values.last());
            }
        }
        assert_eq!(server.stats().bill.requests, 3 * requests().len() as u64, "a streamed answer is paid");
        assert_eq!(server.stats().paid[&hash_of("once")], 3);
    }
}

#[test]
fn a_stream_breaks_as_scripted() {
    let server = scripted(&[
        "reset-late,contains=A",
        "truncate,contains=B",
        "stall,contains=C",
        "short,contains=D",
        "no-done,contains=E",
        "no-finish,contains=F",
        "stream-error,contains=G",
        "stall,comments=20ms,contains=H",
    ]);
    let healthy = scripted(&[]);
    // Whether HTTP sees the end, how the connection ends, whether half of the events are missing, and `[DONE]`.
    let cases = [
        ("A", false, Some(ErrorKind::ConnectionReset), true, false),
        ("B", false, None, true, false),
        ("C", false, Some(ErrorKind::WouldBlock), true, false),
        ("D", true, None, true, false),
        ("E", true, None, false, false),
        ("F", true, None, false, true),
        ("G", true, None, true, false),
    ];
    for (prompt, complete, end, is_half, done) in cases {
        let (seen, whole) = (stream_of(&server, prompt), stream_of(&healthy, prompt).events.len());
        assert_eq!((seen.complete, seen.end, seen.is_done()), (complete, end, done), "{prompt}");
        let (count, finish) = (seen.events.len(), seen.choices()[&0].contains_key("finish_reason"));
        assert_eq!((count < whole * 2 / 3, finish), (is_half, prompt == "E"), "{prompt}: {count} of {whole}");
        assert_eq!(server.stats().paid[&hash_of(prompt)], 1, "{prompt}");
    }
    let error = stream_of(&server, "G").values().pop().unwrap();
    assert!(error["error"]["message"].is_string() && error.get("choices").is_none(), "{error}");
    let kept_alive = stream_of_for(&server, "H", Duration::from_millis(400));
    assert!(kept_alive.comments > kept_alive.events.len() + 2, "{} comments", kept_alive.comments);
}

/// A whole request for chat.
fn request_text(body: &str) -> String {
    let length = body.len();
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{KEY}\r\n{body}")
}

/// A stream of which so much time is seen.
fn stream_of_for(server: &Sandbox, prompt: &str, time: Duration) -> SeenStream {
    let mut stream = TcpStream::connect(address(server)).unwrap();
    stream.write_all(request_text(&streamed(&chat_body(prompt), "")).as_bytes()).unwrap();
    let (begun, mut all, mut buf) = (Instant::now(), Vec::new(), [0; 4096]);
    while begun.elapsed() < time {
        stream.set_read_timeout(Some(time)).unwrap();
        let read = stream.read(&mut buf).unwrap_or(0);
        all.extend_from_slice(&buf[..read]);
    }
    let split = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(all[..split].to_vec()).unwrap();
    SeenStream::of(&RawResponse { status: 200, head, body: all[split..].to_vec(), end: None })
}

#[test]
fn a_stream_of_any_shape_says_the_same() {
    let plain = stream_of(&scripted(&[]), "x");
    for shape in [
        "split",
        "line-end=crlf",
        "line-end=cr,split",
        "comments",
        "comments=5ms,first-token=30ms",
        "first-token=50ms,chunk-delay=1ms,pause=20ms",
        "comments,split,line-end=crlf,chunk-delay=1ms",
        "drip=0",
    ] {
        let server = scripted(&[shape]);
        let begun = Instant::now();
        let seen = stream_of(&server, "x");
        assert_eq!((&seen.events, seen.complete), (&plain.events, true), "{shape}");
        assert_eq!(seen.comments > 0, shape.contains("comments"), "{shape}");
        assert_eq!(
            seen.chunks != plain.chunks,
            shape.contains("split") || shape.contains("comments") || shape == "drip=0"
        );
        if shape.contains("first-token=50ms") {
            assert!(begun.elapsed() >= Duration::from_millis(70), "{:?}", begun.elapsed());
        }
        assert_eq!(stream_of(&server, "x").chunks, seen.chunks, "{shape} repeats");
    }
    // An answer at once has no shape, and is no fault.
    let server = scripted(&["chunk-delay=1h", "no-finish"]);
    assert_eq!((chat(&server, "x").status, server.stats().faults), (200, 0));
}

#[test]
fn a_flaw_shows_in_the_stream() {
    let server = scripted(&[
        "empty-choices,contains=A",
        "null-content,contains=B",
        "no-usage,contains=C",
        "huge=1,contains=D",
        "status=503,contains=E",
        "status=500,on=stream,contains=F",
    ]);
    let empty = stream_of(&server, "A");
    assert!(empty.choices().is_empty() && empty.usages().len() == 1 && empty.is_done());
    let null = stream_of(&server, "B").choices();
    assert_eq!(null[&0].keys().collect::<Vec<_>>(), ["content", "finish_reason", "text"]);
    assert_eq!(null[&0]["content"], "");
    assert!(stream_of(&server, "C").usages().is_empty());
    let huge = stream_of(&server, "D");
    assert!(huge.choices()[&0]["content"].as_str().unwrap().len() > 1 << 20 && huge.events.len() < 300);
    let refused = |prompt| post(&server, "/v1/chat/completions", &streamed(&chat_body(prompt), ""));
    assert_eq!((refused("E").status, refused("F").status, chat(&server, "F").status), (503, 500, 200));
    assert!(refused("E").json()["error"]["message"].is_string(), "a refusal is no stream");
}

#[test]
fn a_stream_keeps_its_place_until_its_end() {
    let faults = vec!["chunk-delay=1h,contains=slow".parse().unwrap()];
    for limit in ["slots=1", "parallel=1"] {
        let mut config = SandboxConfig { faults: faults.clone(), ..SandboxConfig::default() };
        config.script(limit).unwrap();
        let server = start(config).unwrap();
        let mut slow = TcpStream::connect(address(&server)).unwrap();
        slow.write_all(request_text(&streamed(&chat_body("slow"), "")).as_bytes()).unwrap();
        assert!(slow.read(&mut [0; 1000]).unwrap() > 0);
        // A slot is waited for, which no answer shows; one too many in parallel is refused.
        assert_eq!(chat(&server, "other").status, if limit == "slots=1" { 0 } else { 429 });
        drop(slow);
        let begun = Instant::now();
        while chat(&server, "other").status != 200 {
            assert!(begun.elapsed() < Duration::from_secs(5), "a client that is gone holds its place");
        }
    }
}

#[test]
fn only_chat_and_completions_are_streamed() {
    let server = scripted(&[]);
    let body = streamed(&json!({"model": "a/b", "input": "x"}).to_string(), "");
    let refused = post(&server, "/v1/embeddings", &body);
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("stream")));
    let row = json!({"custom_id": "r", "body": {"model": "a/b", "stream": true, "messages": [{"role": "user", "content": "x"}]}});
    let last = ended(&server, &submit(&server, format!("{row}\n").as_bytes()));
    let failed = &lines(&server, &last["error_file_id"])[0]["error"];
    assert!(failed["message"].as_str().unwrap().contains("not streamed"), "{failed}");
}
