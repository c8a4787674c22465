//! The repeated requests of a run's input, and the words about them.

use super::finish::Workspace;
use super::resume::JobRows;
use crate::check::calibrate::Factors;
use crate::check::estimate::RowInspector;
use crate::check::quote::{Counting, PriceBasis, Quote};
use crate::check::repeats::{RepeatSearch, Repeats};
use crate::check::{Checked, Pass};
use crate::error::Result;
use crate::outcome::Transport;
use crate::request::KeyMaker;
use crate::text;

/// The repeated requests of a run's input.
#[derive(Debug)]
pub struct FoundRepeats {
    pub repeats: Repeats,
    /// The cost that they would have. `None`: it is not known.
    saved: Option<Quote>,
}

impl FoundRepeats {
    /// Finds them among the `checked` rows, and warns if they may be meant as samples.
    ///
    /// # Errors
    /// An input that cannot be read, or a file that cannot be written.
    pub fn of(rows: JobRows<'_>, checked: &Checked, keys: &KeyMaker, workspace: Workspace<'_>) -> Result<Self> {
        let Workspace { ctx, store, .. } = workspace;
        let table = &ctx.settings.prices;
        if checked.alike.is_empty() {
            return Ok(Self { repeats: Repeats::default(), saved: None });
        }
        let counting = Counting::usual(Factors::default());
        let inspector = RowInspector::new(rows.inputs.total_bytes().unwrap_or(0), counting.estimator, table);
        let pass = Pass::new(rows.inputs, rows.builder);
        let dir = Some(store.dir());
        let search = RepeatSearch { pass: &pass, checked, keys, inspector: &inspector, dir };
        let repeats = search.run(&mut |_| Ok(()))?;
        if let Some(doubt) = repeats.doubt() {
            ctx.ui.warn(&doubt);
        }
        Ok(Self::priced(repeats, PriceBasis { table, counting: &counting }, Transport::Realtime))
    }

    /// Prices the requests that are not sent.
    pub fn priced(mut repeats: Repeats, basis: PriceBasis<'_>, transport: Transport) -> Self {
        let quote = Quote::of(std::mem::take(&mut repeats.saved), basis, transport);
        Self { repeats, saved: Some(quote).filter(|quote| quote.estimate().is_some()) }
    }

    /// The part of the opening line about them.
    pub fn words(&self) -> String {
        let count = self.repeats.count();
        let saved = self.saved.as_ref().map(|quote| format!(", which saves {}", quote.shown())).unwrap_or_default();
        match count {
            0 => ", no request repeated".to_owned(),
            _ => format!(
                ", {} of them {} an earlier one and {} not sent{saved}",
                text::count(count),
                text::agree(count, "repeats", "repeat"),
                text::agree(count, "is", "are")
            ),
        }
    }
}
