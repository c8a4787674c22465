use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;
use crate::api::scripted::{Scripted, answer, client};

const PATIENCE: StreamPatience = StreamPatience {
    first_token: Duration::from_millis(300),
    stall: Duration::from_millis(300),
    whole: Duration::from_secs(10),
};
const PIECE: &str = r#"data: {"choices":[{"index":0,"delta":{"content":"ab"},"finish_reason":null}]}"#;
const END: &str = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const WHOLE: &str = r#"{"choices":[{"index":0,"message":{"content":"abab"},"finish_reason":"stop"}]}"#;

/// The reply to a stream of these bytes, with these headers.
async fn streamed(headers: &str, body: &[u8]) -> Result<StreamedReply, Failure> {
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n{headers}\r\n");
    let server = Scripted::of_bytes(vec![[head.as_bytes(), body].concat()]);
    post(&client(&server.base), b"{}").await
}

async fn post(client: &Client, body: &[u8]) -> Result<StreamedReply, Failure> {
    client.post_streamed(&client.row_address("/chat/completions"), Bytes::copy_from_slice(body), PATIENCE).await
}

fn body(streamed: &StreamedReply) -> &str {
    std::str::from_utf8(&streamed.reply.body).unwrap()
}

#[tokio::test]
async fn a_stream_becomes_the_answer_that_it_would_have_been() {
    for stream in [
        format!("{PIECE}\n\n{PIECE}\n\n{END}\n\ndata: [DONE]\n\n"),
        format!(": hello\r\n\r\n{PIECE}\r\n\r\n{PIECE}\r\n\r\n{END}\r\n\r\ndata: [DONE]\r\n\r\n"),
        // Without the last event, and without the empty line behind the one before.
        format!("{PIECE}\n\n{PIECE}\n\n{END}"),
    ] {
        let reply = streamed("", stream.as_bytes()).await.unwrap();
        assert_eq!(body(&reply), WHOLE, "{stream}");
        assert!(reply.first_token.is_some());
    }
}

#[tokio::test]
async fn a_compressed_stream_is_read_piece_by_piece() {
    let stream = format!("{PIECE}\n\n{PIECE}\n\n{END}\n\ndata: [DONE]\n\n");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(stream.as_bytes()).unwrap();
    let reply = streamed("content-encoding: gzip\r\n", &gzip.finish().unwrap()).await.unwrap();
    assert_eq!(body(&reply), WHOLE);
    let zstd = zstd::encode_all(stream.as_bytes(), 0).unwrap();
    let reply = streamed("content-encoding: zstd\r\n", &zstd).await.unwrap();
    assert_eq!(body(&reply), WHOLE);
}

#[tokio::test]
async fn an_answer_that_comes_whole_is_taken_as_it_is() {
    let whole = answer("200 OK", "", WHOLE);
    let late = format!("<late>{whole}");
    let server = Scripted::start(|_| vec![late.clone(), whole, late, answer("500 No", "", "{}")]);
    let client = client(&server.base);
    let failure = post(&client, b"{}").await.unwrap_err();
    assert_eq!(failure.message, "no answer within 0.3 s (--first-token-timeout)");
    // The service is known to ignore the wish for a stream from here on, and has the time of a whole answer.
    for _ in 0..2 {
        let reply = post(&client, b"{}").await.unwrap();
        assert_eq!((body(&reply), reply.first_token), (WHOLE, None));
    }
    assert_eq!(post(&client, b"{}").await.unwrap().reply.status, 500);
}

#[tokio::test]
async fn a_stream_of_another_type_is_an_answer_too() {
    let stream = format!("\u{feff}: hello\n\n{PIECE}\n\n{PIECE}\n\n{END}\n\ndata: [DONE]\n\n");
    let of = |stream: &str| {
        ["", "content-type: text/plain\r\n", "content-type: application/json\r\n"]
            .map(|kind| answer("200 OK", kind, stream))
            .to_vec()
    };
    let server = Scripted::start(|_| of(&stream));
    for _ in 0..3 {
        assert_eq!(body(&post(&client(&server.base), b"{}").await.unwrap()), WHOLE);
    }
    let server = Scripted::start(|_| of(&format!("{PIECE}\n\n")));
    let failure = post(&client(&server.base), b"{}").await.unwrap_err();
    assert_eq!(failure.message, "HTTP 200 with a stream that ends before its answer does");
}

#[tokio::test]
async fn bytes_behind_a_compressed_stream_do_no_harm() {
    let stream = format!("{PIECE}\n\n{PIECE}\n\n{END}\n\ndata: [DONE]\n\n");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(stream.as_bytes()).unwrap();
    let gzip = [gzip.finish().unwrap(), b"nothing of it".to_vec()].concat();
    assert_eq!(body(&streamed("content-encoding: gzip\r\n", &gzip).await.unwrap()), WHOLE);
    let zstd = [zstd::encode_all(stream.as_bytes(), 0).unwrap(), b"nothing of it".to_vec()].concat();
    assert_eq!(body(&streamed("content-encoding: zstd\r\n", &zstd).await.unwrap()), WHOLE);
}

