//! Damage to the answers that a job keeps: found by their checksums, named, and repaired by sending the rows again.

use std::io::{Error as IoError, ErrorKind};

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, params};

use super::checksum::{Checksum, Part};
use crate::error::{Error, Exit, Result};
use crate::store::JobDb;
use crate::store::batches::BodyPlace;
use crate::text;

/// Rows that were answered in real time. Their bodies lie in the log, or in the database itself.
const ANSWERED: &str = "batch IS NULL AND ok AND (side IS NOT NULL OR body IS NOT NULL)";

/// Damaged answers that a run sends again unasked. More would cost more than a night is worth without a word.
const FEW: usize = 20;

/// An answer whose body is not as it was written, or missing.
#[derive(Debug, Clone, Copy)]
struct DamagedAnswer {
    row: u64,
    /// The end of its body in the log.
    end: Option<u64>,
    /// It was paid for, and on the disk once: a power cut does not explain the damage.
    synced: bool,
}

impl JobDb {
    /// Drops the answers in real time whose bodies are damaged or missing, and returns their rows. What they cost still
    /// counts. A power cut leaves such rows, because it may keep a row and lose its body. `all`: the user has named the
    /// job, and accepts any number.
    ///
    /// # Errors
    /// 74 if there are too many of them to send again unasked.
    pub fn drop_damaged(&mut self, all: bool) -> Result<Vec<u64>> {
        let damaged = self.damaged_answers()?;
        if !all && damaged.iter().filter(|answer| answer.synced).count() > FEW {
            let count = text::plural(damaged.len() as u64, "kept answer");
            let what = format!(
                "{}: {count} {} damaged or missing",
                self.log.path().display(),
                text::agree(damaged.len() as u64, "is", "are")
            );
            return Err(Error::new(Exit::Io, what).hint(self.ways_to_answers("these rows")));
        }
        if damaged.is_empty() {
            return Ok(Vec::new());
        }
        self.begin()?;
        for DamagedAnswer { row, .. } in &damaged {
            self.retire(*row)?;
        }
        self.commit(true)?;
        Ok(damaged.into_iter().map(|answer| answer.row).collect())
    }

    /// The end of the log that was on the disk once.
    fn synced_log(&self) -> Result<u64> {
        let end = self.run(|db| {
            db.query_row("SELECT value FROM meta WHERE key = 'log_end'", [], |row| row.get::<_, i64>(0)).optional()
        })?;
        Ok(end.unwrap_or(0).cast_unsigned())
    }

    fn damaged_answers(&self) -> Result<Vec<DamagedAnswer>> {
        let synced = self.synced_log()?;
        // The bodies of rows that follow each other lie one after the other. Those of followers lie with their leaders.
        let mut damaged = self.damaged_among("leader IS NULL ORDER BY row")?;
        for answer in &mut damaged {
            answer.synced = answer.end.is_none_or(|end| end <= synced);
        }
        damaged.extend(self.damaged_among("leader IS NOT NULL ORDER BY at")?);
        damaged.sort_by_key(|answer| answer.row);
        Ok(damaged)
    }

