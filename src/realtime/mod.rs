//! The realtime transport: bounded requests in flight under the limiter, each row answered or failed exactly once.
//!
//! [`run`] takes rows from a channel and emits [`Event`]s to another; it neither reads files nor writes anything. A retry
//! lives inside the row's own task; nothing flows back.

mod attempt;
mod budget;
mod claims;
pub mod company;
mod gate;
pub mod limiter;
mod models;
pub mod pace;
mod pages;
mod shared;
mod spending;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::sync::{Arc, atomic::Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};

use crate::api::Client;
use crate::outcome::Outcome;
use crate::request::Request;
pub use budget::{Budget, Need};
use claims::Claims;
use company::{Company, Peers};
use limiter::{Limiter, Rates};
use models::ModelState;
pub use shared::{Gauges, Shared};

/// How long requests in flight may take to finish after a first signal: they are paid for.
const GRACE: Duration = Duration::from_secs(30);
/// Outcomes that may wait to be written before no more is sent.
const BACKLOG: usize = 8192;
/// How often the clock is looked at, and other processes are heard.
const TICK: Duration = Duration::from_millis(200);
/// The first request waits no longer than this to hear of other processes.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// Most requests in flight with `--concurrency auto`: the pace decides how many there really are.
pub const AUTO_CONCURRENCY: usize = 1024;

/// How to send.
#[derive(Debug, Clone)]
pub struct Options {
    /// Path under the base URL, such as `/chat/completions`.
    pub path: &'static str,
    /// Requests in flight.
    pub concurrency: usize,
    /// Limits.
    pub rates: Rates,
    /// Failures of a row that are forgiven.
    pub retries: u32,
    /// For one request, from connect to the last byte.
    pub request_timeout: Duration,
    /// No request starts after this.
    pub deadline: Option<Instant>,
    /// Stop when nothing at all has succeeded for so long.
    pub give_up_after: Duration,
    /// Rows claimed at a time, at an ordinary speed.
    pub claim: u64,
    /// The last row; none behind it is claimed.
    pub last_row: u64,
    /// `--max-cost`
    pub budget: Option<Budget>,
    /// Other processes with the same key and service.
    pub peers: Option<Peers>,
}

/// A row on its way in.
#[derive(Debug)]
pub enum Item {
    /// To be sent.
    Send(Request),
    /// Failed before anything was sent.
    Failed(Box<Outcome>),
}

/// What happens, in the order in which it happens.
#[derive(Debug)]
pub enum Event {
    /// A row is finished. While its permit lives, nothing else is sent in its place: drop it when the outcome is written
    /// down. Until then a kill loses it, and it is paid for again: so a kill loses no more answers than there are permits.
    Outcome(Box<Outcome>, Option<OwnedSemaphorePermit>),
    /// Rows up to this one will be sent as soon as that is written down.
    Claim(u64),
    /// A row will be sent again as soon as it is written down what its tries came to so far; they may have been billed.
    Tried(Box<Outcome>, oneshot::Sender<()>),
    /// More is needed of the budgets that others draw on too ([`Shared::drawn`]).
    Draw(Need),
}

/// Why the run ended before its last row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The caller cancelled: a signal, or what consumes the events failed.
    Cancelled,
    /// `--deadline`.
    Deadline,
    /// The next request could pass this budget.
    Cost(String),
    /// 401, or a 403 that is not about length.
    Auth(String),
    /// 402.
    Payment(String),
    /// Nothing succeeded for `--give-up-after`; the last failure.
    GaveUp(String),
    /// Web pages instead of answers, again and again; what they say.
    Pages(String),
}

/// One run's state, shared by its row tasks; they all live on one thread.
struct Engine {
    client: Client,
    url: url::Url,
    options: Options,
    shared: Arc<Shared>,
    events: Sender<Event>,
    limiter: RefCell<Limiter>,
    budget: RefCell<Option<Budget>>,
    claims: RefCell<Claims>,
    company: RefCell<Company>,
    /// One at a time waits for the limiter, the others queue behind it.
    turnstile: tokio::sync::Mutex<()>,
    /// The limiter's state changed: ask it again.
    changed: Notify,
    permits: Arc<Semaphore>,
    stopped: RefCell<Option<Stopped>>,
    models: RefCell<HashMap<Arc<str>, ModelState>>,
    last_served: RefCell<Option<Arc<str>>>,
    any_refused: Cell<bool>,
    last_success: Cell<Instant>,
    /// Somebody waits for money that others hold.
    short: Cell<bool>,
    successes: Cell<u64>,
    last_failure: RefCell<Option<String>>,
    pages: RefCell<pages::Pages>,
}

/// Sends every row that arrives; returns when all are finished, or why it stopped before.
///
/// Runs on the current thread. Rows arrive in ascending order.
pub async fn run(
    client: Client,
    options: Options,
    rows: mpsc::Receiver<Vec<Item>>,
    events: Sender<Event>,
    shared: Arc<Shared>,
) -> Option<Stopped> {
    let now = Instant::now();
    let engine = Rc::new(Engine {
        url: client.url(options.path),
        client,
        shared,
        events,
        limiter: RefCell::new(Limiter::new(now, options.rates)),
        budget: RefCell::new(options.budget.clone()),
        claims: RefCell::new(Claims::new(options.claim, options.last_row)),
        company: RefCell::default(),
        turnstile: tokio::sync::Mutex::new(()),
        changed: Notify::new(),
        permits: Arc::new(Semaphore::new(options.concurrency)),
        stopped: RefCell::new(None),
        models: RefCell::default(),
        last_served: RefCell::default(),
        any_refused: Cell::new(false),
        last_success: Cell::new(now),
        short: Cell::new(false),
        successes: Cell::new(0),
        last_failure: RefCell::new(None),
        pages: RefCell::default(),
        options,
    });
    let local = LocalSet::new();
    local
        .run_until(async {
            let watch = tokio::task::spawn_local(Rc::clone(&engine).watch());
            // Before the first request: what others know holds for it too. But it need not wait for a directory that hangs.
            drop(tokio::time::timeout(HEARD_WITHIN, engine.consult()).await);
            let listen = tokio::task::spawn_local(Rc::clone(&engine).listen());
            let mut tasks = JoinSet::new();
            Rc::clone(&engine).dispatch(rows, &mut tasks).await;
            engine.drain(&mut tasks).await;
            watch.abort();
            listen.abort();
        })
        .await;
    let stopped = engine.stopped.borrow().clone();
    stopped.or_else(|| engine.shared.stop.is_cancelled().then_some(Stopped::Cancelled))
}