#[tokio::test]
async fn without_a_last_event_every_choice_must_have_come() {
    let second = r#"data: {"choices":[{"index":1,"delta":{"content":"c"},"finish_reason":"stop"}]}"#;
    for (rest, request, whole) in [
        ("", r#"{"n":2}"#, false),
        ("data: [DONE]", r#"{"n":2}"#, true),
        (second, r#"{"n":2}"#, true),
        ("", r#"{"n":null}"#, true),
        ("", r#"{"messages":[{"n":2}]}"#, true),
    ] {
        let stream = format!("{PIECE}\n\n{END}\n\n{rest}");
        let server = Scripted::start(|_| vec![answer("200 OK", "content-type: text/event-stream\r\n", &stream)]);
        let reply = post(&client(&server.base), request.as_bytes()).await;
        assert_eq!(reply.is_ok(), whole, "{rest} {request}: {reply:?}");
    }
}

#[tokio::test]
async fn a_stopped_process_reads_what_has_arrived() {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n";
    let events = [": hello", PIECE, ": hello", PIECE, END, "data: [DONE]"].map(|event| chunk(&format!("{event}\n\n")));
    let server = Scripted::start(|_| vec![format!("<late>{head}{}0\r\n\r\n", events.concat())]);
    let client = client(&server.base);
    let stop = async {
        while server.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::thread::sleep(Duration::from_millis(1500));
    };
    let (reply, ()) = tokio::join!(post(&client, b"{}"), stop);
    assert_eq!(body(&reply.unwrap()), WHOLE);
}

#[tokio::test]
async fn an_answer_whose_choices_have_ended_is_final() {
    const USAGE: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let counted = WHOLE.replace("}]}", r#"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);
    let error = r#"data: {"error":{"message":"late","code":500}}"#;
    for (headers, rest, whole) in [
        ("", format!("{USAGE}\n\n<hang>"), &*counted),
        ("", "<hang>".to_owned(), WHOLE),
        ("content-length: 9999\r\n", format!("{USAGE}\n\n"), &*counted),
        ("content-length: 9999\r\n", String::new(), WHOLE),
        ("", format!("{USAGE}\n\n{error}\n\ndata: [DONE]\n\n"), &*counted),
        ("", format!("{USAGE}\n\nevent: error\n{error}\n\n"), &*counted),
        ("", format!("{USAGE}\n\ndata: bye\n\n"), &*counted),
        ("", format!("{USAGE}\n\ndata:[DONE] \n\n<hang>"), &*counted),
    ] {
        let stream = format!("{PIECE}\n\n{PIECE}\n\n{END}\n\n{rest}");
        let reply = streamed(headers, stream.as_bytes()).await.unwrap();
        assert_eq!(body(&reply), whole, "{headers}{rest}");
    }
    // A choice that the service gave up is no answer, and the error says why.
    let failed = END.replace("stop", "error");
    let reply = streamed("", format!("{PIECE}\n\n{failed}\n\n{error}\n\n").as_bytes()).await.unwrap();
    assert_eq!(body(&reply), &error["data: ".len()..]);
}

#[tokio::test]
async fn broken_streams_are_no_answers() {
    let cases = [
        (format!("{PIECE}\n\n"), Fault::BadResponse, "HTTP 200 with a stream that ends before its answer does"),
        (format!("{PIECE}\n\ndata: [DONE]\n\n"), Fault::BadResponse, "HTTP 200 with a stream that ends before"),
        (format!("{PIECE}\n\ndata: {{\"cho"), Fault::BadResponse, "HTTP 200 with a stream that ends before"),
        (format!("{PIECE}\n\ndata: hello\n\n"), Fault::BadResponse, "HTTP 200 with an event that is no chunk"),
        (format!("{PIECE}\n\n<hang>"), Fault::Timeout, "the stream stalled for 0.3 s"),
        (": wait\n\n<hang>".to_owned(), Fault::Timeout, "no first token within 0.3 s"),
        (format!("{PIECE}\n\ndata: [1"), Fault::BadResponse, "HTTP 200 with a stream that ends before"),
    ];
    for (stream, fault, words) in cases {
        let failure = streamed("", stream.as_bytes()).await.unwrap_err();
        assert!(failure.fault == fault && failure.message.starts_with(words), "{stream}: {failure:?}");
    }
    let seen = streamed("", format!("{PIECE}\n\n{PIECE}\n\n<hang>").as_bytes()).await.unwrap_err();
    assert!(seen.message.ends_with(", after 2 pieces of the answer"), "{seen:?}");
    let cut = streamed("content-length: 9999\r\n", format!("{PIECE}\n\n").as_bytes()).await.unwrap_err();
    assert!(cut.message.starts_with("the answer was cut off"), "{cut:?}");
}

#[tokio::test]
async fn an_error_in_a_stream_is_the_reply() {
    for stream in [
        format!("{PIECE}\n\ndata: {{\"error\":{{\"message\":\"busy\",\"code\":503}}}}\n\n<hang>"),
        "event: error\ndata: {\"error\":{\"message\":\"busy\",\"code\":503}}\n\n<hang>".to_owned(),
        format!("{PIECE}\n\ndata: {{\"choices\":[],\"error\":{{\"message\":\"busy\",\"code\":503}}}}\n\n"),
        // Without the empty line behind it.
        format!("{PIECE}\n\ndata: {{\"error\":{{\"message\":\"busy\",\"code\":503}}}}"),
        "event: error\ndata: {\"error\":{\"message\":\"busy\",\"code\":503}}\n".to_owned(),
    ] {
        let reply = streamed("", stream.as_bytes()).await.unwrap();
        assert_eq!(body(&reply).replace(r#""choices":[],"#, ""), r#"{"error":{"message":"busy","code":503}}"#);
    }
}

#[tokio::test]
async fn a_refusal_in_an_event_is_said_in_its_words() {
    let event = "data: {\"error\":{\"message\":\"bad thing\",\"code\":400}}\n\n";
    let kinds = ["content-type: text/event-stream\r\n", ""];
    let server = Scripted::start(|_| kinds.map(|kind| answer("400 Bad Request", kind, event)).to_vec());
    let client = client(&server.base);
    for _ in kinds {
        assert_eq!(body(&post(&client, b"{}").await.unwrap()), event["data: ".len()..].trim_end());
    }
}

#[test]
fn a_stream_that_moves_may_take_an_hour_and_a_silent_one_may_not() {
    const MINUTE: Duration = Duration::from_mins(1);
    let patience = StreamPatience { first_token: MINUTE * 2, stall: Duration::from_secs(61), whole: MINUTE * 10 };
    let begun = Instant::now();
    let mut watch = StreamWatch::new(begun, patience);
    // Comments before the first piece do not help.
    watch.heard(begun + MINUTE, false, Awaited::Answer);
    assert_eq!(watch.until(Awaited::Answer), begun + MINUTE * 2);
    assert!(watch.too_slow().message.starts_with("no first token within 120 s"));
    let mut now = begun + MINUTE;
    for minute in 1..=60 {
        assert!(watch.until(Awaited::Answer) > now, "cut after {minute} minutes");
        watch.heard(now, true, Awaited::Answer);
        now += MINUTE;
    }
    assert_eq!(watch.first_token, Some(MINUTE));
    // It is silent from now on.
    assert_eq!(watch.until(Awaited::Answer), begun + MINUTE * 60 + Duration::from_secs(61));
    assert!(watch.too_slow().message.starts_with("the stream stalled for 61 s"));
    watch.heard(now, true, Awaited::End);
    assert_eq!(watch.until(Awaited::End), now + LAST_BYTES);
    watch.heard(now + LAST_BYTES / 2, true, Awaited::End);
    assert_eq!(watch.until(Awaited::End), now + LAST_BYTES, "no part of the answer");
}

#[tokio::test]
async fn open_streams_share_their_memory() {
    const STREAMS: usize = 16;
    const ROOM: usize = 400 << 10;
    // A megabyte each, in pieces of 4 KB.
    let long = PIECE.replace("ab", &"x".repeat(4 << 10));
    let stream = format!("{}{END}\n\n", format!("{long}\n\n").repeat(256));
    let reply: Arc<str> = answer("200 OK", "connection: close\r\ncontent-type: text/event-stream\r\n", &stream).into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = client(&format!("http://{}", listener.local_addr().unwrap()));
    // All are sent at once.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().take(STREAMS).map(Result::unwrap) {
            let reply = Arc::clone(&reply);
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(reply.as_bytes());
            });
        }
    });
    client.streams = Arc::new(StreamMemory::with_room(ROOM));
    let client = &client;
    let patience = StreamPatience { first_token: Duration::from_mins(1), stall: Duration::from_mins(1), ..PATIENCE };
    let to = client.row_address("/chat/completions");
    let posts = (0..STREAMS).map(|_| client.post_streamed(&to, Bytes::from_static(b"{}"), patience));
    for reply in futures_util::future::join_all(posts).await {
        assert!(reply.unwrap().reply.body.len() > 1 << 20);
    }
    let most = client.streams.most.load(Ordering::Relaxed);
    // The small ones, the one that is read on, and what arrives at once.
    let bound = ROOM + STREAMS * (64 << 10) + (1 << 20) + STREAMS * (420 << 10);
    assert!(most <= bound, "{most} bytes, {} at once", STREAMS << 20);
    assert_eq!(client.streams.held.load(Ordering::Relaxed), 0);
}
