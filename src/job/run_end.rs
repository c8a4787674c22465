//! The end of a realtime run: the last rows of its results, its accounts, its reservation.

use std::time::Duration;

use super::consumer::Consumed;
use super::finish::{Accounts, Desk, Ended, Finish};
use super::resume::Rows;
use crate::error::Result;
use crate::money::{self, Money};
use crate::outcome::{ErrorCode, Outcome};
use crate::price::Nanos;
use crate::results::Cursor;
use crate::row_set::RowSet;
use crate::summary::Totals;

/// The end of a realtime run.
pub struct RunEnd<'a> {
    /// The rows of the job.
    pub rows: Rows<'a>,
    /// Rows that an earlier run answered.
    pub reused: &'a RowSet,
    /// No results may be written: the input changed, or the user wanted out at once.
    pub unwritable: bool,
    /// What earlier runs may have been billed for beyond what they know.
    pub at_risk_before: Nanos,
}

impl RunEnd<'_> {
    /// Writes the last rows of the results, records the job and sums up.
    pub fn finish(self, mut finish: Finish<'_>, consumed: Result<Consumed<'_>>, elapsed: Duration) -> Result<Ended> {
        let store = finish.desk.store;
        let mut purse = None;
        let totals = match consumed {
            Ok(mut consumed) => {
                purse = consumed.purse.take();
                consumed.db.settle_aside()?;
                // Nothing new is not worth replacing yesterday's results for.
                if finish.stop.is_none() || (finish.job.succeeded > 0 && !self.unwritable) {
                    self.write(consumed, &mut finish)?
                } else {
                    self.fold(&finish, &consumed.db)?
                }
            }
            Err(error) => {
                finish.fail(&error);
                let folded = store.open_job(&finish.job.id).and_then(|db| self.fold(&finish, &db));
                folded.unwrap_or_else(|_| Totals::new(finish.job.total))
            }
        };
        let accounts = match store.open_job(&finish.job.id) {
            Ok(db) => Accounts::with(totals, finish.desk, &db, &finish.job, finish.spec)?,
            Err(_) => Accounts { totals, batches: Vec::new(), in_batches: Nanos::ZERO },
        };
        let ended = finish.conclude(&accounts, elapsed);
        let at_risk = accounts.totals.at_risk() - accounts.in_batches - self.at_risk_before;
        if let Some(Err(error)) = purse.map(|purse| purse.close(at_risk)) {
            tracing::warn!("{error}");
        }
        Ok(ended)
    }

    /// Writes the rows that the results still lack; those without an outcome carry why the run stopped.
    fn write(&self, consumed: Consumed<'_>, finish: &mut Finish<'_>) -> Result<Totals> {
        let Consumed { db, results, mut totals, .. } = consumed;
        let mut money = Money::new(finish.desk.ctx.settings.prices.clone());
        for retired in db.retired()? {
            money.retired(&retired, &mut totals);
        }
        let mut price = |outcome: &Outcome| money.count(outcome, self.reused.contains(outcome.row), &mut totals);
        let mut open = || Cursor::open(self.rows.inputs, self.rows.shape, false);
        let pending = match &finish.stop {
            Some(stop) => (stop.pending, stop.reason.as_str()),
            None => (ErrorCode::Interrupted, "done"),
        };
        if let Err(error) = results.finish(&db, &mut price, pending, &mut open) {
            finish.fail(&error);
        }
        Ok(totals)
    }

    fn fold(&self, finish: &Finish<'_>, db: &crate::store::JobDb) -> Result<Totals> {
        let Desk { ctx, .. } = finish.desk;
        money::fold(db, ctx.settings.prices.clone(), finish.job.total, self.reused)
    }
}
