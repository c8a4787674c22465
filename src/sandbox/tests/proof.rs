//! What a client's proofs of "nothing lost, nothing paid twice" stand on: acts that happen although their answer does
//! not arrive, servers that come and go, and the account of it all.

use serde_json::{Value, json};

use super::batches::{
    content_of, create, ended, input, job, kept, lines, put, quick, register, sha256, submit, upload,
};
use super::*;

fn stats(handle: &Sandbox) -> Value {
    send(handle, "GET", "/sandbox/stats", "", b"").json()
}

fn list(handle: &Sandbox) -> Vec<Value> {
    let seen = send(handle, "GET", "/v1/batches", KEY, b"").json();
    seen.as_array().cloned().unwrap_or_default()
}

fn scripted(faults: &[&str]) -> Sandbox {
    start(Config { faults: faults.iter().map(|spec| spec.parse().unwrap()).collect(), ..quick() }).unwrap()
}

#[test]
fn a_create_may_be_done_and_its_answer_lost() {
    for (what, status, end) in [
        ("status=500", 500, None),
        ("reset", 0, Some(ErrorKind::ConnectionReset)),
        ("close", 0, None),
        ("hang", 0, Some(ErrorKind::WouldBlock)),
        ("html", 200, None),
        ("empty-body", 200, None),
        ("null-job", 201, None),
        ("truncate", 201, None),
    ] {
        let handle = scripted(&[&format!("{what},on=create,after,nth=1")]);
        let file = upload(&handle, input(1).as_bytes());
        let seen = create(&handle, &file);
        assert_eq!((seen.status, seen.end), (status, end), "{what}");
        assert!(serde_json::from_slice::<Value>(&seen.body).map_or(true, |body| body["job"].is_null()), "{what}");
        let found = list(&handle);
        assert_eq!((found.len(), &found[0]["input_file_id"]), (1, &json!(file)), "{what}");
        assert_eq!(create(&handle, &file).status, 201, "{what}: once only");
    }
}

#[test]
fn a_create_may_fail_without_a_job() {
    for what in ["status=500", "reset", "html", "null-job"] {
        let handle = scripted(&[&format!("{what},on=create,nth=1")]);
        let file = upload(&handle, input(1).as_bytes());
        create(&handle, &file);
        assert_eq!((list(&handle).len(), &stats(&handle)["batches"]["created"]), (0, &json!(0)), "{what}");
    }
}

#[test]
fn batch_routes_fail_in_their_own_shape() {
    let handle = scripted(&["status=404,on=batch", "status=429,on=list,retry-after=2", "status=521,on=create"]);
    let seen = send(&handle, "GET", "/v1/batches/x", KEY, b"");
    assert_eq!((seen.status, seen.json()["error"].is_string()), (404, true), "{}", seen.text());
    let seen = send(&handle, "GET", "/v1/batches", KEY, b"");
    assert_eq!((seen.status, seen.header("retry-after")), (429, Some("2")));
    assert_eq!(create(&handle, "x").text(), "error code: 521");
}

#[test]
fn a_state_that_cannot_be_kept_is_said_at_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = start(kept(file.path())).unwrap_err().to_string();
    assert!(error.contains(&format!("cannot be kept in {}", file.path().display())), "{error}");
}

#[test]
fn a_cancel_may_be_done_and_its_answer_lost() {
    let handle = scripted(&["status=500,on=cancel,after,nth=1"]);
    let id = submit(&handle, input(3).as_bytes());
    assert_eq!(send(&handle, "POST", &format!("/v1/batches/{id}/cancel"), KEY, b"").status, 500);
    assert_eq!(ended(&handle, &id)["status"], "CANCELLED");
}

#[test]
fn an_upload_may_break_in_the_middle() {
    let handle = scripted(&["reset,on=put,nth=1"]);
    let text = input(20_000);
    let first = register(&handle, "in.jsonl", &sha256(text.as_bytes()));
    let (host, path) = super::batches::split(first.header("location").unwrap());
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!("PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", text.len());
    let mut answer = Vec::new();
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&text.as_bytes()[..text.len() / 2]));
    assert!(sent.and_then(|()| stream.read_to_end(&mut answer)).is_err(), "the connection is reset");
    assert!(answer.is_empty());
    let id = first.header("x-together-file-id").unwrap();
    assert_eq!(create(&handle, id).status, 400, "nothing was stored");
    // Both go on from here: the same place again, or another registration.
    assert_eq!(put(&first, "", text.as_bytes()).status, 200);
    assert_eq!(register(&handle, "in.jsonl", &sha256(text.as_bytes())).status, 409);
}

#[test]
fn a_stored_upload_whose_answer_was_lost_is_a_409() {
    let handle = scripted(&["reset,on=put,after,nth=1"]);
    let text = input(2);
    let first = register(&handle, "in.jsonl", &sha256(text.as_bytes()));
    assert_eq!(put(&first, "", text.as_bytes()).status, 0);
    let again = register(&handle, "in.jsonl", &sha256(text.as_bytes()));
    assert_eq!(again.status, 409);
    assert_eq!(again.json()["file_id"].as_str(), first.header("x-together-file-id"));
}

