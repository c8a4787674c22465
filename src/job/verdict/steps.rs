//! The next steps that a command shows to the user, in sentences.

use super::{JobCommand, JobFacts};
use crate::store::{JobState, Transport};

/// The next steps of the user, as a hint in sentences. A summary names one command instead: [`super::Next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextSteps {
    /// The batches exist: look at them, wait for them, fetch their results.
    AfterSubmit,
    /// The same after a retry.
    AfterRetry,
    /// The store has all results: fetch them.
    Fetch,
    /// The wait of `submit` is over: wait again, or fetch the results so far.
    WaitOn,
    /// The wait of `fetch` is over: wait again, fetch the results so far, or end the batches.
    FetchOn,
    /// `fetch` came before the end: let it wait, or fetch the results so far.
    FetchLater,
    /// Batches are open: wait for them or end them.
    WaitOrCancel,
    /// The service is cancelling the batches: wait for it, or give them up.
    WaitOrAbandon,
    /// The service did not begin a batch: ask again, send its rows in real time, or give it up.
    AskAgain,
    /// Batches were never submitted: submit them.
    SubmitRest,
    /// No batch was planned: submit the input again, or remove the job.
    SubmitAgain,
    /// `status` lists such a job: run its command again, or remove the job.
    RunCommandOrRemove,
    /// `status` lists a job with batches that were never submitted: run its command again, or submit them.
    RunCommandOrRetry,
    /// `status` lists a realtime run that has not ended: resume it.
    ResumeRun,
    /// `cancel` found such a run: resume it, or remove it.
    ResumeRunOrRemove,
}

impl NextSteps {
    /// Chooses from the facts alone.
    pub(super) fn of(facts: &JobFacts) -> Option<Self> {
        let batches = &facts.batches;
        match facts.command {
            JobCommand::Submit { .. } if batches.postponed > 0 => Some(Self::AskAgain),
            JobCommand::Submit { again: false } if batches.total == 0 => Some(Self::Fetch),
            JobCommand::Submit { again: false } => Some(Self::AfterSubmit),
            JobCommand::Submit { again: true } => (batches.open() > 0).then_some(Self::AfterRetry),
            JobCommand::RealtimePart => Some(Self::Fetch),
            _ if batches.cancelling => Some(Self::WaitOrAbandon),
            JobCommand::Cancel => {
                let resumable = facts.transport == Transport::Realtime && facts.state() == JobState::Interrupted;
                resumable.then_some(Self::ResumeRunOrRemove)
            }
            JobCommand::Status { delivered } => Self::of_listed(facts, delivered),
            _ if facts.stuck().is_some() => {
                Some(if facts.is_unplanned() { Self::SubmitAgain } else { Self::SubmitRest })
            }
            JobCommand::SubmitWait | JobCommand::Wait | JobCommand::Fetch { waited: true }
                if batches.postponed > 0 && batches.postponed == batches.open() =>
            {
                Some(Self::AskAgain)
            }
            JobCommand::SubmitWait => Some(Self::WaitOn),
            JobCommand::Fetch { waited: true } => Some(Self::FetchOn),
            JobCommand::Fetch { waited: false } => Some(Self::FetchLater),
            JobCommand::Retry => Some(Self::WaitOrCancel),
            JobCommand::Run { .. } | JobCommand::Wait | JobCommand::Other => None,
        }
    }

    fn of_listed(facts: &JobFacts, delivered: bool) -> Option<Self> {
        let batches = &facts.batches;
        match (facts.state(), facts.transport) {
            (JobState::Interrupted, Transport::Realtime) => Some(Self::ResumeRun),
            (JobState::Interrupted, Transport::Batch) if batches.total == 0 => Some(Self::RunCommandOrRemove),
            (JobState::Interrupted, Transport::Batch) => Some(Self::RunCommandOrRetry),
            (state, Transport::Batch) if state.ended() && (batches.open() > 0 || !delivered) => Some(Self::Fetch),
            _ => None,
        }
    }

    /// Spells the steps for the job `id`. `flags` are those that the user must type beside it.
    pub fn text(self, id: &str, flags: &str) -> String {
        match self {
            Self::AfterSubmit => {
                format!("`llbatch status {id}{flags}`, `llbatch wait {id}{flags}`, `llbatch fetch {id}{flags} -o FILE`")
            }
            Self::AfterRetry => format!("`llbatch wait {id}{flags}`, then `llbatch fetch {id}{flags} -o FILE`"),
            Self::Fetch => format!("`llbatch fetch {id}{flags} -o FILE` writes the results"),
            Self::WaitOn => format!(
                "`llbatch wait {id}{flags}` keeps waiting; `llbatch fetch {id}{flags} --partial -o FILE` writes the \
                 results so far"
            ),
            Self::FetchOn => format!(
                "the same command waits again; `llbatch fetch {id}{flags} --partial -o FILE` writes the results so \
                 far, `llbatch cancel {id}{flags}` ends the rest"
            ),
            Self::FetchLater => "pass --wait to wait for the end, or --partial to write the results so far".to_owned(),
            Self::WaitOrCancel => {
                format!("`llbatch wait {id}{flags}` waits for the end, `llbatch cancel {id}{flags}` stops the batches")
            }
            Self::WaitOrAbandon => format!(
                "`llbatch wait {id}{flags}` waits for their end; `llbatch cancel {id}{flags} --abandon` gives them up, \
                 although the service may still bill their rows"
            ),
            Self::AskAgain => format!(
                "`llbatch wait {id}{flags}` keeps asking until it does, `llbatch retry {id}{flags}` asks once more; \
                 `llbatch retry {id}{flags} --via realtime` sends the rows now, without the batch discount; `llbatch \
                 cancel {id}{flags}` gives them up"
            ),
            Self::SubmitRest => format!("`llbatch retry {id}{flags}` submits the rest"),
            Self::SubmitAgain => format!(
                "run the same `llbatch submit` again to resume it, or `llbatch cancel {id}{flags}` to remove it"
            ),
            Self::RunCommandOrRemove => {
                format!("to resume {id}, run its command again; `llbatch cancel {id}{flags}` removes it")
            }
            Self::RunCommandOrRetry => {
                format!("to resume {id}, run its command again, or `llbatch retry {id}{flags}`")
            }
            Self::ResumeRun => {
                format!("to resume {id}, run its command again, or `llbatch run --resume={id}{flags} -o FILE`")
            }
            Self::ResumeRunOrRemove => format!(
                "`llbatch run --resume={id}{flags} -o FILE` resumes it, `llbatch clean {id} --force` removes it"
            ),
        }
    }
}
