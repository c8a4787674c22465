//! Retired outcomes: they no longer stand for a row, but their cost still counts.

use crate::error::Result;
use crate::outcome::{ErrorCode, Usage};
use crate::store::JobDb;

/// A group of equal outcomes that no longer stand for a row. Each can still be priced as before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// The requested model.
    pub model: String,
    /// Number of outcomes.
    pub count: u32,
    /// The outcomes were answers, not failures.
    pub ok: bool,
    /// Usage of each answer.
    pub usage: Option<Usage>,
    /// Usage of the discarded responses of each outcome.
    pub wasted: Usage,
    /// Attempts, of all outcomes, that the service may have billed without an answer.
    pub at_risk: u32,
    /// Upper bound of one such attempt, as [`Outcome::reserve`](crate::outcome::Outcome::reserve); 0 if there is none.
    pub reserve: Usage,
    /// Requests sent for all outcomes.
    pub attempts: u64,
    /// Requests that the service answered with 429.
    pub refused: u64,
    /// The outcomes came from batches, at the batch price.
    pub batch: bool,
    /// Number of the prices at which the work was done, as [`Outcome::prices`](crate::outcome::Outcome::prices).
    pub prices: u32,
}

impl Retired {
    /// All paid tokens.
    pub fn all_usage(&self) -> Usage {
        let mut each = self.usage.unwrap_or_default();
        each += self.wasted;
        each.times(self.count.into())
    }
}

/// The columns of `retired`, by their names in `outcome`.
pub(in crate::store) const RETIRED: &str = "model, ok, prompt, completion, wasted_p, wasted_c, at_risk, reserve_p, reserve_c, attempts, refused, batch, prices, cached, reasoning, wasted_cached, wasted_reasoning";

/// The rows of `tried` without an outcome, with the columns of `retired`.
pub(super) const TRIED: &str =
    "SELECT model, 0, NULL, NULL, wasted_p, wasted_c, at_risk, reserve_p, reserve_c, attempts, refused, NULL, prices, NULL, NULL, wasted_cached, wasted_reasoning
    FROM tried WHERE row NOT IN (SELECT row FROM outcome)";

impl JobDb {
    /// Sets failed rows aside for a retry, where `retry` picks their error code. Until [`Self::settle_aside`] they count as
    /// neither answered nor failed, and their cost is kept.
    pub fn set_aside(&mut self, retry: impl Fn(ErrorCode) -> bool) -> Result<u64> {
        let codes: Vec<&str> = ErrorCode::ALL.into_iter().filter(|code| retry(*code)).map(ErrorCode::as_str).collect();
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

    /// Ends a retry: rows with a new outcome retire their old one, and the other rows get their old one back. Returns false
    /// if nothing was set aside.
    pub fn settle_aside(&mut self) -> Result<bool> {
        let aside = "SELECT EXISTS (SELECT 1 FROM set_aside)";
        // Nothing is written without such rows, so the totals of a job that has ended stay.
        if !self.writing && !self.run(|db| db.query_row(aside, [], |row| row.get(0)))? {
            return Ok(false);
        }
        self.begin()?;
        self.run(|db| {
            db.execute_batch(&format!(
                "INSERT INTO retired SELECT {RETIRED} FROM set_aside
                    WHERE row IN (SELECT row FROM outcome) AND attempts > 0;
                 INSERT INTO outcome SELECT * FROM set_aside WHERE row NOT IN (SELECT row FROM outcome);
                 DELETE FROM set_aside;"
            ))
        })?;
        self.commit(false)?;
        Ok(true)
    }

    /// Retires the outcome of a row, if it has one. It is committed with the open group.
    pub fn retire(&mut self, row: u64) -> Result<()> {
        self.begin()?;
        self.run(|db| {
            let retired = format!("INSERT INTO retired SELECT {RETIRED} FROM outcome WHERE row = ?1 AND attempts > 0");
            db.prepare_cached(&retired)?.execute([row.cast_signed()])?;
            db.prepare_cached("DELETE FROM outcome WHERE row = ?1")?.execute([row.cast_signed()]).map(drop)
        })
    }

    /// All retired outcomes, and the attempts of rows that have no outcome yet.
    pub fn retired(&self) -> Result<Vec<Retired>> {
        self.run(|db| {
            let mut statement = db.prepare(&format!(
                "SELECT model, ok, prompt, completion, wasted_p, wasted_c, sum(at_risk),
                 CASE WHEN at_risk > 0 OR (ok AND prompt IS NULL) THEN reserve_p ELSE 0 END AS most_p,
                 CASE WHEN at_risk > 0 OR (ok AND prompt IS NULL) THEN reserve_c ELSE 0 END AS most_c,
                 sum(attempts), sum(refused), batch IS NOT NULL AS batched, count(*),
                 coalesce(prices, 0) AS priced, coalesce(cached, 0) AS cached_p, coalesce(reasoning, 0) AS reasoning_c,
                 coalesce(wasted_cached, 0) AS wasted_cached_p, coalesce(wasted_reasoning, 0) AS wasted_reasoning_c
                 FROM (SELECT * FROM retired UNION ALL SELECT {RETIRED} FROM set_aside WHERE attempts > 0 UNION ALL {TRIED})
                 GROUP BY model, ok, prompt, completion, wasted_p, wasted_c, most_p, most_c, batched, priced,
                 cached_p, reasoning_c, wasted_cached_p, wasted_reasoning_c",
            ))?;
            let rows = statement.query_map([], |row| {
                let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
                let (prompt, completion): (Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?);
                Ok(Retired {
                    model: row.get(0)?,
                    ok: row.get(1)?,
                    usage: match (prompt, completion) {
                        (Some(_), Some(_)) => Some(Usage {
                            prompt: number(2)?,
                            completion: number(3)?,
                            cached: number(14)?,
                            reasoning: number(15)?,
                        }),
                        _ => None,
                    },
                    wasted: Usage {
                        prompt: number(4)?,
                        completion: number(5)?,
                        cached: number(16)?,
                        reasoning: number(17)?,
                    },
                    at_risk: u32::try_from(number(6)?).unwrap_or(u32::MAX),
                    reserve: Usage::new(number(7)?, number(8)?),
                    attempts: number(9)?,
                    refused: number(10)?,
                    batch: row.get(11)?,
                    count: u32::try_from(number(12)?).unwrap_or(u32::MAX),
                    prices: row.get(13)?,
                })
            })?;
            rows.collect()
        })
    }
}
