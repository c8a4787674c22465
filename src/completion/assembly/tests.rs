use serde_json::Value;

use super::*;

/// A chunk of a chat with these members of its one choice.
fn chunk(choice: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,{choice}}}]}}"#
    )
}

fn whole(chunks: &[String]) -> (Vec<Chunk>, bool, Option<String>) {
    let mut assembly = Assembly::default();
    let news = chunks.iter().map(|chunk| assembly.push(chunk)).collect();
    (news, assembly.has_ended(1), assembly.into_body())
}

#[test]
fn a_chat_is_put_together_as_it_was_spelled() {
    let (news, ended, body) = whole(&[
        chunk(r#""delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null"#),
        chunk(r#""delta":{"content":"Hel"},"logprobs":null,"finish_reason":null"#),
        chunk(r#""delta":{"content":"lo w\u00f6"},"logprobs":null,"finish_reason":null"#),
        chunk(r#""delta":{"content":"rld"},"logprobs":null,"finish_reason":null"#),
        chunk(r#""delta":{"content":"\" \\"},"logprobs":null,"finish_reason":null"#),
        chunk(r#""delta":{"content":"!"},"logprobs":null,"finish_reason":null"#),
        chunk(r#""delta":{},"logprobs":null,"finish_reason":"stop""#),
        r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":3}}"#
            .to_owned(),
    ]);
    let mut expected = [Chunk::More; 8];
    expected[1] = Chunk::Piece;
    for quiet in [0, 6, 7] {
        expected[quiet] = Chunk::Other;
    }
    assert_eq!(news, expected);
    assert!(ended);
    let expected = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello w\u00f6rld\" \\!"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}"#;
    assert_eq!(body.unwrap(), expected);
}

#[test]
fn several_choices_are_told_apart_by_their_index() {
    let of = |index: u64, piece: &str| {
        format!(
            r#"{{"object":"text_completion","choices":[{{"index":{index},"text":"{piece}","finish_reason":null}}]}}"#
        )
    };
    let end = |index: u64| format!(r#"{{"choices":[{{"index":{index},"text":"","finish_reason":"stop"}}]}}"#);
    let chunks = [of(1, "b1"), of(0, "a1"), of(1, "b2"), of(1, "b3"), of(0, "a2"), end(1)];
    let (_, ended, _) = whole(&chunks);
    assert!(!ended, "choice 0 has not ended");
    let (_, ended, body) = whole(&[&chunks[..], &[end(0)]].concat());
    assert!(ended);
    assert_eq!(
        body.unwrap(),
        r#"{"object":"text_completion","choices":[{"index":0,"text":"a1a2","finish_reason":"stop"},{"index":1,"text":"b1b2b3","finish_reason":"stop"}]}"#
    );
}

#[test]
fn tool_calls_are_put_together_by_their_index() {
    let (news, ended, body) = whole(&[
        chunk(
            r#""delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#,
        ),
        chunk(r#""delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}}]}"#),
        chunk(
            r#""delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]}"#,
        ),
        chunk(r#""delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}"#),
        chunk(r#""delta":{},"finish_reason":"tool_calls""#),
    ]);
    assert_eq!(news[..4], [Chunk::Piece; 4]);
    assert!(ended);
    let body: Value = serde_json::from_str(&body.unwrap()).unwrap();
    assert_eq!(
        body["choices"][0]["message"]["tool_calls"],
        serde_json::json!([
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ])
    );
}

#[test]
fn reasoning_and_logprobs_are_joined() {
    let (_, _, body) = whole(&[
        chunk(r#""delta":{"reasoning":"so","content":""},"logprobs":{"content":[{"token":"a"}],"refusal":null}"#),
        chunk(r#""delta":{"reasoning":" it is"},"logprobs":{"content":[{"token":"b"},{"token":"c"}],"refusal":null}"#),
        chunk(
            r#""delta":{"content":"x"},"logprobs":{"content":[{"token":"b"}],"refusal":null},"finish_reason":"stop""#,
        ),
        chunk(
            r#""delta":{"content":"x"},"logprobs":{"content":[{"token":"b"}],"refusal":null},"finish_reason":"stop""#,
        ),
    ]);
    let body: Value = serde_json::from_str(&body.unwrap()).unwrap();
    assert_eq!(body["choices"][0]["message"], serde_json::json!({"reasoning": "so it is", "content": "xx"}));
    let tokens = body["choices"][0]["logprobs"]["content"].as_array().unwrap().len();
    assert_eq!(tokens, 5);
}

#[test]
fn errors_and_nonsense_are_no_chunks() {
    let mut assembly = Assembly::default();
    assert_eq!(assembly.push(r#"{"error":{"message":"overloaded"}}"#), Chunk::Error);
    assert_eq!(assembly.push("[DONE]"), Chunk::Invalid);
    assert_eq!(assembly.push("{\"choices\":[{"), Chunk::Invalid);
    assert_eq!(assembly.push("{}"), Chunk::Other);
    assert_eq!(assembly.into_body(), None);
}

#[test]
fn chunks_that_look_alike_are_no_less_than_the_parsed_ones() {
    // A piece that ends its string and begins other members must not be taken for a text.
    let plain = chunk(r#""delta":{"content":"a"}"#);
    let tricky = chunk(r#""delta":{"content":"b"},"finish_reason":"stop","x":{"content":"c"}"#);
    let (_, ended, body) = whole(&[plain.clone(), plain, tricky]);
    assert!(ended);
    let body: Value = serde_json::from_str(&body.unwrap()).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "aab");
}

#[test]
fn a_piece_with_an_invalid_escape_is_no_chunk() {
    let piece = |text: &str| chunk(&format!(r#""delta":{{"content":"{text}"}}"#));
    for (text, news) in [
        (r"\u00e9\n\/", Chunk::More),
        (r"\x", Chunk::Invalid),
        (r"\u00g9", Chunk::Invalid),
        (r"\u00e", Chunk::Invalid),
        (r#"a" b"#, Chunk::Invalid),
    ] {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.push(&piece("a")), Chunk::Piece);
        assert_eq!(assembly.push(&piece(text)), news, "{text}");
    }
}

#[test]
fn chunks_of_services_are_read_by_what_they_share() {
    let together = |text: &str, token: u32, usage: &str| {
        format!(
            r#"{{"id":"o","object":"chat.completion.chunk","choices":[{{"index":0,"text":"{text}","logprobs":null,"finish_reason":null,"seed":7,"delta":{{"token_id":{token},"role":"assistant","content":"{text}","tool_calls":null}}}}],"model":"m"{usage}}}"#
        )
    };
    let reasoning = |text: &str, salt: &str| {
        format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"","reasoning":"{text}"}}}}],"obfuscation":"{salt}"}}"#)
    };
    for (chunks, message) in [
        (
            [together("a", 1, ""), together("\\u00e9", 22, ",\"usage\":null"), together("c\\n", 0, ",\"usage\":null")],
            r#"{"role":"assistant","content":"a\u00e9c\n","tool_calls":[]}"#,
        ),
        ([reasoning("x", "AbC"), reasoning("yy", "d"), reasoning("z", "")], r#"{"content":"","reasoning":"xyyz"}"#),
    ] {
        let mut assembly = Assembly::default();
        for (place, chunk) in chunks.iter().enumerate() {
            // The last chunk looks like the one before.
            assert_eq!(place == 2 && assembly.frame.as_ref().unwrap().spans(chunk).is_some(), place == 2, "{chunk}");
            let known = assembly.frame.as_ref().is_some_and(|frame| frame.spans(chunk).is_some());
            assert_eq!(assembly.push(chunk), if known { Chunk::More } else { Chunk::Piece });
        }
        let body = assembly.into_body().unwrap();
        assert!(body.contains(&format!("\"message\":{message}")) && !body.contains("obfuscation"), "{body}");
    }
    // Other spellings of numbers and texts are parsed.
    let mut assembly = Assembly::default();
    assembly.push(&together("a", 5, ""));
    for chunk in [together("a", 5, "").replace(":5,", ":05,"), together("\\q", 5, ""), together("a", 5, " ")] {
        assert_eq!(assembly.frame.as_ref().unwrap().spans(&chunk), None, "{chunk}");
    }
}
