//! The limits that an inference request passes, and the headers that tell of them.

use std::time::Instant;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::app::App;
use super::dialect::ServedDialect;
use super::errors::ApiError;
use super::faults::ScriptedError;
use super::hint::Hint;
use super::limiter::{Admission, KeyLimiter};
use super::openai_errors;
use super::reply::HttpReply;
use super::stats::RequestGuard;

/// The limits' answers to a request. The request counts as in progress until this is dropped, and the stream of its
/// answer has ended.
#[derive(Debug, Default)]
pub struct RequestLimits {
    requests: Option<Admission>,
    window: Option<Admission>,
    tokens: Option<Admission>,
    pub in_flight: Option<RequestGuard>,
}

impl RequestLimits {
    /// Passes the request through all limits. Returns the refusal of the first that is reached.
    pub fn enter(&mut self, app: &App, key: &str) -> Option<HttpReply> {
        let now = Instant::now();
        self.tokens = app.tokens.as_ref().map(|tokens| tokens.solvent(key, now));
        if let Some(admission) = self.tokens.filter(|admission| !admission.allowed) {
            return Some(limited(app, "dynamic_token_limited", admission));
        }
        self.requests = app.requests.as_ref().map(|requests| requests.admit(key, now));
        if let Some(admission) = self.requests.filter(|admission| !admission.allowed) {
            return Some(limited(app, "dynamic_request_limited", admission));
        }
        self.window = app.window.as_ref().map(|window| window.admit(key, now));
        if let Some(admission) = self.window.filter(|admission| !admission.allowed) {
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

    /// Writes the headers of the limits, on a 200 too.
    pub fn write_headers(&self, app: &App, is_limited: bool, headers: &mut HeaderMap) {
        match app.config.dialect {
            ServedDialect::Together => self.write_recorded(app, is_limited, headers),
            ServedDialect::Openai => self.write_openai(app, headers),
        }
    }

    /// Writes the headers that were recorded on every answer of Together.
    fn write_recorded(&self, app: &App, is_limited: bool, headers: &mut HeaderMap) {
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

    /// Writes `OpenAI`'s headers: what a minute or a window has, what is left of it, and when all of it is back.
    fn write_openai(&self, app: &App, headers: &mut HeaderMap) {
        let minute = |limiter: &KeyLimiter, admission: Option<Admission>| {
            let remaining = admission.map_or(0.0, |admission| admission.remaining);
            (limiter.rate() * 60.0, remaining, limiter.until_full(remaining))
        };
        let window = app.config.window.zip(self.window);
        let window = window.map(|(window, now)| (f64::from(window.requests), now.remaining, now.wait));
        let requests = window.or_else(|| Some(minute(app.requests.as_ref()?, self.requests)));
        let tokens = app.tokens.as_ref().map(|tokens| minute(tokens, self.tokens));
        for (what, limit) in [("requests", requests), ("tokens", tokens)] {
            let Some((limit, remaining, reset)) = limit else { continue };
            let values: [(&str, String); 3] = [
                ("limit", limit.round().to_string()),
                ("remaining", remaining.floor().to_string()),
                ("reset", openai_errors::reset(reset)),
            ];
            for (part, value) in values {
                let name = HeaderName::try_from(format!("x-ratelimit-{part}-{what}"));
                if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
                    headers.insert(name, value);
                }
            }
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
