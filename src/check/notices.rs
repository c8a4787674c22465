//! Notices about models before they go into batches: refused, without a discount, or of unknown price.

use std::fmt;
use std::sync::Arc;

use crate::price::{BatchFact, BatchFinding, BatchTerms, PriceEntry, PriceTable};
use crate::text;
use crate::ui::Ui;

/// The lists with which the built-in table was last compared.
const LISTS: &str = "Together's batch guide as of 2026-08";
const SAME_COST: &str = "a batch costs the same as realtime";

/// Notices shown of each kind; more are only counted.
const SHOWN: usize = 10;

/// Kinds of notices that are shown one after the other; see [`Notice::rank`].
const RANKS: usize = 4;

/// A model without a well-known batch discount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// As the input spells it.
    pub model: Arc<str>,
    /// Rows that ask for it.
    pub rows: u64,
    /// The reason for the notice.
    pub reason: Reason,
}

/// The reason for a notice, with the fact behind it where the built-in table has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The service fails its batches. `None`: the config file says so.
    Refused(Option<BatchFact>),
    /// llbatch counts on a discount that newer lists do not name.
    Doubtful(BatchFact),
    /// Only older lists name a discount: a batch costs the same as realtime.
    Lapsed(BatchFact),
    /// By the config file a batch costs the same as realtime.
    FullPrice,
    /// No discount is known; counted at the same price.
    Unknown,
    /// The same of a service that Together's lists are not about.
    OtherService,
}

impl Notice {
    /// Tests whether the service refuses the model in batches.
    pub const fn is_refused(&self) -> bool {
        matches!(self.reason, Reason::Refused(_))
    }

    /// Tests whether llbatch counts on a discount.
    pub const fn is_discounted(&self) -> bool {
        matches!(self.reason, Reason::Doubtful(_))
    }

    /// Orders notices for display; those of one rank are cut together.
    const fn rank(&self) -> usize {
        match self.reason {
            Reason::Refused(_) => 0,
            Reason::Doubtful(_) => 1,
            Reason::Lapsed(_) | Reason::FullPrice => 2,
            Reason::Unknown | Reason::OtherService => 3,
        }
    }
}

impl Reason {
    /// Finds the reason for a notice about a model with this price entry; `None`: its discount is well known.
    fn of(entry: Option<&PriceEntry>) -> Option<Self> {
        let fact = |finding| {
            let fact = entry.and_then(|entry| entry.batch_fact.as_ref());
            fact.filter(|fact| fact.finding == finding).cloned()
        };
        match entry.map_or(BatchTerms::Unknown, |entry| entry.batch) {
            BatchTerms::Refused => Some(Self::Refused(fact(BatchFinding::Refused))),
            BatchTerms::FullPrice => Some(fact(BatchFinding::Lapsed).map_or(Self::FullPrice, Self::Lapsed)),
            BatchTerms::Unknown => Some(Self::Unknown),
            BatchTerms::Discounted => fact(BatchFinding::Doubtful).map(Self::Doubtful),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(Some(fact)) => write!(f, "{fact}; the service would fail the whole batch"),
            Self::Refused(None) => {
                f.write_str("not served in batches (config file); the service would fail the whole batch")
            }
            Self::Doubtful(fact) => write!(f, "{fact}"),
            Self::Lapsed(BatchFact { source, as_of, .. }) => write!(
                f,
                "full price in batches, because only older lists name half price, and {source} of {as_of} does not; \
                 {SAME_COST}"
            ),
            Self::FullPrice => write!(f, "full price in batches (config file); {SAME_COST}"),
            Self::OtherService => {
                write!(f, "counted at full price in batches, because no discount of this service is known; {SAME_COST}")
            }
            Self::Unknown => {
                write!(f, "counted at full price in batches, because {LISTS} names no discount; {SAME_COST}")
            }
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.model, self.reason, text::plural(self.rows, "row"))
    }
}

