//! Batch jobs at the service: create, get, list, cancel.

use std::fmt;

use reqwest::Method;
use serde_json::{Value, json};

use super::call::SMALL_CALL;
use super::error::Failure;
use super::fields::{self, Listing, Object, checked};
use super::{Client, Reply};

/// The only completion window of the service.
const WINDOW: &str = "24h";

/// A batch job as the service describes it. Fields that are missing, null or empty are `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The id, safe in a path.
    pub id: String,
    /// Its state.
    pub status: BatchStatus,
    /// The input file.
    pub input_file_id: Option<String>,
    /// The file of answers. A finished job may have none.
    pub output_file_id: Option<String>,
    /// The file of errors.
    pub error_file_id: Option<String>,
    /// 0 to 100.
    pub progress: Option<f64>,
    /// Such as `/v1/chat/completions`.
    pub endpoint: Option<String>,
    /// The model, when known.
    pub model_id: Option<String>,
    /// The error, shortened.
    pub error: Option<String>,
    /// RFC 3339, as sent.
    pub created_at: Option<String>,
    /// RFC 3339, as sent.
    pub completed_at: Option<String>,
    /// RFC 3339, as sent. It may be a little short of a whole hour.
    pub job_deadline: Option<String>,
    /// Length of the input file.
    pub file_size_bytes: Option<u64>,
}

/// The state of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchStatus {
    /// The service checks the input.
    Validating,
    /// The service answers rows.
    InProgress,
    /// Finished; rows may have failed.
    Completed,
    /// Refused as a whole.
    Failed,
    /// Out of time. The answers so far are available.
    Expired,
    /// Cancelled by a user. The answers so far are available, and billed.
    Cancelled,
    /// On the way to [`BatchStatus::Cancelled`].
    Canceling,
    /// An unknown status, in capitals. It counts as not final.
    Other(String),
}

impl BatchStatus {
    fn read(text: &str) -> Self {
        let text = text.trim().to_ascii_uppercase();
        match text.as_str() {
            "VALIDATING" => Self::Validating,
            "IN_PROGRESS" => Self::InProgress,
            "COMPLETED" => Self::Completed,
            "FAILED" => Self::Failed,
            "EXPIRED" => Self::Expired,
            "CANCELLED" | "CANCELED" => Self::Cancelled,
            "CANCELING" | "CANCELLING" => Self::Canceling,
            _ => Self::Other(text),
        }
    }

    /// Returns true if the status is final.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Expired | Self::Cancelled)
    }

    /// The service's name of the status, in one spelling.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Validating => "VALIDATING",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
            Self::Canceling => "CANCELING",
            Self::Other(text) => text,
        }
    }
}

impl fmt::Display for BatchStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The result of a create call that was answered.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "only one exists at a time, and it is taken apart at once")]
pub enum Created {
    /// A new batch.
    Batch {
        /// The batch.
        batch: Batch,
        /// The service's warning.
        warning: Option<String>,
    },
    /// No batch, and the service's reason.
    NotCreated(String),
}

impl Batch {
    /// Reads a batch; `None` without a usable id.
    fn read(object: &Object) -> Option<Self> {
        let text = |name| fields::text(object, name);
        Some(Self {
            id: text("id").filter(|id| fields::is_id(id))?,
            status: BatchStatus::read(&text("status").unwrap_or_default()),
            input_file_id: text("input_file_id"),
            output_file_id: text("output_file_id"),
            error_file_id: text("error_file_id"),
            // A figure outside of these bounds says nothing.
            progress: fields::number(object, "progress").filter(|percent| (0.0..=100.0).contains(percent)),
            endpoint: text("endpoint"),
            model_id: text("model_id"),
            error: object.get("error").and_then(fields::words),
            created_at: text("created_at"),
            completed_at: text("completed_at"),
            job_deadline: text("job_deadline"),
            file_size_bytes: fields::count(object, "file_size_bytes"),
        })
    }

