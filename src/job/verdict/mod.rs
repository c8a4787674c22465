//! The verdict on a job: its state, the exit code of the command, the reason, and the next command.
//!
//! One pure function decides for both transports and for every command, so no two reports disagree.

use super::spec::Spec;
use super::stop::Stop;
use crate::context::Ctx;
use crate::error::Exit;
use crate::store::{BatchStep, Job, JobBatch, JobState, Transport};
use crate::summary::{JobTime, Meta, Totals};
use crate::text;

/// Facts about a job, as one command finds them.
#[derive(Debug, Clone)]
pub struct JobFacts {
    /// The transport that the job began with.
    pub transport: Transport,
    /// Its rows by fate.
    pub rows: RowFacts,
    /// Its batches by progress.
    pub batches: BatchFacts,
    /// The command that asks for the verdict.
    pub command: Asker,
    /// The reason for a stop before the end of the job.
    pub stop: Option<Stop>,
    /// The job has a lock holder at this moment.
    pub busy: bool,
    /// A command has concluded the job. A realtime run does so after it has written the results.
    pub concluded: bool,
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
    /// Those of them that the service was never asked for.
    pub unsent: usize,
    /// Batches that the service works on.
    pub live: usize,
    /// Ended batches whose results the store lacks.
    pub uncollected: usize,
    /// The end that the service reports, of the uncollected batches if there are any, else of all.
    pub word: Option<JobState>,
    /// The user has cancelled one of them.
    pub cancelled: bool,
    /// Description of a broken contract of the service.
    pub broken: Option<String>,
}

/// The command that asks for a verdict, as far as the next command depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// `run`
    Run {
        /// Its command line names the input.
        input: bool,
        /// It has a `--max-cost`.
        max_cost: bool,
    },
    /// The realtime part of `retry`, `submit --via auto` or `submit --rescue`.
    RealtimePart,
    /// Any command that sends nothing in real time.
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
}

/// A command that continues a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The same command again; it resumes by itself.
    SameCommand,
    /// The same command with `--resume`: it sends the failed rows again.
    SameCommandResume,
    /// The same command with `--resume=JOB` in place of its input.
    SameCommandResumeJob,
    /// `llbatch run --resume=JOB -o FILE`
    ResumeRun,
    /// `llbatch retry JOB`
    Retry,
    /// `llbatch retry JOB --via realtime`
    RetryRealtime,
    /// `llbatch fetch JOB --wait -o FILE`
    FetchWait,
}

impl Verdict {
    /// Decides from the facts alone.
    pub fn of(facts: &JobFacts) -> Self {
        let state = facts.state();
        let (exit, reason) = facts.exit(state);
        Self { state, exit, reason, next: facts.next(exit, state) }
    }

    /// Builds the part of a summary beside the totals. `time` is the time shown.
    pub fn meta(self, job: &Job, spec: &Spec, time: JobTime, ctx: &Ctx) -> Meta {
        Meta {
            job: Some(job.id.clone()),
            name: job.name.clone(),
            started_at: Some(jiff::Timestamp::from_millisecond(job.created_at).unwrap_or_default().to_string()),
            transport: Some(job.transport.as_str().to_owned()),
            sandbox: job.is_rehearsal(),
            state: self.state.as_str().to_owned(),
            time,
            exit: self.exit,
            reason: self.reason,
            next: self.next.map(|next| next.command(&job.id, &spec.service, ctx)),
            routes: spec.routes.clone(),
        }
    }
}

impl JobFacts {
    /// Gathers the facts for a command that does not end the job itself: it lists it, reports on it, or still works on it.
    pub fn seen(job: &Job, rows: RowFacts, batches: &[JobBatch], busy: bool) -> Self {
        Self {
            transport: job.transport,
            rows,
            batches: BatchFacts::of(batches),
            command: Asker::Other,
            stop: None,
            busy,
            concluded: job.state.ended(),
        }
    }

