//! llbatch

pub mod api;
pub mod error;
pub mod outcome;
pub mod price;
pub mod store;
