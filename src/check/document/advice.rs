//! Conclusions from a forecast, in sentences.

use super::super::quote::{PriceBasis, Quote};
use super::super::repeats::Repeats;
use super::CheckedModel;
use crate::outcome::Transport;
use crate::price::{BatchTerms, Nanos, PriceTable, Spelling};
use crate::request::Endpoint;
use crate::text;

/// Names of models in a sentence; more are only counted.
const NAMED: usize = 4;

/// Draws all conclusions.
pub(super) fn advice(models: &[CheckedModel], table: &PriceTable, endpoint: Endpoint) -> Vec<String> {
    let near_limit = models.iter().filter(|model| model.near_context > 0).map(|model| {
        let rows = format!("{} of {}", text::plural(model.near_context, "row"), model.model);
        let context =
            table.get(&model.model).and_then(|entry| entry.context).filter(|_| endpoint == Endpoint::Embeddings);
        context.map_or_else(
            || format!("{rows}: near the model's context limit, so the service may refuse them (context_length)"),
            |context| {
                let context = text::count(context);
                format!("{rows}: may be longer than {context} tokens, and the model embeds only the first {context}")
            },
        )
    });
    // Only a choice between the transports is worth a word on them.
    let batches = endpoint.in_batches();
    let both = |advice: fn(&[CheckedModel]) -> Option<String>| advice(models).filter(|_| batches);
    let only = (!batches).then(|| format!("batches do not serve {endpoint}: `llbatch run --endpoint {endpoint}`"));
    let bound = unbounded(models).filter(|_| endpoint.has_max_tokens());
    let others = [only, both(refused), both(undiscounted), unpriced(models, table), bound];
    both(saving).into_iter().chain(near_limit).chain(others.into_iter().flatten()).collect()
}

/// Says how many of `rows` rows repeat, what `--dedupe` saves or would save, and whether they may be samples.
pub(super) fn repeat_advice(mut repeats: Repeats, rows: u64, basis: PriceBasis<'_>, dedupe: bool) -> Vec<String> {
    if repeats.count() == 0 {
        return Vec::new();
    }
    let quote = Quote::of(std::mem::take(&mut repeats.saved), basis, Transport::Realtime);
    let rest = if dedupe { "; the costs above are those of the others" } else { "" };
    let saving = format!(
        "{} of {} {} an earlier request: --dedupe sends each once and saves {} in real time{rest}",
        text::count(repeats.count()),
        text::plural(rows, "row"),
        text::agree(repeats.count(), "repeats", "repeat"),
        quote.shown()
    );
    std::iter::once(saving).chain(repeats.doubt()).collect()
}

/// Finds the one spelling of all amounts.
pub(super) fn spelling(models: &[CheckedModel]) -> Spelling {
    let ranges = models.iter().flat_map(|model| [model.realtime, model.in_batch]);
    Spelling::of(ranges.flat_map(|range| [range.min, range.max]).flatten())
}

fn saving(models: &[CheckedModel]) -> Option<String> {
    let (mut saved, mut whole) = (Nanos::ZERO, Nanos::ZERO);
    for model in models {
        if let Some(realtime) = model.realtime.max.or(model.realtime.min) {
            whole += realtime;
            let in_batch = model.in_batch.max.or(model.in_batch.min);
            saved += in_batch.map_or(Nanos::ZERO, |batch| realtime - batch);
        }
    }
    let spelling = spelling(models);
    (saved > Nanos::ZERO).then(|| format!("batches save up to {} of {}", spelling.show(saved), spelling.show(whole)))
}

fn refused(models: &[CheckedModel]) -> Option<String> {
    let refused = select(models, |model| model.batch == BatchTerms::Refused)?;
    let count = refused.len() as u64;
    let are = format!("{} {}", text::plural(count, "model"), text::agree(count, "is", "are"));
    Some(format!("{are} not served in batches, so use `llbatch run`: {}", names(&refused)))
}

fn undiscounted(models: &[CheckedModel]) -> Option<String> {
    let mut full = select(models, |model| matches!(model.batch, BatchTerms::FullPrice | BatchTerms::Unknown))?;
    full.sort_by_key(|model| model.batch == BatchTerms::Unknown);
    let get = if full.len() == 1 { "1 model has" } else { "some models have" };
    Some(format!("{get} no known batch discount, so `llbatch run` may cost the same and is faster: {}", names(&full)))
}

fn unpriced(models: &[CheckedModel], table: &PriceTable) -> Option<String> {
    let unpriced = select(models, |model| model.realtime.min.is_none())?;
    let remedy = unpriced.first().map_or_else(String::new, |model| table.remedy(&model.model));
    Some(format!("the price of {} is unknown: {remedy}", names(&unpriced)))
}

fn unbounded(models: &[CheckedModel]) -> Option<String> {
    let rows: u64 = models.iter().map(|model| model.unbounded).sum();
    (rows > 0).then(|| {
        format!(
            "{} without max_tokens: llbatch counts their answers at the model's limit; --max-tokens N bounds their \
             cost",
            text::plural(rows, "row")
        )
    })
}

/// Selects models; `None` if there are none.
fn select(models: &[CheckedModel], wanted: fn(&CheckedModel) -> bool) -> Option<Vec<&CheckedModel>> {
    let selected: Vec<&CheckedModel> = models.iter().filter(|model| wanted(model)).collect();
    (!selected.is_empty()).then_some(selected)
}

fn names(models: &[&CheckedModel]) -> String {
    let mut names: Vec<String> = models.iter().take(NAMED).map(|model| model.model.clone()).collect();
    if models.len() > NAMED {
        names.push(format!("and {} more", models.len() - NAMED));
    }
    names.join(", ")
}
