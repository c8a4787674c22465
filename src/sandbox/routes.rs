//! The routes of the API and of the object store.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::json;

use super::app::App;
use super::call::{ApiRoute, Call};
use super::dialect::ServedDialect;
use super::errors::ApiError;
use super::faults::Scope;
use super::reply::HttpReply;
use super::request::InferenceKind;
use super::{audit, batches, errors, files, infer, media, models, storage};

const TRANSCRIPTIONS: ApiRoute = ApiRoute::new("/v1/audio/transcriptions", Scope::Audio);
const TRANSLATIONS: ApiRoute = ApiRoute::new("/v1/audio/translations", Scope::Audio);

pub fn router(app: Arc<App>) -> Router {
    let dialect = app.config.dialect;
    let router = Router::new()
        .route("/v1/chat/completions", post(|call, body| infer::infer(InferenceKind::Chat, call, body)))
        .route("/v1/completions", post(|call, body| infer::infer(InferenceKind::Completions, call, body)))
        .route("/v1/embeddings", post(|call, body| infer::infer(InferenceKind::Embeddings, call, body)))
        .route("/v1/rerank", post(|call, body| infer::infer(InferenceKind::Rerank, call, body)))
        .route("/v1/images/generations", post(|call, body| infer::infer(InferenceKind::Images, call, body)))
        .route("/v1/audio/speech", post(|call, body| infer::infer(InferenceKind::Speech, call, body)))
        .route("/v1/audio/transcriptions", post(|call, body| infer::infer_form(TRANSCRIPTIONS, call, body)))
        .route("/v1/audio/translations", post(|call, body| infer::infer_form(TRANSLATIONS, call, body)))
        .route("/v1/models", get(list_models))
        .route("/v1/files", get(files::list).post(files::register))
        .route("/v1/files/{id}", get(files::retrieve).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/v1/batches", get(batches::list).post(batches::create))
        .route("/v1/batches/{id}", get(batches::retrieve))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route("/sandbox/stats", get(audit::stats))
        .route("/sandbox/prices", post(audit::set_prices))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method);
    let router = match dialect {
        ServedDialect::Openai => router,
        ServedDialect::Together => router
            .route("/v1/files/upload", post(files::upload))
            .route("/v1/files/{id}/preprocess", post(files::preprocess))
            .route("/v3/whoami", get(whoami)),
    };
    router.with_state(app)
}

/// The routes of the object store, on an origin of its own.
pub fn storage_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/images/{name}", get(media::get))
        .route("/storage/{id}", get(storage::get).put(storage::put))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

async fn list_models(call: Call) -> Response {
    let list = async {
        let list = match call.app.config.dialect {
            ServedDialect::Together => models::list(call.app.config.reported_cache()),
            ServedDialect::Openai => models::list_openai(),
        };
        HttpReply::json(StatusCode::OK, list).packed(&call.app.config, &call.headers)
    };
    call.keyed(ApiRoute::new("/v1/models", Scope::Models), "", list).await
}

/// The owner of the key: Together's command line asks for it before anything else.
async fn whoami(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let counted = app.stats.request("/v3/whoami");
    let reply = if app.key(&headers).is_some() {
        let body = json!({
            "type": "project_api_key",
            "api_key": {"id": "sandbox-key"},
            "organization": {"id": "sandbox-organization", "name": "Sandbox"},
            "project": {"id": "sandbox-project", "name": "Sandbox", "slug": "sandbox"},
        });
        HttpReply::json(StatusCode::OK, body.to_string())
    } else {
        errors::unauthorized(Scope::Any)
    };
    counted.answered(reply.status.as_u16());
    reply.into_response()
}

async fn unknown(State(app): State<Arc<App>>, request: Request) -> Response {
    app.stats.request("(unknown path)").answered(404);
    let message = format!("There is no {} {}", request.method(), request.uri().path());
    ApiError { code: Some("not_found"), ..ApiError::invalid(&message) }.reply(StatusCode::NOT_FOUND).into_response()
}

async fn wrong_method(State(app): State<Arc<App>>, request: Request) -> Response {
    app.stats.request("(wrong method)").answered(405);
    let message = format!("{} does not take {}", request.uri().path(), request.method());
    ApiError::invalid(&message).reply(StatusCode::METHOD_NOT_ALLOWED).into_response()
}
