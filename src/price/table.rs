//! The price table: known facts of each model, built in with source and date, or set by the user.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{BatchFact, BatchFinding, Nanos, Price};

/// The data file, with one model per line. Its first lines name the columns.
const BUILTIN: &str = include_str!("builtin.tsv");

static PARSED: LazyLock<PriceTable> =
    LazyLock::new(|| PriceTable::parse(BUILTIN).expect("the built-in table is well formed: a test reads it"));

/// The terms on which the service runs batches of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchTerms {
    /// At the realtime price less [`PriceEntry::discount`].
    Discounted,
    /// At the realtime price.
    FullPrice,
    /// Not at all: the service rejects the batch.
    Refused,
    /// Unknown, and counted at the realtime price.
    Unknown,
}

impl BatchTerms {
    /// The word for it in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discounted => "discounted",
            Self::FullPrice => "full_price",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// A discount, in billionths of the price: 500,000,000 is half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Discount(u32);

impl Discount {
    const WHOLE: u32 = 1_000_000_000;

    /// The discount of `part` of the price, such as 0.5. `None`: it is not between 0 and 1.
    pub(super) fn from_part(part: Nanos) -> Option<Self> {
        u32::try_from(part.0).ok().filter(|&billionths| billionths <= Self::WHOLE).map(Self)
    }

    /// Returns whether the discount is zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The discount for people: `50%`, `12.5%`.
    pub fn percent(self) -> String {
        format!("{}%", Nanos(i128::from(self.0) * 100))
    }

    /// The discounted price. Half a nano-USD per million tokens rounds up.
    pub fn off(self, price: Price) -> Price {
        let left = u128::from(Self::WHOLE - self.0);
        let part = |nanos: u64| {
            let exact = u128::from(nanos) * left;
            let rounded = (exact + u128::from(Self::WHOLE / 2)) / u128::from(Self::WHOLE);
            // This cannot fail: the result is at most `nanos`.
            u64::try_from(rounded).unwrap_or(nanos)
        };
        // It is unknown if both discounts add up. At the batch price alone, nothing is counted too cheap.
        let cached = price.cached.filter(|_| self.is_zero());
        Price { input: part(price.input), output: part(price.output), cached }
    }
}

/// The known facts of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceEntry {
    /// The model's id as the service spells it.
    pub model: String,
    /// Realtime price. `None`: unknown. A list price of 0 counts as unknown.
    pub price: Option<Price>,
    /// Context length: tokens of prompt and answer together.
    pub context: Option<u64>,
    /// Longest answer in tokens.
    pub max_output: Option<u64>,
    /// Source of the price; `config file` for the user's own.
    pub source: String,
    /// Date of the source: a day, a month, or `undated`. It is empty for the user's own.
    pub as_of: String,
    /// Terms in batches.
    pub batch: BatchTerms,
    /// Off the realtime price in batches; nothing unless `batch` is `Discounted`.
    pub discount: Discount,
    /// The built-in table's facts about it in batches. `None`: there are none, or the user's price replaced them.
    pub batch_fact: Option<BatchFact>,
    /// The service lists it without a price.
    pub without_access: bool,
    /// Further remarks on the price; may be empty.
    pub note: String,
    /// The user's own bound on the prompt tokens of an image.
    pub image_tokens: Option<u64>,
}

impl PriceEntry {
    /// An entry of which nothing is known but the name.
    pub fn unknown(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            price: None,
            context: None,
            max_output: None,
            source: String::new(),
            as_of: String::new(),
            batch: BatchTerms::Unknown,
            discount: Discount::default(),
            batch_fact: None,
            without_access: false,
            note: String::new(),
            image_tokens: None,
        }
    }

    /// All remarks on the model, for people.
    pub fn remarks(&self) -> String {
        let note = (!self.note.is_empty()).then(|| self.note.clone());
        let access = self.without_access.then(|| "listed without a price: no serverless access".to_owned());
        let remarks = [note, self.batch_fact.as_ref().map(ToString::to_string), access];
        remarks.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// The price in a batch: less the discount, or the realtime price where no discount is known. `None`: no price is
    /// known, or the model is refused in batches.
    pub fn batch_price(&self) -> Option<Price> {
        match self.batch {
            BatchTerms::Refused => None,
            BatchTerms::Discounted | BatchTerms::FullPrice | BatchTerms::Unknown => {
                self.price.map(|price| self.discount.off(price))
            }
        }
    }

    /// The tokens of the longest answer, for a request without a bound of its own.
    pub fn longest_answer(&self) -> u64 {
        /// The longest common context. No longer answer has been seen.
        const UNKNOWN: u64 = 131_072;
        self.max_output.or(self.context).unwrap_or(UNKNOWN)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut cells = line.split('\t');
        let mut next = || cells.next();
        let model = next()?.to_owned();
        let price = match (next()?, next()?, next()?) {
            ("", "", "") => None,
            (input, output, cached) => {
                let cached = if cached.is_empty() { None } else { Some(per_million(cached)?) };
                Some(Price { input: per_million(input)?, output: per_million(output)?, cached })
            }
        };
        let count = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
        let (context, max_output) = (count(next()?)?, count(next()?)?);
        let (source, as_of) = (next()?.to_owned(), next()?.to_owned());
        let finding = match next()? {
            "unknown" => None,
            word => Some(BatchFinding::parse(word)?),
        };
        let discount = match next()? {
            "" => Discount::default(),
            part => Discount::from_part(part.parse().ok()?)?,
        };
        let (batch_source, batch_as_of) = (next()?.to_owned(), next()?.to_owned());
        let batch_fact = finding.map(|finding| BatchFact { finding, source: batch_source, as_of: batch_as_of });
        let entry = Self {
            model,
            price,
            context,
            max_output,
            source,
            as_of,
            batch: finding.map_or(BatchTerms::Unknown, BatchFinding::batch),
            discount,
            batch_fact,
            without_access: false,
            note: next()?.to_owned(),
            image_tokens: None,
        };
        cells.next().is_none().then_some(entry)
    }
}

