//! Inference in `OpenAI`'s form over TCP.

use super::*;

fn openai(script: &str) -> Sandbox {
    let mut config = SandboxConfig { dialect: ServedDialect::Openai, rate_headers: true, ..quick() };
    config.script(script).unwrap();
    start(config).unwrap()
}

#[test]
fn refusals_are_worded_as_openai_does() {
    let server = openai("fault=status=503,contains=A");
    let unknown = chat_body("x").replace("Qwen/Qwen2.5-7B-Instruct-Turbo", "a/no-such-model");
    let long = chat_body("x").replacen('{', "{\"max_tokens\":99999,", 1);
    let cases = [
        (unknown, 404, json!("model_not_found")),
        (long, 400, json!("context_length_exceeded")),
        ("{}".to_owned(), 400, Value::Null),
        (chat_body("A"), 503, Value::Null),
    ];
    for (body, status, code) in cases {
        let seen = post(&server, "/v1/chat/completions", &body);
        let error = &seen.json()["error"];
        assert_eq!((seen.status, &error["code"]), (status, &code), "{}", seen.text());
        assert!(seen.json().get("id").is_none() && error["type"].is_string() && error.get("param").is_some());
    }
    let refused = send(&server, "POST", "/v1/chat/completions", "authorization: Bearer bad-key\r\n", b"{}");
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    assert_eq!(server.stats().faults, 1);
}

#[test]
fn limits_are_those_of_a_minute_with_the_time_of_their_reset() {
    let server = openai("rps=2");
    let seen: Vec<_> = (0..3).map(|i| chat(&server, &i.to_string())).collect();
    assert_eq!(seen[0].header("x-ratelimit-limit-requests"), Some("120"));
    assert_eq!(seen[0].header("x-ratelimit-remaining-requests"), Some("1"));
    assert_eq!(seen[0].header("x-ratelimit-reset-requests"), Some("500ms"));
    assert_eq!((seen[0].header("retry-after"), seen[0].header("x-ratelimit-limit")), (None, None));
    assert_eq!((seen[2].status, &seen[2].json()["error"]["type"]), (429, &json!("requests")));
    assert_eq!((seen[2].header("retry-after"), seen[2].header("x-ratelimit-reset")), (Some("1"), None));

    let server = openai("window=5/10m");
    let seen = chat(&server, "x");
    assert_eq!(seen.header("x-ratelimit-limit-requests"), Some("5"));
    assert_eq!(seen.header("x-ratelimit-remaining-requests"), Some("4"));
    let reset = seen.header("x-ratelimit-reset-requests").unwrap();
    assert!(reset == "10m0s" || reset.starts_with("9m59"), "{reset}");
}
