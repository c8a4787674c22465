//! A user's request to submit an input, and to wait for its results.

use super::RETRY_FOR;
use super::follow::Waiting;
use super::session::SessionOptions;
use crate::job::ask::{CostLimit, InputSpec, OnceAsk, ProblemPolicy};
use crate::realtime;
use crate::results::Delivery;
use crate::store::{LockWait, Tags};
use crate::ui::Results;

/// A request to submit an input as batches.
#[derive(Debug)]
pub struct SubmitAsk {
    /// The rows, with the settings of their requests.
    pub input: InputSpec,
    /// Treatment of invalid rows.
    pub problems: ProblemPolicy,
    /// `--name`
    pub name: Option<String>,
    /// `--tag`: tags that the job gets beside those that it has.
    pub tags: Tags,
    /// `--again`: a second job of the same content.
    pub again: bool,
    /// `--resume`: the last job of the same content, or the named one (not empty), sends its failed rows again.
    pub resume: Option<String>,
    /// Requests that are not sent, because an equal one is answered.
    pub once: OnceAsk,
    /// `--require-discount`
    pub require_discount: bool,
    /// `--via auto`, with the speed of its realtime part. It answers rows in real time that batches do not serve for
    /// less.
    pub auto: Option<realtime::SpeedOptions>,
    /// Limits of cost.
    pub limit: CostLimit,
    /// Maximum wait for the lock holder of the same content.
    pub wait: LockWait,
    /// `--wait`: the command delivers the results.
    pub results: Option<WaitAsk>,
}

/// A request to wait for the results of a submission.
#[derive(Debug)]
pub struct WaitAsk {
    /// Destination of the results.
    pub delivery: Delivery,
    /// Limit of the wait, and the interval of its polls.
    pub waiting: Waiting,
    /// The limit is `--deadline`, not `--timeout`.
    pub deadline: bool,
    /// `--rescue`: at the deadline, llbatch answers the remaining rows in real time.
    pub rescue: Option<RescueAsk>,
}

/// `--rescue`
#[derive(Debug)]
pub struct RescueAsk {
    /// Speed and limits of sending.
    pub speed: realtime::SpeedOptions,
    /// Maximum wait for the lock holder of the job.
    pub wait: LockWait,
}

impl SubmitAsk {
    /// Returns the options of the job's session.
    pub(super) fn session(&self) -> SessionOptions {
        let to_stdout = self.results.as_ref().is_some_and(|wait| wait.delivery.output.is_none());
        let results = if to_stdout { Results::Stdout } else { Results::Elsewhere };
        SessionOptions { retry_for: RETRY_FOR, results, wait: self.wait, take_over: !self.again }
    }
}
