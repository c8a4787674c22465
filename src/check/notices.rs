//! What must be said of models before they go into batches: no service, no discount, or nothing known.

use std::sync::Arc;

use crate::price::{Batch, Entry, Table};
use crate::text;
use crate::ui::Ui;

/// The lists that the built-in knowledge was last held against.
const LISTS: &str = "Together's batch guide as of 2026-08";
/// How the data file's notes speak of batches; what follows in brackets or behind it is for people.
const REFUSED: &str = "not served in batches";
const LAPSED: &str = "half price in batches only in older lists";
const DOUBTFUL: &str = "later lists leave it out";
const DISCOUNT: &str = "batch discount from ";

/// Notices shown of each kind before they are only counted.
const SHOWN: usize = 10;

/// What is the matter with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The service fails its batches.
    Refused,
    /// A batch costs the same as realtime.
    FullPrice,
    /// We do not know; counted as the same price.
    Unknown,
    /// A discount is counted on, which newer lists do not name.
    Doubtful,
}

/// One model that is not plainly discounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// As the input spells it.
    pub model: Arc<str>,
    /// Rows that ask for it.
    pub rows: u64,
    /// What is the matter.
    pub kind: Kind,
    /// The same for people, with source and date.
    pub text: String,
}

/// What must be said of `models` (with their rows), in their order; nothing of one whose discount is well known.
pub fn notices(models: &[(Arc<str>, u64)], table: &Table) -> Vec<Notice> {
    let notice = |(model, rows): &(Arc<str>, u64)| {
        let (kind, text) = say(model, table.get(model))?;
        Some(Notice { model: Arc::clone(model), rows: *rows, kind, text })
    };
    models.iter().filter_map(notice).collect()
}

/// Shows notices: refusals as warnings, the rest as notes, each kind cut after some.
pub fn show(notices: &[Notice], ui: &Ui) {
    for kind in [Kind::Refused, Kind::Doubtful, Kind::FullPrice, Kind::Unknown] {
        let of_kind: Vec<&Notice> = notices.iter().filter(|notice| notice.kind == kind).collect();
        let say = |text: &str| if kind == Kind::Refused { ui.warn(text) } else { ui.note(text) };
        for notice in of_kind.iter().take(SHOWN) {
            say(&format!("{} ({})", notice.text, text::plural(notice.rows, "row")));
        }
        let more = of_kind.len().saturating_sub(SHOWN) as u64;
        if more > 0 {
            say(&format!("and the same of {}", text::plural(more, "more model")));
        }
    }
}

fn say(model: &str, entry: Option<&Entry>) -> Option<(Kind, String)> {
    let same = "a batch costs the same as realtime";
    Some(match entry.map_or(Batch::Unknown, |entry| entry.batch) {
        Batch::Refused => {
            let from = source(entry, REFUSED).unwrap_or_else(|| " (config file)".to_owned());
            (Kind::Refused, format!("{model}: {REFUSED}{from}; the service would fail the whole batch"))
        }
        Batch::FullPrice if source(entry, LAPSED).is_some() => {
            (Kind::FullPrice, format!("{model}: {LAPSED}, not in {LISTS}; counted as: {same}"))
        }
        Batch::FullPrice => (Kind::FullPrice, format!("{model}: no batch discount (config file); {same}")),
        Batch::Unknown => (Kind::Unknown, format!("{model}: no batch discount known ({LISTS}); counted as: {same}")),
        Batch::Discounted => {
            let note = &entry?.note;
            let from = note.find(DISCOUNT).filter(|_| note.contains(DOUBTFUL))?;
            (Kind::Doubtful, format!("{model}: {}", &note[from..]))
        }
    })
}

/// What stands behind `what` in the entry's note, up to the next remark.
fn source(entry: Option<&Entry>, what: &str) -> Option<String> {
    let (_, rest) = entry?.note.split_once(what)?;
    Some(rest.split(';').next().unwrap_or(rest).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::Overrides;

    fn said(table: &Table, model: &str) -> Option<(Kind, String)> {
        let mut found = notices(&[(model.into(), 7)], table);
        assert!(found.iter().all(|notice| &*notice.model == model && notice.rows == 7));
        found.pop().map(|notice| (notice.kind, notice.text))
    }

    #[test]
    fn every_kind_is_said_with_its_source() {
        let table = Table::builtin();
        for (model, kind, parts) in [
            ("deepseek-ai/DeepSeek-V3.1", Kind::Refused, "not served in batches (Together batch skill, 2026); the"),
            ("DEEPSEEK-AI/deepseek-r1", Kind::Refused, "DEEPSEEK-AI/deepseek-r1: not served"),
            (
                "meta-llama/Llama-3-70b-chat-hf",
                Kind::FullPrice,
                "only in older lists, not in Together's batch guide as of",
            ),
            ("arcee-ai/trinity-mini", Kind::Unknown, "no batch discount known (Together's batch guide as of 2026-"),
            ("nobody/nothing", Kind::Unknown, "costs the same as realtime"),
            (
                "meta-llama/Llama-3.2-3B-Instruct-Turbo",
                Kind::Doubtful,
                "from its model card of 2025-07; later lists leave it out",
            ),
        ] {
            let (is, text) = said(&table, model).unwrap_or_else(|| panic!("{model}"));
            assert_eq!(is, kind, "{model}");
            assert!(text.starts_with(model) && text.contains(parts), "{text}");
        }
        assert_eq!(said(&table, "meta-llama/Llama-3.3-70B-Instruct-Turbo"), None, "its discount is well known");
    }

    #[test]
    fn the_built_in_notes_use_the_words_that_are_looked_for() {
        for entry in Table::builtin().iter() {
            let text = said(&Table::builtin(), &entry.model).map(|(_, text)| text).unwrap_or_default();
            assert!(!text.contains("config file"), "{text}");
        }
    }

    #[test]
    fn what_the_user_says_is_the_users_word() {
        let config = "[\"deepseek-ai/DeepSeek-R1\"]\nbatch = true\n[\"my/own\"]\nbatch = false\n\
                      [\"a/half\"]\nbatch_discount = 0.5";
        let overrides: Overrides = toml::from_str(config).unwrap();
        let table = Table::builtin().with(&overrides).unwrap();
        let (kind, text) = said(&table, "deepseek-ai/DeepSeek-R1").unwrap();
        assert_eq!((kind, text.contains("(config file)"), text.contains("not served")), (Kind::FullPrice, true, false));
        let (kind, text) = said(&table, "my/own").unwrap();
        assert_eq!((kind, text.contains("(config file)")), (Kind::Refused, true));
        assert_eq!(said(&table, "a/half"), None);
    }
}
