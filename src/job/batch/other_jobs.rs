//! The batches of other jobs.

use crate::error::Result;
use crate::job::remote::Remote;
use crate::store::{BatchStep, JobState, Ledger, Store, Transport};

/// Returns live batches of other jobs with the same service. A list of batches that lacks them is not complete.
pub fn witnesses(store: &Store, ledger: &Ledger, but: &str, remote: Remote<'_>) -> Result<Vec<String>> {
    /// Number of batches that is enough as evidence.
    const ENOUGH: usize = 5;
    let mut found = Vec::new();
    for job in ledger.recent(200)? {
        let theirs = job.transport == Transport::Batch && job.id != but && job.state == JobState::Running;
        if !theirs || job.service_identity().is_none_or(|service| service != remote.identity()) {
            continue;
        }
        let Ok(db) = store.open_job(&job.id) else { continue };
        let live = db.batches()?.into_iter().filter(|b| {
            b.step == BatchStep::Submitted && !b.ended && b.creation.account.as_deref() == Some(remote.account)
        });
        found.extend(live.filter_map(|b| b.remote.id));
        if found.len() >= ENOUGH {
            break;
        }
    }
    Ok(found)
}

/// Returns the batches of all other jobs.
pub fn owned(store: &Store, but: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for job in store.ledger()?.recent(u32::MAX)? {
        if job.id != but && store.has_job(&job.id) {
            let batches = store.open_job(&job.id)?.batches()?;
            found.extend(batches.into_iter().filter_map(|batch| batch.remote.id));
        }
    }
    Ok(found)
}
