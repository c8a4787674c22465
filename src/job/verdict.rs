//! The verdict on a job: its state, the exit code of the command, the reason, and the next command.
//!
//! One pure function decides for both transports and for every command, so no two reports disagree.

use std::time::Duration;

use super::spec::Spec;
use super::stop::Stop;
use crate::context::Ctx;
use crate::error::Exit;
use crate::store::{BatchStep, Job, JobBatch, JobState, Transport};
use crate::summary::{Meta, Totals};
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

    /// Builds the part of a summary beside the totals. `duration` is the time shown.
    pub fn meta(self, job: &Job, spec: &Spec, duration: Duration, ctx: &Ctx) -> Meta {
        Meta {
            job: Some(job.id.clone()),
            transport: Some(job.transport.as_str().to_owned()),
            state: self.state.as_str().to_owned(),
            duration,
            exit: self.exit,
            reason: self.reason,
            next: self.next.map(|next| next.command(&job.id, &spec.service, ctx)),
            routes: spec.routes.clone(),
        }
    }
}

impl JobFacts {
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

    /// Returns false for a realtime run that stopped before it wrote its results: the same command resumes it at no
    /// cost.
    const fn is_written(&self) -> bool {
        self.concluded || self.batches.total > 0 || matches!(self.transport, Transport::Batch)
    }

    fn exit(&self, state: JobState) -> (Exit, String) {
        let mut all = Vec::new();
        if let Some(stop) = &self.stop {
            // The stop explains the remaining rows.
            all.push((stop.exit, stop.reason.clone()));
        } else if let Some(why) = self.unfinished(state) {
            all.push((Exit::TempFail, why));
        } else if self.rows.left() > 0 {
            let rows = text::plural(self.rows.left(), "row");
            all.push((Exit::Failure, format!("no result for {rows}; please report this bug")));
        } else if self.rows.failed > 0 {
            all.push((Exit::RowsFailed, format!("{} failed", text::plural(self.rows.failed, "row"))));
        }
        // A command that sent the rows again in real time does not end by an earlier batch.
        let resent = matches!(self.command, Asker::Run { .. } | Asker::RealtimePart);
        if let Some(broken) = self.batches.broken.as_ref().filter(|_| !resent) {
            all.push((Exit::Protocol, broken.clone()));
        }
        let worst = all.into_iter().reduce(|a, b| if a.0.worst(b.0) == a.0 { a } else { b });
        worst.unwrap_or((Exit::Ok, "done".to_owned()))
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
        let BatchFacts { waiting, live, uncollected, .. } = self.batches;
        if waiting > 0 && !self.busy {
            return Some(Next::Retry);
        }
        if waiting + live + uncollected > 0 {
            return Some(Next::FetchWait);
        }
        match self.transport {
            _ if self.busy => None,
            Transport::Batch => Some(Next::Retry),
            Transport::Realtime => Some(Next::ResumeRun),
        }
    }
}

