//! One try of one row: send, read, decide, and carry out the decision.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Stopped;
use super::decision::{Decision, TryFacts, class_of, decide};
use super::file_memory::WholeBody;
use super::health::RefusedRow;
use super::limiter::{Limiter, Timing};
use super::row::{Passed, RowTask};
use super::uploaded::ReadyForm;
use super::upstreams::{FailureExtent, Site};
use crate::api::chat::{self, Answer};
use crate::api::error::{Class, Failure, Fault};
use crate::api::limits::Limits;
use crate::api::{Reply, StreamedReply};
use crate::completion::{AnswerPlaces, Truncation};
use crate::fault::code_of;
use crate::json;
use crate::outcome::{AnsweredFile, ErrorCode, RowError, Usage};
use crate::request::FileFault;

/// The body of a request that is about to leave.
pub(super) enum ReadyBody {
    Whole(WholeBody),
    /// In a box, as it is rare and large.
    Form(Box<ReadyForm>),
}

/// The result of one request.
pub(super) enum Tried {
    Answered(GoodAnswer),
    Failed(FailedTry),
}

pub(super) struct GoodAnswer {
    pub(super) status: u16,
    /// `None`: the answer is nothing but a file.
    pub(super) body: Option<Box<str>>,
    pub(super) places: Option<AnswerPlaces>,
    pub(super) usage: Option<Usage>,
    pub(super) limits: Limits,
    /// The files that the answer is.
    pub(super) files: Vec<AnsweredFile>,
}

pub(super) struct FailedTry {
    pub(super) failure: Failure,
    pub(super) limits: Limits,
    /// The body, if it fits into a line of results.
    pub(super) body: Option<Box<str>>,
    /// The tokens that the service billed for it.
    pub(super) billed: Option<Usage>,
    /// The text of a web page that came instead of an answer.
    pub(super) page: Option<String>,
    /// The answer to a pack does not fit its rows.
    pub(super) mismatched: bool,
}

impl FailedTry {
    /// Returns true if no answer came in time, to this machine or to a gateway.
    fn is_late(&self) -> bool {
        self.failure.fault == Fault::Timeout || self.failure.meant_status() == Some(504)
    }
}

impl RowTask {
    /// Sends the request once. Returns the wait before the next try, if there is to be one.
    pub(super) async fn attempt(&mut self, passed: &mut Passed) -> Option<Duration> {
        let engine = Rc::clone(&self.engine);
        let body = match self.ready().await {
            Ok(body) => body,
            Err(fault) => {
                // Its local files are not as they were when the row was checked.
                self.outcome.error = Some(RowError::new(ErrorCode::InvalidRequest, fault.message));
                return None;
            }
        };
        passed.sent = true;
        let sent_at = Instant::now();
        let visit = engine.upstreams.visit(sent_at, &self.outcome.model, self.affinity, &self.failed_urls);
        self.outcome.url = visit.site().number;
        let tried = tokio::select! {
            biased;
            () = engine.shared.abort.cancelled() => {
                self.count_request();
                self.interrupted();
                return None;
            }
            tried = self.exchange(visit.site(), body) => tried,
        };
        let timing = Timing { sent_at, now: Instant::now(), in_flight: passed.in_flight, charge: passed.slot.charge };
        // A request that never left this machine does not count.
        if !matches!(&tried, Tried::Failed(failed) if failed.failure.never_left()) {
            self.count_request();
        }
        let latency = timing.now.duration_since(sent_at);
        self.outcome.latency_ms = millis(latency);
        match self.unpacked(tried) {
            Tried::Answered(answer) => {
                visit.reached();
                self.failed_urls.answered();
                engine.gate.set_urls(engine.upstreams.well());
                let broken = self.violation(&answer);
                self.answered(answer, timing);
                self.rejected(broken?)
            }
            Tried::Failed(mut failed) => {
                let wait = failed.limits.wait;
                let extent = visit.failed(timing.now, &failed.failure, wait, &mut self.failed_urls);
                engine.gate.set_urls(engine.upstreams.well());
                // A web page of one server is its own, while another one serves the model.
                failed.page = failed.page.filter(|_| !visit.others_serve());
                let facts = self.learn(&failed, timing, extent);
                self.tries.count(class_of(&failed.failure, extent), &failed.limits, &facts);
                let decision = decide(&failed.failure, &failed.limits, &self.tries, &facts);
                self.apply(decision, failed, timing, &facts)
            }
        }
    }

