//! Inference: chat completions, completions, embeddings, rankings, images, speech, transcripts.

use std::time::Instant;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;

use super::answers::{self, AnswerStyle, Flaw, ServedBody};
use super::body::{Unread, read};
use super::call::{ApiRoute, Call};
use super::dialect::ServedDialect;
use super::errors::{self, ApiError};
use super::event_stream::{EventStream, StreamPlaces};
use super::faults::{ErrorShape, FaultKind, Scope};
use super::injector::Subject;
use super::models::{Availability, availability};
use super::openai_errors;
use super::recordings;
use super::reply::HttpReply;
use super::request::{InferenceKind, InferenceRequest, parse};
use super::request_limits::RequestLimits;
use super::spoil;
use super::stats::Bill;
use super::stream_shape::StreamShape;

fn route(kind: InferenceKind) -> ApiRoute {
    match kind {
        InferenceKind::Chat => ApiRoute::new("/v1/chat/completions", Scope::Chat),
        InferenceKind::Completions => ApiRoute::new("/v1/completions", Scope::Completions),
        InferenceKind::Rerank => ApiRoute::new("/v1/rerank", Scope::Rerank),
        InferenceKind::Images => ApiRoute::new("/v1/images/generations", Scope::Images),
        InferenceKind::Speech => ApiRoute::new("/v1/audio/speech", Scope::Speech),
        InferenceKind::Embeddings => ApiRoute::new("/v1/embeddings", Scope::Embeddings),
        InferenceKind::Audio => ApiRoute::new("/v1/audio/transcriptions", Scope::Audio),
    }
}

/// Answers one inference request, from its first byte to its response.
pub async fn infer(kind: InferenceKind, call: Call, body: Body) -> Response {
    let most = call.app.config.max_body;
    let body = async move { read(body, most).await.map_err(Unread::reply) };
    respond(route(kind), kind, call, body).await
}

/// Answers one request for a transcript, which is a form.
pub async fn infer_form(route: ApiRoute, call: Call, body: Body) -> Response {
    let text = recordings::body_of(&call, body).await;
    respond(route, InferenceKind::Audio, call, async { text }).await
}

async fn respond(
    route: ApiRoute,
    kind: InferenceKind,
    call: Call,
    body: impl Future<Output = Result<Bytes, HttpReply>>,
) -> Response {
    let counted = call.app.stats.request(route.path);
    let mut limits = RequestLimits::default();
    let outcome = match body.await {
        Ok(body) => work(&call, kind, &body, &mut limits).await,
        Err(unread) => InferOutcome::Reply(unread),
    };
    let mut response = match worded(outcome, &call) {
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

/// The outcome, a refusal of it in the words of the dialect. A body that a script asks for stays as it is.
fn worded(outcome: InferOutcome, call: &Call) -> InferOutcome {
    if call.app.config.dialect == ServedDialect::Together {
        return outcome;
    }
    match outcome {
        InferOutcome::Reply(reply) => openai_errors::refusal(reply).into(),
        InferOutcome::Faulty(FaultKind::Status(error), _) if error.shape == ErrorShape::Usual && error.padding == 0 => {
            call.app.stats.fault();
            openai_errors::refusal(error.reply()).into()
        }
        faulty @ InferOutcome::Faulty(..) => faulty,
    }
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
        Ok(request) => InferenceRequest { storage: &app.storage, ..request },
        Err(why) => return errors::invalid(why.param, &why.message).into(),
    };
    let hash = request.hash();
    let streams = request.options.stream.is_some();
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
    let cached_part = app.prefixes.as_ref().map(|prefixes| prefixes.pass(&request, Instant::now()));
    let cached = app.config.reported_cache();
    let style = AnswerStyle { flaw, cached, cached_part, dialect: app.config.dialect };
    let answer = answers::answer(&request, kind, style);
    // Paid now, even if the client does not wait for the answer.
    let bill = Bill::of(&request.model, false, answer.tokens).times(app.price_times());
    app.stats.paid(bill, &request.paid_hashes());
    if let Some(tokens) = &app.tokens {
        let spent = u32::try_from(answer.tokens.prompt + answer.tokens.completion).unwrap_or(u32::MAX);
        tokens.charge(key, f64::from(spent), Instant::now());
    }
    let latency = spoil::latency(app.config.latency, app.config.latency_jitter, hash);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let reply = match answer.body {
        ServedBody::Whole(body) => HttpReply::json(StatusCode::OK, body),
        ServedBody::File { media_type, bytes } => HttpReply::new(StatusCode::OK, media_type, bytes),
        ServedBody::Events(events) => {
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
        Availability::Serves { context: Some(context), .. }
            if matches!(kind, InferenceKind::Chat | InferenceKind::Completions) =>
        {
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
