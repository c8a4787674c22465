use std::cell::RefCell;
use std::time::Duration;

use super::*;
use crate::api::error::Class;
use crate::api::scripted::{Scripted, SeenRequest, answer, client};

const SUM: &str = "ab12";
const TAKEN: &str = r#"{"id":"file-1","bytes":3}"#;

/// Makes the 302 that sends an upload to `place`.
fn sent_to(place: &str) -> String {
    answer("302 Found", &format!("location: {place}\r\nx-together-file-id: file-1\r\n"), "")
}

/// Takes all steps of an upload.
async fn all_steps(client: &Client, upload: &Upload<'_>, progress: &dyn Fn(u64)) -> Result<Registered, Failure> {
    let registered = client.register(upload).await?;
    if let Registered::At(id, place) = &registered {
        client.put(place.clone(), upload, progress).await?;
        client.preprocess(id).await?;
    }
    Ok(registered)
}

/// Uploads these bytes. Returns the result, and the last progress of each attempt.
async fn upload(server: &Scripted, bytes: &[u8], stall: Duration) -> (Result<Registered, Failure>, Vec<u64>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut client = client(&server.base);
    client.bare.stall = stall;
    let seen = RefCell::new(Vec::new());
    let what = Upload { path: file.path(), name: "shard-1.jsonl", bytes: bytes.len() as u64, sha256: SUM };
    let result = all_steps(&client, &what, &|bytes| seen.borrow_mut().push(bytes)).await;
    (result, seen.into_inner())
}

async fn quick(server: &Scripted) -> Result<Registered, Failure> {
    upload(server, b"abc", Duration::from_mins(1)).await.0
}

fn lines(seen: &[SeenRequest]) -> Vec<&str> {
    seen.iter().map(|seen| seen.line.as_str()).collect()
}

#[tokio::test]
async fn the_bytes_go_to_storage_without_the_key() {
    let server = Scripted::start(|base| {
        let place = format!("{base}/bucket/key?sig=1");
        vec![sent_to(&place), answer("200 OK", "", ""), answer("200 OK", "", TAKEN)]
    });
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let (result, progress) = upload(&server, &bytes, Duration::from_mins(1)).await;
    assert!(matches!(result, Ok(Registered::At(id, _)) if id == "file-1"));
    assert!(progress.is_sorted() && progress.last() == Some(&300_000), "{progress:?}");
    let seen = server.seen();
    let expected =
        ["POST /v1/files HTTP/1.1", "PUT /bucket/key?sig=1 HTTP/1.1", "POST /v1/files/file-1/preprocess HTTP/1.1"];
    assert_eq!(lines(&seen), expected);
    let form = String::from_utf8(seen[0].body.clone()).unwrap();
    for (name, value) in
        [("purpose", "batch-api"), ("file_name", "shard-1.jsonl"), ("file_type", "jsonl"), ("checksum", SUM)]
    {
        assert!(form.contains(&format!("name=\"{name}\"\r\n\r\n{value}\r\n")), "{name} in {form}");
    }
    assert!(!form.contains("filename="), "a file part: {form}");
    assert!(seen[0].header("content-type").is_some_and(|t| t.starts_with("multipart/form-data; boundary=")));
    assert!(seen[0].header("authorization").is_some() && seen[2].header("authorization").is_some());
    assert_eq!(seen[1].header("authorization"), None);
    assert_eq!(seen[1].header("content-length"), Some("300000"));
    assert_eq!(seen[1].header("transfer-encoding"), None);
    assert!(seen[1].body == bytes, "other bytes arrived");
}

#[tokio::test]
async fn a_redirected_upload_is_sent_again_as_a_whole() {
    for status in ["301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent"] {
        let server = Scripted::start(|base| {
            let place = format!("{base}/first");
            // To the API itself: even there a PUT carries no key.
            let moved = answer(status, "location: /v1/second\r\n", "");
            vec![sent_to(&place), moved, answer("200 OK", "", ""), answer("200 OK", "", TAKEN)]
        });
        assert!(matches!(quick(&server).await, Ok(Registered::At(id, _)) if id == "file-1"), "{status}");
        let seen = server.seen();
        assert_eq!(seen[2].line, "PUT /v1/second HTTP/1.1", "{status}");
        assert_eq!((&seen[2].body[..], seen[2].header("authorization")), (&b"abc"[..], None), "{status}");
    }
}

#[tokio::test]
async fn endless_redirects_end_the_upload() {
    let server = Scripted::start(|base| {
        let around = || answer("307 Temporary", "location: /again\r\n", "");
        let first = sent_to(&format!("{base}/again"));
        std::iter::once(first).chain(std::iter::repeat_with(around).take(30)).collect()
    });
    assert_eq!(quick(&server).await.unwrap_err().fault, Fault::BadResponse);
    assert_eq!(server.seen().len(), 1 + 1 + MAX_HOPS);
}