    /// Sends the request, and reads its answer.
    async fn exchange(&mut self, to: &Site, body: ReadyBody) -> Tried {
        let endpoint = self.engine.options.endpoint;
        match body {
            // Rare futures stand in boxes: every request in flight would hold the memory for it.
            ReadyBody::Form(form) => Box::pin(self.upload(to, *form)).await,
            ReadyBody::Whole(body) if endpoint.makes_files() => {
                Box::pin(self.produce(to, body.bytes.clone(), endpoint)).await
            }
            ReadyBody::Whole(body) => read(self.post(to, body.bytes.clone()).await),
        }
    }

    /// The body with its local files. A form reads its file while it is sent.
    async fn ready(&self) -> Result<ReadyBody, FileFault> {
        if self.engine.options.endpoint.is_audio() {
            return Ok(ReadyBody::Form(Box::pin(self.form()).await?.into()));
        }
        self.engine.file_memory.whole(&self.body, &self.files).await.map(ReadyBody::Whole)
    }

    /// Sends the request, and waits for the whole answer or for the pieces of a stream.
    pub(super) async fn post(&mut self, to: &Site, body: Bytes) -> Result<Reply, Failure> {
        let (Site { client, address, .. }, speed) = (to, &self.engine.options.speed);
        self.outcome.first_token_ms = None;
        let Some(patience) = speed.stream else {
            return client.post(address, body, speed.request_timeout).await;
        };
        let StreamedReply { reply, first_token } = client.post_streamed(address, body, patience).await?;
        self.outcome.first_token_ms = first_token.map(millis);
        Ok(reply)
    }

    /// The rule that the answer breaks. Rules are about texts.
    fn violation(&self, answer: &GoodAnswer) -> Option<RowError> {
        let body = answer.body.as_deref().filter(|_| answer.files.is_empty() && self.is_held_to_rules())?;
        self.engine.options.rules.violation(body)
    }

    fn count_request(&mut self) {
        self.outcome.attempts += 1;
        let gauges = &self.engine.shared.gauges;
        gauges.sent.fetch_add(1, Ordering::Relaxed);
        // A try after a refusal is not a retry, because a refused request does not count.
        let retried = self.outcome.attempts > self.outcome.refused + 1;
        gauges.retried.fetch_add(u64::from(retried), Ordering::Relaxed);
    }

    fn interrupted(&mut self) {
        self.outcome.at_risk += 1;
        self.outcome.error = Some(RowError::new(ErrorCode::Interrupted, "stopped while the request was in flight"));
    }

    fn answered(&mut self, answer: GoodAnswer, timing: Timing) {
        let used = answer.usage.map(Usage::total);
        self.engine.gate.learn(|limiter| {
            limiter.accepted(timing, &answer.limits, used);
            limiter.answered(timing, answer.usage.map_or(1, |usage| usage.completion));
            limiter.succeeded(self.tries.failures > 0, fastrand::f64());
        });
        self.engine.health.borrow_mut().answered(timing.now, &self.outcome.model);
        self.outcome.status = Some(answer.status);
        self.outcome.body = answer.body;
        self.outcome.attached = answer.files;
        self.outcome.places = answer.places;
        self.outcome.usage = answer.usage;
        self.outcome.error = None;
        tracing::debug!("{}: answered in {} ms", self.outcome.id, self.outcome.latency_ms);
    }

    /// Records an answer that breaks a rule: it was paid for, and counts as thrown away. Returns the wait before the row is
    /// sent once more, if it is to be.
    fn rejected(&mut self, broken: RowError) -> Option<Duration> {
        tracing::info!("{}: {}", self.outcome.id, broken.message);
        let cut_off = self.outcome.body.as_deref().and_then(Truncation::of).is_some();
        let again = self.may_recheck() && ((cut_off && self.grow()) || broken.code == ErrorCode::InvalidAnswer);
        self.rechecks += u32::from(again);
        self.outcome.reject(broken);
        again.then_some(Duration::ZERO)
    }

