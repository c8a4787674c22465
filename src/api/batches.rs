//! Batch jobs at the service: create, get, list, cancel.

use reqwest::Method;
use serde_json::{Value, json};

pub use super::batch_label::BatchLabel;
use super::call::SMALL_CALL;
use super::dialect::Dialect;
use super::error::{Failure, MAX_MESSAGE};
use super::fields::{self, Listing, Object, checked};
use super::{Client, Reply};
pub use crate::batch_status::BatchStatus;
use crate::text::shortened;

/// The completion window: the only one of Together and `OpenAI`, and one that all others take.
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
    /// 0 to 100. `OpenAI`'s form counts rows instead.
    pub progress: Option<f64>,
    /// Such as `/v1/chat/completions`.
    pub endpoint: Option<String>,
    /// The model, when known.
    pub model_id: Option<String>,
    /// The error, shortened.
    pub error: Option<String>,
    /// RFC 3339.
    pub created_at: Option<String>,
    /// RFC 3339: the time of its end.
    pub completed_at: Option<String>,
    /// RFC 3339. It may be a little short of a whole hour.
    pub job_deadline: Option<String>,
    /// Length of the input file.
    pub file_size_bytes: Option<u64>,
    /// llbatch's own mark, in `OpenAI`'s form.
    pub label: Option<BatchLabel>,
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

/// The fields with the time of a batch's end.
const ENDS: [&str; 4] = ["completed_at", "failed_at", "expired_at", "cancelled_at"];
/// Sentences shown of a batch with many errors.
const MOST_ERRORS: usize = 3;

/// The share of rows that are done, by `request_counts`.
fn counted(object: &Object) -> Option<f64> {
    let counts = object.get("request_counts")?.as_object()?;
    let count = |name| fields::number(counts, name);
    let total = count("total").filter(|total| *total > 0.0)?;
    let done = count("completed").unwrap_or(0.0) + count("failed").unwrap_or(0.0);
    // One decimal, as Together has it.
    Some((done / total * 1000.0).floor() / 10.0)
}

