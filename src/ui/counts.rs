//! The counts of a run that a progress display shows.

use std::time::{Duration, Instant};

use crate::price::Nanos;

/// The counts of a run at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunCounts {
    /// Rows of the run; 0 while it is unknown.
    pub total: u64,
    /// Rows with an outcome: answered, failed and reused.
    pub done: u64,
    /// The part of `done` that failed.
    pub failed: u64,
    /// The part of `done` that an earlier run answered; it does not count as speed.
    pub reused: u64,
    /// Requests sent and not yet answered.
    pub in_flight: u64,
    /// Prompt and completion tokens of this run, without reused rows.
    pub tokens: u64,
    /// Cost of the job so far, earlier runs included; `None`: a price is unknown.
    pub cost: Option<Nanos>,
    /// The part of `cost` that this run added.
    pub new_cost: Nanos,
    /// The reason why llbatch sends nothing at the moment, and the end of that wait.
    pub waiting: Option<(String, Instant)>,
    /// Requests per second that the limiter allows at the moment.
    pub rate_limit: Option<f64>,
}

/// A wait for batches at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchCounts {
    /// The job's id.
    pub job: String,
    /// Batches of the job.
    pub batches: usize,
    /// The part of them that has ended.
    pub ended: usize,
    /// Rows of all batches.
    pub total: u64,
    /// Rows that are done, by the progress that the service reports.
    pub done: u64,
    /// The time since the first batch was created.
    pub elapsed: Option<Duration>,
    /// The time until the service ends the last open batch.
    pub left: Option<Duration>,
    /// The estimated cost of the job.
    pub cost: Option<Nanos>,
    /// The time until the next poll.
    pub poll: Duration,
}
