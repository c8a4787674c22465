use std::cell::Cell;
use std::time::Duration;

use super::*;
use crate::api::scripted::{Scripted, answer, client};

/// Downloads `file-1` with `had` in the part. Returns the result, the part's content, and the last progress.
async fn fetch(server: &Scripted, had: &str) -> (Result<u64, Failure>, String, u64) {
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("part");
    if !had.is_empty() {
        std::fs::write(&part, had).unwrap();
    }
    let mut client = client(&server.base);
    client.bare.stall = Duration::from_millis(400);
    let last = Cell::new(0);
    let result = client.download("file-1", &part, &|bytes| last.set(bytes)).await;
    (result.map(|file| file.length), std::fs::read_to_string(&part).unwrap(), last.get())
}

fn ranges(server: &Scripted) -> Vec<Option<String>> {
    server.seen().iter().map(|seen| seen.header("range").map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_file_is_downloaded_whole() {
    let server = Scripted::start(|_| vec![answer("200 OK", "", "hello\n")]);
    assert_eq!(fetch(&server, "").await, (Ok(6), "hello\n".into(), 6));
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "GET /v1/files/file-1/content HTTP/1.1");
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!((seen.header("range"), seen.header("authorization").is_some()), (None, true));
    // No length announced: what came is what there is; the caller compares.
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let server = Scripted::start(|_| vec![chunked.into()]);
    assert_eq!(fetch(&server, "").await, (Ok(3), "abc".into(), 3));
    let server = Scripted::start(|_| vec![answer("200 OK", "", "")]);
    assert_eq!(fetch(&server, "").await, (Ok(0), String::new(), 0));
}

#[tokio::test]
async fn a_part_is_resumed_if_the_server_can() {
    let part = |range: &str, body: &str| answer("206 Partial", &format!("content-range: bytes {range}\r\n"), body);
    let whole = || answer("200 OK", "", "abcdef");
    let past = |range: &str| answer("416 No", &format!("content-range: bytes {range}\r\n"), "");
    // What was there, the answers, and the number of requests that the result took.
    let cases = [
        ("abc", vec![part("3-5/6", "def")], 1),
        // Range is not honoured.
        ("abc", vec![whole()], 1),
        // All is there.
        ("abcdef", vec![past("*/6")], 1),
        // More than all, or nobody knows.
        ("abcdefgh", vec![past("*/6"), whole()], 2),
        ("abcdef", vec![answer("416 No", "", ""), whole()], 2),
        // Another range than asked for, of a size that is not given, or that does not agree with itself, or none.
        ("abc", vec![part("0-5/6", "abcdef"), whole()], 2),
        ("abc", vec![part("4-5/6", "ef"), whole()], 2),
        ("abc", vec![part("3-5/*", "def"), whole()], 2),
        ("abc", vec![part("3-5/6", "de"), whole()], 2),
        ("abc", vec![part("3-6/6", "defg"), whole()], 2),
        ("abc", vec![answer("206 Partial", "", "def"), whole()], 2),
    ];
    for (had, answers, requests) in cases {
        let shown = answers[0].clone();
        let server = Scripted::start(|_| answers);
        assert_eq!(fetch(&server, had).await, (Ok(6), "abcdef".into(), 6), "{shown}");
        let mut expected = vec![Some(format!("bytes={}-", had.len())), None];
        expected.truncate(requests);
        assert_eq!(ranges(&server), expected, "{shown}");
    }
}

#[tokio::test]
async fn bytes_before_a_break_are_kept() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcd";
    let cut_range = "HTTP/1.1 206 Partial\r\ncontent-range: bytes 2-5/6\r\ncontent-length: 4\r\n\r\ncd";
    let less = answer("206 Partial", "content-range: bytes 2-3/6\r\n", "cd");
    let cases = [
        ("", cut.to_owned(), Fault::Broken),
        ("", format!("{cut}<hang>"), Fault::Timeout),
        ("ab", cut_range.to_owned(), Fault::Broken),
        // Whole in itself, but not all that there is.
        ("ab", less, Fault::Broken),
    ];
    for (had, answer, fault) in cases {
        let server = Scripted::start(|_| vec![answer.clone()]);
        let (result, part, progress) = fetch(&server, had).await;
        assert_eq!((result.unwrap_err().fault, part.as_str(), progress), (fault, "abcd", 4), "{answer}");
    }
    let server = Scripted::start(|_| vec![String::new()]);
    let (result, part, _) = fetch(&server, "ab").await;
    assert_eq!((result.unwrap_err().fault, part.as_str()), (Fault::Timeout, "ab"));
}

#[tokio::test]
async fn more_bytes_than_announced_are_discarded() {
    let long =
        "HTTP/1.1 206 Partial\r\ntransfer-encoding: chunked\r\ncontent-range: bytes 2-3/4\r\n\r\n3\r\ncde\r\n0\r\n\r\n";
    let server = Scripted::start(|_| vec![long.into()]);
    let (result, part, _) = fetch(&server, "ab").await;
    assert_eq!((result.unwrap_err().fault, part.as_str()), (Fault::BadResponse, ""));
}

