//! The exposure of the budgets: money that is not spent yet, but reserved by a process or at stake in an open batch.

use std::time::SystemTime;

use super::{Accounts, dearest_bound};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::outcome::Transport;
use crate::price::{Nanos, PriceBook};
use crate::row_set::RowSet;
use crate::store::unsent::has_claimant;
use crate::store::{CachedExposure, Job, JobBatch, Ledger, Payer, ReservationState, ReservedMoney, Store};

/// The process that asks for the remaining budget. Its own reservation does not count against it. It holds the lock of
/// its job, so another reservation for that job belongs to a dead process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Requester<'a> {
    /// The job that this process works on.
    pub job: &'a str,
    /// The reservation of this process.
    pub reservation: Option<i64>,
    /// Show no warnings: an earlier call has shown them.
    pub quiet: bool,
}

/// The exposure of the budgets, as one requester sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exposure<'a> {
    pub(super) store: &'a Store,
    pub(super) ledger: &'a Ledger,
    pub(super) ctx: &'a Ctx,
    pub(super) requester: Requester<'a>,
}

/// A reservation, and whether its process may soon give back a part of it.
#[derive(Debug)]
pub(super) struct Exposed {
    pub(super) reserved: ReservedMoney,
    pub(super) returns: bool,
}

/// The money of a killed process.
#[derive(Debug, Clone, Copy)]
struct LostMoney {
    /// The amount that the process spent and the job's entry in the ledger lacks.
    unrecorded: Nanos,
    /// The amount that the process may have spent in addition.
    at_risk: Nanos,
}

