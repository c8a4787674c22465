//! What may still be spent by others, or may have been: what processes have reserved, and batches that are not settled.

use std::time::SystemTime;

use super::worst::Worst;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::money;
use crate::price::Nanos;
use crate::row_set::RowSet;
use crate::store::unsent::{has_claimant, is_unsent};
use crate::store::{BatchJob, Held, Job, JobDb, Ledger, Reserve, Standing, Store};

/// Whose question it is: what a process has reserved itself is not against it, and who else held its job's lock is gone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own<'a> {
    /// The job that this process works on.
    pub job: &'a str,
    /// What it has reserved.
    pub reserve: Option<i64>,
    /// It asked before: what is to be said of other jobs has been said.
    pub again: bool,
}

/// Who asks, and where to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flying<'a> {
    pub(super) store: &'a Store,
    pub(super) ledger: &'a Ledger,
    pub(super) ctx: &'a Ctx,
    pub(super) own: Own<'a>,
}

/// What a process that was killed has spent without its job having told, and may have spent beyond that.
#[derive(Debug, Clone, Copy)]
struct Lost {
    untold: Nanos,
    at_risk: Nanos,
}

impl Flying<'_> {
    /// What processes have reserved, and whether a part of it may come back soon. Those that are gone are settled.
    pub(super) fn reserves(&self) -> Result<Vec<(Reserve, bool)>> {
        let sandbox = self.ctx.settings.sandbox;
        let mut all = Vec::new();
        for mut reserve in self.ledger.reserves(sandbox)? {
            let ours = Some(reserve.id) == self.own.reserve;
            if reserve.standing.ended() || ours {
                all.push((reserve, false));
            } else if reserve.job != self.own.job && self.store.in_use(&reserve.job) {
                let returns = reserve.standing == Standing::Held;
                all.push((reserve, returns));
            } else {
                let lost = self.lost(&reserve);
                (reserve.amount, reserve.standing) = (lost.at_risk, Standing::AtRisk);
                self.ledger.set_reserve(reserve.id, reserve.amount, reserve.standing)?;
                if lost.untold > Nanos::ZERO {
                    let whose = (reserve.job.as_str(), sandbox);
                    let id = self.ledger.reserve(whose, &reserve.day, lost.untold, Standing::Untold)?;
                    let standing = Standing::Untold;
                    all.push((Reserve { id, amount: lost.untold, standing, ..reserve.clone() }, false));
                }
                all.push((reserve, false));
            }
        }
        Ok(all)
    }

    /// What became of the reserve of a process that was killed; all of it may be spent if its job's file does not tell.
    fn lost(&self, reserve: &Reserve) -> Lost {
        self.told_by_file(reserve).unwrap_or_else(|error| {
            self.warn(&error, &reserve.job, reserve.amount);
            Lost { untold: Nanos::ZERO, at_risk: reserve.amount }
        })
    }

    fn told_by_file(&self, reserve: &Reserve) -> Result<Lost> {
        let (path, prices) = (self.store.job_path(&reserve.job), &self.ctx.settings.prices);
        let Some(job) = self.ledger.get(&reserve.job)?.filter(|_| path.exists()) else {
            return Ok(Lost { untold: Nanos::ZERO, at_risk: Nanos::ZERO });
        };
        let db = JobDb::open(&path)?;
        let paid = money::fold(&db, prices.clone(), job.total, &RowSet::default())?.usd();
        let untold = paid.unwrap_or(Nanos::ZERO) - job.cost.unwrap_or(Nanos::ZERO);
        let untold = Nanos(untold.0.clamp(0, reserve.amount.0));
        let flying = db.unanswered(usize::MAX)?.len() as i128;
        let mut worst = Worst::new(prices.clone(), false);
        let largest = db.largest()?.into_iter().filter_map(|(model, most)| worst.of(&model.into(), most)).max();
        let rest = reserve.amount - untold;
        // Without an answer so far nobody knows how large its requests are.
        let at_risk = match largest {
            Some(largest) => Nanos((largest.0 * flying).min(rest.0)),
            None if flying == 0 => Nanos::ZERO,
            None => rest,
        };
        Ok(Lost { untold, at_risk })
    }

    /// The most that batches which have not been settled can cost.
    pub(super) fn in_batches(&self) -> Result<Nanos> {
        let mut sum = Nanos::ZERO;
        for job in self.ledger.unsettled()? {
            // A rehearsal costs nothing, and what is real is none.
            let other = job.service().is_some_and(|service| (service == "sandbox") != self.ctx.settings.sandbox);
            if other {
                continue;
            }
            let held = self.held(&job)?;
            sum += held.sent;
            // What was not sent is sent only if the budgets let it, by a process that lives.
            if held.admitted > Nanos::ZERO && (self.store.in_use(&job.id) || has_claimant(self.store, &job.id)) {
                sum += held.admitted;
            }
        }
        Ok(sum)
    }

    /// What a job's batches may still cost, from its file if that has changed since the index was told.
    fn held(&self, job: &Job) -> Result<Held> {
        let began = SystemTime::now();
        let Some(stamp) = self.store.stamp(&job.id, began) else { return Ok(Held::default()) };
        let known = self.ledger.held(&job.id)?;
        if let Some(known) = known.as_ref().filter(|known| !stamp.is_empty() && known.stamp == stamp) {
            return Ok(known.clone());
        }
        let batches = match self.store.open_job(&job.id).and_then(|db| db.batches()) {
            Ok(batches) => batches,
            Err(error) if job.id == self.own.job => return Err(error),
            Err(error) => {
                let Some(known) = known else { return Err(unknown(&error, &job.id)) };
                let most = known.sent + known.admitted;
                self.warn(&error, &job.id, most);
                return Ok(Held { sent: most, ..Held::default() });
            }
        };
        let sum = |counts: fn(&BatchJob) -> bool| {
            batches.iter().filter(|batch| batch.is_open() && counts(batch)).filter_map(|batch| batch.most).sum()
        };
        // Looking may have changed the file: a log that a killed process left is taken into it.
        let stamp = self.store.stamp(&job.id, began).unwrap_or_default();
        let held = Held {
            stamp,
            sent: sum(|batch| !is_unsent(batch)),
            admitted: sum(|batch| is_unsent(batch) && batch.admitted),
        };
        if known.as_ref() != Some(&held) {
            self.ledger.set_held(&job.id, &held)?;
        }
        Ok(held)
    }

    fn warn(&self, error: &Error, job: &str, amount: Nanos) {
        if !self.own.again {
            self.ctx.ui.warn(&format!(
                "{}; {job} counts with {} in the config file's budget, the most that it was known to hold",
                error.message,
                amount.human()
            ));
        }
    }
}

fn unknown(error: &Error, job: &str) -> Error {
    Error::new(
        Exit::Io,
        format!(
            "{}; so nobody knows what {job} may still cost, and no budget can be kept; nothing was sent",
            error.message
        ),
    )
    .hint("move that file away (its job counts with nothing then), or take [budget] out of the config file for now")
}
