//! The figures of several tasks' summaries, added up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::document::{ModelSummary, TokenCounts};
use super::{HttpCounts, Sum, Summary};
use crate::price::Nanos;

/// The rows of one of several files that make one result.
#[derive(Debug, Clone, Serialize)]
pub struct PartRows {
    /// Its name.
    pub part: String,
    /// Its rows.
    pub rows: u64,
    /// Those that are answered.
    pub succeeded: u64,
    /// Those with an error.
    pub failed: u64,
    /// The line that was cut off at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn_line: Option<u64>,
}

/// The part of a summary's document that can be added up.
#[derive(Debug, Deserialize)]
pub struct PartFigures {
    rows: FiguresRows,
    tokens: TokenCounts,
    cost: FiguresCost,
    models: Vec<FiguresModel>,
    latency_ms: FiguresLatency,
    duration_s: f64,
    http: HttpCounts,
    #[serde(default)]
    transport: Option<String>,
    #[serde(default)]
    started_at: Option<String>,
    #[serde(default)]
    sandbox: bool,
}

#[derive(Debug, Deserialize)]
struct FiguresRows {
    total: u64,
}

#[derive(Debug, Deserialize)]
struct FiguresCost {
    usd: Option<Nanos>,
    realtime_usd: Option<Nanos>,
    estimated: bool,
    #[serde(default)]
    upper_bound: bool,
    #[serde(default)]
    cache_saved_usd: Option<Nanos>,
    unpriced_models: Vec<String>,
    #[serde(default)]
    at_risk_usd: Option<Nanos>,
    #[serde(default)]
    wasted_usd: Option<Nanos>,
    #[serde(default)]
    resumed_usd: Option<Nanos>,
}

#[derive(Debug, Deserialize)]
struct FiguresModel {
    model: String,
    rows: u64,
    tokens: u64,
    usd: Option<Nanos>,
}

#[derive(Debug, Deserialize)]
struct FiguresLatency {
    max: Option<u32>,
}

impl PartFigures {
    /// The rows of all these summaries.
    pub fn rows(parts: &[Self]) -> u64 {
        parts.iter().map(|part| part.rows.total).sum()
    }

    fn sum(parts: &[Self], amount: fn(&FiguresCost) -> Option<Nanos>) -> Sum {
        let mut sum = Sum::default();
        for part in parts {
            sum.add(amount(&part.cost));
        }
        sum
    }
}

impl Summary {
    /// Takes tokens, money and requests from the summaries of the tasks, in place of what the rows say. Tasks run side by side,
    /// so the time is that of the longest.
    pub fn adding_up(&mut self, parts: &[PartFigures]) {
        self.from = Some("summaries");
        let tokens = |count: fn(&TokenCounts) -> u64| parts.iter().map(|part| count(&part.tokens)).sum();
        self.tokens = TokenCounts {
            prompt: tokens(|tokens| tokens.prompt),
            completion: tokens(|tokens| tokens.completion),
            total: tokens(|tokens| tokens.total),
            cached: tokens(|tokens| tokens.cached),
            reasoning: tokens(|tokens| tokens.reasoning),
        };
        let sum = |amount| PartFigures::sum(parts, amount);
        self.cost.usd = sum(|cost| cost.usd).known_part();
        self.cost.realtime_usd = sum(|cost| cost.realtime_usd).known_part();
        self.cost.saved_usd = self.cost.realtime_usd.zip(self.cost.usd).map(|(realtime, usd)| realtime - usd);
        self.cost.cache_saved_usd = sum(|cost| cost.cache_saved_usd).known_part();
        self.cost.at_risk_usd = sum(|cost| cost.at_risk_usd).whole();
        self.cost.wasted_usd = sum(|cost| cost.wasted_usd).known_part();
        self.cost.resumed_usd = sum(|cost| cost.resumed_usd).known_part();
        self.cost.estimated = parts.iter().any(|part| part.cost.estimated);
        self.cost.upper_bound = parts.iter().any(|part| part.cost.upper_bound);
        let mut unpriced: Vec<String> = parts.iter().flat_map(|part| part.cost.unpriced_models.clone()).collect();
        unpriced.sort_unstable();
        unpriced.dedup();
        self.cost.unpriced_models = unpriced;
        self.models = models(parts);
        // Percentiles cannot be added up.
        if self.latency_ms.max.is_none() {
            self.latency_ms.max = parts.iter().filter_map(|part| part.latency_ms.max).max();
        }
        self.duration_s = parts.iter().map(|part| part.duration_s).fold(0.0, f64::max);
        let http = |count: fn(&HttpCounts) -> u64| parts.iter().map(|part| count(&part.http)).sum();
        self.http = HttpCounts {
            sent: http(|http| http.sent),
            retried: http(|http| http.retried),
            rate_limited: http(|http| http.rate_limited),
        };
        let transport = parts.first().and_then(|part| part.transport.clone());
        self.transport = transport.filter(|one| parts.iter().all(|part| part.transport.as_ref() == Some(one)));
        // RFC 3339 in UTC sorts as text.
        self.started_at = parts.iter().filter_map(|part| part.started_at.clone()).min();
        self.sandbox = parts.iter().any(|part| part.sandbox);
        (self.unmetered, self.uncertain, self.cached_at_full) = (0, 0, 0);
    }
}

/// The models of all parts, most rows first.
fn models(parts: &[PartFigures]) -> Vec<ModelSummary> {
    let mut sums: BTreeMap<&str, (u64, u64, Sum)> = BTreeMap::new();
    for model in parts.iter().flat_map(|part| &part.models) {
        let (rows, tokens, usd) = sums.entry(&model.model).or_default();
        *rows += model.rows;
        *tokens += model.tokens;
        usd.add(model.usd);
    }
    let summary = |(model, (rows, tokens, usd)): (&str, (u64, u64, Sum))| ModelSummary {
        model: model.to_owned(),
        rows,
        tokens,
        usd: usd.known_part(),
        via: None,
        why: None,
    };
    let mut models: Vec<ModelSummary> = sums.into_iter().map(summary).collect();
    models.sort_by_key(|model| std::cmp::Reverse(model.rows));
    models
}