    fn may_recheck(&self) -> bool {
        self.rechecks < self.engine.options.speed.rechecks
    }

    /// Lets the next answer be longer. From then on, the larger bound is what a budget sets aside for a request. Returns
    /// false if the user wants no longer answers than this one.
    fn grow(&mut self) -> bool {
        let body = std::str::from_utf8(&self.body).unwrap_or_default();
        let Some(grown) = self.engine.options.speed.growth.and_then(|growth| growth.grown(body)) else { return false };
        let before = self.outcome.reserve.completion;
        self.outcome.reserve.completion = grown.answers(before);
        self.about += (self.outcome.reserve.completion - before) / 2;
        tracing::info!("{}: max_tokens grows from {} to {}", self.outcome.id, grown.from, grown.to);
        self.body = grown.body.into();
        true
    }

    /// Reports a failure to the limiter, and gathers the facts for the decision.
    fn learn(&self, failed: &FailedTry, timing: Timing, extent: FailureExtent) -> TryFacts {
        let (class, chance) = (class_of(&failed.failure, extent), fastrand::f64());
        let within_limits = |limiter: &mut Limiter| limiter.accepted(timing, &failed.limits, None);
        self.engine.gate.learn(|limiter| {
            // A request that was refused or never arrived counts against no limit of tokens.
            if !matches!(class, Class::Ambiguous | Class::Spent) {
                limiter.give_back(timing.charge);
            }
            match class {
                Class::NotSent | Class::Ambiguous => {
                    if failed.failure.status.is_some() {
                        within_limits(limiter);
                    }
                    if failed.is_late() {
                        self.engine.shared.gauges.timed_out.fetch_add(1, Ordering::Relaxed);
                        limiter.timed_out(timing);
                    }
                    if extent != FailureExtent::OneUrl {
                        limiter.failed(timing.now, class);
                    }
                }
                Class::RowFatal | Class::Spent => {
                    within_limits(limiter);
                    limiter.succeeded(false, chance);
                }
                // The service has been reached, if only to refuse the key or to ask for money.
                Class::JobFatal => {}
                // The decision says whether the refusal concerns all rows.
                Class::AboveRate | Class::NoCapacity => {}
            }
        });
        let mut health = self.engine.health.borrow_mut();
        let hopeless = extent == FailureExtent::Service
            && failed.failure.may_concern_one_row()
            && health.refused_key(RefusedRow {
                model: &self.outcome.model,
                code: code_of(failed.failure.fault),
                message: &failed.failure.message,
                probe: self.probe,
            });
        TryFacts {
            retries: self.engine.options.speed.retries,
            answers: health.answers(),
            answered_before: self.engine.options.answered_before,
            hopeless,
            extent,
            answering: health.answered_after(timing.sent_at),
            chance,
        }
    }

    /// Carries out a decision. Returns the wait before the next try, if there is to be one.
    fn apply(&mut self, decision: Decision, failed: FailedTry, timing: Timing, facts: &TryFacts) -> Option<Duration> {
        let class = class_of(&failed.failure, facts.extent);
        self.is_to_be_halved = self.is_halved(&decision, &failed, facts.answering);
        self.record(&failed, timing, class);
        let again = match decision {
            _ if self.is_to_be_halved => Some(Duration::ZERO),
            Decision::Fail if failed.failure.fault == Fault::Truncated && self.may_recheck() && self.grow() => {
                self.rechecks += 1;
                Some(Duration::ZERO)
            }
            Decision::Fail => None,
            Decision::Resend(wait) => Some(wait),
            Decision::SecondLook(wait) => {
                self.looking = self.engine.health.borrow_mut().begin_second_look(self.outcome.row);
                Some(wait)
            }
            Decision::Hold(wait) => {
                self.engine.health.borrow_mut().held(&self.outcome.model, timing.now + wait);
                Some(wait)
            }
            Decision::HoldAll => {
                self.engine.gate.learn(|limiter| limiter.throttled(timing, class, &failed.limits, facts.chance));
                Some(Duration::ZERO)
            }
            Decision::StopRun(reason @ Stopped::Setup(_)) => {
                self.engine.stop(reason);
                // Nothing has left this machine, so the row stays as it was.
                return Some(Duration::ZERO);
            }
            Decision::StopRun(reason) => {
                self.engine.stop(reason);
                None
            }
        };
        let (id, message) = (&self.outcome.id, &failed.failure.message);
        if let Some(wait) = again {
            let when = if wait.is_zero() { String::new() } else { format!("in {} ms, or ", wait.as_millis()) };
            let how = if self.is_to_be_halved { "halving the pack" } else { "retrying" };
            tracing::info!("{id}: {message}; {how} {when}when the limiter allows it");
        } else {
            tracing::info!("{id}: {message}; given up after {} requests", self.outcome.attempts);
        }
        if let Some(words) = failed.page
            && self.engine.health.borrow_mut().got_page(self.outcome.row, timing.sent_at, timing.now)
        {
            self.engine.stop(Stopped::Pages(words));
        }
        self.outcome.body = failed.body;
        self.outcome.places = None;
        self.outcome.attached.clear();
        again
    }