#[test]
fn a_broken_download_goes_on_by_range() {
    for redirect in [false, true] {
        for what in ["truncate", "reset-late", "short"] {
            let faults = vec![format!("{what},on=content,times=2").parse().unwrap()];
            let handle =
                start(Config { downloads: Downloads { redirect, ..Downloads::default() }, faults, ..quick() }).unwrap();
            let text = input(30);
            let mut path = format!("/v1/files/{}/content", upload(&handle, text.as_bytes()));
            let (mut host, mut key) = (address(&handle), KEY);
            if redirect {
                let there = send(&handle, "GET", &path, KEY, b"");
                (host, path) = super::batches::split(there.header("location").unwrap());
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

#[test]
fn the_account_counts_batches_and_realtime_together() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(kept(dir.path())).unwrap();
    let file = upload(&first, input(3).as_bytes());
    let id = create(&first, &file).json()["job"]["id"].as_str().unwrap().to_owned();
    // The same row, as `batch::input` asks it, in realtime.
    let body = json!({"model": "a/b", "messages": [{"role": "user", "content": "prompt 2"}]}).to_string();
    assert_eq!(send(&first, "POST", "/v1/chat/completions", KEY, body.as_bytes()).status, 200);
    let seen = stats(&first);
    assert_eq!((&seen["bill"]["requests"], &seen["paid_again"]), (&json!(1), &json!(0)));
    let expected = json!([{"id": id, "input_file_id": file, "rows": 3, "status": "VALIDATING"}]);
    assert_eq!(seen["batches"]["jobs"], expected);
    std::thread::sleep(Duration::from_millis(450));
    // Nobody asked for the job since it ended; it is paid all the same.
    let seen = stats(&first);
    assert_eq!((&seen["bill"]["requests"], &seen["paid_again"]), (&json!(4), &json!(1)));
    assert_eq!(seen["paid"][digest("prompt 2")], 2);
    assert_eq!(seen["batches"]["bill"]["requests"], 3);
    assert_eq!(seen["batches"]["jobs"][0]["status"], "COMPLETED");
    first.stop();
    // Realtime ends with its server; the bill of the job stays, and asking again makes nothing new.
    let second = start(kept(dir.path())).unwrap();
    for _ in 0..2 {
        let seen = stats(&second);
        assert_eq!((&seen["bill"]["requests"], &seen["paid_again"]), (&json!(3), &json!(0)));
        assert_eq!((&seen["paid"][digest("prompt 1")], &seen["batches"]["created"]), (&json!(1), &json!(1)));
    }
    let last = job(&second, &id);
    assert_eq!(lines(&second, &last["output_file_id"]).len(), 3);
}

#[test]
fn a_server_killed_while_it_writes_results_leaves_them_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(kept(dir.path())).unwrap();
    let id = submit(&first, input(3).as_bytes());
    let before = ended(&first, &id);
    let bytes = content_of(&first, &before["output_file_id"]);
    first.stop();
    // As a kill before the last step leaves it: the files are there, and the job does not know of them.
    let path = dir.path().join("batches").join(format!("{id}.json"));
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["result"] = Value::Null;
    std::fs::write(&path, record.to_string()).unwrap();
    let second = start(kept(dir.path())).unwrap();
    let after = ended(&second, &id);
    assert_eq!(after, before);
    assert_eq!(content_of(&second, &after["output_file_id"]), bytes);
    let files = send(&second, "GET", "/v1/files", KEY, b"").json();
    assert_eq!(files["data"].as_array().unwrap().len(), 2, "input and output: {files}");
    assert_eq!(stats(&second)["bill"]["requests"], 3);
}

#[test]
fn two_servers_at_once_do_not_lose_each_others_work() {
    let dir = tempfile::tempdir().unwrap();
    let servers = [start(kept(dir.path())).unwrap(), start(kept(dir.path())).unwrap()];
    std::thread::scope(|scope| {
        for (i, server) in servers.iter().enumerate() {
            scope.spawn(move || {
                for n in 0..5 {
                    let text = input(1).replace("prompt 1", &format!("server {i} prompt {n}"));
                    submit(server, text.as_bytes());
                }
            });
        }
    });
    std::thread::sleep(Duration::from_millis(450));
    let all = std::thread::scope(|scope| {
        let seen: Vec<_> = servers.iter().map(|server| scope.spawn(|| list(server))).collect();
        seen.into_iter().map(|seen| seen.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(all[0].len(), 10);
    assert_eq!(all[0], all[1], "whoever writes a result down, both show it");
    for server in &servers {
        let seen = stats(server);
        assert_eq!((&seen["bill"]["requests"], &seen["paid_again"]), (&json!(10), &json!(0)));
    }
}
