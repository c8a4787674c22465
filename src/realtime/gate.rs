//! Waiting for the limiter, one row at a time and in order.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Engine, Event};

/// Counts a request as in flight for as long as it lives.
pub(super) struct InFlight<'a>(&'a Engine);

impl<'a> InFlight<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        engine.shared.gauges.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(engine)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.shared.gauges.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// Waits until a request for `row` of about `tokens` tokens may leave: its claim is on disk and the limiter has a slot.
    /// `false` if the run stops first.
    pub(super) async fn gate(&self, row: u64, tokens: u64) -> bool {
        if self.shared.stop.is_cancelled() {
            return false;
        }
        // Nobody queues and there is room: the usual case.
        if let Ok(_turn) = self.turnstile.try_lock() {
            self.claim(row);
            if self.shared.claimed.load(Ordering::Acquire) >= row
                && self.limiter.borrow_mut().take(Instant::now(), tokens).is_ok()
            {
                return true;
            }
        }
        let stop = &self.shared.stop;
        let turn = async {
            let _turn = self.turnstile.lock().await;
            self.claim(row);
            self.shared.until_claimed(row).await;
            loop {
                let taken = self.limiter.borrow_mut().take(Instant::now(), tokens);
                let Err((until, _)) = taken else { return };
                tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = self.changed.notified() => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            () = turn => true,
        }
    }

    /// Asks for the claims that rows from `row` on will need soon. Whoever is at the turnstile does, so that rows which only
    /// queue are not claimed.
    fn claim(&self, row: u64) {
        if let Some(upto) = self.claims.borrow_mut().ask(row, Instant::now()) {
            // The consumer outlives the engine, or has failed and cancelled it.
            drop(self.events.send(Event::Claim(upto)));
        }
    }

    /// The limiter learned something: whoever waits at the turnstile asks again.
    pub(super) fn relearn(&self) {
        self.changed.notify_waiters();
    }
}
