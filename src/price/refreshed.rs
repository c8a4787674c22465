//! Prices that the service has listed, saved by `models --refresh`.

use serde::{Deserialize, Serialize};

use super::{Nanos, Price, PriceEntry, PriceTable};

/// The service's list of models, and its date.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refreshed {
    /// The service, by the name that jobs use.
    pub service: String,
    /// The date of the list.
    pub as_of: String,
    /// The models in the service's order.
    pub models: Vec<ListedPrice>,
}

/// A model as the service listed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedPrice {
    /// Its name.
    pub model: String,
    /// Tokens of prompt and answer together.
    pub context: Option<u64>,
    /// USD per million tokens, (input, output).
    pub price: Option<(f64, f64)>,
    /// USD per million cached tokens of the prompt.
    #[serde(default)]
    pub cached: Option<f64>,
}

impl PriceTable {
    /// The same for a service other than Together, which has no models but those that it lists.
    pub fn refreshed_elsewhere(self, refreshed: &Refreshed) -> Self {
        self.refreshed(refreshed).only(refreshed.models.iter().map(|listed| listed.model.as_str()))
    }

    /// This table with the service's prices in place of the built-in ones. Built-in terms of batches stay.
    pub fn refreshed(mut self, refreshed: &Refreshed) -> Self {
        for listed in &refreshed.models {
            let mut entry = self.get(&listed.model).cloned().unwrap_or_else(|| PriceEntry::unknown(&listed.model));
            listed.model.clone_into(&mut entry.model);
            entry.context = listed.context.or(entry.context);
            match listed.price {
                // Together lists a model without serverless access at a price of 0.
                Some((input, output)) if input == 0.0 && output == 0.0 => {
                    entry.price = None;
                    entry.without_access = true;
                }
                Some((input, output)) => {
                    let Some(price) = per_million(input).zip(per_million(output)) else { continue };
                    // A price of 0 stands for none, and one above the full price is no discount.
                    let cached = listed.cached.and_then(per_million).filter(|cached| (1..price.0).contains(cached));
                    entry.price = Some(Price { input: price.0, output: price.1, cached });
                }
                // The list says that the model exists, and nothing more.
                None if self.get(&listed.model).is_some() => continue,
                None => {}
            }
            "the service's list".clone_into(&mut entry.source);
            refreshed.as_of.clone_into(&mut entry.as_of);
            self.insert(entry);
        }
        self
    }
}

/// The nearest price in whole micro-USD: 1.0399999999999998 was typed as 1.04.
fn per_million(usd: f64) -> Option<u64> {
    let text = format!("{usd:.6}");
    text.parse::<Nanos>().ok().and_then(|nanos| u64::try_from(nanos.0).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::BatchTerms;

    #[test]
    fn service_decides_prices_and_the_built_in_table_terms_of_batches() {
        const TURBO: &str = "meta-llama/Llama-3.3-70B-Instruct-Turbo";
        let listed = |model: &str, price: Option<(f64, f64)>| {
            let cached = price.and(Some(0.0));
            ListedPrice { model: model.into(), context: Some(5), price, cached }
        };
        let table = PriceTable::builtin().refreshed(&Refreshed {
            service: "x".into(),
            as_of: "2026-11-23".into(),
            models: vec![
                listed(TURBO, Some((1.039_999_999_999_999_8, 2.0))),
                listed("new/model", Some((0.06, 0.06))),
                listed("meta-llama/Llama-3.2-3B-Instruct-Turbo", Some((0.0, 0.0))),
                listed("no/pricing", None),
                listed("openai/gpt-oss-120b", None),
                ListedPrice { cached: Some(0.052_000_000_000_000_005), ..listed("cached/model", Some((0.26, 1.0))) },
            ],
        });
        let turbo = table.get(TURBO).unwrap();
        assert_eq!(turbo.price, Some(Price::new(1_040_000_000, 2_000_000_000)));
        assert_eq!((turbo.batch, turbo.as_of.as_str(), turbo.context), (BatchTerms::Discounted, "2026-11-23", Some(5)));
        assert_eq!(table.get("new/model").map(|e| e.batch), Some(BatchTerms::Unknown));
        assert_eq!(table.get("cached/model").unwrap().price.unwrap().cached, Some(52_000_000));
        let gone = table.get("meta-llama/Llama-3.2-3B-Instruct-Turbo").unwrap();
        assert!(gone.price.is_none() && gone.remarks().contains("no serverless access"), "{gone:?}");
        let unpriced = table.get("no/pricing").unwrap();
        assert_eq!((unpriced.price, unpriced.context, &*unpriced.source), (None, Some(5), "the service's list"));
        let kept = table.get("openai/gpt-oss-120b").unwrap();
        assert!(kept.price.is_some() && kept.source != "the service's list", "a list without prices takes none away");
    }
}
