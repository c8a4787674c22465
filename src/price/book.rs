//! The price book: the cost, and the worst cost, of tokens of any model over either transport.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Nanos, Price, PriceEntry, PriceTable};
use crate::outcome::{Transport, Usage};

/// The prices of one model, and the length of its answers.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct ModelPrices {
    realtime: Option<Price>,
    batch: Option<Price>,
    longest_answer: u64,
}

/// Looks up the prices of each model once. An unknown price is `None`, never zero.
#[derive(Debug, Clone)]
pub struct PriceBook {
    table: PriceTable,
    known: HashMap<Arc<str>, ModelPrices>,
    /// The model of the last call, which is usually the model of the next one.
    last: Option<(Arc<str>, ModelPrices)>,
    /// Prices that go before those of the table, by the model's name in its own spelling and in lower case.
    earlier: HashMap<String, ModelPrices>,
    /// The books of earlier prices, by their numbers in a job's database.
    kept: HashMap<u32, PriceBook>,
}

impl PriceTable {
    /// The known prices as text, to be kept with a job. Equal prices make equal texts.
    pub fn to_keep(&self) -> String {
        let priced = self.iter().filter(|entry| entry.price.is_some());
        let all: BTreeMap<&str, ModelPrices> = priced.map(|entry| (&*entry.model, ModelPrices::of(entry))).collect();
        serde_json::to_string(&all).unwrap_or_default()
    }
}

impl ModelPrices {
    fn of(entry: &PriceEntry) -> Self {
        Self {
            realtime: entry.price,
            // The service may run a batch of a model that it is said to refuse. The list price is then the safe guess.
            batch: entry.batch_price().or(entry.price),
            longest_answer: entry.longest_answer(),
        }
    }
}

impl PriceBook {
    /// A book of the prices in `table`.
    pub fn new(table: PriceTable) -> Self {
        Self { table, known: HashMap::new(), last: None, earlier: HashMap::new(), kept: HashMap::new() }
    }

    /// The table in force.
    pub const fn table(&self) -> &PriceTable {
        &self.table
    }

    /// Adds the prices that were kept with a job ([`PriceTable::to_keep`]), by number. A model that they lack has its price
    /// from the table.
    pub fn keep(&mut self, kept: &[(u32, String)]) {
        for (number, text) in kept {
            let models: BTreeMap<String, ModelPrices> = serde_json::from_str(text).unwrap_or_default();
            let mut book = Self::new(self.table.clone());
            for (model, prices) in models {
                book.earlier.entry(model.to_lowercase()).or_insert(prices);
                book.earlier.insert(model, prices);
            }
            self.kept.insert(*number, book);
        }
    }

    /// The book of the prices with this number. 0, and an unknown number: the prices in force.
    pub fn of(&mut self, number: u32) -> &mut Self {
        if !self.kept.contains_key(&number) {
            return self;
        }
        self.kept.get_mut(&number).expect("it is there")
    }

    /// The price of a token of `model`.
    pub fn price(&mut self, model: &Arc<str>, transport: Transport) -> Option<Price> {
        let prices = self.model(model);
        match transport {
            Transport::Realtime => prices.realtime,
            Transport::Batch => prices.batch,
        }
    }

    /// The cost of `usage`.
    pub fn cost(&mut self, model: &Arc<str>, transport: Transport, usage: Usage) -> Option<Nanos> {
        self.price(model, transport).map(|price| price.cost(usage))
    }

    /// The most that `attempts` of one request can cost. `reserve` bounds one attempt; where it has no bound on the
    /// answer (`completion` is 0), the longest answer of the model counts. No attempt costs nothing, even at an unknown
    /// price.
    pub fn upper_bound(
        &mut self,
        model: &Arc<str>,
        transport: Transport,
        reserve: Usage,
        attempts: u32,
    ) -> Option<Nanos> {
        if attempts == 0 {
            return Some(Nanos::ZERO);
        }
        let completion = if reserve.completion == 0 { self.model(model).longest_answer } else { reserve.completion };
        self.cost(model, transport, Usage { completion, ..reserve }).map(|one| one.times(attempts))
    }

    fn model(&mut self, model: &Arc<str>) -> ModelPrices {
        if let Some((last, prices)) = &self.last
            && Arc::ptr_eq(last, model)
        {
            return *prices;
        }
        let prices = *self.known.entry(Arc::clone(model)).or_insert_with(|| {
            let earlier = self.earlier.get(&**model).or_else(|| self.earlier.get(&model.to_lowercase()));
            earlier.copied().unwrap_or_else(|| self.table.get(model).map_or_else(ModelPrices::default, ModelPrices::of))
        });
        self.last = Some((Arc::clone(model), prices));
        prices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama() -> (PriceBook, Arc<str>) {
        (PriceBook::new(PriceTable::builtin()), "meta-llama/Llama-3.2-3B-Instruct-Turbo".into())
    }

    #[test]
    fn answer_without_a_bound_may_be_as_long_as_the_model_allows() {
        let (mut book, model) = llama();
        let mut upper_bound =
            |transport, completion| book.upper_bound(&model, transport, Usage::new(1000, completion), 1);
        assert_eq!(upper_bound(Transport::Realtime, 1000), Some(Nanos(120_000)));
        assert_eq!(upper_bound(Transport::Batch, 1000), Some(Nanos(60_000)));
        assert!(upper_bound(Transport::Realtime, 0).unwrap().0 > 1_000_000);
    }

    #[test]
    fn kept_prices_outlive_a_change_of_the_table() {
        let table = |input: u32| {
            let own = format!("[\"My/Own\"]\ninput = {input}\noutput = 2\nbatch_discount = 0.5");
            PriceTable::builtin().with(&toml::from_str(&own).unwrap()).unwrap()
        };
        let kept = table(1).to_keep();
        assert_eq!(kept, table(1).to_keep());
        assert_ne!(kept, table(10).to_keep());
        let mut book = PriceBook::new(table(10));
        book.keep(&[(3, kept)]);
        for model in ["My/Own", "my/own"].map(Arc::from) {
            let mut input = |number, via| book.of(number).price(&model, via).map(|price| price.input);
            assert_eq!(input(0, Transport::Realtime), Some(10_000_000_000));
            assert_eq!(input(3, Transport::Realtime), Some(1_000_000_000));
            assert_eq!(input(3, Transport::Batch), Some(500_000_000));
            assert_eq!(input(4, Transport::Batch), Some(5_000_000_000), "a number that was never kept");
        }
    }

    #[test]
    fn unknown_price_is_not_zero_but_no_attempt_is() {
        let (mut book, model) = llama();
        let (unknown, bound) = (Arc::from("no/such"), Usage::new(500, 500));
        assert_eq!(book.upper_bound(&unknown, Transport::Batch, bound, 1), None);
        assert_eq!(book.upper_bound(&unknown, Transport::Batch, bound, 0), Some(Nanos::ZERO));
        assert_eq!(book.upper_bound(&model, Transport::Realtime, bound, 3), Some(Nanos(180_000)));
    }
}