    /// Reads the batch `id` from an answer: bare, or within `job`.
    fn of(id: &str, reply: &Reply) -> Result<Self, Failure> {
        let object = fields::object(reply)?;
        let job = object.get("job").and_then(Value::as_object).unwrap_or(&object);
        match Self::read(job) {
            Some(batch) if batch.id == id => Ok(batch),
            Some(batch) => Err(Failure::bad(
                reply.status,
                &format!("the service answered with batch {} instead of batch {id}", batch.id),
            )),
            None => Err(Failure::bad(reply.status, &format!("the service's answer has no id of batch {id}"))),
        }
    }
}

impl Created {
    fn read(reply: &Reply) -> Result<Self, Failure> {
        let object = fields::object(reply)?;
        let warning = object.get("warning").and_then(fields::words);
        let job = match (object.get("job"), warning.as_ref()) {
            (Some(Value::Null), Some(warning)) => return Ok(Self::NotCreated(warning.clone())),
            (Some(Value::Object(job)), _) => job,
            (None, _) => &object,
            // A null without a reason may not mean "not created". The caller must look the batch up.
            (Some(_), _) => return Err(Failure::bad(reply.status, "an answer with neither a batch nor an error")),
        };
        match Batch::read(job) {
            Some(batch) => Ok(Self::Batch { batch, warning }),
            None => Err(Failure::bad(reply.status, "an answer without the id of a batch")),
        }
    }
}

impl Client {
    /// Creates a batch from an uploaded file. Sends once: the service has no idempotency keys.
    ///
    /// # Errors
    /// If [`Failure::create_unknown`], the batch may exist all the same. Then look it up by its input file first.
    pub async fn create_batch(&self, input_file_id: &str, endpoint: &str) -> Result<Created, Failure> {
        let id = checked("file", input_file_id)?;
        let body = json!({"endpoint": endpoint, "input_file_id": id, "completion_window": WINDOW});
        Created::read(&self.post_json("/batches", body.to_string()).await?)
    }

    /// Gets the batch `id`.
    ///
    /// # Errors
    /// [`Fault::NotFound`](super::error::Fault::NotFound) if it does not exist; otherwise as for any call.
    pub async fn batch(&self, id: &str) -> Result<Batch, Failure> {
        Batch::of(id, &self.get(&format!("/batches/{}", checked("batch", id)?), SMALL_CALL).await?)
    }

    /// Lists all batches of the account, newest first.
    ///
    /// An unreadable entry is left out: check [`Listing::complete`] before you conclude that a batch does not exist.
    pub async fn batches(&self) -> Result<Listing<Batch>, Failure> {
        fields::list(&self.get("/batches", SMALL_CALL).await?, Batch::read)
    }

