//! The reservation of one run: money that it draws from the config file's budgets, slice by slice. Commands that run at
//! the same time share the remaining budget, and together never exceed it.

use std::time::{Duration, Instant};

use super::budget::Remaining;
use super::exposure::Requester;
use crate::context::Ctx;
use crate::error::Result;
use crate::price::Nanos;
use crate::realtime::Need;
use crate::store::{Ledger, Payer, ReservationState, Store};

/// The divisor of the remaining budget that gives one slice: a small one, so that no run stops for money that lies idle
/// with another.
const SLICE: i128 = 16;
/// The fewest requests that a slice pays for, if the budget allows.
const FEWEST: i128 = 8;
/// The pause before a run that waits for other runs looks at the budget again.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// Money that one run has drawn. A reservation that is dropped without [`Reservation::release`] lasts until the process
/// ends.
#[derive(Debug)]
pub struct Reservation<'a> {
    ctx: &'a Ctx,
    store: Store,
    ledger: Ledger,
    job: String,
    /// Its number in the ledger, once money was drawn.
    id: Option<i64>,
    state: ReservationState,
    /// The amount drawn in all.
    drawn: Nanos,
    /// The part of it that the job's entry in the ledger counts as spent.
    recorded: Nanos,
    /// A need that other runs may make it possible to meet, and the time of the last attempt.
    waiting: Option<(Need, Instant)>,
    /// The user knows that this run waits.
    notified: bool,
}

/// The result of an attempt to draw money.
enum DrawResult {
    /// Drawn in all.
    Drawn(Nanos),
    /// Other runs may give back enough money of this budget.
    Later(String),
    /// This budget has no more money.
    Never(String),
}

impl<'a> Reservation<'a> {
    /// Opens the reservation of a run that holds the lock of `job` and has called [`Remaining::of_budgets`] before.
    /// `None`: the config file sets no budget.
    pub fn open(job: &str, store: &Store, ctx: &'a Ctx) -> Result<Option<Self>> {
        if !ctx.settings.budget.is_set() {
            return Ok(None);
        }
        Ok(Some(Self {
            ctx,
            store: store.clone(),
            ledger: store.ledger()?,
            job: job.to_owned(),
            id: None,
            state: ReservationState::Active,
            drawn: Nanos::ZERO,
            recorded: Nanos::ZERO,
            waiting: None,
            notified: false,
        }))
    }

    /// Meets a need for money, or one that had to wait. Returns the amount drawn in all, or the budget that has no more
    /// money. `None`: there is no need, or it must wait for other runs. Call it regularly.
    pub fn poll(&mut self, need: Option<Need>) -> Result<Option<std::result::Result<Nanos, String>>> {
        let due = |(need, at): (Need, Instant)| (at.elapsed() >= POLL_EVERY).then_some(need);
        let Some(need) = need.or_else(|| self.waiting.and_then(due)) else { return Ok(None) };
        self.waiting = None;
        Ok(match self.draw(need)? {
            DrawResult::Drawn(amount) => Some(Ok(amount)),
            DrawResult::Never(what) => Some(Err(what)),
            DrawResult::Later(what) => {
                if !self.notified {
                    let text =
                        format!("other commands have reserved the rest of {what}; waiting for them to release it");
                    self.ctx.ui.note(&text);
                }
                self.notified = true;
                self.waiting = Some((need, Instant::now()));
                None
            }
        })
    }

    fn draw(&mut self, need: Need) -> Result<DrawResult> {
        // An idle engine has given up all that it drew and did not spend.
        let drawn = need.idle.unwrap_or(self.drawn);
        let unspent = drawn - self.recorded;
        let (mut id, mut state) = (self.id, ReservationState::Active);
        let result = self.ledger.decide(|| {
            let keep = |amount, state| id.map_or(Ok(()), |id| self.ledger.set_reservation(id, amount, state));
            keep(unspent, state)?;
            let requester = Requester { job: &self.job, reservation: id, quiet: true };
            let Some(left) = Remaining::of_budgets(&self.store, &self.ledger, self.ctx, requester)? else {
                return Ok(DrawResult::Drawn(drawn));
            };
            if need.least > left.amount {
                if need.idle.is_none() || need.least > left.amount + left.returning {
                    return Ok(DrawResult::Never(left.what));
                }
                // A waiting run promises nothing to others: two runs would wait for each other forever.
                state = ReservationState::Waiting;
                keep(unspent, state)?;
                return Ok(DrawResult::Later(left.what));
            }
            // Each draw looks at every job, so a slice must not be too small either.
            let enough = Nanos((need.least.0 * FEWEST).min(left.amount.0));
            let more = enough.max(Nanos(left.amount.0 / SLICE));
            if id.is_some() {
                keep(unspent + more, state)?;
            } else {
                let payer = Payer { job: &self.job, sandbox: self.ctx.settings.sandbox };
                let day = jiff::Zoned::now().date().to_string();
                id = Some(self.ledger.reserve(payer, &day, unspent + more, state)?);
            }
            Ok(DrawResult::Drawn(drawn + more))
        })?;
        (self.id, self.state) = (id, state);
        self.drawn = if let DrawResult::Drawn(all) = result { all } else { drawn };
        Ok(result)
    }

    /// Takes note that the job's entry in the ledger now counts `spent` of this money as spent.
    pub fn record_spent(&mut self, spent: Nanos) -> Result<()> {
        let Some(id) = self.id.filter(|_| spent != self.recorded) else { return Ok(()) };
        self.recorded = spent;
        self.ledger.set_reservation(id, self.drawn - spent, self.state)
    }

    /// Ends the run, whose cost is recorded. The service may have billed `at_risk` beyond that.
    pub fn release(self, at_risk: Nanos) -> Result<()> {
        self.id.map_or(Ok(()), |id| self.ledger.set_reservation(id, at_risk, ReservationState::AtRisk))
    }
}
