//! The engine of one run: it holds what the tasks of the rows share, and watches the clock and the other processes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::sync::{Arc, atomic::Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::LocalSet;

use super::dispatch::Dispatcher;
use super::file_memory::FileMemory;
use super::gate::Gate;
use super::health::Health;
use super::limiter::Hold;
use super::parked::Parked;
use super::peers::PeerView;
use super::shared::{PaceGauge, Paused};
use super::upstreams::{Upstream, Upstreams};
use super::waits::Waits;
use super::wallet::Wallet;
use super::{Event, QueuedRow, SendOptions, Shared, Stopped};
use crate::deadline::Deadline;
use crate::outcome::{Follower, Outcome};

/// Interval at which the clock is checked, and the other processes are read.
const TICK: Duration = Duration::from_millis(200);
/// A look at the clock that comes this much too late: the process was stopped, or the machine is overloaded.
const LATE: Duration = Duration::from_secs(2);
/// The first request waits no longer than this for the reports of other processes.
const FIRST_REPORTS: Duration = Duration::from_secs(1);

/// One run, shared by the tasks of its rows; they all live on one thread.
pub(super) struct Engine {
    pub(super) upstreams: Upstreams,
    pub(super) options: SendOptions,
    pub(super) shared: Arc<Shared>,
    pub(super) events: Sender<Event>,
    pub(super) gate: Gate,
    pub(super) health: RefCell<Health>,
    pub(super) wallet: Wallet,
    pub(super) waits: Waits,
    pub(super) parked: Parked,
    pub(super) file_memory: FileMemory,
    peers: RefCell<PeerView>,
}

