//! The remap of a job's answers to the rows of a changed input: by fingerprint, all or nothing.

use rusqlite::{OptionalExtension, params};

use super::JobDb;
use super::job::{Checksum, RETIRED, RowName};
use crate::error::Result;
use crate::outcome::Fingerprint;

impl JobDb {
    /// Begins to remap the answers. Nothing is written before [`Remap::finish`] commits.
    pub fn remap(&mut self) -> Result<Remap<'_>> {
        self.commit(false)?;
        self.begin()?;
        self.run(|db| {
            db.execute_batch(
                "CREATE TABLE old AS SELECT * FROM outcome;
                 CREATE INDEX old_fp ON old (fp);
                 DELETE FROM outcome;",
            )
        })?;
        Ok(Remap { job: self })
    }
}

/// A remap in progress. Each answer serves one row.
#[derive(Debug)]
pub struct Remap<'a> {
    job: &'a mut JobDb,
}

impl Remap<'_> {
    /// Gives `row` an answer to the same request, if there is one, and returns whether it did. An answer with the same id is
    /// preferred.
    pub fn place(&mut self, row: u64, id: &str, fp: Fingerprint) -> Result<bool> {
        self.job.run(|db| {
            let found = db
                .prepare_cached("SELECT rowid, row, id, sum FROM old WHERE fp = ?1 ORDER BY (id = ?2) DESC, row LIMIT 1")?
                .query_row(params![&fp.0[..], id], |old| {
                    let from = RowName { row: old.get::<_, i64>(1)?.cast_unsigned(), id: old.get_ref(2)?.as_str()? };
                    let sum = Checksum::read(old, 3)?.map(|sum| sum.moved(from, RowName { row, id }, fp).value());
                    Ok((old.get::<_, i64>(0)?, sum))
                })
                .optional()?;
            let Some((rowid, sum)) = found else { return Ok(false) };
            db.prepare_cached(
                "INSERT INTO outcome SELECT ?2, fp, ok, ?3, model, code, message, status, prompt, completion, wasted_p, wasted_c,
                 at_risk, reserve_p, reserve_c, attempts, refused, latency_ms, body, batch, side, at, len, ?4, prices,
                 cached, reasoning, wasted_cached, wasted_reasoning, url, CASE WHEN leader IS NOT NULL THEN 0 END, first_token_ms, rule FROM old WHERE rowid = ?1",
            )?
            .execute(params![rowid, row.cast_signed(), id, sum])?;
            db.prepare_cached("DELETE FROM old WHERE rowid = ?1")?.execute([rowid])?;
            Ok(true)
        })
    }

    /// Commits the remap, retires the answers that fit no row, and returns their number.
    pub fn finish(self) -> Result<u64> {
        let left = self.job.run(|db| {
            let left =
                db.execute(&format!("INSERT INTO retired SELECT {RETIRED} FROM old WHERE leader IS NULL"), [])?;
            db.execute_batch("DROP TABLE old; DELETE FROM meta WHERE key = 'claimed'; DELETE FROM sent;")?;
            Ok(left)
        })?;
        self.job.commit(true)?;
        Ok(left as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::{db, outcome};
    use super::*;

    #[test]
    fn answers_follow_their_requests_through_a_changed_input() {
        let (_dir, mut db) = db();
        for (row, fp) in [(1, 1), (2, 2), (3, 2), (4, 4)] {
            db.put(&outcome(row, fp, true)).unwrap();
        }
        let mut remap = db.remap().unwrap();
        // There is a new first row, the twin requests stand apart, and row 4 is gone.
        assert!(!remap.place(1, "new", Fingerprint([9; 16])).unwrap());
        assert!(remap.place(2, "id-1", Fingerprint([1; 16])).unwrap());
        assert!(remap.place(3, "id-3", Fingerprint([2; 16])).unwrap());
        assert!(remap.place(4, "other", Fingerprint([2; 16])).unwrap());
        assert!(!remap.place(5, "third twin", Fingerprint([2; 16])).unwrap());
        assert_eq!(remap.finish().unwrap(), 1);
        let rows = db.outcomes(1, 10).unwrap();
        let found: Vec<_> = rows.iter().map(|o| (o.row, &*o.id, o.body.as_deref().unwrap())).collect();
        assert_eq!(found, [(2, "id-1", "{\"row\":1}"), (3, "id-3", "{\"row\":3}"), (4, "other", "{\"row\":2}")]);
        assert_eq!(db.retired().unwrap()[0].attempts, 2);
    }
}
