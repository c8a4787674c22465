//! Waiting for the limiter, one row at a time and in order.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Engine;

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
    /// Waits until a request of about `tokens` tokens may leave; `false` if the run stops first.
    pub(super) async fn gate(&self, tokens: u64) -> bool {
        if self.shared.stop.is_cancelled() {
            return false;
        }
        // Nobody queues and there is room: the usual case.
        if let Ok(_turn) = self.turnstile.try_lock()
            && self.limiter.borrow_mut().take(Instant::now(), tokens).is_ok()
        {
            return true;
        }
        let stop = &self.shared.stop;
        let turn = async {
            let _turn = self.turnstile.lock().await;
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

    /// The limiter learned something: whoever waits at the turnstile asks again.
    pub(super) fn relearn(&self) {
        self.changed.notify_waiters();
    }
}
