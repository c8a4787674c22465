//! Batch jobs over TCP: their states, their rows and their faults.

use super::*;

#[test]
fn a_job_answers_every_row_out_of_order() {
    let server = start(quick()).unwrap();
    assert_eq!(get(&server, "/v1/batches").text(), "null");
    let id = submit(&server, input(20).as_bytes());
    let first = job(&server, &id);
    assert_eq!(first["status"], "VALIDATING");
    assert!(first.get("output_file_id").is_none());
    let last = ended(&server, &id);
    assert_eq!((&last["status"], &last["progress"]), (&json!("COMPLETED"), &json!(100.0)));
    assert_eq!(last["model_id"], "a/b");
    assert!(last.get("error_file_id").is_none());
    let lines = lines(&server, &last["output_file_id"]);
    let order: Vec<_> = lines.iter().map(|line| line["custom_id"].as_str().unwrap().to_owned()).collect();
    let answers: BTreeMap<_, _> = lines.iter().map(|line| (line["custom_id"].as_str().unwrap(), line)).collect();
    assert_eq!((order.len(), answers.len()), (20, 20));
    assert_ne!(order, (1..=20).map(|i| format!("row-{i}")).collect::<Vec<_>>());
    for i in 1..=20 {
        let response = &answers[format!("row-{i}").as_str()]["response"];
        assert_eq!(response["status_code"], 200);
        let text = response["body"]["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(text.contains(&digest(&format!("prompt {i}"))));
    }
    let jobs = get(&server, "/v1/batches").json();
    assert_eq!(jobs[0], last);
    let stats = send(&server, "GET", "/sandbox/stats", "", b"").json();
    assert_eq!((&stats["batches"]["created"], &stats["batches"]["bill"]["requests"]), (&json!(1), &json!(20)));
    assert_eq!(server.stats().paid.len(), 20);
}

#[test]
fn a_cancelled_job_keeps_what_was_answered() {
    let mut config = quick();
    config.batch.run = Duration::from_secs(2);
    let server = start(config).unwrap();
    let id = submit(&server, input(50).as_bytes());
    std::thread::sleep(Duration::from_millis(900));
    let asked = post(&server, &format!("/v1/batches/{id}/cancel"), "");
    assert_eq!((asked.status, &asked.json()["status"]), (200, &json!("CANCELING")));
    let last = ended(&server, &id);
    assert_eq!(last["status"], "CANCELLED");
    let count = lines(&server, &last["output_file_id"]).len();
    assert!((10..40).contains(&count), "{count}");
    let again = post(&server, &format!("/v1/batches/{id}/cancel"), "");
    assert_eq!(again.json()["status"], "CANCELLED");
    assert_eq!(post(&server, "/v1/batches/nobody/cancel", "").status, 404);
}

#[test]
fn an_expired_job_lists_undone_rows_if_it_is_set_to() {
    for list_undone in [false, true] {
        let mut config = quick();
        config.batch.expires_at = Some(0.5);
        config.batch.list_undone = list_undone;
        let server = start(config).unwrap();
        let last = ended(&server, &submit(&server, input(10).as_bytes()));
        assert_eq!(last["status"], "EXPIRED");
        assert_eq!(lines(&server, &last["output_file_id"]).len(), 5);
        assert_eq!(last.get("error_file_id").is_some(), list_undone);
        if list_undone {
            let rest = lines(&server, &last["error_file_id"]);
            assert_eq!((rest.len(), &rest[0]["error"]["code"]), (5, &json!("expired")));
        }
    }
}

#[test]
fn an_invalid_input_fails_the_job_and_an_unknown_model_its_row() {
    let server = start(quick()).unwrap();
    let twice = input(1) + &input(1);
    let last = ended(&server, &submit(&server, twice.as_bytes()));
    assert_eq!(last["status"], "FAILED");
    assert!(last["error"].as_str().unwrap().contains("used twice"), "{last}");
    assert!(last.get("output_file_id").is_none());
    let unknown = input(2).replacen("a/b", "a/no-such", 2);
    let last = ended(&server, &submit(&server, unknown.as_bytes()));
    assert_eq!(last["status"], "COMPLETED");
    assert!(last.get("output_file_id").is_none(), "every row failed");
    assert_eq!(lines(&server, &last["error_file_id"])[0]["error"]["code"], "invalid_model");
}

#[test]
fn a_create_may_be_refused_or_lie() {
    let config = SandboxConfig { faults: vec!["status=500,on=create,after,nth=1".parse().unwrap()], ..quick() };
    let server = start(config).unwrap();
    let file = upload(&server, input(1).as_bytes());
    assert_eq!(create(&server, &file).status, 500);
    let list = get(&server, "/v1/batches").json();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["input_file_id"]), (1, &json!(file)));
    assert_eq!(create(&server, "file-none").status, 400);
    let refused = send(&server, "POST", "/v1/batches", "", b"{}");
    assert_eq!((refused.status, refused.json()["error"].is_string()), (401, true));
    let body = json!({"endpoint": "/v1/images", "input_file_id": file}).to_string();
    assert_eq!(post(&server, "/v1/batches", &body).status, 400);

    let server = scripted(&["null-job"]);
    let seen = create(&server, &upload(&server, input(1).as_bytes()));
    assert_eq!((seen.status, &seen.json()["job"]), (201, &Value::Null));
    assert_eq!(get(&server, "/v1/batches").text(), "null");
}