#[tokio::test]
async fn the_same_bytes_are_not_sent_twice() {
    let there = answer("409 Conflict", "", r#"{"error":{"message":"exists"},"file_id":"file-9"}"#);
    let server = Scripted::start(|_| vec![there]);
    assert_eq!(quick(&server).await, Ok(Registered::AlreadyThere("file-9".into())));
    for body in ["{}", r#"{"file_id":"../x"}"#, r#"{"file_id":null}"#, "<html>"] {
        let server = Scripted::start(|_| vec![answer("409 Conflict", "", body)]);
        assert_eq!(quick(&server).await.unwrap_err().class(), Class::Ambiguous, "{body}");
    }
}

#[tokio::test]
async fn a_registration_without_a_place_is_a_failure() {
    let id = "x-together-file-id: file-1\r\n";
    let cases = [
        ("200 OK", id.to_owned(), Fault::BadResponse),
        ("302 Found", id.to_owned(), Fault::BadResponse),
        ("302 Found", "location: http://127.0.0.1:1/x\r\n".to_owned(), Fault::BadResponse),
        ("302 Found", "location: http://127.0.0.1:1/x\r\nx-together-file-id: a/b\r\n".to_owned(), Fault::BadResponse),
        ("302 Found", format!("location: http://bucket.example/x\r\n{id}"), Fault::BadResponse),
        ("307 Temporary", format!("location: /x\r\n{id}"), Fault::BadResponse),
        ("401 No", String::new(), Fault::Auth),
        ("403 No", String::new(), Fault::Auth),
        ("503 Busy", String::new(), Fault::Overloaded),
    ];
    for (status, headers, fault) in cases {
        let server = Scripted::start(|_| vec![answer(status, &headers, r#"{"error":"no such context"}"#)]);
        let failure = quick(&server).await.unwrap_err();
        assert_eq!(failure.fault, fault, "{status} {headers}");
        assert_eq!(failure.message.contains("trial credits"), status.starts_with("401"), "{}", failure.message);
        assert_eq!(server.seen().len(), 1, "{status} {headers}");
    }
}

#[tokio::test]
async fn only_a_200_of_storage_completes_an_upload() {
    let expired = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
    let cases = [
        ("403 Forbidden", expired, Fault::Server, "storage at 127.0.0.1: HTTP 403: AccessDenied: Request has expired"),
        ("404 Not Found", "", Fault::Server, "storage at"),
        ("201 Created", "", Fault::BadResponse, "storage at"),
        ("204 No Content", "", Fault::BadResponse, "storage at"),
        ("503 Slow", "", Fault::Overloaded, "storage at"),
    ];
    // Storage is another origin: the same machine, another port.
    for (status, body, fault, message) in cases {
        let storage = Scripted::start(|_| vec![answer(status, "", body)]);
        let server = Scripted::start(|_| vec![sent_to(&format!("{}/x?sig=secret", storage.base))]);
        let failure = quick(&server).await.unwrap_err();
        assert_eq!(failure.fault, fault, "{status}");
        assert!(failure.message.starts_with(message) && !failure.message.contains("secret"), "{}", failure.message);
        assert_eq!((server.seen().len(), storage.seen().len()), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn a_stalled_or_broken_upload_is_a_failure() {
    for (said, fault) in [("", Fault::Timeout), ("HTTP/1.1 200", Fault::Broken)] {
        let server = Scripted::start(|base| vec![sent_to(&format!("{base}/x")), said.to_owned()]);
        let (result, _) = upload(&server, b"abc", Duration::from_millis(40)).await;
        assert_eq!(result.unwrap_err().fault, fault, "{said:?}");
    }
}

#[tokio::test]
async fn an_unprocessed_file_is_not_uploaded() {
    for body in [r#"{"id":"file-2"}"#, "<html>", ""] {
        let server = Scripted::start(|base| {
            vec![sent_to(&format!("{base}/x")), answer("200 OK", "", ""), answer("200 OK", "", body)]
        });
        assert_eq!(quick(&server).await.unwrap_err().fault, Fault::BadResponse, "{body}");
    }
}

#[tokio::test]
async fn a_changed_file_is_not_uploaded() {
    let server = Scripted::start(|_| vec![answer("200 OK", "", "")]);
    let client = client(&server.base);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "four").unwrap();
    let upload = Upload { path: file.path(), name: "x", bytes: 3, sha256: SUM };
    let failure = client.register(&upload).await.unwrap_err();
    assert_eq!(failure.fault, Fault::Local);
    assert!(failure.message.contains(file.path().to_str().unwrap()) && failure.message.contains("changed"));
    let gone = Upload { path: Path::new("no/such/file"), ..upload };
    assert_eq!(client.register(&gone).await.unwrap_err().fault, Fault::Local);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_file_that_shrinks_meanwhile_is_a_local_fault() {
    let server = Scripted::start(|_| vec![answer("200 OK", "", "")]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 1000]).unwrap();
    let upload = Upload { path: file.path(), name: "x", bytes: 1000, sha256: SUM };
    let (pieces, moved) = FilePieces::open(&upload).unwrap();
    std::fs::write(file.path(), "").unwrap();
    let url = Url::parse(&server.base).unwrap();
    let failure = client(&server.base).put_once(&url, pieces, &moved, &|_| ()).await.unwrap_err();
    assert_eq!(failure.fault, Fault::Local);
    assert!(failure.message.contains("shorter"), "{}", failure.message);
}