fn per_million(usd: &str) -> Option<u64> {
    usd.parse::<Nanos>().ok().and_then(|nanos| u64::try_from(nanos.0).ok())
}

/// The known facts of all models.
#[derive(Debug, Clone, Default)]
pub struct PriceTable {
    /// The terms of batches of models that say nothing of them: [`PriceTable::with_batch_discount`].
    pub(super) usual_batch: Option<(Discount, BatchTerms)>,
    /// In the order of the data file (by name, ignoring case), then the user's own.
    entries: Vec<PriceEntry>,
    exact: HashMap<String, usize>,
    folded: HashMap<String, usize>,
    /// An entry has [`PriceEntry::image_tokens`].
    bounds_images: bool,
    /// It began with the built-in table, which was compared with Together's lists.
    is_together: bool,
    /// The place of the user's own prices in the config file, if that is not `models`.
    own_place: Option<String>,
    /// The service's own list of models has no prices that llbatch reads.
    lists_no_prices: bool,
}

impl PriceTable {
    /// Returns true if Together's lists are about this model of the service: it is Together, or has a model of that name.
    pub fn speaks_of(&self, model: &str) -> bool {
        self.is_together && !(self.lists_no_prices && self.get(model).is_none())
    }

    /// Returns true if the service's own list of models has no prices.
    pub(super) const fn lists_no_prices(&self) -> bool {
        self.lists_no_prices
    }

