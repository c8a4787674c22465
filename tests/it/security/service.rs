//! A service of one finished batch with one row, whose every answer a test may replace.

use crate::support::{Recorded, Recorder};

/// Status line's rest, headers with their line ends, body.
pub type Answer = (&'static str, String, String);

/// Answers `script(REQUEST, ITS FIRST LINE WITHOUT VERSION)`, or what is usual.
pub fn service(script: impl Fn(&Recorded, &str) -> Option<Answer> + Send + Sync + 'static) -> Recorder {
    Recorder::answering(move |request| {
        let line = request.head.split(" HTTP/").next().unwrap();
        script(request, line).unwrap_or_else(|| usual(line))
    })
}

fn usual(line: &str) -> Answer {
    let batch = r#"{"id":"batch-1","status":"COMPLETED","input_file_id":"file-1","output_file_id":"file-out"}"#;
    match line {
        "POST /v1/files" => ("302 Found", "location: /put\r\nx-together-file-id: file-1\r\n".to_owned(), String::new()),
        "PUT /put" => ok(""),
        "POST /v1/batches" => ("201 Created", String::new(), format!(r#"{{"job":{batch}}}"#)),
        "GET /v1/batches/batch-1" => ok(batch),
        "GET /v1/files/file-out/content" => content(),
        line if line.contains("/files/file-") => {
            let id = line.split('/').nth(3).unwrap();
            ok(&format!(r#"{{"id":"{id}","filename":"f","Processed":true}}"#))
        }
        _ => ok("[]"),
    }
}

/// A 200 with this JSON.
pub fn ok(json: &str) -> Answer {
    ("200 OK", String::new(), json.to_owned())
}

/// The file with the one answer.
pub fn content() -> Answer {
    let body = Recorder::chat("\"ok\"");
    let line =
        format!("{{\"custom_id\":\"q1\",\"response\":{{\"status_code\":200,\"body\":{body}}},\"error\":null}}\n");
    ("200 OK", "content-type: text/plain\r\n".to_owned(), line)
}
