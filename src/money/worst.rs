//! The most that requests can cost.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Result;
use crate::input::Inputs;
use crate::outcome::Usage;
use crate::price::{Nanos, Price, Table};
use crate::request::{RequestBuilder, answer_bound};

/// The most that requests can cost.
#[derive(Debug)]
pub struct Worst {
    table: Table,
    known: HashMap<Arc<str>, Option<(Price, u64)>>,
    batch: bool,
}

impl Worst {
    /// At realtime, or in a `batch`.
    pub fn new(table: Table, batch: bool) -> Self {
        Self { table, known: HashMap::new(), batch }
    }

    /// The most that a request can cost, given the bounds that it sets itself (0: none); `None`: no price is known.
    pub fn of(&mut self, model: &Arc<str>, most: Usage) -> Option<Nanos> {
        let (table, batch) = (&self.table, self.batch);
        let known = *self.known.entry(Arc::clone(model)).or_insert_with(|| {
            let entry = table.get(model)?;
            let price = if batch { entry.batch_price().or(entry.price) } else { entry.price };
            Some((price?, entry.longest_answer()))
        });
        known.map(|(price, longest)| {
            let completion = if most.completion == 0 { longest } else { most.completion };
            price.cost(Usage { completion, ..most })
        })
    }
}

/// The model and the most that one request can use, of each of these rows (ascending).
///
/// # Errors
/// 66 if the input is gone.
pub fn bounds(rows: &[u64], inputs: &Inputs, shape: &RequestBuilder) -> Result<Vec<(Arc<str>, Usage)>> {
    let mut bounds = Vec::with_capacity(rows.len());
    let Some(last) = rows.last() else { return Ok(bounds) };
    let mut blocks = inputs.blocks()?;
    let mut seen = 0;
    while seen < *last
        && let Some(block) = blocks.next()?
    {
        block.for_each(|record| {
            let Ok(record) = record else { return };
            seen = record.row;
            if rows.binary_search(&record.row).is_err() {
                return;
            }
            let Ok(request) = shape.request(&record) else { return };
            let prompt = crate::tokens::bound(&request.body);
            let completion = answer_bound(&request.body, request.max_tokens).unwrap_or(0);
            bounds.push((request.model, Usage { prompt, completion }));
        });
    }
    Ok(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_bound_may_be_as_long_as_the_model_allows() {
        let model: Arc<str> = Arc::from("meta-llama/Llama-3.2-3B-Instruct-Turbo");
        let most =
            |batch, completion| Worst::new(Table::builtin(), batch).of(&model, Usage { prompt: 1000, completion });
        assert_eq!(most(false, 1000), Some(Nanos(120_000)));
        assert_eq!(most(true, 1000), Some(Nanos(60_000)));
        assert!(most(false, 0).unwrap().0 > 1_000_000);
        assert_eq!(Worst::new(Table::builtin(), true).of(&"no/such".into(), Usage::default()), None);
    }
}