impl Engine {
    pub(super) fn new(urls: Vec<Upstream>, options: SendOptions, events: Sender<Event>, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            gate: Gate::new(&options, urls.len(), Arc::clone(&shared), events.clone()),
            upstreams: Upstreams::new(urls, options.endpoint.path(), options.affinity),
            health: RefCell::new(Health::new(now, options.speed.give_up_after)),
            wallet: Wallet::new(options.budget.clone(), Arc::clone(&shared), events.clone()),
            waits: Waits::default(),
            parked: Parked::default(),
            file_memory: FileMemory::default(),
            peers: RefCell::default(),
            options,
            shared,
            events,
        }
    }

    /// Sends every row that arrives, and waits for all of them.
    pub(super) async fn run(self: Rc<Self>, rows: mpsc::Receiver<Vec<QueuedRow>>) -> Option<Stopped> {
        let work = async {
            let watch = tokio::task::spawn_local(Rc::clone(&self).watch());
            // The first request already obeys the limits that others know. But it does not wait for a directory that hangs.
            drop(tokio::time::timeout(FIRST_REPORTS, self.consult()).await);
            let listen = tokio::task::spawn_local(Rc::clone(&self).listen());
            Dispatcher::new(Rc::clone(&self), rows).run().await;
            watch.abort();
            listen.abort();
        };
        LocalSet::new().run_until(work).await;
        let stopped = self.health.borrow().stopped();
        stopped.or_else(|| self.shared.stop.is_cancelled().then(|| Stopped::Cancelled(self.outage())))
    }

    /// Watches the clock: the deadline, and the time since the last success.
    async fn watch(self: Rc<Self>) {
        let mut looked = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            let now = Instant::now();
            let stopped = now.duration_since(looked).saturating_sub(TICK);
            if stopped > LATE {
                // This process was stopped itself. What has arrived meanwhile is still to be read.
                self.health.borrow_mut().excuse(now);
            }
            looked = now;
            self.publish(now);
            if self.options.speed.deadline.is_some_and(Deadline::has_passed) {
                self.stop(Stopped::Deadline(self.outage()));
            }
            if self.wallet.is_short() && self.shared.gauges.in_flight.load(Ordering::Relaxed) == 0 {
                // Nothing succeeds because nothing is sent. That is not a failure of the service.
                self.health.borrow_mut().excuse(now);
            }
            let gave_up = self.health.borrow().gave_up(now);
            if let Some(failure) = gave_up {
                self.stop(Stopped::GaveUp(failure));
            }
            if let Some(too_long) = self.wait_too_long(now) {
                self.stop(too_long);
            }
        }
    }

    /// Compares the wait that the service asks for with the time that is left, if nothing can be sent before its end.
    fn wait_too_long(&self, now: Instant) -> Option<Stopped> {
        if self.shared.gauges.in_flight.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let first = self.waits.first();
        let cooldown = self.gate.limiter().delay(now).filter(|delay| delay.hold == Hold::Cooldown);
        // While all requests are held back, waiting rows cannot leave before the end of that either.
        let next = cooldown.map(|delay| first.unwrap_or(delay.until).max(delay.until)).or(first)?;
        let wait = next.saturating_duration_since(now);
        let health = self.health.borrow();
        let (gives_up, failure) = health.gives_up().filter(|_| wait > LATE)?;
        let deadline = self.options.speed.deadline.is_some_and(|deadline| deadline.left() < wait);
        (deadline || next > gives_up).then(|| Stopped::WaitTooLong { wait, deadline, failure: failure.to_owned() })
    }

    /// Keeps up with the other processes. This is not part of the watch: it reads files, which may hang.
    async fn listen(self: Rc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            self.consult().await;
        }
    }

    /// Updates the progress line.
    fn publish(&self, now: Instant) {
        let limiter = self.gate.limiter();
        let paused = limiter
            .delay(now)
            .map(|delay| Paused { delay, last_failure: self.health.borrow().last_failure().unwrap_or_default() });
        let rate = limiter.learned_rate();
        let left_out = self.upstreams.left_out(|model| self.health.borrow().is_answered(model));
        self.shared.gauges.set_pace(PaceGauge { paused, rate, left_out });
    }

    /// Reports to the other processes, and applies their reports.
    async fn consult(&self) {
        let Some(peers) = self.options.peers.clone() else { return };
        let report = self.peers.borrow_mut().report(Instant::now(), self.gate.limiter().pace());
        // Even small files may make a reader wait.
        let others = match tokio::task::spawn_blocking(move || peers.exchange(report)).await {
            Ok(Ok(others)) => others,
            Ok(Err(error)) => return tracing::debug!("cannot read the limits of other processes: {error}"),
            Err(_) => return,
        };
        self.gate.learn(|limiter| {
            let now = Instant::now();
            let advice = self.peers.borrow_mut().advise(now, &others, limiter.rate(), limiter.pace().found());
            if let Some(adopted) = advice.adopt {
                let rate = adopted.estimate.rate;
                tracing::debug!("another process has learned a limit of {rate:.3} requests a second");
            }
            limiter.apply(now, &advice);
        });
    }

    /// The last failure, if there is an outage.
    fn outage(&self) -> Option<String> {
        self.health.borrow().last_failure().filter(|_| self.gate.limiter().is_outage())
    }

    /// Releases rows that were held back and may leave now, and has probes sent while all rows are refused.
    pub(super) fn release_parked(&self) {
        let health = self.health.borrow();
        self.parked.release(|row, probe| health.may_leave(row, probe));
        if health.doubts_all() {
            self.parked.changed.notify_one();
        }
    }

    /// Hands over a finished row.
    pub(super) fn emit(&self, outcome: Outcome, permit: Option<OwnedSemaphorePermit>) {
        self.shared.backlog.fetch_add(1, Ordering::AcqRel);
        // The consumer outlives the engine, or has failed and cancelled it.
        drop(self.events.send(Event::Outcome(Box::new(outcome), permit)));
    }

    /// Hands over a row that gets the outcome of an earlier one.
    pub(super) fn follow(&self, follower: Box<Follower>) {
        self.shared.backlog.fetch_add(1, Ordering::AcqRel);
        drop(self.events.send(Event::Follow(follower)));
    }

    /// Ends the run. Only the first reason counts.
    pub(super) fn stop(&self, reason: Stopped) {
        self.health.borrow_mut().stop(reason);
        self.shared.stop.cancel();
    }
}
