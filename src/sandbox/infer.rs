//! Inference: chat completions, completions, embeddings.

use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

use super::answers::{self, AnswerBody, Flaw};
use super::app::App;
use super::body::read;
use super::call::{ApiRoute, Call};
use super::errors::{self, ApiError};
use super::event_stream::{EventStream, StreamPlaces};
use super::faults::{FaultKind, Scope, ScriptedError};
use super::hint::Hint;
use super::injector::Subject;
use super::limiter::Admission;
use super::models::{Availability, availability};
use super::reply::HttpReply;
use super::request::{InferenceKind, InferenceRequest, parse};
use super::spoil;
use super::stats::{Bill, RequestGuard};
use super::stream_shape::StreamShape;

fn route(kind: InferenceKind) -> ApiRoute {
    match kind {
        InferenceKind::Chat => ApiRoute::new("/v1/chat/completions", Scope::Chat),
        InferenceKind::Completions => ApiRoute::new("/v1/completions", Scope::Completions),
        // Audio is served in batch jobs only and never comes here.
        InferenceKind::Embeddings | InferenceKind::Audio => ApiRoute::new("/v1/embeddings", Scope::Embeddings),
    }
}

/// Answers one inference request, from its first byte to its response.
pub async fn infer(kind: InferenceKind, call: Call, body: Body) -> Response {
    let counted = call.app.stats.request(route(kind).path);
    let mut limits = RequestLimits::default();
    let outcome = match read(body, call.app.config.max_body).await {
        Ok(body) => work(&call, kind, &body, &mut limits).await,
        Err(unread) => InferOutcome::Reply(unread.reply()),
    };
    let mut response = match outcome {
        InferOutcome::Reply(reply) => reply.packed(&call.app.config, &call.headers).into_response(),
        InferOutcome::Faulty(kind, reply) => call.strike(&kind, reply).await,
    };
    if call.app.config.rate_headers {
        let is_limited = response.status() == StatusCode::TOO_MANY_REQUESTS;
        limits.write_headers(&call.app, is_limited, response.headers_mut());
    }
    counted.answered(call.conn.shown_status(&response));
    response
}

enum InferOutcome {
    Reply(HttpReply),
    /// A fault, with the right answer if it was generated.
    Faulty(FaultKind, Option<HttpReply>),
}

impl From<HttpReply> for InferOutcome {
    fn from(reply: HttpReply) -> Self {
        Self::Reply(reply)
    }
}

async fn work(call: &Call, kind: InferenceKind, body: &[u8], limits: &mut RequestLimits) -> InferOutcome {
    let app = &*call.app;
    let scope = route(kind).scope;
    let Some(key) = app.key(&call.headers) else { return errors::unauthorized(scope).into() };
    if let Some(refusal) = limits.enter(app, key) {
        return refusal.into();
    }
    let Ok(body) = std::str::from_utf8(body) else {
        return errors::invalid(None, "The request body is not UTF-8").into();
    };
    let request = match parse(body, kind) {
        Ok(request) => request,
        Err(why) => return errors::invalid(why.param, &why.message).into(),
    };
    let hash = request.hash();
    let streams = request.stream.is_some();
    let fault = match app.faults.pick(Subject { scope, key: hash, text: &request.prompt, streams }) {
        Ok(fault) => fault,
        Err(message) => return errors::invalid(Some("messages"), &message).into(),
    };
    if let Some(fault) = fault.as_ref().filter(|fault| !fault.works_first()) {
        return InferOutcome::Faulty(fault.kind.clone(), None);
    }
    if let Some(refusal) = unfit(&request, kind) {
        return refusal.reply().into();
    }
    let slot = app.slot().await;
    let flaw = fault.as_ref().map_or(Flaw::None, |fault| flaw(&fault.kind));
    let answer = answers::answer(&request, kind, flaw, app.config.cached_tokens);
    // Paid now, even if the client does not wait for the answer.
    let bill = Bill::of(&request.model, false, answer.tokens).times(app.price_times());
    app.stats.paid(bill, &[hash]);
    if let Some(tokens) = &app.tokens {
        let spent = u32::try_from(answer.tokens.prompt + answer.tokens.completion).unwrap_or(u32::MAX);
        tokens.charge(key, f64::from(spent), Instant::now());
    }
    let latency = spoil::latency(app.config.latency, app.config.latency_jitter, hash);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let reply = match answer.body {
        AnswerBody::Whole(body) => HttpReply::json(StatusCode::OK, body),
        AnswerBody::Events(events) => {
            let shape = fault.as_ref().map_or_else(StreamShape::default, |fault| fault.stream);
            let places = StreamPlaces::new(limits.in_flight.take(), slot);
            HttpReply::events(EventStream::new(&events, shape, app.config.seed ^ hash, places))
        }
    };
    match fault {
        Some(fault) => InferOutcome::Faulty(fault.kind, Some(reply)),
        None => reply.into(),
    }
}

fn flaw(kind: &FaultKind) -> Flaw {
    match kind {
        FaultKind::EmptyChoices => Flaw::EmptyChoices,
        FaultKind::NullContent => Flaw::NullContent,
        FaultKind::NoUsage => Flaw::NoUsage,
        FaultKind::Huge(bytes) => Flaw::Huge(*bytes),
        FaultKind::StreamError => Flaw::ErrorEvent,
        FaultKind::NoFinish => Flaw::NoFinish,
        FaultKind::NoDone => Flaw::NoDone,
        _ => Flaw::None,
    }
}

