//! Files: the two-step upload, the file objects and their content.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::app::{App, Route, read};
use super::errors;
use super::faults::Scope;
use super::forms::Form;
use super::listener::Conn;
use super::reply::Reply;
use super::state::{Folder, new_id, now_ms};
use super::storage;

/// A plain upload may be as large as the service's limit for a batch, and a little more to be refused properly.
const MAX_UPLOAD: usize = 160 << 20;

/// A file as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileRecord {
    /// Id, `file-…`.
    pub id: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// As the client named it.
    pub filename: String,
    /// Bytes that are stored; 0 before.
    pub bytes: u64,
    /// `batch-api`, …
    pub purpose: String,
    /// `jsonl`, …
    pub file_type: String,
    /// Lower-case hex SHA-256 as announced.
    pub checksum: Option<String>,
    /// Whether the bytes have arrived.
    pub stored: bool,
    /// Whether the last step was done.
    pub processed: bool,
    /// Lines, once stored.
    pub lines: u64,
}

impl FileRecord {
    /// A new record without bytes.
    pub fn new(filename: &str, purpose: &str, file_type: &str, checksum: Option<String>) -> Self {
        Self {
            id: format!("file-{}", new_id()),
            created_ms: now_ms(),
            filename: filename.to_owned(),
            bytes: 0,
            purpose: purpose.to_owned(),
            file_type: file_type.to_owned(),
            checksum,
            stored: false,
            processed: false,
            lines: 0,
        }
    }

    /// The object as the API shows it.
    pub fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "object": "file",
            "created_at": self.created_ms / 1000,
            "filename": self.filename,
            "bytes": self.bytes,
            "purpose": self.purpose,
            "FileType": self.file_type,
            "Processed": self.processed,
            "LineCount": self.lines,
        })
    }
}

fn pretty(status: StatusCode, value: &Value) -> Reply {
    Reply::json(status, serde_json::to_string_pretty(value).unwrap_or_default())
}

/// The refusal for an id that is not there.
pub fn no_file(id: &str) -> Reply {
    let message = format!("There is no file {id}");
    errors::inference(StatusCode::NOT_FOUND, "invalid_request_error", None, Some("not_found"), &message)
}

async fn form(parts: &Parts, body: axum::body::Body) -> Result<(Form, bytes::Bytes), Box<Reply>> {
    let body = read(body, MAX_UPLOAD).await.map_err(|unread| Box::new(unread.reply()))?;
    let mut form = Form::default();
    form.add_encoded(parts.uri.query().unwrap_or_default());
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("multipart/form-data") {
        form.add_multipart(kind, &body).map_err(|why| Box::new(errors::invalid(None, why)))?;
    } else if kind.starts_with("application/x-www-form-urlencoded") {
        form.add_encoded(&String::from_utf8_lossy(&body));
    }
    Ok((form, body))
}

fn required(form: &Form, name: &'static str) -> Result<String, Box<Reply>> {
    let value = form.get(name).map(str::to_owned);
    value.ok_or_else(|| Box::new(errors::invalid(Some(name), &format!("{name} is missing"))))
}

/// `POST /v1/files`: registers an upload and says where the bytes go.
pub async fn register(State(app): State<Arc<App>>, ConnectInfo(conn): ConnectInfo<Conn>, request: Request) -> Response {
    let route = Route { path: "/v1/files (POST)", scope: Scope::Register };
    let (parts, body) = request.into_parts();
    let form = form(&parts, body).await;
    let subject = form.as_ref().ok().and_then(|(form, _)| form.get("checksum")).unwrap_or_default().to_owned();
    app.serve(route, &conn, &parts.headers, subject.as_bytes(), async |app| {
        if app.key(&parts.headers).is_none() {
            return errors::unauthorized();
        }
        let (form, _) = match form {
            Ok(form) => form,
            Err(refusal) => return *refusal,
        };
        let (purpose, name) = match (required(&form, "purpose"), required(&form, "file_name")) {
            (Ok(purpose), Ok(name)) => (purpose, name),
            (Err(refusal), _) | (_, Err(refusal)) => return *refusal,
        };
        let checksum = form.get("checksum").map(str::to_ascii_lowercase);
        app.local(|| {
            let _guard = app.store.lock()?;
            if checksum.is_some() {
                let known: Vec<FileRecord> = app.store.all(Folder::Files)?;
                let same = |file: &&FileRecord| file.stored && file.checksum == checksum && file.purpose == purpose;
                if let Some(same) = known.iter().find(same) {
                    let body = json!({"error": "The same file is there already", "file_id": same.id});
                    return Ok(pretty(StatusCode::CONFLICT, &body));
                }
            }
            let file = FileRecord::new(&name, &purpose, form.get("file_type").unwrap_or("jsonl"), checksum);
            app.store.put(Folder::Files, &file.id, &file)?;
            Ok(Reply::new(StatusCode::FOUND, "text/plain", "")
                .header("location", &storage::location(&app, &file.id))
                .header("x-together-file-id", &file.id))
        })
    })
    .await
}

