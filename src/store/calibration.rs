//! Comparisons of estimated prompt tokens with those that a service reported, by model, over all its jobs.

use rusqlite::params;

use super::{JobDb, Ledger, damaged};
use crate::error::Result;

/// Estimated and reported prompt tokens of some rows of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelEstimates {
    /// The model's name.
    pub model: String,
    /// Rows that were compared.
    pub rows: u64,
    /// Estimated tokens of their requests.
    pub estimated: u64,
    /// Reported tokens of their requests.
    pub actual: u64,
}

impl Ledger {
    /// Adds the comparisons of a job, in place of those that it added before.
    pub fn learn_estimates(&self, job: &str, learned: &[ModelEstimates]) -> Result<()> {
        let write = || -> rusqlite::Result<()> {
            let act = self.db().unchecked_transaction()?;
            let mut insert = act.prepare_cached("INSERT OR REPLACE INTO estimate VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for ModelEstimates { model, rows, estimated, actual } in learned {
                let [rows, estimated, actual] = [rows, estimated, actual].map(|n| n.cast_signed());
                insert.execute(params![job, model, rows, estimated, actual])?;
            }
            drop(insert);
            act.commit()
        };
        write().map_err(|e| damaged(self.path(), &e))
    }

    /// Sums the comparisons of all jobs of an account of a service that the index still has, by model. `service`: its name in
    /// the config file, or its base URL. `account`: a hash of the key.
    pub fn estimates(&self, service: &str, account: &str) -> Result<Vec<ModelEstimates>> {
        let read = || -> rusqlite::Result<Vec<ModelEstimates>> {
            self.db()
                .prepare_cached(
                    "SELECT model, sum(rows), sum(estimated), sum(actual) FROM estimate JOIN job ON job.id = estimate.job
                     WHERE coalesce(json_extract(job.spec, '$.service_name'), json_extract(job.spec, '$.service')) = ?1
                       AND json_extract(job.spec, '$.account') = ?2
                     GROUP BY model",
                )?
                .query_map([service, account], |row| {
                    let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
                    Ok(ModelEstimates {
                        model: row.get(0)?,
                        rows: number(1)?,
                        estimated: number(2)?,
                        actual: number(3)?,
                    })
                })?
                .collect()
        };
        read().map_err(|e| damaged(self.path(), &e))
    }
}

impl JobDb {
    /// Reads (row, reported prompt tokens) for up to `most` answered rows, one in `every`, ascending.
    pub fn prompt_tokens(&self, most: u64, every: u64) -> Result<Vec<(u64, u64)>> {
        self.run(|db| {
            // Picked by a hash: models that take turns must not fall between the picks.
            let picked = "ok AND prompt > 0 AND ((row * 2654435761) >> 7) % ?2 = 0";
            db.prepare_cached(&format!("SELECT row, prompt FROM outcome WHERE {picked} ORDER BY row LIMIT ?1"))?
                .query_map([most.cast_signed(), every.cast_signed()], |found| {
                    Ok((found.get::<_, i64>(0)?.cast_unsigned(), found.get::<_, i64>(1)?.cast_unsigned()))
                })?
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Job, Transport};

    #[test]
    fn rows_are_picked_from_all_of_a_job() {
        let (_dir, mut db) = super::super::job::tests::db();
        for row in 1..=1000 {
            db.put(&super::super::job::tests::outcome(row, 1, row % 10 > 0)).unwrap();
        }
        db.commit(false).unwrap();
        let picked = db.prompt_tokens(2048, 9).unwrap();
        assert!((60..140).contains(&picked.len()), "{}", picked.len());
        assert!(picked.iter().all(|(row, tokens)| row % 10 > 0 && *tokens == 10));
        for part in 0..10 {
            let some = picked.iter().filter(|(row, _)| (row - 1) / 100 == part).count();
            assert!(some > 2, "{some} of the rows from {} on", part * 100 + 1);
        }
        assert_eq!(db.prompt_tokens(5, 1).unwrap().len(), 5);
    }

    #[test]
    fn comparisons_of_a_service_add_up_and_a_job_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
        let one = |rows, estimated| ModelEstimates { model: "m".into(), rows, estimated, actual: 100 };
        let job = |service: &str, account: &str| {
            let spec = format!(r#"{{"service":"{service}","account":"{account}"}}"#);
            let job = Job::new(Transport::Realtime, "k".to_owned(), "in.jsonl".to_owned(), spec);
            ledger.create(job).unwrap().id
        };
        let (first, second, other, mine) = (job("a", "x"), job("a", "x"), job("b", "x"), job("a", "y"));
        let spec = r#"{"service":"a","service_name":"named","account":"x"}"#.to_owned();
        let named = ledger.create(Job::new(Transport::Realtime, "k".to_owned(), String::new(), spec)).unwrap().id;
        ledger.learn_estimates(&named, &[one(4, 60)]).unwrap();
        ledger.learn_estimates(&first, &[one(5, 90)]).unwrap();
        ledger.learn_estimates(&first, &[one(10, 110)]).unwrap();
        ledger.learn_estimates(&second, &[one(3, 95)]).unwrap();
        ledger.learn_estimates(&other, &[one(7, 50)]).unwrap();
        ledger.learn_estimates(&mine, &[one(9, 70)]).unwrap();
        let sum = |rows, estimated, actual| [ModelEstimates { model: "m".into(), rows, estimated, actual }];
        assert_eq!(ledger.estimates("a", "x").unwrap(), sum(13, 205, 200));
        assert_eq!(ledger.estimates("b", "x").unwrap(), sum(7, 50, 100));
        assert_eq!(ledger.estimates("named", "x").unwrap(), sum(4, 60, 100), "wherever it is");
        assert_eq!(ledger.estimates("a", "y").unwrap(), sum(9, 70, 100), "another account is another matter");
        assert!(ledger.estimates("c", "x").unwrap().is_empty() && ledger.estimates("a", "").unwrap().is_empty());
    }
}
