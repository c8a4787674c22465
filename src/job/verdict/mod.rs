//! The verdict on a job: its state, the exit code of the command, the reason, and the next command.
//!
//! One pure function decides for both transports and for every command, so no two reports disagree.

mod facts;
mod next;
mod steps;

pub use facts::cancelling_since;

use super::batch::ADOPTED;
use super::spec::Spec;
use super::stop::Stop;
use crate::context::Ctx;
use crate::error::{Error, Exit};
use crate::store::{Job, JobBatch, JobState, Transport};
use crate::summary::{JobTime, Meta};
use crate::text;
pub use next::Next;
pub use steps::NextSteps;

/// Facts about a job, as one command finds them.
#[derive(Debug, Clone)]
pub struct JobFacts {
    /// The transport that the job began with.
    pub transport: Transport,
    /// Its rows by fate.
    pub rows: RowFacts,
    /// It has no rows, because its shard has none.
    pub empty: bool,
    /// Its batches by progress.
    pub batches: BatchFacts,
    /// The command that asks for the verdict.
    pub command: JobCommand,
    /// The reason for a stop before the end of the job.
    pub stop: Option<Stop>,
    /// The job has a lock holder at this moment.
    pub busy: bool,
    /// A command has concluded the job. A realtime run does so after it has written the results.
    pub concluded: bool,
    /// The state of a job that another process has finished, if this command stopped before it wrote the results again. A
    /// stop does not change that state.
    pub kept_state: Option<JobState>,
}

/// Rows of a job by fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowFacts {
    /// All rows.
    pub total: u64,
    /// Answered rows.
    pub succeeded: u64,
    /// Rows with an error.
    pub failed: u64,
    /// The part of `failed` that the user cancelled.
    pub cancelled: u64,
    /// A retry may answer some of the failed rows.
    pub retryable: bool,
}

/// Batches of a job by progress.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BatchFacts {
    /// All batches.
    pub total: usize,
    /// Batches that are still to be created, or whose creation is in doubt.
    pub waiting: usize,
    /// Those of them that the service did not begin; a command that waits makes them again.
    pub postponed: usize,
    /// The reason why the service did not begin the first of them.
    pub why_postponed: Option<String>,
    /// Those of them that the service was never asked for.
    pub never_asked: usize,
    /// Uncollected batches that the service refused.
    pub refused: usize,
    /// Batches that the service works on.
    pub live: usize,
    /// Ended batches whose results the store lacks.
    pub uncollected: usize,
    /// The end that the service reports, of the uncollected batches if there are any, else of all.
    pub word: Option<JobState>,
    /// The user has cancelled one of them.
    pub cancelled: bool,
    /// The service is cancelling all batches that have not ended, and there is one.
    pub cancelling: bool,
    /// Description of a broken contract of the service.
    pub broken: Option<String>,
}

/// The command that asks for a verdict, as far as the next command depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobCommand {
    /// `run`
    Run {
        /// The command line names the input.
        input: bool,
        /// The command line has a `--max-cost`.
        max_cost: bool,
    },
    /// The realtime part of `retry`, `submit --via auto` or `submit --rescue`.
    RealtimePart,
    /// `submit`, or `retry` in batches. It returns once the service has the batches.
    Submit {
        /// The command is `retry`.
        again: bool,
    },
    /// `submit --wait`, while batches are open.
    SubmitWait,
    /// `fetch`, before the end of the job.
    Fetch {
        /// The command has waited (`--wait`).
        waited: bool,
    },
    /// `retry`, before it sends anything.
    Retry,
    /// `wait`
    Wait,
    /// `cancel`
    Cancel,
    /// `status`
    Status {
        /// A command has written the results.
        delivered: bool,
    },
    /// A command that writes the results of batches or reports on them.
    Other,
}

