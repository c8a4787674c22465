//! Which rows were asked in which batch, and which are still to be.

use rusqlite::params;

use super::BatchJob;
use crate::error::Result;
use crate::outcome::{ErrorCode, Fingerprint, Usage};
use crate::store::JobDb;
use crate::store::job::RETIRED;

/// A row as it was asked in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// 1-based over all inputs.
    pub row: u64,
    /// The user's id.
    pub id: Box<str>,
    /// What travelled in its place.
    pub wire: Option<Box<str>>,
    /// Of the request.
    pub fingerprint: Fingerprint,
    /// Most that it can cost.
    pub reserve: Usage,
}

impl JobDb {
    /// Writes down that a row is asked in a batch. Commits with the open group.
    pub fn ask(
        &mut self,
        batch: u32,
        row: u64,
        id: &str,
        wire: Option<&str>,
        fp: Fingerprint,
        reserve: Usage,
    ) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            db.prepare_cached("INSERT INTO request VALUES (?,?,?,?,?,?,?)")?.execute(params![
                batch,
                row.cast_signed(),
                &fp.0[..],
                id,
                wire,
                reserve.prompt.cast_signed(),
                reserve.completion.cast_signed()
            ])
        })?;
        Ok(())
    }

    /// The rows that were asked in a batch, ascending.
    pub fn asked(&self, batch: u32) -> Result<Vec<Asked>> {
        self.run(|db| {
            let mut statement = db.prepare_cached(
                "SELECT row, id, wire, fp, reserve_p, reserve_c FROM request WHERE batch = ?1 ORDER BY row",
            )?;
            let rows = statement.query_map([batch], |row| {
                let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
                let fp = row.get_ref(3)?.as_blob()?.try_into().map_err(|_| rusqlite::Error::InvalidQuery)?;
                Ok(Asked {
                    row: number(0)?,
                    id: row.get_ref(1)?.as_str()?.into(),
                    wire: row.get_ref(2)?.as_str_or_null()?.map(Into::into),
                    fingerprint: Fingerprint(fp),
                    reserve: Usage { prompt: number(4)?, completion: number(5)? },
                })
            })?;
            rows.collect()
        })
    }

    /// Forgets rows that were to be asked in batches from `number` on, of which none was written down: a plan that was cut
    /// short is made anew.
    pub fn forget_plan(&mut self, number: u32) -> Result<()> {
        self.begin()?;
        self.run(|db| db.execute("DELETE FROM request WHERE batch >= ?1", [number]))?;
        self.commit(false)
    }

    /// Takes the outcomes of all rows out that are asked in batches from `number` on; what they cost is kept. Commits with
    /// the open group.
    pub fn retire_asked(&mut self, number: u32) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            let asked = "row IN (SELECT row FROM request WHERE batch >= ?1)";
            db.execute(
                &format!("INSERT INTO retired SELECT {RETIRED} FROM outcome WHERE {asked} AND attempts > 0"),
                [number],
            )?;
            db.execute(&format!("DELETE FROM outcome WHERE {asked}"), [number])
        })?;
        Ok(())
    }

    /// Calls `each` with every row that a batch may still answer.
    pub fn each_awaited(&self, mut each: impl FnMut(u64)) -> Result<()> {
        for batch in self.batches()?.into_iter().filter(BatchJob::is_open) {
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

    /// Rows without an outcome, and failed rows that `again` picks by their error's code: ascending.
    pub fn to_do(&self, total: u64, mut again: impl FnMut(ErrorCode) -> bool) -> Result<Vec<u64>> {
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
                    && again(ErrorCode::parse(code).unwrap_or(ErrorCode::BadResponse))
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
