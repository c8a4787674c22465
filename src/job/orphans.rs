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
    let store = Store::open(ctx.settings.state_place()?)?;
    if store.is_read_only() {
        return Ok(());
    }
    let ledger = store.ledger()?;
    store.copy_entries(&ledger)?;
    let (mut entered, mut unknown) = (Vec::new(), Vec::new());
    for orphan in store.enter_orphans(&ledger)? {
        match orphan {
            Orphan::Entered(job) => entered.push(job.id),
            Orphan::Unknown { id, batches } if batches.is_empty() => unknown.push(format!("{id} (no batches)")),
            Orphan::Unknown { id, batches } => unknown.push(format!("{id} (batches {})", batches.join(", "))),
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
    if !unknown.is_empty() {
        let jobs = unknown.join(", ");
        ctx.ui.warn(&format!(
            "the index of jobs has lost {jobs}; an earlier llbatch wrote their files, without an entry"
        ));
        ctx.ui.hint(&format!(
            "`llbatch fetch BATCH-ID -o FILE` gets the answers of a batch; to hear no more of these jobs, move their files \
             out of {}",
            dir.join("jobs").display()
        ));
    }
    Ok(())
}
