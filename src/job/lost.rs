//! The requests that a killed run had in flight: named, and counted as money at risk.

use super::resume::JobRows;
use crate::context::Ctx;
use crate::error::Result;
use crate::money::{bounds, dearest_bound};
use crate::price::PriceBook;
use crate::row_set::RowSet;
use crate::store::JobDb;
use crate::text;

/// Finds the rows that a killed run had in flight, in the input as it is now.
#[derive(Clone, Copy)]
pub(super) struct LostRows<'a> {
    /// The rows of the input.
    pub rows: JobRows<'a>,
    /// Rows that batches will answer. They were not in flight.
    pub awaited: &'a RowSet,
    /// The input has the requests of the killed run.
    pub same_input: bool,
}

impl LostRows<'_> {
    /// Warns of the rows in flight, records their possible cost, and drops their claim. Of another input than theirs,
    /// neither ids nor bounds are known. Each of its requests then counts as much as the dearest of the job so far.
    ///
    /// # Errors
    /// 66 if the input is gone.
    pub fn account(self, db: &mut JobDb, ctx: &Ctx) -> Result<()> {
        let mut lost = db.unanswered(usize::MAX)?;
        lost.retain(|row| !self.awaited.contains(*row));
        if lost.is_empty() {
            return db.retire_lost(&[]);
        }
        let JobRows { inputs, builder } = self.rows;
        let table = &ctx.settings.prices;
        let own = if self.same_input { bounds(&lost, inputs, builder, table, &db.tried_bounds()?)? } else { None };
        let count = text::plural(lost.len() as u64, "row");
        if let Some(own) = own {
            ctx.ui.warn(&format!(
                "the last run was cut short: {count} may have been sent without an answer, and may be billed twice: {}",
                self.rows.names(&lost)?
            ));
            return db.retire_lost(&own);
        }
        ctx.ui.warn(&format!(
            "the last run was cut short: {count} of the earlier input may have been sent without an answer, and may be billed"
        ));
        let mut prices = PriceBook::new(table.clone());
        prices.keep(db.kept_prices());
        // A request without a model has no price: its cost is unknown.
        let dearest = dearest_bound(db, prices.of(db.prices_in_force()))?.unwrap_or_default();
        db.retire_lost(&vec![dearest; lost.len()])
    }
}
