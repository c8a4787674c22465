//! Picks the fault for a request and turns it into a response.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::answers::Dice;
use super::errors;
use super::faults::{Fault, Hint, Kind, Scope, Shape, Times, When};
use super::listener::Conn;
use super::reply::{End, Pace, Payload, Reply};

/// What a fault is matched against.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Which request it is.
    pub scope: Scope,
    /// The same for each attempt of one request.
    pub key: u64,
    /// The prompt, or the path elsewhere.
    pub text: &'a str,
}

/// The scripted faults with their memory.
#[derive(Debug)]
pub struct Injector {
    seed: u64,
    rules: Vec<Rule>,
    /// Attempts at prompts that carry their own directive, by prompt.
    directives: Mutex<HashMap<u64, u32>>,
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    arrivals: AtomicU64,
    attempts: Mutex<HashMap<u64, Attempts>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Attempts {
    made: u32,
    picked: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Counts stay usable whatever happened to another holder.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Rule {
    fn strikes(&self, subject: Subject<'_>, seed: u64) -> bool {
        if !self.fault.on.covers(subject.scope) {
            return false;
        }
        if let When::Contains(text) = &self.fault.when
            && !subject.text.contains(text.as_str())
        {
            return false;
        }
        match self.fault.times {
            Times::Each => {
                let attempt = match self.fault.when {
                    When::Rate(_) => {
                        let mut attempts = lock(&self.attempts);
                        let entry = attempts.entry(subject.key).or_default();
                        entry.made += 1;
                        entry.made - 1
                    }
                    _ => 0,
                };
                self.pick(subject.key, attempt, seed)
            }
            Times::First(times) => {
                let mut attempts = lock(&self.attempts);
                let entry = attempts.entry(subject.key).or_default();
                if entry.made == 0 {
                    entry.picked = self.pick(subject.key, 0, seed);
                }
                entry.made = entry.made.saturating_add(1);
                entry.picked && entry.made <= times
            }
        }
    }

    fn pick(&self, key: u64, attempt: u32, seed: u64) -> bool {
        match self.fault.when {
            When::Always | When::Contains(_) => true,
            When::Every(n) => (self.arrivals.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(n),
            When::Nth(n) => self.arrivals.fetch_add(1, Ordering::Relaxed) + 1 == n,
            When::Rate(rate) => {
                let mut dice = Dice(seed ^ key.rotate_left(17) ^ u64::from(attempt).wrapping_mul(0x9e37_79b9));
                dice.roll();
                dice.unit() < rate
            }
        }
    }
}

impl Injector {
    /// The faults in order of precedence.
    pub fn new(faults: &[Fault], seed: u64) -> Self {
        let rule =
            |fault: &Fault| Rule { fault: fault.clone(), arrivals: AtomicU64::new(0), attempts: Mutex::default() };
        Self { seed, rules: faults.iter().map(rule).collect(), directives: Mutex::default() }
    }

    /// The first fault that strikes; an error for a directive that cannot be read.
    pub fn pick(&self, subject: Subject<'_>) -> Result<Option<Fault>, String> {
        if matches!(subject.scope, Scope::Chat | Scope::Completions | Scope::Embeddings | Scope::Row)
            && let Some(fault) = directive(subject.text)?
            && (subject.scope == Scope::Row || !fault.kind.row_only())
            && self.directed(&fault, subject.key)
        {
            return Ok(Some(fault));
        }
        for (i, rule) in self.rules.iter().enumerate() {
            // Each rule draws for itself.
            if rule.strikes(subject, self.seed.wrapping_add((i as u64) << 32)) {
                return Ok(Some(rule.fault.clone()));
            }
        }
        Ok(None)
    }

    fn directed(&self, fault: &Fault, key: u64) -> bool {
        match fault.times {
            Times::Each => true,
            Times::First(times) => {
                let mut made = lock(&self.directives);
                let entry = made.entry(key).or_default();
                *entry = entry.saturating_add(1);
                *entry <= times
            }
        }
    }
}

/// The fault that a prompt asks for itself.
fn directive(prompt: &str) -> Result<Option<Fault>, String> {
    const OPEN: &str = "[[sandbox:";
    let Some((_, rest)) = prompt.split_once(OPEN) else { return Ok(None) };
    let (text, _) = rest.split_once("]]").ok_or_else(|| format!("{OPEN} without ]]"))?;
    text.parse().map(Some)
}

/// What happens instead of an answer that was not (or need not be) generated.
pub async fn instead(kind: &Kind, conn: &Conn, key: &str) -> Response {
    match kind {
        Kind::Status { code, hint, shape, padding } => status(*code, *hint, *shape, *padding).into_response(),
        Kind::EchoKey => {
            let message = format!("The API key {key} is not known");
            errors::inference(
                StatusCode::UNAUTHORIZED,
                "invalid_request_error",
                None,
                Some("invalid_api_key"),
                &message,
            )
            .into_response()
        }
        Kind::Close => {
            conn.close();
            Response::default()
        }
        Kind::Hang => std::future::pending().await,
        Kind::Html => Reply::new(StatusCode::OK, "text/html; charset=utf-8", HTML).into_response(),
        Kind::EmptyBody => Reply::json(StatusCode::OK, "").into_response(),
        Kind::NullJob => Reply::json(StatusCode::CREATED, "{\"job\": null, \"warning\": \"The job was not created\"}")
            .into_response(),
        Kind::WrongShape => {
            Reply::json(StatusCode::OK, "{\"result\": {\"text\": \"not what was asked\"}}").into_response()
        }
        // What remains needs an answer to spoil; without one the connection breaks.
        _ => {
            conn.reset();
            Response::default()
        }
    }
}

/// A right answer, spoiled on its way out.
pub async fn spoil(kind: &Kind, mut reply: Reply, conn: &Conn, key: &str) -> Response {
    let half = reply.payload.len() / 2;
    match kind {
        Kind::ResetLate => reply.scripted(conn, Some(half), End::Reset, None),
        Kind::Truncate => reply.scripted(conn, Some(half), End::Break, None),
        Kind::Stall => reply.scripted(conn, Some(half), End::Stall, None),
        Kind::Drip(every) => reply.scripted(conn, None, End::Complete, Some(Pace { bytes: 1, every: *every })),
        Kind::Short => {
            match &mut reply.payload {
                Payload::Bytes(bytes) => bytes.truncate(usize::try_from(half).unwrap_or(0)),
                Payload::File(_, len) => *len = half,
            }
            reply.into_response()
        }
        Kind::Delay(time) => {
            tokio::time::sleep(*time).await;
            reply.into_response()
        }
        Kind::BadGzip => {
            reply.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            reply.into_response()
        }
        Kind::EmptyChoices | Kind::NullContent | Kind::NoUsage | Kind::Huge(_) => reply.into_response(),
        other => instead(other, conn, key).await,
    }
}

const HTML: &str =
    "<!DOCTYPE html>\n<html><head><title>One moment</title></head><body><h1>One moment</h1></body></html>\n";

/// A scripted error.
pub fn status(code: u16, hint: Option<Hint>, shape: Shape, padding: usize) -> Reply {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (body, plain) = errors::typical(code);
    let pad = |message: String| if padding == 0 { message } else { message + &"x".repeat(padding) };
    let mut reply = match shape {
        Shape::Plain => Reply::new(status, "text/plain; charset=UTF-8", pad(format!("error code: {code}"))),
        Shape::Usual | Shape::Bare if plain => Reply::new(status, "text/plain; charset=UTF-8", pad(body)),
        Shape::Bare => errors::plain(status, &pad(format!("Scripted by the sandbox: {code}"))),
        Shape::Html => Reply::new(status, "text/html; charset=utf-8", pad(HTML.to_owned())),
        Shape::Empty => Reply::new(status, "text/plain", ""),
        Shape::Object => {
            let inner = serde_json::json!({
                "message": pad("The engine had an error".to_owned()),
                "type": "BadRequestError", "param": null, "code": code,
            });
            let outer = serde_json::json!({
                "id": errors::request_id("object"),
                "error": {"message": inner, "type": "invalid_request_error", "param": null, "code": null},
            });
            Reply::json(status, serde_json::to_string_pretty(&outer).unwrap_or_default())
        }
        Shape::Usual | Shape::Text if padding == 0 && !plain => Reply::json(status, body),
        Shape::Usual | Shape::Text => {
            let message = pad("Scripted by the sandbox ".to_owned());
            errors::inference(status, "server_error", None, None, &message)
        }
    };
    if let Some(Hint { style, wait }) = hint {
        style.write(wait, &mut reply.headers);
    }
    reply
}

/// The latency of one answer: `base`, up to `jitter` (a fraction) off in either direction.
pub fn latency(base: Duration, jitter: f64, key: u64) -> Duration {
    if jitter <= 0.0 {
        return base;
    }
    base.mul_f64((1.0 + jitter * (Dice(key).unit() * 2.0 - 1.0)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fault, the requests as they come (key and text), and which of them it strikes.
    type Picks<'a> = (&'a str, &'a [(u64, &'a str)], &'a [bool]);

    fn struck(spec: &str, attempts: &[(u64, &str)]) -> Vec<bool> {
        let injector = Injector::new(&[spec.parse().unwrap()], 7);
        let pick = |(key, text): &(u64, &str)| {
            injector.pick(Subject { scope: Scope::Chat, key: *key, text }).unwrap().is_some()
        };
        attempts.iter().map(pick).collect()
    }

    #[test]
    fn picks_by_count_text_and_attempt() {
        let one = [(1, "a"), (1, "a"), (1, "a"), (1, "a")];
        let cases: &[Picks<'_>] = &[
            ("reset", &[(1, "a"), (2, "b")], &[true, true]),
            ("reset,every=2", &one, &[false, true, false, true]),
            ("reset,nth=2", &one, &[false, true, false, false]),
            ("reset,times=2", &one, &[true, true, false, false]),
            ("reset,contains=b", &[(1, "a"), (2, "abc")], &[false, true]),
            // With `times` the count is over requests, and a picked one goes on failing.
            (
                "reset,every=2,times=2",
                &[(1, "a"), (2, "b"), (2, "b"), (2, "b"), (1, "a")],
                &[false, true, true, false, false],
            ),
            ("reset,on=models", &[(1, "a")], &[false]),
        ];
        for (spec, attempts, expected) in cases {
            assert_eq!(struck(spec, attempts), *expected, "{spec}");
        }
    }

    #[test]
    fn a_rate_is_met_and_repeats() {
        let requests: Vec<_> = (0..10_000).map(|i| (i * 7919, "x")).collect();
        let first = struck("reset,rate=0.2", &requests);
        let hits = first.iter().filter(|hit| **hit).count();
        assert!((1900..2100).contains(&hits), "{hits}");
        assert_eq!(first, struck("reset,rate=0.2", &requests));
        // A request that failed once does not fail for ever, unless that is wanted.
        let again: Vec<_> = std::iter::repeat_n((5, "x"), 50).collect();
        let hits = struck("reset,rate=0.5", &again).iter().filter(|hit| **hit).count();
        assert!((10..40).contains(&hits), "{hits}");
        let always = struck("reset,rate=0.5,times=always", &again);
        assert!(always.iter().all(|hit| *hit == always[0]));
    }

    #[test]
    fn a_prompt_scripts_itself() {
        let text = "hello [[sandbox:status=503,times=1]] there";
        let injector = Injector::new(&[], 0);
        let subject = Subject { scope: Scope::Chat, key: 1, text };
        assert_eq!(injector.pick(subject).unwrap().unwrap(), "status=503,times=1".parse().unwrap());
        assert!(injector.pick(subject).unwrap().is_none());
        assert!(injector.pick(Subject { text: "[[sandbox:nonsense]]", ..subject }).is_err());
        assert!(injector.pick(Subject { scope: Scope::List, ..subject }).unwrap().is_none());
        // What can only happen to a row of a batch does not happen elsewhere.
        let missing = Subject { text: "[[sandbox:missing]]", ..subject };
        assert!(injector.pick(missing).unwrap().is_none());
        assert!(injector.pick(Subject { scope: Scope::Row, ..missing }).unwrap().is_some());
    }

    #[test]
    fn error_bodies_have_the_recorded_shapes() {
        let text = |spec: &str| {
            let fault: Fault = spec.parse().unwrap();
            let Kind::Status { code, hint, shape, padding } = fault.kind else { panic!() };
            let reply = status(code, hint, shape, padding);
            let Payload::Bytes(bytes) = reply.payload else { panic!() };
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        assert_eq!(text("status=521"), "error code: 521");
        assert_eq!(text("status=503,shape=text"), "error code: 503");
        assert_eq!(text("status=500,shape=empty"), "");
        assert_eq!(text("status=404,shape=bare"), "{\"error\": \"Scripted by the sandbox: 404\"}");
        assert_eq!(text("status=502,shape=bare"), "error code: 502", "the edge has one voice");
        assert!(text("status=500,huge=1").len() > 1 << 20);
        let object: serde_json::Value = serde_json::from_str(&text("status=400,shape=object")).unwrap();
        assert_eq!(object["error"]["message"]["code"], 400);
        let limited: serde_json::Value = serde_json::from_str(&text("status=429")).unwrap();
        assert_eq!(limited["error"]["type"], "dynamic_request_limited");
    }
}