    /// The entries with these names.
    #[must_use]
    pub(super) fn only<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut kept = Self { entries: Vec::new(), exact: HashMap::new(), folded: HashMap::new(), ..self.clone() };
        for name in names {
            if let Some(entry) = self.get(name) {
                kept.insert(entry.clone());
            }
        }
        kept
    }

    /// This table, for a service other than Together. `name` is its name in the config file.
    pub fn of_another(self, name: Option<&str>) -> Self {
        Self { own_place: name.map(|name| format!("services.{name}.models")), lists_no_prices: true, ..self }
    }

    /// The way to tell llbatch the price of `model`, as an instruction.
    pub fn remedy(&self, model: &str) -> String {
        let place = self.own_place.as_deref().unwrap_or("models");
        let own = format!("set [{place}.{model:?}] input and output in the config file");
        if self.lists_no_prices { own } else { format!("run `llbatch models --refresh`, {own}") }
    }

    /// The built-in table.
    pub fn builtin() -> Self {
        Self { is_together: true, ..PARSED.clone() }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut table = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            table.insert(PriceEntry::parse(line)?);
        }
        Some(table)
    }

    /// Adds an entry, or replaces the one with exactly that name.
    pub fn insert(&mut self, entry: PriceEntry) {
        self.bounds_images |= entry.image_tokens.is_some();
        if let Some(&index) = self.exact.get(&entry.model) {
            self.entries[index] = entry;
            return;
        }
        let index = self.entries.len();
        self.exact.insert(entry.model.clone(), index);
        // Of two names that differ only in case, a third spelling finds the first.
        self.folded.entry(entry.model.to_lowercase()).or_insert(index);
        self.entries.push(entry);
    }

    /// The entry with exactly this name, or else one whose name differs only in case.
    pub fn get(&self, model: &str) -> Option<&PriceEntry> {
        let index = self.exact.get(model).or_else(|| self.folded.get(&model.to_lowercase()))?;
        self.entries.get(*index)
    }

    /// The user's own bound on the prompt tokens of an image of `model`. It is asked for every row.
    pub fn image_tokens(&self, model: &str) -> Option<u64> {
        if self.bounds_images { self.get(model)?.image_tokens } else { None }
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = &PriceEntry> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_built_in_table_is_read() {
        let table = PriceTable::builtin();
        let lines = BUILTIN.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(table.iter().count(), lines);
        assert!(lines > 90);
        for entry in table.iter() {
            assert!(!entry.source.is_empty() && !entry.as_of.is_empty(), "{} says where it is from", entry.model);
            assert!(entry.price.is_none_or(|p| p.input > 0 && p.output > 0), "{} is not free", entry.model);
            let cheaper = entry.price.is_none_or(|p| p.cached.is_none_or(|cached| cached > 0 && cached < p.input));
            assert!(cheaper, "{}: cached tokens cost less than others", entry.model);
            assert_eq!(entry.batch == BatchTerms::Discounted, !entry.discount.is_zero(), "{}", entry.model);
            let dated = entry.batch_fact.as_ref().is_none_or(|fact| !fact.source.is_empty() && !fact.as_of.is_empty());
            assert!(dated, "{} says where its batch fact is from", entry.model);
        }
    }

    #[test]
    fn known_prices_and_batches() {
        let cases = [
            (
                "meta-llama/Llama-3.2-3B-Instruct-Turbo",
                Some((60_000_000, 60_000_000)),
                BatchTerms::Discounted,
                Some((30_000_000, 30_000_000)),
            ),
            (
                "meta-llama/Llama-3.3-70B-Instruct-Turbo",
                Some((1_040_000_000, 1_040_000_000)),
                BatchTerms::Discounted,
                Some((520_000_000, 520_000_000)),
            ),
            (
                "openai/gpt-oss-120b",
                Some((150_000_000, 600_000_000)),
                BatchTerms::Unknown,
                Some((150_000_000, 600_000_000)),
            ),
            (
                "arcee-ai/trinity-mini",
                Some((45_000_000, 150_000_000)),
                BatchTerms::Unknown,
                Some((45_000_000, 150_000_000)),
            ),
            (
                "zai-org/GLM-4.5-Air-FP8",
                Some((200_000_000, 1_100_000_000)),
                BatchTerms::FullPrice,
                Some((200_000_000, 1_100_000_000)),
            ),
            ("deepseek-ai/DeepSeek-R1", Some((3_000_000_000, 7_000_000_000)), BatchTerms::Refused, None),
            ("Prism-ML/Ternary-Bonsai-27B", None, BatchTerms::Unknown, None),
            ("togethercomputer/CodeLlama-34b-Instruct", None, BatchTerms::Unknown, None),
        ];
        let table = PriceTable::builtin();
        let price = |pair: Option<(u64, u64)>| pair.map(|(input, output)| Price::new(input, output));
        for (model, realtime, batch, in_batch) in cases {
            let entry = table.get(model).unwrap_or_else(|| panic!("{model} is there"));
            assert_eq!(
                (entry.price, entry.batch, entry.batch_price()),
                (price(realtime), batch, price(in_batch)),
                "{model}"
            );
        }
    }

    #[test]
    fn name_is_found_by_its_spelling_first_then_by_any_case() {
        let mut table = PriceTable::builtin();
        let known = table.get("Qwen/QwQ-32B").unwrap().clone();
        assert_eq!(table.get("qwen/qwq-32b"), Some(&known));
        let own = PriceEntry { model: "qwen/qwq-32b".to_owned(), price: None, ..known.clone() };
        table.insert(own.clone());
        assert_eq!(table.get("qwen/qwq-32b"), Some(&own));
        assert_eq!(table.get("Qwen/QwQ-32B"), Some(&known));
        assert_eq!(table.get("QWEN/QWQ-32B"), Some(&known));
        assert_eq!(table.get("nobody/nothing"), None);
    }

    #[test]
    fn a_broken_line_is_not_half_read() {
        let good = "a/b\t1\t2\t\t\t\tsomewhere\t2026-01\tunknown\t\t\t\t";
        assert!(PriceTable::parse(good).is_some());
        for bad in [
            "a/b",
            "a/b\t1\t\t\t\t\ts\td\tunknown\t\t\t\t",
            "a/b\t1\t2\t\tx\t\ts\td\tunknown\t\t\t\t",
            "a/b\t1\t2\t\t\t\ts\td\tmaybe\t\t\t\t",
            "a/b\t1\t2\t\t\t\ts\td\tunknown\t1.5\t\t\t",
            "a/b\t1\t2\t\t\t\ts\td\tunknown\t\t\t\tnote\tmore",
        ] {
            assert!(PriceTable::parse(bad).is_none(), "{bad:?}");
        }
    }
}
