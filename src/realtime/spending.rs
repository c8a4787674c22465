//! What a row's requests may cost: set aside before one leaves, settled when it is over.

use std::sync::Arc;

use super::budget::{Budget, Draw, Short};
use super::{Engine, Event, Stopped};
use crate::outcome::{Outcome, Usage};
use crate::price::Nanos;

impl Engine {
    /// Sets aside what a request may cost at most; waits for others to come back if that is what it takes. `None`: the run
    /// stops, because the budget is spent or for another reason.
    pub(super) async fn afford(&self, model: &Arc<str>, most: Usage) -> Option<Nanos> {
        loop {
            let (changed, drawn) = (self.changed.notified(), self.shared.funds.changed.notified());
            let asked = self.budget.borrow_mut().as_mut().map(|budget| {
                budget.reserve(model, most, self.shared.funds.drawn()).map_err(|short| (short, budget.spent_idle()))
            });
            self.short.set(matches!(asked, Some(Err((Short::Undrawn(_), _)))));
            match asked {
                None => return Some(Nanos::ZERO),
                Some(Ok(cost)) => return Some(cost),
                Some(Err((Short::ForNow, _))) => {}
                Some(Err((Short::ForGood, _))) => {
                    let what = self.budget.borrow().as_ref().map_or_else(String::new, Budget::what);
                    self.stop(Stopped::Cost(what));
                    return None;
                }
                Some(Err((Short::Undrawn(least), idle))) => match self.shared.funds.short(least, idle) {
                    // The consumer outlives the engine, or has failed and cancelled it.
                    Draw::Ask(need) => drop(self.events.send(Event::Draw(need))),
                    Draw::Wait => {}
                    Draw::Stop(what) => {
                        self.stop(Stopped::Cost(what));
                        return None;
                    }
                },
            }
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return None,
                () = changed => {}
                () = drawn => {}
            }
        }
    }

    /// What a request that is over did cost; in doubt, all that was set aside for it.
    pub(super) fn spent(&self, outcome: &Outcome, (wasted, at_risk): (Usage, u32), set_aside: Nanos) -> Nanos {
        if outcome.at_risk > at_risk || (outcome.ok() && outcome.usage.is_none()) {
            return set_aside;
        }
        let mut usage = outcome.usage.unwrap_or_default();
        usage.prompt += outcome.wasted.prompt - wasted.prompt;
        usage.completion += outcome.wasted.completion - wasted.completion;
        self.budget.borrow_mut().as_mut().map_or(Nanos::ZERO, |budget| budget.cost(&outcome.model, usage))
    }

    pub(super) fn settle(&self, set_aside: Nanos, spent: Nanos) {
        if set_aside > Nanos::ZERO
            && let Some(budget) = self.budget.borrow_mut().as_mut()
        {
            budget.settle(set_aside, spent);
            self.changed.notify_waiters();
        }
    }
}