    /// Records a failure in the row's outcome and in the health of the run.
    fn record(&mut self, failed: &FailedTry, timing: Timing, class: Class) {
        let (failure, outcome) = (&failed.failure, &mut self.outcome);
        outcome.status = failure.status;
        outcome.error = Some(RowError::new(code_of(failure.fault), failure.message.clone()));
        if let Some(billed) = failed.billed {
            outcome.wasted += billed;
        }
        let mut health = self.engine.health.borrow_mut();
        health.failed(&failure.message);
        match class {
            Class::AboveRate => {
                outcome.refused += 1;
                self.engine.shared.gauges.refused.fetch_add(1, Ordering::Relaxed);
            }
            Class::Ambiguous => outcome.at_risk += u32::from(failed.billed.is_none()),
            Class::Spent => {
                outcome.at_risk += u32::from(failed.billed.is_none());
                health.answered(timing.now, &outcome.model);
            }
            // The rows of the halves will show which of them is refused.
            Class::RowFatal if self.is_to_be_halved => health.reached(timing.now),
            Class::RowFatal => {
                health.reached(timing.now);
                let code = code_of(failure.fault);
                if failure.model_unknown {
                    health.refused_model(&outcome.model, code, &failure.message);
                } else {
                    health.refused_row(&outcome.model, code, &failure.message);
                }
            }
            Class::NotSent | Class::NoCapacity | Class::JobFatal => {}
        }
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// Reads the response to a request.
pub(super) fn read(result: Result<Reply, Failure>) -> Tried {
    read_as(result, chat::read)
}

/// Reads the response to a request, whose 2xx are read in this way.
pub(super) fn read_as(result: Result<Reply, Failure>, answer: fn(&Reply) -> Answer) -> Tried {
    let reply = match result {
        Ok(reply) => reply,
        Err(failure) => {
            return Tried::Failed(FailedTry::of(failure, Limits::default()));
        }
    };
    let limits = reply.limits;
    if !(200..300).contains(&reply.status) {
        let failure = Failure::from_reply(&reply);
        return Tried::Failed(FailedTry { body: json_line(&reply), ..FailedTry::of(failure, limits) });
    }
    match answer(&reply) {
        Answer::Good { body, places, usage: tokens } => {
            let (status, usage) = (reply.status, tokens.map(Usage::from));
            Tried::Answered(GoodAnswer { status, body: Some(body), places, usage, limits, files: Vec::new() })
        }
        Answer::Bad { failure, body, usage: tokens } => Tried::Failed(FailedTry {
            failure,
            limits,
            body,
            billed: tokens.map(Usage::from),
            page: chat::page(&reply),
            mismatched: false,
        }),
    }
}

impl FailedTry {
    /// A failure without anything that came with it.
    pub(super) fn of(failure: Failure, limits: Limits) -> Self {
        Self { failure, limits, body: None, billed: None, page: None, mismatched: false }
    }
}

/// The body of a failed response, if it is JSON and short enough for a line of results.
fn json_line(reply: &Reply) -> Option<Box<str>> {
    let text = std::str::from_utf8(&reply.body).ok().map(str::trim).filter(|t| t.len() <= chat::MAX_FAILED_BODY)?;
    serde_json::from_str::<&serde_json::value::RawValue>(text).ok()?;
    Some(json::one_line(text).into())
}
