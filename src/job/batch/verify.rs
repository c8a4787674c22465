//! Verifies the kept answers of a job before its results are written, and downloads damaged ones again.

use std::collections::HashSet;
use std::path::PathBuf;

use super::session::Session;
use crate::error::{Error, Exit, Result};
use crate::store::answer_files::{AnswerFileName, answers_name, failures_name, file_hash};
use crate::store::{BatchStep, JobBatch};

/// Verifies the downloaded files of all settled batches. The service may still have a file that is damaged here. Returns the
/// files that are as they were when their results were stored.
///
/// # Errors
/// 74 if a damaged file cannot be had again, 75 if the service cannot be reached.
pub(super) fn verify_answers(session: &Session<'_>) -> Result<HashSet<AnswerFileName>> {
    let mut verified = HashSet::new();
    for batch in session.batches()?.into_iter().filter(|batch| batch.step == BatchStep::Settled) {
        let collected = &batch.collected;
        // Without a hash, an earlier llbatch stored the results.
        verified.extend(collected.answers_hash.as_ref().map(|_| (batch.number, false)));
        verified.extend(collected.failures_hash.as_ref().map(|_| (batch.number, true)));
        let Some(path) = damaged_file(session, &batch)? else { continue };
        if session.driver.options.account.is_empty() {
            let what = format!("{}: the kept answers are damaged, and only the service has them", path.display());
            let hint = "set the key, and name the --service or --base-url of the job, to download them again";
            return Err(Error::new(Exit::Auth, what).hint(hint));
        }
        session.ctx.ui.warn(&format!("{}: the kept answers are damaged; downloading them again", path.display()));
        session.block_on(session.driver.download(&batch, true))?;
        if let Some(path) = damaged_file(session, &batch)? {
            return Err(Error::new(
                Exit::Io,
                format!("{}: the kept answers are damaged, and the service has no such file any more", path.display()),
            )
            .hint("restore the file from a backup; without it these rows have no results"));
        }
    }
    Ok(verified)
}

/// A file of the batch that is not as it was when its results were stored.
fn damaged_file(session: &Session<'_>, batch: &JobBatch) -> Result<Option<PathBuf>> {
    let sides = [
        (false, answers_name(batch.number), &batch.collected.answers_hash),
        (true, failures_name(batch.number), &batch.collected.failures_hash),
    ];
    // An earlier llbatch stored the results. At least no place in the file may lie beyond its end.
    let unknown = sides.iter().all(|(.., hash)| hash.is_none()) && batch.remote.id.is_some();
    for (errors, name, hash) in sides {
        let path = session.driver.dir.join(name);
        let damaged = if let Some(hash) = hash {
            file_hash(&path).is_none_or(|found| found != *hash)
        } else {
            let length = std::fs::metadata(&path).map_or(0, |file| file.len());
            unknown && session.driver.db.borrow().answers_end(batch.number, errors)? > length
        };
        if damaged {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
