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
