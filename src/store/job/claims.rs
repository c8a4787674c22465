//! Claims: the rows that may have been sent, and the cost of their attempts so far.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::retired::{RETIRED, TRIED};
use crate::error::Result;
use crate::outcome::{Outcome, Usage};
use crate::row_set::RowSet;
use crate::store::JobDb;

/// Rows that are claimed by their numbers, after which those with an outcome are forgotten.
const PRUNED_AT: usize = 4096;

impl JobDb {
    /// The row up to which rows may have been sent; 0: none.
    pub(super) fn claimed(&self) -> Result<u64> {
        self.run(|db| {
            db.query_row("SELECT value FROM meta WHERE key = 'claimed'", [], |r| r.get::<_, i64>(0)).optional()
        })
        .map(|n| n.unwrap_or(0).cast_unsigned())
    }

    /// Returns whether rows may have been sent whose outcome is still to come.
    pub fn has_claim(&self) -> Result<bool> {
        Ok(self.claimed()? > 0 || self.run(|db| db.prepare_cached("SELECT 1 FROM sent LIMIT 1")?.exists([]))?)
    }

    /// Claims these rows, which may be sent from now on, in any order. It is committed with the open group.
    pub fn claim_rows(&mut self, rows: &[u64]) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            let mut put = db.prepare_cached("INSERT OR IGNORE INTO sent (row) VALUES (?1)")?;
            rows.iter().try_for_each(|row| put.execute([row.cast_signed()]).map(drop))
        })?;
        self.claimed_rows += rows.len();
        if self.claimed_rows >= PRUNED_AT {
            self.claimed_rows = 0;
            self.run(|db| db.execute_batch("DELETE FROM sent WHERE row IN (SELECT row FROM outcome)"))?;
        }
        Ok(())
    }

    /// Claims the rows up to `row`, which may be sent from now on. It is committed with the open group.
    pub fn claim(&mut self, row: u64) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            db.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('claimed', ?1)")?
                .execute([row.cast_signed()])
        })?;
        Ok(())
    }

    /// Drops the claim, once every row that was sent has its outcome. It is committed with the open group.
    pub fn release(&mut self) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            db.execute_batch("DELETE FROM meta WHERE key = 'claimed'; DELETE FROM sent; DELETE FROM tried;")
        })?;
        Ok(())
    }

    /// Records the attempts of a row before llbatch sends it again. Their cost is then known even if this process dies
    /// before the row has an outcome. It is committed with the open group.
    pub fn put_tried(&mut self, so_far: &Outcome) -> Result<()> {
        self.begin()?;
        let prices = self.prices_in_force();
        self.run(|db| {
            db.prepare_cached("INSERT OR REPLACE INTO tried VALUES (?,?,?,?,?,?,?,?,?,?,?,?)")?.execute(params![
                so_far.row.cast_signed(),
                &*so_far.model,
                so_far.wasted.prompt.cast_signed(),
                so_far.wasted.completion.cast_signed(),
                so_far.at_risk,
                so_far.reserve.prompt.cast_signed(),
                so_far.reserve.completion.cast_signed(),
                so_far.attempts,
                so_far.refused,
                prices,
                so_far.wasted.cached.cast_signed(),
                so_far.wasted.reasoning.cast_signed(),
            ])
        })?;
        Ok(())
    }

    /// The upper bound of an attempt of each row that was sent before and has no outcome.
    pub fn tried_bounds(&self) -> Result<HashMap<u64, Usage>> {
        self.run(|db| {
            let mut statement = db.prepare("SELECT row, reserve_p, reserve_c FROM tried")?;
            let rows = statement.query_map([], |row| {
                let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
                Ok((number(0)?, Usage::new(number(1)?, number(2)?)))
            })?;
            rows.collect()
        })
    }

    /// Retires the requests of a killed process, and drops its claim. `in_flight` names the model and the upper bound of each
    /// request that may have been sent. Earlier attempts of such rows are retired too.
    pub fn retire_lost(&mut self, in_flight: &[(Arc<str>, Usage)]) -> Result<()> {
        self.begin()?;
        let prices = self.prices_in_force();
        for (model, reserve) in in_flight {
            self.run(|db| {
                db.prepare_cached(&format!(
                    "INSERT INTO retired ({RETIRED})
                     VALUES (?1, 0, NULL, NULL, 0, 0, 1, ?2, ?3, 1, 0, NULL, ?4, NULL, NULL, NULL, NULL)"
                ))?
                .execute(params![
                    &**model,
                    reserve.prompt.cast_signed(),
                    reserve.completion.cast_signed(),
                    prices
                ])
            })?;
        }
        self.run(|db| db.execute_batch(&format!("INSERT INTO retired {TRIED};")))?;
        self.release()?;
        self.commit(false)
    }

    /// The claimed rows without an outcome, at most `limit`: they were in flight when the last process died. Rows that wait
    /// for their leader were not.
    pub fn unanswered(&self, limit: usize) -> Result<Vec<u64>> {
        let claimed = self.claimed()?;
        let mut waiting = RowSet::default();
        self.each_waiting(|row, _| _ = waiting.insert(row))?;
        let mut rows = Vec::new();
        let mut expected = 1;
        let mut missing = |expected: u64| {
            if !waiting.contains(expected) {
                rows.push(expected);
            }
            rows.len() < limit
        };
        self.each_fingerprint(|row, _, _| {
            (expected..row.min(claimed + 1)).all(&mut missing);
            expected = row + 1;
        })?;
        (expected..=claimed).all(&mut missing);
        self.run(|db| {
            let named = "SELECT row FROM sent WHERE row > ?1 AND row NOT IN (SELECT row FROM outcome) ORDER BY row";
            let mut statement = db.prepare_cached(named)?;
            let mut named = statement.query([claimed.cast_signed()])?;
            while rows.len() < limit
                && let Some(row) = named.next()?
            {
                rows.push(row.get::<_, i64>(0)?.cast_unsigned());
            }
            Ok(())
        })?;
        rows.truncate(limit);
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{db, outcome};
    use super::*;

    #[test]
    fn rows_claimed_by_number_are_in_doubt_until_they_have_an_outcome() {
        let (_dir, mut db) = db();
        assert!(!db.has_claim().unwrap());
        db.claim_rows(&[7, 2, 9]).unwrap();
        db.put(&outcome(2, 1, true)).unwrap();
        db.commit(false).unwrap();
        assert!(db.has_claim().unwrap());
        assert_eq!(db.unanswered(9).unwrap(), [7, 9]);
        assert_eq!(db.unanswered(1).unwrap(), [7]);
        db.retire_lost(&[]).unwrap();
        assert!(!db.has_claim().unwrap() && db.unanswered(9).unwrap().is_empty());
        // A claim up to a row, and rows behind it.
        db.claim(3).unwrap();
        db.claim_rows(&[3, 8]).unwrap();
        assert_eq!(db.unanswered(9).unwrap(), [1, 3, 8]);
    }

    #[test]
    fn rows_with_an_outcome_are_forgotten() {
        let (_dir, mut db) = db();
        for start in (0..5 * PRUNED_AT as u64).step_by(512) {
            let rows: Vec<u64> = (start + 1..=start + 512).collect();
            db.claim_rows(&rows).unwrap();
            db.put_all(&rows.iter().map(|row| outcome(*row, 1, true)).collect::<Vec<_>>()).unwrap();
        }
        let kept = db.run(|db| db.query_row("SELECT count(*) FROM sent", [], |row| row.get::<_, u32>(0))).unwrap();
        assert!(kept as usize <= 2 * PRUNED_AT, "{kept}");
        assert!(db.unanswered(9).unwrap().is_empty());
    }
}
