//! What a job teaches about token estimates: some of its answered rows, estimated and compared with what was reported.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Result;
use crate::input::Inputs;
use crate::request::{Endpoint, RequestBuilder};
use crate::store::{JobDb, Ledger, ModelEstimates};
use crate::tokens::Estimator;

/// Rows that are looked at: enough to know, few enough not to be noticed (2048 took 0.03 s at the end of every run).
const ROWS: u64 = 512;

/// An input so short is read to its end, so that rows from all of it are compared: files are often sorted.
const SHORT: u64 = 16 << 20;

/// Compares some rows of a job, from all of it unless it is long; what they teach goes into the ledger. How far off the estimates were, as a share of
/// what was reported; `None` if nothing was answered.
///
/// # Errors
/// 66 if the input cannot be read any more, 74 if the store cannot.
pub fn learn(
    (job, service): (&str, &str),
    inputs: &Inputs,
    shape: &RequestBuilder,
    db: &JobDb,
    ledger: &Ledger,
) -> Result<Option<f64>> {
    let short = inputs.total_bytes().is_some_and(|bytes| bytes <= SHORT);
    let every = if short { db.counts()?.0.div_ceil(ROWS).max(1) } else { 1 };
    let reported = db.prompt_tokens(ROWS, every)?;
    let Some((last, _)) = reported.last() else { return Ok(None) };
    let estimator = Estimator::shared();
    let mut sums: HashMap<Arc<str>, ModelEstimates> = HashMap::new();
    let mut blocks = inputs.blocks()?;
    while let Some(block) = blocks.next()? {
        if block.first_row() > *last {
            break;
        }
        block.for_each(|record| {
            let Ok(record) = record else { return };
            let Ok(at) = reported.binary_search_by_key(&record.row, |(row, _)| *row) else { return };
            let Ok(draft) = shape.draft(&record) else { return };
            let actual = reported[at].1;
            let estimated = estimator.request(&draft.body, draft.endpoint == Endpoint::Chat);
            if estimated == 0 || actual == 0 {
                return;
            }
            let model = shape.shared(&draft.model);
            let sum = sums.entry(Arc::clone(&model)).or_insert_with(|| ModelEstimates {
                model: model.to_string(),
                rows: 0,
                estimated: 0,
                actual: 0,
            });
            sum.rows += 1;
            sum.estimated += estimated;
            sum.actual += actual;
        });
    }
    let learned: Vec<ModelEstimates> = sums.into_values().collect();
    let (estimated, actual) = learned.iter().fold((0, 0), |(e, a), sum| (e + sum.estimated, a + sum.actual));
    let off = (actual > 0).then(|| estimated as f64 / actual as f64 - 1.0);
    // The built-in server counts in a way of its own: a rehearsal teaches nothing.
    if service != "sandbox" {
        ledger.learn_estimates(job, &learned)?;
    }
    Ok(off)
}

/// What to multiply estimates of a model by, as far as earlier jobs tell.
#[derive(Debug, Default)]
pub struct Factors(HashMap<String, f64>);

impl Factors {
    /// Answered rows of a model before it is corrected: fewer could all be of one unusual kind.
    const ENOUGH: u64 = 200;

    /// From the ledger.
    pub fn of(ledger: &Ledger) -> Result<Self> {
        let known = ledger.estimates()?.into_iter().filter(|e| e.rows >= Self::ENOUGH && e.estimated > 0);
        Ok(Self(known.map(|e| (e.model, e.actual as f64 / e.estimated as f64)).collect()))
    }

    /// An estimate, corrected.
    pub fn apply(&self, model: &str, tokens: u64) -> u64 {
        self.0.get(model).map_or(tokens, |factor| (tokens as f64 * factor).round() as u64)
    }
}
