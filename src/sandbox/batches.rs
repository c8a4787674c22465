//! The batch routes: create, get, list, cancel.

use axum::body::Body;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::app::App;
use super::batch::{BatchRecord, ServedStatus};
use super::batch_config::Unset;
use super::body::{Unread, read};
use super::call::{ApiRoute, Call};
use super::dialect::ServedDialect;
use super::errors;
use super::faults::Scope;
use super::file_record::FileRecord;
use super::intake::{self, IntakeForm};
use super::openai;
use super::reply::{HttpReply, Refused};
use super::request::InferenceKind;
use super::results::{finish, finish_due};
use super::state_dir::{Folder, new_id, now_ms};

/// The largest body of a create: it holds a few ids.
const MAX_CREATE: usize = 1 << 20;

#[derive(Debug, Deserialize)]
struct Create {
    input_file_id: String,
    endpoint: String,
    completion_window: Option<String>,
    #[serde(default)]
    metadata: Value,
}

fn shown(status: StatusCode, value: &Value) -> HttpReply {
    HttpReply::json(status, value.to_string())
}

fn no_batch(app: &App, id: &str) -> HttpReply {
    errors::of_batches(StatusCode::NOT_FOUND, &format!("There is no batch job {id}"), app.config.dialect)
}

fn bad_request(app: &App, message: &str) -> HttpReply {
    errors::of_batches(StatusCode::BAD_REQUEST, message, app.config.dialect)
}

/// The reason why a create is refused before its input is looked at.
fn invalid(wanted: &Create, dialect: ServedDialect) -> Option<String> {
    let kind = InferenceKind::of_batch(&wanted.endpoint);
    let audio = dialect == ServedDialect::Openai && kind == Some(InferenceKind::Audio);
    if kind.is_none() || audio {
        return Some(format!("Batch jobs do not serve {}", wanted.endpoint));
    }
    if dialect == ServedDialect::Openai && wanted.completion_window.as_deref() != Some("24h") {
        return Some("completion_window must be 24h".to_owned());
    }
    openai::invalid_metadata(&wanted.metadata).map(str::to_owned)
}

/// `POST /v1/batches`.
pub async fn create(call: Call, body: Body) -> Response {
    let body = read(body, MAX_CREATE).await;
    let subject = body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default();
    call.answer(ApiRoute::new("/v1/batches (POST)", Scope::Create), &subject, |app| {
        let body = body.map_err(Unread::reply)?;
        let wanted: Create = serde_json::from_slice(&body)
            .map_err(|why| bad_request(app, &format!("The request is not valid: {why}")))?;
        if let Some(why) = invalid(&wanted, app.config.dialect) {
            return Err(bad_request(app, &why).into());
        }
        make(app, &wanted)
    })
    .await
}

/// The error of a batch that finds the queue full.
const QUEUE_FULL: &str = "token_limit_exceeded: Enqueued token limit reached for this model. Please try again once some \
                          in_progress batches have been completed.";

/// Counts the jobs that have not ended and are not about to fail.
fn unfinished(app: &App) -> usize {
    let now = now_ms();
    let jobs: Vec<BatchRecord> = app.store.all(Folder::Batches).unwrap_or_default();
    let works = |job: &&BatchRecord| {
        let status = job.status(now);
        job.failure.is_none()
            && matches!(status, ServedStatus::Validating | ServedStatus::InProgress | ServedStatus::Canceling)
    };
    jobs.iter().filter(works).count()
}