/// The state of a job, the exit code of the command with its reason, and the next command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The state of the job.
    pub state: JobState,
    /// The exit code.
    pub exit: Exit,
    /// The reason in a few words.
    pub reason: String,
    /// The command that continues from here, if there is one.
    pub next: Option<Next>,
    /// The hint of a command that shows no summary.
    pub steps: Option<NextSteps>,
}

impl Verdict {
    /// Frames the figures of results files, which belong to no job.
    pub fn meta_of_files(&self) -> Meta {
        Meta {
            job: None,
            name: None,
            started_at: None,
            transport: None,
            sandbox: false,
            state: self.state.as_str().to_owned(),
            time: JobTime::default(),
            batched: false,
            exit: self.exit,
            reason: self.reason.clone(),
            next: None,
            routes: Vec::new(),
        }
    }

    /// Decides from the facts alone.
    pub fn of(facts: &JobFacts) -> Self {
        let state = facts.state();
        let (exit, reason) = facts.exit(state);
        Self { state, exit, reason, next: facts.next(exit, state), steps: NextSteps::of(facts) }
    }

    /// Returns true if the results hold every row, so that they may replace those of before.
    pub(super) const fn is_whole(&self) -> bool {
        matches!(self.exit, Exit::Ok | Exit::RowsFailed)
    }

    /// Adds an error that came after the end of the job. It changes the exit code of the command, not the job.
    pub fn and(self, error: &Error) -> Self {
        if self.exit.worst(error.exit) == self.exit {
            return self;
        }
        Self { exit: error.exit, reason: error.to_string(), ..self }
    }

    /// Builds the error of a command that ends before its job, with `message` and the steps for the job `id`.
    pub fn error(&self, message: String, id: &str, flags: &str) -> Error {
        let error = Error::new(self.exit, message);
        match self.steps {
            Some(steps) => error.hint(steps.text(id, flags)),
            None => error,
        }
    }

    /// Builds the part of a summary beside the totals. `time` is the time shown.
    pub fn meta(&self, job: &Job, spec: &Spec, time: JobTime, ctx: &Ctx) -> Meta {
        Meta {
            job: Some(job.id.clone()),
            name: job.name.clone(),
            started_at: Some(jiff::Timestamp::from_millisecond(job.created_at).unwrap_or_default().to_string()),
            transport: Some(job.transport.as_str().to_owned()),
            sandbox: job.is_of_sandbox(),
            state: self.state.as_str().to_owned(),
            time,
            batched: false,
            exit: self.exit,
            reason: self.reason.clone(),
            next: self.next.map(|next| next.command(&job.id, &spec.flags(ctx), ctx)),
            routes: spec.routes.clone(),
        }
    }
}

/// Returns true for a job of a shard without rows. The rows of an adopted batch are counted later.
pub(super) fn is_empty(job: &Job) -> bool {
    job.total == 0 && !job.key.starts_with(ADOPTED)
}

impl JobFacts {
    /// Gathers the facts for a command that does not end the job itself: it lists it, reports on it, or still works on it.
    pub fn seen(job: &Job, rows: RowFacts, batches: &[JobBatch], busy: bool) -> Self {
        Self {
            transport: job.transport,
            rows,
            empty: is_empty(job),
            batches: BatchFacts::of(batches),
            command: JobCommand::Other,
            stop: None,
            busy,
            concluded: job.state.ended(),
            kept_state: None,
        }
    }

    /// The facts of rows in files, without a job.
    pub fn of_rows(rows: RowFacts) -> Self {
        Self {
            transport: Transport::Realtime,
            rows,
            empty: false,
            batches: BatchFacts::default(),
            command: JobCommand::Other,
            stop: None,
            busy: false,
            concluded: true,
            kept_state: None,
        }
    }

