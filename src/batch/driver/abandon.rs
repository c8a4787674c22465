//! Gives batches up, and looks at them once more when somebody asks for their rows.

use super::news::learn_all;
use super::{Driver, error};
use crate::batch_status::BatchStatus;
use crate::error::Result;
use crate::store::{BatchStep, JobBatch};

impl Driver<'_> {
    /// Gives up every batch whose results the store lacks. llbatch asks for nothing of it, unless somebody asks for its
    /// rows later ([`Self::look_again`]).
    pub fn abandon(&self) -> Result<()> {
        for mut batch in self.batches()? {
            if matches!(batch.step, BatchStep::Creating | BatchStep::Submitted) {
                batch.step = BatchStep::Submitted;
                batch.cancel = true;
                batch.ended = true;
                batch.remote.status = Some(BatchStatus::Abandoned);
                (batch.remote.output_file_id, batch.remote.error_file_id) = (None, None);
                self.save(&batch)?;
            }
        }
        Ok(())
    }

    /// Asks once about a batch that was given up, and records the reply in `batch` alone. Returns `true` if it has ended by
    /// now.
    ///
    /// # Errors
    /// The failure of the call, which is not repeated.
    pub async fn look_again(&self, batch: &mut JobBatch) -> Result<bool> {
        let Some(id) = batch.remote.id.clone() else { return Ok(false) };
        let known = self.in_time(self.client.batch(&id)).await;
        let known = known.map_err(|failure| error(&format!("asking about {id}"), &failure))?;
        let ended = known.status.is_final();
        if ended {
            learn_all(batch, known);
        }
        Ok(ended)
    }
}

/// Returns true for a batch that was given up and may have answers at the service.
pub fn was_given_up(batch: &JobBatch) -> bool {
    batch.step == BatchStep::Settled && batch.remote.status == Some(BatchStatus::Abandoned) && batch.remote.id.is_some()
}
