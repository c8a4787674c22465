//! The wallet of a run: it sets aside money before a request leaves, and releases the rest when the request is over.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::Notify;

use super::budget::{Budget, Short};
use super::funds::Draw;
use super::{Event, Shared};
use crate::outcome::Usage;
use crate::price::Nanos;

/// The money of one run.
pub(super) struct Wallet {
    shared: Arc<Shared>,
    events: Sender<Event>,
    budget: RefCell<Option<Budget>>,
    /// Money was released.
    released: Notify,
    /// A row waits for money that other processes hold.
    short: Cell<bool>,
}

/// The reason why no money is set aside.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unaffordable {
    /// The request could exceed this budget.
    Spent(String),
    /// The run stops for another reason.
    Stopping,
}

impl Wallet {
    pub(super) fn new(budget: Option<Budget>, shared: Arc<Shared>, events: Sender<Event>) -> Self {
        Self { shared, events, budget: RefCell::new(budget), released: Notify::new(), short: Cell::new(false) }
    }

    /// Sets aside the maximum cost of a request. Waits for other requests to release money if necessary.
    pub(super) async fn reserve(&self, model: &Arc<str>, bound: Usage) -> Result<Nanos, Unaffordable> {
        loop {
            let (released, drawn) = (self.released.notified(), self.shared.funds.changed.notified());
            match self.try_reserve(model, bound) {
                Ok(Some(cost)) => return Ok(cost),
                Ok(None) => {}
                Err(budget) => return Err(Unaffordable::Spent(budget)),
            }
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return Err(Unaffordable::Stopping),
                () = released => {}
                () = drawn => {}
            }
        }
    }

    /// Sets money aside; `None` if that must wait. The error names the budget that is spent.
    fn try_reserve(&self, model: &Arc<str>, bound: Usage) -> Result<Option<Nanos>, String> {
        let mut budget = self.budget.borrow_mut();
        let Some(budget) = budget.as_mut() else { return Ok(Some(Nanos::ZERO)) };
        let reserved = budget.reserve(model, bound, self.shared.funds.drawn());
        self.short.set(matches!(reserved, Err(Short::Undrawn(_))));
        match reserved {
            Ok(cost) => Ok(Some(cost)),
            Err(Short::ForNow) => Ok(None),
            Err(Short::ForGood) => Err(budget.what()),
            Err(Short::Undrawn(least)) => match self.shared.funds.request(least, budget.spent_idle()) {
                Draw::Ask(need) => {
                    // The consumer outlives the engine, or has failed and cancelled it.
                    drop(self.events.send(Event::Draw(need)));
                    Ok(None)
                }
                Draw::Wait => Ok(None),
                Draw::Stop(budget) => Err(budget),
            },
        }
    }

    /// Returns the cost of these tokens.
    pub(super) fn cost(&self, model: &Arc<str>, usage: Usage) -> Nanos {
        self.budget.borrow_mut().as_mut().map_or(Nanos::ZERO, |budget| budget.cost(model, usage))
    }

    /// Releases the money that was set aside for a request which cost `spent`.
    pub(super) fn release(&self, set_aside: Nanos, spent: Nanos) {
        if let Some(budget) = self.budget.borrow_mut().as_mut() {
            budget.release(set_aside, spent);
            self.released.notify_waiters();
        }
    }

    /// Returns true if a row waits for money that other processes hold.
    pub(super) const fn is_short(&self) -> bool {
        self.short.get()
    }
}