#[tokio::test]
async fn a_response_without_a_file_leaves_the_part_alone() {
    let cases = [
        ("200 OK", "content-encoding: gzip\r\n", "xyz", Fault::BadResponse),
        ("206 Partial", "content-encoding: gzip\r\ncontent-range: bytes 2-4/5\r\n", "xyz", Fault::BadResponse),
        ("404 Not Found", "", r#"{"error":{"message":"no such file"}}"#, Fault::NotFound),
        ("403 Forbidden", "", r#"{"error":"not in this context"}"#, Fault::Auth),
        ("500 Oops", "", r#"{"error":{"message":"x"}}"#, Fault::Server),
        ("304 Not Modified", "", "", Fault::BadResponse),
    ];
    for (status, headers, body, fault) in cases {
        let server = Scripted::start(|_| vec![answer(status, headers, body)]);
        let (result, part, _) = fetch(&server, "ab").await;
        assert_eq!((result.unwrap_err().fault, part.as_str()), (fault, "ab"), "{status} {headers}");
    }
    let server = Scripted::start(|_| vec![answer("200 OK", "content-encoding: identity\r\n", "abc")]);
    assert_eq!(fetch(&server, "").await.0, Ok(3));
}

#[tokio::test]
async fn a_web_page_is_told_from_a_file_by_its_content() {
    for (body, expected) in [("<html>", Err(Fault::BadResponse)), ("{\"custom_id\":\"<a>\"}", Ok(19))] {
        let server = Scripted::start(move |_| vec![answer("200 OK", "content-type: text/html\r\n", body)]);
        let (result, part, _) = fetch(&server, "").await;
        assert_eq!((result.map_err(|f| f.fault), part.len()), (expected, expected.map_or(0, |n| n as usize)), "{body}");
    }
}

#[tokio::test]
async fn the_key_is_sent_to_the_api_only() {
    for status in ["301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent"] {
        let storage = Scripted::start(|base| {
            let onward = answer("302 Found", &format!("location: {base}/second?sig=1\r\n"), "");
            vec![onward, answer("206 Partial", "content-range: bytes 2-3/4\r\n", "cd")]
        });
        let first = format!("location: {}/first?sig=1\r\n", storage.base);
        let server = Scripted::start(|_| vec![answer(status, &first, "")]);
        assert_eq!(fetch(&server, "ab").await, (Ok(4), "abcd".into(), 4), "{status}");
        assert!(server.seen()[0].header("authorization").is_some());
        for seen in storage.seen() {
            assert_eq!(seen.header("authorization"), None, "{status}");
            assert_eq!(seen.header("referer"), None, "{status}");
            assert_eq!(seen.header("range"), Some("bytes=2-"), "{status}");
            assert!(!format!("{seen:?}").contains("test-key"), "{status}");
        }
    }
}

#[tokio::test]
async fn a_storage_error_is_reported_as_storage_and_never_as_the_key() {
    let expired = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
    let storage = Scripted::start(|_| vec![answer("403 Forbidden", "", expired)]);
    let there = format!("location: {}/x?sig=verysecretsignature\r\n", storage.base);
    let server = Scripted::start(|_| vec![answer("302 Found", &there, "")]);
    let failure = fetch(&server, "").await.0.unwrap_err();
    assert_eq!(failure.fault, Fault::Server);
    assert_eq!(failure.message, "storage at 127.0.0.1: HTTP 403: AccessDenied: Request has expired");
}

#[tokio::test]
async fn endless_redirects_end_the_download() {
    let server = Scripted::start(|_| vec![answer("302 Found", "location: /x\r\n", ""); 30]);
    assert_eq!(fetch(&server, "").await.0.unwrap_err().fault, Fault::BadResponse);
    assert_eq!(server.seen().len(), 1 + MAX_HOPS);
    let server = Scripted::start(|_| vec![answer("302 Found", "location: http://bucket.example/x\r\n", "")]);
    assert_eq!(fetch(&server, "").await.0.unwrap_err().fault, Fault::BadResponse);
}

#[tokio::test]
async fn an_unwritable_part_fails_before_any_request() {
    let server = Scripted::start(|_| vec![answer("200 OK", "", "x")]);
    let failure = client(&server.base).download("file-1", Path::new("no/such/dir/part"), &|_| ()).await.unwrap_err();
    assert_eq!(failure.fault, Fault::Local);
    assert!(failure.message.contains("no/such/dir/part"), "{}", failure.message);
    let bad = client(&server.base).download("../x", Path::new("never"), &|_| ()).await.unwrap_err();
    assert_eq!(bad.fault, Fault::InvalidRequest);
    assert!(server.seen().is_empty() && !Path::new("never").exists());
}
