//! One row, or a pack of rows: it is sent until it is answered, has failed for good, or the run stops.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::decision::Tries;
use super::engine::Engine;
use super::gate::Passage;
use super::limiter::TakenSlot;
use super::packed::{LaterHalf, TaskRequest, TaskRows};
use super::upstreams::FailedUrls;
use super::wallet::Unaffordable;
use super::{Event, Stopped};
use crate::outcome::{ErrorCode, Outcome, RowError, Usage};
use crate::price::Nanos;
use crate::request::{Attachments, OutRequest, streaming};

/// The task of one request: of a row, or of the rows of a pack.
pub(super) struct RowTask {
    pub(super) engine: Rc<Engine>,
    pub(super) rows: TaskRows,
    pub(super) outcome: Outcome,
    /// The parts of a pack that was halved which are sent later, the next one last.
    pub(super) later: Vec<LaterHalf>,
    /// The pack is halved before it is sent again.
    pub(super) is_to_be_halved: bool,
    pub(super) tries: Tries,
    /// The body, with stand-ins for local files.
    pub(super) body: Bytes,
    pub(super) files: Attachments,
    /// Its place in the order of sending.
    pub(super) turn: u64,
    /// Tokens that the limiter sets aside for a try.
    pub(super) about: u64,
    /// The row is sent out of its turn, to learn whether any row is answered.
    pub(super) probe: bool,
    /// The row is to ask once more whether the service refuses the key; all others wait for that.
    pub(super) looking: bool,
    /// The key of its beginning, if rows with an equal one are to go to the same base URL.
    pub(super) affinity: Option<u64>,
    /// The base URLs where tries have failed.
    pub(super) failed_urls: FailedUrls,
    /// Times that the row was sent once more because its answer broke a rule.
    pub(super) rechecks: u32,
}

/// One try of a request that has passed the gate. It ends when this is dropped, by whatever path: another request may leave in its
/// place, a probe of the breaker ends, and a try that sent nothing gets its tokens back.
pub(super) struct Passed {
    engine: Rc<Engine>,
    pub(super) slot: TakenSlot,
    /// The request is on its way, and may have reached the service.
    pub(super) sent: bool,
    /// Requests in flight when it left, itself included.
    pub(super) in_flight: usize,
}

impl Drop for Passed {
    fn drop(&mut self) {
        self.engine.gate.learn(|limiter| limiter.leave(Instant::now(), self.slot, self.sent));
    }
}

/// The end of a row's wait for the gate and for money.
enum RowAdmission {
    /// The request may leave; this much money is set aside for it.
    Admitted(Nanos, Passed),
    /// Meanwhile the service has refused the row's model or all rows, or has asked it to wait.
    Unwanted,
    /// The run stops.
    Stopping,
}

/// Cost of a row beside its answer: answers that were billed and useless, and requests that may have been billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waste {
    usage: Usage,
    at_risk: u32,
}

impl Waste {
    const fn of(outcome: &Outcome) -> Self {
        Self { usage: outcome.wasted, at_risk: outcome.at_risk }
    }
}

impl RowTask {
    pub(super) fn new(engine: Rc<Engine>, request: OutRequest, turn: u64, probe: bool) -> Self {
        let TaskRequest { rows, outcome, body, files, about } = TaskRequest::new(request, &engine);
        let affinity = engine.upstreams.key_of(&body);
        let streams = engine.options.speed.stream.is_some();
        let body = if streams { streaming(&body) } else { body };
        Self {
            engine,
            turn,
            about: about + outcome.reserve.completion / 2,
            rows,
            affinity,
            failed_urls: FailedUrls::default(),
            tries: Tries::default(),
            outcome,
            later: Vec::new(),
            is_to_be_halved: false,
            body: Bytes::from(body),
            files,
            probe,
            looking: false,
            rechecks: 0,
        }
    }

