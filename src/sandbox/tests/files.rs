//! Uploads and downloads over TCP.

use super::*;

#[test]
fn an_upload_takes_the_steps_of_the_service() {
    let server = start(quick()).unwrap();
    let text = input(2);
    let sum = sha256(text.as_bytes());
    let first = register(&server, "my%20rows.jsonl", &sum);
    let id = first.header("x-together-file-id").unwrap().to_owned();
    let (host, path) = split(first.header("location").unwrap());
    assert_ne!(host, address(&server), "storage is another origin");

    assert_eq!(put(&first, KEY, text.as_bytes()).status, 400, "two kinds of authorization");
    assert_eq!(put(&first, "", b"other bytes").status, 400, "the checksum differs");
    assert_eq!(send_to(&host, "PUT", path.split('?').next().unwrap(), "", text.as_bytes()).status, 403);
    let mut stream = TcpStream::connect(&host).unwrap();
    let head =
        format!("PUT {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 411"), "{answer}");
    assert_eq!(create(&server, &id).status, 400, "no bytes yet");
    assert_eq!(get(&server, &format!("/v1/files/{id}/content")).status, 404);

    assert_eq!(put(&first, "", text.as_bytes()).status, 200);
    let file = get(&server, &format!("/v1/files/{id}")).json();
    assert_eq!((&file["filename"], &file["bytes"]), (&json!("my rows.jsonl"), &json!(text.len())));
    assert_eq!((&file["object"], &file["LineCount"]), (&json!("file"), &json!(2)));

    let again = register(&server, "other.jsonl", &sum);
    assert_eq!((again.status, &again.json()["file_id"]), (409, &json!(id)));
    let listed = get(&server, "/v1/files").json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    let gone = send(&server, "DELETE", &format!("/v1/files/{id}"), KEY, b"").json();
    assert_eq!(gone["deleted"], true);
    assert_eq!(get(&server, &format!("/v1/files/{id}")).status, 404);
    assert_eq!(register(&server, "other.jsonl", &sum).status, 302);
}

#[test]
fn an_upload_may_be_a_multipart_form_or_a_query() {
    let server = start(quick()).unwrap();
    let headers = format!("{KEY}content-type: multipart/form-data; boundary=\"XX\"\r\n");
    let part =
        |name: &str, value: &str| format!("--XX\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let text = "line 1\r\nline --XX 2\n";
    let fields = part("purpose", "batch-api") + &part("file_name", "x y.jsonl");
    let head = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"y\"\r\nContent-Type: x/y\r\n\r\n";
    let body = format!("{fields}{head}{text}\r\n--XX--");
    let seen = send(&server, "POST", "/v1/files/upload", &headers, body.as_bytes());
    assert_eq!((seen.status, &seen.json()["filename"]), (200, &json!("x y.jsonl")));
    assert_eq!(content_of(&server, &seen.json()["id"]), text.as_bytes());
    let seen = send(&server, "POST", "/v1/files", &headers, (fields + "--XX--").as_bytes());
    assert_eq!(seen.status, 302);
    for (query, name) in
        [("file_name=x+y", "x y"), ("file_name=%C3%A9%2f", "é/"), ("file_name=x&file_name=100%", "100%")]
    {
        let seen = post(&server, &format!("/v1/files?purpose=batch-api&{query}"), "");
        let id = seen.header("x-together-file-id").unwrap().to_owned();
        assert_eq!(get(&server, &format!("/v1/files/{id}")).json()["filename"], name);
    }
    assert_eq!(post(&server, "/v1/files?purpose=batch-api", "").status, 400);
    assert_eq!(post(&server, "/v1/files?purpose=batch-api&file_name", "").status, 400);
}

#[test]
fn a_broken_multipart_body_is_refused() {
    let server = start(quick()).unwrap();
    for (kind, body) in [
        ("multipart/form-data", "--X--"),
        ("multipart/form-data; boundary=X", "nothing"),
        ("multipart/form-data; boundary=X", "--X\r\nno end"),
        ("multipart/form-data; boundary=X", "--X\r\na: b\r\n\r\nvalue"),
    ] {
        let headers = format!("{KEY}content-type: {kind}\r\n");
        let seen = send(&server, "POST", "/v1/files/upload", &headers, body.as_bytes());
        assert_eq!((seen.status, &seen.json()["error"]["type"]), (400, &json!("invalid_request_error")), "{body}");
        assert!(seen.json()["error"]["param"].is_null(), "the body itself is at fault: {}", seen.text());
    }
}

#[test]
fn an_upload_may_break_in_the_middle() {
    let server = scripted(&["reset,on=put,nth=1"]);
    let text = input(20_000);
    let first = register(&server, "in.jsonl", &sha256(text.as_bytes()));
    let (host, path) = split(first.header("location").unwrap());
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!("PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", text.len());
    let mut answer = Vec::new();
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&text.as_bytes()[..text.len() / 2]));
    assert!(sent.and_then(|()| stream.read_to_end(&mut answer)).is_err(), "the connection is reset");
    assert!(answer.is_empty());
    let id = first.header("x-together-file-id").unwrap();
    assert_eq!(create(&server, id).status, 400, "nothing was stored");
    // Both go on from here: the same place again, or another registration.
    assert_eq!(put(&first, "", text.as_bytes()).status, 200);
    assert_eq!(register(&server, "in.jsonl", &sha256(text.as_bytes())).status, 409);
}

