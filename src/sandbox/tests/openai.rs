//! Files and batches in `OpenAI`'s form over TCP.

use super::*;

fn openai() -> SandboxConfig {
    SandboxConfig { dialect: ServedDialect::Openai, ..quick() }
}

/// Uploads a file in one request.
fn upload_form(server: &Sandbox, purpose: &str, bytes: &str) -> RawResponse {
    let headers = format!("{KEY}content-type: multipart/form-data; boundary=XX\r\n");
    let body = format!(
        "--XX\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n\
         --XX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{bytes}\r\n--XX--\r\n"
    );
    send(server, "POST", "/v1/files", &headers, body.as_bytes())
}

#[test]
fn an_upload_is_one_form_with_the_bytes() {
    let server = start(openai()).unwrap();
    let text = input(2);
    let file = upload_form(&server, "batch", &text);
    assert_eq!(file.status, 200, "{}", file.text());
    let file = file.json();
    assert_eq!((&file["purpose"], &file["bytes"]), (&json!("batch"), &json!(text.len())));
    assert_eq!((&file["filename"], &file["status"]), (&json!("in.jsonl"), &json!("processed")));
    assert_eq!(content_of(&server, &file["id"]), text.as_bytes());
}

/// Rows of an input as each line of `OpenAI`'s form names its endpoint.
fn rows(prompts: &[&str]) -> String {
    let row = |(i, prompt): (usize, &&str)| {
        let body = json!({"model": "a/b", "messages": [{"role": "user", "content": prompt}]});
        json!({"custom_id": format!("row-{i}"), "method": "POST", "url": "/v1/chat/completions", "body": body})
            .to_string()
            + "\n"
    };
    prompts.iter().enumerate().map(row).collect()
}

