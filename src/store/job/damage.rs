//! Damage to the answers that a job keeps: found by their checksums, named, and repaired by sending the rows again.

use std::io::{Error as IoError, ErrorKind};

use rusqlite::{OptionalExtension, params};

use super::checksum::{Checksum, Part};
use super::retired::RETIRED;
use crate::error::{Error, Exit, Result};
use crate::store::batches::BodyPlace;
use crate::store::{JobDb, broken};

/// Rows whose body lies in the log.
const LOGGED: &str = "batch IS NULL AND side IS NOT NULL";

impl JobDb {
    /// Drops the outcomes whose bodies in the log are damaged, and returns their rows. What they cost still counts. A
    /// power cut leaves such rows, because it may keep a row and lose its body.
    ///
    /// # Errors
    /// 74 if the log is missing, or ends before what a sync had put on the disk. Nothing is paid again unasked.
    pub fn drop_damaged(&mut self) -> Result<Vec<u64>> {
        self.must_be_whole()?;
        let damaged = self.damaged_bodies()?;
        if damaged.is_empty() {
            return Ok(damaged);
        }
        self.begin()?;
        for row in &damaged {
            self.run(|db| {
                db.execute(
                    &format!("INSERT INTO retired SELECT {RETIRED} FROM outcome WHERE row = ?1"),
                    [row.cast_signed()],
                )?;
                db.execute("DELETE FROM outcome WHERE row = ?1", [row.cast_signed()])
            })?;
        }
        self.commit(true)?;
        Ok(damaged)
    }

    /// Returns an error if the log lacks what was on the disk once.
    fn must_be_whole(&self) -> Result<()> {
        let synced = self.run(|db| {
            db.query_row("SELECT value FROM meta WHERE key = 'log_end'", [], |row| row.get::<_, i64>(0)).optional()
        })?;
        let Some(synced) = synced else { return Ok(()) };
        match self.log.len() {
            Ok(length) if length >= synced.cast_unsigned() => Ok(()),
            Ok(_) => Err(self.unreadable_log(IoError::from(ErrorKind::UnexpectedEof))),
            Err(error) => Err(self.unreadable_log(error)),
        }
    }

    fn damaged_bodies(&self) -> Result<Vec<u64>> {
        let mut log = self.log.scan();
        let mut damaged = Vec::new();
        let mut unreadable = None;
        self.run(|db| {
            let sql = format!("SELECT row, at, len, sum FROM outcome WHERE {LOGGED} ORDER BY row");
            let mut statement = db.prepare(&sql)?;
            let mut rows = statement.query(params![])?;
            while let Some(found) = rows.next()? {
                let place =
                    BodyPlace { errors: false, at: found.get::<_, i64>(1)?.cast_unsigned(), len: found.get(2)? };
                let sum = Checksum::read(found, 3)?;
                match log.bytes(place) {
                    Ok(Some(body)) if sum.is_none_or(|sum| sum.agrees(Checksum::of_body(body), Part::Body)) => {}
                    Ok(_) => damaged.push(found.get::<_, i64>(0)?.cast_unsigned()),
                    Err(error) => {
                        unreadable = Some(error);
                        break;
                    }
                }
            }
            Ok(())
        })?;
        unreadable.map_or(Ok(damaged), |error| Err(self.unreadable_log(error)))
    }

    /// The error of a log that is missing, cut off or cannot be read.
    pub(super) fn unreadable_log(&self, error: IoError) -> Error {
        let what = match error.kind() {
            ErrorKind::NotFound => "the answers of the job are missing",
            ErrorKind::UnexpectedEof => "answers of the job are missing at the end of the file",
            _ => return Error::io(format!("{}: the answers cannot be read", self.log.path().display()), error),
        };
        broken(self.log.path(), what).hint(self.restore())
    }

    /// The error of a stored outcome that is not as it was written.
    pub(super) fn damaged_row(&self, row: u64) -> Error {
        Error::new(Exit::Io, format!("{}: the stored outcome of row {row} is damaged", self.path().display()))
            .hint(self.restore())
    }

    /// The error of a body in the log that is not as it was written.
    pub(super) fn damaged_body(&self, row: u64) -> Error {
        Error::new(Exit::Io, format!("{}: the kept answer of row {row} is damaged", self.log.path().display()))
            .hint(format!("`llbatch run --resume={} -o FILE` sends the row again, and pays for it again", self.id()))
    }

    fn id(&self) -> String {
        self.path().file_stem().map(|id| id.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn restore(&self) -> String {
        let id = self.id();
        format!(
            "restore the file from a backup. Without one, `llbatch clean {id} --force` removes the job, and its command \
             then sends all rows again and pays for them again"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;

    use super::super::tests::{db, outcome};
    use super::*;
    use crate::outcome::Usage;

    /// A job of three rows, two of them answered with bodies of eleven bytes.
    fn job() -> (tempfile::TempDir, JobDb, std::path::PathBuf) {
        let (dir, mut db) = db();
        for (row, ok) in [(1, true), (2, false), (3, true)] {
            db.put(&outcome(row, 1, ok)).unwrap();
        }
        db.commit(true).unwrap();
        let log = dir.path().join("j").join("answers.jsonl");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "{\"row\":1}\n{\"row\":3}\n");
        (dir, db, log)
    }

    #[test]
    fn row_with_a_damaged_body_is_named_and_dropped_and_its_cost_is_kept() {
        let (_dir, mut db, log) = job();
        assert_eq!(db.drop_damaged().unwrap(), [0; 0]);
        OpenOptions::new().write(true).open(&log).unwrap().write_all_at(b"9", 17).unwrap();
        assert!(db.outcomes(1, 10).unwrap_err().message.ends_with("the kept answer of row 3 is damaged"));
        assert_eq!(db.drop_damaged().unwrap(), [3]);
        assert_eq!(db.outcomes(1, 10).unwrap().iter().map(|o| o.row).collect::<Vec<_>>(), [1, 2]);
        let retired = db.retired().unwrap();
        let cost = Usage { cached: 7, reasoning: 1, ..Usage::new(10, 3) };
        assert_eq!((retired.len(), retired[0].usage, retired[0].attempts), (1, Some(cost), 2));
        assert_eq!(db.drop_damaged().unwrap(), [0; 0]);
    }

    #[test]
    fn end_of_the_log_that_a_power_cut_took_is_sent_again() {
        let (_dir, mut db, log) = job();
        // The row was committed, and no sync followed.
        db.put(&outcome(4, 1, true)).unwrap();
        db.commit(false).unwrap();
        OpenOptions::new().write(true).open(&log).unwrap().set_len(23).unwrap();
        assert_eq!(db.drop_damaged().unwrap(), [4]);
    }

    #[test]
    fn log_that_lost_what_was_on_the_disk_is_an_error_and_drops_nothing() {
        let (_dir, mut db, log) = job();
        OpenOptions::new().write(true).open(&log).unwrap().set_len(12).unwrap();
        let error = db.drop_damaged().unwrap_err();
        assert!(error.exit == Exit::Io && error.message.contains("missing at the end"), "{error}");
        std::fs::remove_file(&log).unwrap();
        let error = db.drop_damaged().unwrap_err();
        assert!(error.exit == Exit::Io && error.hint.unwrap().contains("backup"), "{}", error.message);
        assert_eq!(db.counts().unwrap(), (2, 1));
    }
}
