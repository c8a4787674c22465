//! Requests that the service may still bill: rows in open batches, and rows in flight when a process died.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Result;
use crate::input::Inputs;
use crate::outcome::{Transport, Usage};
use crate::price::{Nanos, PriceBook, PriceTable};
use crate::request::RequestBuilder;
use crate::row_set::RowSet;
use crate::store::JobDb;

/// Requests of one model that have no outcome yet, and that the service may bill.
#[derive(Debug)]
pub struct Outstanding {
    /// The requested model; empty if unknown.
    pub model: Arc<str>,
    /// Number of rows.
    pub rows: u32,
    /// The most that they can cost; `None`: unknown.
    pub upper_bound: Option<Nanos>,
    /// The transport that carries them.
    pub transport: Transport,
}

impl Outstanding {
    /// All outstanding requests of a job of `total` rows. `input` opens the input, where their bounds are read again.
    pub fn of_job(
        db: &JobDb,
        total: u64,
        prices: &mut PriceBook,
        input: impl FnOnce() -> Result<(Inputs, RequestBuilder)>,
    ) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = db
            .batches()?
            .into_iter()
            .filter(|batch| batch.is_open() && !batch.is_unsent())
            .map(|batch| Self {
                model: batch.model.as_str().into(),
                rows: u32::try_from(batch.rows).unwrap_or(u32::MAX),
                upper_bound: batch.cost.upper_bound,
                transport: Transport::Batch,
            })
            .collect();
        if !db.has_claim()? {
            return Ok(all);
        }
        let mut lost = db.unanswered(usize::MAX)?;
        let mut awaited = RowSet::new(total);
        db.each_awaited(|row| _ = awaited.insert(row))?;
        lost.retain(|row| !awaited.contains(*row));
        if lost.is_empty() {
            return Ok(all);
        }
        let transport = Transport::Realtime;
        let rows = u32::try_from(lost.len()).unwrap_or(u32::MAX);
        let tried = db.tried_bounds()?;
        let bounds = input().and_then(|(inputs, builder)| bounds(&lost, &inputs, &builder, prices.table(), &tried));
        let prices = prices.of(db.prices_in_force());
        match bounds {
            Ok(Some(bounds)) => all.extend(bounds.into_iter().map(|(model, reserve)| {
                let upper_bound = prices.upper_bound(&model, transport, reserve, 1);
                Self { model, rows: 1, upper_bound, transport }
            })),
            Ok(None) => {
                let (model, bound) = dearest_bound(db, prices)?.unwrap_or_default();
                let upper_bound = prices.upper_bound(&model, transport, bound, rows);
                all.push(Self { model, rows, upper_bound, transport });
            }
            // The input is gone, and with it the bounds.
            Err(_) => all.push(Self { model: "".into(), rows, upper_bound: None, transport }),
        }
        Ok(all)
    }
}

/// The model of a request, and the most tokens that it may cost.
type RequestBound = (Arc<str>, Usage);

/// The model and the upper bound of the dearest realtime request in the job so far. It stands for requests that the input
/// no longer has. `None`: there was no request.
pub fn dearest_bound(db: &JobDb, prices: &mut PriceBook) -> Result<Option<RequestBound>> {
    let all = db.largest()?.into_iter().map(|(model, bound)| (Arc::<str>::from(model), bound));
    Ok(all.max_by_key(|(model, bound)| {
        let cost = prices.upper_bound(model, Transport::Realtime, *bound, 1);
        // An unknown price may be the highest.
        (cost.is_none(), cost)
    }))
}

