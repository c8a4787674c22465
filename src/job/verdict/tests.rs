//! Every end of a job has one verdict.

use super::*;
use crate::outcome::ErrorCode;

const RUN: JobCommand = JobCommand::Run { input: true, max_cost: false };
const RUN_JOB: JobCommand = JobCommand::Run { input: false, max_cost: false };

fn rows(succeeded: u64, failed: u64) -> RowFacts {
    RowFacts { total: 4, succeeded, failed, cancelled: 0, retryable: failed > 0 }
}

fn none() -> BatchFacts {
    BatchFacts::default()
}

/// Two batches: so many wait, are live, have ended without being collected; the others are settled.
fn batches(waiting: usize, live: usize, uncollected: usize, word: JobState) -> BatchFacts {
    BatchFacts { total: 2, waiting, live, uncollected, word: Some(word), ..BatchFacts::default() }
}

/// Two batches, of which the service was never asked for so many; it works on the others.
fn never_asked(count: usize) -> BatchFacts {
    BatchFacts { never_asked: count, ..batches(count, 2 - count, 0, JobState::Failed) }
}

fn stop(exit: Exit) -> Stop {
    Stop { exit, reason: "stopped here".to_owned(), pending: ErrorCode::Interrupted, over_budget: exit == Exit::Budget }
}

fn facts(transport: Transport, rows: RowFacts, batches: BatchFacts, command: JobCommand) -> JobFacts {
    JobFacts {
        transport,
        rows,
        empty: false,
        batches,
        command,
        stop: None,
        busy: false,
        concluded: true,
        kept_state: None,
    }
}

fn realtime(rows: RowFacts, command: JobCommand) -> JobFacts {
    facts(Transport::Realtime, rows, none(), command)
}

fn batch(rows: RowFacts, batches: BatchFacts) -> JobFacts {
    facts(Transport::Batch, rows, batches, JobCommand::Other)
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
        assert_eq!((verdict.state, verdict.exit, verdict.next), (state, exit, next), "{facts:?}\n{}", verdict.reason);
    }
}

fn settled(word: JobState) -> BatchFacts {
    batches(0, 0, 0, word)
}

