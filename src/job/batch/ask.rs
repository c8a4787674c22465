//! A user's request to submit an input, and to wait for its results.

use super::RETRY_FOR;
use super::follow::Waiting;
use super::session::SessionOptions;
use crate::job::ask::{CostLimit, InputSpec, ProblemPolicy};
use crate::realtime;
use crate::results::Delivery;
use crate::store::LockWait;
use crate::ui::Results;

/// A request to submit an input as batches.
#[derive(Debug)]
pub struct SubmitAsk {
    /// The rows, and what to ask of each.
    pub input: InputSpec,
    /// Treatment of invalid rows.
    pub problems: ProblemPolicy,
    /// `--name`
    pub name: Option<String>,
    /// `--again`: a second job of the same content.
    pub again: bool,
    /// `--require-discount`
    pub require_discount: bool,
    /// `--via auto`, and how to send then: rows that a batch would not serve, or not for less, are answered in real time.
    pub auto: Option<realtime::SendOptions>,
    /// Limits of cost.
    pub limit: CostLimit,
    /// How long to wait for another process that works on the same content.
    pub wait: LockWait,
    /// `--wait`: the results are wanted at once.
    pub delivery: Option<WaitAsk>,
}

/// A request to wait for the results of a submission.
#[derive(Debug)]
pub struct WaitAsk {
    /// Where results go.
    pub delivery: Delivery,
    /// How long to wait, and how often to ask.
    pub waiting: Waiting,
    /// The limit is `--deadline`, not `--timeout`.
    pub deadline: bool,
    /// `--rescue`: at the deadline, what is left is answered in real time.
    pub rescue: Option<RescueAsk>,
}

/// `--rescue`
#[derive(Debug)]
pub struct RescueAsk {
    /// How to send.
    pub speed: realtime::SendOptions,
    /// How long to wait for another process that works on the job.
    pub wait: LockWait,
}

impl SubmitAsk {
    /// How to open the session of its job.
    pub fn session(&self) -> SessionOptions {
        let to_stdout = self.delivery.as_ref().is_some_and(|wait| wait.delivery.output.is_none());
        let results = if to_stdout { Results::Stdout } else { Results::Elsewhere };
        SessionOptions { retry_for: RETRY_FOR, results, wait: self.wait }
    }
}
