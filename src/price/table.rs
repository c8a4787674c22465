//! What is known of each model's price: built in with source and date, and overridden by the user.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{BatchFact, BatchFinding, Nanos, Price};

/// The data file: one model a line. Its first lines say what the columns are.
const BUILTIN: &str = include_str!("builtin.tsv");

static PARSED: LazyLock<Table> =
    LazyLock::new(|| Table::parse(BUILTIN).expect("the built-in table is well formed: a test reads it"));

/// How a model is served in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Batch {
    /// At [`Entry::discount`] off.
    Discounted,
    /// At the realtime price.
    FullPrice,
    /// Not at all: the service fails the batch.
    Refused,
    /// We do not know; counted at the realtime price.
    Unknown,
}

impl Batch {
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

/// A part taken off a price, in billionths: 500,000,000 is half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Discount(u32);

impl Discount {
    const WHOLE: u32 = 1_000_000_000;

    /// The discount that `part` (0 to 1) is, such as 0.5; `None` when outside.
    pub fn from_part(part: Nanos) -> Option<Self> {
        u32::try_from(part.0).ok().filter(|&billionths| billionths <= Self::WHOLE).map(Self)
    }

    /// Whether nothing is taken off.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// As people read it: `50%`, `12.5%`.
    pub fn percent(self) -> String {
        format!("{}%", Nanos(i128::from(self.0) * 100))
    }

    /// The price that is left, rounded half up to a nano-USD per million tokens.
    pub fn off(self, price: Price) -> Price {
        let left = u128::from(Self::WHOLE - self.0);
        let part = |nanos: u64| {
            let exact = u128::from(nanos) * left;
            let rounded = (exact + u128::from(Self::WHOLE / 2)) / u128::from(Self::WHOLE);
            // Cannot fail: no more than `nanos`.
            u64::try_from(rounded).unwrap_or(nanos)
        };
        Price { input: part(price.input), output: part(price.output) }
    }
}

/// Price and other facts of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The id as the service spells it.
    pub model: String,
    /// At realtime; `None`: not known (a list price of 0 is not known either).
    pub price: Option<Price>,
    /// Tokens of prompt and answer together.
    pub context: Option<u64>,
    /// Most tokens of an answer.
    pub max_output: Option<u64>,
    /// Where the price is from; `config file` for the user's own.
    pub source: String,
    /// When the source said so: a date, a month, or `undated`; empty for the user's own.
    pub as_of: String,
    /// How it is served in batches.
    pub batch: Batch,
    /// Off the realtime price in batches; nothing unless `batch` is `Discounted`.
    pub discount: Discount,
    /// What the built-in table knows of it in batches; `None`: nothing, or the user's price replaced what it knew.
    pub batch_fact: Option<BatchFact>,
    /// The service lists it without a price.
    pub without_access: bool,
    /// Further remarks on the price; may be empty.
    pub note: String,
}

impl Entry {
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
            Batch::Refused => None,
            Batch::Discounted | Batch::FullPrice | Batch::Unknown => self.price.map(|price| self.discount.off(price)),
        }
    }

    /// Tokens of an answer that nothing else bounds.
    pub fn longest_answer(&self) -> u64 {
        /// The longest context that is common: an answer beyond it has not been seen.
        const UNKNOWN: u64 = 131_072;
        self.max_output.or(self.context).unwrap_or(UNKNOWN)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut cells = line.split('\t');
        let mut next = || cells.next();
        let model = next()?.to_owned();
        let price = match (next()?, next()?) {
            ("", "") => None,
            (input, output) => Some(Price { input: per_million(input)?, output: per_million(output)? }),
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
            batch: finding.map_or(Batch::Unknown, BatchFinding::batch),
            discount,
            batch_fact,
            without_access: false,
            note: next()?.to_owned(),
        };
        cells.next().is_none().then_some(entry)
    }
}

fn per_million(usd: &str) -> Option<u64> {
    usd.parse::<Nanos>().ok().and_then(|nanos| u64::try_from(nanos.0).ok())
}

/// Every model of which something is known.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Sorted as the data file is (by name, case aside), then the user's own.
    entries: Vec<Entry>,
    exact: HashMap<String, usize>,
    folded: HashMap<String, usize>,
}