/// The limits' answers to a request. The request counts as in progress until this is dropped, and the stream of its
/// answer has ended.
#[derive(Default)]
struct RequestLimits {
    requests: Option<Admission>,
    tokens: Option<Admission>,
    in_flight: Option<RequestGuard>,
}

impl RequestLimits {
    /// Passes the request through all limits. Returns the refusal of the first that is reached.
    fn enter(&mut self, app: &App, key: &str) -> Option<HttpReply> {
        let now = Instant::now();
        self.tokens = app.tokens.as_ref().map(|tokens| tokens.solvent(key, now));
        if let Some(admission) = self.tokens.filter(|admission| !admission.allowed) {
            return Some(limited(app, "dynamic_token_limited", admission));
        }
        self.requests = app.requests.as_ref().map(|requests| requests.admit(key, now));
        if let Some(admission) = self.requests.filter(|admission| !admission.allowed) {
            return Some(limited(app, "dynamic_request_limited", admission));
        }
        if let Some(admission) = app.window.as_ref().map(|window| window.admit(key, now)).filter(|a| !a.allowed) {
            return Some(limited(app, "request_limited", admission));
        }
        if let Some(most) = app.config.parallel {
            self.in_flight = app.stats.enter(Some(most));
            return self.in_flight.is_none().then(|| too_many_in_parallel(app, most));
        }
        self.in_flight = app.stats.enter(app.config.capacity);
        let overloaded = || ScriptedError { code: 503, ..ScriptedError::default() }.reply();
        self.in_flight.is_none().then(overloaded)
    }

    /// Writes the headers that were recorded on every answer, a 200 included.
    fn write_headers(&self, app: &App, is_limited: bool, headers: &mut HeaderMap) {
        let mut put = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        let remaining = |admission: Option<Admission>| admission.map_or(0.0, |admission| admission.remaining.floor());
        put("x-ratelimit", is_limited.to_string());
        if !is_limited {
            put("retry-after", "2".to_owned());
            put("x-ratelimit-reset", "2".to_owned());
        }
        if let Some(limiter) = &app.requests {
            put("x-ratelimit-limit", limiter.rate().to_string());
            put("x-ratelimit-remaining", remaining(self.requests).to_string());
            put("x-ratelimit-limit-dynamic", "1".to_owned());
            put("x-ratelimit-remaining-dynamic", "0".to_owned());
        }
        if let Some(limiter) = &app.tokens {
            put("x-ratelimit-limit-tokens", limiter.rate().to_string());
            put("x-ratelimit-remaining-tokens", remaining(self.tokens).to_string());
        }
    }
}

/// Counts and builds the refusal of a rate limit.
fn limited(app: &App, kind: &str, admission: Admission) -> HttpReply {
    app.stats.refused();
    let message = "Requests come faster than the present dynamic rate: slow down";
    let mut reply = ApiError::new(kind, message).reply(StatusCode::TOO_MANY_REQUESTS);
    Hint { style: app.config.retry_after, wait: admission.wait }.write(&mut reply.headers);
    reply
}

/// Counts and builds the refusal of one request too many in parallel, with the headers of `LiteLLM`'s proxy.
fn too_many_in_parallel(app: &App, most: u64) -> HttpReply {
    app.stats.refused();
    let message = format!("Max parallel request limit reached: {most}");
    let mut reply = ApiError::new("throttling_error", &message).reply(StatusCode::TOO_MANY_REQUESTS);
    reply.headers.insert("rate_limit_type", HeaderValue::from_static("max_parallel_requests"));
    reply.headers.insert("x-ratelimit-api_key-limit-max_parallel_requests", most.into());
    reply
}

/// The refusal of a model.
#[derive(Debug)]
pub struct ModelRefusal {
    pub status: StatusCode,
    pub message: String,
    code: Option<&'static str>,
}

impl ModelRefusal {
    fn reply(&self) -> HttpReply {
        ApiError { code: self.code, ..ApiError::invalid(&self.message) }.reply(self.status)
    }
}

/// The refusal of the request's model, unless it can answer.
pub fn unfit(request: &InferenceRequest<'_>, kind: InferenceKind) -> Option<ModelRefusal> {
    let model = &request.model;
    let code = Some("model_not_available");
    match availability(model) {
        Availability::Unknown => {
            let message = format!("There is no model {model}, or you may not use it");
            Some(ModelRefusal { status: StatusCode::NOT_FOUND, message, code })
        }
        Availability::Dedicated => {
            let message = format!("{model} has no serverless endpoint");
            Some(ModelRefusal { status: StatusCode::BAD_REQUEST, message, code })
        }
        Availability::Serves { context: Some(context), .. } if kind != InferenceKind::Embeddings => {
            let (prompt, most) = (request.prompt_tokens, request.max_tokens.unwrap_or(0));
            (prompt.saturating_add(most) > context).then(|| {
                let message = format!(
                    "The prompt has {prompt} tokens and max_tokens is {most}: more than the model's context of {context}"
                );
                ModelRefusal { status: StatusCode::FORBIDDEN, message, code: None }
            })
        }
        Availability::Serves { .. } => None,
    }
}
