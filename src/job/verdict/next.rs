//! The command that continues a job, as a summary names it.

use crate::context::Ctx;

const MAX_COST: &str = "--max-cost";

/// A command that continues a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The same command again; it resumes by itself.
    SameCommand,
    /// The same command with `--resume`: it sends the failed rows again.
    SameCommandResume,
    /// The same command with `--resume=JOB` in place of its input.
    SameCommandResumeJob,
    /// The same command with a higher `--max-cost`, which the user decides.
    SameCommandMore,
    /// The same command with `--resume=JOB` in place of its input, and a higher `--max-cost`.
    SameCommandResumeJobMore,
    /// `llbatch run --resume=JOB -o FILE`
    ResumeRun,
    /// `llbatch retry JOB`
    Retry,
    /// `llbatch retry JOB --via realtime`
    RetryRealtime,
    /// `llbatch fetch JOB --wait -o FILE`
    FetchWait,
}

impl Next {
    /// Spells the command for the user to type, for the job `id`, which needs these `flags`.
    pub fn command(self, id: &str, flags: &str, ctx: &Ctx) -> String {
        match self {
            Self::SameCommand => ctx.again(&["--fresh"], &[]),
            Self::SameCommandMore => ctx.again_with_limit(MAX_COST, &["--fresh"], &[]),
            Self::SameCommandResumeJobMore => {
                ctx.again_with_limit(MAX_COST, &["--resume", "--fresh", "-"], &[format!("--resume={id}")])
            }
            Self::SameCommandResume => ctx.again(&["--resume", "--fresh"], &["--resume".to_owned()]),
            Self::SameCommandResumeJob => ctx.again(&["--resume", "--fresh", "-"], &[format!("--resume={id}")]),
            Self::ResumeRun => format!("llbatch run{flags} --resume={id} -o FILE"),
            Self::Retry => format!("llbatch retry {id}{flags}"),
            Self::RetryRealtime => format!("llbatch retry {id}{flags} --via realtime"),
            Self::FetchWait => format!("llbatch fetch {id}{flags} --wait -o FILE"),
        }
    }
}
