//! State shared by the network thread and the consumer's thread: counters and cancellation, without a lock for each row.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::funds::Funds;
use super::limiter::Delay;
use super::upstreams::LeftOutUrl;
use crate::price::Nanos;

/// Shared by the engine and the consumer of its events.
#[derive(Debug, Default)]
pub struct Shared {
    /// Rows up to this turn may be sent: the consumer has committed their claim.
    pub(super) claimed: AtomicU64,
    /// Outcomes and followers emitted and not yet written.
    pub(super) backlog: AtomicUsize,
    claimed_more: Notify,
    written_more: Notify,
    pub(super) funds: Funds,
    /// Start nothing more; requests in flight finish.
    pub stop: CancellationToken,
    /// Abort the requests in flight as well.
    pub abort: CancellationToken,
    /// For the progress line.
    pub gauges: Gauges,
}

/// A pause longer than pacing takes.
#[derive(Debug, Clone)]
pub struct Paused {
    /// Its end and its reason.
    pub delay: Delay,
    /// The last failure.
    pub last_failure: String,
}

/// The limiter's state, for the progress line.
#[derive(Debug, Clone, Default)]
pub struct PaceGauge {
    /// The pause, if nothing is sent at the moment.
    pub paused: Option<Paused>,
    /// The learned rate, in requests a second. `None`: it is unknown, or the service cannot be reached.
    pub rate: Option<f64>,
    /// Base URLs that are left out.
    pub left_out: Vec<LeftOutUrl>,
}

/// Counters for the progress line.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Requests in flight.
    pub in_flight: AtomicUsize,
    /// The most requests that were in flight at once.
    pub peak_in_flight: AtomicUsize,
    /// Requests without an answer in time.
    pub timed_out: AtomicU64,
    /// Requests sent by this run.
    pub sent: AtomicU64,
    /// Requests refused with 429.
    pub refused: AtomicU64,
    /// Requests sent again after a failure other than a 429.
    pub retried: AtomicU64,
    pace: Mutex<PaceGauge>,
}

impl Shared {
    /// The consumer has committed the claim of rows up to this turn.
    pub fn claimed(&self, upto: u64) {
        self.claimed.fetch_max(upto, Ordering::AcqRel);
        self.claimed_more.notify_one();
    }

    /// The consumer's answer to [`super::Event::Draw`]: the money drawn so far, or the budget that has no more.
    pub fn drawn(&self, answer: Result<Nanos, String>) {
        self.funds.answer(answer);
    }

    /// The consumer has written `count` outcomes and followers.
    pub fn written(&self, count: usize) {
        self.backlog.fetch_sub(count, Ordering::AcqRel);
        self.written_more.notify_one();
    }

    /// Waits until the row of this turn may be sent. There may be one waiter at a time.
    pub(super) async fn until_claimed(&self, turn: u64) {
        while self.claimed.load(Ordering::Acquire) < turn {
            self.claimed_more.notified().await;
        }
    }

    /// Waits until fewer than `limit` outcomes wait to be written. There may be one waiter at a time.
    pub(super) async fn until_written(&self, limit: usize) {
        while self.backlog.load(Ordering::Acquire) >= limit {
            self.written_more.notified().await;
        }
    }
}

impl Gauges {
    /// The limiter's state.
    pub fn pace(&self) -> PaceGauge {
        self.pace.lock().map(|pace| pace.clone()).unwrap_or_default()
    }

    pub(super) fn set_pace(&self, pace: PaceGauge) {
        if let Ok(mut slot) = self.pace.lock() {
            *slot = pace;
        }
    }
}