#[test]
fn a_stored_upload_whose_answer_was_lost_is_a_409() {
    let server = scripted(&["reset,on=put,after,nth=1"]);
    let text = input(2);
    let first = register(&server, "in.jsonl", &sha256(text.as_bytes()));
    assert_eq!(put(&first, "", text.as_bytes()).status, 0);
    let again = register(&server, "in.jsonl", &sha256(text.as_bytes()));
    assert_eq!(again.status, 409);
    assert_eq!(again.json()["file_id"].as_str(), first.header("x-together-file-id"));
}

#[test]
fn a_redirected_download_resumes_by_range() {
    let config = SandboxConfig {
        downloads: Downloads { redirect: true, ..Downloads::default() },
        faults: vec!["truncate,on=content,times=1".parse().unwrap()],
        ..quick()
    };
    let server = start(config).unwrap();
    let text = input(30);
    let file = upload(&server, text.as_bytes());
    let path = format!("/v1/files/{file}/content");
    let seen = get(&server, &path);
    assert_eq!(seen.status, 302);
    let (host, path) = split(seen.header("location").unwrap());
    assert_eq!(send_to(&host, "GET", &path, KEY, b"").status, 400, "the key must stay with the API");
    assert_eq!(send_to(&host, "GET", &path, "", b"").body, text.as_bytes());
    let rest = send_to(&host, "GET", &path, "range: bytes=100-\r\n", b"");
    assert_eq!((rest.status, rest.body.as_slice()), (206, &text.as_bytes()[100..]));
    let length = text.len();
    assert_eq!(rest.header("content-range"), Some(format!("bytes 100-{}/{length}", length - 1).as_str()));
    let beyond = send_to(&host, "GET", &path, &format!("range: bytes={length}-\r\n"), b"");
    assert_eq!(beyond.status, 416);

    let server =
        start(SandboxConfig { downloads: Downloads { ignore_ranges: true, ..Downloads::default() }, ..quick() })
            .unwrap();
    let file = upload(&server, text.as_bytes());
    let headers = format!("{KEY}range: bytes=100-\r\n");
    let seen = send(&server, "GET", &format!("/v1/files/{file}/content"), &headers, b"");
    assert_eq!((seen.status, seen.body.len()), (200, text.len()));
}

#[test]
fn a_truncated_download_passes_the_second_time() {
    let config = SandboxConfig { faults: vec!["truncate,on=content,times=1".parse().unwrap()], ..quick() };
    let server = start(config).unwrap();
    let text = input(30);
    let path = format!("/v1/files/{}/content", upload(&server, text.as_bytes()));
    let first = get(&server, &path);
    assert_eq!(first.header("content-length"), Some(text.len().to_string().as_str()));
    assert_eq!(first.body, text.as_bytes()[..text.len() / 2]);
    assert_eq!(get(&server, &path).body, text.as_bytes());
}

#[test]
fn a_broken_download_resumes_by_range() {
    for redirect in [false, true] {
        for what in ["truncate", "reset-late", "short"] {
            let faults = vec![format!("{what},on=content,times=2").parse().unwrap()];
            let server =
                start(SandboxConfig { downloads: Downloads { redirect, ..Downloads::default() }, faults, ..quick() })
                    .unwrap();
            let text = input(30);
            let mut path = format!("/v1/files/{}/content", upload(&server, text.as_bytes()));
            let (mut host, mut key) = (address(&server), KEY);
            if redirect {
                let there = get(&server, &path);
                (host, path) = split(there.header("location").unwrap());
                key = "";
            }
            let mut got = Vec::new();
            let mut attempts = 0;
            while got.len() < text.len() {
                let seen = send_to(&host, "GET", &path, &format!("{key}range: bytes={}-\r\n", got.len()), b"");
                attempts += 1;
                assert_eq!(seen.status, 206, "{what}");
                let shown = format!("bytes {}-{}/{}", got.len(), text.len() - 1, text.len());
                assert_eq!(seen.header("content-range"), Some(shown.as_str()), "{what}");
                assert!(!seen.body.is_empty(), "{what}");
                got.extend(seen.body);
            }
            assert_eq!((attempts, got == text.as_bytes()), (3, true), "{what}: halves of what is left, then the rest");
        }
    }
}
