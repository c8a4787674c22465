//! The rows of one job and what became of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::batches::Place;
use super::kept::Kept;
use super::{damaged, open_db};
use crate::error::Result;
use crate::outcome::{ErrorCode, Fingerprint, Outcome, RowError, Usage};

/// Pages written before `SQLite` moves the log into the database: 64 MiB, so that a fast run is not stopped every few thousand rows.
const CHECKPOINT_PAGES: u32 = 8192;

/// The open database of one job.
#[derive(Debug)]
pub struct JobDb {
    db: Connection,
    path: PathBuf,
    writing: bool,
    pub(super) kept: Kept,
}

const COLUMNS: &str = "row, fp, id, model, code, message, status, prompt, completion, wasted_p, wasted_c, at_risk, reserve_p, reserve_c, attempts, refused, latency_ms, batch";

/// What format 1 lacked; whole tables are made by the schema.
const UPGRADE: &str = "ALTER TABLE outcome ADD COLUMN batch INTEGER; ALTER TABLE outcome ADD COLUMN side INTEGER;
    ALTER TABLE outcome ADD COLUMN at INTEGER;
    ALTER TABLE outcome ADD COLUMN len INTEGER; ALTER TABLE retired ADD COLUMN batch INTEGER;";

/// What was spent on outcomes that no longer stand for a row: those that are alike, so that each can be priced as it was
/// when it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// The model asked for.
    pub model: String,
    /// So many.
    pub count: u32,
    /// Whether these were answers.
    pub ok: bool,
    /// Usage of each one's answer.
    pub usage: Option<Usage>,
    /// Usage of each one's responses that were thrown away.
    pub wasted: Usage,
    /// Attempts of all of them whose fate is unknown.
    pub at_risk: u32,
    /// What one attempt can cost at most, as [`Outcome::reserve`]; nothing if no attempt is of unknown fate.
    pub reserve: Usage,
    /// Requests sent.
    pub attempts: u64,
    /// Of those, refused by 429.
    pub refused: u64,
    /// At the batch price.
    pub batch: bool,
}

impl Retired {
    /// All tokens that were paid for.
    #[must_use]
    pub fn all_usage(&self) -> Usage {
        let (each, count) = (self.usage.unwrap_or_default(), u64::from(self.count));
        Usage {
            prompt: (each.prompt + self.wasted.prompt) * count,
            completion: (each.completion + self.wasted.completion) * count,
        }
    }
}

