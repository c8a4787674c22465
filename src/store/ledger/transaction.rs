//! Transactions of the index.

use rusqlite::{Transaction, TransactionBehavior};

use super::{Ledger, SCHEMA};
use crate::error::Result;
use crate::store::{Job, damaged};

impl Ledger {
    /// Runs `decide` in one transaction, so that no other process decides about money meanwhile. If `decide` fails,
    /// nothing is written. A transaction within it is a part of it.
    pub fn decide<T>(&self, decide: impl FnOnce() -> Result<T>) -> Result<T> {
        let outer = self.db.is_autocommit();
        let decided = self.unsynced(decide)?;
        if outer {
            self.journal.sync()?;
        }
        Ok(decided)
    }

    /// The same, where a power cut may take what is written.
    pub(in crate::store) fn unsynced<T>(&self, decide: impl FnOnce() -> Result<T>) -> Result<T> {
        if !self.db.is_autocommit() {
            return decide();
        }
        let failed = |e| damaged(&self.path, &e);
        let synchronous = |mode| {
            // A rollback journal must be on the disk before the pages that it restores are changed.
            if self.journal.is_log() {
                self.db.pragma_update(None, "synchronous", mode).map_err(failed)
            } else {
                Ok(())
            }
        };
        synchronous(if self.new.get() { "OFF" } else { "NORMAL" })?;
        let write = || {
            let mut transaction = self.begin().map_err(failed)?;
            // Without any sync, only the first page of a new log may be written.
            if self.new.take() && !self.journal.is_empty() {
                drop(transaction);
                synchronous("NORMAL")?;
                transaction = self.begin().map_err(failed)?;
            }
            // A ledger of the same format may be older than one of its tables.
            transaction.execute_batch(SCHEMA).map_err(failed)?;
            let decided = decide()?;
            transaction.commit().map_err(failed)?;
            Ok(decided)
        };
        let written = write();
        synchronous("FULL").and(written)
    }

    fn begin(&self) -> rusqlite::Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)
    }

    /// Writes how far a job is. A power cut may take that; the next commit makes it lasting.
    pub fn note_progress(&self, job: &Job) -> Result<()> {
        self.unsynced(|| self.update(job))
    }
}
