//! A range of costs.

use serde::Serialize;

use crate::outcome::Usage;
use crate::price::{Nanos, Price, Spelling};

/// Cost from the prompts alone to every answer as long as it may be; `None`: not known.
#[derive(Debug, Default, Clone, Copy, Serialize, PartialEq, Eq)]
pub(super) struct CostRange {
    /// The prompts alone.
    pub min: Option<Nanos>,
    /// Every answer as long as it may be.
    pub max: Option<Nanos>,
}

impl CostRange {
    /// Prices prompts of that many tokens at least and at most, and answers of at most `completion_max` tokens.
    pub fn of(price: Option<Price>, [least, most]: [u64; 2], completion_max: Option<u64>) -> Self {
        let cost = |prompt, completion| price.map(|price| price.cost(Usage::new(prompt, completion)));
        Self { min: cost(least, 0), max: completion_max.and_then(|completion| cost(most, completion)) }
    }

    /// Adds up the known ranges; nothing is known if none is.
    pub fn total(parts: impl Iterator<Item = Self> + Clone) -> Self {
        let known = parts.filter(|range| range.min.is_some());
        if known.clone().next().is_none() {
            return Self::default();
        }
        let sum = |end: fn(&Self) -> Option<Nanos>| {
            known.clone().try_fold(Nanos::ZERO, |sum, range| Some(sum + end(&range)?))
        };
        Self { min: sum(|range| range.min), max: sum(|range| range.max) }
    }

    /// The range as a cell of a column whose amounts were `rounded` so that they add up.
    pub fn cell(self, spelling: Spelling, rounded: Nanos) -> String {
        match (self.min, self.max) {
            (_, Some(max)) => format!("≤ {}", spelling.show_as(max, rounded)),
            (Some(_), None) => self.shown(spelling),
            (None, None) => "unknown".to_owned(),
        }
    }

    /// The range in a sentence.
    pub fn shown(self, spelling: Spelling) -> String {
        match (self.min, self.max) {
            (None, _) => "unknown".to_owned(),
            (Some(min), None) => format!("from {}", spelling.show(min)),
            (Some(min), Some(max)) if min == max => spelling.show(max),
            (Some(min), Some(max)) => format!("{} to {}", spelling.show(min), spelling.show(max)),
        }
    }
}
