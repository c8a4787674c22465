//! The budget of one run: `--max-cost`, and budgets shared with other processes. No request starts that could exceed them.
//!
//! The maximum cost of a request is set aside before it is sent. Afterwards its actual cost is spent, and the rest is
//! released. Of a shared budget, a run may set aside only the money that was drawn for it; the consumer draws more.

use std::sync::Arc;

use crate::outcome::{Transport, Usage};
use crate::price::{Nanos, PriceBook, PriceTable};

/// Money that may be spent.
#[derive(Debug, Clone)]
pub struct Budget {
    limit: Option<MaxCost>,
    /// There are budgets shared with other processes.
    shared: bool,
    spent: Nanos,
    set_aside: Nanos,
    prices: PriceBook,
}

/// `--max-cost`, and the money spent of it before this run.
#[derive(Debug, Clone, Copy)]
pub struct MaxCost {
    /// The limit.
    pub limit: Nanos,
    /// Spent or at risk before this run.
    pub before: Nanos,
}

/// The reason why nothing is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Short {
    /// The request may fit when others release money.
    ForNow,
    /// The request will never fit.
    ForGood,
    /// This much more must be drawn.
    Undrawn(Nanos),
}

impl Budget {
    /// Allows up to `limit` at these prices. With budgets `shared` with other processes, it allows only what is drawn.
    pub fn new(limit: Option<MaxCost>, shared: bool, table: PriceTable) -> Self {
        Self { limit, shared, spent: Nanos::ZERO, set_aside: Nanos::ZERO, prices: PriceBook::new(table) }
    }

    /// Names the budget that is spent, for people.
    pub(super) fn what(&self) -> String {
        let Some(MaxCost { limit, before }) = self.limit else { return String::new() };
        let gone = before + self.spent;
        let gone = match gone {
            Nanos::ZERO => String::new(),
            // An answer cost more than the user's own figures allow for it.
            gone if gone > limit => format!("; {} is spent or at risk already", gone.human()),
            gone => format!("; {} of it is spent or at risk", gone.human()),
        };
        format!("--max-cost {}{gone}", limit.human())
    }

    /// Returns true if no request in flight could release money.
    fn idle(&self) -> bool {
        self.set_aside <= Nanos::ZERO
    }

    /// The money spent, if no request is in flight that could release money.
    pub(super) fn spent_idle(&self) -> Option<Nanos> {
        self.idle().then_some(self.spent)
    }

    /// Returns the cost of these tokens. A model without a price costs nothing here: the user has allowed it.
    pub(super) fn cost(&mut self, model: &Arc<str>, usage: Usage) -> Nanos {
        self.prices.cost(model, Transport::Realtime, usage).unwrap_or(Nanos::ZERO)
    }

    /// Sets aside the maximum cost of a request, out of the money drawn so far.
    pub(super) fn reserve(&mut self, model: &Arc<str>, bound: Usage, drawn: Nanos) -> Result<Nanos, Short> {
        // Models without a price are allowed by the user, and not counted.
        let Some(cost) = self.prices.upper_bound(model, Transport::Realtime, bound, 1) else { return Ok(Nanos::ZERO) };
        let gone = self.spent + self.set_aside + cost;
        if self.limit.is_some_and(|max| max.before + gone > max.limit) {
            return Err(if self.idle() { Short::ForGood } else { Short::ForNow });
        }
        if self.shared && gone > drawn {
            return Err(Short::Undrawn(gone - drawn));
        }
        self.set_aside += cost;
        Ok(cost)
    }

    /// Releases the money that was set aside for a request which cost `spent`.
    pub(super) fn release(&mut self, set_aside: Nanos, spent: Nanos) {
        self.set_aside = self.set_aside - set_aside;
        self.spent += spent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "meta-llama/Llama-3.2-3B-Instruct-Turbo";

    #[test]
    fn the_maximum_cost_is_set_aside_and_the_rest_released() {
        let model: Arc<str> = Arc::from(MODEL);
        // $0.06 a million tokens: 1,000 tokens cost 60,000 nanos. An earlier run has spent some.
        let mut budget =
            Budget::new(Some(MaxCost { limit: Nanos(150_000), before: Nanos(50_000) }), false, PriceTable::builtin());
        let bound = Usage::new(500, 500);
        let reserve = |budget: &mut Budget, bound| budget.reserve(&model, bound, Nanos::ZERO);
        let first = reserve(&mut budget, bound).unwrap();
        assert_eq!(first, Nanos(60_000));
        assert_eq!(reserve(&mut budget, bound), Err(Short::ForNow), "it may fit when the first is over");
        budget.release(first, Nanos(30_000));
        let second = reserve(&mut budget, bound).unwrap();
        budget.release(second, Nanos(60_000));
        assert_eq!(reserve(&mut budget, bound), Err(Short::ForGood), "no request is in flight");
        assert_eq!(budget.what(), "--max-cost $0.00015; $0.00014 of it is spent or at risk");
        assert_eq!(budget.reserve(&Arc::from("no/such-model"), bound, Nanos::ZERO), Ok(Nanos::ZERO));
        // Only the model itself bounds this answer.
        let unbounded = budget.reserve(&model, Usage::new(1, 0), Nanos::ZERO);
        assert_eq!(unbounded, Err(Short::ForGood));
    }

    #[test]
    fn no_more_is_set_aside_than_was_drawn() {
        let model: Arc<str> = Arc::from(MODEL);
        let mut budget = Budget::new(None, true, PriceTable::builtin());
        let bound = Usage::new(500, 500);
        assert_eq!(budget.reserve(&model, bound, Nanos::ZERO), Err(Short::Undrawn(Nanos(60_000))));
        assert_eq!(budget.reserve(&model, bound, Nanos(100_000)), Ok(Nanos(60_000)));
        assert_eq!(budget.reserve(&model, bound, Nanos(100_000)), Err(Short::Undrawn(Nanos(20_000))));
        budget.release(Nanos(60_000), Nanos(40_000));
        assert_eq!(budget.reserve(&model, bound, Nanos(100_000)), Ok(Nanos(60_000)));
    }
}
