//! Money in integer nano-USD, what a token costs, and how well that is known.
//!
//! A price is known or it is not: nothing here turns an unknown price into 0.

mod batch_fact;
mod money;
mod overrides;
mod refreshed;
mod spelling;
mod table;

pub use batch_fact::{BatchFact, BatchFinding};
pub use money::{Decimal, Nanos, Price};
pub use overrides::Overrides;
pub use refreshed::{Listed, Refreshed};
pub use spelling::Spelling;
pub use table::{Batch, Discount, Entry, Table};