fn make(app: &App, wanted: &Create) -> Result<HttpReply, Refused> {
    let file = app.store.get::<FileRecord>(Folder::Files, &wanted.input_file_id)?.filter(|file| file.stored);
    let file = file.ok_or_else(|| bad_request(app, &format!("There is no file {}", wanted.input_file_id)))?;
    let dialect = app.config.dialect;
    let purpose = if dialect == ServedDialect::Openai { "batch" } else { "batch-api" };
    if file.purpose != purpose {
        let message = format!("The purpose of {} is {}, not {purpose}", file.id, file.purpose);
        return Err(bad_request(app, &message).into());
    }
    let form = IntakeForm { dialect, endpoint: &wanted.endpoint };
    let found = intake::check(&app.store.path(Folder::Files, &file.id, "bin")?, file.bytes, form)?;
    let batch = &app.config.batch;
    let full = batch.queue.is_some_and(|most| unfinished(app) >= most).then(|| QUEUE_FULL.to_owned());
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 2);
    let record = BatchRecord {
        id: match dialect {
            ServedDialect::Together => new_id(),
            ServedDialect::Openai => format!("batch_{}", new_id().replace('-', "")),
        },
        dialect,
        body_text: batch.body_text,
        metadata: wanted.metadata.clone(),
        failed_line: found.line,
        created_ms: now_ms(),
        instance: app.instance.clone(),
        input_file_id: file.id,
        file_size_bytes: file.bytes,
        endpoint: wanted.endpoint.clone(),
        model_id: found.model,
        rows: found.rows,
        failure: found.failure.or_else(|| batch.fails.clone()).or(full),
        phases: [millis(batch.validation), millis(batch.run), millis(batch.cancel)],
        expires_at: batch.expires_at,
        list_undone: batch.list_undone,
        list_lag: millis(batch.list_lag),
        unset: batch.unset.unwrap_or(match dialect {
            ServedDialect::Together => Unset::Omit,
            ServedDialect::Openai => Unset::Null,
        }),
        seed: app.config.seed,
        cached_tokens: app.config.cached_tokens,
        price_times: app.price_times(),
        faults: app.config.faults.iter().filter(|fault| fault.on == Scope::Row).cloned().collect(),
        cancelled_ms: None,
        result: None,
    };
    app.store.put(Folder::Batches, &record.id, &record)?;
    if dialect == ServedDialect::Openai {
        return Ok(shown(StatusCode::OK, &record.shown(now_ms())));
    }
    let mut answer = json!({"job": record.shown(now_ms())});
    if wanted.completion_window.as_deref().is_some_and(|window| window != "24h") {
        answer["warning"] = json!("The completion window is always 24h");
    }
    Ok(shown(StatusCode::CREATED, &answer))
}

/// `GET /v1/batches`: a bare array, newest first; `null` when there are none. In `OpenAI`'s form, a page of them.
pub async fn list(call: Call) -> Response {
    let query = call.query.clone();
    call.answer(ApiRoute::new("/v1/batches", Scope::List), "list", move |app| {
        let _one = app.finishing();
        let now = now_ms();
        let mut jobs: Vec<BatchRecord> = app.store.all(Folder::Batches)?;
        jobs.retain(|job| now >= job.created_ms + job.list_lag);
        jobs.sort_by(|a, b| (b.created_ms, &b.id).cmp(&(a.created_ms, &a.id)));
        finish_due(app, &mut jobs, now)?;
        let list: Vec<_> = jobs.iter().map(|job| job.shown(now)).collect();
        if app.config.dialect == ServedDialect::Openai {
            let page = openai::page(&list, &query, app.config.batch.list_page);
            return Ok(page.map_or_else(|why| bad_request(app, &why), |page| shown(StatusCode::OK, &page)));
        }
        Ok(shown(StatusCode::OK, &if list.is_empty() { Value::Null } else { list.into() }))
    })
    .await
}

/// `GET /v1/batches/{id}`.
pub async fn retrieve(Path(id): Path<String>, call: Call) -> Response {
    call.about(ApiRoute::new("/v1/batches/{id}", Scope::Batch), id, |app, id| {
        let _one = app.finishing();
        let job = finish(app, id)?.ok_or_else(|| no_batch(app, id))?;
        Ok(shown(StatusCode::OK, &job.shown(now_ms())))
    })
    .await
}

/// `POST /v1/batches/{id}/cancel`.
pub async fn cancel(Path(id): Path<String>, call: Call) -> Response {
    call.about(ApiRoute::new("/v1/batches/{id}/cancel", Scope::Cancel), id, |app, id| {
        let _guard = app.store.lock()?;
        let mut job: BatchRecord = app.store.get(Folder::Batches, id)?.ok_or_else(|| no_batch(app, id))?;
        let now = now_ms();
        match job.status(now) {
            ServedStatus::Validating | ServedStatus::InProgress => {
                job.cancelled_ms = Some(now);
                app.store.put(Folder::Batches, id, &job)?;
            }
            ServedStatus::Canceling | ServedStatus::Cancelled => {}
            ended => {
                let message = format!("The batch job has ended already: {}", ended.name());
                return Err(bad_request(app, &message).into());
            }
        }
        Ok(shown(StatusCode::OK, &job.shown(now)))
    })
    .await
}
