//! The rows of each batch, and the rows that are left to do.

use rusqlite::params;

use super::JobBatch;
use crate::error::Result;
use crate::outcome::{ErrorCode, Fingerprint, Usage};
use crate::store::job::{RETIRED, of_asked};
use crate::store::{JobDb, broken};

/// A row as a batch asks it. `S` is the type of its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<S = Box<str>> {
    /// Number of the row, 1-based over all inputs.
    pub row: u64,
    /// The user's id.
    pub id: S,
    /// The `custom_id` in the file, where it differs from the user's id.
    pub wire: Option<S>,
    /// Fingerprint of the request.
    pub fingerprint: Fingerprint,
    /// Upper bound of the request.
    pub reserve: Usage,
}

impl JobDb {
    /// Records that a batch asks a row. It is committed with the open group.
    pub fn ask(&mut self, batch: u32, asked: &Asked<&str>) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            db.prepare_cached("INSERT INTO request VALUES (?,?,?,?,?,?,?,?)")?.execute(params![
                batch,
                asked.row.cast_signed(),
                &asked.fingerprint.0[..],
                asked.id,
                asked.wire,
                asked.reserve.prompt.cast_signed(),
                asked.reserve.completion.cast_signed(),
                of_asked(batch, asked),
            ])
        })?;
        Ok(())
    }

    /// The rows of a batch, in ascending order.
    pub fn asked(&self, batch: u32) -> Result<Vec<Asked>> {
        let mut damaged = false;
        let asked = self.run(|db| {
            let mut statement = db.prepare_cached(
                "SELECT row, id, wire, fp, reserve_p, reserve_c, sum FROM request WHERE batch = ?1 ORDER BY row",
            )?;
            let rows = statement.query_map([batch], |row| {
                let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
                let fp = row.get_ref(3)?.as_blob()?.try_into().map_err(|_| rusqlite::Error::InvalidQuery)?;
                let asked = Asked {
                    row: number(0)?,
                    id: row.get_ref(1)?.as_str()?,
                    wire: row.get_ref(2)?.as_str_or_null()?,
                    fingerprint: Fingerprint(fp),
                    reserve: Usage::new(number(4)?, number(5)?),
                };
                damaged |= row.get::<_, Option<i64>>(6)?.is_some_and(|sum| sum != of_asked(batch, &asked));
                let Asked { row, id, wire, fingerprint, reserve } = asked;
                Ok(Asked { row, id: id.into(), wire: wire.map(Into::into), fingerprint, reserve })
            })?;
            rows.collect()
        })?;
        if damaged {
            Err(broken(self.path(), &format!("the stored rows of batch {batch} are damaged")))
        } else {
            Ok(asked)
        }
    }

    /// Deletes the rows of batches from `number` on. A killed process left them of a plan that it had not finished.
    pub fn forget_plan(&mut self, number: u32) -> Result<()> {
        self.begin()?;
        self.run(|db| db.execute("DELETE FROM request WHERE batch >= ?1", [number]))?;
        self.commit(false)
    }

    /// Retires the outcomes of all rows that batches from `number` on ask, and of rows that wait for another one's; their
    /// cost is kept. It is committed with the open group.
    pub fn retire_asked(&mut self, number: u32) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            let asked = "(row IN (SELECT row FROM request WHERE batch >= ?1) OR row IN (SELECT row FROM follower))";
            db.execute(
                &format!("INSERT INTO retired SELECT {RETIRED} FROM outcome WHERE {asked} AND attempts > 0"),
                [number],
            )?;
            db.execute(&format!("DELETE FROM outcome WHERE {asked}"), [number])
        })?;
        Ok(())
    }

    /// The number of rows whose results the batch did not bring, and that were not sent again since.
    pub fn missing_of(&self, batch: u32) -> Result<u64> {
        let count = "SELECT count(*) FROM outcome WHERE batch = ?1 AND code = ?2";
        self.run(|db| {
            db.query_row(count, params![batch, ErrorCode::Missing.as_str()], |row| row.get(0).map(i64::cast_unsigned))
        })
    }

    /// Deletes the outcomes of these rows, which get others from the same batch. Returns the rows, ascending. It is
    /// committed with the open group.
    pub fn delete_missing(&mut self, batch: u32) -> Result<Vec<u64>> {
        self.begin()?;
        let mut rows: Vec<u64> = self.run(|db| {
            // Followers get those of their leaders again.
            let of_followers = "FROM outcome WHERE batch = ?1 AND code = ?2 AND leader > 0";
            let wait = format!(
                "INSERT OR IGNORE INTO follower (leader, row, fp, id) SELECT leader, row, fp, id {of_followers}"
            );
            for statement in [wait, format!("DELETE {of_followers}")] {
                db.execute(&statement, params![batch, ErrorCode::Missing.as_str()])?;
            }
            let delete = "DELETE FROM outcome WHERE batch = ?1 AND code = ?2 RETURNING row";
            let mut statement = db.prepare_cached(delete)?;
            let code = ErrorCode::Missing.as_str();
            let rows = statement.query_map(params![batch, code], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))?;
            rows.collect()
        })?;
        rows.sort_unstable();
        Ok(rows)
    }

    /// Calls `each` with every row that an open batch may still answer.
    pub fn each_awaited(&self, each: impl FnMut(u64)) -> Result<()> {
        self.each_awaited_by(|_| true, each)
    }

    /// As [`Self::each_awaited`], of the open batches that `by` selects.
    pub fn each_awaited_by(&self, by: impl Fn(&JobBatch) -> bool, mut each: impl FnMut(u64)) -> Result<()> {
        for batch in self.batches()?.into_iter().filter(|batch| batch.is_open() && by(batch)) {
            self.run(|db| {
                let mut statement = db.prepare_cached("SELECT row FROM request WHERE batch = ?1")?;
                let mut rows = statement.query([batch.number])?;
                while let Some(row) = rows.next()? {
                    each(row.get::<_, i64>(0)?.cast_unsigned());
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The rows without an outcome, and the failed rows that `retry` picks by their error code, in ascending order.
    pub fn to_do(&self, total: u64, mut retry: impl FnMut(ErrorCode) -> bool) -> Result<Vec<u64>> {
        let mut rows = Vec::new();
        let mut next = 1;
        self.run(|db| {
            let mut statement = db.prepare_cached("SELECT row, code FROM outcome ORDER BY row")?;
            let mut found = statement.query([])?;
            while let Some(outcome) = found.next()? {
                let row = outcome.get::<_, i64>(0)?.cast_unsigned();
                rows.extend(next..row);
                next = row + 1;
                if let Some(code) = outcome.get_ref(1)?.as_str_or_null()?
                    && retry(ErrorCode::parse(code).unwrap_or(ErrorCode::BadResponse))
                {
                    rows.push(row);
                }
            }
            Ok(())
        })?;
        rows.extend(next..=total);
        Ok(rows)
    }
}