    /// Returns the state alone, for lists of jobs.
    pub fn state(&self) -> JobState {
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
        if !rows.all_ended() {
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
        // A command that sent the rows again in real time does not end by an earlier batch.
        let resent = matches!(self.command, Asker::Run { .. } | Asker::RealtimePart);
        if let Some(broken) = self.batches.broken.as_ref().filter(|_| !resent) {
            all.push((Exit::Protocol, broken.clone()));
        }
        let worst = all.into_iter().reduce(|a, b| if a.0.worst(b.0) == a.0 { a } else { b });
        worst.unwrap_or((Exit::Ok, "done".to_owned()))
    }

    /// Returns the reason why no wait brings the job to its end: its command stopped before it asked the service for a batch,
    /// and no other has come to its end.
    pub fn stuck(&self) -> Option<String> {
        let BatchFacts { waiting, unsent, live, uncollected, .. } = self.batches;
        if self.is_unplanned() {
            return Some("it was stopped before its batches were planned, and nothing was sent".to_owned());
        }
        let only_unsent = !self.busy && unsent > 0 && unsent == waiting + live + uncollected;
        only_unsent.then(|| format!("its command stopped before it submitted {}", text::batches(unsent)))
    }

    /// Returns true for a batch job whose command was killed before it had planned the batches. Only that command can.
    const fn is_unplanned(&self) -> bool {
        let untouched = self.rows.succeeded + self.rows.failed == 0 && self.batches.total == 0;
        untouched && !self.busy && matches!(self.transport, Transport::Batch)
    }

    /// Returns the reason why the job has not ended; `None` if it has, or should have.
    fn unfinished(&self, state: JobState) -> Option<String> {
        let BatchFacts { total, waiting, live, uncollected, .. } = self.batches;
        let open = waiting + live + uncollected;
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
        if left > 0 && !(self.concluded && matches!(self.command, Asker::Run { .. } | Asker::RealtimePart)) {
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
            Asker::Run { max_cost: true, .. } if self.stop.as_ref().is_some_and(|stop| stop.over_budget) => None,
            Asker::Run { input: true, .. } if state.ended() => Some(Next::SameCommandResume),
            Asker::Run { input: true, .. } => Some(Next::SameCommand),
            Asker::Run { input: false, .. } => Some(Next::SameCommandResumeJob),
            // All rows are in the store: only their results are missing.
            Asker::RealtimePart if self.rows.left() == 0 && !self.rows.retryable => Some(Next::FetchWait),
            Asker::RealtimePart => Some(Next::RetryRealtime),
            Asker::Other => self.go_on(),
        }
    }

    /// Returns the command that sends the failed rows of an ended job again.
    const fn send_again(&self) -> Next {
        match self.command {
            Asker::Run { input: true, .. } => Next::SameCommandResume,
            Asker::Run { input: false, .. } => Next::SameCommandResumeJob,
            Asker::RealtimePart => Next::RetryRealtime,
            Asker::Other => Next::Retry,
        }
    }

    /// Returns the command that continues an open job, for a command that has sent nothing itself.
    fn go_on(&self) -> Option<Next> {
        let BatchFacts { waiting, postponed, live, uncollected, .. } = self.batches;
        if waiting > postponed && !self.busy {
            return Some(Next::Retry);
        }
        if waiting + live + uncollected > 0 {
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
pub fn state_of(job: &Job, batches: &[JobBatch], busy: bool) -> JobState {
    JobFacts::seen(job, RowFacts::counted(job), batches, busy).state()
}

impl RowFacts {
    /// Builds the facts from the counts in the job's entry, which do not tell whether a retry may help.
    pub const fn counted(job: &Job) -> Self {
        Self { total: job.total, succeeded: job.succeeded, failed: job.failed, cancelled: 0, retryable: false }
    }

    /// Builds the facts from the fold of all outcomes.
    pub fn of(total: u64, totals: &Totals) -> Self {
        let retryable = totals.failures().any(|code| !code.is_permanent());
        let (succeeded, failed, cancelled) = (totals.succeeded(), totals.failed(), totals.cancelled());
        Self { total, succeeded, failed, cancelled, retryable }
    }

    /// Describes the rows that have an error.
    fn without_answer(self) -> String {
        let failed = self.failed.saturating_sub(self.cancelled);
        let rows = |n| text::plural(n, "row");
        match (failed, self.cancelled) {
            (failed, 0) => format!("{} failed", rows(failed)),
            (0, cancelled) => format!("{} cancelled", rows(cancelled)),
            (failed, cancelled) => format!("{} failed, {} cancelled", rows(failed), text::count(cancelled)),
        }
    }

    const fn left(self) -> u64 {
        self.total.saturating_sub(self.succeeded + self.failed)
    }

    const fn all_ended(self) -> bool {
        self.total > 0 && self.left() == 0
    }
}

impl BatchFacts {
    /// Builds the facts from the job's batches.
    pub fn of(batches: &[JobBatch]) -> Self {
        let waits =
            |batch: &&JobBatch| matches!(batch.step, BatchStep::Planned | BatchStep::Uploaded | BatchStep::Creating);
        let ended = |batch: &&JobBatch| batch.is_open() && batch.ended && !waits(batch);
        let uncollected = batches.iter().filter(ended).count();
        let word = if uncollected > 0 { word_of(batches.iter().filter(ended)) } else { word_of(batches.iter()) };
        Self {
            total: batches.len(),
            waiting: batches.iter().filter(waits).count(),
            postponed: batches.iter().filter(|batch| batch.is_postponed()).count(),
            unsent: batches.iter().filter(|batch| batch.is_unsent() && !batch.is_postponed()).count(),
            live: batches.iter().filter(|batch| batch.is_open() && !batch.ended && !waits(batch)).count(),
            uncollected,
            word,
            cancelled: batches.iter().any(|batch| batch.cancel),
            broken: batches.iter().find_map(|batch| batch.broken.clone()),
        }
    }
}

/// Returns the end that the service reports of these batches, before llbatch has read their rows.
fn word_of<'a>(batches: impl Iterator<Item = &'a JobBatch>) -> Option<JobState> {
    let mut states = batches.map(|batch| match batch.status.as_deref() {
        Some("COMPLETED") => JobState::Completed,
        Some("EXPIRED") => JobState::Expired,
        Some("CANCELLED") => JobState::Cancelled,
        _ => JobState::Failed,
    });
    let first = states.next()?;
    Some(if states.all(|state| state == first) { first } else { JobState::Partial })
}

impl Next {
    /// Spells the command for the user to type, for the job `id` of `service`.
    pub fn command(self, id: &str, service: &str, ctx: &Ctx) -> String {
        let flags = ctx.flags(service);
        match self {
            Self::SameCommand => ctx.again(&["--fresh"], &[]),
            Self::SameCommandResume => ctx.again(&["--resume", "--fresh"], &["--resume".to_owned()]),
            Self::SameCommandResumeJob => ctx.again(&["--resume", "--fresh", "-"], &[format!("--resume={id}")]),
            Self::ResumeRun => format!("llbatch run{flags} --resume={id} -o FILE"),
            Self::Retry => format!("llbatch retry {id}{flags}"),
            Self::RetryRealtime => format!("llbatch retry {id}{flags} --via realtime"),
            Self::FetchWait => format!("llbatch fetch {id}{flags} --wait -o FILE"),
        }
    }
}

#[cfg(test)]
mod tests;
