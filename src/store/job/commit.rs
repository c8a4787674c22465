//! Groups of writes: begun, committed, synced, rolled back.

use crate::error::Result;
use crate::store::JobDb;

impl JobDb {
    /// Begins a group of writes, unless one is open. Totals that were kept are no longer those of the job.
    pub fn begin(&mut self) -> Result<()> {
        if !self.writing {
            self.run(|db| db.prepare_cached("BEGIN IMMEDIATE")?.execute([]))?;
            self.writing = true;
            self.forget_totals()?;
        }
        Ok(())
    }

    /// Commits the group, which then survives the death of this process. With `sync`, it also survives a power loss. After
    /// an error the group is not written.
    pub fn commit(&mut self, sync: bool) -> Result<()> {
        self.log.flush()?;
        if sync {
            // The answer log comes first: the end of it that the database knows is then on the disk.
            if let Some(end) = self.log.sync()? {
                self.begin()?;
                let put = "INSERT OR REPLACE INTO meta (key, value) VALUES ('log_end', ?1)";
                self.run(|db| db.prepare_cached(put)?.execute([end.cast_signed()]))?;
            }
        }
        if self.writing {
            self.run(|db| db.prepare_cached("COMMIT")?.execute([]))?;
            (self.writing, self.unsynced) = (false, true);
            self.has_committed()?;
        }
        if sync && self.unsynced {
            self.journal.sync()?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Rolls back an open group, or one whose commit failed.
    pub fn undo(&mut self) -> Result<()> {
        self.writing = false;
        self.log.undo();
        // After some errors SQLite has rolled back by itself.
        if self.db.is_autocommit() { Ok(()) } else { self.run(|db| db.execute_batch("ROLLBACK")) }
    }
}
