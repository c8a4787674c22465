//! Requests that the service may still bill: rows in open batches, and rows in flight when a process died.

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
        if db.claimed()? == 0 {
            return Ok(all);
        }
        let mut lost = db.unanswered(usize::MAX)?;
        let mut awaited = RowSet::new(total);
        db.each_awaited(|row| _ = awaited.insert(row))?;
        lost.retain(|row| *row <= total && !awaited.contains(*row));
        let transport = Transport::Realtime;
        match input().and_then(|(inputs, builder)| bounds(&lost, &inputs, &builder, prices.table())) {
            Ok(bounds) => all.extend(bounds.into_iter().map(|(model, reserve)| {
                let upper_bound = prices.of(db.prices_in_force()).upper_bound(&model, transport, reserve, 1);
                Self { model, rows: 1, upper_bound, transport }
            })),
            // The input is gone, and with it the bounds.
            Err(_) if !lost.is_empty() => {
                let rows = u32::try_from(lost.len()).unwrap_or(u32::MAX);
                all.push(Self { model: "".into(), rows, upper_bound: None, transport });
            }
            Err(_) => {}
        }
        Ok(all)
    }
}

/// The model and the upper bound of the request of each of these rows, which are in ascending order.
///
/// # Errors
/// 66 if the input is gone.
pub fn bounds(
    rows: &[u64],
    inputs: &Inputs,
    builder: &RequestBuilder,
    table: &PriceTable,
) -> Result<Vec<(Arc<str>, Usage)>> {
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
            let Ok(request) = builder.request(&record) else { return };
            let reserve = request.reserve(table.image_tokens(&request.model));
            bounds.push((request.model, reserve));
        });
    }
    Ok(bounds)
}
