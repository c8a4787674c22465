//! The engine of one run: it starts a task for each row as permits come free, and watches the clock and the other processes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::sync::{Arc, atomic::Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::{JoinSet, LocalSet};

use super::gate::Gate;
use super::health::Health;
use super::limiter::Hold;
use super::peers::PeerView;
use super::row::RowTask;
use super::shared::{PaceGauge, Paused};
use super::waits::Waits;
use super::wallet::Wallet;
use super::{Event, QueuedRow, SendOptions, Shared, Stopped};
use crate::api::{Client, RowAddress};
use crate::deadline::Deadline;
use crate::outcome::Outcome;

/// Outcomes that may wait to be written before sending pauses.
const BACKLOG: usize = 8192;
/// Interval at which the clock is checked, and the other processes are read.
const TICK: Duration = Duration::from_millis(200);
/// A look at the clock that comes this much too late: the process was stopped, or the machine is overloaded.
const LATE: Duration = Duration::from_secs(2);
/// The first request waits no longer than this for the reports of other processes.
const FIRST_REPORTS: Duration = Duration::from_secs(1);

/// Rows among which a probe is chosen. A kill at that time leaves as many more rows in doubt.
const PROBE_REACH: usize = 256;

/// One run, shared by the tasks of its rows; they all live on one thread.
pub(super) struct Engine {
    pub(super) client: Client,
    pub(super) address: RowAddress,
    pub(super) options: SendOptions,
    pub(super) shared: Arc<Shared>,
    pub(super) events: Sender<Event>,
    pub(super) gate: Gate,
    pub(super) health: RefCell<Health>,
    pub(super) wallet: Wallet,
    pub(super) waits: Waits,
    peers: RefCell<PeerView>,
}

impl Engine {
    pub(super) fn new(client: Client, options: SendOptions, events: Sender<Event>, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            address: client.row_address(options.path),
            client,
            gate: Gate::new(now, &options, Arc::clone(&shared), events.clone()),
            health: RefCell::new(Health::new(now, options.speed.give_up_after)),
            wallet: Wallet::new(options.budget.clone(), Arc::clone(&shared), events.clone()),
            waits: Waits::default(),
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
            let mut tasks = JoinSet::new();
            self.dispatch(rows, &mut tasks).await;
            self.waits.set_open(tasks.len(), true);
            self.drain(&mut tasks).await;
            watch.abort();
            listen.abort();
        };
        LocalSet::new().run_until(work).await;
        let stopped = self.health.borrow().stopped();
        stopped.or_else(|| self.shared.stop.is_cancelled().then(|| Stopped::Cancelled(self.outage())))
    }

    /// Starts a task for each row, as permits come free.
    async fn dispatch(self: &Rc<Self>, mut rows: mpsc::Receiver<Vec<QueuedRow>>, tasks: &mut JoinSet<()>) {
        let stop = self.shared.stop.clone();
        let mut queue: VecDeque<QueuedRow> = VecDeque::new();
        loop {
            while let Some(ended) = tasks.try_join_next() {
                propagate_panic(ended);
            }
            let doubts = self.health.borrow().doubts_all();
            if doubts && !self.resolved(tasks).await {
                return;
            }
            let probe = self.health.borrow().doubts_all();
            let next = if probe { self.next_probe(&mut queue, &mut rows) } else { queue.pop_front() };
            let Some(row) = next else {
                let batch = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    batch = rows.recv() => batch,
                };
                let Some(batch) = batch else { return };
                queue = batch.into();
                continue;
            };
            let request = match row {
                QueuedRow::Send(request) => request,
                QueuedRow::Failed(outcome) => {
                    self.emit(*outcome, None);
                    continue;
                }
            };
            let permit = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                permit = self.admitted(tasks) => permit,
            };
            let Some(permit) = permit else { return };
            if !probe && self.health.borrow().doubts_all() {
                queue.push_front(QueuedRow::Send(request));
                continue;
            }
            tasks.spawn_local(RowTask::new(Rc::clone(self), request, probe).run(permit));
            self.waits.set_open(tasks.len(), false);
        }
    }

    /// Waits for the requests in flight, which show whether rows are still answered. `false` if the run stops.
    async fn resolved(&self, tasks: &mut JoinSet<()>) -> bool {
        while self.health.borrow().doubts_all() {
            let ended = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return false,
                ended = tasks.join_next() => ended,
            };
            let Some(ended) = ended else { break };
            propagate_panic(ended);
        }
        !self.shared.stop.is_cancelled()
    }

    /// Takes a row from further down the file, as far as rows were read.
    fn next_probe(
        &self,
        queue: &mut VecDeque<QueuedRow>,
        rows: &mut mpsc::Receiver<Vec<QueuedRow>>,
    ) -> Option<QueuedRow> {
        while queue.len() < PROBE_REACH
            && let Ok(batch) = rows.try_recv()
        {
            queue.extend(batch);
        }
        let Some(number) = self.health.borrow_mut().next_probe() else { return queue.pop_front() };
        // The last one, then one from two thirds on, then one from a third on.
        let at = queue.len() * 3_usize.saturating_sub(number as usize) / 3;
        queue.remove(at.saturating_sub(1))
    }

    /// Waits until one more row may start: outcomes are written, not too many rows are open, and a permit is free.
    async fn admitted(&self, tasks: &mut JoinSet<()>) -> Option<OwnedSemaphorePermit> {
        self.shared.until_written(BACKLOG).await;
        // Rows that wait for their next try hold no permit, but they hold memory.
        while tasks.len() > 2 * self.options.speed.concurrency + 64 {
            self.waits.set_open(tasks.len(), true);
            if let Some(ended) = tasks.join_next().await {
                propagate_panic(ended);
            }
        }
        self.gate.permit().await
    }

    /// Lets the requests in flight finish, within the grace time after a stop.
    async fn drain(&self, tasks: &mut JoinSet<()>) {
        let ended = async {
            while let Some(ended) = tasks.join_next().await {
                propagate_panic(ended);
                self.waits.set_open(tasks.len(), true);
            }
        };
        tokio::pin!(ended);
        tokio::select! {
            () = &mut ended => return,
            () = self.shared.stop.cancelled() => {}
        }
        if tokio::time::timeout(self.options.speed.grace, &mut ended).await.is_err() {
            self.shared.abort.cancel();
            ended.await;
        }
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
        self.shared.gauges.set_pace(PaceGauge { paused, rate: limiter.rate() });
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

    /// Hands over a finished row.
    pub(super) fn emit(&self, outcome: Outcome, permit: Option<OwnedSemaphorePermit>) {
        self.shared.backlog.fetch_add(1, Ordering::AcqRel);
        // The consumer outlives the engine, or has failed and cancelled it.
        drop(self.events.send(Event::Outcome(Box::new(outcome), permit)));
    }

    /// Ends the run. Only the first reason counts.
    pub(super) fn stop(&self, reason: Stopped) {
        self.health.borrow_mut().stop(reason);
        self.shared.stop.cancel();
    }
}

/// Passes on the panic of a row's task: a run that lost a row must not look complete.
fn propagate_panic(task: Result<(), tokio::task::JoinError>) {
    if let Err(error) = task
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
