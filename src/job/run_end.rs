//! The end of a realtime run: the last rows of its results, its accounts, its reservation.

use std::time::Duration;

use super::consumer::Consumed;
use super::finish::{Ended, Finish, JobAccounts, Workspace};
use super::metrics;
use super::resume::JobRows;
use super::tally::RowFolds;
use super::verdict::Verdict;
use crate::error::Result;
use crate::money::Accounts;
use crate::outcome::{ErrorCode, Outcome};
use crate::price::Nanos;
use crate::results::{OrderedWriter, RowReader, Unanswered};
use crate::row_set::RowSet;
use crate::store::JobDb;

/// The end of a realtime run.
pub(super) struct RunEnd<'a> {
    /// The rows of the job.
    pub rows: JobRows<'a>,
    /// Rows that an earlier run answered.
    pub reused: &'a RowSet,
    /// Paid by earlier runs for answers that no longer stand for a row.
    pub discarded: Nanos,
    /// No results may be written: the input changed, or the user interrupted twice.
    pub unwritable: bool,
    /// Possible charges of earlier runs beyond their recorded cost.
    pub at_risk_before: Nanos,
}

impl RunEnd<'_> {
    /// Writes the last rows of the results, records the job and sums up.
    pub fn finish(self, mut finish: Finish<'_>, consumed: Result<Consumed<'_>>, elapsed: Duration) -> Result<Ended> {
        let Workspace { ctx, store, .. } = finish.workspace;
        let mut reservation = None;
        let mut accounts = match consumed {
            Ok(Consumed { mut db, results, folds, reservation: reserved, tokens }) => {
                reservation = reserved;
                if db.settle_aside()? && ctx.telling.wants_metrics() {
                    // The figures so far lack the failures that stand again.
                    metrics::show(&db, &finish.job, ctx)?;
                }
                // A stopped run that has brought nothing must not replace earlier results. Rejected answers were paid for.
                let brought = finish.job.succeeded > 0 || tokens > 0;
                let accounts = if finish.stop.is_none() || (brought && !self.unwritable) {
                    self.write(&db, results, folds, &mut finish)?
                } else {
                    drop(results);
                    JobAccounts::paid(self.fold(&finish, &db)?)
                };
                finish.db = Some(db);
                accounts
            }
            Err(error) => {
                finish.fail(&error);
                let folded = store.open_job(&finish.job.id).and_then(|db| self.fold(&finish, &db));
                let unknown = || Accounts::new(ctx.settings.prices.clone(), finish.job.total);
                JobAccounts::paid(folded.unwrap_or_else(|_| unknown()))
            }
        };
        let db = finish.db.take().map_or_else(|| store.open_job(&finish.job.id), Ok);
        let added = db.and_then(|db| {
            let added = accounts.add_outstanding(finish.workspace, &db, &finish.job, finish.spec);
            finish.db = Some(db);
            added
        });
        accounts.accounts.totals.add_paid_earlier(self.discarded);
        // The run must still be recorded and its reservation released.
        if let Err(error) = added {
            ctx.ui.warn(&format!("the cost of requests in flight is not known: {error}"));
        }
        let ended = finish.conclude(&accounts, elapsed);
        let at_risk = accounts.accounts.totals.at_risk() - accounts.in_batches - self.at_risk_before;
        if let Some(Err(error)) = reservation.map(|reservation| reservation.release(at_risk)) {
            tracing::warn!("{error}");
        }
        Ok(ended)
    }

    /// Writes the missing rows of the results. Rows without an outcome carry the reason for the stop.
    fn write(
        &self,
        db: &JobDb,
        results: OrderedWriter,
        mut folds: RowFolds,
        finish: &mut Finish<'_>,
    ) -> Result<JobAccounts> {
        folds.add_retired(db)?;
        let mut price = |outcome: &Outcome| folds.count(outcome, self.reused.contains(outcome.row));
        let mut open = || RowReader::open(self.rows.inputs, self.rows.builder);
        let (code, reason) = match &finish.stop {
            Some(stop) => (stop.pending, stop.reason.as_str()),
            None => (ErrorCode::Interrupted, "done"),
        };
        let lines = results.finish(db, &mut price, Unanswered { code, reason, open_reader: &mut open });
        let RowFolds { accounts, details, .. } = folds;
        // The report of a job does not tell which run paid for a row.
        finish.details = Some(details).filter(|_| self.reused.count() == 0 && self.discarded == Nanos::ZERO);
        let accounts = JobAccounts::paid(accounts);
        let verdict = Verdict::of(&accounts.facts(&finish.job, finish.command, finish.stop.clone()));
        match lines.and_then(|lines| lines.commit(verdict.is_whole())) {
            Ok(files) => finish.written = files,
            Err(error) => finish.fail(&error),
        }
        Ok(accounts)
    }

    fn fold(&self, finish: &Finish<'_>, db: &JobDb) -> Result<Accounts> {
        Accounts::of(db, finish.workspace.ctx.settings.prices.clone(), finish.job.total, self.reused)
    }
}
