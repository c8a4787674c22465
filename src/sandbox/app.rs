//! The routes, and what all of them share: the key, the body, the faults, the counters.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};

use super::faults::{Kind, Scope, Shape};
use super::inject::{Injector, Subject};
use super::limits::Limiter;
use super::listener::Conn;
use super::reply::Reply;
use super::request::Endpoint;
use super::state::{Store, new_id};
use super::stats::Stats;
use super::{Config, audit, batches, chat, errors, files, inject, models, storage};

/// Everything a handler needs.
#[derive(Debug)]
pub struct App {
    /// As given.
    pub config: Config,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Requests a second, if limited.
    pub requests: Option<Limiter>,
    /// Tokens a second, if limited.
    pub tokens: Option<Limiter>,
    /// Scripted faults.
    pub faults: Injector,
    /// Files and batches.
    pub store: Store,
    /// Origin of the object store, `http://127.0.0.1:PORT`.
    pub storage: String,
    /// Tells this server from others on the same state.
    pub instance: String,
    /// Held while a job's files are made: two requests at once need not both make them.
    pub settling: tokio::sync::Mutex<()>,
}

impl App {
    /// The state behind the routes.
    pub fn new(config: Config, stats: Arc<Stats>, store: Store, storage: String) -> Self {
        let requests = config.rps.map(|rate| Limiter::new(rate, config.burst));
        let tokens = config.tokens_per_second.map(|rate| Limiter::new(rate, None));
        let faults = Injector::new(&config.faults, config.seed);
        let settling = tokio::sync::Mutex::default();
        Self { config, stats, requests, tokens, faults, store, storage, instance: new_id(), settling }
    }

    /// The bearer token, if it is one that the sandbox takes.
    pub fn key<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let given = bearer(headers)?;
        let good = match &self.config.key {
            Some(key) => given == key,
            None => !given.is_empty() && !given.starts_with("bad-key"),
        };
        good.then_some(given)
    }

    /// Runs `work` on local state; a failing disk is a 500 that says so.
    pub fn local(&self, work: impl FnOnce() -> io::Result<Reply>) -> Reply {
        work().unwrap_or_else(|error| self.broken_disk(&error))
    }

    /// Runs `work` on another thread: it takes long.
    pub async fn blocking(&self, work: impl FnOnce() -> io::Result<Reply> + Send + 'static) -> Reply {
        let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        self.local(|| done)
    }

    /// The answer when the sandbox itself cannot go on.
    pub fn broken_disk(&self, error: &io::Error) -> Reply {
        let place =
            self.config.state_dir.as_ref().map_or("a temporary directory".to_owned(), |dir| dir.display().to_string());
        let message = format!("The sandbox cannot use its state in {place}: {error}");
        errors::inference(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, None, &message)
    }

    /// Runs a request other than inference: faults around `work`, then the count.
    pub async fn serve<F>(
        self: &Arc<Self>,
        route: Route,
        conn: &Conn,
        headers: &HeaderMap,
        subject: &[u8],
        work: impl FnOnce(Arc<Self>) -> F,
    ) -> Response
    where
        F: Future<Output = Reply>,
    {
        let counted = self.stats.request(route.path);
        let text = String::from_utf8_lossy(subject);
        let key = super::request::hash(&text) ^ super::request::hash(route.path);
        let fault = self.faults.pick(Subject { scope: route.scope, key, text: &text }).unwrap_or_default();
        let key = bearer(headers).unwrap_or_default();
        let response = match fault {
            None => work(Arc::clone(self)).await.into_response(),
            Some(mut fault) => {
                self.stats.fault();
                if let Kind::Status { shape: shape @ Shape::Usual, .. } = &mut fault.kind
                    && route.scope.is_batches()
                {
                    *shape = Shape::Bare;
                }
                if fault.after || fault.kind.generates() {
                    let reply = work(Arc::clone(self)).await;
                    inject::spoil(&fault.kind, reply, conn, key).await
                } else {
                    inject::instead(&fault.kind, conn, key).await
                }
            }
        };
        counted.answered(shown_status(conn, &response));
        response
    }
}

/// The status as the client sees it: none (0) on a broken connection.
pub fn shown_status(conn: &Conn, response: &Response) -> u16 {
    if conn.is_broken() { 0 } else { response.status().as_u16() }
}