#[test]
fn audio_rows_are_transcribed() {
    let server = start(quick()).unwrap();
    let line = json!({"custom_id": "a", "body": {"model": "openai/whisper-large-v3", "file": "https://x.test/a.mp3"}});
    let file = upload(&server, line.to_string().as_bytes());
    let body = json!({"endpoint": "/v1/audio/transcriptions", "input_file_id": file}).to_string();
    let made = post(&server, "/v1/batches", &body).json();
    let last = ended(&server, made["job"]["id"].as_str().unwrap());
    let text = lines(&server, &last["output_file_id"])[0]["response"]["body"]["text"].clone();
    assert!(text.as_str().unwrap().contains(&digest("https://x.test/a.mp3")));
}

#[test]
fn rows_go_wrong_as_scripted() {
    let script =
        ["missing", "duplicate", "conflict", "foreign", "garble", "status=500,shape=string", "status=504,shape=object"];
    let faults = script.iter().enumerate();
    let faults = faults.map(|(i, what)| format!("{what},on=row,contains=prompt {}", i + 1).parse().unwrap()).collect();
    let server = start(SandboxConfig { faults, ..quick() }).unwrap();
    let last = ended(&server, &submit(&server, input(8).as_bytes()));
    let output = lines(&server, &last["output_file_id"]);
    let count = |id: &str| output.iter().filter(|line| line["custom_id"] == id).count();
    let counts: Vec<_> = (1..=8).map(|i| count(&format!("row-{i}"))).collect();
    assert_eq!(counts, [0, 2, 2, 1, 0, 1, 0, 1]);
    assert_eq!(count("nobody-sent-this"), 1);
    assert_eq!(output.iter().filter(|line| line.is_null()).count(), 1);
    let of = |id: &str| output.iter().filter(|line| line["custom_id"] == id).collect::<Vec<_>>();
    assert_eq!(of("row-2")[0], of("row-2")[1]);
    assert_ne!(of("row-3")[0], of("row-3")[1]);
    assert_eq!(of("row-6")[0]["response"]["status_code"], 500);
    let errors = lines(&server, &last["error_file_id"]);
    assert_eq!((errors.len(), &errors[0]["response"]["status_code"]), (1, &json!(504)));
}

#[test]
fn the_list_may_lag() {
    let mut config = quick();
    config.batch.list_lag = Duration::from_millis(400);
    config.batch.unset = Some(Unset::Null);
    let server = start(config).unwrap();
    let id = submit(&server, input(1).as_bytes());
    assert_eq!(get(&server, "/v1/batches").text(), "null");
    assert!(job(&server, &id).get("error").is_some_and(Value::is_null));
    std::thread::sleep(Duration::from_millis(450));
    assert_eq!(get(&server, "/v1/batches").json().as_array().unwrap().len(), 1);
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
        let server = scripted(&[&format!("{what},on=create,after,nth=1")]);
        let file = upload(&server, input(1).as_bytes());
        let seen = create(&server, &file);
        assert_eq!((seen.status, seen.end), (status, end), "{what}");
        assert!(serde_json::from_slice::<Value>(&seen.body).map_or(true, |body| body["job"].is_null()), "{what}");
        let found = list(&server);
        assert_eq!((found.len(), &found[0]["input_file_id"]), (1, &json!(file)), "{what}");
        assert_eq!(create(&server, &file).status, 201, "{what}: once only");
    }
}

#[test]
fn a_create_may_fail_without_a_job() {
    for what in ["status=500", "reset", "html", "null-job"] {
        let server = scripted(&[&format!("{what},on=create,nth=1")]);
        let file = upload(&server, input(1).as_bytes());
        create(&server, &file);
        assert_eq!((list(&server).len(), &stats(&server)["batches"]["created"]), (0, &json!(0)), "{what}");
    }
}

#[test]
fn batch_routes_fail_in_their_own_shape() {
    let server = scripted(&["status=404,on=batch", "status=429,on=list,retry-after=2", "status=521,on=create"]);
    let seen = get(&server, "/v1/batches/x");
    assert_eq!((seen.status, seen.json()["error"].is_string()), (404, true), "{}", seen.text());
    let seen = get(&server, "/v1/batches");
    assert_eq!((seen.status, seen.header("retry-after")), (429, Some("2")));
    assert_eq!(create(&server, "x").text(), "error code: 521");
}

#[test]
fn a_cancel_may_be_done_and_its_answer_lost() {
    let server = scripted(&["status=500,on=cancel,after,nth=1"]);
    let id = submit(&server, input(3).as_bytes());
    assert_eq!(post(&server, &format!("/v1/batches/{id}/cancel"), "").status, 500);
    assert_eq!(ended(&server, &id)["status"], "CANCELLED");
}
