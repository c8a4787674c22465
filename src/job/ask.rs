//! What the user asks of a job.

use std::path::PathBuf;

use crate::input::Format;
use crate::price::Nanos;
use crate::realtime;
use crate::request::Params;
use crate::results::Delivery;
use crate::store::Turn;

/// What the user asked for.
#[derive(Debug)]
pub struct Plan {
    /// Files.
    pub inputs: Vec<PathBuf>,
    /// The input comes through a pipe.
    pub stdin: bool,
    /// Flags say something about requests or how to read them.
    pub shaped: bool,
    /// `--input-format`
    pub input_format: Option<Format>,
    /// What the flags ask of every request.
    pub params: Params,
    /// `--skip-invalid`
    pub skip_invalid: bool,
    /// `--max-problems`
    pub max_problems: usize,
    /// `--name`
    pub name: Option<String>,
    /// Which answers to take over.
    pub resume: Resume,
    /// Which failed rows are sent again.
    pub again: Again,
    /// Rows that a batch may still answer are left to it; otherwise such a job is refused.
    pub beside_batches: bool,
    /// How long to wait for another process that works on the same.
    pub turn: Turn,
    /// A job that another process finished while this one waited for it is taken as it is: nothing of it is sent again.
    pub takes_over: bool,
    /// `--max-cost`
    pub max_cost: Option<Nanos>,
    /// It counts what the job has cost from its beginning, not this command alone.
    pub whole_job: bool,
    /// `--allow-unpriced`
    pub allow_unpriced: bool,
    /// How to send.
    pub options: realtime::SendOptions,
    /// Where results go.
    pub delivery: Delivery,
    /// The service as it is told apart: its base URL, or `sandbox`.
    pub service: String,
    /// As accounts are told apart: a hash of the key.
    pub account: String,
}

/// Which answers to take over from earlier runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Those of the same command, if it was interrupted.
    Auto,
    /// None.
    Fresh,
    /// Those of the same command, however it ended.
    Last,
    /// Those of this job.
    Job(String),
}

/// Which failed rows are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// None: the job is taken as it is.
    None,
    /// Those where it may help.
    Passing,
    /// All.
    All,
}
