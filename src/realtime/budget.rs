//! `--max-cost`: no request starts that could pass it.
//!
//! The most that a request can cost is set aside before it is sent, and given back but for what it did cost.

use std::collections::HashMap;
use std::sync::Arc;

use crate::outcome::Usage;
use crate::price::{Nanos, Price, Table};

/// Money that may be spent.
#[derive(Debug, Clone)]
pub struct Budget {
    limit: Nanos,
    what: String,
    spent: Nanos,
    set_aside: Nanos,
    table: Table,
    known: HashMap<Arc<str>, Option<(Price, u64)>>,
}

impl Budget {
    /// May spend up to `limit`, at these prices. `what`: which budget that is, for people.
    #[must_use]
    pub fn new(limit: Nanos, what: String, table: Table) -> Self {
        Self { limit, what, spent: Nanos::ZERO, set_aside: Nanos::ZERO, table, known: HashMap::new() }
    }

    /// Which budget it is, and what is gone of it by now.
    #[must_use]
    pub fn what(&self) -> String {
        format!("{}; this command has spent {}", self.what, self.spent.human())
    }

    fn price(&mut self, model: &Arc<str>) -> Option<(Price, u64)> {
        if let Some(known) = self.known.get(model) {
            return *known;
        }
        let found = self.table.get(model).and_then(|entry| Some((entry.price?, entry.longest_answer())));
        self.known.insert(Arc::clone(model), found);
        found
    }

    /// What so many tokens cost; nothing is known of an unpriced model, whose rows are not let in at all.
    pub fn cost(&mut self, model: &Arc<str>, usage: Usage) -> Nanos {
        self.price(model).map_or(Nanos::ZERO, |(price, _)| price.cost(usage))
    }

    /// Sets aside the most that a request can cost. `Err(true)`: it may fit when others have come back; `Err(false)`: never.
    pub fn reserve(&mut self, model: &Arc<str>, most: Usage) -> Result<Nanos, bool> {
        // Whoever let unpriced rows in does not count them.
        let Some((price, answer)) = self.price(model) else { return Ok(Nanos::ZERO) };
        let completion = if most.completion == 0 { answer } else { most.completion };
        let cost = price.cost(Usage { completion, ..most });
        if (self.spent + self.set_aside + cost).0 > self.limit.0 {
            return Err(self.set_aside.0 > 0);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_case_is_kept_free_and_comes_back() {
        let model: Arc<str> = Arc::from("meta-llama/Llama-3.2-3B-Instruct-Turbo");
        // $0.06 a million tokens: 1,000 tokens cost 60,000 nanos.
        let mut budget = Budget::new(Nanos(100_000), "--max-cost".to_owned(), Table::builtin());
        let most = Usage { prompt: 500, completion: 500 };
        let first = budget.reserve(&model, most).expect("room");
        assert_eq!(first, Nanos(60_000));
        assert_eq!(budget.reserve(&model, most), Err(true), "it may fit when the first comes back");
        budget.settle(first, Nanos(30_000));
        let second = budget.reserve(&model, most).expect("room again");
        budget.settle(second, Nanos(60_000));
        assert_eq!(budget.reserve(&model, most), Err(false), "nothing is out that could come back");
        assert_eq!(budget.reserve(&Arc::from("no/such-model"), most), Ok(Nanos::ZERO));
        // Nothing bounds this answer but the model itself.
        assert_eq!(budget.reserve(&model, Usage { prompt: 1, completion: 0 }), Err(false));
    }
}