impl JobDb {
    /// Opens or makes the database at `path`.
    ///
    /// # Errors
    /// 74 if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let db = open_db(path, include_str!("job.sql"), UPGRADE)?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(|e| damaged(path, &e))?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(Self { db, kept: Kept::new(path), path: path.to_owned(), writing: false })
    }

    /// Moves the log into the database as far as nobody is in the way. The last to close the database does so at the latest.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn checkpoint(&self) -> Result<()> {
        self.run(|db| db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))
    }

    /// Checks the file as `SQLite` can.
    ///
    /// # Errors
    /// 74 if it is damaged.
    pub fn verify(&self) -> Result<()> {
        let check = || -> rusqlite::Result<String> { self.db.pragma_query_value(None, "quick_check", |r| r.get(0)) };
        match check() {
            Ok(word) if word == "ok" => Ok(()),
            Ok(_) => Err(damaged(&self.path, &rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(11), None))),
            Err(e) => Err(damaged(&self.path, &e)),
        }
    }

    /// Changes whenever another connection has written.
    ///
    /// # Errors
    /// 74 if it cannot be read.
    pub fn version(&self) -> Result<i64> {
        self.run(|db| db.pragma_query_value(None, "data_version", |row| row.get(0)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn run<T>(&self, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        act(&self.db).map_err(|e| damaged(&self.path, &e))
    }

    /// Begins a group of writes, if none is open.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn begin(&mut self) -> Result<()> {
        if !self.writing {
            self.run(|db| db.prepare_cached("BEGIN IMMEDIATE")?.execute([]))?;
            self.writing = true;
        }
        Ok(())
    }

    /// Commits the group: it survives the death of this process; with `sync` also that of the machine.
    ///
    /// # Errors
    /// 74 if the disk refuses; the group is not written then.
    pub fn commit(&mut self, sync: bool) -> Result<()> {
        if self.writing {
            self.run(|db| db.prepare_cached("COMMIT")?.execute([]))?;
            self.writing = false;
        }
        if sync {
            // In WAL mode a commit syncs the whole log if `synchronous` is FULL, and never if it is NORMAL.
            self.run(|db| {
                db.pragma_update(None, "synchronous", "FULL")?;
                db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('synced', 1)", [])?;
                db.pragma_update(None, "synchronous", "NORMAL")
            })?;
        }
        Ok(())
    }

    /// Takes back an open group, also one whose commit failed.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn undo(&mut self) -> Result<()> {
        self.writing = false;
        // After some errors SQLite has done so itself.
        if self.db.is_autocommit() { Ok(()) } else { self.run(|db| db.execute_batch("ROLLBACK")) }
    }

    /// Writes an outcome. Each row is written once: a second outcome of a row would be a mistake of ours, and is refused.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn put(&mut self, outcome: &Outcome) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            db.prepare_cached(
                // The columns in their order; a short text, because the statement is looked up by it for every row.
                "INSERT INTO outcome VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,NULL,NULL,NULL,NULL)",
            )?
            .execute(params![
                outcome.row.cast_signed(),
                &outcome.fingerprint.0[..],
                outcome.ok(),
                &*outcome.id,
                &*outcome.model,
                outcome.error.as_ref().map(|e| e.code.as_str()),
                outcome.error.as_ref().map(|e| e.message.as_str()),
                outcome.status,
                outcome.usage.map(|u| u.prompt.cast_signed()),
                outcome.usage.map(|u| u.completion.cast_signed()),
                outcome.wasted.prompt.cast_signed(),
                outcome.wasted.completion.cast_signed(),
                outcome.at_risk,
                outcome.reserve.prompt.cast_signed(),
                outcome.reserve.completion.cast_signed(),
                outcome.attempts,
                outcome.refused,
                outcome.latency_ms,
                outcome.body.as_deref(),
            ])
        })?;
        Ok(())
    }

    /// Rows up to this one may have been sent.
    ///
    /// # Errors
    /// 74 if it cannot be read.
    pub fn claimed(&self) -> Result<u64> {
        self.run(|db| {
            db.query_row("SELECT value FROM meta WHERE key = 'claimed'", [], |r| r.get::<_, i64>(0)).optional()
        })
        .map(|n| n.unwrap_or(0).cast_unsigned())
    }

    /// Says that rows up to `row` may be sent from now on. Commits with the open group.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn claim(&mut self, row: u64) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            db.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('claimed', ?1)")?
                .execute([row.cast_signed()])
        })?;
        Ok(())
    }

    /// Every row that was sent has its outcome: nothing is in doubt. Commits with the open group.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn release(&mut self) -> Result<()> {
        self.begin()?;
        self.run(|db| db.execute_batch("DELETE FROM meta WHERE key = 'claimed'; DELETE FROM tried;"))?;
        Ok(())
    }

    /// What the tries of a row came to that is about to be sent again: known then, should this process die before the row
    /// has its outcome. Commits with the open group.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn put_tried(&mut self, so_far: &Outcome) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            db.prepare_cached("INSERT OR REPLACE INTO tried VALUES (?,?,?,?,?,?,?,?,?)")?.execute(params![
                so_far.row.cast_signed(),
                &*so_far.model,
                so_far.wasted.prompt.cast_signed(),
                so_far.wasted.completion.cast_signed(),
                so_far.at_risk,
                so_far.reserve.prompt.cast_signed(),
                so_far.reserve.completion.cast_signed(),
                so_far.attempts,
                so_far.refused,
            ])
        })?;
        Ok(())
    }

    /// A process that died is accounted for: each of the rows that it may have been sending by its model and what it may
    /// cost, and what earlier tries of such rows came to. Nothing is in doubt then.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn retire_lost(&mut self, in_flight: &[(Arc<str>, Usage)]) -> Result<()> {
        self.begin()?;
        for (model, reserve) in in_flight {
            self.run(|db| {
                db.prepare_cached("INSERT INTO retired VALUES (?1, 0, NULL, NULL, 0, 0, 1, ?2, ?3, 1, 0, NULL)")?
                    .execute(params![&**model, reserve.prompt.cast_signed(), reserve.completion.cast_signed()])
            })?;
        }
        self.run(|db| db.execute_batch(&format!("INSERT INTO retired {TRIED};")))?;
        self.release()?;
        self.commit(false)
    }

    /// Rows that may have been sent but have no outcome: what was in flight when the last process died. At most `limit` of them.
    ///
    /// # Errors
    /// 74 if it cannot be read.
    pub fn unanswered(&self, limit: usize) -> Result<Vec<u64>> {
        let claimed = self.claimed()?;
        let mut rows = Vec::new();
        let mut expected = 1;
        self.each_fingerprint(|row, _, _| {
            while expected < row && expected <= claimed && rows.len() < limit {
                rows.push(expected);
                expected += 1;
            }
            expected = row + 1;
        })?;
        while expected <= claimed && rows.len() < limit {
            rows.push(expected);
            expected += 1;
        }
        Ok(rows)
    }

    /// Calls `each` with (row, fingerprint, answered) for every outcome, in order.
    ///
    /// # Errors
    /// 74 if it cannot be read.
    pub fn each_fingerprint(&self, mut each: impl FnMut(u64, Fingerprint, bool)) -> Result<()> {
        self.run(|db| {
            let mut statement = db.prepare_cached("SELECT row, fp, ok FROM outcome ORDER BY row")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(row.get::<_, i64>(0)?.cast_unsigned(), fingerprint(row, 1)?, row.get(2)?);
            }
            Ok(())
        })
    }

    /// Calls `each` with every row that has an outcome, in order.
    ///
    /// # Errors
    /// 74 if it cannot be read.
    pub fn each_row(&self, mut each: impl FnMut(u64)) -> Result<()> {
        self.run(|db| {
            let mut statement = db.prepare_cached("SELECT row FROM outcome ORDER BY row")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(row.get::<_, i64>(0)?.cast_unsigned());
            }
            Ok(())
        })
    }

    /// Up to `limit` answered rows from `from` on, in order, with their fingerprints and ids.
    ///
    /// # Errors
    /// 74 if they cannot be read.
    pub fn answers(&self, from: u64, limit: u32) -> Result<Vec<(u64, Fingerprint, Box<str>)>> {
        self.run(|db| {
            let mut statement =
                db.prepare_cached("SELECT row, fp, id FROM outcome WHERE row >= ?1 AND ok ORDER BY row LIMIT ?2")?;
            let rows = statement.query_map(params![from.cast_signed(), limit], |row| {
                let id = row.get_ref(2)?.as_str()?.into();
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), fingerprint(row, 1)?, id))
            })?;
            rows.collect()
        })
    }

    /// Up to `limit` outcomes from `row` on, in order, with their bodies.
    ///
    /// # Errors
    /// 74 if they cannot be read.
    pub fn outcomes(&self, from: u64, limit: u32) -> Result<Vec<Outcome>> {
        self.run(|db| {
            let sql =
                format!("SELECT {COLUMNS}, body, side, at, len FROM outcome WHERE row >= ?1 ORDER BY row LIMIT ?2");
            let mut statement = db.prepare_cached(&sql)?;
            let mut names = Models::default();
            let rows = statement.query_map(params![from.cast_signed(), limit], |row| {
                let mut outcome = read(row, &mut names)?;
                outcome.body = row.get::<_, Option<String>>(18)?.map(String::into_boxed_str);
                let place = match row.get::<_, Option<bool>>(19)? {
                    None => None,
                    Some(errors) => {
                        Some(Place { errors, at: row.get::<_, i64>(20)?.cast_unsigned(), len: row.get(21)? })
                    }
                };
                Ok((outcome, place))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?
        .into_iter()
        .map(|(mut outcome, place)| {
            if let (Some(batch), Some(place)) = (outcome.batch, place) {
                outcome.body = Some(self.kept.body(batch, place)?);
            }
            Ok(outcome)
        })
        .collect()
    }

    /// Calls `each` with every outcome in order, without its body.
    ///
    /// # Errors
    /// 74 if they cannot be read.
    pub fn each_outcome(&self, mut each: impl FnMut(Outcome)) -> Result<()> {
        self.run(|db| {
            let mut statement = db.prepare(&format!("SELECT {COLUMNS} FROM outcome ORDER BY row"))?;
            let mut rows = statement.query([])?;
            let mut names = Models::default();
            while let Some(row) = rows.next()? {
                each(read(row, &mut names)?);
            }
            Ok(())
        })
    }

    /// Sets rows that failed aside, those that `again` picks by their error's code, so that they are sent again; until
    /// [`Self::settle_aside`] they count as neither answered nor failed, and what they cost is kept.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn set_aside(&mut self, again: impl Fn(ErrorCode) -> bool) -> Result<u64> {
        let codes: Vec<&str> = ErrorCode::ALL.into_iter().filter(|code| again(*code)).map(ErrorCode::as_str).collect();
        let codes = serde_json::to_string(&codes).unwrap_or_default();
        self.begin()?;
        let gone = self.run(|db| {
            let failed = "ok = 0 AND code IN (SELECT value FROM json_each(?1))";
            db.execute(&format!("INSERT INTO set_aside SELECT * FROM outcome WHERE {failed}"), [&codes])?;
            db.execute(&format!("DELETE FROM outcome WHERE {failed}"), [&codes])
        })?;
        self.commit(false)?;
        Ok(gone as u64)
    }

    /// Rows that were set aside and have a newer outcome are retired; the others failed as they did before.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn settle_aside(&mut self) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            db.execute_batch(&format!(
                "INSERT INTO retired SELECT {RETIRED} FROM set_aside
                    WHERE row IN (SELECT row FROM outcome) AND attempts > 0;
                 INSERT INTO outcome SELECT * FROM set_aside WHERE row NOT IN (SELECT row FROM outcome);
                 DELETE FROM set_aside;"
            ))
        })?;
        self.commit(false)
    }

    /// Takes the outcome of one row out, as [`Self::set_aside`] does. Commits with the open group.
    ///
    /// # Errors
    /// 74 if the disk refuses.
    pub fn retire_row(&mut self, row: u64) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            db.prepare_cached(&format!(
                "INSERT INTO retired SELECT {RETIRED} FROM outcome WHERE row = ?1 AND attempts > 0"
            ))?
            .execute([row.cast_signed()])?;
            db.prepare_cached("DELETE FROM outcome WHERE row = ?1")?.execute([row.cast_signed()])
        })?;
        Ok(())
    }

    /// The bounds on requests so far: the largest of each model.
    ///
    /// # Errors
    /// 74 if they cannot be read.
    pub fn largest(&self) -> Result<Vec<(String, Usage)>> {
        self.run(|db| {
            let mut statement = db.prepare(
                "SELECT model, max(reserve_p), max(reserve_c) FROM outcome WHERE batch IS NULL GROUP BY model",
            )?;
            let rows = statement.query_map([], |row| {
                let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
                Ok((row.get(0)?, Usage { prompt: number(1)?, completion: number(2)? }))
            })?;
            rows.collect()
        })
    }

    /// Rows answered, and rows that failed.
    ///
    /// # Errors
    /// 74 if they cannot be read.
    pub fn counts(&self) -> Result<(u64, u64)> {
        self.run(|db| {
            db.query_row("SELECT coalesce(sum(ok), 0), coalesce(sum(NOT ok), 0) FROM outcome", [], |row| {
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
            })
        })
    }

    /// What was spent on outcomes that no longer stand for a row, and on rows that have none yet.
    ///
    /// # Errors
    /// 74 if it cannot be read.
    pub fn retired(&self) -> Result<Vec<Retired>> {
        self.run(|db| {
            let mut statement = db.prepare(&format!(
                "SELECT model, ok, prompt, completion, wasted_p, wasted_c, sum(at_risk),
                 CASE WHEN at_risk > 0 OR (ok AND prompt IS NULL) THEN reserve_p ELSE 0 END AS most_p,
                 CASE WHEN at_risk > 0 OR (ok AND prompt IS NULL) THEN reserve_c ELSE 0 END AS most_c,
                 sum(attempts), sum(refused), batch IS NOT NULL AS batched, count(*)
                 FROM (SELECT * FROM retired UNION ALL SELECT {RETIRED} FROM set_aside WHERE attempts > 0 UNION ALL {TRIED})
                 GROUP BY model, ok, prompt, completion, wasted_p, wasted_c, most_p, most_c, batched",
            ))?;
            let rows = statement.query_map([], |row| {
                let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
                let (prompt, completion): (Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?);
                Ok(Retired {
                    model: row.get(0)?,
                    ok: row.get(1)?,
                    usage: prompt
                        .zip(completion)
                        .map(|(p, c)| Usage { prompt: p.cast_unsigned(), completion: c.cast_unsigned() }),
                    wasted: Usage { prompt: number(4)?, completion: number(5)? },
                    at_risk: u32::try_from(number(6)?).unwrap_or(u32::MAX),
                    reserve: Usage { prompt: number(7)?, completion: number(8)? },
                    attempts: number(9)?,
                    refused: number(10)?,
                    batch: row.get(11)?,
                    count: u32::try_from(number(12)?).unwrap_or(u32::MAX),
                })
            })?;
            rows.collect()
        })
    }
}

