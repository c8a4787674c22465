//! The spending history, by day, job and model. Budgets and `status --cost` read it. It outlives the jobs.

use rusqlite::params;

use super::{Job, Ledger, Tags, damaged};
use crate::error::Result;
use crate::price::Nanos;

/// The job that spends money.
#[derive(Debug, Clone, Copy)]
pub struct Payer<'a> {
    /// Its id.
    pub job: &'a str,
    /// Its service is the sandbox, where nothing is charged.
    pub sandbox: bool,
}

/// The cost of a job with one model, from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The model.
    pub model: String,
    /// Number of rows with an outcome.
    pub rows: u64,
    /// Tokens of requests.
    pub prompt: u64,
    /// Tokens of answers.
    pub completion: u64,
    /// The paid amount; `None`: the price is unknown.
    pub paid: Option<Nanos>,
}

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayLine {
    /// A date, in the user's time zone.
    pub day: String,
    /// The cost of that day.
    pub spent: Spent,
}

/// The cost of the jobs with one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagLine {
    /// Name and value; `None`: the jobs have no tag.
    pub tag: Option<(String, String)>,
    /// Number of jobs.
    pub jobs: u64,
    /// Number of rows with an outcome.
    pub rows: u64,
    /// Tokens of requests.
    pub prompt: u64,
    /// Tokens of answers.
    pub completion: u64,
    /// The paid amount; `None`: the price is unknown.
    pub paid: Option<Nanos>,
}

