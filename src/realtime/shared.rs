//! What the engine's thread and the consumer's thread tell each other: counters and cancellation, no lock on the way of a row.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::budget::Funds;
use super::limiter::Hold;
use crate::price::Nanos;

/// Shared by the engine and the consumer of its events.
#[derive(Debug, Default)]
pub struct Shared {
    /// Rows up to this one may be sent: the consumer has written that down.
    pub(super) claimed: AtomicU64,
    /// Outcomes emitted and not yet written.
    pub(super) backlog: AtomicUsize,
    claimed_more: Notify,
    written_more: Notify,
    pub(super) funds: Funds,
    /// Start nothing more; what is in flight finishes.
    pub stop: CancellationToken,
    /// Give up what is in flight as well.
    pub abort: CancellationToken,
    /// For the progress line.
    pub gauges: Gauges,
}

/// Until when nothing is sent, why, and the last failure.
pub type Held = (Instant, Hold, String);

/// Counters for the progress line.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Requests in flight.
    pub in_flight: AtomicUsize,
    /// Requests sent by this run.
    pub sent: AtomicU64,
    /// Of those, refused by 429.
    pub refused: AtomicU64,
    /// Of those, sent again after a failure that was no 429.
    pub retried: AtomicU64,
    held: Mutex<(Option<Held>, Option<f64>)>,
}

impl Shared {
    /// The consumer has committed the claim of rows up to `row`.
    pub fn claimed(&self, row: u64) {
        self.claimed.fetch_max(row, Ordering::AcqRel);
        self.claimed_more.notify_one();
    }

    /// The answer to [`super::Event::Draw`]: what has been drawn in all, or which budget has no more.
    pub fn drawn(&self, answer: Result<Nanos, String>) {
        self.funds.answer(answer);
    }

    /// The consumer has written `count` outcomes.
    pub fn written(&self, count: usize) {
        self.backlog.fetch_sub(count, Ordering::AcqRel);
        self.written_more.notify_one();
    }

    /// Waits until `row` may be sent. One waiter at a time.
    pub(super) async fn until_claimed(&self, row: u64) {
        while self.claimed.load(Ordering::Acquire) < row {
            self.claimed_more.notified().await;
        }
    }

    /// Waits until fewer than `most` outcomes wait to be written. One waiter at a time.
    pub(super) async fn until_written(&self, most: usize) {
        while self.backlog.load(Ordering::Acquire) >= most {
            self.written_more.notified().await;
        }
    }

    pub(super) fn publish(&self, held: Option<Held>, rate: Option<f64>) {
        if let Ok(mut slot) = self.gauges.held.lock() {
            *slot = (held, rate);
        }
    }
}

impl Gauges {
    /// Until when and why nothing is sent, and the learned rate in requests a second.
    pub fn held(&self) -> (Option<Held>, Option<f64>) {
        self.held.lock().map(|held| held.clone()).unwrap_or_default()
    }
}
