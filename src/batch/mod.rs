//! The batch transport: what is done with the service about one job's batches, and how results find their rows.
//!
//! Nothing here knows of inputs, results files or people: whoever calls plans the batches, is told what happens, and takes
//! outcomes over.

pub mod driver;
pub mod join;
pub(crate) mod line;
pub(crate) mod lines;
pub mod poll;
pub mod reconcile;
mod words;
