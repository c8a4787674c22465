//! A user's request for a job, the same for both transports.

use std::path::PathBuf;

use crate::input::Format;
use crate::price::Nanos;
use crate::realtime;
use crate::request::Params;
use crate::results::Delivery;
use crate::store::LockWait;

/// A request to start a job or to go on with one.
#[derive(Debug)]
pub struct Ask {
    /// The rows to work on.
    pub start: Start,
    /// Treatment of invalid rows.
    pub problems: ProblemPolicy,
    /// `--name`
    pub name: Option<String>,
    /// Limits of cost.
    pub limit: CostLimit,
    /// How long to wait for another process that works on the same job.
    pub wait: LockWait,
}

/// The rows that a job works on.
#[derive(Debug)]
pub enum Start {
    /// Those of an input.
    New {
        /// The input.
        input: InputSpec,
        /// `--resume=JOB`: the job whose answers are reused.
        resume: Option<String>,
    },
    /// Those of a job that exists.
    Continue {
        /// Its id or name.
        job: String,
        /// The flags that shape requests, if any was typed; they must be those that the job began with.
        flags: Option<RequestFlags>,
    },
}

/// An input, and the requests to make of it.
#[derive(Debug, Clone)]
pub struct InputSpec {
    /// Where its rows come from.
    pub source: InputSource,
    /// The requests to make of them.
    pub flags: RequestFlags,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSource {
    /// Files, as typed.
    Files(Vec<PathBuf>),
    /// Standard input.
    Stdin,
}

/// Flags that say how to read rows and what to ask of each.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestFlags {
    /// `--input-format`
    pub format: Option<Format>,
    /// What every request gets.
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
    /// `--max-cost`
    pub max_cost: Option<Nanos>,
    /// `--allow-unpriced`
    pub allow_unpriced: bool,
}

/// A request to answer rows in real time.
#[derive(Debug)]
pub struct RunAsk {
    /// What is asked of any job.
    pub job: Ask,
    /// Earlier answers to reuse.
    pub reuse: Reuse,
    /// Failed rows to send again.
    pub retry: RetryFilter,
    /// The command that asks.
    pub role: Role,
    /// How to send.
    pub options: realtime::SendOptions,
    /// Where results go.
    pub delivery: Delivery,
}

/// Earlier answers that a run reuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Those of the same command, if it was interrupted.
    Interrupted,
    /// None.
    Nothing,
    /// Those of the same command, however it ended; or of the job that is named.
    Last,
}

/// Failed rows that are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryFilter {
    /// None: the job stays as it is.
    Nothing,
    /// Those that another try may help.
    Retryable,
    /// All.
    All,
}

/// The command that a run serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `run`: `--max-cost` counts from the beginning of the job, and a job that another process finished meanwhile is taken
    /// as it is.
    Run,
    /// `retry --via realtime` or a rescue: `--max-cost` counts for this command alone.
    Retry,
    /// The realtime part of `submit --via auto`: rows that a batch may still answer are left to it.
    BesideBatches,
}

impl RunAsk {
    /// The realtime part of a command on a job that exists: it sends the rows without an answer, and leaves the results in the
    /// store.
    pub const fn part_of(
        job: String,
        role: Role,
        limit: CostLimit,
        wait: LockWait,
        options: realtime::SendOptions,
    ) -> Self {
        Self {
            job: Ask {
                start: Start::Continue { job, flags: None },
                problems: ProblemPolicy { skip_invalid: true, listed: 0 },
                name: None,
                limit,
                wait,
            },
            reuse: Reuse::Last,
            retry: RetryFilter::Retryable,
            role,
            options,
            delivery: Delivery::nowhere(),
        }
    }
}

impl Role {
    /// Whether a job that another process has finished meanwhile is taken as it is.
    pub const fn adopts_result(self) -> bool {
        matches!(self, Self::Run)
    }

    /// Whether `--max-cost` counts what the job has cost from its beginning.
    pub const fn limits_whole_job(self) -> bool {
        matches!(self, Self::Run)
    }
}

impl InputSource {
    /// The files, none for standard input.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Self::Files(files) => files,
            Self::Stdin => &[],
        }
    }

    /// The source as it was typed.
    pub fn shown(&self) -> String {
        match self {
            Self::Files(files) => files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" "),
            Self::Stdin => "-".to_owned(),
        }
    }
}
