//! The user's own prices in the config file: `[models."org/name"] input, output, cached_input, batch_discount,
//! batch, context, image_tokens`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{BatchTerms, Decimal, Discount, Nanos, Price, PriceEntry, PriceTable};
use crate::error::{Error, Result};

/// The `[models]` table of the config file, by model id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Overrides(pub BTreeMap<String, ModelOverride>);

/// The user's facts of one model. A missing key keeps the built-in value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelOverride {
    /// Price in USD per million prompt tokens.
    pub input: Option<Decimal>,
    /// Price in USD per million completion tokens.
    pub output: Option<Decimal>,
    /// Price in USD per million prompt tokens that the service has in its cache.
    pub cached_input: Option<Decimal>,
    /// Discount of batches, 0 to 1: `0.5` is half.
    pub batch_discount: Option<Decimal>,
    /// Batches serve the model.
    pub batch: Option<bool>,
    /// Context length: tokens of prompt and answer together.
    pub context: Option<u64>,
    /// Most prompt tokens of an image.
    pub image_tokens: Option<u64>,
}

impl PriceTable {
    /// This table with the user's own prices.
    ///
    /// # Errors
    /// 2 for a negative price, a discount outside 0 to 1, or one price of two where the other is unknown.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self> {
        for (model, over) in &overrides.0 {
            let mut entry = over.apply(model, self.get(model))?;
            if let (Some((discount, batch)), BatchTerms::Unknown) = (self.usual_batch, entry.batch) {
                (entry.discount, entry.batch) = (discount, batch);
            }
            self.insert(entry);
        }
        Ok(self)
    }
}

impl PriceTable {
    /// This table with a discount of batches for every model, those that are not in it included.
    ///
    /// # Errors
    /// A sentence for a part outside 0 to 1.
    pub fn with_batch_discount(mut self, part: Nanos) -> std::result::Result<Self, String> {
        let discount =
            Discount::from_part(part).ok_or_else(|| format!("batch_discount {part} is not between 0 and 1"))?;
        let batch = if discount.is_zero() { BatchTerms::FullPrice } else { BatchTerms::Discounted };
        let known: Vec<PriceEntry> = self.iter().filter(|entry| entry.batch != BatchTerms::Refused).cloned().collect();
        for entry in known {
            self.insert(PriceEntry { batch, discount, ..entry });
        }
        self.usual_batch = Some((discount, batch));
        Ok(self)
    }
}

impl ModelOverride {
    fn apply(&self, model: &str, known: Option<&PriceEntry>) -> Result<PriceEntry> {
        let mut entry = known.cloned().unwrap_or_else(|| PriceEntry::unknown(model));
        model.clone_into(&mut entry.model);
        if self.input.is_some() || self.output.is_some() {
            let one = |name: &str, own: Option<Decimal>, known: Option<u64>| match (own, known) {
                (Some(Decimal(usd)), _) => per_million(model, name, usd),
                (None, Some(known)) => Ok(known),
                (None, None) => Err(Error::usage(format!("config file: [models.\"{model}\"] has no `{name}` price"))
                    .hint("set both `input` and `output`, in USD per million tokens")),
            };
            let input = one("input", self.input, entry.price.map(|price| price.input))?;
            let output = one("output", self.output, entry.price.map(|price| price.output))?;
            // The built-in price of cached tokens belongs to the built-in price of the others.
            entry.price = Some(Price::new(input, output));
            "config file".clone_into(&mut entry.source);
            entry.as_of.clear();
            // Remarks of the built-in sources were on their own price.
            entry.note.clear();
            (entry.batch_fact, entry.without_access) = (None, false);
        }
        if let Some(Decimal(usd)) = self.cached_input {
            entry.price = Some(with_cached(model, entry.price, usd)?);
        }
        entry.context = self.context.or(entry.context);
        entry.image_tokens = self.image_tokens.or(entry.image_tokens);
        if let Some(Decimal(part)) = self.batch_discount {
            entry.discount = Discount::from_part(part).ok_or_else(|| {
                Error::usage(format!("config file: [models.\"{model}\"] batch_discount {part} is not between 0 and 1"))
                    .hint("write 0.5 for half price")
            })?;
            entry.batch = if entry.discount.is_zero() { BatchTerms::FullPrice } else { BatchTerms::Discounted };
        }
        match self.batch {
            Some(true) if entry.batch != BatchTerms::Discounted => entry.batch = BatchTerms::FullPrice,
            Some(false) => entry.batch = BatchTerms::Refused,
            _ => {}
        }
        if entry.source.is_empty() {
            "config file".clone_into(&mut entry.source);
        }
        Ok(entry)
    }
}

fn with_cached(model: &str, price: Option<Price>, usd: Nanos) -> Result<Price> {
    let place = format!("config file: [models.\"{model}\"]");
    let Some(price) = price else {
        return Err(Error::usage(format!("{place} has `cached_input` but no price"))
            .hint("set `input` and `output` too, in USD per million tokens"));
    };
    let cached = per_million(model, "cached_input", usd)?;
    if cached > price.input {
        return Err(Error::usage(format!("{place} cached_input = {usd} is more than the full price"))
            .hint("cached tokens cost at most `input`, in USD per million tokens"));
    }
    Ok(Price { cached: Some(cached), ..price })
}

