//! The price book: the cost, and the worst cost, of tokens of any model over either transport.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Nanos, Price, PriceTable};
use crate::outcome::{Transport, Usage};

/// The prices of one model, and the length of its answers.
#[derive(Debug, Clone, Copy, Default)]
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
}

impl PriceBook {
    /// A book of the prices in `table`.
    pub fn new(table: PriceTable) -> Self {
        Self { table, known: HashMap::new(), last: None }
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
    pub fn most(&mut self, model: &Arc<str>, transport: Transport, reserve: Usage, attempts: u32) -> Option<Nanos> {
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
            self.table.get(model).map_or_else(ModelPrices::default, |entry| ModelPrices {
                realtime: entry.price,
                // The service may run a batch of a model that it is said to refuse. The list price is then the safe guess.
                batch: entry.batch_price().or(entry.price),
                longest_answer: entry.longest_answer(),
            })
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
        let mut most = |transport, completion| book.most(&model, transport, Usage { prompt: 1000, completion }, 1);
        assert_eq!(most(Transport::Realtime, 1000), Some(Nanos(120_000)));
        assert_eq!(most(Transport::Batch, 1000), Some(Nanos(60_000)));
        assert!(most(Transport::Realtime, 0).unwrap().0 > 1_000_000);
    }

    #[test]
    fn unknown_price_is_not_zero_but_no_attempt_is() {
        let (mut book, model) = llama();
        let (unknown, most) = (Arc::from("no/such"), Usage { prompt: 500, completion: 500 });
        assert_eq!(book.most(&unknown, Transport::Batch, most, 1), None);
        assert_eq!(book.most(&unknown, Transport::Batch, most, 0), Some(Nanos::ZERO));
        assert_eq!(book.most(&model, Transport::Realtime, most, 3), Some(Nanos(180_000)));
    }
}
