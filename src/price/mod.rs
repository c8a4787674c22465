//! Prices of models, and money in integer nano-USD.
//!
//! An unknown price is `None`. Nothing here turns it into 0.

mod batch_fact;
mod book;
mod money;
mod near;
mod overrides;
mod refreshed;
mod spelling;
mod table;

pub use batch_fact::{BatchFact, BatchFinding};
pub use book::PriceBook;
pub use money::{Decimal, Nanos, Price};
pub use overrides::Overrides;
pub use refreshed::{ListedPrice, Refreshed};
pub use spelling::{ShownAmount, Spelling};
pub use table::{BatchTerms, Discount, PriceEntry, PriceTable};