/// The first sentences of `errors.data`, each with its line.
fn errors(object: &Object) -> Option<String> {
    let list = object.get("errors")?;
    let list = list.get("data").unwrap_or(list).as_array()?;
    let sentence = |error: &Value| {
        let words = fields::words(error)?;
        let line = error.get("line").and_then(Value::as_u64);
        Some(
            line.filter(|_| !words.to_lowercase().starts_with("line "))
                .map_or(words.clone(), |n| format!("line {n}: {words}")),
        )
    };
    let mut said: Vec<String> = list.iter().filter_map(sentence).collect();
    let more = said.len().saturating_sub(MOST_ERRORS);
    if more > 0 {
        said.truncate(MOST_ERRORS);
        said.push(format!("and {more} more"));
    }
    let text = said.join("; ");
    (!text.is_empty()).then(|| shortened(&text, MAX_MESSAGE))
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
            progress: fields::number(object, "progress")
                .or_else(|| counted(object))
                .filter(|percent| (0.0..=100.0).contains(percent)),
            endpoint: text("endpoint"),
            model_id: text("model_id").or_else(|| text("model")),
            error: object.get("error").and_then(fields::words).or_else(|| errors(object)),
            created_at: fields::time(object, "created_at"),
            completed_at: ENDS.iter().find_map(|name| fields::time(object, name)),
            job_deadline: fields::time(object, "job_deadline").or_else(|| fields::time(object, "expires_at")),
            file_size_bytes: fields::count(object, "file_size_bytes"),
            label: BatchLabel::read(object.get("metadata")),
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
    /// Creates a batch from an uploaded file. Sends once: the service has no idempotency keys. `OpenAI`'s form carries the
    /// label, by which a list shows whose batch it is.
    ///
    /// # Errors
    /// If [`Failure::create_unknown`], the batch may exist all the same. Then look it up by its input file first.
    pub async fn create_batch(
        &self,
        input_file_id: &str,
        endpoint: &str,
        label: Option<&BatchLabel>,
    ) -> Result<Created, Failure> {
        let id = checked("file", input_file_id)?;
        let mut body = json!({"endpoint": endpoint, "input_file_id": id, "completion_window": WINDOW});
        if let Some(label) = label.filter(|_| self.dialect() == Dialect::Openai) {
            body["metadata"] = label.metadata();
        }
        Created::read(&self.post_json("/batches", body.to_string()).await?)
    }

    /// Gets the batch `id`.
    ///
    /// # Errors
    /// [`Fault::NotFound`](super::error::Fault::NotFound) if it does not exist; otherwise as for any call.
    pub async fn batch(&self, id: &str) -> Result<Batch, Failure> {
        Batch::of(id, &self.get(&format!("/batches/{}", checked("batch", id)?), SMALL_CALL).await?)
    }

    /// Lists the batches of the account, newest first, page after page.
    ///
    /// An unreadable entry is left out: check [`Listing::complete`] before you conclude that a batch does not exist.
    pub async fn batches(&self) -> Result<Listing<Batch>, Failure> {
        self.listed("/batches", Batch::read).await
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
            label: None,
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
            let created = client(&server.base).create_batch("file-1", "/v1/chat/completions", None).await.unwrap();
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
        let created = client(&server.base).create_batch("file-1", "/e", None).await.unwrap();
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
            let failure = client(&server.base).create_batch("file-1", "/e", None).await.unwrap_err();
            assert_eq!((failure.create_unknown(), failure.class()), (unknown, class), "{status} {body}");
            assert_eq!(server.seen().len(), 1, "{status}");
        }
        // A broken connection, and no connection at all.
        let cut = "HTTP/1.1 201 Created\r\ncontent-length: 500\r\n\r\n{\"job\"".to_owned();
        let server = Scripted::start(|_| vec![cut]);
        assert!(client(&server.base).create_batch("file-1", "/e", None).await.unwrap_err().create_unknown());
        let nobody = client("http://127.0.0.1:1").create_batch("file-1", "/e", None).await.unwrap_err();
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

    #[tokio::test]
    async fn a_batch_of_openai_is_read_as_any_other() {
        let text = r#"{"id":"batch_1","object":"batch","endpoint":"/v1/chat/completions","errors":null,"input_file_id":"file-1",
            "completion_window":"24h","status":"finalizing","output_file_id":null,"error_file_id":null,"created_at":1711471533,
            "expires_at":1711557933,"completed_at":null,"request_counts":{"total":3,"completed":1,"failed":1},
            "metadata":{"llbatch_job":"j-1","llbatch_batch":"2","mine":"x"}}"#;
        let failed = r#"{"id":"batch_1","status":"failed","failed_at":1711471633,"errors":{"object":"list","data":[
            {"code":"invalid_json_line","message":"This line is not parseable as valid JSON.","param":null,"line":2},
            {"code":"x","message":"no"}]}}"#;
        let server = Scripted::start(|_| vec![answer("200 OK", "", text), answer("200 OK", "", failed)]);
        let client = client(&server.base);
        let read = client.batch("batch_1").await.unwrap();
        assert_eq!((&read.status, read.progress), (&BatchStatus::Finalizing, Some(66.6)));
        assert_eq!(read.created_at.as_deref(), Some("2024-03-26T16:45:33Z"));
        assert_eq!(read.job_deadline.as_deref(), Some("2024-03-27T16:45:33Z"));
        assert_eq!(read.label, Some(BatchLabel { job: "j-1".into(), batch: 2, sha256: String::new() }));
        let read = client.batch("batch_1").await.unwrap();
        assert_eq!(read.error.as_deref(), Some("line 2: This line is not parseable as valid JSON.; no"));
        assert_eq!(read.completed_at.as_deref(), Some("2024-03-26T16:47:13Z"));
    }

    #[tokio::test]
    async fn a_list_in_pages_is_read_to_its_end() {
        let page = |ids: &[&str], more: bool| {
            let data: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":"{id}","status":"completed"}}"#)).collect();
            answer("200 OK", "", &format!(r#"{{"object":"list","data":[{}],"has_more":{more}}}"#, data.join(",")))
        };
        let server = Scripted::start(|_| vec![page(&["b1", "b2"], true), page(&["b3"], false)]);
        let listed = client(&server.base).with_dialect(Dialect::Openai).batches().await.unwrap();
        assert!(listed.complete);
        assert_eq!(listed.entries.iter().map(|b| b.id.as_str()).collect::<Vec<_>>(), ["b1", "b2", "b3"]);
        let lines: Vec<_> = server.seen().into_iter().map(|seen| seen.line).collect();
        assert_eq!(lines, ["GET /v1/batches?limit=100 HTTP/1.1", "GET /v1/batches?limit=100&after=b2 HTTP/1.1"]);
        // A server that ignores `after` repeats its page.
        let server = Scripted::start(|_| vec![page(&["b1"], true), page(&["b1"], true)]);
        let listed = client(&server.base).with_dialect(Dialect::Openai).batches().await.unwrap();
        assert_eq!((listed.complete, listed.entries.len()), (false, 1));
    }

    #[tokio::test]
    async fn a_creation_is_labelled_in_openais_form_alone() {
        let label = BatchLabel { job: "j-1".into(), batch: 2, sha256: "abc".into() };
        for (dialect, metadata) in [
            (Dialect::Together, Value::Null),
            (Dialect::Openai, json!({"llbatch_job": "j-1", "llbatch_batch": "2", "llbatch_sha256": "abc"})),
        ] {
            let server = Scripted::start(|_| vec![answer("200 OK", "", r#"{"id":"batch_1","status":"validating"}"#)]);
            let client = client(&server.base).with_dialect(dialect);
            client.create_batch("file-1", "/v1/chat/completions", Some(&label)).await.unwrap();
            let body: Value = serde_json::from_slice(&server.seen()[0].body).unwrap();
            assert_eq!(body["metadata"], metadata);
        }
    }
}