    /// Cancels the batch `id`. It is `CANCELING` for a while; its answers so far are kept, and billed.
    ///
    /// # Errors
    /// As for [`Client::batch`]. The service may refuse to cancel a finished batch.
    pub async fn cancel_batch(&self, id: &str) -> Result<Batch, Failure> {
        Batch::of(id, &self.bodiless(Method::POST, &format!("/batches/{}/cancel", checked("batch", id)?)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::{Class, Fault};
    use crate::api::scripted::{Scripted, answer, client};

    const JOB: &str = r#"{"id":"b-1","user_id":"u","input_file_id":"file-1","file_size_bytes":120,"status":"IN_PROGRESS",
        "job_deadline":"2026-11-24T05:00:00.999999Z","created_at":"2026-11-23T05:00:00.1Z",
        "endpoint":"/v1/chat/completions","progress":12.5,"model_id":"m","output_file_id":"","error_file_id":null}"#;

    fn job() -> Batch {
        Batch {
            id: "b-1".into(),
            status: BatchStatus::InProgress,
            input_file_id: Some("file-1".into()),
            output_file_id: None,
            error_file_id: None,
            progress: Some(12.5),
            endpoint: Some("/v1/chat/completions".into()),
            model_id: Some("m".into()),
            error: None,
            created_at: Some("2026-11-23T05:00:00.1Z".into()),
            completed_at: None,
            job_deadline: Some("2026-11-24T05:00:00.999999Z".into()),
            file_size_bytes: Some(120),
        }
    }

    #[test]
    fn only_the_four_known_final_states_are_final() {
        let cases = [
            ("validating", BatchStatus::Validating, false),
            ("IN_PROGRESS", BatchStatus::InProgress, false),
            ("Completed", BatchStatus::Completed, true),
            ("FAILED", BatchStatus::Failed, true),
            ("EXPIRED", BatchStatus::Expired, true),
            ("CANCELLED", BatchStatus::Cancelled, true),
            ("CANCELED", BatchStatus::Cancelled, true),
            ("CANCELING", BatchStatus::Canceling, false),
            ("cancelling", BatchStatus::Canceling, false),
            ("Paused", BatchStatus::Other("PAUSED".into()), false),
            ("", BatchStatus::Other(String::new()), false),
        ];
        for (text, status, over) in cases {
            let read = BatchStatus::read(text);
            assert_eq!((read.is_final(), &read), (over, &status), "{text}");
            assert_eq!(BatchStatus::read(read.as_str()), status);
        }
    }

    #[tokio::test]
    async fn a_created_batch_is_read_within_a_job_or_bare() {
        let wrapped = format!(r#"{{"job": {JOB}, "warning": "slow today"}}"#);
        let plain = format!(r#"{{"job": {JOB}}}"#);
        let cases = [
            ("201 Created", wrapped.as_str(), Some("slow today")),
            ("200 OK", plain.as_str(), None),
            ("201 Created", JOB, None),
        ];
        for (status, body, warning) in cases {
            let server = Scripted::start(|_| vec![answer(status, "", body)]);
            let created = client(&server.base).create_batch("file-1", "/v1/chat/completions").await.unwrap();
            assert_eq!(created, Created::Batch { batch: job(), warning: warning.map(str::to_owned) });
            let seen = &server.seen()[0];
            assert_eq!(seen.line, "POST /v1/batches HTTP/1.1");
            assert_eq!(seen.header("content-type"), Some("application/json"));
            let body: Value = serde_json::from_slice(&seen.body).unwrap();
            let sent =
                json!({"endpoint": "/v1/chat/completions", "input_file_id": "file-1", "completion_window": "24h"});
            assert_eq!(body, sent);
        }
    }

    #[tokio::test]
    async fn a_failed_create_says_whether_the_batch_may_exist() {
        let not = r#"{"job": null, "warning": "quota"}"#;
        let server = Scripted::start(|_| vec![answer("201 Created", "", not)]);
        let created = client(&server.base).create_batch("file-1", "/e").await.unwrap();
        assert_eq!(created, Created::NotCreated("quota".into()));
        // BatchStatus, headers, body; whether a batch may exist; the class.
        let cases = [
            ("201 Created", "", r#"{"job": null}"#, true, Class::Ambiguous),
            ("200 OK", "", r#"{"result": 1}"#, true, Class::Ambiguous),
            ("200 OK", "content-type: text/html\r\n", "<html>", true, Class::Ambiguous),
            ("201 Created", "", "", true, Class::Ambiguous),
            ("201 Created", "", r#"{"job": {"id": "../x"}}"#, true, Class::Ambiguous),
            ("307 Temporary", "location: /elsewhere\r\n", "", true, Class::Ambiguous),
            ("408 Timeout", "", "", true, Class::Ambiguous),
            ("409 Conflict", "", "", true, Class::Ambiguous),
            ("500 Oops", "", r#"{"error":"x"}"#, true, Class::Ambiguous),
            ("503 Busy", "", "", true, Class::NoCapacity),
            ("429 Slow", "retry-after: 3\r\n", "", false, Class::AboveRate),
            ("400 Bad", "", r#"{"error":"max_tokens"}"#, false, Class::RowFatal),
            ("403 No", "", r#"{"error":"not in this context"}"#, false, Class::JobFatal),
            ("401 No", "", r#"{"error":"no"}"#, false, Class::JobFatal),
        ];
        for (status, headers, body, unknown, class) in cases {
            let server = Scripted::start(|_| vec![answer(status, headers, body)]);
            let failure = client(&server.base).create_batch("file-1", "/e").await.unwrap_err();
            assert_eq!((failure.create_unknown(), failure.class()), (unknown, class), "{status} {body}");
            assert_eq!(server.seen().len(), 1, "{status}");
        }
        // A broken connection, and no connection at all.
        let cut = "HTTP/1.1 201 Created\r\ncontent-length: 500\r\n\r\n{\"job\"".to_owned();
        let server = Scripted::start(|_| vec![cut]);
        assert!(client(&server.base).create_batch("file-1", "/e").await.unwrap_err().create_unknown());
        let nobody = client("http://127.0.0.1:1").create_batch("file-1", "/e").await.unwrap_err();
        assert_eq!((nobody.create_unknown(), nobody.class()), (false, Class::NotSent));
    }

    #[tokio::test]
    async fn a_batch_is_read_and_cancelled() {
        let failed = r#"{"id":"b-1","status":"FAILED","error":{"message":"line 3 is no JSON","code":1}}"#;
        let canceling = r#"{"job":{"id":"b-1","status":"CANCELING"}}"#;
        let other = r#"{"id":"b-2","status":"COMPLETED"}"#;
        let server = Scripted::start(|_| {
            let mut answers: Vec<_> = [JOB, failed, canceling, other].map(|body| answer("200 OK", "", body)).into();
            answers.push(answer("404 Not Found", "", r#"{"error":"batch not found"}"#));
            answers
        });
        let client = client(&server.base);
        assert_eq!(client.batch("b-1").await.unwrap(), job());
        assert_eq!(client.batch("b-1").await.unwrap().error.as_deref(), Some("line 3 is no JSON"));
        assert_eq!(client.cancel_batch("b-1").await.unwrap().status, BatchStatus::Canceling);
        assert_eq!(client.batch("b-1").await.unwrap_err().fault, Fault::BadResponse);
        assert_eq!(client.batch("b-1").await.unwrap_err().fault, Fault::NotFound);
        assert!(client.batch("b-1/cancel").await.is_err());
        let lines: Vec<_> = server.seen().into_iter().map(|seen| seen.line).collect();
        assert_eq!(lines[0], "GET /v1/batches/b-1 HTTP/1.1");
        assert_eq!(lines[2], "POST /v1/batches/b-1/cancel HTTP/1.1");
        assert_eq!(lines.len(), 5);
    }

    #[tokio::test]
    async fn progress_outside_of_its_bounds_is_no_progress() {
        for (sent, shown) in [("120", None), ("-5", None), ("1e999", None), ("0", Some(0.0)), ("100", Some(100.0))] {
            let body = format!(r#"{{"id":"b-1","status":"IN_PROGRESS","progress":{sent}}}"#);
            let server = Scripted::start(|_| vec![answer("200 OK", "", &body)]);
            let read = client(&server.base).batch("b-1").await.map(|batch| batch.progress);
            assert_eq!(read.unwrap_or(None), shown, "{sent}");
        }
    }

    #[tokio::test]
    async fn one_unreadable_entry_does_not_hide_the_others() {
        let list = format!(r#"[{{"id":"b-0","status":7}},{{"status":"COMPLETED"}},{JOB}]"#);
        let server = Scripted::start(|_| vec![answer("200 OK", "", &list), answer("200 OK", "", "null")]);
        let client = client(&server.base);
        let listed = client.batches().await.unwrap();
        assert!(!listed.complete);
        assert_eq!(listed.entries.iter().map(|b| b.id.as_str()).collect::<Vec<_>>(), ["b-0", "b-1"]);
        assert_eq!(listed.entries[1], job());
        assert_eq!(client.batches().await.unwrap(), Listing { entries: vec![], complete: true });
    }
}
