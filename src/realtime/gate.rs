//! The gate: a request leaves when it has a permit, its claim is committed, and the limiter has a slot.

use std::cell::{Ref, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore};

use super::claims::Claims;
use super::limiter::{Limiter, TakenSlot};
use super::{Event, QueuedRow, SendOptions, Shared};

/// The start of a run with no more rows than this would take most of its time, so it is hurried.
const FEW_ROWS: u64 = 100;

/// The gate of one run.
pub(super) struct Gate {
    shared: Arc<Shared>,
    events: Sender<Event>,
    permits: Arc<Semaphore>,
    claims: RefCell<Claims>,
    limiter: RefCell<Limiter>,
    /// One request waits for the limiter; the others queue behind it.
    turnstile: Mutex<()>,
    /// The limiter has learned something: ask it again.
    changed: Notify,
}

/// The end of a wait at the gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Passage {
    /// The request may leave.
    Open(TakenSlot),
    /// The row must not be sent any more, or not yet. It has used nothing up.
    Unwanted,
    /// The run stops.
    Stopping,
}

/// Counts a request as in flight for the progress line while it lives.
pub(super) struct InFlightGuard<'a>(&'a Shared);

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.0.gauges.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(super) fn new(options: &SendOptions, urls: usize, shared: Arc<Shared>, events: Sender<Event>) -> Self {
        let now = Instant::now();
        let mut limiter = Limiter::new(now, options.speed.rates);
        if options.last_row <= FEW_ROWS {
            limiter.hurry();
        }
        if options.speed.auto {
            // A stream that moves may take any time.
            let timeout = options.speed.stream.map_or(options.speed.request_timeout, |_| Duration::MAX);
            limiter.search_concurrency(now, urls, timeout);
        }
        Self {
            shared,
            events,
            permits: Arc::new(Semaphore::new(options.speed.concurrency)),
            claims: RefCell::new(
                if options.speed.by_prefix { Claims::by_name() } else { Claims::in_order(options.last_row) }
                    .where_commits_are(options.synced_commits),
            ),
            limiter: RefCell::new(limiter),
            turnstile: Mutex::new(()),
            changed: Notify::new(),
        }
    }

    /// Waits for a permit. The row keeps it until its outcome is committed.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Counts a request as in flight.
    pub(super) fn in_flight(&self) -> InFlightGuard<'_> {
        let gauges = &self.shared.gauges;
        let in_flight = gauges.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        gauges.peak_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        InFlightGuard(&self.shared)
    }

    /// Takes rows that will pass, in the order of their turns.
    pub(super) fn expect<'a>(&self, rows: impl IntoIterator<Item = &'a QueuedRow>) {
        let mut claims = self.claims.borrow_mut();
        for row in rows {
            if let QueuedRow::Send { request, .. } = row {
                request.row_numbers().for_each(|row| claims.arrived(row));
            }
        }
    }

    /// Waits until a request of about `tokens` tokens may leave, given the `turn` of its row. Others are answered meanwhile, so that a row that had to wait is asked whether it is still `wanted`.
    pub(super) async fn pass(&self, turn: u64, tokens: u64, wanted: impl Fn() -> bool) -> Passage {
        if self.shared.stop.is_cancelled() {
            return Passage::Stopping;
        }
        // The usual case: the queue is empty, and there is room.
        if let Ok(_turn) = self.turnstile.try_lock() {
            self.claim(turn);
            if self.shared.claimed.load(Ordering::Acquire) >= turn
                && let Ok(slot) = self.limiter.borrow_mut().take(Instant::now(), tokens)
            {
                return Passage::Open(slot);
            }
        }
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Passage::Stopping,
            passage = self.queue(turn, tokens, wanted) => passage,
        }
    }

    async fn queue(&self, turn: u64, tokens: u64, wanted: impl Fn() -> bool) -> Passage {
        let _turn = self.turnstile.lock().await;
        if !wanted() {
            return Passage::Unwanted;
        }
        self.claim(turn);
        let asked = Instant::now();
        self.shared.until_claimed(turn).await;
        self.claims.borrow_mut().waited(asked.elapsed());
        loop {
            if !wanted() {
                return Passage::Unwanted;
            }
            let taken = self.limiter.borrow_mut().take(Instant::now(), tokens);
            let delay = match taken {
                Ok(slot) => return Passage::Open(slot),
                Err(delay) => delay,
            };
            tokio::select! {
                () = tokio::time::sleep_until(delay.until.into()) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Asks for the claims that rows from this `turn` on need soon. Only the row at the turnstile asks, so that queued rows are not
    /// claimed.
    fn claim(&self, turn: u64) {
        let free = self.permits.available_permits() as u64;
        if let Some(claim) = self.claims.borrow_mut().ask(turn, free, Instant::now()) {
            // The consumer outlives the engine, or has failed and cancelled it.
            drop(self.events.send(Event::Claim(claim)));
        }
    }

    /// Learns how many base URLs get rows.
    pub(super) fn set_urls(&self, urls: usize) {
        let changed = self.limiter.borrow_mut().set_urls(Instant::now(), urls);
        if changed {
            self.changed.notify_waiters();
        }
    }

    /// The limiter, to read.
    pub(super) fn limiter(&self) -> Ref<'_, Limiter> {
        self.limiter.borrow()
    }

    /// Lets the limiter learn, and lets the row at the turnstile ask it again.
    pub(super) fn learn<T>(&self, lesson: impl FnOnce(&mut Limiter) -> T) -> T {
        let learned = lesson(&mut self.limiter.borrow_mut());
        self.changed.notify_waiters();
        learned
    }
}