fn create_batch(server: &Sandbox, file: &str, more: &Value) -> RawResponse {
    let mut body = json!({"endpoint": "/v1/chat/completions", "input_file_id": file, "completion_window": "24h"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(server, "/v1/batches", &body.to_string())
}

/// Uploads rows and makes a batch of them; its id.
fn submit_rows(server: &Sandbox, text: &str) -> String {
    let file = upload_form(server, "batch", text).json()["id"].as_str().unwrap().to_owned();
    let seen = create_batch(server, &file, &json!({"metadata": {"a": "b"}}));
    assert_eq!((seen.status, &seen.json()["object"]), (200, &json!("batch")), "{}", seen.text());
    seen.json()["id"].as_str().unwrap().to_owned()
}

/// Asks until the batch has ended.
fn end_of(server: &Sandbox, id: &str) -> Value {
    let begun = Instant::now();
    loop {
        let batch = job(server, id);
        let status = batch["status"].as_str().unwrap();
        if ["completed", "failed", "expired", "cancelled"].contains(&status) {
            return batch;
        }
        assert!(["validating", "in_progress", "finalizing", "cancelling"].contains(&status), "{batch}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{batch}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_batch_is_a_bare_object_with_counts_and_both_files() {
    let config = SandboxConfig { faults: vec!["status=500,on=row,contains=bad".parse().unwrap()], ..openai() };
    let server = start(config).unwrap();
    let id = submit_rows(&server, &rows(&["one", "bad", "three"]));
    assert!(id.starts_with("batch_"), "{id}");
    let batch = end_of(&server, &id);
    assert_eq!((&batch["status"], &batch["metadata"]), (&json!("completed"), &json!({"a": "b"})));
    assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 2, "failed": 1}));
    assert!(batch["created_at"].is_u64() && batch["completed_at"].is_u64(), "{batch}");
    assert!(batch["errors"].is_null() && batch.get("failed_at").is_some(), "{batch}");
    let answers = lines(&server, &batch["output_file_id"]);
    assert_eq!(answers.len(), 2);
    for line in &answers {
        assert_eq!((&line["response"]["status_code"], &line["error"]), (&json!(200), &Value::Null));
        assert!(
            line["id"].as_str().unwrap().starts_with("batch_req_") && line["response"]["body"].is_object(),
            "{line}"
        );
    }
    let failures = lines(&server, &batch["error_file_id"]);
    assert_eq!((failures.len(), &failures[0]["custom_id"]), (1, &json!("row-1")));
    assert_eq!((&failures[0]["response"]["status_code"], &failures[0]["error"]), (&json!(500), &Value::Null));
}

#[test]
fn an_answer_of_a_batch_is_the_one_of_chat() {
    let server = start(openai()).unwrap();
    let text = rows(&["one"]);
    let batch = end_of(&server, &submit_rows(&server, &text));
    let row: Value = serde_json::from_str(text.trim()).unwrap();
    let chat = post(&server, "/v1/chat/completions", &row["body"].to_string()).json();
    assert_eq!(lines(&server, &batch["output_file_id"])[0]["response"]["body"], chat);
}

#[test]
fn a_body_may_be_a_text() {
    let batch = BatchConfig { body_text: true, ..openai().batch };
    let server = start(SandboxConfig { batch, ..openai() }).unwrap();
    let batch = end_of(&server, &submit_rows(&server, &rows(&["one"])));
    let line = &lines(&server, &batch["output_file_id"])[0];
    let body: Value = serde_json::from_str(line["response"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["object"], "chat.completion");
}

#[test]
fn what_the_form_requires_is_refused_without() {
    let server = start(openai()).unwrap();
    assert_eq!(upload_form(&server, "batch-api", "x").status, 400, "Together's purpose");
    let file = upload_form(&server, "batch", &rows(&["one"])).json()["id"].as_str().unwrap().to_owned();
    for (more, part) in [
        (json!({"completion_window": null}), "completion_window"),
        (json!({"endpoint": "/v1/other"}), "do not serve"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"input_file_id": "file-none"}), "no file"),
    ] {
        let seen = create_batch(&server, &file, &more);
        let message = seen.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(seen.status == 400 && message.contains(part), "{message}");
    }
    assert_eq!(post(&server, &format!("/v1/files/{file}/preprocess"), "").status, 404);
    let plain = upload_form(&server, "batch", &input(1)).json()["id"].as_str().unwrap().to_owned();
    let id = create_batch(&server, &plain, &json!({})).json()["id"].as_str().unwrap().to_owned();
    let failed = end_of(&server, &id);
    assert_eq!((&failed["status"], &failed["errors"]["data"][0]["line"]), (&json!("failed"), &json!(1)), "{failed}");
}

#[test]
fn an_expired_batch_lists_the_rows_left_undone() {
    let batch = BatchConfig { expires_at: Some(0.5), ..openai().batch };
    let server = start(SandboxConfig { batch, ..openai() }).unwrap();
    let batch = end_of(&server, &submit_rows(&server, &rows(&["one", "two"])));
    assert_eq!((&batch["status"], &batch["request_counts"]["completed"]), (&json!("expired"), &json!(1)));
    let line = &lines(&server, &batch["error_file_id"])[0];
    assert_eq!((&line["response"], &line["error"]["code"]), (&Value::Null, &json!("batch_expired")));
}

#[test]
fn the_list_comes_in_pages() {
    let batch = BatchConfig { list_page: 2, ..openai().batch };
    let server = start(SandboxConfig { batch, ..openai() }).unwrap();
    let made: Vec<String> = (0..3).map(|n| submit_rows(&server, &rows(&[&format!("prompt {n}")]))).collect();
    let first = get(&server, "/v1/batches?limit=100").json();
    assert_eq!((first["data"].as_array().unwrap().len(), &first["has_more"]), (2, &json!(true)));
    let next = get(&server, &format!("/v1/batches?after={}", first["last_id"].as_str().unwrap())).json();
    assert_eq!((next["data"].as_array().unwrap().len(), &next["has_more"]), (1, &json!(false)));
    assert_eq!(next["data"][0]["id"], json!(made[0]), "newest first");
}
