//! Money: the cost of outcomes, and budgets that all processes of the state directory share.

pub mod accounts;
pub mod budget;
mod charge;
pub mod exposure;
mod outstanding;
pub mod reservation;

pub use accounts::Accounts;
pub use charge::{RetiredCost, charge};
pub use outstanding::{Outstanding, bounds, dearest_bound};