impl Ledger {
    /// Records the totals of a job. Their growth since the last record counts for `day`.
    pub fn record_spending(&self, payer: Payer<'_>, day: &str, totals: &[Spent]) -> Result<()> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let write = || -> rusqlite::Result<()> {
            // The totals include the spending that a killed process left unrecorded.
            self.db().execute("DELETE FROM reserve WHERE job = ?1 AND ended = 2", [payer.job])?;
            for spent in totals {
                let nanos = spent.paid.map(|n| i64::try_from(n.0).unwrap_or(i64::MAX));
                self.db()
                    .prepare_cached(
                        "INSERT INTO spend (job, day, model, rows, prompt, completion, nanos, unpriced, sandbox)
                     SELECT ?1, ?2, ?3, ?4 - coalesce(sum(rows), 0), ?5 - coalesce(sum(prompt), 0),
                            ?6 - coalesce(sum(completion), 0), coalesce(?7, 0) - coalesce(sum(nanos), 0), ?7 IS NULL, ?8
                     FROM spend WHERE job = ?1 AND model = ?3
                     HAVING ?4 <> coalesce(sum(rows), 0) OR ?5 <> coalesce(sum(prompt), 0)
                         OR ?6 <> coalesce(sum(completion), 0) OR coalesce(?7, 0) <> coalesce(sum(nanos), 0)
                         OR max(unpriced) <> (?7 IS NULL)
                     ON CONFLICT (job, day, model) DO UPDATE SET rows = rows + excluded.rows,
                        prompt = prompt + excluded.prompt, completion = completion + excluded.completion,
                        nanos = nanos + excluded.nanos, unpriced = excluded.unpriced",
                    )?
                    .execute(params![
                        payer.job,
                        day,
                        spent.model,
                        number(spent.rows),
                        number(spent.prompt),
                        number(spent.completion),
                        nanos,
                        payer.sandbox
                    ])?;
            }
            Ok(())
        };
        self.decide(|| write().map_err(|e| damaged(self.path(), &e)))
    }

    /// Records for `day` what the entry of a job knows and the history lacks. It is for jobs whose models cannot be read.
    pub fn record_known(&self, job: &Job, day: &str) -> Result<()> {
        let record = "INSERT INTO spend (job, day, model, rows, prompt, completion, nanos, unpriced, sandbox)
             SELECT ?1, ?2, 'unknown', max(0, ?3 - coalesce(sum(rows), 0)), 0, 0,
                    max(0, coalesce(?4, 0) - coalesce(sum(nanos), 0)), ?4 IS NULL, ?5
             FROM spend WHERE job = ?1
             HAVING ?3 > coalesce(sum(rows), 0) OR coalesce(?4, 0) > coalesce(sum(nanos), 0)
             ON CONFLICT (job, day, model) DO UPDATE SET rows = rows + excluded.rows, nanos = nanos + excluded.nanos";
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (rows, cost) = (number(job.succeeded + job.failed), job.cost.map(super::reservations::nanos));
        let recorded = self.db().execute(record, params![job.id, day, rows, cost, job.is_of_sandbox()]);
        recorded.map(drop).map_err(|e| damaged(self.path(), &e))
    }

    /// The history from the date `since` on, of the sandbox or of real services, by day and model, oldest first. It lacks
    /// what jobs have not recorded yet: see [`Self::unrecorded`].
    pub fn spending(&self, since: &str, sandbox: bool) -> Result<Vec<DayLine>> {
        let read = || -> rusqlite::Result<Vec<DayLine>> {
            self.db()
                .prepare_cached(
                    "SELECT day, model, sum(rows), sum(prompt), sum(completion), sum(nanos), max(unpriced) FROM spend
                     WHERE day >= ?1 AND sandbox = ?2 GROUP BY day, model ORDER BY day, model",
                )?
                .query_map(params![since, sandbox], |row| {
                    let number = |i| row.get::<_, i64>(i).map(|n| u64::try_from(n).unwrap_or(0));
                    let (nanos, unpriced): (i64, bool) = (row.get(5)?, row.get(6)?);
                    Ok(DayLine {
                        day: row.get(0)?,
                        spent: Spent {
                            model: row.get(1)?,
                            rows: number(2)?,
                            prompt: number(3)?,
                            completion: number(4)?,
                            paid: (!unpriced || nanos > 0).then(|| Nanos(nanos.into())),
                        },
                    })
                })?
                .collect()
        };
        read().map_err(|e| damaged(self.path(), &e))
    }

    /// Records the tags of a job in the history.
    pub fn record_tags(&self, job: &str, tags: &Tags) -> Result<()> {
        if tags.is_empty() {
            return Ok(());
        }
        let write = || -> rusqlite::Result<()> {
            let mut insert =
                self.db().prepare_cached("INSERT OR REPLACE INTO tag (job, name, value) VALUES (?1, ?2, ?3)")?;
            tags.iter().try_for_each(|(name, value)| insert.execute([job, name, value]).map(drop))
        };
        self.decide(|| write().map_err(|e| damaged(self.path(), &e)))
    }

    /// The history from the date `since` on, of the sandbox or of real services, by tag. A job with several tags counts for
    /// each of them; jobs without a tag come last.
    pub fn spending_by_tag(&self, since: &str, sandbox: bool) -> Result<Vec<TagLine>> {
        // A directory that can only be read may be older than the table.
        let table = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'tag')";
        let read = || -> rusqlite::Result<Vec<TagLine>> {
            let exists: bool = self.db().query_row(table, [], |row| row.get(0))?;
            let tags = if exists { "tag" } else { "(SELECT '' AS job, '' AS name, '' AS value)" };
            self.db()
                .prepare(&format!(
                    "SELECT t.name, t.value, count(DISTINCT s.job), sum(rows), sum(prompt), sum(completion), sum(nanos),
                            max(unpriced) FROM spend s LEFT JOIN {tags} t ON t.job = s.job
                     WHERE day >= ?1 AND sandbox = ?2 GROUP BY t.name, t.value ORDER BY t.name IS NULL, t.name, t.value"
                ))?
                .query_map(params![since, sandbox], |row| {
                    let number = |i| row.get::<_, i64>(i).map(|n| u64::try_from(n).unwrap_or(0));
                    let (nanos, unpriced): (i64, bool) = (row.get(6)?, row.get(7)?);
                    Ok(TagLine {
                        tag: row.get::<_, Option<String>>(0)?.zip(row.get(1)?),
                        jobs: number(2)?,
                        rows: number(3)?,
                        prompt: number(4)?,
                        completion: number(5)?,
                        paid: (!unpriced || nanos > 0).then(|| Nanos(nanos.into())),
                    })
                })?
                .collect()
        };
        read().map_err(|e| damaged(self.path(), &e))
    }

    /// The rows of a job that the history includes.
    pub fn recorded_rows(&self, job: &str) -> Result<u64> {
        let sum =
            self.db().query_row("SELECT coalesce(sum(rows), 0) FROM spend WHERE job = ?1", [job], |row| row.get(0));
        sum.map(|rows: i64| u64::try_from(rows).unwrap_or(0)).map_err(|e| damaged(self.path(), &e))
    }

    /// The spending that the history lacks: of jobs that run now or were killed, and that changed at or after `since`
    /// (milliseconds since 1970).
    pub fn unrecorded(&self, since: i64, sandbox: bool) -> Result<Nanos> {
        let sum: rusqlite::Result<i64> = self.db().query_row(
            "SELECT coalesce(sum(max(0, coalesce(nanos, 0) - (SELECT coalesce(sum(s.nanos), 0) FROM spend s WHERE s.job = job.id))), 0)
             FROM job WHERE updated_at >= ?1 AND (coalesce(json_extract(spec, '$.service'), '') = 'sandbox') = ?2",
            params![since, sandbox],
            |row| row.get(0),
        );
        sum.map(|n| Nanos(n.into())).map_err(|e| damaged(self.path(), &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(model: &str, rows: u64, paid: Option<i128>) -> Spent {
        Spent { model: model.into(), rows, prompt: rows * 10, completion: rows, paid: paid.map(Nanos) }
    }

    #[test]
    fn only_growth_counts_for_the_day() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
        let record = |job: &str, day: &str, spent: Spent| {
            ledger.record_spending(Payer { job, sandbox: false }, day, &[spent]).unwrap();
        };
        record("j-1", "2026-11-22", spent("a", 5, Some(50)));
        record("j-1", "2026-11-22", spent("a", 7, Some(70)));
        record("j-1", "2026-11-23", spent("a", 10, Some(100)));
        record("j-1", "2026-11-23", spent("a", 10, Some(100)));
        record("j-2", "2026-11-23", spent("a", 1, Some(9)));
        record("j-2", "2026-11-23", spent("b", 1, None));
        let lines = ledger.spending("2026-11-22", false).unwrap();
        let seen: Vec<_> =
            lines.iter().map(|l| (l.day.as_str(), l.spent.model.as_str(), l.spent.rows, l.spent.paid)).collect();
        assert_eq!(
            seen,
            [
                ("2026-11-22", "a", 7, Some(Nanos(70))),
                ("2026-11-23", "a", 4, Some(Nanos(39))),
                ("2026-11-23", "b", 1, None)
            ]
        );
        assert_eq!(ledger.spending("2026-11-23", false).unwrap().len(), 2);
        let tags = Tags::from([("for".to_owned(), "j-1".to_owned()), ("team".to_owned(), "x".to_owned())]);
        ledger.record_tags("j-1", &tags).unwrap();
        let tagged = ledger.spending_by_tag("2026-11-22", false).unwrap();
        let seen: Vec<_> = tagged
            .iter()
            .map(|l| (l.tag.as_ref().map(|(name, value)| format!("{name}={value}")), l.jobs, l.rows, l.paid))
            .collect();
        assert_eq!(
            seen,
            [
                (Some("for=j-1".to_owned()), 1, 10, Some(Nanos(100))),
                (Some("team=x".to_owned()), 1, 10, Some(Nanos(100))),
                (None, 1, 2, Some(Nanos(9))),
            ]
        );
        assert_eq!(ledger.unrecorded(0, false).unwrap(), Nanos(0));
    }
}
