//! What processes may still spend of budgets that others draw on too.

use rusqlite::params;

use super::ledger::SCHEMA;
use super::{Ledger, damaged};
use crate::error::Result;
use crate::price::Nanos;

/// What one process may still spend, or, when it has ended, may have spent without anybody knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// Its number.
    pub id: i64,
    /// The job that it works on.
    pub job: String,
    /// A date, in the user's time zone.
    pub day: String,
    /// The most.
    pub amount: Nanos,
    /// What has become of it.
    pub standing: Standing,
}

/// What has become of a reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its process may spend it, or give it back.
    Held,
    /// Its process can do nothing with it, and waits for others to give something back.
    Waiting,
    /// Its process is gone and may have spent it.
    AtRisk,
    /// Its process is gone and has spent it, and the job's entry lacks it.
    Untold,
}

impl Standing {
    const fn number(self) -> i64 {
        match self {
            Self::Held => 0,
            Self::AtRisk => 1,
            Self::Untold => 2,
            Self::Waiting => 3,
        }
    }

    const fn of(number: i64) -> Self {
        match number {
            0 => Self::Held,
            2 => Self::Untold,
            3 => Self::Waiting,
            _ => Self::AtRisk,
        }
    }

    /// The process is gone.
    pub const fn ended(self) -> bool {
        matches!(self, Self::AtRisk | Self::Untold)
    }
}

impl Ledger {
    /// Looks and writes in one transaction: nobody else decides about money meanwhile.
    ///
    /// # Errors
    /// 74 if the disk refuses, and what `decide` fails with; nothing is written then.
    pub fn decide<T>(&self, decide: impl FnOnce() -> Result<T>) -> Result<T> {
        let failed = |e| damaged(self.path(), &e);
        let act = rusqlite::Transaction::new_unchecked(self.db(), rusqlite::TransactionBehavior::Immediate)
            .map_err(failed)?;
        // An index of the same format may be older than this table.
        act.execute_batch(SCHEMA).map_err(failed)?;
        let decided = decide()?;
        act.commit().map_err(failed)?;
        Ok(decided)
    }

    /// All of the sandbox, or all that are real.
    pub fn reserves(&self, sandbox: bool) -> Result<Vec<Reserve>> {
        let read = || -> rusqlite::Result<Vec<Reserve>> {
            self.db()
                .prepare_cached("SELECT id, job, day, nanos, ended FROM reserve WHERE sandbox = ?1")?
                .query_map([sandbox], |row| {
                    Ok(Reserve {
                        id: row.get(0)?,
                        job: row.get(1)?,
                        day: row.get(2)?,
                        amount: Nanos(row.get::<_, i64>(3)?.into()),
                        standing: Standing::of(row.get(4)?),
                    })
                })?
                .collect()
        };
        read().map_err(|e| damaged(self.path(), &e))
    }

    /// Reserves so much for a job (and whether it is one of the sandbox). Its number.
    pub fn reserve(&self, (job, sandbox): (&str, bool), day: &str, amount: Nanos, standing: Standing) -> Result<i64> {
        let write = self.db().execute(
            "INSERT INTO reserve (job, day, nanos, ended, sandbox) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![job, day, nanos(amount), standing.number(), sandbox],
        );
        write.map(|_| self.db().last_insert_rowid()).map_err(|e| damaged(self.path(), &e))
    }

    /// Changes it. Nothing that stays when the process is gone takes it away.
    pub fn set_reserve(&self, id: i64, amount: Nanos, standing: Standing) -> Result<()> {
        let write = if standing.ended() && amount <= Nanos::ZERO {
            self.db().execute("DELETE FROM reserve WHERE id = ?1", [id])
        } else {
            self.db().execute(
                "UPDATE reserve SET nanos = ?2, ended = ?3 WHERE id = ?1",
                params![id, nanos(amount), standing.number()],
            )
        };
        write.map(drop).map_err(|e| damaged(self.path(), &e))
    }
}

pub(super) fn nanos(amount: Nanos) -> i64 {
    i64::try_from(amount.0.max(0)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_decision_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
        // As an older llbatch of the same format left it.
        ledger.db().execute("DROP TABLE reserve", []).unwrap();
        let reserve = |amount| ledger.reserve(("j-1", false), "2026-11-23", Nanos(amount), Standing::Held);
        let id = ledger.decide(|| reserve(5)).unwrap();
        ledger.decide(|| reserve(7).and_then(|_| Err::<(), _>(Error::usage("no")))).unwrap_err();
        let amounts = || ledger.reserves(false).unwrap().iter().map(|r| (r.amount.0, r.standing)).collect::<Vec<_>>();
        assert_eq!(amounts(), [(5, Standing::Held)]);
        assert!(ledger.reserves(true).unwrap().is_empty());
        for standing in [Standing::Waiting, Standing::AtRisk, Standing::Untold] {
            ledger.set_reserve(id, Nanos(3), standing).unwrap();
            assert_eq!(amounts(), [(3, standing)]);
        }
        ledger.set_reserve(id, Nanos::ZERO, Standing::AtRisk).unwrap();
        assert_eq!(amounts(), []);
    }
}