/// The model and the upper bound of the request of each of these rows, which are in ascending order. `None`: the input
/// ends before the last of them, so it is not the one that they were sent from. `tried`: bounds of rows that were sent before;
/// the last request of a row may have had a larger one than its first.
///
/// # Errors
/// 66 if the input is gone.
pub fn bounds(
    rows: &[u64],
    inputs: &Inputs,
    builder: &RequestBuilder,
    table: &PriceTable,
    tried: &HashMap<u64, Usage>,
) -> Result<Option<Vec<RequestBound>>> {
    let mut bounds = Vec::with_capacity(rows.len());
    let Some(last) = rows.last() else { return Ok(Some(bounds)) };
    let mut blocks = inputs.blocks()?;
    let mut seen = 0;
    while seen < *last
        && let Some(block) = blocks.next()?
    {
        block.for_each(|record| {
            let Ok(record) = record else { return };
            if rows.binary_search(&record.row).is_err() {
                return;
            }
            let request = builder.request(&record).ok().or_else(|| builder.presumed(&record));
            let Some(request) = request else { return };
            let mut reserve = request.reserve(table.image_tokens(&request.model));
            if let Some(last) = tried.get(&record.row).filter(|_| reserve.completion > 0) {
                reserve.completion = reserve.completion.max(last.completion);
            }
            bounds.push((request.model, reserve));
        });
        seen = block.first_row() + block.rows() - 1;
    }
    Ok((seen >= *last).then_some(bounds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{ErrorCode, Outcome};
    use crate::price::Overrides;
    use crate::store::Job;

    /// The price of a token is 1 or 9 nano-USD.
    fn book() -> PriceBook {
        let prices: Overrides =
            toml::from_str("[cheap]\ninput = 0.001\noutput = 0.001\n[dear]\ninput = 0.009\noutput = 0.009").unwrap();
        PriceBook::new(PriceTable::builtin().with(&prices).unwrap())
    }

    fn outcome(row: u64, model: &str, reserve: Usage) -> Outcome {
        Outcome { attempts: 1, reserve, ..Outcome::unsent(row, "".into(), model.into(), ErrorCode::Timeout, "late") }
    }

    #[test]
    fn a_grown_request_that_was_in_flight_counts_with_its_larger_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.jsonl");
        let row = r#"{"prompt": "a", "model": "dear", "max_tokens": 10}"#;
        std::fs::write(&path, format!("{row}\n{row}\n")).unwrap();
        let inputs = || Inputs::resolve(std::slice::from_ref(&path), None).unwrap();
        let builder = || RequestBuilder::new(&crate::request::Params::default()).unwrap();
        let job = Job::new(Transport::Realtime, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
        let mut db = JobDb::create(&dir.path().join("j.db"), &job).unwrap();
        db.claim(2).unwrap();
        let grown = Outcome { wasted: Usage::new(3, 10), ..outcome(2, "dear", Usage::new(20, 40)) };
        db.put_tried(&grown).unwrap();
        db.commit(false).unwrap();
        let outstanding = Outstanding::of_job(&db, 2, &mut book(), || Ok((inputs(), builder()))).unwrap();
        let bounds: Vec<i128> = outstanding.iter().map(|open| open.upper_bound.unwrap().0).collect();
        // 30 tokens at 9 nano-USD.
        assert_eq!(bounds[1] - bounds[0], 270, "{bounds:?}");
    }

    #[test]
    fn dearest_request_may_have_any_fate() {
        let dir = tempfile::tempdir().unwrap();
        let job = Job::new(Transport::Realtime, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
        let mut db = JobDb::create(&dir.path().join("j.db"), &job).unwrap();
        let dearest = |db: &JobDb| {
            dearest_bound(db, &mut book())
                .unwrap()
                .map(|(model, bound)| (model.to_string(), bound.prompt, bound.completion))
        };
        let is = |model: &str, prompt, completion| Some((model.to_owned(), prompt, completion));
        assert_eq!(dearest(&db), None, "the cost of a job without any request is unknown");
        let put = |db: &mut JobDb, outcome: &Outcome| {
            db.put_joined([(outcome, None)]).unwrap();
            db.commit(false).unwrap();
        };
        put(&mut db, &outcome(1, "cheap", Usage::new(10, 80)));
        put(&mut db, &outcome(2, "cheap", Usage::new(20, 70)));
        put(&mut db, &Outcome { attempts: 0, ..outcome(3, "dear", Usage::new(500, 500)) });
        put(&mut db, &Outcome { batch: Some(1), ..outcome(4, "dear", Usage::new(500, 500)) });
        assert_eq!(dearest(&db), is("cheap", 20, 80), "requests in real time that were sent");
        db.set_aside(|_| true).unwrap();
        assert_eq!(dearest(&db), is("cheap", 20, 80), "a retry of all rows changes nothing");
        db.put_tried(&outcome(5, "dear", Usage::new(5, 15))).unwrap();
        db.commit(false).unwrap();
        assert_eq!(dearest(&db), is("dear", 5, 15), "180 nano-USD are more than 100");
        db.retire_lost(&[("dear".into(), Usage::new(5, 16))]).unwrap();
        assert_eq!(dearest(&db), is("dear", 5, 16), "requests of an earlier kill");
        put(&mut db, &outcome(6, "cheap", Usage::new(1, 0)));
        assert_eq!(dearest(&db), is("cheap", 20, 0), "an answer without a bound may be the longest");
        put(&mut db, &outcome(7, "of/unknown-price", Usage::new(1, 1)));
        assert_eq!(dearest(&db), is("of/unknown-price", 1, 1), "an unknown price may be the highest");
    }
}
