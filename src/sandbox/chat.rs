//! Inference: chat completions, completions, embeddings.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::answers::{self, Answer, Flaw};
use super::app::{App, Route, bearer, read, shown_status};
use super::errors;
use super::faults::{Fault, Kind, Scope, Shape};
use super::inject::{self, Subject};
use super::limits::{HintStyle, Verdict};
use super::listener::Conn;
use super::models::{Standing, standing};
use super::reply::{Payload, Reply};
use super::request::{Bad, Endpoint, Parsed, parse};
use super::stats::{Bill, InFlight};

/// A body smaller than this is not worth packing.
const PACK_FROM: usize = 256;

fn route(endpoint: Endpoint) -> Route {
    match endpoint {
        Endpoint::Chat => Route { path: "/v1/chat/completions", scope: Scope::Chat },
        Endpoint::Completions => Route { path: "/v1/completions", scope: Scope::Completions },
        // Audio is served in batch jobs only and never comes here.
        Endpoint::Embeddings | Endpoint::Audio => Route { path: "/v1/embeddings", scope: Scope::Embeddings },
    }
}

/// One inference request from its first byte to its response.
pub async fn infer(
    State(app): State<Arc<App>>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    endpoint: Endpoint,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let counted = app.stats.request(route(endpoint).path);
    let mut seen = Seen::default();
    let outcome = match read(body, app.config.max_body).await {
        Ok(body) => work(&app, endpoint, &parts.headers, &body, &mut seen).await,
        Err(unread) => Outcome::Reply(unread.reply()),
    };
    let mut response = match outcome {
        Outcome::Reply(reply) => pack(&app, &parts.headers, reply).into_response(),
        Outcome::Faulty(fault, reply) => {
            app.stats.fault();
            let key = bearer(&parts.headers).unwrap_or_default();
            match reply {
                Some(reply) => inject::spoil(&fault.kind, reply, &conn, key).await,
                None => inject::instead(&fault.kind, &conn, key).await,
            }
        }
    };
    if app.config.rate_headers {
        rate_headers(&app, &seen, response.status(), response.headers_mut());
    }
    counted.answered(shown_status(&conn, &response));
    response
}

/// What is known of a request besides its outcome; it counts as in flight until this is dropped.
#[derive(Default)]
struct Seen<'a> {
    requests: Option<Verdict>,
    tokens: Option<Verdict>,
    in_flight: Option<InFlight<'a>>,
}

enum Outcome {
    Reply(Reply),
    /// A fault, with the right answer if it was generated.
    Faulty(Fault, Option<Reply>),
}

async fn work<'a>(app: &'a App, endpoint: Endpoint, headers: &HeaderMap, body: &[u8], seen: &mut Seen<'a>) -> Outcome {
    let Some(key) = app.key(headers) else { return Outcome::Reply(errors::unauthorized()) };
    if let Some(refusal) = refuse(app, key, seen) {
        app.stats.refused();
        return Outcome::Reply(refusal);
    }
    seen.in_flight = app.stats.enter(app.config.capacity);
    if seen.in_flight.is_none() {
        return Outcome::Reply(inject::status(503, None, Shape::Usual, 0));
    }
    let Ok(body) = std::str::from_utf8(body) else {
        return Outcome::Reply(errors::invalid(None, "The request body is not UTF-8"));
    };
    let request = match parse(body, endpoint) {
        Ok(request) => request,
        Err(Bad { param, message }) => return Outcome::Reply(errors::invalid(param, &message)),
    };
    let hash = request.hash();
    let subject = Subject { scope: route(endpoint).scope, key: hash, text: &request.prompt };
    let fault = match app.faults.pick(subject) {
        Ok(fault) => fault,
        Err(message) => return Outcome::Reply(errors::invalid(Some("messages"), &message)),
    };
    if let Some(fault) = &fault
        && !fault.after
        && !fault.kind.generates()
    {
        return Outcome::Faulty(fault.clone(), None);
    }
    if let Some(refusal) = unfit(&request, endpoint) {
        return Outcome::Reply(refusal.reply());
    }
    let flaw = fault.as_ref().map_or(Flaw::None, |fault| flaw(&fault.kind));
    let Answer { body, prompt_tokens, completion_tokens } = answers::answer(&request, endpoint, flaw);
    // Paid now: whether anybody waits for the answer is not the meter's concern.
    app.stats.paid(hash, Bill::of(&request.model, false, prompt_tokens, completion_tokens));
    if let Some(tokens) = &app.tokens {
        let spent = u32::try_from(prompt_tokens + completion_tokens).unwrap_or(u32::MAX);
        tokens.charge(key, f64::from(spent), Instant::now());
    }
    let latency = inject::latency(app.config.latency, app.config.latency_jitter, hash);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let reply = Reply::json(StatusCode::OK, body);
    match fault {
        Some(fault) => Outcome::Faulty(fault, Some(reply)),
        None => Outcome::Reply(reply),
    }
}

