//! `--max-cost`, and budgets that other processes draw on too: no request starts that could pass them.
//!
//! The most that a request can cost is set aside before it is sent, and given back but for what it did cost. Of a budget
//! that others draw on too, only what was drawn for this run can be set aside; the consumer draws more.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::outcome::{Transport, Usage};
use crate::price::{Nanos, PriceBook, Table};

/// Money that may be spent.
#[derive(Debug, Clone)]
pub struct Budget {
    /// `--max-cost`, and what was spent of it before this run.
    limit: Option<(Nanos, Nanos)>,
    /// There are budgets that others draw on too.
    shared: bool,
    spent: Nanos,
    set_aside: Nanos,
    prices: PriceBook,
}

/// Why nothing is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Short {
    /// It may fit when others have come back.
    ForNow,
    /// It never will.
    ForGood,
    /// So much more must be drawn.
    Undrawn(Nanos),
}

impl Budget {
    /// May spend up to `limit`, of which so much is gone already, at these prices; and no more than is drawn, if there are
    /// budgets `shared` with others.
    pub fn new(limit: Option<(Nanos, Nanos)>, shared: bool, table: Table) -> Self {
        Self { limit, shared, spent: Nanos::ZERO, set_aside: Nanos::ZERO, prices: PriceBook::new(table) }
    }

    /// For people: which budget it is that nothing is left of.
    pub fn what(&self) -> String {
        let Some((limit, before)) = self.limit else { return String::new() };
        let gone = before + self.spent;
        let gone =
            if gone > Nanos::ZERO { format!(", {} of it spent or at risk", gone.human()) } else { String::new() };
        format!("--max-cost {}{gone}; a higher --max-cost goes on from here", limit.human())
    }

    /// Nothing is in flight that could come back.
    pub(super) fn idle(&self) -> bool {
        self.set_aside <= Nanos::ZERO
    }

    /// What was spent, if nothing is in flight that could come back.
    pub(super) fn spent_idle(&self) -> Option<Nanos> {
        self.idle().then_some(self.spent)
    }

    /// What so many tokens cost; nothing is known of an unpriced model, whose rows are not let in at all.
    pub fn cost(&mut self, model: &Arc<str>, usage: Usage) -> Nanos {
        self.prices.cost(model, Transport::Realtime, usage).unwrap_or(Nanos::ZERO)
    }

    /// Sets aside the most that a request can cost, given how much was drawn in all.
    pub(super) fn reserve(&mut self, model: &Arc<str>, most: Usage, drawn: Nanos) -> Result<Nanos, Short> {
        // Whoever let unpriced rows in does not count them.
        let Some(cost) = self.prices.most(model, Transport::Realtime, most, 1) else { return Ok(Nanos::ZERO) };
        let gone = self.spent + self.set_aside + cost;
        if self.limit.is_some_and(|(limit, before)| before + gone > limit) {
            return Err(if self.idle() { Short::ForGood } else { Short::ForNow });
        }
        if self.shared && gone > drawn {
            return Err(Short::Undrawn(gone - drawn));
        }
        self.set_aside += cost;
        Ok(cost)
    }

    /// A request is over: `reserved` was set aside for it, and it cost `spent`.
    pub fn settle(&mut self, reserved: Nanos, spent: Nanos) {
        self.set_aside = self.set_aside - reserved;
        self.spent += spent;
    }
}

/// What was drawn of the budgets that others draw on too; the engine asks for more, the consumer draws it.
#[derive(Debug, Default)]
pub(super) struct Funds {
    state: Mutex<Drawn>,
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct Drawn {
    amount: Nanos,
    /// Asked for more, and not answered yet.
    asked: bool,
    /// When that was asked, nothing was in flight that could have come back.
    idle: bool,
    refused: Option<String>,
}

/// What the engine asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// At least so much more.
    pub least: Nanos,
    /// Nothing is in flight that could come back: what was drawn and not spent has been given up, and so much was spent.
    pub idle: Option<Nanos>,
}

/// What to do about money that is not drawn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Draw {
    /// Ask for more.
    Ask(Need),
    /// Wait: for an answer, or for what is in flight.
    Wait,
    /// There is no more; of which budget.
    Stop(String),
}

impl Funds {
    /// Drawn in all.
    pub(super) fn drawn(&self) -> Nanos {
        self.state.lock().map_or(Nanos::ZERO, |state| state.amount)
    }

