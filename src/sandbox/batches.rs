//! The batch routes: create, get, list, cancel.

use std::io;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::app::{App, Route, read};
use super::errors;
use super::faults::Scope;
use super::files::FileRecord;
use super::intake;
use super::lifecycle::{BatchRecord, Status};
use super::listener::Conn;
use super::produce::settle;
use super::reply::Reply;
use super::request::Endpoint;
use super::state::{Folder, new_id, now_ms};

/// A create is a few ids.
const MAX_CREATE: usize = 1 << 20;

#[derive(Debug, Deserialize)]
struct Create {
    input_file_id: String,
    endpoint: String,
    completion_window: Option<String>,
}

fn shown(status: StatusCode, value: &Value) -> Reply {
    Reply::json(status, value.to_string())
}

fn no_batch(id: &str) -> Reply {
    errors::plain(StatusCode::NOT_FOUND, &format!("There is no batch job {id}"))
}

fn unauthorized() -> Reply {
    errors::plain(StatusCode::UNAUTHORIZED, "The sandbox refuses this API key")
}

/// `POST /v1/batches`.
pub async fn create(State(app): State<Arc<App>>, ConnectInfo(conn): ConnectInfo<Conn>, request: Request) -> Response {
    let route = Route { path: "/v1/batches (POST)", scope: Scope::Create };
    let (parts, body) = request.into_parts();
    let body = read(body, MAX_CREATE).await;
    let subject = body.as_ref().map(|body| body.to_vec()).unwrap_or_default();
    app.serve(route, &conn, &parts.headers, &subject, async |app| {
        if app.key(&parts.headers).is_none() {
            return unauthorized();
        }
        let wanted: Create = match body.map(|body| serde_json::from_slice(&body)) {
            Ok(Ok(wanted)) => wanted,
            Ok(Err(why)) => return errors::plain(StatusCode::BAD_REQUEST, &format!("The request is not valid: {why}")),
            Err(unread) => return unread.reply(),
        };
        if Endpoint::of_batch(&wanted.endpoint).is_none() {
            let message = format!("Batch jobs do not serve {}", wanted.endpoint);
            return errors::plain(StatusCode::BAD_REQUEST, &message);
        }
        let work = Arc::clone(&app);
        app.blocking(move || make(&work, &wanted)).await
    })
    .await
}

fn make(app: &App, wanted: &Create) -> io::Result<Reply> {
    let file = app.store.get::<FileRecord>(Folder::Files, &wanted.input_file_id)?;
    let Some(file) = file.filter(|file| file.stored) else {
        let message = format!("There is no file {}", wanted.input_file_id);
        return Ok(errors::plain(StatusCode::BAD_REQUEST, &message));
    };
    if file.purpose != "batch-api" {
        let message = format!("The purpose of {} is {}, not batch-api", file.id, file.purpose);
        return Ok(errors::plain(StatusCode::BAD_REQUEST, &message));
    }
    let found = intake::check(&app.store.path(Folder::Files, &file.id, "bin")?, file.bytes)?;
    let batch = &app.config.batch;
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 2);
    let record = BatchRecord {
        id: new_id(),
        created_ms: now_ms(),
        instance: app.instance.clone(),
        input_file_id: file.id,
        file_size_bytes: file.bytes,
        endpoint: wanted.endpoint.clone(),
        model_id: found.model,
        rows: found.rows,
        failure: found.failure.or_else(|| batch.fails.clone()),
        phases: [millis(batch.validation), millis(batch.run), millis(batch.cancel)],
        expires_at: batch.expires_at,
        list_undone: batch.list_undone,
        list_lag: millis(batch.list_lag),
        unset: batch.unset,
        seed: app.config.seed,
        faults: app.config.faults.iter().filter(|fault| fault.on == Scope::Row).cloned().collect(),
        cancelled_ms: None,
        result: None,
    };
    app.store.put(Folder::Batches, &record.id, &record)?;
    let mut answer = json!({"job": record.shown(now_ms())});
    if wanted.completion_window.as_deref().is_some_and(|window| window != "24h") {
        answer["warning"] = json!("The completion window is always 24h");
    }
    Ok(shown(StatusCode::CREATED, &answer))
}

/// `GET /v1/batches`: a bare array, newest first; `null` when there are none.
pub async fn list(State(app): State<Arc<App>>, ConnectInfo(conn): ConnectInfo<Conn>, headers: HeaderMap) -> Response {
    let route = Route { path: "/v1/batches", scope: Scope::List };
    app.serve(route, &conn, &headers, b"list", async |app| {
        if app.key(&headers).is_none() {
            return unauthorized();
        }
        let _one = app.settling.lock().await;
        let work = Arc::clone(&app);
        app.blocking(move || {
            let now = now_ms();
            let mut jobs: Vec<BatchRecord> = work.store.all(Folder::Batches)?;
            jobs.retain(|job| now >= job.created_ms + job.list_lag);
            jobs.sort_by(|a, b| (b.created_ms, &b.id).cmp(&(a.created_ms, &a.id)));
            for job in &mut jobs {
                if job.is_due(now)
                    && let Some(settled) = settle(&work, &job.id)?
                {
                    *job = settled;
                }
            }
            let list: Vec<_> = jobs.iter().map(|job| job.shown(now)).collect();
            Ok(shown(StatusCode::OK, &if list.is_empty() { Value::Null } else { list.into() }))
        })
        .await
    })
    .await
}

/// `GET /v1/batches/{id}`.
pub async fn retrieve(
    State(app): State<Arc<App>>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let route = Route { path: "/v1/batches/{id}", scope: Scope::Batch };
    app.serve(route, &conn, &headers, id.as_bytes(), async |app| {
        if app.key(&headers).is_none() {
            return unauthorized();
        }
        let _one = app.settling.lock().await;
        let (work, id) = (Arc::clone(&app), id.clone());
        app.blocking(move || {
            let job = settle(&work, &id)?;
            Ok(job.map_or_else(|| no_batch(&id), |job| shown(StatusCode::OK, &job.shown(now_ms()))))
        })
        .await
    })
    .await
}

/// `POST /v1/batches/{id}/cancel`.
pub async fn cancel(
    State(app): State<Arc<App>>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let route = Route { path: "/v1/batches/{id}/cancel", scope: Scope::Cancel };
    app.serve(route, &conn, &headers, id.as_bytes(), async |app| {
        if app.key(&headers).is_none() {
            return unauthorized();
        }
        app.local(|| {
            let _guard = app.store.lock()?;
            let Some(mut job) = app.store.get::<BatchRecord>(Folder::Batches, &id)? else { return Ok(no_batch(&id)) };
            let now = now_ms();
            match job.status(now) {
                Status::Validating | Status::InProgress => {
                    job.cancelled_ms = Some(now);
                    app.store.put(Folder::Batches, &id, &job)?;
                }
                Status::Canceling | Status::Cancelled => {}
                ended => {
                    let message = format!("The batch job has ended already: {}", ended.name());
                    return Ok(errors::plain(StatusCode::BAD_REQUEST, &message));
                }
            }
            Ok(shown(StatusCode::OK, &job.shown(now)))
        })
    })
    .await
}
