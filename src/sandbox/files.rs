//! Files: the two-step upload, the file objects and their content.

use std::io::Write as _;

use axum::body::Body;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::app::App;
use super::call::{ApiRoute, Call};
use super::dialect::ServedDialect;
use super::errors::{self, ApiError};
use super::faults::Scope;
use super::file_record::FileRecord;
use super::forms::Form;
use super::reply::{HttpReply, Refused};
use super::state_dir::Folder;
use super::storage;

impl FileRecord {
    /// The new record that a form asks for.
    fn of_form(form: &Form, filename: &str, purpose: &str) -> Self {
        let mut file = Self::new(filename, purpose);
        if let Some(file_type) = form.get("file_type") {
            file_type.clone_into(&mut file.file_type);
        }
        file
    }

    /// The object as the API shows it.
    fn shown(&self, dialect: ServedDialect) -> Value {
        let mut file = json!({
            "id": self.id,
            "object": "file",
            "created_at": self.created_ms / 1000,
            "filename": self.filename,
            "bytes": self.bytes,
            "purpose": self.purpose,
        });
        match dialect {
            ServedDialect::Together => {
                file["FileType"] = json!(self.file_type);
                file["Processed"] = json!(self.processed);
                file["LineCount"] = json!(self.lines);
            }
            ServedDialect::Openai => file["status"] = json!("processed"),
        }
        file
    }

    fn reply(&self, app: &App) -> HttpReply {
        HttpReply::pretty(StatusCode::OK, &self.shown(app.config.dialect))
    }
}

fn no_file(id: &str) -> HttpReply {
    let message = format!("There is no file {id}");
    ApiError { code: Some("not_found"), ..ApiError::invalid(&message) }.reply(StatusCode::NOT_FOUND)
}

/// The purposes of files that `OpenAI` accepts.
const PURPOSES: [&str; 6] = ["fine-tune", "assistants", "batch", "user_data", "vision", "evals"];

/// A redirect to the object store.
fn to_storage(app: &App, id: &str) -> HttpReply {
    HttpReply::new(StatusCode::FOUND, "text/plain", "").header("location", &storage::location(app, id))
}

/// `POST /v1/files`: registers an upload and redirects it to the object store. In `OpenAI`'s form, the bytes are with it.
pub async fn register(call: Call, body: Body) -> Response {
    let form = Form::read(&call, body).await;
    let subject = form.as_ref().ok().and_then(|form| form.get("checksum")).unwrap_or_default().to_owned();
    let route = ApiRoute::new("/v1/files (POST)", Scope::Register);
    call.answer(route, &subject, |app| match app.config.dialect {
        ServedDialect::Together => begin_upload(app, &form?),
        ServedDialect::Openai => store_upload(app, &form?),
    })
    .await
}

fn begin_upload(app: &App, form: &Form) -> Result<HttpReply, Refused> {
    let purpose = form.required("purpose")?;
    let name = form.required("file_name")?;
    let checksum = form.get("checksum").map(str::to_ascii_lowercase);
    let _guard = app.store.lock()?;
    if checksum.is_some() {
        let known: Vec<FileRecord> = app.store.all(Folder::Files)?;
        let same = |file: &&FileRecord| file.stored && file.checksum == checksum && file.purpose == purpose;
        if let Some(same) = known.iter().find(same) {
            let body = json!({"error": "The same file is there already", "file_id": same.id});
            return Ok(HttpReply::pretty(StatusCode::CONFLICT, &body));
        }
    }
    let file = FileRecord { checksum, ..FileRecord::of_form(form, name, purpose) };
    app.store.put(Folder::Files, &file.id, &file)?;
    Ok(to_storage(app, &file.id).header("x-together-file-id", &file.id))
}

/// `POST /v1/files/upload`: a file in one multipart request.
pub async fn upload(call: Call, body: Body) -> Response {
    let form = Form::read(&call, body).await;
    let route = ApiRoute::new("/v1/files/upload", Scope::Register);
    call.answer(route, "upload", |app| store_upload(app, &form?)).await
}