impl RowFacts {
    /// Builds the facts from the fold of all outcomes.
    pub fn of(total: u64, totals: &Totals) -> Self {
        let retryable = totals.failures().any(|code| !code.is_permanent());
        Self { total, succeeded: totals.succeeded(), failed: totals.failed(), retryable }
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
mod tests {
    use super::*;
    use crate::outcome::ErrorCode;

    const RUN: Asker = Asker::Run { input: true, max_cost: false };
    const RUN_JOB: Asker = Asker::Run { input: false, max_cost: false };

    fn rows(succeeded: u64, failed: u64) -> RowFacts {
        RowFacts { total: 4, succeeded, failed, retryable: failed > 0 }
    }

    fn none() -> BatchFacts {
        BatchFacts::default()
    }

    /// Two batches: so many wait, are live, have ended without being collected; the others are settled.
    fn batches(waiting: usize, live: usize, uncollected: usize, word: JobState) -> BatchFacts {
        BatchFacts { total: 2, waiting, live, uncollected, word: Some(word), ..BatchFacts::default() }
    }

    fn stop(exit: Exit) -> Stop {
        Stop {
            exit,
            reason: "stopped here".to_owned(),
            pending: ErrorCode::Interrupted,
            over_budget: exit == Exit::Budget,
        }
    }

    fn facts(transport: Transport, rows: RowFacts, batches: BatchFacts, command: Asker) -> JobFacts {
        JobFacts { transport, rows, batches, command, stop: None, busy: false, concluded: true }
    }

    fn realtime(rows: RowFacts, command: Asker) -> JobFacts {
        facts(Transport::Realtime, rows, none(), command)
    }

    fn batch(rows: RowFacts, batches: BatchFacts) -> JobFacts {
        facts(Transport::Batch, rows, batches, Asker::Other)
    }

    fn stopped(exit: Exit, facts: JobFacts) -> JobFacts {
        JobFacts { stop: Some(stop(exit)), concluded: false, ..facts }
    }

    fn open(facts: JobFacts) -> JobFacts {
        JobFacts { concluded: false, ..facts }
    }

    fn busy(facts: JobFacts) -> JobFacts {
        JobFacts { busy: true, concluded: false, ..facts }
    }

    fn permanent(facts: JobFacts) -> JobFacts {
        JobFacts { rows: RowFacts { retryable: false, ..facts.rows }, ..facts }
    }

    /// Facts, with the state, the exit code and the next command of their verdict.
    type Case = (JobFacts, JobState, Exit, Option<Next>);

    fn check(cases: impl IntoIterator<Item = Case>) {
        for (facts, state, exit, next) in cases {
            let verdict = Verdict::of(&facts);
            assert_eq!(
                (verdict.state, verdict.exit, verdict.next),
                (state, exit, next),
                "{facts:?}\n{}",
                verdict.reason
            );
        }
    }

    fn settled(word: JobState) -> BatchFacts {
        batches(0, 0, 0, word)
    }

    #[test]
    fn every_end_of_a_realtime_job_has_one_verdict() {
        use JobState::{Completed, Expired, Failed, Interrupted, Partial, Running};
        let capped = Asker::Run { input: true, max_cost: true };
        check([
            // A realtime run that came to its end.
            (realtime(rows(4, 0), RUN), Completed, Exit::Ok, None),
            (realtime(rows(3, 1), RUN), Partial, Exit::RowsFailed, Some(Next::SameCommandResume)),
            (realtime(rows(3, 1), RUN_JOB), Partial, Exit::RowsFailed, Some(Next::SameCommandResumeJob)),
            (realtime(rows(0, 4), RUN), Failed, Exit::RowsFailed, Some(Next::SameCommandResume)),
            (permanent(realtime(rows(0, 4), RUN)), Failed, Exit::RowsFailed, None),
            (realtime(rows(3, 0), RUN), Interrupted, Exit::Failure, Some(Next::SameCommand)),
            // One that was stopped.
            (
                stopped(Exit::Interrupt, realtime(rows(1, 1), RUN)),
                Interrupted,
                Exit::Interrupt,
                Some(Next::SameCommand),
            ),
            (
                stopped(Exit::Auth, realtime(rows(0, 0), RUN_JOB)),
                Interrupted,
                Exit::Auth,
                Some(Next::SameCommandResumeJob),
            ),
            (stopped(Exit::Budget, realtime(rows(1, 0), RUN)), Interrupted, Exit::Budget, Some(Next::SameCommand)),
            (stopped(Exit::Budget, realtime(rows(1, 0), capped)), Interrupted, Exit::Budget, None),
            (
                stopped(Exit::Interrupt, realtime(rows(1, 0), capped)),
                Interrupted,
                Exit::Interrupt,
                Some(Next::SameCommand),
            ),
            (stopped(Exit::Io, realtime(rows(4, 0), RUN)), Interrupted, Exit::Io, Some(Next::SameCommand)),
            (stopped(Exit::Failure, realtime(rows(4, 0), RUN)), Interrupted, Exit::Failure, Some(Next::SameCommand)),
            // The realtime part of a retry or a rescue.
            (realtime(rows(3, 1), Asker::RealtimePart), Partial, Exit::RowsFailed, Some(Next::RetryRealtime)),
            (
                stopped(Exit::TempFail, facts(Transport::Batch, rows(2, 1), settled(Expired), Asker::RealtimePart)),
                Interrupted,
                Exit::TempFail,
                Some(Next::RetryRealtime),
            ),
            // A realtime job that another command looks at.
            (realtime(rows(4, 0), Asker::Other), Completed, Exit::Ok, None),
            (realtime(rows(3, 1), Asker::Other), Partial, Exit::RowsFailed, Some(Next::Retry)),
            (permanent(realtime(rows(3, 1), Asker::Other)), Partial, Exit::RowsFailed, None),
            (open(realtime(rows(2, 1), Asker::Other)), Interrupted, Exit::TempFail, Some(Next::ResumeRun)),
            (open(realtime(rows(4, 0), Asker::Other)), Interrupted, Exit::TempFail, Some(Next::ResumeRun)),
            (busy(realtime(rows(2, 1), Asker::Other)), Running, Exit::TempFail, None),
            // A realtime job that was retried in batches.
            (
                open(facts(Transport::Realtime, rows(3, 0), batches(0, 1, 0, Failed), Asker::Other)),
                Running,
                Exit::TempFail,
                Some(Next::FetchWait),
            ),
        ]);
    }

    #[test]
    fn every_end_of_a_batch_job_has_one_verdict() {
        use JobState::{Cancelled, Completed, Expired, Failed, Interrupted, Partial, Preparing, Running};
        let cancelled = BatchFacts { cancelled: true, ..settled(Cancelled) };
        let broken = BatchFacts { broken: Some("two answers".to_owned()), ..settled(Completed) };
        check([
            // A batch job before its end.
            (busy(batch(rows(0, 0), none())), Preparing, Exit::TempFail, None),
            (batch(rows(0, 0), none()), Interrupted, Exit::TempFail, Some(Next::Retry)),
            (batch(rows(0, 0), batches(1, 1, 0, Failed)), Interrupted, Exit::TempFail, Some(Next::Retry)),
            (busy(batch(rows(0, 0), batches(2, 0, 0, Failed))), Preparing, Exit::TempFail, Some(Next::FetchWait)),
            (batch(rows(0, 0), batches(0, 1, 1, Completed)), Running, Exit::TempFail, Some(Next::FetchWait)),
            (batch(rows(0, 0), batches(0, 0, 2, Completed)), Completed, Exit::TempFail, Some(Next::FetchWait)),
            (batch(rows(2, 0), batches(0, 0, 1, Expired)), Expired, Exit::TempFail, Some(Next::FetchWait)),
            (batch(rows(3, 0), settled(Completed)), Interrupted, Exit::TempFail, Some(Next::Retry)),
            // A batch job whose results are all in.
            (batch(rows(4, 0), settled(Completed)), Completed, Exit::Ok, None),
            (batch(rows(3, 1), settled(Completed)), Partial, Exit::RowsFailed, Some(Next::Retry)),
            (permanent(batch(rows(3, 1), settled(Completed))), Partial, Exit::RowsFailed, None),
            (batch(rows(0, 4), settled(Expired)), Expired, Exit::RowsFailed, Some(Next::Retry)),
            (batch(rows(0, 4), settled(Failed)), Failed, Exit::RowsFailed, Some(Next::Retry)),
            (batch(rows(3, 1), cancelled.clone()), Cancelled, Exit::RowsFailed, Some(Next::Retry)),
            (batch(rows(4, 0), cancelled), Completed, Exit::Ok, None),
            (batch(rows(3, 1), broken.clone()), Partial, Exit::Protocol, Some(Next::Retry)),
            (batch(rows(4, 0), broken), Completed, Exit::Protocol, None),
        ]);
    }

    /// Holds over all combinations, also those that the table does not name.
    #[test]
    fn a_verdict_never_contradicts_itself() {
        let counts = [rows(0, 0), rows(2, 1), rows(4, 0), rows(3, 1), rows(0, 4)];
        let words = [JobState::Completed, JobState::Failed, JobState::Expired, JobState::Cancelled];
        let mut progress = vec![none()];
        for word in words {
            progress.extend(
                [(0, 0, 0), (2, 0, 0), (1, 1, 0), (0, 1, 1), (0, 0, 2)].map(|(w, l, u)| batches(w, l, u, word)),
            );
        }
        let stops = [None, Some(stop(Exit::Interrupt)), Some(stop(Exit::Budget)), Some(stop(Exit::Io))];
        let commands = [RUN, RUN_JOB, Asker::RealtimePart, Asker::Other];
        let mut seen = 0;
        for transport in [Transport::Realtime, Transport::Batch] {
            for (rows, batches) in counts.iter().flat_map(|rows| progress.iter().map(move |batches| (rows, batches))) {
                for (stop, command) in
                    stops.iter().flat_map(|stop| commands.iter().map(move |command| (stop, *command)))
                {
                    for (busy, concluded) in [(false, false), (false, true), (true, false)] {
                        let (rows, batches, stop) = (*rows, batches.clone(), stop.clone());
                        let facts = JobFacts { transport, rows, batches, command, stop, busy, concluded };
                        consistent(&facts);
                        seen += 1;
                    }
                }
            }
        }
        assert!(seen > 5_000, "{seen}");
    }

    fn consistent(facts: &JobFacts) {
        let verdict = Verdict::of(facts);
        let open = facts.batches.waiting + facts.batches.live + facts.batches.uncollected > 0;
        assert!(!verdict.reason.is_empty(), "{facts:?}");
        if verdict.exit == Exit::Ok {
            assert_eq!((verdict.state, verdict.next), (JobState::Completed, None), "{facts:?}");
            assert!(!open && facts.stop.is_none(), "{facts:?}");
        }
        if verdict.exit == Exit::RowsFailed {
            assert!(verdict.state.ended() && facts.rows.failed > 0, "{facts:?}: {verdict:?}");
            assert_eq!(verdict.next.is_some(), facts.rows.retryable, "{facts:?}: {verdict:?}");
        }
        if let Some(stop) = &facts.stop {
            assert_eq!(verdict.exit, stop.exit, "{facts:?}");
        }
        if facts.rows.left() > 0 && !open {
            assert!(!verdict.state.ended(), "rows are left: {facts:?}: {verdict:?}");
        }
        if open && facts.stop.is_none() {
            assert_eq!(verdict.exit, Exit::TempFail, "{facts:?}: {verdict:?}");
        }
    }
}