/// `POST /v1/files/upload`: a file in one multipart request.
pub async fn upload(State(app): State<Arc<App>>, ConnectInfo(conn): ConnectInfo<Conn>, request: Request) -> Response {
    let route = Route { path: "/v1/files/upload", scope: Scope::Register };
    let (parts, body) = request.into_parts();
    let form = form(&parts, body).await;
    app.serve(route, &conn, &parts.headers, b"upload", async |app| {
        if app.key(&parts.headers).is_none() {
            return errors::unauthorized();
        }
        let (form, body) = match form {
            Ok(form) => form,
            Err(refusal) => return *refusal,
        };
        let purpose = match required(&form, "purpose") {
            Ok(purpose) => purpose,
            Err(refusal) => return *refusal,
        };
        let Some((span, part_name)) = &form.file else { return errors::invalid(Some("file"), "file is missing") };
        let name = form.get("file_name").unwrap_or(part_name);
        app.local(|| {
            let mut file = FileRecord::new(name, &purpose, form.get("file_type").unwrap_or("jsonl"), None);
            let bytes = body.get(span.clone()).unwrap_or_default();
            let mut scratch = app.store.scratch(Folder::Files)?;
            std::io::Write::write_all(&mut scratch, bytes)?;
            file.bytes = bytes.len() as u64;
            file.lines = memchr::memchr_iter(b'\n', bytes).count() as u64;
            (file.stored, file.processed) = (true, true);
            scratch.persist(app.store.path(Folder::Files, &file.id, "bin")?)?;
            app.store.put(Folder::Files, &file.id, &file)?;
            Ok(pretty(StatusCode::OK, &file.shown()))
        })
    })
    .await
}

/// `POST /v1/files/{id}/preprocess`: the last step of an upload.
pub async fn preprocess(
    State(app): State<Arc<App>>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let route = Route { path: "/v1/files/{id}/preprocess", scope: Scope::Preprocess };
    app.serve(route, &conn, &headers, id.as_bytes(), async |app| {
        if app.key(&headers).is_none() {
            return errors::unauthorized();
        }
        app.local(|| {
            let _guard = app.store.lock()?;
            let Some(mut file) = app.store.get::<FileRecord>(Folder::Files, &id)? else { return Ok(no_file(&id)) };
            if !file.stored {
                return Ok(errors::invalid(None, "The bytes of this file have not arrived"));
            }
            file.processed = true;
            app.store.put(Folder::Files, &id, &file)?;
            Ok(pretty(StatusCode::OK, &file.shown()))
        })
    })
    .await
}

/// `GET /v1/files`: all files, newest first.
pub async fn list(State(app): State<Arc<App>>, ConnectInfo(conn): ConnectInfo<Conn>, headers: HeaderMap) -> Response {
    let route = Route { path: "/v1/files", scope: Scope::Files };
    app.serve(route, &conn, &headers, b"list", async |app| {
        if app.key(&headers).is_none() {
            return errors::unauthorized();
        }
        app.local(|| {
            let mut files: Vec<FileRecord> = app.store.all(Folder::Files)?;
            files.sort_by(|a, b| (b.created_ms, &b.id).cmp(&(a.created_ms, &a.id)));
            let shown: Vec<_> = files.iter().map(FileRecord::shown).collect();
            Ok(pretty(StatusCode::OK, &json!({"data": shown})))
        })
    })
    .await
}

/// `GET /v1/files/{id}`.
pub async fn retrieve(
    State(app): State<Arc<App>>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let route = Route { path: "/v1/files/{id}", scope: Scope::Files };
    app.serve(route, &conn, &headers, id.as_bytes(), async |app| {
        if app.key(&headers).is_none() {
            return errors::unauthorized();
        }
        app.local(|| {
            let file = app.store.get::<FileRecord>(Folder::Files, &id)?;
            Ok(file.map_or_else(|| no_file(&id), |file| pretty(StatusCode::OK, &file.shown())))
        })
    })
    .await
}

/// `DELETE /v1/files/{id}`.
pub async fn delete(
    State(app): State<Arc<App>>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let route = Route { path: "/v1/files/{id} (DELETE)", scope: Scope::Files };
    app.serve(route, &conn, &headers, id.as_bytes(), async |app| {
        if app.key(&headers).is_none() {
            return errors::unauthorized();
        }
        app.local(|| {
            let _guard = app.store.lock()?;
            if !app.store.remove(Folder::Files, &id)? {
                return Ok(no_file(&id));
            }
            Ok(pretty(StatusCode::OK, &json!({"id": id, "object": "file", "deleted": true})))
        })
    })
    .await
}

/// `GET /v1/files/{id}/content`: the bytes, or the way to them.
pub async fn content(
    State(app): State<Arc<App>>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    // With redirects the bytes come from storage, and so do faults of content.
    let scope = if app.config.content_redirect { Scope::Files } else { Scope::Content };
    let route = Route { path: "/v1/files/{id}/content", scope };
    app.serve(route, &conn, &headers, id.as_bytes(), async |app| {
        if app.key(&headers).is_none() {
            return errors::unauthorized();
        }
        app.local(|| {
            let file = app.store.get::<FileRecord>(Folder::Files, &id)?;
            let Some(file) = file.filter(|file| file.stored) else { return Ok(no_file(&id)) };
            if app.config.content_redirect {
                return Ok(Reply::new(StatusCode::FOUND, "text/plain", "")
                    .header("location", &storage::location(&app, &file.id)));
            }
            storage::bytes(&app, &file, &headers)
        })
    })
    .await
}
