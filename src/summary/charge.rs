//! The cost of one row, and sums of costs.

use crate::outcome::{Outcome, Usage};
use crate::pack::packed;
use crate::price::{Nanos, Price};

/// The cost of one row. `None` means "not known", never "nothing".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Paid for the answer, at the price in force for the transport.
    pub paid: Option<Nanos>,
    /// The answer at the realtime price.
    pub list: Option<Nanos>,
    /// Paid for responses that were thrown away.
    pub wasted: Option<Nanos>,
    /// The same at the realtime price.
    pub wasted_list: Option<Nanos>,
    /// The most that attempts of unknown fate may have cost.
    pub at_risk: Option<Nanos>,
    /// The price of a token is known. If so and `paid` is `None`, the answer came without a usage.
    pub priced: bool,
    /// An earlier run answered the row and paid for it.
    pub resumed: bool,
    /// The effect of cached tokens on what was paid.
    pub cache: CacheCharge,
}

/// The effect of cached tokens on a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheCharge {
    /// The amount by which they made it cheaper; `None`: not known.
    pub saved: Option<Nanos>,
    /// Cached tokens that were counted at the full price, because theirs is not known. The cost is then an upper bound.
    pub at_full_price: u64,
}

impl CacheCharge {
    /// Computes the effect for `count` responses with each of these usages.
    pub fn of(price: Option<Price>, usages: [Usage; 2], count: u32) -> Self {
        let mut cache = Self { saved: Some(Nanos::ZERO), at_full_price: 0 };
        for usage in usages.iter().filter(|usage| usage.cached > 0) {
            let saved =
                price.filter(|price| price.cached.is_some()).map(|price| price.cache_saving(*usage).times(count));
            cache.saved = cache.saved.zip(saved).map(|(sum, saved)| sum + saved);
            if price.is_some_and(|price| price.cached.is_none()) {
                cache.at_full_price += usage.cached * u64::from(count);
            }
        }
        cache
    }
}

impl Charge {
    /// Computes the charge of `outcome` at the prices `paid` (in force) and `list` (realtime). The caller sets `at_risk`
    /// where the outcome has attempts of unknown fate, and `resumed`.
    pub fn of(outcome: &Outcome, paid: Option<Price>, list: Option<Price>) -> Self {
        let value = |price: Option<Price>, usage: Usage| {
            if usage == Usage::default() { Some(Nanos::ZERO) } else { price.map(|price| price.cost(usage)) }
        };
        let answer = |price| match outcome.usage {
            Some(usage) => value(price, usage),
            None if outcome.is_unmetered() => None,
            None => Some(Nanos::ZERO),
        };
        Self {
            paid: answer(paid),
            list: answer(list),
            wasted: value(paid, outcome.wasted),
            wasted_list: value(list, outcome.wasted),
            at_risk: if outcome.at_risk == 0 { Some(Nanos::ZERO) } else { None },
            priced: paid.is_some(),
            resumed: false,
            cache: CacheCharge::of(paid, [outcome.usage.unwrap_or_default(), outcome.wasted], 1),
        }
    }

    /// Returns everything that was paid for the row, for its `cost_usd` column. These add up to the summary's `cost.usd`,
    /// except for attempts before an answer without a usage.
    pub fn total(&self) -> Option<Nanos> {
        Some(self.paid? + self.wasted?)
    }
}

/// A sum of amounts, some of which may be unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// The sum of the known amounts.
    pub known: Nanos,
    /// An amount is unknown.
    pub unknown: bool,
}
packed!(Sum { known, unknown });

impl Sum {
    /// Adds one amount.
    pub fn add(&mut self, amount: Option<Nanos>) {
        match amount {
            Some(amount) => self.known += amount,
            None => self.unknown = true,
        }
    }

    /// Returns the known part; `None` if nothing is known, because that must not read as 0.
    pub fn known_part(self) -> Option<Nanos> {
        if self.unknown && self.known == Nanos::ZERO { None } else { Some(self.known) }
    }

    /// Returns the sum; `None` if any part is unknown.
    pub fn whole(self) -> Option<Nanos> {
        if self.unknown { None } else { Some(self.known) }
    }
}
