//! Names of models that are near to a name that no list has.

use std::collections::BTreeSet;

use super::PriceTable;

/// Names that are given.
const MOST: usize = 3;

/// The least likeness of two names, of 1.
const ALIKE: f64 = 0.75;

impl PriceTable {
    /// The known names that `model` may mean, the nearest first. Only models with a price are named, where
    /// the service lists prices.
    pub fn near(&self, model: &str) -> Vec<&str> {
        if letters(model).is_empty() {
            return Vec::new();
        }
        let priced = self.iter().filter(|entry| entry.price.is_some() || self.lists_no_prices());
        let mut near: Vec<(f64, &str)> = priced
            .map(|entry| (likeness(model, &entry.model), entry.model.as_str()))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .collect();
        // Stable: equally near names stay in the table's order.
        near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        near.into_iter().take(MOST).map(|(_, model)| model).collect()
    }
}

/// The likeness of two names: from 0 to 1, and above for a name that contains the other. The organisation may be missing,
/// and so may other parts: `llama-3b` is near `meta-llama/Llama-3.2-3B`.
fn likeness(model: &str, known: &str) -> f64 {
    let wanted = &*letters(model);
    let whole = letters(known);
    if wanted.len() > 3 && whole.contains(wanted) {
        return 1.0 + wanted.len() as f64 / whole.len() as f64;
    }
    let parts = (parts(model), parts(known));
    if parts.0.len() > 1 && parts.0.is_subset(&parts.1) {
        // The name with the fewest other parts is the nearest.
        return ALIKE + (1.0 - ALIKE) * parts.0.len() as f64 / parts.1.len() as f64;
    }
    let own = letters(known.rsplit('/').next().unwrap_or(known));
    strsim::normalized_damerau_levenshtein(wanted, &whole).max(strsim::normalized_damerau_levenshtein(wanted, &own))
}

/// The letters and digits of a name, in lower case: people drop the other characters.
fn letters(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The parts of a name in lower case: words, versions and sizes. A number after letters begins a part: `llama3`.
fn parts(name: &str) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    let mut part = String::new();
    for c in name.chars().flat_map(char::to_lowercase).chain(std::iter::once(' ')) {
        let begins = c.is_ascii_digit() && part.ends_with(char::is_alphabetic);
        if (begins || !c.is_alphanumeric()) && !part.is_empty() {
            parts.insert(std::mem::take(&mut part));
        }
        if c.is_alphanumeric() {
            part.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_first_and_far_ones_not_at_all() {
        let table = PriceTable::builtin();
        for (model, first) in [
            ("llama3.2", "meta-llama/Llama-3.2-1B-Instruct"),
            ("Llama-3.3-70B-Instruct-Turbo", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
            ("meta-llama/Lama-3.3-70B-Instruct-Turbo", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
            ("llama-3b", "meta-llama/Llama-3.2-3B-Instruct"),
            ("llama3-70b", "meta-llama/Meta-Llama-3-70B-Instruct-Turbo"),
            ("gpt-oss-120b", "openai/gpt-oss-120b"),
            ("deepseek-ai/DeepSeek-V31", "deepseek-ai/DeepSeek-V3-1"),
        ] {
            assert_eq!(table.near(model).first(), Some(&first), "{model}: {:?}", table.near(model));
        }
        for model in ["gpt-4o", "claude-sonnet-4", "m/test", "/", ""] {
            assert!(table.near(model).is_empty(), "{model}: {:?}", table.near(model));
        }
        assert!(table.near("llama").len() <= MOST);
    }
}