fn flaw(kind: &Kind) -> Flaw {
    match kind {
        Kind::EmptyChoices => Flaw::EmptyChoices,
        Kind::NullContent => Flaw::NullContent,
        Kind::NoUsage => Flaw::NoUsage,
        Kind::Huge(bytes) => Flaw::Huge(*bytes),
        _ => Flaw::None,
    }
}

/// The refusal of the rate limits, if any.
fn refuse(app: &App, key: &str, seen: &mut Seen<'_>) -> Option<Reply> {
    let now = Instant::now();
    seen.tokens = app.tokens.as_ref().map(|tokens| tokens.solvent(key, now));
    if let Some(verdict) = seen.tokens.filter(|verdict| !verdict.allowed) {
        return Some(limited(app.config.retry_after, "dynamic_token_limited", verdict.wait));
    }
    seen.requests = app.requests.as_ref().map(|requests| requests.admit(key, now));
    let verdict = seen.requests.filter(|verdict| !verdict.allowed)?;
    Some(limited(app.config.retry_after, "dynamic_request_limited", verdict.wait))
}

fn limited(style: HintStyle, kind: &str, wait: Duration) -> Reply {
    let message = "Requests come faster than the present dynamic rate: slow down";
    let mut reply = errors::inference(StatusCode::TOO_MANY_REQUESTS, kind, None, None, message);
    style.write(wait, &mut reply.headers);
    reply
}

/// Why a model cannot take a request.
#[derive(Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// What is wrong.
    pub message: String,
    code: Option<&'static str>,
}

impl Refusal {
    fn reply(&self) -> Reply {
        errors::inference(self.status, "invalid_request_error", None, self.code, &self.message)
    }
}

/// Whether and why the request's model cannot take it.
pub fn unfit(request: &Parsed<'_>, endpoint: Endpoint) -> Option<Refusal> {
    let model = &request.model;
    let code = Some("model_not_available");
    match standing(model) {
        Standing::Unknown => {
            let message = format!("There is no model {model}, or you may not use it");
            Some(Refusal { status: StatusCode::NOT_FOUND, message, code })
        }
        Standing::Dedicated => {
            let message = format!("{model} has no serverless endpoint");
            Some(Refusal { status: StatusCode::BAD_REQUEST, message, code })
        }
        Standing::Serves { context: Some(context), .. } => {
            let (prompt, most) = (request.prompt_tokens, request.max_tokens.unwrap_or(0));
            (prompt.saturating_add(most) > context && endpoint != Endpoint::Embeddings).then(|| {
                let message = format!(
                    "The prompt has {prompt} tokens and max_tokens is {most}: more than the model's context of {context}"
                );
                Refusal { status: StatusCode::FORBIDDEN, message, code: None }
            })
        }
        Standing::Serves { context: None, .. } => None,
    }
}

/// The headers that were recorded on every answer, a 200 included.
fn rate_headers(app: &App, seen: &Seen<'_>, status: StatusCode, headers: &mut HeaderMap) {
    let mut put = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if status == StatusCode::TOO_MANY_REQUESTS {
        put("x-ratelimit", "true".to_owned());
    } else {
        put("x-ratelimit", "false".to_owned());
        put("retry-after", "2".to_owned());
        put("x-ratelimit-reset", "2".to_owned());
    }
    if let Some(limiter) = &app.requests {
        put("x-ratelimit-limit", limiter.rate().to_string());
        let remaining = seen.requests.map_or(0.0, |verdict| verdict.remaining.floor());
        put("x-ratelimit-remaining", remaining.to_string());
        put("x-ratelimit-limit-dynamic", "1".to_owned());
        put("x-ratelimit-remaining-dynamic", "0".to_owned());
    }
    if let Some(limiter) = &app.tokens {
        put("x-ratelimit-limit-tokens", limiter.rate().to_string());
        let remaining = seen.tokens.map_or(0.0, |verdict| verdict.remaining.floor());
        put("x-ratelimit-remaining-tokens", remaining.to_string());
    }
}

/// Compresses a reply if the sandbox is set to and the client takes it.
pub fn pack(app: &App, headers: &HeaderMap, mut reply: Reply) -> Reply {
    let accepts = || {
        let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        accepted.is_some_and(|list| list.split(',').any(|item| item.trim().starts_with("gzip")))
    };
    if let Payload::Bytes(bytes) = &reply.payload
        && app.config.gzip
        && bytes.len() >= PACK_FROM
        && accepts()
    {
        let mut packer = flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len()), flate2::Compression::fast());
        if packer.write_all(bytes).is_ok()
            && let Ok(packed) = packer.finish()
        {
            reply.payload = Payload::Bytes(packed.into());
            reply.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    reply
}