    fn damaged_among(&self, which: &str) -> Result<Vec<DamagedAnswer>> {
        let mut log = self.log.scan();
        let mut damaged = Vec::new();
        let mut unreadable = None;
        self.run(|db| {
            let sql = format!("SELECT row, at, len, sum, body FROM outcome WHERE {ANSWERED} AND {which}");
            let mut statement = db.prepare(&sql)?;
            let mut rows = statement.query(params![])?;
            while let Some(found) = rows.next()? {
                let sum = Checksum::read(found, 3)?;
                let whole = |body: &[u8]| sum.is_none_or(|sum| sum.agrees(Checksum::of_body(body), Part::Body));
                let row = found.get::<_, i64>(0)?.cast_unsigned();
                if let ValueRef::Text(body) = found.get_ref(4)? {
                    if !whole(body) {
                        damaged.push(DamagedAnswer { row, end: None, synced: false });
                    }
                    continue;
                }
                let place =
                    BodyPlace { errors: false, at: found.get::<_, i64>(1)?.cast_unsigned(), len: found.get(2)? };
                match log.bytes(place) {
                    Ok(Some(body)) if whole(body) => {}
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        unreadable = Some(error);
                        break;
                    }
                    _ => {
                        let end = Some(place.at + u64::from(place.len));
                        damaged.push(DamagedAnswer { row, end, synced: false });
                    }
                }
            }
            Ok(())
        })?;
        unreadable.map_or(Ok(damaged), |error| Err(self.unreadable_log(error)))
    }

    /// The error of a log that cannot be read.
    pub(super) fn unreadable_log(&self, error: IoError) -> Error {
        Error::io(format!("{}: the answers cannot be read", self.log.path().display()), error)
    }

    /// The error of a stored outcome that is not as it was written.
    pub(super) fn damaged_row(&self, row: u64) -> Error {
        Error::new(Exit::Io, format!("{}: the stored outcome of row {row} is damaged", self.path().display()))
            .hint(self.restore())
    }

    /// The error of an answer in real time whose body, in the log or not, is damaged or missing.
    pub(super) fn damaged_body(&self, row: u64, logged: bool) -> Error {
        let path = if logged { self.log.path() } else { self.path() };
        let what = format!("{}: the kept answer of row {row} is damaged or missing", path.display());
        Error::new(Exit::Io, what).hint(self.ways_to_answers("the row"))
    }

    fn ways_to_answers(&self, rows: &str) -> String {
        format!(
            "restore the file from a backup. Without one, the job's command with `--resume={}` keeps every answer that is \
             whole, sends {rows} again, and pays again",
            self.id()
        )
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
        assert_eq!(db.drop_damaged(false).unwrap(), [0; 0]);
        OpenOptions::new().write(true).open(&log).unwrap().write_all_at(b"9", 17).unwrap();
        assert!(db.outcomes(1, 10).unwrap_err().message.contains("the kept answer of row 3 is damaged"));
        assert_eq!(db.drop_damaged(false).unwrap(), [3]);
        assert_eq!(db.outcomes(1, 10).unwrap().iter().map(|o| o.row).collect::<Vec<_>>(), [1, 2]);
        let retired = db.retired().unwrap();
        let cost = Usage { cached: 7, reasoning: 1, ..Usage::new(10, 3) };
        assert_eq!((retired.len(), retired[0].usage, retired[0].attempts), (1, Some(cost), 2));
        assert_eq!(db.drop_damaged(false).unwrap(), [0; 0]);
    }

    #[test]
    fn whatever_is_whole_in_a_shortened_log_stays() {
        let (_dir, mut db, log) = job();
        let cut = |length| OpenOptions::new().write(true).open(&log).unwrap().set_len(length).unwrap();
        // Only the end of the last line is gone.
        cut(19);
        assert_eq!((db.drop_damaged(false).unwrap(), db.outcomes(1, 10).unwrap().len()), (vec![], 3));
        cut(18);
        assert_eq!((db.drop_damaged(false).unwrap(), db.outcomes(1, 10).unwrap().len()), (vec![3], 2));
        std::fs::remove_file(&log).unwrap();
        assert_eq!(db.drop_damaged(false).unwrap(), [1]);
        assert_eq!(db.outcomes(1, 10).unwrap().len(), 1, "a failed row stands without its body");
    }

    #[test]
    fn many_answers_are_paid_again_only_if_the_user_names_the_job() {
        let (dir, mut db) = db();
        let log = dir.path().join("j").join("answers.jsonl");
        let put = |db: &mut JobDb, rows: std::ops::RangeInclusive<u64>| {
            rows.for_each(|row| db.put(&outcome(row, 1, true)).unwrap());
        };
        put(&mut db, 1..=30);
        db.commit(true).unwrap();
        // These were never synced: a power cut may take them all.
        put(&mut db, 31..=60);
        db.commit(false).unwrap();
        let end = std::fs::metadata(&log).unwrap().len();
        OpenOptions::new().write(true).open(&log).unwrap().set_len(end / 2 + 2).unwrap();
        assert_eq!(db.drop_damaged(false).unwrap().len(), 30);
        std::fs::remove_file(&log).unwrap();
        let error = db.drop_damaged(false).unwrap_err();
        assert!(error.exit == Exit::Io && error.message.contains("30 kept answers are damaged"), "{error}");
        assert!(error.hint.unwrap().contains("`--resume=j`"));
        assert_eq!(db.counts().unwrap(), (30, 0), "nothing was dropped");
        assert_eq!(db.drop_damaged(true).unwrap().len(), 30);
    }
}
