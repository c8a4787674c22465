//! Servers that come and go on one state directory, and the account of it all.

use super::*;

#[test]
fn a_job_outlives_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        SandboxConfig { faults: vec!["status=500,on=row,contains=prompt 2".parse().unwrap()], ..kept(dir.path()) };
    let first = start(config).unwrap();
    let id = submit(&first, input(3).as_bytes());
    first.stop();
    std::thread::sleep(Duration::from_millis(450));
    // Two servers at a time, without the script of the first: the faults were kept with the job.
    let (second, third) = (start(kept(dir.path())).unwrap(), start(kept(dir.path())).unwrap());
    let (a, b) = std::thread::scope(|scope| {
        let a = scope.spawn(|| job(&second, &id));
        let b = scope.spawn(|| job(&third, &id));
        (a.join().unwrap(), b.join().unwrap())
    });
    assert_eq!(a, b);
    assert_eq!(lines(&second, &a["output_file_id"]).len(), 2);
    let errors = lines(&third, &a["error_file_id"]);
    assert_eq!((errors.len(), &errors[0]["custom_id"]), (1, &json!("row-2")));
    assert_eq!(errors[0]["error"]["code"], "server_error");
    assert_eq!(std::fs::read_dir(dir.path().join("files")).unwrap().count(), 6, "nothing is left over");
}

#[test]
fn an_unusable_state_directory_is_an_error_at_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = start(kept(file.path())).unwrap_err().to_string();
    assert!(error.contains(&format!("cannot be kept in {}", file.path().display())), "{error}");
}

#[test]
fn the_stats_count_batches_and_realtime_together() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(kept(dir.path())).unwrap();
    let file = upload(&first, input(3).as_bytes());
    let id = create(&first, &file).json()["job"]["id"].as_str().unwrap().to_owned();
    // The same request as that of the second row, in real time.
    let body = json!({"model": "a/b", "messages": [{"role": "user", "content": "prompt 2"}]}).to_string();
    assert_eq!(post(&first, "/v1/chat/completions", &body).status, 200);
    let seen = stats(&first);
    assert_eq!((&seen["bill"]["requests"], &seen["paid_again"]), (&json!(1), &json!(0)));
    let expected = json!([{"id": id, "input_file_id": file, "rows": 3, "status": "VALIDATING"}]);
    assert_eq!(seen["batches"]["jobs"], expected);
    std::thread::sleep(Duration::from_millis(450));
    // No client asked for the job since it ended, but it is billed.
    let seen = stats(&first);
    assert_eq!((&seen["bill"]["requests"], &seen["paid_again"]), (&json!(4), &json!(1)));
    assert_eq!(seen["paid"][digest("prompt 2")], 2);
    assert_eq!(seen["batches"]["bill"]["requests"], 3);
    assert_eq!(seen["batches"]["jobs"][0]["status"], "COMPLETED");
    first.stop();
    // The realtime bill ends with its server. That of the job stays, and a second question adds nothing.
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
    // A kill before the last step leaves files that the job does not name.
    let path = dir.path().join("batches").join(format!("{id}.json"));
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["result"] = Value::Null;
    std::fs::write(&path, record.to_string()).unwrap();
    let second = start(kept(dir.path())).unwrap();
    let after = ended(&second, &id);
    assert_eq!(after, before);
    assert_eq!(content_of(&second, &after["output_file_id"]), bytes);
    let files = get(&second, "/v1/files").json();
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
    assert_eq!(all[0], all[1], "both servers show a result, whichever wrote it");
    for server in &servers {
        let seen = stats(server);
        assert_eq!((&seen["bill"]["requests"], &seen["paid_again"]), (&json!(10), &json!(0)));
    }
}
