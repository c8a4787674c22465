//! A user's request for a job, the same for both transports.

use std::path::PathBuf;
use std::time::Duration;

use crate::input::ReadOptions;
use crate::money::budget::Remaining;
use crate::objects::shown_path;
use crate::price::Nanos;
use crate::realtime;
use crate::request::Params;
use crate::results::Delivery;
use crate::store::{LockWait, Tags};

/// A request to start a job or to go on with one.
#[derive(Debug)]
pub struct Ask {
    /// The rows to work on.
    pub start: Start,
    /// Treatment of invalid rows.
    pub problems: ProblemPolicy,
    /// `--name`
    pub name: Option<String>,
    /// `--tag`: tags that the job gets beside those that it has.
    pub tags: Tags,
    /// Limits of cost.
    pub limit: CostLimit,
    /// Maximum wait for the lock holder of the job.
    pub wait: LockWait,
    /// Requests that are not sent, because an equal one is answered.
    pub once: OnceAsk,
}

/// Requests that are not sent, because an equal one is answered.
#[derive(Debug, Clone, Default)]
pub struct OnceAsk {
    /// `--dedupe`: equal requests are sent once. A job remembers it.
    pub dedupe: bool,
    /// `--reuse`, `--reuse-from`
    pub earlier: Option<EarlierAsk>,
    /// `--answers`, an absolute path. A job remembers it.
    pub answers: Option<PathBuf>,
}

/// Earlier jobs whose answers are taken.
#[derive(Debug, Clone, Default)]
pub struct EarlierAsk {
    /// The largest age of a job.
    pub max_age: Option<Duration>,
    /// The only job, or a directory of sealed answers. `None`: all jobs.
    pub from: Option<String>,
}

/// The rows that a job works on.
#[derive(Debug)]
pub enum Start {
    /// The rows of an input.
    New {
        /// The input.
        input: InputSpec,
        /// `--resume=JOB`: the job whose answers are reused.
        resume: Option<String>,
    },
    /// The rows of an existing job.
    Continue {
        /// Its id or name.
        job: String,
        /// The flags that shape requests, if the user typed any. They must equal those of the job's first command.
        flags: Option<RequestFlags>,
    },
}

impl Start {
    /// Returns whether the user names the job: it is not found by the command alone.
    pub const fn names_job(&self) -> bool {
        matches!(self, Self::New { resume: Some(_), .. } | Self::Continue { .. })
    }
}

/// An input and the settings of its requests.
#[derive(Debug, Clone)]
pub struct InputSpec {
    /// The source of its rows.
    pub source: InputSource,
    /// The settings of its requests.
    pub flags: RequestFlags,
}

/// The source of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSource {
    /// Files, as typed.
    Files(Vec<PathBuf>),
    /// Standard input.
    Stdin,
}

/// Flags that decide how rows are read and which request each becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestFlags {
    /// The reading of the input.
    pub reading: ReadOptions,
    /// Parameters of every request.
    pub params: Params,
}

/// Treatment of invalid rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemPolicy {
    /// `--skip-invalid`: they become failed outcomes.
    pub skip_invalid: bool,
    /// `--max-problems`: how many are listed.
    pub listed: usize,
}

/// Limits of cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostLimit {
    /// `--max-cost`, or the shard's part of it.
    pub max_cost: Option<Nanos>,
    /// The shards that divide it.
    pub shards: u64,
    /// `--allow-unpriced`
    pub allow_unpriced: bool,
}

impl CostLimit {
    /// The whole of `--max-cost`, for work that has cost nothing so far.
    pub fn remaining(self) -> Option<Remaining> {
        self.max_cost.map(|limit| Remaining::of_max_cost(limit, self.shards))
    }
}

/// A request to answer rows in real time.
#[derive(Debug)]
pub struct RunAsk {
    /// The part that every job needs.
    pub job: Ask,
    /// Earlier answers to reuse.
    pub reuse: Reuse,
    /// Failed rows to send again.
    pub retry: RetryFilter,
    /// The command that runs.
    pub role: Role,
    /// Speed and patience of sending.
    pub speed: realtime::SpeedOptions,
    /// Destination of the results.
    pub delivery: Delivery,
}

/// Earlier answers that a run reuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// The answers of the same command, if it was interrupted.
    Interrupted,
    /// None.
    Nothing,
    /// The answers of the same command, however it ended, or of the named job.
    Last,
}

/// Failed rows that are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryFilter {
    /// None: the job stays as it is.
    Nothing,
    /// Rows that a retry may answer.
    Retryable,
    /// All.
    All,
}

/// The command that a run serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `run`: `--max-cost` counts from the beginning of the job. If another process has finished the job meanwhile,
    /// `run` adopts the result.
    Run,
    /// `retry --via realtime` or a rescue: `--max-cost` counts for this command alone.
    Retry,
    /// The realtime part of `submit --via auto`. It leaves rows to a batch that may still answer them.
    BesideBatches,
}

impl RunAsk {
    /// Builds the realtime part of a command on an existing job. It sends the rows without an answer and keeps the
    /// results in the store.
    pub const fn part_of(
        job: String,
        role: Role,
        limit: CostLimit,
        wait: LockWait,
        speed: realtime::SpeedOptions,
    ) -> Self {
        Self {
            job: Ask {
                start: Start::Continue { job, flags: None },
                problems: ProblemPolicy { skip_invalid: true, listed: 0 },
                name: None,
                tags: Tags::new(),
                limit,
                wait,
                once: OnceAsk { dedupe: false, earlier: None, answers: None },
            },
            reuse: Reuse::Last,
            retry: RetryFilter::Retryable,
            role,
            speed,
            delivery: Delivery::nowhere(),
        }
    }
}

impl Role {
    /// Returns true if the command adopts the result of a job that another process has finished meanwhile.
    pub(super) const fn adopts_result(self) -> bool {
        matches!(self, Self::Run)
    }

    /// Returns true if `--max-cost` counts the cost of the whole job.
    pub(super) const fn limits_whole_job(self) -> bool {
        matches!(self, Self::Run)
    }
}

impl InputSource {
    /// Returns the files, none for standard input.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Self::Files(files) => files,
            Self::Stdin => &[],
        }
    }

    /// Returns the source as the user typed it, without the secrets of URLs.
    pub fn shown(&self) -> String {
        match self {
            Self::Files(files) => files.iter().map(|path| shown_path(path)).collect::<Vec<_>>().join(" "),
            Self::Stdin => "-".to_owned(),
        }
    }
}