    /// What to do when that is too little by `least`. `idle`: nothing is in flight that could come back, and so much was
    /// spent; what was drawn beyond that is of no use here then, and perhaps to others.
    pub(super) fn short(&self, least: Nanos, idle: Option<Nanos>) -> Draw {
        let Ok(mut state) = self.state.lock() else { return Draw::Stop(String::new()) };
        if state.asked {
            return Draw::Wait;
        }
        if state.refused.is_some() {
            if state.idle {
                return Draw::Stop(state.refused.take().unwrap_or_default());
            }
            if idle.is_none() {
                return Draw::Wait;
            }
        }
        (state.asked, state.idle, state.refused) = (true, idle.is_some(), None);
        let Some(spent) = idle else { return Draw::Ask(Need { least, idle }) };
        let rest = state.amount - spent;
        state.amount = spent;
        Draw::Ask(Need { least: least + rest, idle })
    }

    /// The answer: drawn in all, or which budget has no more.
    pub(super) fn answer(&self, answer: Result<Nanos, String>) {
        if let Ok(mut state) = self.state.lock() {
            state.asked = false;
            match answer {
                Ok(amount) => (state.amount, state.refused) = (amount, None),
                Err(what) => state.refused = Some(what),
            }
        }
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "meta-llama/Llama-3.2-3B-Instruct-Turbo";

    #[test]
    fn the_worst_case_is_kept_free_and_comes_back() {
        let model: Arc<str> = Arc::from(MODEL);
        // $0.06 a million tokens: 1,000 tokens cost 60,000 nanos. An earlier run has spent some.
        let mut budget = Budget::new(Some((Nanos(150_000), Nanos(50_000))), false, Table::builtin());
        let most = Usage { prompt: 500, completion: 500 };
        let reserve = |budget: &mut Budget, most| budget.reserve(&model, most, Nanos::ZERO);
        let first = reserve(&mut budget, most).unwrap();
        assert_eq!(first, Nanos(60_000));
        assert_eq!(reserve(&mut budget, most), Err(Short::ForNow), "it may fit when the first comes back");
        budget.settle(first, Nanos(30_000));
        let second = reserve(&mut budget, most).unwrap();
        budget.settle(second, Nanos(60_000));
        assert_eq!(reserve(&mut budget, most), Err(Short::ForGood), "nothing is out that could come back");
        assert!(budget.what().contains("--max-cost $0.00015, $0.00014 of it spent"), "{}", budget.what());
        assert_eq!(budget.reserve(&Arc::from("no/such-model"), most, Nanos::ZERO), Ok(Nanos::ZERO));
        // Nothing bounds this answer but the model itself.
        assert_eq!(budget.reserve(&model, Usage { prompt: 1, completion: 0 }, Nanos::ZERO), Err(Short::ForGood));
    }

    #[test]
    fn no_more_is_set_aside_than_was_drawn() {
        let model: Arc<str> = Arc::from(MODEL);
        let mut budget = Budget::new(None, true, Table::builtin());
        let most = Usage { prompt: 500, completion: 500 };
        assert_eq!(budget.reserve(&model, most, Nanos::ZERO), Err(Short::Undrawn(Nanos(60_000))));
        assert_eq!(budget.reserve(&model, most, Nanos(100_000)), Ok(Nanos(60_000)));
        assert_eq!(budget.reserve(&model, most, Nanos(100_000)), Err(Short::Undrawn(Nanos(20_000))));
        budget.settle(Nanos(60_000), Nanos(40_000));
        assert_eq!(budget.reserve(&model, most, Nanos(100_000)), Ok(Nanos(60_000)));
    }

    #[test]
    fn it_stops_only_when_nothing_can_come_back() {
        let funds = Funds::default();
        let short = |idle| funds.short(Nanos(9), idle);
        let busy = Draw::Ask(Need { least: Nanos(9), idle: None });
        assert_eq!(short(None), busy);
        assert_eq!(short(None), Draw::Wait, "one question at a time");
        funds.answer(Ok(Nanos(5)));
        assert_eq!(funds.drawn(), Nanos(5));
        assert_eq!(short(None), busy);
        funds.answer(Err("today".to_owned()));
        assert_eq!(short(None), Draw::Wait, "for what is in flight");
        let idle = Some(Nanos(3));
        assert_eq!(short(idle), Draw::Ask(Need { least: Nanos(11), idle }), "once more at the end");
        assert_eq!(funds.drawn(), Nanos(3), "others may need what is of no use here");
        assert_eq!(short(idle), Draw::Wait);
        funds.answer(Err("today".to_owned()));
        assert_eq!(short(idle), Draw::Stop("today".to_owned()));
    }
}