#[test]
fn every_end_of_a_realtime_job_has_one_verdict() {
    use JobState::{Completed, Expired, Failed, Interrupted, Partial, Running};
    let capped = JobCommand::Run { input: true, max_cost: true };
    check([
        // A realtime run that came to its end.
        (realtime(rows(4, 0), RUN), Completed, Exit::Ok, None),
        (realtime(rows(3, 1), RUN), Partial, Exit::RowsFailed, Some(Next::SameCommandResume)),
        (realtime(rows(3, 1), RUN_JOB), Partial, Exit::RowsFailed, Some(Next::SameCommandResumeJob)),
        (realtime(rows(0, 4), RUN), Failed, Exit::RowsFailed, Some(Next::SameCommandResume)),
        (permanent(realtime(rows(0, 4), RUN)), Failed, Exit::RowsFailed, None),
        (realtime(rows(3, 0), RUN), Interrupted, Exit::Failure, Some(Next::SameCommand)),
        // One that was stopped.
        (stopped(Exit::Interrupt, realtime(rows(1, 1), RUN)), Interrupted, Exit::Interrupt, Some(Next::SameCommand)),
        (stopped(Exit::Auth, realtime(rows(0, 0), RUN_JOB)), Interrupted, Exit::Auth, Some(Next::SameCommandResumeJob)),
        (stopped(Exit::Budget, realtime(rows(1, 0), RUN)), Interrupted, Exit::Budget, Some(Next::SameCommand)),
        (stopped(Exit::Budget, realtime(rows(1, 0), capped)), Interrupted, Exit::Budget, Some(Next::SameCommandMore)),
        (stopped(Exit::Interrupt, realtime(rows(1, 0), capped)), Interrupted, Exit::Interrupt, Some(Next::SameCommand)),
        (stopped(Exit::Io, realtime(rows(4, 0), RUN)), Interrupted, Exit::Io, Some(Next::SameCommand)),
        (stopped(Exit::Failure, realtime(rows(4, 0), RUN)), Interrupted, Exit::Failure, Some(Next::SameCommand)),
        // The realtime part of a retry or a rescue.
        (realtime(rows(3, 1), JobCommand::RealtimePart), Partial, Exit::RowsFailed, Some(Next::RetryRealtime)),
        (
            stopped(Exit::TempFail, facts(Transport::Batch, rows(2, 1), settled(Expired), JobCommand::RealtimePart)),
            Interrupted,
            Exit::TempFail,
            Some(Next::RetryRealtime),
        ),
        (
            stopped(Exit::Interrupt, facts(Transport::Batch, rows(4, 0), settled(Completed), JobCommand::RealtimePart)),
            Completed,
            Exit::Interrupt,
            Some(Next::FetchWait),
        ),
        // A realtime job that another command looks at.
        (realtime(rows(4, 0), JobCommand::Other), Completed, Exit::Ok, None),
        (realtime(rows(3, 1), JobCommand::Other), Partial, Exit::RowsFailed, Some(Next::Retry)),
        (permanent(realtime(rows(3, 1), JobCommand::Other)), Partial, Exit::RowsFailed, None),
        (open(realtime(rows(2, 1), JobCommand::Other)), Interrupted, Exit::TempFail, Some(Next::ResumeRun)),
        (open(realtime(rows(4, 0), JobCommand::Other)), Interrupted, Exit::TempFail, Some(Next::ResumeRun)),
        (busy(realtime(rows(2, 1), JobCommand::Other)), Running, Exit::TempFail, None),
        // A realtime job that was retried in batches.
        (
            open(facts(Transport::Realtime, rows(3, 0), batches(0, 1, 0, Failed), JobCommand::Other)),
            Running,
            Exit::TempFail,
            Some(Next::FetchWait),
        ),
        // Its counts may be those of before; `fetch` writes the results once nobody works on it.
        (
            busy(facts(Transport::Realtime, rows(4, 0), settled(Completed), JobCommand::Other)),
            Running,
            Exit::TempFail,
            None,
        ),
        (
            open(facts(Transport::Realtime, rows(4, 0), settled(Completed), JobCommand::Other)),
            Completed,
            Exit::Ok,
            None,
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
        (batch(rows(0, 0), none()), Interrupted, Exit::Failure, None),
        (batch(rows(0, 0), never_asked(2)), Interrupted, Exit::Failure, Some(Next::Retry)),
        (batch(rows(0, 0), never_asked(1)), Interrupted, Exit::TempFail, Some(Next::Retry)),
        (busy(batch(rows(0, 0), never_asked(2))), Preparing, Exit::TempFail, Some(Next::FetchWait)),
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

#[test]
fn a_stop_does_not_change_the_state_of_a_job_that_another_process_finished() {
    let stopped = stopped(Exit::Io, realtime(rows(4, 0), RUN));
    let kept = JobFacts { kept_state: Some(JobState::Completed), ..stopped };
    check([(kept, JobState::Completed, Exit::Io, Some(Next::SameCommandResume))]);
}

/// Facts for the verdict of `command` on a batch job.
fn by(command: JobCommand, rows: RowFacts, batches: BatchFacts) -> JobFacts {
    facts(Transport::Batch, rows, batches, command)
}

#[test]
fn commands_that_end_before_the_job_have_one_verdict() {
    use JobCommand::{Cancel, Fetch, Retry, Status, Submit, SubmitWait, Wait};
    use JobState::{Completed, Failed};
    let (first, again) = (Submit { again: false }, Submit { again: true });
    let live = batches(0, 2, 0, Failed);
    let postponed = BatchFacts { postponed: 1, ..batches(1, 1, 0, Failed) };
    let no_room = BatchFacts { postponed: 1, ..batches(1, 0, 0, Failed) };
    let refused = BatchFacts { refused: 1, ..batches(0, 1, 1, Failed) };
    let cancelling = BatchFacts { cancelling: true, ..live.clone() };
    let broken = BatchFacts { broken: Some("two answers".to_owned()), ..batches(0, 1, 0, Failed) };
    let timeout = |facts| JobFacts { stop: Some(Stop::of_wait(false)), ..facts };
    let deadline = |facts| JobFacts { stop: Some(Stop::of_wait(true)), ..facts };
    for (facts, exit, steps) in [
        // A submission has done its part once the service has the batches, whatever became of their rows.
        (by(first, rows(0, 0), live.clone()), Exit::Ok, Some(NextSteps::AfterSubmit)),
        (by(first, rows(3, 1), settled(Completed)), Exit::Ok, Some(NextSteps::AfterSubmit)),
        (by(first, rows(0, 0), refused.clone()), Exit::RowsFailed, Some(NextSteps::AfterSubmit)),
        (by(first, rows(0, 0), postponed.clone()), Exit::TempFail, Some(NextSteps::AskAgain)),
        // A retry that sent nothing says whether rows have failed for good.
        (by(again, rows(3, 0), live.clone()), Exit::Ok, Some(NextSteps::AfterRetry)),
        (by(again, rows(2, 1), live.clone()), Exit::Ok, Some(NextSteps::AfterRetry)),
        (by(again, rows(3, 1), settled(Completed)), Exit::RowsFailed, None),
        (by(again, rows(4, 0), settled(Completed)), Exit::Ok, None),
        (open(facts(Transport::Realtime, rows(4, 0), none(), again)), Exit::Ok, None),
        (by(again, rows(3, 0), refused), Exit::RowsFailed, Some(NextSteps::AfterRetry)),
        (by(again, rows(3, 0), postponed.clone()), Exit::TempFail, Some(NextSteps::AskAgain)),
        // A retry of a job with open batches.
        (by(Retry, rows(0, 0), live.clone()), Exit::TempFail, Some(NextSteps::WaitOrCancel)),
        (by(Retry, rows(0, 0), cancelling.clone()), Exit::TempFail, Some(NextSteps::WaitOrAbandon)),
        (by(Retry, rows(2, 0), broken.clone()), Exit::TempFail, Some(NextSteps::WaitOrCancel)),
        // The wait is over, or there was none.
        (timeout(by(SubmitWait, rows(0, 0), no_room.clone())), Exit::TempFail, Some(NextSteps::AskAgain)),
        (timeout(by(Fetch { waited: true }, rows(0, 0), no_room)), Exit::TempFail, Some(NextSteps::AskAgain)),
        (timeout(by(SubmitWait, rows(0, 0), postponed)), Exit::TempFail, Some(NextSteps::WaitOn)),
        (timeout(by(SubmitWait, rows(0, 0), live.clone())), Exit::TempFail, Some(NextSteps::WaitOn)),
        (deadline(by(SubmitWait, rows(0, 0), live.clone())), Exit::Budget, Some(NextSteps::WaitOn)),
        (deadline(by(SubmitWait, rows(0, 0), cancelling.clone())), Exit::Budget, Some(NextSteps::WaitOrAbandon)),
        (timeout(by(Fetch { waited: true }, rows(0, 0), live.clone())), Exit::TempFail, Some(NextSteps::FetchOn)),
        (by(Fetch { waited: false }, rows(0, 0), live.clone()), Exit::TempFail, Some(NextSteps::FetchLater)),
        (by(Fetch { waited: false }, rows(2, 0), broken.clone()), Exit::TempFail, Some(NextSteps::FetchLater)),
        (by(Wait, rows(0, 0), live.clone()), Exit::TempFail, None),
        (by(Wait, rows(0, 0), cancelling.clone()), Exit::TempFail, Some(NextSteps::WaitOrAbandon)),
        (by(Wait, rows(0, 0), never_asked(2)), Exit::Failure, Some(NextSteps::SubmitRest)),
        (by(Wait, rows(0, 0), none()), Exit::Failure, Some(NextSteps::SubmitAgain)),
        (by(Wait, rows(2, 0), broken), Exit::Protocol, None),
        // `cancel` has done its part once the service was asked.
        (by(Cancel, rows(0, 0), cancelling.clone()), Exit::Ok, Some(NextSteps::WaitOrAbandon)),
        (by(Cancel, rows(3, 1), settled(Completed)), Exit::Ok, None),
        (open(facts(Transport::Realtime, rows(1, 0), none(), Cancel)), Exit::Ok, Some(NextSteps::ResumeRunOrRemove)),
        // Hints below a list of jobs.
        (by(Status { delivered: true }, rows(4, 0), settled(Completed)), Exit::Ok, None),
        (by(Status { delivered: false }, rows(4, 0), settled(Completed)), Exit::Ok, Some(NextSteps::Fetch)),
        (by(Status { delivered: false }, rows(0, 0), live), Exit::TempFail, None),
        (by(Status { delivered: false }, rows(0, 0), cancelling), Exit::TempFail, Some(NextSteps::WaitOrAbandon)),
        (
            by(Status { delivered: false }, rows(0, 0), never_asked(2)),
            Exit::Failure,
            Some(NextSteps::RunCommandOrRetry),
        ),
        (by(Status { delivered: false }, rows(0, 0), none()), Exit::Failure, Some(NextSteps::RunCommandOrRemove)),
    ] {
        let verdict = Verdict::of(&facts);
        assert_eq!((verdict.exit, verdict.steps), (exit, steps), "{facts:?}\n{}", verdict.reason);
    }
}

#[test]
fn an_error_after_the_end_changes_the_exit_code_and_not_the_job() {
    let error = Error::new(Exit::Io, "s.json: cannot be written");
    let done = Verdict::of(&realtime(rows(3, 1), RUN)).and(&error);
    assert_eq!((done.state, done.exit, &*done.reason), (JobState::Partial, Exit::Io, "s.json: cannot be written"));
    assert_eq!(done.next, Some(Next::SameCommandResume));
    let interrupted = Verdict::of(&stopped(Exit::Interrupt, realtime(rows(1, 0), RUN))).and(&error);
    assert_eq!((interrupted.exit, &*interrupted.reason), (Exit::Interrupt, "stopped here"));
}

/// Holds over all combinations, also those that the table does not name.
#[test]
fn a_verdict_never_contradicts_itself() {
    let counts = [rows(0, 0), rows(2, 1), rows(4, 0), rows(3, 1), rows(0, 4)];
    let words = [JobState::Completed, JobState::Failed, JobState::Expired, JobState::Cancelled];
    let mut progress = vec![none()];
    for word in words {
        progress
            .extend([(0, 0, 0), (2, 0, 0), (1, 1, 0), (0, 1, 1), (0, 0, 2)].map(|(w, l, u)| batches(w, l, u, word)));
    }
    let stops = [None, Some(stop(Exit::Interrupt)), Some(stop(Exit::Budget)), Some(stop(Exit::Io))];
    let commands = [RUN, RUN_JOB, JobCommand::RealtimePart, JobCommand::Other];
    let mut seen = 0;
    for transport in [Transport::Realtime, Transport::Batch] {
        for (rows, batches) in counts.iter().flat_map(|rows| progress.iter().map(move |batches| (rows, batches))) {
            for (stop, command) in stops.iter().flat_map(|stop| commands.iter().map(move |command| (stop, *command))) {
                for (busy, concluded) in [(false, false), (false, true), (true, false)] {
                    let (rows, batches, stop) = (*rows, batches.clone(), stop.clone());
                    let facts = JobFacts { stop, busy, concluded, ..facts(transport, rows, batches, command) };
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
