//! Says which batches of a job have not ended, since when they are being cancelled, and what ends them.

use std::time::Duration;

use super::session::Session;
use crate::error::{Error, Exit, Result};
use crate::store::JobBatch;
use crate::text;

/// Returns the time since which all open batches are being cancelled, in milliseconds since 1970.
pub fn cancelling_since(batches: &[JobBatch]) -> Option<i64> {
    let mut open = batches.iter().filter(|batch| batch.is_open() && !batch.ended).peekable();
    open.peek()?;
    open.map(|batch| batch.cancelling_since).collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// Describes the time since which batches are being cancelled: `11-29 10:03 (2h 3m)`.
pub fn since(millis: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    let passed = Duration::try_from(jiff::Timestamp::now().duration_since(time)).unwrap_or_default();
    let shown = time.to_zoned(jiff::tz::TimeZone::system()).strftime("%m-%d %H:%M").to_string();
    format!("{shown} ({})", text::duration(Duration::from_secs(passed.as_secs())))
}

/// Names the commands that end a job whose batches the service is still cancelling.
pub fn ways_on(id: &str, flags: &str) -> String {
    format!(
        "`llbatch wait {id}{flags}` waits for their end; `llbatch cancel {id}{flags} --abandon` gives them up, although the \
         service may still bill their rows"
    )
}

impl Session<'_> {
    /// Writes a sentence without its full stop: `1 batch of j-… has not ended`, and since when it is being cancelled.
    pub fn unended(&self) -> Result<String> {
        let count = text::unended(self.open_batches()?.all, &self.job.id);
        let since = cancelling_since(&self.batches()?).map(|at| format!(" and is being cancelled since {}", since(at)));
        Ok(count + &since.unwrap_or_default())
    }

    /// Builds the error of a `fetch` before the end. `waited`: it has waited.
    pub fn unfinished(&self, what: &str, waited: bool) -> Result<Error> {
        let (id, flags) = (&self.job.id, self.flags());
        let usual = if waited {
            format!(
                "the same command waits again; `llbatch fetch {id}{flags} --partial -o FILE` writes the results so far, \
                 `llbatch cancel {id}{flags}` ends the rest"
            )
        } else {
            "pass --wait to wait for the end, or --partial to write the results so far".to_owned()
        };
        let hint = self.cancelling_hint()?.unwrap_or(usual);
        Ok(Error::new(Exit::TempFail, format!("{what}: {}", self.unended()?)).hint(hint))
    }

    /// Names the commands that end the job, if its batches are being cancelled.
    pub fn cancelling_hint(&self) -> Result<Option<String>> {
        Ok(cancelling_since(&self.batches()?).map(|_| ways_on(&self.job.id, &self.flags())))
    }
}
