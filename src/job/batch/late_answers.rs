//! Takes answers of batches that were given up. The service may have answered their rows all the same, and bills them.

use std::time::Duration;

use super::collect::Taken;
use super::session::Session;
use crate::batch::driver::{CallLimits, was_given_up};
use crate::deadline::Deadline;
use crate::error::{Exit, Result};
use crate::store::JobBatch;
use crate::text;

/// Time for the look at one batch. A download that moves may take longer.
const LOOK: Duration = Duration::from_secs(10);

impl Session<'_> {
    /// Looks once at each batch that was given up, and takes its results for rows that were not sent again since. If the
    /// service does not answer, nothing changes.
    ///
    /// # Errors
    /// 74 if the disk fails, 130 if interrupted.
    pub fn take_late_answers(&mut self) -> Result<()> {
        // Without a key there is nobody to ask.
        if self.driver.options.account.is_empty() || self.store.is_read_only() {
            return Ok(());
        }
        let given_up: Vec<JobBatch> = self.batches()?.into_iter().filter(was_given_up).collect();
        for batch in given_up {
            if self.driver.db.borrow().missing_of(batch.number)? == 0 {
                continue;
            }
            let limits = CallLimits { until: Deadline::after(LOOK), retry_for: Duration::ZERO, ..self.limits() };
            match self.limited(limits, |session| session.late_results(batch)) {
                Ok(Some(taken)) => self.replace_missing(taken)?,
                Ok(None) => {}
                Err(error) if matches!(error.exit, Exit::TempFail | Exit::Failure | Exit::Auth | Exit::Budget) => {
                    self.ctx.ui.detail(&format!("{}: looking for late answers: {error}", self.job.id));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Downloads and joins the results of a batch that was given up. `None`: it has not ended, or they are not complete.
    fn late_results(&self, mut batch: JobBatch) -> Result<Option<Taken>> {
        if !self.block_on(self.driver.look_again(&mut batch))? {
            return Ok(None);
        }
        let files = self.block_on(self.driver.download(&batch, true))?;
        if files.deleted().is_some() {
            return Ok(None);
        }
        Ok(Some(Taken::of(&self.driver.db.borrow(), batch, &files, &self.spec.rules(self.ctx))?)
            .filter(|taken| !taken.lacks))
    }

    fn replace_missing(&mut self, mut taken: Taken) -> Result<()> {
        let (rows, number) = (taken.joined.len(), taken.batch.number);
        taken.store_missing(&mut self.driver.db.borrow_mut())?;
        self.forget_counts();
        self.update_index(false)?;
        let answered = taken.joined.iter().filter(|joined| joined.outcome.ok()).count() as u64;
        self.ctx.ui.note(&format!(
            "batch {number} ({}) was given up, and the service has ended it since: {} of {} taken",
            taken.batch.remote.id.as_deref().unwrap_or_default(),
            text::plural(answered, "answer"),
            text::plural(rows as u64, "row")
        ));
        Ok(())
    }
}
