//! Reservations: money of the shared budgets that processes have set aside.

use rusqlite::params;

use super::{Ledger, Payer, damaged};
use crate::error::Result;
use crate::price::Nanos;

/// Money that one process has reserved and may spend. Once the process has ended, it is the money that it may have spent
/// without a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedMoney {
    /// Number of the reservation.
    pub id: i64,
    /// The job that the process works on.
    pub job: String,
    /// A date, in the user's time zone.
    pub day: String,
    /// The reserved amount.
    pub amount: Nanos,
    /// State of the reservation.
    pub state: ReservationState,
}

/// The state of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationState {
    /// The process may spend the money or give it back.
    Active,
    /// The process cannot use the money, and waits for other processes to give back theirs.
    Waiting,
    /// The process has ended, and may have spent the money.
    AtRisk,
    /// The process has ended and has spent the money, but the job's entry in the ledger lacks it.
    Unrecorded,
}

impl ReservationState {
    /// The number of this state in the column `ended`.
    const fn number(self) -> i64 {
        match self {
            Self::Active => 0,
            Self::AtRisk => 1,
            Self::Unrecorded => 2,
            Self::Waiting => 3,
        }
    }

    const fn of(number: i64) -> Self {
        match number {
            0 => Self::Active,
            2 => Self::Unrecorded,
            3 => Self::Waiting,
            _ => Self::AtRisk,
        }
    }

    /// Returns whether the process has ended.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::AtRisk | Self::Unrecorded)
    }
}

impl Ledger {
    /// All reservations of the sandbox, or all real ones.
    pub fn reservations(&self, sandbox: bool) -> Result<Vec<ReservedMoney>> {
        let read = || -> rusqlite::Result<Vec<ReservedMoney>> {
            self.db()
                .prepare_cached("SELECT id, job, day, nanos, ended FROM reserve WHERE sandbox = ?1")?
                .query_map([sandbox], |row| {
                    Ok(ReservedMoney {
                        id: row.get(0)?,
                        job: row.get(1)?,
                        day: row.get(2)?,
                        amount: Nanos(row.get::<_, i64>(3)?.into()),
                        state: ReservationState::of(row.get(4)?),
                    })
                })?
                .collect()
        };
        read().map_err(|e| damaged(self.path(), &e))
    }

    /// Reserves an amount for `day`, and returns the number of the reservation.
    pub fn reserve(&self, payer: Payer<'_>, day: &str, amount: Nanos, state: ReservationState) -> Result<i64> {
        let write = self.db().execute(
            "INSERT INTO reserve (job, day, nanos, ended, sandbox) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![payer.job, day, nanos(amount), state.number(), payer.sandbox],
        );
        write.map(|_| self.db().last_insert_rowid()).map_err(|e| damaged(self.path(), &e))
    }

    /// Changes a reservation. One that has ended and holds no money is deleted.
    pub fn set_reservation(&self, id: i64, amount: Nanos, state: ReservationState) -> Result<()> {
        let write = if state.has_ended() && amount <= Nanos::ZERO {
            self.db().execute("DELETE FROM reserve WHERE id = ?1", [id])
        } else {
            self.db().execute(
                "UPDATE reserve SET nanos = ?2, ended = ?3 WHERE id = ?1",
                params![id, nanos(amount), state.number()],
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
    fn decision_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).unwrap();
        // An older llbatch of the same format has no such table.
        ledger.db().execute("DROP TABLE reserve", []).unwrap();
        let payer = Payer { job: "j-1", sandbox: false };
        let reserve = |amount| ledger.reserve(payer, "2026-11-23", Nanos(amount), ReservationState::Active);
        let id = ledger.decide(|| reserve(5)).unwrap();
        ledger.decide(|| reserve(7).and_then(|_| Err::<(), _>(Error::usage("no")))).unwrap_err();
        let amounts = || ledger.reservations(false).unwrap().iter().map(|r| (r.amount.0, r.state)).collect::<Vec<_>>();
        assert_eq!(amounts(), [(5, ReservationState::Active)]);
        assert!(ledger.reservations(true).unwrap().is_empty());
        for state in [ReservationState::Waiting, ReservationState::AtRisk, ReservationState::Unrecorded] {
            ledger.set_reservation(id, Nanos(3), state).unwrap();
            assert_eq!(amounts(), [(3, state)]);
        }
        ledger.set_reservation(id, Nanos::ZERO, ReservationState::AtRisk).unwrap();
        assert_eq!(amounts(), []);
    }
}
