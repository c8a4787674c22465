//! Rows, tokens and money of each model, at the list price and as paid.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::outcome::{Outcome, Usage};
use crate::pack::packed;
use crate::price::Nanos;
use crate::summary::{Charge, Sum};

/// One model's share of a report.
#[derive(Debug, Clone, Serialize)]
pub struct ModelDetail {
    /// The model's id.
    pub model: String,
    /// Rows with an answer.
    pub answered: u64,
    /// Rows with an error.
    pub failed: u64,
    /// Answers that were cut off.
    pub truncated: u64,
    /// Prompt tokens, those of discarded responses included.
    pub prompt_tokens: u64,
    /// Completion tokens, those of discarded responses included.
    pub completion_tokens: u64,
    /// The cost at the list price, which is the realtime price.
    pub list_usd: Option<Nanos>,
    /// The cost as paid.
    pub usd: Option<Nanos>,
    /// `list_usd` less `usd`.
    pub saved_usd: Option<Nanos>,
    /// The most that attempts of unknown fate may have cost on top of `usd`.
    pub at_risk_usd: Option<Nanos>,
}

/// Folds outcomes by model.
#[derive(Debug, Default)]
pub(super) struct ModelFolds(BTreeMap<Arc<str>, ModelFold>);

#[derive(Debug, Default)]
struct ModelFold {
    answered: u64,
    failed: u64,
    truncated: u64,
    usage: Usage,
    list: Sum,
    paid: Sum,
    at_risk: Sum,
    unpriced: bool,
}

packed!(ModelFolds(models));
packed!(ModelFold { answered, failed, truncated, usage, list, paid, at_risk, unpriced });

impl ModelFolds {
    pub(super) fn add(&mut self, outcome: &Outcome, charge: &Charge, truncated: bool) {
        // A row without a model was never sent, or its results file does not name the model.
        if outcome.model.is_empty() {
            return;
        }
        let model = match self.0.get_mut(&outcome.model) {
            Some(model) => model,
            None => self.0.entry(Arc::clone(&outcome.model)).or_default(),
        };
        model.answered += u64::from(outcome.ok());
        model.failed += u64::from(!outcome.ok());
        model.truncated += u64::from(truncated);
        model.usage += outcome.usage.unwrap_or_default();
        model.usage += outcome.wasted;
        model.paid.add(charge.paid);
        model.paid.add(charge.wasted);
        // As in the summary: an amount that is unknown on one side is left out of both.
        model.list.add(charge.paid.and(charge.list));
        model.list.add(charge.wasted);
        model.at_risk.add(charge.at_risk);
        model.unpriced |= !charge.priced && charge.total().is_none();
    }

    pub(super) fn spent(&mut self, model: &str, usage: Usage, paid: Option<Nanos>, at_risk: Option<Nanos>) {
        // The model of a lost request may be unknown.
        if model.is_empty() {
            return;
        }
        let model = self.0.entry(Arc::from(model)).or_default();
        model.usage += usage;
        model.paid.add(paid);
        model.list.add(paid);
        model.at_risk.add(at_risk);
        model.unpriced |= paid.is_none();
    }

    /// All models, the most expensive first.
    pub(super) fn details(&self) -> Vec<ModelDetail> {
        let mut models: Vec<ModelDetail> = self.0.iter().map(|(name, model)| model.detail(name)).collect();
        // The sort is stable: equal models stay in the order of their names.
        models.sort_by_key(|model| Reverse((model.usd, model.answered + model.failed)));
        models
    }
}

impl ModelFold {
    fn detail(&self, name: &str) -> ModelDetail {
        // Without a price no amount is known. With a price, an answer without usage leaves the rest known.
        let known = |sum: Sum| if self.unpriced { sum.whole() } else { sum.known_part() };
        let (list_usd, usd) = (known(self.list), known(self.paid));
        ModelDetail {
            model: name.to_owned(),
            answered: self.answered,
            failed: self.failed,
            truncated: self.truncated,
            prompt_tokens: self.usage.prompt,
            completion_tokens: self.usage.completion,
            list_usd,
            usd,
            saved_usd: list_usd.zip(usd).map(|(list, paid)| list - paid),
            at_risk_usd: self.at_risk.whole(),
        }
    }
}