    /// Works on the row to its end, and emits its outcome with the permit.
    ///
    /// If the run stops, a row that has cost nothing emits nothing: the next run sends it.
    pub(super) async fn run(mut self, permit: OwnedSemaphorePermit) {
        let mut permit = Some(permit);
        loop {
            permit = self.finish(permit).await;
            if permit.is_none() {
                return self.abandon();
            }
            if self.later.is_empty() {
                break;
            }
            self.hand_over(None);
            self.next_half();
        }
        self.end_look();
        if self.probe {
            self.engine.parked.set_probing(false);
        }
        self.engine.release_parked();
        self.hand_over(permit);
    }

    /// Works on the request until its rows have an outcome. Returns the permit, or `None` if the run stops.
    async fn finish(&mut self, mut permit: Option<OwnedSemaphorePermit>) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Some(error) = self.unserved() {
                self.outcome.error = Some(error);
                return permit;
            }
            if !self.may_leave() {
                // Without its permit, so that a probe has one.
                drop(permit.take());
                permit = Some(self.park().await?);
                continue;
            }
            if let Some(held) = self.held() {
                self.end_look();
                drop(permit.take());
                permit = Some(self.wait(held).await?);
                continue;
            }
            let (set_aside, mut passed) = match self.admit().await {
                RowAdmission::Admitted(set_aside, passed) => (set_aside, passed),
                RowAdmission::Unwanted => continue,
                RowAdmission::Stopping => return None,
            };
            let before = Waste::of(&self.outcome);
            passed.in_flight = self.engine.gate.limiter().in_flight();
            let again = self.send(&mut passed).await;
            drop(passed);
            if set_aside > Nanos::ZERO {
                self.engine.wallet.release(set_aside, self.cost_since(before, set_aside));
            }
            let Some(wait) = again else { return permit };
            if self.looking {
                // It keeps its permit: rows that wait may have all others.
                if !self.sleep(wait).await {
                    return None;
                }
                continue;
            }
            let halved = std::mem::take(&mut self.is_to_be_halved);
            if !halved {
                // A row that waits for its next try lets others go ahead.
                drop(permit.take());
            }
            if before != Waste::of(&self.outcome) {
                self.save_tries().await;
            }
            if halved {
                // It keeps its permit: no more of its rows are in flight than before.
                self.halve();
            } else {
                permit = Some(self.wait(wait).await?);
            }
        }
    }

    /// Emits the outcomes of the request's rows. The permit goes with the last of them.
    fn hand_over(&mut self, mut permit: Option<OwnedSemaphorePermit>) {
        let mut outcomes = self.outcomes().into_iter().peekable();
        while let Some(outcome) = outcomes.next() {
            let permit = if outcomes.peek().is_none() { permit.take() } else { None };
            self.engine.emit(outcome, permit);
        }
    }

    /// Sends the request once, and lets other rows leave if it shows that they may.
    async fn send(&mut self, passed: &mut Passed) -> Option<Duration> {
        let engine = Rc::clone(&self.engine);
        let looked = std::mem::take(&mut self.looking);
        let again = {
            let _in_flight = engine.gate.in_flight();
            self.attempt(passed).await
        };
        if looked && !self.looking {
            engine.health.borrow_mut().end_second_look();
        }
        engine.release_parked();
        again
    }

    /// Gives the second look up, if it is this row's: others need not wait for it.
    fn end_look(&mut self) {
        if std::mem::take(&mut self.looking) {
            self.engine.health.borrow_mut().end_second_look();
            self.engine.release_parked();
        }
    }

    /// Returns true if the row may leave: the run does not doubt that rows are answered, or the row is to show it.
    fn may_leave(&self) -> bool {
        self.engine.health.borrow().may_leave(self.outcome.row, self.probe)
    }

    /// The error of a row whose model the service has refused again and again.
    fn unserved(&self) -> Option<RowError> {
        self.engine.health.borrow().unserved(&self.outcome.model).cloned()
    }

    /// The rest of the wait for this row's model: the service has asked for a long one, or no base URL serves it at the moment.
    fn held(&self) -> Option<Duration> {
        let (now, model) = (Instant::now(), &self.outcome.model);
        let until = self.engine.health.borrow().held_until(model, now);
        let asked = until.map(|until| until.saturating_duration_since(now));
        asked.max(self.engine.upstreams.wait(now, model))
    }

    /// Returns true if the service may answer this row now, as far as the run has learned.
    fn is_wanted(&self) -> bool {
        self.may_leave() && self.unserved().is_none() && self.held().is_none()
    }

    /// Waits until the request may leave and its maximum cost is set aside.
    async fn admit(&mut self) -> RowAdmission {
        let engine = Rc::clone(&self.engine);
        let slot = if self.looking {
            // All others wait for this one request.
            engine.gate.learn(|limiter| limiter.force(Instant::now(), self.about))
        } else {
            match engine.gate.pass(self.turn, self.about, || self.is_wanted()).await {
                Passage::Open(slot) => slot,
                Passage::Unwanted => return RowAdmission::Unwanted,
                Passage::Stopping => return RowAdmission::Stopping,
            }
        };
        let passed = Passed { engine: Rc::clone(&engine), slot, sent: false, in_flight: 1 };
        // Only now: a row that waits for the limiter must not hold money that others could spend.
        match engine.wallet.reserve(&self.outcome.model, self.outcome.reserve).await {
            Ok(set_aside) if self.is_wanted() => RowAdmission::Admitted(set_aside, passed),
            Ok(set_aside) => {
                engine.wallet.release(set_aside, Nanos::ZERO);
                RowAdmission::Unwanted
            }
            Err(Unaffordable::Stopping) => RowAdmission::Stopping,
            Err(Unaffordable::Spent(budget)) => {
                engine.stop(Stopped::Cost(budget));
                RowAdmission::Stopping
            }
        }
    }

    /// The cost of the last request; if it is unknown, all the money that was set aside.
    fn cost_since(&self, before: Waste, set_aside: Nanos) -> Nanos {
        let outcome = &self.outcome;
        if outcome.at_risk > before.at_risk || (outcome.ok() && outcome.usage.is_none()) {
            return set_aside;
        }
        let mut usage = outcome.usage.unwrap_or_default();
        usage += outcome.wasted;
        usage -= before.usage;
        self.engine.wallet.cost(&outcome.model, usage)
    }

    /// Waits until the tries so far are on disk, so that requests that may have been billed survive a kill.
    async fn save_tries(&self) {
        let (done, written) = oneshot::channel();
        drop(self.engine.events.send(Event::Tried(self.so_far(), done)));
        // If it cannot be written, the run is being stopped already.
        drop(written.await);
    }

    /// Waits for the next try, and for a permit. `None` if the run stops.
    async fn wait(&self, wait: Duration) -> Option<OwnedSemaphorePermit> {
        if self.sleep(wait).await { self.permit().await } else { None }
    }

    /// Waits until the row may leave, and for a permit. `None` if the run stops.
    async fn park(&mut self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.engine.shared.stop.cancelled() => return None,
            probe = self.engine.parked.wait(self.outcome.row, self.probe) => self.probe = probe,
        }
        self.permit().await
    }

    /// Waits this long. `false` if the run stops.
    async fn sleep(&self, wait: Duration) -> bool {
        let _waiting = self.engine.waits.begin(self.outcome.row, Instant::now() + wait);
        // The dispatcher counts the rows that are still on their way.
        self.engine.release_parked();
        tokio::select! {
            biased;
            () = self.engine.shared.stop.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }

    /// Waits for a permit. `None` if the run stops.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.engine.shared.stop.cancelled() => None,
            permit = self.engine.gate.permit() => permit,
        }
    }

    /// Ends the task because the run stops. Rows that may have cost something are emitted, so that their cost is not
    /// forgotten.
    fn abandon(mut self) {
        loop {
            if self.outcome.at_risk > 0 || self.outcome.wasted != Usage::default() {
                let last = self.outcome.error.take().map(|e| e.message).unwrap_or_default();
                let message = if last.is_empty() {
                    "the run was stopped".to_owned()
                } else {
                    format!("the run was stopped; before that: {last}")
                };
                self.outcome.error = Some(RowError::new(ErrorCode::Interrupted, message));
                self.hand_over(None);
            }
            if !self.next_half() {
                return;
            }
        }
    }
}