/// A route as it is counted, and as faults know it.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Path, with placeholders.
    pub path: &'static str,
    /// For faults.
    pub scope: Scope,
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The next piece of a body; none at its end, an error when the client went away.
pub async fn chunk(body: &mut Body) -> Result<Option<Bytes>, axum::Error> {
    loop {
        match std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(frame) => {
                // Trailers are of no use here.
                if let Ok(data) = frame?.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Why a body was not read.
#[derive(Debug)]
pub enum Unread {
    /// The client broke off: nobody is there for an answer, and nothing is billed.
    Gone,
    /// More than `max_body` bytes.
    TooLarge,
}

impl Unread {
    /// The refusal.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Gone => errors::invalid(None, "The request body did not arrive"),
            Self::TooLarge => errors::inference(
                StatusCode::PAYLOAD_TOO_LARGE,
                "invalid_request_error",
                None,
                None,
                "The request body is too large",
            ),
        }
    }
}

/// The whole body.
pub async fn read(mut body: Body, most: usize) -> Result<Bytes, Unread> {
    let Some(first) = chunk(&mut body).await.map_err(|_| Unread::Gone)? else { return Ok(Bytes::new()) };
    if first.len() > most {
        return Err(Unread::TooLarge);
    }
    // Nearly every request comes in one piece and is not copied.
    let Some(second) = chunk(&mut body).await.map_err(|_| Unread::Gone)? else { return Ok(first) };
    let mut all = BytesMut::from(first);
    all.extend_from_slice(&second);
    while let Some(more) = chunk(&mut body).await.map_err(|_| Unread::Gone)? {
        all.extend_from_slice(&more);
        if all.len() > most {
            return Err(Unread::TooLarge);
        }
    }
    if all.len() > most { Err(Unread::TooLarge) } else { Ok(all.freeze()) }
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(|a, c, r| chat::infer(a, c, Endpoint::Chat, r)))
        .route("/v1/completions", post(|a, c, r| chat::infer(a, c, Endpoint::Completions, r)))
        .route("/v1/embeddings", post(|a, c, r| chat::infer(a, c, Endpoint::Embeddings, r)))
        .route("/v1/models", get(list_models))
        .route("/v1/files", get(files::list).post(files::register))
        .route("/v1/files/upload", post(files::upload))
        .route("/v1/files/{id}", get(files::retrieve).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/v1/files/{id}/preprocess", post(files::preprocess))
        .route("/v1/batches", get(batches::list).post(batches::create))
        .route("/v1/batches/{id}", get(batches::retrieve))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route("/v3/whoami", get(whoami))
        .route("/sandbox/stats", get(audit::stats))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// The routes of the object store, on an origin of its own.
pub fn storage_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/storage/{id}", get(storage::get).put(storage::put))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

async fn list_models(State(app): State<Arc<App>>, ConnectInfo(conn): ConnectInfo<Conn>, request: Request) -> Response {
    let route = Route { path: "/v1/models", scope: Scope::Models };
    let headers = request.headers();
    app.serve(route, &conn, headers, b"", async |app| {
        if app.key(headers).is_none() {
            return errors::unauthorized_models();
        }
        chat::pack(&app, headers, Reply::json(StatusCode::OK, models::list()))
    })
    .await
}

/// Who the key belongs to: Together's command line asks before anything else.
async fn whoami(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let counted = app.stats.request("/v3/whoami");
    let reply = if app.key(&headers).is_some() {
        let body = serde_json::json!({
            "type": "project_api_key",
            "api_key": {"id": "sandbox-key"},
            "organization": {"id": "sandbox-organization", "name": "Sandbox"},
            "project": {"id": "sandbox-project", "name": "Sandbox", "slug": "sandbox"},
        });
        Reply::json(StatusCode::OK, body.to_string())
    } else {
        errors::unauthorized()
    };
    counted.answered(reply.status.as_u16());
    reply.into_response()
}

async fn unknown(State(app): State<Arc<App>>, request: Request) -> Response {
    app.stats.request("(unknown path)").answered(404);
    let message = format!("There is no {} {}", request.method(), request.uri().path());
    errors::inference(StatusCode::NOT_FOUND, "invalid_request_error", None, Some("not_found"), &message).into_response()
}

async fn wrong_method(State(app): State<Arc<App>>, request: Request) -> Response {
    app.stats.request("(wrong method)").answered(405);
    let message = format!("{} does not take {}", request.uri().path(), request.method());
    errors::inference(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", None, None, &message).into_response()
}