/// Lists the notices about `models` (each with its rows), in their order.
pub fn notices(models: &[(Arc<str>, u64)], table: &PriceTable) -> Vec<Notice> {
    let notice = |(model, rows): &(Arc<str>, u64)| {
        let reason = match Reason::of(table.get(model))? {
            Reason::Unknown if !table.speaks_of(model) => Reason::OtherService,
            reason => reason,
        };
        Some(Notice { model: Arc::clone(model), rows: *rows, reason })
    };
    models.iter().filter_map(notice).collect()
}

/// Shows notices: refusals as warnings, the rest as notes, each rank cut after some.
pub fn show(notices: &[Notice], ui: &Ui) {
    for rank in 0..RANKS {
        let of_rank: Vec<&Notice> = notices.iter().filter(|notice| notice.rank() == rank).collect();
        let refused = of_rank.first().is_some_and(|notice| notice.is_refused());
        let say = |text: &str| if refused { ui.warn(text) } else { ui.note(text) };
        for notice in of_rank.iter().take(SHOWN) {
            say(&notice.to_string());
        }
        let more = of_rank.len().saturating_sub(SHOWN) as u64;
        if more > 0 {
            say(&format!("and the same for {}", text::plural(more, "more model")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::Overrides;

    fn notice(table: &PriceTable, model: &str) -> Option<Notice> {
        let mut found = notices(&[(model.into(), 7)], table);
        assert!(found.iter().all(|notice| &*notice.model == model && notice.rows == 7));
        found.pop()
    }

    #[test]
    fn every_notice_names_its_source() {
        let table = PriceTable::builtin();
        for (model, text) in [
            (
                "deepseek-ai/DeepSeek-V3.1",
                "not served in batches (Together batch skill, 2026); the service would fail the whole batch",
            ),
            (
                "DEEPSEEK-AI/deepseek-r1",
                "not served in batches (Together batch skill, 2026); the service would fail the whole batch",
            ),
            (
                "meta-llama/Llama-3-70b-chat-hf",
                "full price in batches, because only older lists name half price, and Together's batch guide of 2026-08 \
                 does not; a batch costs the same as realtime",
            ),
            (
                "arcee-ai/trinity-mini",
                "counted at full price in batches, because Together's batch guide as of 2026-08 names no discount; \
                 a batch costs the same as realtime",
            ),
            (
                "nobody/nothing",
                "counted at full price in batches, because Together's batch guide as of 2026-08 names no discount; \
                 a batch costs the same as realtime",
            ),
            (
                "meta-llama/Llama-3.2-3B-Instruct-Turbo",
                "half price in batches, by its model card of 2025-07; later lists leave it out",
            ),
        ] {
            assert_eq!(notice(&table, model).unwrap().to_string(), format!("{model}: {text} (7 rows)"));
        }
        assert_eq!(notice(&table, "meta-llama/Llama-3.3-70B-Instruct-Turbo"), None, "its discount is well known");
        let elsewhere = notice(&PriceTable::default(), "nobody/nothing").unwrap().to_string();
        assert!(elsewhere.contains("of this service") && !elsewhere.contains("Together"), "{elsewhere}");
    }

    #[test]
    fn built_in_models_have_built_in_sources() {
        let table = PriceTable::builtin();
        for notice in table.iter().filter_map(|entry| notice(&table, &entry.model)) {
            assert!(!notice.to_string().contains("config file"), "{notice}");
        }
    }

    #[test]
    fn settings_of_the_user_are_named_as_such() {
        let config = "[\"deepseek-ai/DeepSeek-R1\"]\nbatch = true\n[\"my/own\"]\nbatch = false\n\
                      [\"a/half\"]\nbatch_discount = 0.5";
        let overrides: Overrides = toml::from_str(config).unwrap();
        let table = PriceTable::builtin().with(&overrides).unwrap();
        let full = notice(&table, "deepseek-ai/DeepSeek-R1").unwrap();
        assert!(full.reason == Reason::FullPrice && full.to_string().contains("(config file)"), "{full}");
        let refused = notice(&table, "my/own").unwrap();
        assert!(refused.reason == Reason::Refused(None) && refused.to_string().contains("(config file)"), "{refused}");
        assert_eq!(notice(&table, "a/half"), None);
    }
}