/// The columns of `retired`, as `outcome` has them.
pub(super) const RETIRED: &str =
    "model, ok, prompt, completion, wasted_p, wasted_c, at_risk, reserve_p, reserve_c, attempts, refused, batch";

/// Rows of `tried` that have no outcome, with the columns of `retired`.
const TRIED: &str =
    "SELECT model, 0, NULL, NULL, wasted_p, wasted_c, at_risk, reserve_p, reserve_c, attempts, refused, NULL
    FROM tried WHERE row NOT IN (SELECT row FROM outcome)";

/// One copy of each model's name.
#[derive(Default)]
struct Models(Vec<Arc<str>>);

impl Models {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|m| &***m == name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        self.0.push(Arc::clone(&new));
        new
    }
}

fn fingerprint(row: &Row<'_>, at: usize) -> rusqlite::Result<Fingerprint> {
    row.get_ref(at)?
        .as_blob()
        .ok()
        .and_then(|b| b.try_into().ok())
        .map(Fingerprint)
        .ok_or(rusqlite::Error::InvalidQuery)
}

fn read(row: &Row<'_>, models: &mut Models) -> rusqlite::Result<Outcome> {
    let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
    let code: Option<String> = row.get(4)?;
    let error = match code {
        None => None,
        Some(code) => Some(RowError {
            code: ErrorCode::parse(&code).unwrap_or(ErrorCode::BadResponse),
            message: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
        }),
    };
    let prompt: Option<i64> = row.get(7)?;
    let completion: Option<i64> = row.get(8)?;
    Ok(Outcome {
        row: number(0)?,
        fingerprint: fingerprint(row, 1)?,
        id: row.get::<_, String>(2)?.into_boxed_str(),
        model: models.get(row.get_ref(3)?.as_str().unwrap_or_default()),
        error,
        status: row.get(6)?,
        body: None,
        usage: prompt.zip(completion).map(|(p, c)| Usage { prompt: p.cast_unsigned(), completion: c.cast_unsigned() }),
        wasted: Usage { prompt: number(9)?, completion: number(10)? },
        at_risk: row.get(11)?,
        reserve: Usage { prompt: number(12)?, completion: number(13)? },
        attempts: row.get(14)?,
        refused: row.get(15)?,
        latency_ms: row.get(16)?,
        batch: row.get(17)?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::store) fn outcome(row: u64, fp: u8, ok: bool) -> Outcome {
        let mut outcome = Outcome::unsent(row, format!("id-{row}").into(), "m".into(), ErrorCode::Timeout, "late");
        outcome.fingerprint = Fingerprint([fp; 16]);
        outcome.attempts = 2;
        outcome.wasted = Usage { prompt: 1, completion: 0 };
        if ok {
            outcome.error = None;
            outcome.status = Some(200);
            outcome.body = Some(format!("{{\"row\":{row}}}").into());
            outcome.usage = Some(Usage { prompt: 10, completion: row });
        }
        outcome
    }

    pub(in crate::store) fn db() -> (tempfile::TempDir, JobDb) {
        let dir = tempfile::tempdir().expect("a directory");
        let db = JobDb::open(&dir.path().join("j.db")).expect("a database");
        (dir, db)
    }

    #[test]
    fn outcomes_come_back_as_they_went_in() {
        let (dir, mut db) = db();
        let rows = [outcome(1, 1, true), outcome(2, 2, false), outcome(7, 3, true)];
        for row in &rows {
            db.put(row).expect("a write");
        }
        db.claim(9).expect("a claim");
        db.commit(true).expect("a commit");
        let other = JobDb::open(&dir.path().join("j.db")).expect("a second reader");
        assert_eq!(other.outcomes(1, 10).expect("rows"), rows);
        assert_eq!(other.outcomes(3, 10).expect("rows").len(), 1);
        assert_eq!(other.unanswered(10).expect("rows"), [3, 4, 5, 6, 8, 9]);
        assert_eq!(other.unanswered(3).expect("rows"), [3, 4, 5]);
        other.verify().expect("an intact file");
    }

    #[test]
    fn what_is_not_committed_is_not_there() {
        let (dir, mut db) = db();
        db.put(&outcome(1, 1, true)).expect("a write");
        db.commit(false).expect("a commit");
        db.put(&outcome(2, 1, true)).expect("a write");
        drop(db);
        let db = JobDb::open(&dir.path().join("j.db")).expect("a database");
        assert_eq!(db.outcomes(1, 10).expect("rows").len(), 1);
    }

    #[test]
    fn a_group_that_failed_can_be_taken_back_and_written_again() {
        let (dir, mut db) = db();
        db.put(&outcome(1, 1, true)).expect("a write");
        db.commit(false).expect("a commit");
        db.put(&outcome(2, 2, true)).expect("a write");
        // As SQLite does itself after some errors of the disk.
        db.run(|db| db.execute_batch("ROLLBACK")).expect("a rollback");
        db.commit(false).expect_err("nothing to commit");
        for _ in 0..2 {
            db.undo().expect("nothing open");
            db.put(&outcome(2, 2, true)).expect("a write");
        }
        db.commit(true).expect("a commit");
        drop(db);
        let db = JobDb::open(&dir.path().join("j.db")).expect("a database");
        assert_eq!(db.outcomes(1, 10).expect("rows").len(), 2);
    }

    #[test]
    fn a_failed_row_is_sent_again_and_its_cost_is_kept() {
        let (_dir, mut db) = db();
        db.put(&outcome(1, 1, true)).expect("a write");
        db.put(&outcome(2, 2, false)).expect("a write");
        assert_eq!(db.set_aside(|_| true).expect("retired"), 1);
        assert_eq!(db.outcomes(1, 10).expect("rows").len(), 1);
        let retired = db.retired().expect("sums");
        assert_eq!((retired[0].attempts, retired[0].wasted), (2, Usage { prompt: 1, completion: 0 }));
    }

    #[test]
    fn what_was_tried_counts_until_there_is_an_outcome() {
        let (_dir, mut db) = db();
        let reserve = Usage { prompt: 7, completion: 5 };
        let mut so_far = Outcome { at_risk: 1, reserve, ..outcome(3, 3, false) };
        db.claim(9).expect("a claim");
        db.put_tried(&so_far).expect("a write");
        so_far.at_risk = 2;
        db.put_tried(&so_far).expect("a write");
        db.put_tried(&outcome(4, 4, false)).expect("a write");
        db.put(&outcome(4, 4, true)).expect("a write");
        db.commit(false).expect("a commit");
        let risk = |db: &JobDb| {
            let all = db.retired().expect("sums");
            all.iter().map(|r| (r.at_risk, r.wasted.prompt * u64::from(r.count), r.reserve)).collect::<Vec<_>>()
        };
        assert_eq!(risk(&db), [(2, 1, reserve)]);
        // The process died: row 3 was on its way once more, and row 5 for the first time.
        db.retire_lost(&[("m".into(), reserve), ("m".into(), Usage { prompt: 9, completion: 0 })]).expect("a write");
        assert_eq!((db.claimed().expect("a claim"), db.unanswered(9).expect("rows").len()), (0, 0));
        let seen = risk(&db);
        assert_eq!(seen.iter().map(|(risk, ..)| risk).sum::<u32>(), 4, "{seen:?}");
        assert_eq!(seen.iter().map(|(_, wasted, _)| wasted).sum::<u64>(), 1, "{seen:?}");
    }
}
