//! Files at the service: get, list, delete. See upload and download for their bytes.

use reqwest::Method;

use super::call::SMALL_CALL;
use super::dialect::Dialect;
use super::error::{Failure, Fault};
use super::fields::{self, ListPage, Listing, Object, checked};
use super::{Client, Reply};

/// Entries of a page, at most: the most of `OpenAI`.
const PAGE: usize = 100;
/// Pages that are read of one list.
const MOST_PAGES: usize = 200;

/// A file as the service describes it. Missing fields are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileObject {
    /// The id, safe in a path.
    pub id: String,
    /// The name from its registration; output files may share one.
    pub filename: String,
    /// Its length.
    pub bytes: Option<u64>,
    /// `batch-api` for the input of a batch.
    pub purpose: Option<String>,
    /// The service has processed it.
    pub processed: Option<bool>,
    /// Unix seconds.
    pub created_at: Option<i64>,
}

impl FileObject {
    /// Reads a file; `None` without a usable id.
    pub(super) fn read(object: &Object) -> Option<Self> {
        let flag = |name| object.get(name).and_then(serde_json::Value::as_bool);
        Some(Self {
            id: fields::text(object, "id").filter(|id| fields::is_id(id))?,
            filename: fields::text(object, "filename").unwrap_or_default(),
            bytes: fields::count(object, "bytes"),
            purpose: fields::text(object, "purpose"),
            processed: flag("Processed").or_else(|| flag("processed")),
            created_at: fields::number(object, "created_at").map(|seconds| seconds as i64),
        })
    }

    /// Reads the file `id` from an answer.
    pub(super) fn of(id: &str, reply: &Reply) -> Result<Self, Failure> {
        match Self::read(&fields::object(reply)?) {
            Some(file) if file.id == id => Ok(file),
            Some(file) => Err(Failure::bad(
                reply.status,
                &format!("the service answered with file {} instead of file {id}", file.id),
            )),
            None => Err(Failure::bad(reply.status, &format!("the service's answer has no id of file {id}"))),
        }
    }
}

impl Client {
    /// Gets the file `id`.
    ///
    /// # Errors
    /// [`Fault::NotFound`] if it does not exist; otherwise as for any call.
    pub async fn file(&self, id: &str) -> Result<FileObject, Failure> {
        let reply = self.get(&format!("/files/{}", checked("file", id)?), SMALL_CALL).await?;
        FileObject::of(id, &reply)
    }

    /// Lists all files of the account. An unreadable entry is left out: see [`Listing::complete`].
    pub async fn files(&self) -> Result<Listing<FileObject>, Failure> {
        self.listed("/files", FileObject::read).await
    }

    /// Reads a whole list, page after page where it comes in pages.
    pub(super) async fn listed<T>(
        &self,
        path: &str,
        read: impl Fn(&Object) -> Option<T>,
    ) -> Result<Listing<T>, Failure> {
        let first = match self.dialect() {
            Dialect::Together => path.to_owned(),
            Dialect::Openai => format!("{path}?limit={PAGE}"),
        };
        let mut all: ListPage<T> = fields::page_of(&self.get(&first, SMALL_CALL).await?, &read)?;
        for _ in 1..MOST_PAGES {
            let Some(after) = all.last_id.clone().filter(|_| all.more) else { break };
            let sign = if first.contains('?') { '&' } else { '?' };
            let reply = self.get(&format!("{first}{sign}after={after}"), SMALL_CALL).await?;
            let next = fields::page_of(&reply, &read)?;
            // A server that does not know `after` repeats its first page.
            if next.last_id.as_ref() == Some(&after) {
                break;
            }
            all.entries.extend(next.entries);
            (all.readable, all.more, all.last_id) = (all.readable && next.readable, next.more, next.last_id);
        }
        Ok(Listing { complete: all.readable && !all.more, entries: all.entries })
    }

    /// Deletes the file `id`. A file that does not exist counts as deleted.
    pub async fn delete_file(&self, id: &str) -> Result<(), Failure> {
        let reply = self.bodiless(Method::DELETE, &format!("/files/{}", checked("file", id)?)).await?;
        match reply.status {
            204 | 404 => Ok(()),
            _ => match fields::object(&reply)?.get("deleted") {
                Some(serde_json::Value::Bool(false)) => {
                    Err(Failure { status: Some(reply.status), ..Failure::new(Fault::Server, not_deleted(id)) })
                }
                _ => Ok(()),
            },
        }
    }
}

fn not_deleted(id: &str) -> String {
    format!("the service did not delete file {id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::scripted::{Scripted, answer, client};

    const FILE: &str = r#"{"id":"file-1","object":"file","created_at":1767225600,"filename":"a.jsonl","bytes":12,
        "purpose":"batch-api","FileType":"jsonl","Processed":true,"LineCount":1,"new":{"x":[]}}"#;

    #[tokio::test]
    async fn a_file_is_read_despite_missing_and_unknown_fields() {
        let sparse = r#"{"id":"file-1","filename":null,"bytes":"12","processed":false}"#;
        let server = Scripted::start(|_| vec![answer("200 OK", "", FILE), answer("200 OK", "", sparse)]);
        let client = client(&server.base);
        let full = FileObject {
            id: "file-1".into(),
            filename: "a.jsonl".into(),
            bytes: Some(12),
            purpose: Some("batch-api".into()),
            processed: Some(true),
            created_at: Some(1_767_225_600),
        };
        assert_eq!(client.file("file-1").await.unwrap(), full);
        let sparse =
            FileObject { filename: String::new(), purpose: None, processed: Some(false), created_at: None, ..full };
        assert_eq!(client.file("file-1").await.unwrap(), sparse);
        assert_eq!(server.seen()[0].line, "GET /v1/files/file-1 HTTP/1.1");
    }

    #[tokio::test]
    async fn a_missing_file_and_another_file_are_failures() {
        let gone = r#"{"error":{"message":"file not found"}}"#;
        let server = Scripted::start(|_| vec![answer("404 Not Found", "", gone), answer("200 OK", "", FILE)]);
        let client = client(&server.base);
        let failure = client.file("file-1").await.unwrap_err();
        assert_eq!((failure.fault, failure.model_unknown), (Fault::NotFound, false));
        assert_eq!(client.file("file-2").await.unwrap_err().fault, Fault::BadResponse);
        assert!(client.file("../models").await.is_err());
        assert_eq!(server.seen().len(), 2, "a bad id was sent");
    }

    #[tokio::test]
    async fn deleting_a_missing_file_succeeds() {
        let cases = [
            ("200 OK", r#"{"id":"file-1","deleted":true}"#, true),
            ("404 Not Found", r#"{"error":"no such file"}"#, true),
            ("204 No Content", "", true),
            ("200 OK", r#"{"id":"file-1","deleted":false}"#, false),
            ("200 OK", "<html>", false),
            ("403 Forbidden", "{}", false),
        ];
        for (status, body, deleted) in cases {
            let server = Scripted::start(|_| vec![answer(status, "", body)]);
            assert_eq!(client(&server.base).delete_file("file-1").await.is_ok(), deleted, "{status} {body}");
            assert_eq!(server.seen()[0].line, "DELETE /v1/files/file-1 HTTP/1.1");
        }
    }
}
