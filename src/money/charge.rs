//! The cost of a single outcome, and of outcomes that no longer stand for a row.

use std::sync::Arc;

use crate::outcome::{Outcome, Transport, Usage};
use crate::price::{Nanos, Price, PriceBook};
use crate::store::job::Retired;
use crate::summary::{CacheCharge, Charge, DiscardedSpend, HttpCounts, Totals};

/// Prices an outcome at the prices at which the work was done.
pub fn charge(outcome: &Outcome, prices: &mut PriceBook) -> Charge {
    let prices = prices.of(outcome.prices);
    let transport = outcome.transport();
    let paid = prices.price(&outcome.model, transport);
    let list = list_price(prices, &outcome.model, paid);
    let mut charge = Charge::of(outcome, paid, list);
    // The cost of an answer without a usage is unknown, except for its upper bound.
    let unmetered = u32::from(outcome.is_unmetered());
    charge.at_risk = prices.upper_bound(&outcome.model, transport, outcome.reserve, outcome.at_risk + unmetered);
    charge
}

/// The realtime price of what was paid at another one. Both sides of a saving count cached tokens alike.
fn list_price(prices: &mut PriceBook, model: &Arc<str>, paid: Option<Price>) -> Option<Price> {
    let list = prices.price(model, Transport::Realtime)?;
    Some(Price { cached: list.cached.filter(|_| paid.is_some_and(|paid| paid.cached.is_some())), ..list })
}

/// The cost of outcomes that no longer stand for a row.
#[derive(Debug)]
pub struct RetiredCost<'a> {
    retired: &'a Retired,
    /// The paid amount; `None`: the price is unknown.
    pub paid: Option<Nanos>,
    /// The same tokens at the realtime price.
    list: Option<Nanos>,
    /// Attempts that the service may have billed.
    uncertain: u32,
    /// The most that those attempts can have cost; `None`: the price is unknown.
    pub at_risk: Option<Nanos>,
    cache: CacheCharge,
}

impl<'a> RetiredCost<'a> {
    /// Prices retired outcomes.
    pub fn of(retired: &'a Retired, prices: &mut PriceBook) -> Self {
        let prices = prices.of(retired.prices);
        let model = Arc::from(retired.model.as_str());
        let transport = if retired.batch { Transport::Batch } else { Transport::Realtime };
        // Each outcome is rounded on its own, as it was when it stood for its row.
        let usages = [retired.usage.unwrap_or_default(), retired.wasted];
        let cost = |price: Option<Price>| {
            let parts = usages.iter().filter(|part| **part != Usage::default());
            parts.map(|part| price.map(|price| price.cost(*part).times(retired.count))).sum::<Option<Nanos>>()
        };
        let price = prices.price(&model, transport);
        let (paid, list) = (cost(price), cost(list_price(prices, &model, price)));
        let unmetered = if retired.ok && retired.usage.is_none() { retired.count } else { 0 };
        let uncertain = retired.at_risk + unmetered;
        let at_risk = prices.upper_bound(&model, transport, retired.reserve, uncertain);
        let cache = CacheCharge::of(price, usages, retired.count);
        Self { retired, paid, list, uncertain, at_risk, cache }
    }

    fn http(&self) -> HttpCounts {
        let Retired { batch, count, attempts, refused, .. } = *self.retired;
        if batch { HttpCounts::default() } else { HttpCounts::of(count.into(), attempts, refused) }
    }

    /// Adds this cost to the totals of a job.
    pub fn add_to(&self, totals: &mut Totals) {
        totals.add_spent(&DiscardedSpend {
            model: &self.retired.model,
            usage: self.retired.all_usage(),
            paid: self.paid,
            list: self.list,
            at_risk: self.at_risk,
            uncertain: self.uncertain,
            cache: self.cache,
            batch: self.retired.batch,
            http: self.http(),
        });
    }
}