    /// Returns the state alone, for lists of jobs.
    pub fn state(&self) -> JobState {
        if let Some(state) = self.kept_state {
            return state;
        }
        let (rows, batches) = (self.rows, &self.batches);
        let unfinished = |working| if self.busy { working } else { JobState::Interrupted };
        if batches.waiting > 0 {
            return unfinished(JobState::Preparing);
        }
        if batches.live > 0 {
            return JobState::Running;
        }
        if batches.uncollected > 0 {
            return batches.word.unwrap_or(JobState::Failed);
        }
        if !self.empty && !rows.all_ended() {
            let planned = self.transport == Transport::Realtime || batches.total > 0;
            return unfinished(if planned { JobState::Running } else { JobState::Preparing });
        }
        if !self.is_written() {
            return unfinished(JobState::Running);
        }
        match (rows.succeeded, rows.failed) {
            (_, 0) => JobState::Completed,
            _ if batches.cancelled => JobState::Cancelled,
            (0, _) if batches.word == Some(JobState::Expired) => JobState::Expired,
            (0, _) => JobState::Failed,
            _ => JobState::Partial,
        }
    }

    /// Returns false for a realtime run that has not written its results: it still works, or it stopped and the same
    /// command resumes it at no cost. A job with batches needs no run, because `fetch` writes its results.
    const fn is_written(&self) -> bool {
        self.concluded || matches!(self.transport, Transport::Batch) || (self.batches.total > 0 && !self.busy)
    }

    fn exit(&self, state: JobState) -> (Exit, String) {
        match self.command {
            JobCommand::Submit { again } => return self.submitted(again),
            JobCommand::Cancel => return (Exit::Ok, "cancelled".to_owned()),
            _ => {}
        }
        let mut all = Vec::new();
        if let Some(stop) = &self.stop {
            // The stop explains the remaining rows.
            all.push((stop.exit, stop.reason.clone()));
        } else if let Some(why) = self.stuck() {
            all.push((Exit::Failure, why));
        } else if let Some(why) = self.unfinished(state) {
            all.push((Exit::TempFail, why));
        } else if self.rows.left() > 0 {
            let rows = text::plural(self.rows.left(), "row");
            all.push((Exit::Failure, format!("no result for {rows}; please report this bug")));
        } else if self.rows.failed > 0 {
            all.push((Exit::RowsFailed, self.rows.without_answer()));
        }
        // An earlier batch does not end a command that sends rows again, or that shows no results yet.
        let shown = matches!(self.command, JobCommand::Wait | JobCommand::Status { .. } | JobCommand::Other);
        if let Some(broken) = self.batches.broken.as_ref().filter(|_| shown) {
            all.push((Exit::Protocol, broken.clone()));
        }
        let worst = all.into_iter().reduce(|a, b| if a.0.worst(b.0) == a.0 { a } else { b });
        worst.unwrap_or((Exit::Ok, "done".to_owned()))
    }

    /// Decides for a command that returns once the service has the batches. `again`: it sends only rows without an answer, so
    /// without a batch there was none that a retry could answer. A first submission makes no batch if no row is valid.
    fn submitted(&self, again: bool) -> (Exit, String) {
        let BatchFacts { postponed, refused, .. } = self.batches;
        if postponed > 0 {
            let why = self.batches.why_postponed.as_deref().unwrap_or("no reason given");
            return (Exit::TempFail, format!("the service did not begin {}: {why}", text::batches(postponed)));
        }
        if refused > 0 {
            return (Exit::RowsFailed, format!("the service refused {}", text::batches(refused)));
        }
        let none = if again { self.batches.open() } else { self.batches.total } == 0;
        if none && self.rows.failed > 0 {
            return (Exit::RowsFailed, self.rows.without_answer());
        }
        (Exit::Ok, "submitted".to_owned())
    }

    /// Returns the reason why no wait brings the job to its end: its command stopped before it asked the service for a batch,
    /// and no other has come to its end.
    pub fn stuck(&self) -> Option<String> {
        let never_asked = self.batches.never_asked;
        if self.is_unplanned() {
            return Some("it was stopped before its batches were planned, and nothing was sent".to_owned());
        }
        let only_these = !self.busy && never_asked > 0 && never_asked == self.batches.open();
        only_these.then(|| format!("its command stopped before it submitted {}", text::batches(never_asked)))
    }

