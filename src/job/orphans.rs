//! Jobs that the index has lost, entered again from their own files before a command looks for them.

use crate::context::Ctx;
use crate::error::Result;
use crate::store::{Orphan, Store};

/// Enters the jobs again that the index has lost, and tells the user. A state directory that is missing stays so.
pub fn take_in(ctx: &Ctx) -> Result<()> {
    let dir = ctx.settings.state_dir()?;
    if !dir.join("jobs").exists() {
        return Ok(());
    }
    let store = Store::open(dir)?;
    if store.is_read_only() {
        return Ok(());
    }
    let mut entered = Vec::new();
    for orphan in store.enter_orphans(&store.ledger()?)? {
        match orphan {
            Orphan::Entered(job) => entered.push(job.id),
            Orphan::Unknown { id, batches } => {
                let batches = if batches.is_empty() { "none".to_owned() } else { batches.join(", ") };
                ctx.ui.warn(&format!(
                    "the index of jobs has lost {id}, and its file is of an earlier llbatch, without what the index needs; \
                     its batches: {batches}"
                ));
                ctx.ui.hint("`llbatch fetch BATCH-ID -o FILE` gets the answers of a batch");
            }
            Orphan::Unreadable(error) => {
                ctx.ui.warn(&format!("the index of jobs has lost a job, and its file cannot be read: {error}"));
                if let Some(hint) = &error.hint {
                    ctx.ui.hint(hint);
                }
            }
        }
    }
    if !entered.is_empty() {
        let ids = entered.join(", ");
        ctx.ui.warn(&format!("the index of jobs had lost {ids}; llbatch has entered them again from their own files"));
    }
    Ok(())
}