impl Table {
    /// The table that llbatch was built with.
    pub fn builtin() -> Self {
        PARSED.clone()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut table = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            table.insert(Entry::parse(line)?);
        }
        Some(table)
    }

    /// Adds an entry in place of the one with exactly that name.
    pub fn insert(&mut self, entry: Entry) {
        if let Some(&index) = self.exact.get(&entry.model) {
            self.entries[index] = entry;
            return;
        }
        let index = self.entries.len();
        self.exact.insert(entry.model.clone(), index);
        // Of two names that differ only in case the first is found by a third spelling.
        self.folded.entry(entry.model.to_lowercase()).or_insert(index);
        self.entries.push(entry);
    }

    /// What is known of `model`: of that very name, else of one that differs only in case.
    pub fn get(&self, model: &str) -> Option<&Entry> {
        let index = self.exact.get(model).or_else(|| self.folded.get(&model.to_lowercase()))?;
        self.entries.get(*index)
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_built_in_table_is_read() {
        let table = Table::builtin();
        let lines = BUILTIN.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(table.iter().count(), lines);
        assert!(lines > 90);
        for entry in table.iter() {
            assert!(!entry.source.is_empty() && !entry.as_of.is_empty(), "{} says where it is from", entry.model);
            assert!(entry.price.is_none_or(|p| p.input > 0 && p.output > 0), "{} is not free", entry.model);
            assert_eq!(entry.batch == Batch::Discounted, !entry.discount.is_zero(), "{}", entry.model);
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
                Batch::Discounted,
                Some((30_000_000, 30_000_000)),
            ),
            (
                "meta-llama/Llama-3.3-70B-Instruct-Turbo",
                Some((1_040_000_000, 1_040_000_000)),
                Batch::Discounted,
                Some((520_000_000, 520_000_000)),
            ),
            ("openai/gpt-oss-120b", Some((150_000_000, 600_000_000)), Batch::Unknown, Some((150_000_000, 600_000_000))),
            ("arcee-ai/trinity-mini", Some((45_000_000, 150_000_000)), Batch::Unknown, Some((45_000_000, 150_000_000))),
            (
                "zai-org/GLM-4.5-Air-FP8",
                Some((200_000_000, 1_100_000_000)),
                Batch::FullPrice,
                Some((200_000_000, 1_100_000_000)),
            ),
            ("deepseek-ai/DeepSeek-R1", Some((3_000_000_000, 7_000_000_000)), Batch::Refused, None),
            ("Prism-ML/Ternary-Bonsai-27B", None, Batch::Unknown, None),
            ("togethercomputer/CodeLlama-34b-Instruct", None, Batch::Unknown, None),
        ];
        let table = Table::builtin();
        let price = |pair: Option<(u64, u64)>| pair.map(|(input, output)| Price { input, output });
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
    fn a_name_is_found_by_its_spelling_first_then_by_any_case() {
        let mut table = Table::builtin();
        let known = table.get("Qwen/QwQ-32B").unwrap().clone();
        assert_eq!(table.get("qwen/qwq-32b"), Some(&known));
        let own = Entry { model: "qwen/qwq-32b".to_owned(), price: None, ..known.clone() };
        table.insert(own.clone());
        assert_eq!(table.get("qwen/qwq-32b"), Some(&own));
        assert_eq!(table.get("Qwen/QwQ-32B"), Some(&known));
        assert_eq!(table.get("QWEN/QWQ-32B"), Some(&known));
        assert_eq!(table.get("nobody/nothing"), None);
    }

    #[test]
    fn a_broken_line_is_not_half_read() {
        let good = "a/b\t1\t2\t\t\tsomewhere\t2026-01\tunknown\t\t\t\t";
        assert!(Table::parse(good).is_some());
        for bad in [
            "a/b",
            "a/b\t1\t\t\t\ts\td\tunknown\t\t\t\t",
            "a/b\t1\t2\tx\t\ts\td\tunknown\t\t\t\t",
            "a/b\t1\t2\t\t\ts\td\tmaybe\t\t\t\t",
            "a/b\t1\t2\t\t\ts\td\tunknown\t1.5\t\t\t",
            "a/b\t1\t2\t\t\ts\td\tunknown\t\t\t\tnote\tmore",
        ] {
            assert!(Table::parse(bad).is_none(), "{bad:?}");
        }
    }
}