    /// Returns true for a batch job whose command was killed before it had planned the batches. Only that command can.
    pub(super) const fn is_unplanned(&self) -> bool {
        let untouched = self.rows.succeeded + self.rows.failed == 0 && self.batches.total == 0;
        untouched && !self.empty && !self.busy && matches!(self.transport, Transport::Batch)
    }

    /// Returns the reason why the job has not ended; `None` if it has, or should have.
    fn unfinished(&self, state: JobState) -> Option<String> {
        let BatchFacts { total, uncollected, .. } = self.batches;
        let open = self.batches.open();
        let left = self.rows.left();
        if open > 0 && open == uncollected {
            return Some("not finished yet: its results have not been fetched".to_owned());
        }
        if open > 0 {
            return Some(format!(
                "not finished yet: {open} of {} {} not ended",
                text::batches(total),
                text::have(open)
            ));
        }
        if self.busy {
            return (!state.ended()).then(|| "still running".to_owned());
        }
        if left > 0 && !(self.concluded && matches!(self.command, JobCommand::Run { .. } | JobCommand::RealtimePart)) {
            return Some(format!("not finished yet: {} to do", text::plural(left, "row")));
        }
        (!self.is_written()).then(|| "not finished yet: its results were not written".to_owned())
    }

    fn next(&self, exit: Exit, state: JobState) -> Option<Next> {
        if exit == Exit::Ok {
            return None;
        }
        if state.ended() && self.batches.uncollected == 0 && self.stop.is_none() {
            return self.rows.retryable.then(|| self.send_again());
        }
        match self.command {
            // The user must decide how much more the job may cost.
            JobCommand::Run { max_cost: true, input } if self.stop.as_ref().is_some_and(|stop| stop.over_budget) => {
                Some(if input { Next::SameCommandMore } else { Next::SameCommandResumeJobMore })
            }
            JobCommand::Run { input: true, .. } if state.ended() => Some(Next::SameCommandResume),
            JobCommand::Run { input: true, .. } => Some(Next::SameCommand),
            JobCommand::Run { input: false, .. } => Some(Next::SameCommandResumeJob),
            // All rows are in the store: only their results are missing.
            JobCommand::RealtimePart if self.rows.left() == 0 && !self.rows.retryable => Some(Next::FetchWait),
            JobCommand::RealtimePart => Some(Next::RetryRealtime),
            _ => self.go_on(),
        }
    }

    /// Returns the command that sends the failed rows of an ended job again.
    const fn send_again(&self) -> Next {
        match self.command {
            JobCommand::Run { input: true, .. } => Next::SameCommandResume,
            JobCommand::Run { input: false, .. } => Next::SameCommandResumeJob,
            JobCommand::RealtimePart => Next::RetryRealtime,
            _ => Next::Retry,
        }
    }

    /// Returns the command that continues an open job, for a command that has sent nothing itself.
    fn go_on(&self) -> Option<Next> {
        let BatchFacts { waiting, postponed, .. } = self.batches;
        if waiting > postponed && !self.busy {
            return Some(Next::Retry);
        }
        if self.batches.open() > 0 {
            return Some(Next::FetchWait);
        }
        match self.transport {
            _ if self.busy || self.is_unplanned() => None,
            Transport::Batch => Some(Next::Retry),
            Transport::Realtime => Some(Next::ResumeRun),
        }
    }
}

/// Returns a job's state by its batches and the counts in its entry.
pub(super) fn state_of(job: &Job, batches: &[JobBatch], busy: bool) -> JobState {
    JobFacts::seen(job, RowFacts::counted(job), batches, busy).state()
}

#[cfg(test)]
mod tests;