fn per_million(model: &str, name: &str, usd: Nanos) -> Result<u64> {
    u64::try_from(usd.0).map_err(|_| {
        Error::usage(format!("config file: [models.\"{model}\"] {name} = {usd} is not a valid price"))
            .hint("prices are USD per million tokens, such as 0.06")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURBO: &str = "meta-llama/Llama-3.2-3B-Instruct-Turbo";

    fn with(config: &str) -> Result<PriceTable> {
        PriceTable::builtin().with(&toml::from_str(config).unwrap())
    }

    #[test]
    fn a_discount_of_the_service_holds_for_every_model_without_its_own() {
        let table = PriceTable::default().with_batch_discount("0.5".parse().unwrap()).unwrap();
        let own = "[\"a\"]\ninput = 2\noutput = 4\n[\"b\"]\ninput = 2\noutput = 4\nbatch_discount = 0.25";
        let table = table.with(&toml::from_str(own).unwrap()).unwrap();
        assert_eq!(table.get("a").unwrap().batch_price(), Some(Price::new(1_000_000_000, 2_000_000_000)));
        assert_eq!(table.get("b").unwrap().batch_price(), Some(Price::new(1_500_000_000, 3_000_000_000)));
        assert!(PriceTable::default().with_batch_discount("1.5".parse().unwrap()).is_err());
    }

    #[test]
    fn users_price_wins_and_names_its_source() {
        let turbo = format!("[\"{TURBO}\"]\ninput = 0.07\noutput = \"0.08\"\n");
        let own = "[\"my/own\"]\ninput = 1\noutput = 2.5\nbatch_discount = 0.25";
        let table = with(&(turbo + own)).unwrap();
        let turbo = table.get(TURBO).unwrap();
        assert_eq!(turbo.price, Some(Price::new(70_000_000, 80_000_000)));
        assert_eq!(turbo.source, "config file");
        assert_eq!(turbo.batch_price(), Some(Price::new(35_000_000, 40_000_000)), "the discount stays");
        let own = table.get("my/own").unwrap();
        assert_eq!(own.batch_price(), Some(Price::new(750_000_000, 1_875_000_000)));
        assert_eq!(own.batch, BatchTerms::Discounted);
    }

    #[test]
    fn batches_can_be_overridden_alone() {
        let cases = [
            ("batch = false", BatchTerms::Refused, None),
            ("batch = true", BatchTerms::Discounted, Some(30_000_000)),
            ("batch_discount = 0", BatchTerms::FullPrice, Some(60_000_000)),
            ("batch_discount = 0.75", BatchTerms::Discounted, Some(15_000_000)),
        ];
        for (line, batch, input) in cases {
            let table = with(&format!("[\"{TURBO}\"]\n{line}")).unwrap();
            let entry = table.get(TURBO).unwrap();
            assert_eq!((entry.batch, entry.batch_price().map(|price| price.input)), (batch, input), "{line}");
            assert_eq!(entry.source, "model card", "{line}: the price itself is still the built-in one");
        }
        let revived = with("[\"deepseek-ai/DeepSeek-R1\"]\nbatch = true").unwrap();
        assert_eq!(revived.get("deepseek-ai/DeepSeek-R1").unwrap().batch, BatchTerms::FullPrice);
    }

    #[test]
    fn cached_price_stands_beside_any_price() {
        let table =
            with(&format!("[\"{TURBO}\"]\ncached_input = 0.01\n[\"my/own\"]\ninput = 1\noutput = 2\ncached_input = 0"));
        let table = table.unwrap();
        let turbo = table.get(TURBO).unwrap();
        assert_eq!(turbo.price, Some(Price { cached: Some(10_000_000), ..Price::new(60_000_000, 60_000_000) }));
        assert_eq!(turbo.batch_price().unwrap().cached, None, "two discounts are not added up");
        let own = table.get("my/own").unwrap();
        assert_eq!((own.price.unwrap().cached, own.batch_price().unwrap().cached), (Some(0), Some(0)));
    }

    #[test]
    fn invalid_price_is_a_usage_error_that_names_the_model() {
        for line in [
            "input = 0.1",
            "output = 3",
            "input = -1\noutput = 1",
            "batch_discount = 50",
            "batch_discount = -0.1",
            "cached_input = 0.1",
            "input = 1\noutput = 1\ncached_input = 1.1",
        ] {
            let error = with(&format!("[\"my/own\"]\n{line}")).err().unwrap_or_else(|| panic!("{line}"));
            assert_eq!(error.exit.code(), 2, "{line}");
            assert!(error.message.contains("my/own") && error.hint.is_some(), "{line}: {error}");
        }
        assert!(toml::from_str::<Overrides>("[\"a/b\"]\nprice = 1").is_err(), "a misspelt key is not ignored");
    }
}
