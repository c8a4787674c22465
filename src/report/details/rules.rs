//! The rules that rejected answers break.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::samples::{FailedRow, start_of};
use crate::outcome::{ErrorCode, Outcome, RowError};
use crate::pack::packed;

/// Rules that are counted one by one. A schema has fewer; a file of results may name any number.
const RULES: usize = 100;
/// The name under which the others are counted.
const OTHERS: &str = "other rules";
/// The name for rejected answers in flat results of earlier versions, which have no rule.
const UNNAMED: &str = "a rule that the file does not name";

/// A rule, with the rows whose answers break it.
#[derive(Debug, Clone, Serialize)]
pub struct RuleDetail {
    /// The flag, and the place in the schema.
    pub rule: String,
    /// Rows whose answer breaks it.
    pub count: u64,
    /// The first of them.
    pub example: FailedRow,
}

/// Counts rejected answers by the rule that they break.
#[derive(Debug, Default)]
pub(super) struct BrokenRules(BTreeMap<String, RuleFold>);

#[derive(Debug)]
struct RuleFold {
    count: u64,
    example: FailedRow,
}

packed!(BrokenRules(by_rule));
packed!(RuleFold { count, example });

impl BrokenRules {
    pub(super) fn add(&mut self, outcome: &Outcome, error: &RowError, text: impl FnOnce() -> String) {
        let rule = match &error.rule {
            Some(rule) => start_of(rule),
            None if error.code == ErrorCode::InvalidAnswer => UNNAMED.to_owned(),
            None => return,
        };
        let rule = if self.0.len() < RULES || self.0.contains_key(&rule) { rule } else { OTHERS.to_owned() };
        let fold = || RuleFold { count: 0, example: FailedRow::of(outcome, error, text) };
        self.0.entry(rule).or_insert_with(fold).count += 1;
    }

    /// The rules, the one that is broken most often first.
    pub(super) fn details(self) -> Vec<RuleDetail> {
        let detail = |(rule, RuleFold { count, example })| RuleDetail { rule, count, example };
        let mut rules: Vec<RuleDetail> = self.0.into_iter().map(detail).collect();
        // The sort is stable: equal rules stay in the order of their names.
        rules.sort_by_key(|rule| Reverse(rule.count));
        rules
    }
}
