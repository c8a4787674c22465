//! The batch transport: drives one job's batches at the service, and joins results with their rows.
//!
//! This room does not know inputs, results files or the user. The caller plans the batches, receives events, and stores
//! the outcomes.

pub mod driver;
pub mod join;
pub(crate) mod line;
pub(crate) mod lines;
pub mod poll;
mod reconcile;
mod refusal_words;
mod words;