/// A row's task that panicked takes the run with it: a run that lost a row must not pass for one that is done.
fn finished(task: Result<(), tokio::task::JoinError>) {
    if let Err(error) = task
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

impl Engine {
    /// Starts a task per row, as permits come free.
    async fn dispatch(self: Rc<Self>, mut rows: mpsc::Receiver<Vec<Item>>, tasks: &mut JoinSet<()>) {
        let stop = self.shared.stop.clone();
        let mut queue: VecDeque<Item> = VecDeque::new();
        loop {
            while let Some(ended) = tasks.try_join_next() {
                finished(ended);
            }
            let Some(item) = queue.pop_front() else {
                let batch = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    batch = rows.recv() => batch,
                };
                let Some(batch) = batch else { return };
                queue = batch.into();
                continue;
            };
            let request = match item {
                Item::Send(request) => request,
                Item::Failed(outcome) => {
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
            tasks.spawn_local(Rc::clone(&self).answer(request, permit));
        }
    }

    /// Waits until one more row may be worked on: outcomes written, not too many rows open, a permit free.
    async fn admitted(&self, tasks: &mut JoinSet<()>) -> Option<OwnedSemaphorePermit> {
        self.shared.until_written(BACKLOG).await;
        // Rows that wait for their next try hold no permit, but they do hold memory.
        while tasks.len() > 2 * self.options.concurrency + 64 {
            if let Some(ended) = tasks.join_next().await {
                finished(ended);
            }
        }
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Lets what is in flight finish, within the grace that a stop leaves.
    async fn drain(&self, tasks: &mut JoinSet<()>) {
        let ended = async {
            while let Some(ended) = tasks.join_next().await {
                finished(ended);
            }
        };
        tokio::pin!(ended);
        tokio::select! {
            () = &mut ended => return,
            () = self.shared.stop.cancelled() => {}
        }
        self.changed.notify_waiters();
        if tokio::time::timeout(GRACE, &mut ended).await.is_err() {
            self.shared.abort.cancel();
            ended.await;
        }
    }

    /// Watches the clock: the deadline, and how long nothing has succeeded.
    async fn watch(self: Rc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            let now = Instant::now();
            self.publish(now);
            if self.options.deadline.is_some_and(|deadline| now >= deadline) {
                self.stop(Stopped::Deadline);
            }
            if self.short.get() && self.shared.gauges.in_flight.load(Ordering::Relaxed) == 0 {
                // Nothing succeeds because nothing is sent: that is no failure of the service.
                self.last_success.set(now);
            }
            if now.duration_since(self.last_success.get()) >= self.options.give_up_after
                && let Some(failure) = self.last_failure.borrow().clone()
            {
                self.stop(Stopped::GaveUp(failure));
            }
        }
    }

    /// Keeps up with other processes. Not on the clock's beat: it goes through files, and those may hang.
    async fn listen(self: Rc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            self.consult().await;
        }
    }

    /// For the progress line.
    fn publish(&self, now: Instant) {
        let limiter = self.limiter.borrow();
        let held = limiter
            .held(now)
            .map(|(until, hold)| (until, hold, self.last_failure.borrow().clone().unwrap_or_default()));
        self.shared.publish(held, limiter.rate());
    }

    /// Tells other processes how it goes, and heeds what they say.
    async fn consult(&self) {
        let Some(peers) = self.options.peers.clone() else { return };
        let report = {
            let (limiter, now) = (self.limiter.borrow(), Instant::now());
            self.company.borrow_mut().report(now, limiter.pace())
        };
        // Files, however small, may make one wait.
        let others = match tokio::task::spawn_blocking(move || peers.exchange(report)).await {
            Ok(Ok(others)) => others,
            Ok(Err(error)) => return tracing::debug!("other processes cannot be heard: {error}"),
            Err(_) => return,
        };
        let (mut limiter, now) = (self.limiter.borrow_mut(), Instant::now());
        let advice = self.company.borrow_mut().advise(now, &others, limiter.rate(), limiter.pace().found());
        if let Some((learned, _)) = advice.adopt {
            tracing::debug!("another process has learned a limit of {:.3} requests a second", learned.rate);
        }
        limiter.heed(now, &advice);
        drop(limiter);
        self.relearn();
    }

    fn emit(&self, outcome: Outcome, permit: Option<OwnedSemaphorePermit>) {
        self.shared.backlog.fetch_add(1, Ordering::AcqRel);
        // The consumer outlives the engine, or has failed and cancelled it.
        drop(self.events.send(Event::Outcome(Box::new(outcome), permit)));
    }

    /// Ends the run for a reason of its own; the first one counts.
    fn stop(&self, why: Stopped) {
        self.stopped.borrow_mut().get_or_insert(why);
        self.shared.stop.cancel();
        self.changed.notify_waiters();
    }
}