fn store_upload(app: &App, form: &Form) -> Result<HttpReply, Refused> {
    let purpose = form.required("purpose")?;
    if app.config.dialect == ServedDialect::Openai && !PURPOSES.contains(&purpose) {
        let message = format!("{purpose:?} is not one of {PURPOSES:?} - 'purpose'");
        return Err(errors::invalid(Some("purpose"), &message).into());
    }
    let part = form.file.as_ref().ok_or_else(|| errors::invalid(Some("file"), "file is missing"))?;
    let mut file = FileRecord::of_form(form, form.get("file_name").unwrap_or(&part.name), purpose);
    let mut scratch = app.store.scratch(Folder::Files)?;
    scratch.write_all(&part.bytes)?;
    file.bytes = part.bytes.len() as u64;
    file.lines = memchr::memchr_iter(b'\n', &part.bytes).count() as u64;
    file.stored = true;
    file.processed = true;
    app.store.keep(scratch, Folder::Files, &file.id, "bin")?;
    app.store.put(Folder::Files, &file.id, &file)?;
    Ok(file.reply(app))
}

/// `POST /v1/files/{id}/preprocess`: the last step of an upload.
pub async fn preprocess(Path(id): Path<String>, call: Call) -> Response {
    let route = ApiRoute::new("/v1/files/{id}/preprocess", Scope::Preprocess);
    call.about(route, id, |app, id| {
        let _guard = app.store.lock()?;
        let mut file: FileRecord = app.store.get(Folder::Files, id)?.ok_or_else(|| no_file(id))?;
        if !file.stored {
            return Ok(errors::invalid(None, "The bytes of this file have not arrived"));
        }
        file.processed = true;
        app.store.put(Folder::Files, id, &file)?;
        Ok(file.reply(app))
    })
    .await
}

/// `GET /v1/files`: all files, newest first.
pub async fn list(call: Call) -> Response {
    call.answer(ApiRoute::new("/v1/files", Scope::Files), "list", |app| {
        let mut files: Vec<FileRecord> = app.store.all(Folder::Files)?;
        files.sort_by(|a, b| (b.created_ms, &b.id).cmp(&(a.created_ms, &a.id)));
        let shown: Vec<_> = files.iter().map(|file| file.shown(app.config.dialect)).collect();
        let mut list = json!({"data": shown});
        if app.config.dialect == ServedDialect::Openai {
            (list["object"], list["has_more"]) = (json!("list"), json!(false));
        }
        Ok(HttpReply::pretty(StatusCode::OK, &list))
    })
    .await
}

/// `GET /v1/files/{id}`.
pub async fn retrieve(Path(id): Path<String>, call: Call) -> Response {
    call.about(ApiRoute::new("/v1/files/{id}", Scope::Files), id, |app, id| {
        let file: FileRecord = app.store.get(Folder::Files, id)?.ok_or_else(|| no_file(id))?;
        Ok(file.reply(app))
    })
    .await
}

/// `DELETE /v1/files/{id}`.
pub async fn delete(Path(id): Path<String>, call: Call) -> Response {
    call.about(ApiRoute::new("/v1/files/{id} (DELETE)", Scope::Files), id, |app, id| {
        let _guard = app.store.lock()?;
        app.store.remove(Folder::Files, id)?.then_some(()).ok_or_else(|| no_file(id))?;
        Ok(HttpReply::pretty(StatusCode::OK, &json!({"id": id, "object": "file", "deleted": true})))
    })
    .await
}

/// `GET /v1/files/{id}/content`: the bytes, or a redirect to them.
pub async fn content(Path(id): Path<String>, call: Call) -> Response {
    let redirect = call.app.config.downloads.redirect;
    // With redirects the bytes come from storage, and so do faults of content.
    let scope = if redirect { Scope::Files } else { Scope::Content };
    let range = storage::asked_range(&call.headers);
    call.about(ApiRoute::new("/v1/files/{id}/content", scope), id, move |app, id| {
        let file = app.store.get::<FileRecord>(Folder::Files, id)?.filter(|file| file.stored);
        let file = file.ok_or_else(|| no_file(id))?;
        Ok(if redirect { to_storage(app, id) } else { storage::bytes(app, &file, range)? })
    })
    .await
}
