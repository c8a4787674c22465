//! Makes batches again that the service did not begin, because its queue was full or for another reason that passes.
//!
//! Such a batch goes back to [`BatchStep::Uploaded`]: its end is known, so another creation cannot make a second live one.

use std::time::{Duration, SystemTime};

use super::news::millis;
use super::{Driver, DriverEvent};
use crate::api::error::Fault;
use crate::batch::refusal_words::{is_passing, next_creation_wait};
use crate::batch_status::BatchStatus;
use crate::error::Result;
use crate::store::{BatchStep, JobBatch};

/// The batches that a command submits, beside creations in doubt, which every command settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubmitScope {
    /// No others.
    #[default]
    Doubts,
    /// Postponed batches whose time has come.
    Postponed,
    /// All that are planned, and postponed ones whose time has come.
    Due,
    /// All, at once.
    All,
}

impl SubmitScope {
    /// Returns true if a command that waits makes postponed batches again.
    pub const fn makes_postponed(self) -> bool {
        !matches!(self, Self::Doubts)
    }
}

/// Returns the time until a command makes the batch again whose first such wait is `first`. For a command that does not
/// wait, it is due.
pub fn until_due(batch: &JobBatch, first: Option<Duration>) -> Duration {
    let (Some(at), Some(first)) = (batch.creation.refused_at.filter(|_| batch.creation.refusals > 0), first) else {
        return Duration::ZERO;
    };
    // A clock that was set back must not make the wait longer.
    let passed = u64::try_from(millis(SystemTime::now()) - at).map(Duration::from_millis);
    passed.map_or(Duration::ZERO, |passed| next_creation_wait(batch.creation.refusals, first).saturating_sub(passed))
}

impl Driver<'_> {
    /// Returns true if this scope submits the batch now.
    pub(super) fn submits(&self, batch: &JobBatch, scope: SubmitScope) -> bool {
        match batch.step {
            BatchStep::Creating => true,
            BatchStep::Planned | BatchStep::Uploaded => match scope {
                SubmitScope::Doubts => false,
                SubmitScope::Postponed => batch.is_postponed() && self.is_due(batch),
                SubmitScope::Due => self.is_due(batch),
                SubmitScope::All => true,
            },
            BatchStep::Submitted | BatchStep::Refused | BatchStep::Settled => false,
        }
    }

    fn is_due(&self, batch: &JobBatch) -> bool {
        until_due(batch, self.options.limits.postpone).is_zero()
    }

    /// Records that the service did not create the batch: refused for good, or to be made again.
    pub(super) fn declined(&self, batch: &mut JobBatch, why: &str) -> Result<()> {
        if is_passing(why) {
            batch.creation.tries -= 1;
            return self.postpone(batch, why);
        }
        batch.step = BatchStep::Refused;
        batch.ended = true;
        batch.remote.error = Some(why.to_owned());
        self.save(batch)?;
        (self.on_event)(&DriverEvent::Refused(batch));
        Ok(())
    }

    /// Puts a batch back that does not exist.
    pub(super) fn postpone(&self, batch: &mut JobBatch, why: &str) -> Result<()> {
        batch.step = BatchStep::Uploaded;
        batch.creation.refusals += 1;
        batch.creation.refused_at = Some(millis(SystemTime::now()));
        batch.remote.error = Some(why.to_owned());
        self.save(batch)?;
        let wait = self.options.limits.postpone.map(|first| next_creation_wait(batch.creation.refusals, first));
        (self.on_event)(&DriverEvent::Postponed { batch, wait });
        Ok(())
    }

    /// Puts a batch back that failed as a whole before any of its rows was worked on, for a reason that passes. Returns
    /// `false` for any other batch.
    pub(super) fn postpone_failed(&self, batch: &mut JobBatch) -> Result<bool> {
        let untouched = batch.remote.output_file_id.is_none()
            && batch.remote.error_file_id.is_none()
            && batch.remote.progress.is_none_or(|progress| progress <= 0.0);
        // llbatch has no file of a batch that another program created.
        let ours = !batch.file.sha256.is_empty() && batch.file.id.is_some();
        let failed = batch.ended && batch.remote.status == Some(BatchStatus::Failed) && !batch.cancel;
        let Some(why) = batch.remote.error.clone().filter(|why| failed && untouched && ours && is_passing(why)) else {
            return Ok(false);
        };
        // It must never be taken for a new one.
        batch.creation.others.extend(batch.remote.id.take());
        batch.creation.tries = batch.creation.tries.saturating_sub(1);
        batch.ended = false;
        (batch.remote.status, batch.remote.progress) = (None, None);
        (batch.remote.created_at, batch.remote.completed_at, batch.remote.deadline) = (None, None, None);
        self.postpone(batch, &why)?;
        Ok(true)
    }

    /// Returns true if the batch's file must be uploaded again, because the service has it no more.
    pub(super) async fn lacks_file(&self, batch: &JobBatch) -> bool {
        let id = batch.file.id.as_deref().unwrap_or_default();
        let gone = self.in_time(self.client.file(id)).await.is_err_and(|failure| failure.fault == Fault::NotFound);
        gone && self.dir.join(&batch.file.name).exists()
    }
}
