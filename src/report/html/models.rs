//! The models of a report, with a bar for the money that each cost.

use serde::Serialize;

use super::numbers::hundredths;
use crate::price::{Nanos, ShownAmount, Spelling};
use crate::report::details::{ModelDetail, ReportDocument};
use crate::text::{count, plural};

/// The most models in the list. Further ones are counted.
const MODELS: usize = 40;

#[derive(Debug, Serialize)]
pub(super) struct ModelsCard<'a> {
    rows: Vec<ModelBar<'a>>,
    /// Models that the list leaves out.
    more: usize,
    /// A model was cheaper than its list price, so the bars need a legend.
    saved: bool,
}

/// A model, with a bar as long as its share of the most expensive one.
#[derive(Debug, Serialize)]
struct ModelBar<'a> {
    model: &'a str,
    cost: String,
    paid_percent: f64,
    list_percent: f64,
    notes: String,
}

impl<'a> ModelsCard<'a> {
    pub(super) fn of(report: &'a ReportDocument) -> Option<Self> {
        let models = &report.details.models;
        if models.is_empty() {
            return None;
        }
        let spelling = report.summary.spelling();
        let most = models.iter().map(|model| dollars(model.list_usd.max(model.usd))).fold(1.0, f64::max);
        let percent = |usd: Option<Nanos>| hundredths(dollars(usd) / most * 100.0);
        let bar = |(model, (list, paid)): (&'a ModelDetail, (Option<ShownAmount>, Option<ShownAmount>))| ModelBar {
            model: &model.model,
            cost: paid.map_or_else(|| "unknown".to_owned(), |paid| spelling.show_as(paid.exact, paid.rounded)),
            paid_percent: percent(model.usd),
            list_percent: percent(model.list_usd),
            notes: notes(model, spelling, list, paid),
        };
        Some(Self {
            rows: models.iter().zip(report.details.amounts(spelling)).take(MODELS).map(bar).collect(),
            more: models.len().saturating_sub(MODELS),
            saved: models.iter().any(|model| model.saved_usd.is_some_and(|saved| saved.0 > 0)),
        })
    }
}

fn dollars(usd: Option<Nanos>) -> f64 {
    usd.map_or(0.0, |usd| usd.0.max(0) as f64)
}

fn notes(model: &ModelDetail, spelling: Spelling, list: Option<ShownAmount>, paid: Option<ShownAmount>) -> String {
    let mut notes = vec![plural(model.answered + model.failed, "row")];
    if model.failed > 0 {
        notes.push(format!("{} failed", count(model.failed)));
    }
    if model.truncated > 0 {
        notes.push(format!("{} cut off", count(model.truncated)));
    }
    notes.push(format!("{} + {} tokens", count(model.prompt_tokens), count(model.completion_tokens)));
    if let (Some(_), Some(list), Some(paid)) = (model.saved_usd.filter(|saved| saved.0 > 0), list, paid) {
        notes.push(format!("list {}, saved {}", spelling.show_as(list.exact, list.rounded), spelling.less(list, paid)));
    }
    match model.at_risk_usd {
        Some(at_risk) if at_risk.0 > 0 => notes.push(format!("up to {} at risk", spelling.show(at_risk))),
        Some(_) => {}
        None => notes.push("an unknown amount at risk".to_owned()),
    }
    if model.usd.is_none() {
        notes.push("price unknown".to_owned());
    }
    notes.join(" · ")
}
