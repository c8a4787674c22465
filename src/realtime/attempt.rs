//! One row: send, read, decide, perhaps send again, and say once what became of it.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::gate::InFlight;
use super::models::MODEL_REFUSALS;
use super::{Engine, Event, Stopped};
use crate::api::chat::{self, Answer};
use crate::api::error::{Class, Failure, Fault};
use crate::api::limits::Limits;
use crate::api::{Reply, retry};
use crate::json;
use crate::outcome::{ErrorCode, Outcome, RowError, Usage};
use crate::price::Nanos;
use crate::request::{Request, answer_bound};
use crate::tokens;

/// Times that a row is sent again although an earlier request may have been worked on and billed.
const AMBIGUOUS_RESENDS: u32 = 3;

/// Refusals (429, 503) of one row with answers to others in between, after which they are this row's and not everybody's.
const ALONE: u32 = 3;
/// ... and after which the row has failed: it has then waited for minutes, while others were answered.
const ALONE_FOR_GOOD: u32 = 12;

/// What the tries of one row came to so far.
struct Tally {
    outcome: Outcome,
    failures: u32,
    ambiguous: u32,
    /// Refusals with answers to others in between, and how many answers there were at the last one.
    alone: u32,
    answers: Option<u64>,
    /// Tokens that the limiter set aside for the try.
    about: u64,
}

/// What one try came to.
enum Verdict {
    Done,
    /// Send again, after this long.
    Again(Duration),
}

