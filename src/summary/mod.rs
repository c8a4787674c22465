//! The summary of a job: rows, tokens, money, time and errors, folded from its outcomes.

mod charge;
mod document;
mod histogram;
mod part_figures;
mod sheet;
mod text;
mod totals;

pub use charge::{CacheCharge, Charge, Sum};
pub use document::{ErrorLine, ExitLine, HttpCounts, JobTime, Meta, Summary};
pub use histogram::{Bin, Histogram};
pub use part_figures::{PartFigures, PartRows};
pub use sheet::Sheet;
pub use totals::{DiscardedSpend, Totals};

#[cfg(test)]
mod tests;