impl Exposure<'_> {
    /// All reservations. Those of killed processes are settled first.
    pub(super) fn reservations(&self) -> Result<Vec<Exposed>> {
        let sandbox = self.ctx.settings.sandbox;
        let mut all = Vec::new();
        for mut reserved in self.ledger.reservations(sandbox)? {
            let own = Some(reserved.id) == self.requester.reservation;
            if reserved.state.has_ended() || own {
                all.push(Exposed { reserved, returns: false });
            } else if reserved.job != self.requester.job && self.store.in_use(&reserved.job) {
                let returns = reserved.state == ReservationState::Active;
                all.push(Exposed { reserved, returns });
            } else {
                let lost = self.lost(&reserved);
                (reserved.amount, reserved.state) = (lost.at_risk, ReservationState::AtRisk);
                self.ledger.set_reservation(reserved.id, reserved.amount, reserved.state)?;
                if lost.unrecorded > Nanos::ZERO {
                    let (amount, state) = (lost.unrecorded, ReservationState::Unrecorded);
                    let payer = Payer { job: &reserved.job, sandbox };
                    let id = self.ledger.reserve(payer, &reserved.day, amount, state)?;
                    all.push(Exposed {
                        reserved: ReservedMoney { id, amount, state, ..reserved.clone() },
                        returns: false,
                    });
                }
                all.push(Exposed { reserved, returns: false });
            }
        }
        Ok(all)
    }

    /// The money of a killed process. If its job cannot be read, the whole reservation is at risk.
    fn lost(&self, reserved: &ReservedMoney) -> LostMoney {
        self.lost_by_job(reserved).unwrap_or_else(|error| {
            self.warn(&error, &reserved.job, reserved.amount);
            LostMoney { unrecorded: Nanos::ZERO, at_risk: reserved.amount }
        })
    }

    fn lost_by_job(&self, reserved: &ReservedMoney) -> Result<LostMoney> {
        let prices = &self.ctx.settings.prices;
        let Some(job) = self.ledger.get(&reserved.job)? else {
            // A removal settles its reservations, so one that is left belongs to damage.
            return Ok(LostMoney { unrecorded: Nanos::ZERO, at_risk: reserved.amount });
        };
        let db = self.store.open_job(&job.id)?;
        let paid = Accounts::of(&db, prices.clone(), job.total, &RowSet::default())?.totals.usd();
        let unrecorded = paid.unwrap_or(Nanos::ZERO) - job.cost.unwrap_or(Nanos::ZERO);
        let unrecorded = Nanos(unrecorded.0.clamp(0, reserved.amount.0));
        let in_flight = db.unanswered(usize::MAX)?.len() as i128;
        let mut book = PriceBook::new(prices.clone());
        let dearest = dearest_bound(&db, &mut book)?;
        let largest = dearest.and_then(|(model, bound)| book.upper_bound(&model, Transport::Realtime, bound, 1));
        let rest = reserved.amount - unrecorded;
        let at_risk = match largest {
            Some(largest) => Nanos((largest.0 * in_flight).min(rest.0)),
            None if in_flight == 0 => Nanos::ZERO,
            // Without any answer so far, the size of its requests is unknown. Without a price, so is their cost.
            None => rest,
        };
        Ok(LostMoney { unrecorded, at_risk })
    }

    /// The most that all open batches can cost.
    pub(super) fn in_batches(&self) -> Result<Nanos> {
        let mut sum = Nanos::ZERO;
        for job in self.ledger.unsettled()? {
            // The sandbox has budgets of its own: its jobs cost nothing.
            let other = job.service().is_some_and(|service| (service == "sandbox") != self.ctx.settings.sandbox);
            if other {
                continue;
            }
            let exposure = self.of_job(&job)?;
            sum += exposure.sent;
            // A live process may still send admitted batches. Without one, they need a new admission.
            let live = || self.store.in_use(&job.id) || has_claimant(self.store, &job.id);
            if exposure.admitted > Nanos::ZERO && live() {
                sum += exposure.admitted;
            }
        }
        Ok(sum)
    }

    /// The exposure of one job's batches. Its file is read only if it has changed since the cache was written.
    fn of_job(&self, job: &Job) -> Result<CachedExposure> {
        let began = SystemTime::now();
        let cached = self.ledger.cached_exposure(&job.id)?;
        let version = match self.store.job_version(&job.id, began) {
            Some(version) => version,
            // A message asked the user to move an unreadable file away. Nothing is known about its job.
            None if cached.is_none() => return Ok(CachedExposure::default()),
            // Batches of a job whose file is missing may run all the same.
            None => String::new(),
        };
        if let Some(cached) = cached.as_ref().filter(|cached| !version.is_empty() && cached.version == version) {
            return Ok(cached.clone());
        }
        let batches = match self.store.open_job(&job.id).and_then(|db| db.batches()) {
            Ok(batches) => batches,
            Err(error) if job.id == self.requester.job => return Err(error),
            Err(error) => {
                let Some(cached) = cached else { return Err(unknown(&error, &job.id)) };
                let upper_bound = cached.sent + cached.admitted;
                self.warn(&error, &job.id, upper_bound);
                return Ok(CachedExposure { sent: upper_bound, ..CachedExposure::default() });
            }
        };
        let sum = |counts: fn(&JobBatch) -> bool| {
            batches
                .iter()
                .filter(|batch| batch.is_open() && counts(batch))
                .filter_map(|batch| batch.cost.upper_bound)
                .sum()
        };
        // Opening the file may have changed it: SQLite merges the log that a killed process left.
        let version = self.store.job_version(&job.id, began).unwrap_or_default();
        let exposure = CachedExposure {
            version,
            sent: sum(|batch| !batch.is_unsent()),
            admitted: sum(|batch| batch.is_unsent() && batch.cost.admitted),
        };
        if cached.as_ref() != Some(&exposure) {
            self.ledger.cache_exposure(&job.id, &exposure)?;
        }
        Ok(exposure)
    }

    fn warn(&self, error: &Error, job: &str, amount: Nanos) {
        if !self.requester.quiet {
            self.ctx.ui.warn(&format!(
                "{}; the config file's budget counts {job} with {}, its last known maximum",
                error.message,
                amount.human()
            ));
        }
    }
}

/// Settles what the budgets hold for a job that is about to be removed, and whose paid cost is recorded. The caller has its
/// lock, so the processes of its reservations are dead. The batches of a job that is not `readable` may run all the same.
pub fn settle_removed(job: &Job, readable: bool, store: &Store, ledger: &Ledger, ctx: &Ctx) -> Result<()> {
    let exposure = Exposure { store, ledger, ctx, requester: Requester { job: &job.id, ..Requester::default() } };
    for reserved in ledger.reservations(job.is_of_sandbox())? {
        if reserved.job == job.id && !reserved.state.has_ended() {
            let lost = exposure.lost(&reserved);
            ledger.set_reservation(reserved.id, lost.unrecorded + lost.at_risk, ReservationState::AtRisk)?;
        }
    }
    let held =
        ledger.cached_exposure(&job.id)?.filter(|_| !readable).map_or(Nanos::ZERO, |held| held.sent + held.admitted);
    if held > Nanos::ZERO {
        let payer = Payer { job: &job.id, sandbox: job.is_of_sandbox() };
        ledger.reserve(payer, &jiff::Zoned::now().date().to_string(), held, ReservationState::AtRisk)?;
    }
    Ok(())
}

fn unknown(error: &Error, job: &str) -> Error {
    Error::new(
        Exit::Io,
        format!(
            "{}; llbatch cannot tell what {job} may still cost, so it cannot keep a budget; nothing was sent",
            error.message
        ),
    )
    .hint("move that file away (its job then counts as nothing), or remove [budget] from the config file for now")
}