impl Engine {
    /// Sends `request` until it is answered, has failed for good, or the run stops; emits its outcome.
    ///
    /// A row that has cost nothing when the run stops emits nothing: it is still to be done.
    pub(super) async fn answer(self: Rc<Self>, request: Request, permit: OwnedSemaphorePermit) {
        let mut permit = Some(permit);
        let reserve = Usage {
            prompt: tokens::bound(&request.body),
            completion: answer_bound(&request.body, request.max_tokens).unwrap_or(0),
        };
        let about = tokens::estimate(&request.body) + reserve.completion / 2;
        let mut tally = Tally {
            outcome: Outcome {
                fingerprint: request.fingerprint,
                reserve,
                ..Outcome::unsent(request.row, request.id, request.model, ErrorCode::Interrupted, "")
            },
            failures: 0,
            ambiguous: 0,
            alone: 0,
            answers: None,
            about: 0,
        };
        let row = request.row;
        let body = Bytes::from(request.body.into_string());
        loop {
            if let Some(words) = self.unserved(&tally.outcome.model) {
                let message =
                    format!("not sent, because the service refused this model {MODEL_REFUSALS} times: {words}");
                tally.outcome.error = Some(RowError { code: ErrorCode::NotFound, message });
                break;
            }
            if !self.gate(row, about).await {
                return self.abandon(tally);
            }
            // Not before its turn: what waits for the limiter must not hold money that others could spend.
            let Some(set_aside) = self.afford(&tally.outcome.model, reserve).await else {
                return self.abandon(tally);
            };
            let before = (tally.outcome.wasted, tally.outcome.at_risk);
            let verdict = {
                let _in_flight = InFlight::new(&self);
                self.attempt(&body, about, &mut tally).await
            };
            if set_aside > Nanos::ZERO {
                let spent = self.spent(&tally.outcome, before, set_aside);
                self.settle(set_aside, spent);
            }
            let Verdict::Again(wait) = verdict else { break };
            // Whoever waits for another try lets others go ahead.
            drop(permit.take());
            if before != (tally.outcome.wasted, tally.outcome.at_risk) {
                self.remember(&tally.outcome).await;
            }
            let stop = &self.shared.stop;
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.abandon(tally),
                () = tokio::time::sleep(wait) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.abandon(tally),
                free = Arc::clone(&self.permits).acquire_owned() => permit = free.ok(),
            }
        }
        self.emit(tally.outcome, permit);
    }

    /// Waits until it is on disk what the tries of a row came to: a kill must not make anyone forget what may have been billed.
    async fn remember(&self, so_far: &Outcome) {
        let (done, written) = oneshot::channel();
        let so_far = Outcome { body: None, ..so_far.clone() };
        drop(self.events.send(Event::Tried(Box::new(so_far), done)));
        // If it cannot be written the run is being stopped already.
        drop(written.await);
    }

    /// The run stops. What may have been spent on the row must not be forgotten; a row that cost nothing is still to be done.
    fn abandon(&self, mut tally: Tally) {
        if tally.outcome.at_risk == 0 && tally.outcome.wasted == Usage::default() {
            return;
        }
        let last = tally.outcome.error.take().map(|e| e.message).unwrap_or_default();
        let message = if last.is_empty() {
            "the run was stopped".to_owned()
        } else {
            format!("the run was stopped; before that: {last}")
        };
        tally.outcome.error = Some(RowError { code: ErrorCode::Interrupted, message });
        self.emit(tally.outcome, None);
    }

    async fn attempt(&self, body: &Bytes, about: u64, tally: &mut Tally) -> Verdict {
        tally.outcome.attempts += 1;
        tally.about = about;
        let gauges = &self.shared.gauges;
        gauges.sent.fetch_add(1, Ordering::Relaxed);
        // After a refusal the row is not tried again but tried at last.
        gauges.retried.fetch_add(u64::from(tally.outcome.attempts > tally.outcome.refused + 1), Ordering::Relaxed);
        let sent_at = Instant::now();
        let abort = &self.shared.abort;
        let result = tokio::select! {
            biased;
            () = abort.cancelled() => {
                tally.outcome.at_risk += 1;
                tally.outcome.error = Some(RowError { code: ErrorCode::Interrupted, message: "stopped while the request was in flight".to_owned() });
                return Verdict::Done;
            }
            result = self.client.post(&self.url, body.clone(), self.options.request_timeout) => result,
        };
        let now = Instant::now();
        tally.outcome.latency_ms = u32::try_from(now.duration_since(sent_at).as_millis()).unwrap_or(u32::MAX);
        tally.outcome.status = None;
        tally.outcome.body = None;
        match result {
            Ok(reply) if reply.status == 200 => match chat::read(&reply) {
                Answer::Good { body, usage } => {
                    let usage = usage.map(|(prompt, completion)| Usage { prompt, completion });
                    let used = usage.map(|u| u.prompt + u.completion);
                    let mut limiter = self.limiter.borrow_mut();
                    limiter.accepted(now, sent_at, &reply.limits, about, used);
                    limiter.succeeded(tally.failures > 0, fastrand::f64());
                    self.successes.set(self.successes.get() + 1);
                    drop(limiter);
                    self.relearn();
                    self.last_success.set(now);
                    self.pages.borrow_mut().forget();
                    self.served(&tally.outcome.model);
                    tally.outcome.status = Some(200);
                    tally.outcome.body = Some(body);
                    tally.outcome.usage = usage;
                    tally.outcome.error = None;
                    tracing::debug!("{}: answered in {} ms", tally.outcome.id, tally.outcome.latency_ms);
                    Verdict::Done
                }
                Answer::Bad { why, body, usage } => {
                    tally.outcome.body = body;
                    if let Some((prompt, completion)) = usage {
                        tally.outcome.wasted += Usage { prompt, completion };
                    }
                    let failure = Failure {
                        fault: Fault::BadResponse,
                        status: Some(200),
                        message: why,
                        model_unknown: false,
                        wait: None,
                    };
                    let verdict = self.failed(tally, &failure, &reply.limits, sent_at, usage.is_some());
                    if let Some(words) = chat::page(&reply)
                        && self.pages.borrow_mut().seen(tally.outcome.row, sent_at, now)
                    {
                        self.stop(Stopped::Pages(words));
                    }
                    verdict
                }
            },
            Ok(reply) => {
                tally.outcome.body = json_line(&reply);
                let failure = Failure::from_reply(&reply);
                self.failed(tally, &failure, &reply.limits, sent_at, false)
            }
            Err(failure) => self.failed(tally, &failure, &Limits::default(), sent_at, false),
        }
    }

    /// Decides what follows from a failure. `billed`: the service said what it charged for it.
    fn failed(&self, tally: &mut Tally, failure: &Failure, limits: &Limits, sent_at: Instant, billed: bool) -> Verdict {
        let now = Instant::now();
        let chance = fastrand::f64();
        let class = failure.class();
        let outcome = &mut tally.outcome;
        outcome.status = failure.status;
        outcome.error = Some(RowError { code: code(failure.fault), message: failure.message.clone() });
        *self.last_failure.borrow_mut() = Some(failure.message.clone());
        let mut limiter = self.limiter.borrow_mut();
        // What is refused, or never arrived, counts against no limit of tokens.
        if class != Class::Ambiguous {
            limiter.give_back(tally.about);
        }
        let verdict = match class {
            Class::AboveRate | Class::NoCapacity => {
                let refused = class == Class::AboveRate;
                outcome.refused += u32::from(refused);
                self.shared.gauges.refused.fetch_add(u64::from(refused), Ordering::Relaxed);
                // Others are answered while this row is refused again and again: then it is about this row.
                let answers = self.successes.get();
                tally.alone += u32::from(tally.alone >= ALONE || tally.answers.is_some_and(|before| before < answers));
                tally.answers = Some(answers);
                if tally.alone > ALONE_FOR_GOOD {
                    Verdict::Done
                } else if tally.alone >= ALONE {
                    Verdict::Again(retry::delay(class, tally.alone - ALONE + 1, limits.wait, chance))
                } else {
                    limiter.told_to_wait(now, sent_at, class, limits.wait, chance);
                    // The limiter holds everyone back, this row too.
                    Verdict::Again(Duration::ZERO)
                }
            }
            Class::NotSent | Class::Ambiguous => {
                let ambiguous = class == Class::Ambiguous;
                if ambiguous {
                    tally.ambiguous += 1;
                    outcome.at_risk += u32::from(!billed);
                }
                if failure.status.is_some() {
                    limiter.accepted(now, sent_at, limits, 0, None);
                }
                let outage = limiter.failed(now, class);
                // While nothing gets through at all, it is not this row's fault.
                if !(outage && class == Class::NotSent) {
                    tally.failures += 1;
                }
                let forbidden = limits.should_retry == Some(false);
                if forbidden || tally.failures > self.options.retries || tally.ambiguous > AMBIGUOUS_RESENDS {
                    Verdict::Done
                } else {
                    Verdict::Again(retry::delay(
                        class,
                        tally.failures.max(1),
                        limits.wait.filter(|_| limits.should_retry == Some(true)),
                        chance,
                    ))
                }
            }
            Class::RowFatal => {
                limiter.accepted(now, sent_at, limits, 0, None);
                limiter.succeeded(false, chance);
                self.last_success.set(now);
                self.pages.borrow_mut().forget();
                if failure.model_unknown {
                    self.refused_model(&outcome.model, &failure.message);
                }
                Verdict::Done
            }
            Class::JobFatal => {
                let why = failure.message.clone();
                self.stop(if failure.fault == Fault::Payment { Stopped::Payment(why) } else { Stopped::Auth(why) });
                Verdict::Done
            }
        };
        drop(limiter);
        self.relearn();
        match &verdict {
            Verdict::Again(wait) => {
                tracing::info!(
                    "{}: {}; again in {} ms or when the limiter lets it",
                    outcome.id,
                    failure.message,
                    wait.as_millis()
                );
            }
            Verdict::Done => {
                tracing::info!("{}: {}; given up after {} requests", outcome.id, failure.message, outcome.attempts);
            }
        }
        verdict
    }
}

/// The body of a failed response, if it is JSON and of a sensible length for a line of results.
fn json_line(reply: &Reply) -> Option<Box<str>> {
    const LONGEST: usize = 64 << 10;
    let text = std::str::from_utf8(&reply.body).ok().map(str::trim).filter(|t| t.len() <= LONGEST)?;
    serde_json::from_str::<&serde_json::value::RawValue>(text).ok()?;
    Some(json::one_line(text).into())
}

const fn code(fault: Fault) -> ErrorCode {
    match fault {
        // A row's request touches no file of ours.
        Fault::Connect | Fault::Broken | Fault::Local => ErrorCode::Network,
        Fault::Timeout => ErrorCode::Timeout,
        Fault::BadResponse => ErrorCode::BadResponse,
        Fault::InvalidRequest => ErrorCode::InvalidRequest,
        Fault::ContextLength => ErrorCode::ContextLength,
        Fault::NotFound => ErrorCode::NotFound,
        Fault::Auth => ErrorCode::Auth,
        Fault::Payment => ErrorCode::Payment,
        Fault::RateLimited => ErrorCode::RateLimited,
        Fault::Overloaded => ErrorCode::Overloaded,
        Fault::Server => ErrorCode::ServerError,
    }
}
