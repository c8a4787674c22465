//! The cost of rows with one transport: about, and at most.

use super::calibrate::Factors;
use super::estimate::{Estimate, ModelEstimate};
use super::range::CostRange;
use crate::outcome::{Transport, Usage};
use crate::price::{Nanos, Price, PriceEntry, PriceTable, Spelling};
use crate::text;
use crate::tokens::Estimator;

/// The way in which prompt tokens are counted.
#[derive(Debug)]
pub struct Counting<'a> {
    /// Estimates the tokens of a request.
    pub estimator: &'a Estimator,
    /// Corrects the sums of a model.
    pub factors: Factors,
}

impl Counting<'static> {
    /// Counts with the built-in vocabulary, corrected by these factors.
    pub fn usual(factors: Factors) -> Self {
        Self { estimator: Estimator::shared(), factors }
    }
}

/// The cost of one model's rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModelCost {
    /// The estimate, from the prompts alone to every answer as long as it may be.
    pub range: CostRange,
    /// The amount that a budget reserves: prompts by their bytes, answers as long as they may be. `None`: not known.
    pub upper_bound: Option<Nanos>,
}

impl ModelCost {
    /// Prices the rows of a model. `text_tokens`: the estimate of their text.
    pub fn of(model: &ModelEstimate, text_tokens: u64, entry: Option<&PriceEntry>, price: Option<Price>) -> Self {
        let prompts = [text_tokens, text_tokens.saturating_add(model.image_bound)];
        let longest = model.completion_max(entry.map(PriceEntry::longest_answer));
        let upper_bound = price.zip(longest).filter(|_| !model.open_part);
        Self {
            range: CostRange::of(price, prompts, model.completion_max(answer_limit(entry))),
            upper_bound: upper_bound.map(|(price, completion)| price.cost(Usage::new(model.bound, completion))),
        }
    }
}

/// The known limit of a model's answers.
pub(super) fn answer_limit(entry: Option<&PriceEntry>) -> Option<u64> {
    entry.and_then(|entry| entry.max_output.or(entry.context))
}

/// The prices, and the way in which prompt tokens are counted.
#[derive(Debug, Clone, Copy)]
pub struct PriceBasis<'a> {
    /// The prices.
    pub table: &'a PriceTable,
    /// The way of counting.
    pub counting: &'a Counting<'a>,
}

/// The cost of rows of any models with one transport.
#[derive(Debug, Clone)]
pub struct Quote {
    /// The estimate of the rows with a known price, from the prompts alone.
    pub min: Nanos,
    /// The same with every answer as long as it may be. `None`: no limit of the answers is known.
    pub max: Option<Nanos>,
    /// The amount that a budget reserves. `None`: not known.
    pub upper_bound: Option<Nanos>,
    /// Models without a known price.
    pub unpriced: Vec<String>,
    /// The first model whose rows have no known maximum cost.
    pub unbounded: Option<String>,
    /// Rows set no bound on their answers.
    long_answers: bool,
    /// There are rows with a known price.
    priced: bool,
}

impl Default for Quote {
    fn default() -> Self {
        let none = Some(Nanos::ZERO);
        Self {
            min: Nanos::ZERO,
            max: none,
            upper_bound: none,
            unpriced: Vec::new(),
            unbounded: None,
            long_answers: false,
            priced: false,
        }
    }
}

impl Quote {
    /// Prices the rows of an estimate.
    pub fn of(estimate: Estimate, pricing: PriceBasis<'_>, transport: Transport) -> Self {
        let mut sum = Self::default();
        for (name, model) in estimate.models() {
            let entry = pricing.table.get(&name);
            let price = entry.and_then(|entry| match transport {
                Transport::Realtime => entry.price,
                // The service may run a batch of a model that it is said to refuse.
                Transport::Batch => entry.batch_price().or(entry.price),
            });
            let text_tokens = pricing.counting.factors.apply(&name, model.prompt_tokens());
            sum.add(&name, ModelCost::of(&model, text_tokens, entry, price));
            sum.long_answers |= model.unbounded > 0;
        }
        sum
    }

    fn add(&mut self, name: &str, cost: ModelCost) {
        if cost.upper_bound.is_none() && self.unbounded.is_none() {
            self.unbounded = Some(name.to_owned());
        }
        self.upper_bound = self.upper_bound.zip(cost.upper_bound).map(|(sum, upper_bound)| sum + upper_bound);
        let Some(min) = cost.range.min else {
            self.unpriced.push(name.to_owned());
            return;
        };
        self.priced = true;
        self.min += min;
        self.max = self.max.zip(cost.range.max).map(|(sum, max)| sum + max);
    }

    /// The quote of these rows and of others.
    pub fn and(mut self, others: Self) -> Self {
        self.min += others.min;
        self.max = self.max.zip(others.max).map(|(one, other)| one + other);
        self.upper_bound = self.upper_bound.zip(others.upper_bound).map(|(one, other)| one + other);
        self.unpriced.extend(others.unpriced);
        self.unbounded = self.unbounded.or(others.unbounded);
        self.long_answers |= others.long_answers;
        self.priced |= others.priced;
        self
    }

    /// The estimate as one figure. `None`: a price is unknown.
    pub fn estimate(&self) -> Option<Nanos> {
        self.unpriced.is_empty().then(|| self.max.unwrap_or(self.min))
    }

    /// The estimate in a sentence: `about $0.12`, or the range that `check` shows if answers have no bound of their own.
    pub fn shown(&self) -> String {
        match self.max {
            _ if !self.priced && !self.unpriced.is_empty() => "an unknown amount".to_owned(),
            Some(max) if !self.long_answers => format!("about {}", max.human()),
            max => CostRange { min: Some(self.min), max }.shown(Spelling::of([self.min].into_iter().chain(max))),
        }
    }

    /// The cost in the opening line of a job: the estimate, and what it assumes.
    pub fn opening(&self) -> String {
        if !self.priced && !self.unpriced.is_empty() {
            return format!("at an unknown price ({})", self.unpriced.join(", "));
        }
        let shown = self.shown() + &self.left_out();
        match (self.unpriced.is_empty(), self.long_answers) {
            (false, _) => shown,
            (true, false) => shown + " (prompts estimated, answers up to their max_tokens)",
            (true, true) => shown + " (prompts estimated, answers up to the model's limit; --max-tokens N narrows it)",
        }
    }

    /// The models without a known price, in a sentence; empty if there are none.
    pub fn left_out(&self) -> String {
        if self.unpriced.is_empty() {
            return String::new();
        }
        let models = text::plural(self.unpriced.len() as u64, "model");
        format!(" and the rows of {models} without a known price ({})", self.unpriced.join(", "))
    }
}
